//! Harness of the tests that cross crates: real processes, real databases, real clients.

pub mod wait;

pub mod seed;

pub mod ports;
pub mod postgres;
