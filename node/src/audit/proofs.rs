//! What hangs on the headers of an audit: the accounts of a database, the proof of an account, the proof of a transaction.
//! They are read first, and compared once the headers that commit to them are known to be final.

use super::source::{Source, asked};
use super::{AuditError, Plan, Report};
use crate::rpc::proof::{ProvenAccount, ProvenTransaction};
use crate::rpc::transaction::code_name;
use aitbc_core::block::Header;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::light::equal;
use aitbc_core::state::{Account, State};
use serde::Serialize;
use std::collections::BTreeMap;

/// An account whose balance is proven.
#[derive(Clone, Debug, Serialize)]
pub struct ProvenBalance {
    /// Whose.
    pub address: Address,
    /// Height of the block after which this holds.
    pub height: u64,
    /// Smallest units.
    pub balance: u64,
    /// Transactions of it that had an effect.
    pub nonce: u64,
}

/// A transaction whose place is proven, and where a later block is final, its result.
#[derive(Clone, Debug, Serialize)]
pub struct ProvenResult {
    /// Id.
    pub tx_hash: Hash,
    /// Height of its block.
    pub height: u64,
    /// Position in the block.
    pub index: u32,
    /// Stable name of the result; `None` while no later block is final.
    pub code: Option<String>,
}

/// The accounts of a database.
struct Table {
    height: u64,
    state: State,
    /// Their root by own execution, once it got there.
    executed: Option<Hash>,
}

/// What is to be compared.
#[derive(Default)]
pub(super) struct Proofs {
    table: Option<Table>,
    asked: Option<Address>,
    account: Option<ProvenAccount>,
    transaction: Option<(Hash, ProvenTransaction)>,
    /// Headers that commit to one of these, by height, once they passed.
    headers: BTreeMap<u64, Option<Header>>,
    /// Least height the audit must get to.
    highest: u64,
}

impl Proofs {
    /// Reads them. `first` is the first height of the audit: what lies below cannot be proven.
    pub(super) async fn ask(source: &Source, plan: &Plan, first: u64) -> Result<Proofs, AuditError> {
        let mut proofs = Proofs { asked: plan.account, ..Proofs::default() };
        match source {
            Source::Database(reader) => {
                if let Some(stored) = reader.state().await? {
                    let state = stored.state();
                    same_root(stored.height, "as stored beside them", stored.state_root, state.root())?;
                    proofs.headers.insert(stored.height + 1, None);
                    proofs.table = Some(Table { height: stored.height, state, executed: None });
                }
            }
            Source::Rpc(client) => {
                if let Some(address) = &plan.account {
                    let proven = asked(|| client.account_proof(address)).await?;
                    proofs.need(proven.height.saturating_add(1), first)?;
                    proofs.account = Some(proven);
                }
                if let Some(id) = &plan.transaction {
                    let proven = asked(|| client.transaction_proof(id)).await?;
                    proofs.need(proven.height, first)?;
                    if proven.proof.result.is_some() {
                        proofs.need(proven.height.saturating_add(1), first)?;
                    }
                    proofs.transaction = Some((*id, proven));
                }
            }
        }
        Ok(proofs)
    }

    /// A header that must be among those checked.
    fn need(&mut self, height: u64, first: u64) -> Result<(), AuditError> {
        if height < first {
            let message =
                format!("block {height}: it is needed for the proof asked for, expected from block {first} on");
            return Err(AuditError::Wrong(message));
        }
        self.headers.insert(height, None);
        self.highest = self.highest.max(height);
        Ok(())
    }

    /// Least height the audit must get to.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// A header links.
    pub(super) fn pass(&mut self, header: &Header) {
        if let Some(slot) = self.headers.get_mut(&header.height) {
            *slot = Some(header.clone());
        }
    }

    /// A block was executed.
    pub(super) fn executed(&mut self, height: u64, root: Hash) {
        if let Some(table) = self.table.as_mut().filter(|table| table.height == height) {
            table.executed = Some(root);
        }
    }

