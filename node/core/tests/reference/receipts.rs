//! Receipts and escrows as docs/rpc.md and the drawings atop the core's files have them: maps, u128, line by line.

use crate::model::{Model, Records, address};
use aitbc_core::key::Address;
use aitbc_core::receipt::{AttestedReceipt, Extra, Receipt};
use aitbc_core::terms::Terms;
use aitbc_core::transaction::Lock;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What a receipt left: SHA-256 of its canonical form, height, units.
type Claimed = ([u8; 32], u128, u128);

#[derive(Clone, Debug)]
pub struct Escrow {
    provider: Option<Address>,
    /// 0 once it was paid.
    pub amount: u128,
    timeout: u128,
}

/// Everything that receipts know, by names instead of hashes.
#[derive(Clone, Debug)]
pub struct Receipts {
    pub chain_id: String,
    pub terms: Option<Terms>,
    pub claimed: BTreeMap<(Address, String), Claimed>,
    pub escrows: BTreeMap<(Address, String), Escrow>,
    /// Epoch and units, of everybody and by provider.
    pub minted_by: BTreeMap<Option<Address>, (u128, u128)>,
}

/// The canonical form, from the receipt's fields by another way than the core's: a map that sorts, written by serde_json.
fn canonical(receipt: &Receipt) -> String {
    let mut map: BTreeMap<&str, Value> = BTreeMap::new();
    map.insert("version", json!("1.0"));
    map.insert("receipt_id", json!(receipt.receipt_id.as_str()));
    map.insert("job_id", json!(receipt.job_id.as_str()));
    map.insert("provider", json!(address(&receipt.provider).to_string()));
    map.insert("client", json!(receipt.client.to_string()));
    map.insert("units", json!(receipt.units));
    map.insert("unit_type", json!(receipt.unit_type.as_str()));
    map.insert("price", json!(receipt.price));
    map.insert("model", json!(receipt.model.as_ref().map(|text| text.as_str())));
    map.insert("prompt_hash", json!(receipt.prompt_hash.as_ref().map(|text| text.as_str())));
    map.insert("started_at", json!(receipt.started_at));
    map.insert("completed_at", json!(receipt.completed_at));
    map.insert("duration_ms", json!(receipt.duration_ms));
    map.insert("artifact_hash", json!(receipt.artifact_hash.as_ref().map(|text| text.as_str())));
    map.insert("coordinator_id", json!(receipt.coordinator_id.as_ref().map(|text| text.as_str())));
    map.insert("nonce", json!(receipt.nonce.as_ref().map(|text| text.as_str())));
    map.insert("chain_id", json!(receipt.chain_id.as_ref().map(|text| text.as_str())));
    if let Some(entries) = &receipt.metadata {
        let value = |extra: &Extra| match extra {
            Extra::Text(text) => json!(text.as_str()),
            Extra::Number(number) => json!(number),
        };
        let entries: Map<String, Value> = entries.iter().map(|(n, extra)| (n.as_str().into(), value(extra))).collect();
        map.insert("metadata", Value::Object(entries));
    }
    map.retain(|_, value| !value.is_null());
    serde_json::to_string(&map).expect("JSON")
}

