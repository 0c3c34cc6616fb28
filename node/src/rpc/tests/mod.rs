//! The real listeners over real sockets, before a chain of one validator that makes blocks when a test says so.

mod audit;
mod documented;
mod fixture;
mod fuzz;
mod limits;
mod openapi;
mod proofs;
mod prototype;
mod receipts;
mod requests;
mod transactions;
mod websocket;
