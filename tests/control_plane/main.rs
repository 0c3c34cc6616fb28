//! The operator against a real API server, without machines: no kubelet touches these pods, the tests play its part.
//!
//! They take the cluster from KUBECONFIG and need its StatefulSet and garbage-collection controllers; run them with
//! `tests/cluster/run.sh -- cargo test -p aitbc-tests --test control_plane`.
//! Each test has a namespace and an operator of its own. The node's answers come from `fake_node`, on loopback addresses.

// In order: the harness, then what a user meets first.
mod fake_node;
mod kubelet;
mod wait;
mod world;

mod rejects_bad_spec;

mod brings_up;
mod first_start;
mod keys;
mod service_monitor;
mod validator_set;

mod deletes;
mod grows_volumes;
mod leads_alone;
mod prunes;
mod rolls_one_by_one;
mod suspends;
