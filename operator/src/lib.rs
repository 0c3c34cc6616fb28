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
pub mod observe;
pub mod validate;
pub mod quorum;
pub mod quantity;
pub mod plan;
pub mod desired;
pub mod status;
pub mod events;