    /// Compares, now that headers up to `height` are final.
    pub(super) fn finish(mut self, chain: &Hash, height: u64, report: &mut Report) -> Result<(), AuditError> {
        self.headers.retain(|at, _| *at <= height);
        report.state_height = self.check_table(height)?;
        report.account = self.check_account(report.state_height)?;
        report.transaction = self.check_transaction(chain)?;
        Ok(())
    }

    fn header(&self, height: u64) -> Option<&Header> {
        self.headers.get(&height).and_then(Option::as_ref)
    }

    /// The accounts by the next header, else by execution; gives their height where one of the two says what they must be.
    fn check_table(&self, height: u64) -> Result<Option<u64>, AuditError> {
        let Some(table) = &self.table else { return Ok(None) };
        let found = table.state.root();
        if let Some(header) = self.header(table.height + 1) {
            same_root(table.height, "by the header of the next block", header.parent_state_root, found)?;
            return Ok(Some(table.height));
        }
        let executed = table.executed.filter(|_| table.height <= height);
        let Some(expected) = executed else { return Ok(None) };
        same_root(table.height, "by executing all blocks", expected, found)?;
        Ok(Some(table.height))
    }

    fn check_account(&self, state_height: Option<u64>) -> Result<Option<ProvenBalance>, AuditError> {
        let Some(address) = self.asked else { return Ok(None) };
        if let Some(proven) = &self.account {
            return self.check_proof(address, proven).map(Some);
        }
        let Some((table, height)) = self.table.as_ref().zip(state_height) else {
            let message =
                format!("account {address}: neither a final header nor execution from genesis commits to it here");
            return Err(AuditError::Wrong(message));
        };
        let Account { balance, nonce } = table.state.account(&address);
        Ok(Some(ProvenBalance { address, height, balance, nonce }))
    }

    fn check_proof(&self, address: Address, proven: &ProvenAccount) -> Result<ProvenBalance, AuditError> {
        let height = proven.height;
        let wrong = |what: String| AuditError::Wrong(format!("account {address} after block {height}: {what}"));
        if proven.proof.address != address {
            return Err(wrong(format!("the proof is of {}, expected {address}", proven.proof.address)));
        }
        let header =
            self.header(height.saturating_add(1)).ok_or_else(|| wrong("no final header commits to it".into()))?;
        let account = proven.proof.verify(&header.parent_state_root).map_err(|cause| wrong(cause.to_string()))?;
        let Account { balance, nonce } = account.unwrap_or_default();
        if (proven.balance, proven.nonce) != (balance, nonce) {
            let (said, said_nonce) = (proven.balance, proven.nonce);
            return Err(wrong(format!(
                "balance is {said} and nonce {said_nonce}, expected {balance} and {nonce} by its proof"
            )));
        }
        Ok(ProvenBalance { address, height, balance, nonce })
    }

    fn check_transaction(&self, chain: &Hash) -> Result<Option<ProvenResult>, AuditError> {
        let Some((id, proven)) = &self.transaction else { return Ok(None) };
        let height = proven.height;
        let wrong = |what: String| AuditError::Wrong(format!("transaction {id} in block {height}: {what}"));
        let header = self.header(height).ok_or_else(|| wrong("its header is not final".into()))?;
        let next = self.header(height.saturating_add(1));
        let verdict = proven.proof.verify(chain, id, header, next);
        let (index, result) = verdict.map_err(|cause| wrong(cause.to_string()))?;
        if !proven.proof.inclusion.transaction.verifies(chain) {
            return Err(wrong("its signature is invalid".into()));
        }
        let code = result.map(|result| code_name(result.code.number()));
        if (&code, index) != (&proven.code, proven.index) {
            let (said, at) = (&proven.code, proven.index);
            return Err(wrong(format!("result is {said:?} at {at}, expected {code:?} at {index} by its proof")));
        }
        Ok(Some(ProvenResult { tx_hash: *id, height, index, code }))
    }
}

/// Roots of all accounts after a block.
fn same_root(height: u64, by: &str, expected: Hash, found: Hash) -> Result<(), AuditError> {
    let named = |error: aitbc_core::light::LinkError| AuditError::Wrong(format!("{error} {by}"));
    equal(height, "root of the accounts", expected, found).map_err(named)
}
