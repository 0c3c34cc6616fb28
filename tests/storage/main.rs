//! Storage on both databases: each test of `suite` runs on SQLite and on a real Postgres server.

mod fixture; // databases to open, and what is stored in them
mod snapshot; // a fetched state as the base of the ledger
mod suite; // what both must do

mod crash; // SIGKILL of the process that stores
mod figures; // how fast it is; ignored unless asked for
mod server; // what only a server can do: go away, refuse, be another one
mod sqlite; // what only files can do
