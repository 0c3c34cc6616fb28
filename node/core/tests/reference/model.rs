//! The rules of transactions as the documents have them, in the most obvious code: a map of accounts, u128, line by line.
//!
//! Written from docs/rpc.md ("code of a result"), design.md §5 and the tables and drawings atop the core's files, not from
//! their code. It shares types of input with the core, no function that computes.

use crate::receipts::Receipts;
use crate::staking::{Set, Staking};
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, PublicKey};
use aitbc_core::receipt::Attestation;
use aitbc_core::transaction::{Action, Payment, Transaction};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Balance and nonce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub balance: u128,
    pub nonce: u128,
}

/// What a block's header says.
#[derive(Clone, Debug)]
pub struct Head {
    pub epoch: u128,
    pub height: u128,
    /// In milliseconds.
    pub time: u128,
    /// Whether an epoch begins with it.
    pub first: bool,
    pub set: Set,
    pub leader: PublicKey,
    /// Who should have led the slots skipped before it.
    pub missed: Vec<PublicKey>,
}

/// How many least fees an action has to pay: docs/rpc.md, "Fees".
pub fn fee_units(action: &Action) -> u128 {
    let bytes = borsh::to_vec(action).expect("in memory").len();
    let pieces = bytes.div_ceil(256);
    let signatures = |attestations: &Vec<Attestation>| attestations.len() + 1;
    let units = match action {
        Action::Faucet(_) => 0,
        Action::TransferMany { payments } => payments.len(),
        Action::Activate { .. } => 17,
        Action::ClaimReceipt(receipt) => pieces + signatures(&receipt.attestations) + 16,
        Action::ReleaseEscrow(receipt) => pieces + signatures(&receipt.attestations),
        Action::LockEscrow(_) => pieces + 16,
        _ => pieces,
    };
    units as u128
}

/// Everything a chain knows.
#[derive(Clone, Debug)]
pub struct Model {
    /// Every account that was ever touched, also those that are empty.
    pub accounts: BTreeMap<Address, Entry>,
    /// Account of the faucet and most units of one request.
    pub faucet: Option<(Address, u128)>,
    /// The present block.
    pub head: Head,
    /// By which it goes: as its parent left them.
    pub terms: BTreeMap<&'static str, u128>,
    /// Units of genesis, and what was made and unmade since.
    pub genesis: u128,
    pub minted: u128,
    pub burnt: u128,
    /// What receipts minted and escrows hold.
    pub receipts: Receipts,
    /// Stakes, votes and what they decide.
    pub staking: Staking,
}

/// First 20 bytes of SHA-256 of the key.
pub fn address(key: &PublicKey) -> Address {
    let digest = Sha256::digest(key.0);
    Address(std::array::from_fn(|i| digest[i]))
}

impl Model {
    pub fn entry(&self, address: &Address) -> Entry {
        self.accounts.get(address).copied().unwrap_or_default()
    }

    fn at(&mut self, address: &Address) -> &mut Entry {
        self.accounts.entry(*address).or_default()
    }

    /// All units that are anywhere: in accounts, locked for jobs, at stake or unbonding.
    pub fn supply(&self) -> u128 {
        let locked: u128 = self.receipts.escrows.values().map(|escrow| escrow.amount).sum();
        self.accounts.values().map(|entry| entry.balance).sum::<u128>() + locked + self.staking.locked()
    }

    /// Whether so many more units may exist.
    pub fn may_mint(&self, amount: u128) -> bool {
        self.genesis + self.minted - self.burnt + amount < 1 << 53
    }

    /// Counts units that are made, where they may be.
    pub fn mint(&mut self, amount: u128) -> bool {
        let may = self.may_mint(amount);
        self.minted += if may { amount } else { 0 };
        may
    }

    /// Takes units that are there.
    pub fn take(&mut self, from: &Address, amount: u128) {
        self.at(from).balance -= amount;
    }

