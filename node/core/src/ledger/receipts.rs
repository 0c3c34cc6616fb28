//! What receipts mint and escrows pay. All signatures were verified with the batch (V6): here is only asked who signed.
//!
//! Fee and nonce are taken first, whatever comes of it. Then each of these questions ends a transaction at the first "no":
//!
//! | question | else | asked of |
//! |---|---|---|
//! | does genesis have terms of receipts? | `RECEIPTS_DISABLED` | claim, lock, release |
//! | is the receipt's `chain_id`, if any, this chain's? | `RECEIPT_WRONG_CHAIN` | claim, release |
//! | is each attestation by a coordinator of genesis? | `UNKNOWN_COORDINATOR` | claim, release |
//! | are there as many as genesis wants, the provider's own not counted? | `TOO_FEW_ATTESTATIONS` | claim, release |
//! | block's time ≤ `completed_at` + expiry? | `RECEIPT_EXPIRED` | claim, release |
//! | `completed_at` ≤ block's time + 60 s? | `RECEIPT_FROM_FUTURE` | claim, release |
//! | is provider and `receipt_id` new? | `RECEIPT_CLAIMED` | claim |
//! | does it fit into the supply? | `SUPPLY_EXHAUSTED` | claim |
//! | into what the epoch may mint? | `EPOCH_CAP_REACHED` | claim |
//! | into what the provider may mint in it? | `PROVIDER_CAP_REACHED` | claim |
//! | height < timeout ≤ height + 100,000,000? | `ESCROW_TIMEOUT_OUT_OF_RANGE` | lock |
//! | is nothing locked for the job? | `ESCROW_EXISTS` | lock |
//! | is something locked for the job? | `ESCROW_NOT_FOUND` | release, refund |
//! | was it not paid yet? | `ESCROW_PAID` | lock, release, refund |
//! | height ≤ timeout? | `ESCROW_TIMED_OUT` | release |
//! | height > timeout? | `ESCROW_NOT_TIMED_OUT` | refund |
//! | is the provider the one that was named, if one was? | `ESCROW_OTHER_PROVIDER` | release |
//! | balance ≥ fee + amount? | `INSUFFICIENT_BALANCE` | lock |
//!
//! An escrow pays the receipt's `price`, at most what is locked, and all that is locked where the receipt has none; the rest
//! goes back to the client. A job is paid once for ever; one that was refunded can be locked again.

use super::{Block, ResultCode, Rules};
use crate::key::Address;
use crate::params::MAX_RECEIPT_AHEAD;
use crate::receipt::{self, AttestedReceipt, Name, Receipt};
use crate::record::{Record, RecordKey};
use crate::terms::{Mint, Terms};
use crate::transaction::{Action, Lock};

/// What genesis and its terms say of receipts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRules {
    /// Name of the chain.
    pub chain_id: String,
    /// What a unit earns, and who attests it.
    pub terms: Terms,
}

impl Rules {
    /// What of a receipt or escrow no state, height and time can change, so that nobody needs to pay a fee, or verify
    /// signatures, to be told.
    ///
    /// # Errors
    /// The code with which every block would refuse it.
    pub fn admit(&self, action: &Action) -> Result<(), ResultCode> {
        let rules = || self.receipts.as_ref().ok_or(ResultCode::ReceiptsDisabled);
        match action {
            Action::ClaimReceipt(attested) => rules()?.admit_claim(attested),
            Action::ReleaseEscrow(attested) => rules()?.admit(attested),
            Action::LockEscrow(_) => rules().map(|_| ()),
            Action::Transfer(_) | Action::TransferMany { .. } | Action::Faucet(_) | Action::RefundEscrow { .. } => {
                Ok(())
            }
            Action::Bond(_)
            | Action::Unbond(_)
            | Action::Activate { .. }
            | Action::Unjail
            | Action::AuthorityVote(_) => Ok(()),
        }
    }
}