impl Model {
    /// What holds for claims and releases alike.
    fn attested(&self, attested: &AttestedReceipt) -> Result<Terms, &'static str> {
        let Some(terms) = self.receipts.terms.clone() else { return Err("RECEIPTS_DISABLED") };
        let receipt = &attested.receipt;
        if let Some(id) = &receipt.chain_id
            && id.as_str() != self.receipts.chain_id
        {
            return Err("RECEIPT_WRONG_CHAIN");
        }
        for attestation in &attested.attestations {
            if !terms.coordinators.iter().any(|coordinator| coordinator.public_key == attestation.coordinator) {
                return Err("UNKNOWN_COORDINATOR");
            }
        }
        let mut others = attested.attestations.clone();
        others.retain(|attestation| address(&attestation.coordinator) != address(&receipt.provider));
        if others.len() < terms.coordinator_threshold as usize {
            return Err("TOO_FEW_ATTESTATIONS");
        }
        if self.head.time / 1_000 > u128::from(receipt.completed_at) + u128::from(terms.expiry_seconds) {
            return Err("RECEIPT_EXPIRED");
        }
        if u128::from(receipt.completed_at) > self.head.time / 1_000 + 60 {
            return Err("RECEIPT_FROM_FUTURE");
        }
        Ok(terms)
    }

    pub fn claim(&mut self, attested: &AttestedReceipt) -> Result<(), &'static str> {
        let terms = self.attested(attested)?;
        let receipt = &attested.receipt;
        let provider = address(&receipt.provider);
        let name = (provider, receipt.receipt_id.as_str().to_owned());
        if self.receipts.claimed.contains_key(&name) {
            return Err("RECEIPT_CLAIMED");
        }
        let mint = u128::from(receipt.units) * u128::from(terms.mint_per_unit);
        if !self.may_mint(mint) {
            return Err("SUPPLY_EXHAUSTED");
        }
        let epoch = self.head.epoch;
        let so_far = |who| match self.receipts.minted_by.get(&who) {
            Some((of, minted)) if *of == epoch => *minted,
            _ => 0,
        };
        let (all, own) = (so_far(None) + mint, so_far(Some(provider)) + mint);
        if all > terms.epoch_cap.into() {
            return Err("EPOCH_CAP_REACHED");
        }
        if own > terms.provider_epoch_cap.into() {
            return Err("PROVIDER_CAP_REACHED");
        }
        if mint > 0 {
            self.receipts.minted_by.insert(None, (epoch, all));
            self.receipts.minted_by.insert(Some(provider), (epoch, own));
        }
        let (count, of) = (attested.attestations.len() as u128, terms.coordinators.len() as u128);
        let each = mint * u128::from(terms.coordinator_parts_per_million) / 1_000_000 / of;
        for attestation in &attested.attestations {
            self.reward(&address(&attestation.coordinator), each);
        }
        self.reward(&provider, mint - each * count);
        assert!(self.mint(mint), "asked before");
        let digest = Sha256::digest(canonical(receipt)).into();
        self.receipts.claimed.insert(name, (digest, self.head.height, mint));
        Ok(())
    }

    pub fn lock(&mut self, sender: Address, lock: &Lock) -> Result<(), &'static str> {
        if self.receipts.terms.is_none() {
            return Err("RECEIPTS_DISABLED");
        }
        let (height, timeout) = (self.head.height, u128::from(lock.timeout_height));
        if timeout <= height || timeout > height + 100_000_000 {
            return Err("ESCROW_TIMEOUT_OUT_OF_RANGE");
        }
        let job = (sender, lock.job_id.as_str().to_owned());
        match self.receipts.escrows.get(&job) {
            Some(escrow) if escrow.amount == 0 => return Err("ESCROW_PAID"),
            Some(_) => return Err("ESCROW_EXISTS"),
            None => {}
        }
        let amount = u128::from(lock.amount);
        if self.entry(&sender).balance < amount {
            return Err("INSUFFICIENT_BALANCE");
        }
        self.take(&sender, amount);
        let escrow = Escrow { provider: lock.provider, amount, timeout };
        self.receipts.escrows.insert(job, escrow);
        Ok(())
    }

    pub fn release(&mut self, attested: &AttestedReceipt) -> Result<(), &'static str> {
        self.attested(attested)?;
        let receipt = &attested.receipt;
        let (client, provider) = (receipt.client, address(&receipt.provider));
        let job = (client, receipt.job_id.as_str().to_owned());
        let Some(escrow) = self.receipts.escrows.get_mut(&job) else { return Err("ESCROW_NOT_FOUND") };
        if escrow.amount == 0 {
            return Err("ESCROW_PAID");
        }
        if self.head.height > escrow.timeout {
            return Err("ESCROW_TIMED_OUT");
        }
        if escrow.provider.is_some_and(|named| named != provider) {
            return Err("ESCROW_OTHER_PROVIDER");
        }
        let locked = std::mem::take(&mut escrow.amount);
        escrow.provider = Some(provider);
        let paid = match receipt.price {
            Some(price) if u128::from(price) < locked => u128::from(price),
            _ => locked,
        };
        self.reward(&provider, paid);
        self.reward(&client, locked - paid);
        Ok(())
    }

    pub fn refund(&mut self, sender: Address, job_id: &str) -> Result<(), &'static str> {
        let job = (sender, job_id.to_owned());
        let Some(escrow) = self.receipts.escrows.get(&job) else { return Err("ESCROW_NOT_FOUND") };
        if escrow.amount == 0 {
            return Err("ESCROW_PAID");
        }
        if self.head.height <= escrow.timeout {
            return Err("ESCROW_NOT_TIMED_OUT");
        }
        let amount = escrow.amount;
        self.receipts.escrows.remove(&job);
        self.reward(&sender, amount);
        Ok(())
    }
}

impl Receipts {
    /// All records of these, as bytes.
    pub fn records(&self) -> Records {
        let number = |n: u128| u64::try_from(n).expect("a u64").to_le_bytes();
        let maybe = |who: &Option<Address>| match who {
            None => vec![0],
            Some(who) => [&[1][..], &who.0].concat(),
        };
        let hashed = |context: &str, (who, name): &(Address, String)| {
            blake3::derive_key(context, &[&who.0[..], name.as_bytes()].concat())
        };
        let mut records = Records::new();
        for (name, (digest, height, minted)) in &self.claimed {
            let key = [&[16][..], &hashed("aitbc/receipt/v1", name)].concat();
            records.insert(key, [&[16][..], digest, &number(*height), &number(*minted)].concat());
        }
        for (who, (epoch, minted)) in &self.minted_by {
            let value = [&[17][..], &number(*epoch), &number(*minted)].concat();
            records.insert([&[17][..], &maybe(who)].concat(), value);
        }
        for (job, escrow) in &self.escrows {
            let (amount, timeout) = (number(escrow.amount), number(escrow.timeout));
            let value = [&[18][..], &job.0.0, &maybe(&escrow.provider), &amount, &timeout].concat();
            records.insert([&[18][..], &hashed("aitbc/job/v1", job)].concat(), value);
        }
        records
    }
}
