//! The core against slow, obvious models written apart from it, on random input.
//!
//! `FUZZ_SEED=n` runs one case, `FUZZ_CASES=n` many; see `seed.rs`. `make fuzz` is the long run.

mod seed; // which cases run, and what is printed when one fails

mod ledger; // random blocks, every result and account compared with `model`
mod mempool; // random use of the pool, compared with a plain list
mod model; // the rules of transactions and the state root, as the documents have them
mod proofs; // accounts, transactions and results for light clients
mod receipts; // receipts and escrows, part of `model`
mod staking; // stakes, votes and sets, as docs/staking.md has them
mod trie; // the state trie against a map; proofs; forks
