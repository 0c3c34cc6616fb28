//! What tests of several modules stand on.

pub(crate) mod chain;
