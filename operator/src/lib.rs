//! The operator: a `BlockchainNetwork` becomes running validators, and stays so.
//!
//! The flow of one visit, which `reconcile` goes through in this order:
//!
//! ```text
//! crd ──► observe ──► validate ──► plan ──► desired ──► apply ──► status ──► (replace one pod)
//!          I/O         pure        pure      pure        I/O       pure, written by reconcile
//! ```
//!
//! Layers, each imports only from those above it (scripts/check-layers.sh); between `observe` and `apply` no module knows a client: same spec and observation, same plan and objects.
//! Beside the flow: `cleanup` (deletion), `events`, and what carries it: `controller`, `run`, `lease`, `admin`, `metrics`, `telemetry`.
//!
//! ```text
//! 1  backoff crd lease quantity quorum
//! 2  names
//! 3  observe
//! 4  validate
//! 5  plan
//! 6  desired events status
//! 7  apply metrics
//! 8  admin cleanup
//! 9  reconcile
//! 10 access
//! 11 controller telemetry
//! 12 run
//! ```

// What a user asks for, and what is true.
pub mod crd;

// What things are called.
pub mod names;

// The flow.
pub mod observe;

pub mod validate;

// Arithmetic of the planner.
pub mod quantity;
pub mod quorum;

pub mod plan;

pub mod desired;

pub mod apply;

pub mod status;

// Beside the flow: deletion, and what people are told.
pub mod cleanup;
pub mod events;

pub mod metrics;

// One visit, all steps in order.
pub mod reconcile;

// What carries it.
pub mod backoff;

pub mod admin;

pub mod access;

pub mod controller;

pub mod lease;

pub mod telemetry;

pub mod run;