impl ReceiptRules {
    /// As [`Self::admit`], and whether it is within what an epoch may mint at all.
    fn admit_claim(&self, attested: &AttestedReceipt) -> Result<(), ResultCode> {
        self.admit(attested)?;
        let mint = self.terms.mint(attested.receipt.units, attested.attestations.len());
        let total = mint.ok_or(ResultCode::SupplyExhausted)?.total;
        if total > self.terms.epoch_cap {
            return Err(ResultCode::EpochCapReached);
        }
        if total > self.terms.provider_epoch_cap {
            return Err(ResultCode::ProviderCapReached);
        }
        Ok(())
    }

    /// What can be said of a receipt without state and time.
    fn admit(&self, attested: &AttestedReceipt) -> Result<(), ResultCode> {
        if attested.receipt.chain_id.as_ref().is_some_and(|id| id.as_str() != self.chain_id) {
            return Err(ResultCode::ReceiptWrongChain);
        }
        if !attested.attestations.iter().all(|attestation| self.terms.names(&attestation.coordinator)) {
            return Err(ResultCode::UnknownCoordinator);
        }
        // Nobody attests its own work.
        let others = attested.attestations.iter().filter(|a| a.coordinator != attested.receipt.provider);
        if others.count() < usize::from(self.terms.coordinator_threshold) {
            return Err(ResultCode::TooFewAttestations);
        }
        Ok(())
    }
}

/// What is locked for a job.
struct Locked {
    client: Address,
    provider: Option<Address>,
    amount: u64,
    timeout_height: u64,
}

