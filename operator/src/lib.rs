//! The operator: a `BlockchainNetwork` becomes running validators, and stays so.
//!
//! The flow of one visit, which `reconcile` goes through in this order:
//!
//! ```text
//! crd ──► observe ──► validate ──► plan ──► desired ──► apply ──► status ──► (replace one pod)
//!          I/O         pure        pure      pure        I/O       pure, written by reconcile
//! ```
//!
//! Modules in that order; between `observe` and `apply` no module knows a client: same spec and observation, same plan and objects.
//! Beside the flow: `cleanup` (deletion), `events`, and what carries it: `controller`, `run`, `lease`, `admin`, `metrics`, `telemetry`.

pub mod crd;

pub mod apply;
pub mod cleanup;
pub mod desired;
pub mod events;
pub mod observe;
pub mod plan;
pub mod quantity;
pub mod quorum;
pub mod reconcile;
pub mod status;
pub mod validate;

pub mod access;
pub mod admin;
pub mod backoff;
pub mod controller;
pub mod lease;
pub mod metrics;
pub mod run;
pub mod telemetry;
