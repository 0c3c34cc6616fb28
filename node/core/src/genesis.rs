//! Genesis: who validates, who owns what at height 0, and the parameters all must share.

use crate::codec;
use crate::hash::{Domain, Hash, hash};
use crate::key::{Address, PublicKey};
use crate::params::{MAX_GENESIS_ACCOUNTS, MAX_SUPPLY, ParameterError, Parameters};
use crate::terms::{Terms, TermsError};
use crate::validators::{SetError, Validator, ValidatorSet};
use borsh::{BorshDeserialize, BorshSerialize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How validators are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Proof of authority: the validators of genesis.
    Poa,
}

/// A validator at genesis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenesisValidator {
    /// Consensus key.
    pub public_key: PublicKey,
    /// Voting power.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

/// A balance at genesis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenesisAccount {
    /// Owner.
    pub address: Address,
    /// Smallest units.
    pub balance: u64,
}

/// A devnet's source of units for whoever asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Faucet {
    /// Smallest units it starts with.
    pub balance: u64,
    /// Most units of one request.
    pub max_amount: u64,
}

/// The agreed beginning of a chain. JSON for people, borsh for its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// Name of the chain, `^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$`.
    pub chain_id: String,
    /// How validators are chosen.
    pub mode: Mode,
    /// First validators.
    pub validators: Vec<GenesisValidator>,
    /// First balances.
    #[serde(default)]
    pub accounts: Vec<GenesisAccount>,
    /// Absent: no faucet, `Faucet` transactions fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faucet: Option<Faucet>,
    /// Absent: receipts neither mint nor release anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts: Option<Terms>,
    /// Consensus parameters.
    #[serde(default)]
    pub parameters: Parameters,
}