impl Block<'_> {
    fn receipt_rules(&self) -> Result<&ReceiptRules, ResultCode> {
        self.rules.receipts.as_ref().ok_or(ResultCode::ReceiptsDisabled)
    }

    /// Whether coordinators stand for the receipt, and still do.
    fn attested(&self, attested: &AttestedReceipt) -> Result<&ReceiptRules, ResultCode> {
        let rules = self.receipt_rules()?;
        rules.admit(attested)?;
        let (now, completed) = (self.context.time_ms / 1_000, attested.receipt.completed_at);
        if now > rules.terms.expires(completed) {
            return Err(ResultCode::ReceiptExpired);
        }
        if completed > now.saturating_add(MAX_RECEIPT_AHEAD) {
            return Err(ResultCode::ReceiptFromFuture);
        }
        Ok(rules)
    }

    /// Mints what a receipt earns, once.
    pub(super) fn claim(&mut self, attested: &AttestedReceipt) -> Result<(), ResultCode> {
        let rules = self.attested(attested)?;
        let Receipt { provider, units, .. } = &attested.receipt;
        let (provider, key) = (provider.address(), RecordKey::Receipt { nullifier: attested.receipt.nullifier() });
        if self.accounts.record(&key).is_some() {
            return Err(ResultCode::ReceiptClaimed);
        }
        let mint = rules.terms.mint(*units, attested.attestations.len()).ok_or(ResultCode::SupplyExhausted)?;
        self.mint(provider, &mint)?;
        self.credit(provider, mint.provider);
        for attestation in &attested.attestations {
            self.credit(attestation.coordinator.address(), mint.coordinator);
        }
        let record =
            Record::Receipt { digest: attested.receipt.digest(), height: self.context.height, minted: mint.total };
        self.accounts.set_record(key, Some(record));
        Ok(())
    }

    /// Counts what is minted against the supply and both caps, or changes nothing.
    fn mint(&mut self, provider: Address, mint: &Mint) -> Result<(), ResultCode> {
        let rules = self.receipt_rules()?;
        let (epoch_cap, provider_cap) = (rules.terms.epoch_cap, rules.terms.provider_epoch_cap);
        let supply = self.supply().minting(self.rules.supply, mint.total).ok_or(ResultCode::SupplyExhausted)?;
        let (all, own) = (RecordKey::ReceiptCap { provider: None }, RecordKey::ReceiptCap { provider: Some(provider) });
        let by_all = self.minted_in_epoch(&all).saturating_add(mint.total);
        if by_all > epoch_cap {
            return Err(ResultCode::EpochCapReached);
        }
        let by_provider = self.minted_in_epoch(&own).saturating_add(mint.total);
        if by_provider > provider_cap {
            return Err(ResultCode::ProviderCapReached);
        }
        if mint.total > 0 {
            let epoch = self.context.epoch;
            self.accounts.set_record(all, Some(Record::ReceiptCap { epoch, minted: by_all }));
            self.accounts.set_record(own, Some(Record::ReceiptCap { epoch, minted: by_provider }));
            self.set_supply(supply);
        }
        Ok(())
    }

    fn minted_in_epoch(&self, key: &RecordKey) -> u64 {
        match self.accounts.record(key) {
            Some(Record::ReceiptCap { epoch, minted }) if *epoch == self.context.epoch => *minted,
            _ => 0,
        }
    }

    /// Locks units of the sender for a job.
    pub(super) fn lock(&mut self, sender: Address, lock: &Lock) -> Result<(), ResultCode> {
        self.receipt_rules()?;
        if !lock.timeout_fits(self.context.height) {
            return Err(ResultCode::EscrowTimeoutOutOfRange);
        }
        let key = RecordKey::Escrow { job: receipt::job(&sender, &lock.job_id) };
        match self.locked(&key) {
            Ok(_) => return Err(ResultCode::EscrowExists),
            Err(ResultCode::EscrowNotFound) => {}
            Err(code) => return Err(code),
        }
        let slot = self.accounts.slot(sender);
        let account = self.accounts.get(slot);
        account.balance = account.balance.checked_sub(lock.amount).ok_or(ResultCode::InsufficientBalance)?;
        let record = Record::Escrow {
            client: sender,
            provider: lock.provider,
            amount: lock.amount,
            timeout_height: lock.timeout_height,
        };
        self.accounts.set_record(key, Some(record));
        Ok(())
    }

    /// What is locked under a key and not paid yet.
    fn locked(&self, key: &RecordKey) -> Result<Locked, ResultCode> {
        match self.accounts.record(key) {
            Some(Record::Escrow { amount: 0, .. }) => Err(ResultCode::EscrowPaid),
            Some(Record::Escrow { client, provider, amount, timeout_height }) => {
                Ok(Locked { client: *client, provider: *provider, amount: *amount, timeout_height: *timeout_height })
            }
            _ => Err(ResultCode::EscrowNotFound),
        }
    }

    /// Pays the provider what the client locked for the job of a receipt.
    pub(super) fn release(&mut self, attested: &AttestedReceipt) -> Result<(), ResultCode> {
        self.attested(attested)?;
        let Receipt { provider, price, .. } = &attested.receipt;
        let (provider, key) = (provider.address(), RecordKey::Escrow { job: attested.receipt.job() });
        let Locked { client, provider: named, amount, timeout_height } = self.locked(&key)?;
        if self.context.height > timeout_height {
            return Err(ResultCode::EscrowTimedOut);
        }
        if named.is_some_and(|named| named != provider) {
            return Err(ResultCode::EscrowOtherProvider);
        }
        let paid = price.unwrap_or(amount).min(amount);
        self.credit(provider, paid);
        self.credit(client, amount - paid);
        let record = Record::Escrow { client, provider: Some(provider), amount: 0, timeout_height };
        self.accounts.set_record(key, Some(record));
        Ok(())
    }

    /// Gives the sender back what it locked for a job that timed out.
    pub(super) fn refund(&mut self, sender: Address, job_id: &Name) -> Result<(), ResultCode> {
        let key = RecordKey::Escrow { job: receipt::job(&sender, job_id) };
        let Locked { amount, timeout_height, .. } = self.locked(&key)?;
        if self.context.height <= timeout_height {
            return Err(ResultCode::EscrowNotTimedOut);
        }
        self.credit(sender, amount);
        self.accounts.set_record(key, None);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
