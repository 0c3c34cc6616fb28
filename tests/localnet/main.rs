//! Real `aitbc-node` processes on this machine, on SQLite and on a real Postgres.

/// A transfer from the pool to final, as subscribers and all validators see it; metrics and readiness.
mod a_transfer;
/// Databases lost, or put back as old copies.
mod amnesia;
/// Wrong requests get the right status and code, and the node goes on.
mod bad_input;
/// The measuring tool measures.
mod bench;
/// Nodes that were away catch up and sign again.
mod catch_up;
/// Programs of others: a client of the Python prototype, and the documented ones.
mod clients;
/// Wrong settings end the process with one line.
mod configuration;
/// Validators and databases killed, one or all.
mod crashes;
/// The one-command chain.
mod devnet;
/// Why there is no block, and who is waited for.
mod doctor;
/// A validator that signs two things against each other is convicted.
mod double_signing;
/// Two processes with one key.
mod double_start;
/// Cut, frozen, filled up, set wrong: whatever a cluster does to its nodes.
mod faults;
/// Sent to a node of no set, passed on to a validator.
mod forwarding;
/// A receipt mints once however it is sent.
mod receipts;
/// Validators that come, go, weigh more, are jailed and come back.
mod sets;
/// Asked to stop, a node stops.
mod stopping;
/// Old programs stop before an upgrade and say what they need.
mod upgrade;
/// The chain checked again by an independent client, over RPC and from databases.
mod verify;
/// Whoever abuses the gossip port.
mod wire_abuse;
