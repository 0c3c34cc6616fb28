//! The pure chain.
