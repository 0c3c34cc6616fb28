//! A test a rule, each named after it: one real core, its peers played by the test.

mod candidates;
mod data;
mod doctor;
mod epochs;
mod evidence;
mod finality;
mod frontier;
mod lead;
mod memory;
mod persistence;
mod rig;
mod validity;
mod vectors;
mod version;
mod votes;