/// Why a genesis is invalid.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// The text is no genesis JSON.
    #[error("not a genesis file: {0}")]
    Json(#[from] serde_json::Error),
    /// The name is not of the allowed form.
    #[error("chain_id \"{0}\" is not allowed: lower-case letters, digits and inner hyphens, 1 to 48 characters")]
    ChainId(String),
    /// The validators are no set.
    #[error("validators: {0}")]
    Validators(#[from] SetError),
    /// A validator's key that nobody, or everybody, can sign for.
    #[error("validators: {0} is no point of full order, so it is nobody's ed25519 key")]
    WeakValidator(PublicKey),
    /// An address stands twice.
    #[error("account {0} is listed twice")]
    DuplicateAccount(Address),
    /// The list is too long.
    #[error("{0} accounts given, at most {MAX_GENESIS_ACCOUNTS} allowed")]
    TooManyAccounts(usize),
    /// Balances are over the bound.
    #[error("balances add up to more than {MAX_SUPPLY}")]
    Supply,
    /// A term of receipts is out of range.
    #[error(transparent)]
    Receipts(#[from] TermsError),
    /// A parameter is out of range.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
}

impl Genesis {
    /// Reads and checks a genesis file.
    ///
    /// # Errors
    /// Where the JSON or one of its values is wrong; names the field.
    pub fn from_json(text: &str) -> Result<Self, GenesisError> {
        let genesis: Genesis = serde_json::from_str(text)?;
        genesis.check()?;
        Ok(genesis)
    }

    /// JSON with a stable order of fields: the same genesis, the same text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }

    /// The chain's identity: in every signature and handshake (F1).
    pub fn hash(&self) -> Hash {
        hash(Domain::Genesis, &[&codec::encode(self)])
    }

    /// The set of epoch 0.
    ///
    /// # Errors
    /// Where the validators are no set (M1).
    pub fn validator_set(&self) -> Result<ValidatorSet, SetError> {
        let member = |v: &GenesisValidator| Validator { key: v.public_key, weight: v.weight };
        ValidatorSet::new(self.validators.iter().map(member).collect())
    }

    /// All units at height 0; transfers neither create nor destroy any, receipts mint more.
    pub fn supply(&self) -> Option<u64> {
        let faucet = self.faucet.as_ref().map_or(0, |f| f.balance);
        self.accounts.iter().try_fold(faucet, |sum, a| sum.checked_add(a.balance))
    }

    /// Checks every rule.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn check(&self) -> Result<(), GenesisError> {
        if !valid_chain_id(&self.chain_id) {
            return Err(GenesisError::ChainId(self.chain_id.chars().take(64).collect()));
        }
        self.validator_set()?;
        if let Some(weak) = self.validators.iter().find(|v| !v.public_key.has_full_order()) {
            return Err(GenesisError::WeakValidator(weak.public_key));
        }
        if self.accounts.len() > MAX_GENESIS_ACCOUNTS {
            return Err(GenesisError::TooManyAccounts(self.accounts.len()));
        }
        let mut seen = BTreeSet::from([faucet_address()]);
        if let Some(twice) = self.accounts.iter().find(|a| !seen.insert(a.address)) {
            return Err(GenesisError::DuplicateAccount(twice.address));
        }
        if self.supply().is_none_or(|supply| supply > MAX_SUPPLY) {
            return Err(GenesisError::Supply);
        }
        self.receipts.as_ref().map_or(Ok(()), Terms::check)?;
        Ok(self.parameters.check()?)
    }
}

/// Account that holds the faucet's units. No key hashes to it: it is the hash of a sentence, not of a key.
pub fn faucet_address() -> Address {
    let digest = crate::hash::plain(b"aitbc faucet account");
    let mut out = [0; 20];
    out.copy_from_slice(&digest.0[..20]);
    Address(out)
}

/// `^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$`, as the custom resource has it.
fn valid_chain_id(id: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=48).contains(&id.len())
        && id.chars().all(|c| inner(c) || c == '-')
        && id.starts_with(inner)
        && id.ends_with(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;
    use crate::terms::Coordinator;

    fn genesis() -> Genesis {
        let public_key = SecretKey::from_seed([1; 32]).public();
        Genesis {
            chain_id: "devnet".into(),
            mode: Mode::Poa,
            validators: vec![GenesisValidator { public_key, weight: 1 }],
            accounts: vec![GenesisAccount { address: public_key.address(), balance: 5 }],
            faucet: None,
            receipts: None,
            parameters: Parameters::default(),
        }
    }

    #[test]
    fn the_same_genesis_has_the_same_text_and_hash_after_a_round_trip() {
        let back = Genesis::from_json(&genesis().to_json()).expect("own text");
        assert_eq!((back.hash(), back.to_json()), (genesis().hash(), genesis().to_json()));
    }

    #[test]
    fn each_wrong_field_is_named() {
        let mut wrong = genesis();
        wrong.chain_id = "Dev".into();
        assert!(wrong.check().expect_err("capital").to_string().contains("chain_id"));
        let mut wrong = genesis();
        wrong.validators.push(GenesisValidator { public_key: PublicKey([0; 32]), weight: 1 });
        let weak = wrong.check().expect_err("zeros").to_string();
        assert!(weak.contains(&"0".repeat(64)) && weak.contains("point of full order"), "{weak}");
        let mut wrong = genesis();
        wrong.accounts.push(wrong.accounts[0].clone());
        assert!(wrong.check().expect_err("twice").to_string().contains("listed twice"));
        let mut wrong = genesis();
        wrong.accounts[0].balance = MAX_SUPPLY + 1;
        assert!(matches!(wrong.check(), Err(GenesisError::Supply)));
        let mut wrong = genesis();
        let coordinators = vec![Coordinator { public_key: wrong.validators[0].public_key }];
        wrong.receipts = Some(Terms {
            mint_per_unit: 1,
            coordinator_parts_per_million: 0,
            coordinators,
            coordinator_threshold: 2,
            epoch_cap: 1,
            provider_epoch_cap: 1,
            expiry_seconds: 1,
        });
        assert!(wrong.check().expect_err("two of one").to_string().contains("receipts.coordinator_threshold"));
        let mut wrong = genesis();
        wrong.parameters.block_time_ms = 0;
        assert!(wrong.check().expect_err("zero").to_string().contains("block_time_ms"));
        assert!(Genesis::from_json("{\"chain\":1}").is_err());
    }
}