    /// Why a transaction costs nothing, before it is looked at what it does.
    fn refuses(&self, tx: &Transaction) -> Option<&'static str> {
        let (had, fee) = (self.entry(&address(&tx.sender)), u128::from(tx.fee));
        if self.head.height > u128::from(tx.expiry_height) {
            return Some("EXPIRED");
        }
        if u128::from(tx.nonce) < had.nonce {
            return Some("NONCE_TOO_LOW");
        }
        if u128::from(tx.nonce) > had.nonce {
            return Some("NONCE_TOO_HIGH");
        }
        if fee < fee_units(&tx.action) * self.terms["min_fee"] {
            return Some("FEE_TOO_LOW");
        }
        (had.balance < fee).then_some("FEE_NOT_COVERED")
    }

    /// Runs one transaction; answers the name of its result and the fee it cost.
    pub fn apply(&mut self, tx: &Transaction) -> (&'static str, u128) {
        if let Some(code) = self.refuses(tx) {
            return (code, 0);
        }
        let (sender, fee) = (address(&tx.sender), u128::from(tx.fee));
        match &tx.action {
            Action::Transfer(payment) => self.pay(&sender, fee, std::slice::from_ref(payment)),
            Action::TransferMany { payments } => self.pay(&sender, fee, payments),
            Action::Faucet(payment) => self.draw(&sender, fee, payment),
            action => {
                self.at(&sender).nonce += 1;
                self.take(&sender, fee);
                let done = match action {
                    Action::ClaimReceipt(receipt) => self.claim(receipt),
                    Action::ReleaseEscrow(receipt) => self.release(receipt),
                    Action::LockEscrow(lock) => self.lock(sender, lock),
                    Action::RefundEscrow { job_id } => self.refund(sender, job_id.as_str()),
                    _ => self.stake(tx),
                };
                (done.err().unwrap_or("OK"), fee)
            }
        }
    }

    fn pay(&mut self, sender: &Address, fee: u128, payments: &[Payment]) -> (&'static str, u128) {
        self.at(sender).nonce += 1;
        self.at(sender).balance -= fee;
        let amounts: u128 = payments.iter().map(|payment| u128::from(payment.amount)).sum();
        if self.entry(sender).balance < amounts {
            return ("INSUFFICIENT_BALANCE", fee);
        }
        for payment in payments {
            self.at(sender).balance -= u128::from(payment.amount);
            self.at(&payment.to).balance += u128::from(payment.amount);
        }
        ("OK", fee)
    }

    fn draw(&mut self, sender: &Address, fee: u128, payment: &Payment) -> (&'static str, u128) {
        let Some((faucet, most)) = self.faucet else { return ("FAUCET_DISABLED", 0) };
        let amount = u128::from(payment.amount);
        if amount > most {
            return ("FAUCET_LIMIT", 0);
        }
        if amount > self.entry(&faucet).balance {
            return ("FAUCET_EMPTY", 0);
        }
        self.at(sender).nonce += 1;
        self.at(sender).balance -= fee;
        self.at(&faucet).balance -= amount;
        self.at(&payment.to).balance += amount;
        ("OK", fee)
    }

    /// Gives units that were made, taken or locked before.
    pub fn reward(&mut self, to: &Address, amount: u128) {
        self.at(to).balance += amount;
    }

    /// Accounts that exist: those with a balance or a nonce.
    pub fn existing(&self) -> BTreeMap<Address, (u64, u64)> {
        let narrow = |n: u128| u64::try_from(n).expect("within the supply");
        let exists = self.accounts.iter().filter(|(_, entry)| **entry != Entry::default());
        exists.map(|(address, entry)| (*address, (narrow(entry.balance), narrow(entry.nonce)))).collect()
    }

    /// The records that must be there, as bytes.
    pub fn records(&self) -> Records {
        let mut records = self.staking.records();
        records.extend(self.receipts.records());
        let number = |n: u128| u64::try_from(n).expect("a u64").to_le_bytes();
        if self.minted + self.burnt > 0 {
            records.insert(vec![8], [&[8][..], &number(self.minted), &number(self.burnt)].concat());
        }
        records
    }
}

fn derive(context: &str, parts: &[&[u8]]) -> Hash {
    Hash(blake3::derive_key(context, &parts.concat()))
}

fn bit_of(key: &Hash, at: usize) -> bool {
    (key.0[at / 8] >> (7 - at % 8)) & 1 == 1
}

/// State root of accounts alone.
pub fn state_root(accounts: &BTreeMap<Address, (u64, u64)>) -> Hash {
    state_root_with(accounts, &BTreeMap::new())
}

/// Records as bytes of key and value.
pub type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// State root by its definition: split all keys at the first bit in which they are not all alike.
pub fn state_root_with(accounts: &BTreeMap<Address, (u64, u64)>, records: &Records) -> Hash {
    let account = |(address, (balance, nonce)): (&Address, &(u64, u64))| {
        let bytes = [&address.0[..], &balance.to_le_bytes(), &nonce.to_le_bytes()];
        (in_half(0, derive("aitbc/state-key/v1", &[&address.0])), derive("aitbc/state-leaf/v1", &bytes))
    };
    let record = |(key, value): (&Vec<u8>, &Vec<u8>)| {
        (in_half(1, derive("aitbc/record-key/v1", &[key])), derive("aitbc/record/v1", &[key, value]))
    };
    let leaves: Vec<(Hash, Hash)> = accounts.iter().map(account).chain(records.iter().map(record)).collect();
    if leaves.is_empty() { Hash::ZERO } else { node(&leaves, 0) }
}

/// With this first bit.
fn in_half(first_bit: u8, mut key: Hash) -> Hash {
    key.0[0] = key.0[0] % 128 + first_bit * 128;
    key
}

/// Key and value of a record of evidence, as `record` draws them.
pub fn evidence_record(key: &PublicKey, epoch: u64, class: u8, slot: u64, height: u64) -> (Vec<u8>, Vec<u8>) {
    let bytes = [&[0][..], &key.0, &epoch.to_le_bytes(), &[class]].concat();
    (bytes, [&[0][..], &slot.to_le_bytes(), &height.to_le_bytes()].concat())
}

fn node(leaves: &[(Hash, Hash)], from: usize) -> Hash {
    if let [(_, only)] = leaves {
        return *only;
    }
    let (right, left): (Vec<_>, Vec<_>) = leaves.iter().copied().partition(|(key, _)| bit_of(key, from));
    if left.is_empty() || right.is_empty() {
        return node(leaves, from + 1);
    }
    let bit = u8::try_from(from).expect("256 bits");
    derive("aitbc/state-node/v1", &[&[bit], &node(&left, from + 1).0, &node(&right, from + 1).0])
}

/// Root of a Merkle list by RFC 6962 §2.1: split at the largest power of two below the length.
pub fn merkle_root(items: &[Vec<u8>]) -> Hash {
    match items {
        [] => Hash::ZERO,
        [one] => derive("aitbc/merkle-leaf/v1", &[one]),
        many => {
            let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
            derive("aitbc/merkle-node/v1", &[&merkle_root(left).0, &merkle_root(right).0])
        }
    }
}
