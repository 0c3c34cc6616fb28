//! Genesis: who validates, who owns what at height 0, and the parameters all must share.

use crate::codec;
use crate::hash::{Domain, Hash, hash};
use crate::key::{Address, PublicKey};
use crate::params::{
    MAX_GENESIS_ACCOUNTS, MAX_SUPPLY, MAX_UNBONDING_MS, MAX_VALIDATORS, MAX_WEIGHT, ParameterError, Parameters,
};
use crate::terms::{Terms, TermsError};
use crate::validators::{SetError, Validator, ValidatorSet, cap_weights, weight_of_stake};
use borsh::{BorshDeserialize, BorshSerialize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// How validators are chosen.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Proof of authority: those of genesis, and whom they admit.
    #[default]
    Poa,
    /// Proof of stake: those with the greatest stakes.
    Pos,
    /// Both: those admitted that have a stake.
    Hybrid,
}

impl Mode {
    /// All, in the order of their tags.
    pub const ALL: [Mode; 3] = [Mode::Poa, Mode::Pos, Mode::Hybrid];

    /// Name in genesis and settings.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Poa => "poa",
            Mode::Pos => "pos",
            Mode::Hybrid => "hybrid",
        }
    }

    /// The cap is one of stakes: the weights of mode poa are what genesis and authorities want them to be.
    pub fn cap(self, weights: &mut [u32]) {
        if self != Mode::Poa {
            cap_weights(weights, self == Mode::Pos);
        }
    }
}

/// How validators come, go and are paid; part of genesis. Units are the smallest, times milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Staking {
    /// Least stake of a validator; authorities can change it. Not of mode poa.
    pub min_stake: u64,
    /// Stake for each unit of voting power. Not of mode poa.
    pub unit: u64,
    /// Most validators in a set; authorities can change it.
    pub max_validators: u16,
    /// A set with fewer does not come to be: the one before stays (E1).
    pub min_validators: u16,
    /// Epochs in which a stake that was unbonded counts no more and can be slashed still.
    pub unbonding_epochs: u64,
    /// How long those last at least, in milliseconds of block time; authorities can change it.
    pub unbonding_ms: u64,
    /// Ten-thousandths of a stake that double-signing costs.
    pub slash_bp: u16,
    /// Epochs of jail for double-signing in mode pos; in the others, authorities decide.
    pub jail_epochs: u64,
    /// Slots in a row that a validator has to miss to be jailed as absent, and
    pub absence_slots: u32,
    /// for how long it has to miss them, in milliseconds of block time.
    pub absence_ms: u64,
    /// Units made by each block, shared by weight among validators that work.
    pub block_reward: u64,
}

impl Default for Staking {
    fn default() -> Self {
        Staking {
            min_stake: 1_000,
            unit: 1,
            max_validators: MAX_VALIDATORS as u16,
            min_validators: 1,
            unbonding_epochs: 2,
            unbonding_ms: 86_400_000,
            slash_bp: 500,
            jail_epochs: 10,
            absence_slots: 50,
            absence_ms: 86_400_000,
            block_reward: 0,
        }
    }
}

impl Staking {
    /// Defaults of a chain that begins with so many validators: from four on, which is the fewest of which one may be
    /// faulty, no set is made of fewer.
    pub fn beginning_with(validators: usize) -> Staking {
        Staking { min_validators: validators.clamp(1, 4) as u16, ..Staking::default() }
    }

    /// Checks each field, and against the number of validators at genesis.
    ///
    /// # Errors
    /// Names the first that is out of range.
    pub fn check(&self, validators: usize) -> Result<(), ParameterError> {
        let (min, max, all) = (u64::from(self.min_validators), u64::from(self.max_validators), validators as u64);
        let rules: [(&'static str, u64, RangeInclusive<u64>); 11] = [
            ("staking.unit", self.unit, 1..=MAX_SUPPLY),
            ("staking.min_stake", self.min_stake, self.unit..=MAX_SUPPLY),
            ("staking.min_validators", min, 1..=all),
            ("staking.max_validators", max, all.max(min)..=MAX_VALIDATORS as u64),
            ("staking.unbonding_epochs", self.unbonding_epochs, 2..=100_000),
            ("staking.unbonding_ms", self.unbonding_ms, 0..=MAX_UNBONDING_MS),
            ("staking.slash_bp", self.slash_bp.into(), 0..=10_000),
            ("staking.jail_epochs", self.jail_epochs, 1..=1_000_000),
            ("staking.absence_slots", self.absence_slots.into(), 1..=1_000_000),
            ("staking.absence_ms", self.absence_ms, 0..=MAX_UNBONDING_MS),
            ("staking.block_reward", self.block_reward, 0..=MAX_SUPPLY),
        ];
        match rules.into_iter().find(|(_, value, allowed)| !allowed.contains(value)) {
            None => Ok(()),
            Some((name, value, allowed)) => {
                let allowed = format!("between {} and {}", allowed.start(), allowed.end());
                Err(ParameterError { name, value, allowed })
            }
        }
    }
}

/// A validator at genesis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenesisValidator {
    /// Consensus key; in modes pos and hybrid, its address owns the stake.
    pub public_key: PublicKey,
    /// Voting power in mode poa; the stake says it in the others, where this is 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// Smallest units at stake, in modes pos and hybrid.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stake: u64,
}

fn one() -> u32 {
    1
}

fn is_zero(stake: &u64) -> bool {
    *stake == 0
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
    /// How validators come, go and are paid.
    #[serde(default)]
    pub staking: Staking,
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
    /// Balances and stakes are over the bound.
    #[error("balances and stakes add up to more than {MAX_SUPPLY}")]
    Supply,
    /// A term of receipts is out of range.
    #[error(transparent)]
    Receipts(#[from] TermsError),
    /// A validator's stake or weight is not one of this mode.
    #[error("validator {key}: {found} given, mode {mode} needs {allowed}", mode = .mode.name())]
    Stake {
        /// Whose.
        key: PublicKey,
        /// Field and value.
        found: String,
        /// How validators are chosen.
        mode: Mode,
        /// What is allowed.
        allowed: String,
    },
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

    /// The set of epochs 0 and 1 (E1).
    ///
    /// # Errors
    /// Where the validators are no set (M1).
    pub fn validator_set(&self) -> Result<ValidatorSet, SetError> {
        let mut weights: Vec<u32> = self.validators.iter().map(|v| self.weight(v)).collect();
        self.mode.cap(&mut weights);
        let keys = self.validators.iter().map(|v| v.public_key);
        ValidatorSet::new(keys.zip(weights).map(|(key, weight)| Validator { key, weight }).collect())
    }

    /// Voting power of a validator before any cap.
    fn weight(&self, validator: &GenesisValidator) -> u32 {
        match self.mode {
            Mode::Poa => validator.weight,
            Mode::Pos | Mode::Hybrid => weight_of_stake(validator.stake, self.staking.unit),
        }
    }

    /// All units at height 0, those at stake included; transfers neither create nor destroy any, receipts
    /// and rewards make more.
    pub fn supply(&self) -> Option<u64> {
        let faucet = self.faucet.as_ref().map_or(0, |f| f.balance);
        let balances = self.accounts.iter().map(|a| a.balance);
        let mut all = balances.chain(self.validators.iter().map(|v| v.stake));
        all.try_fold(faucet, u64::checked_add)
    }

    /// Stakes as the mode has them: none in poa, in the others enough and not more than weighs something.
    fn check_stakes(&self) -> Result<(), GenesisError> {
        let least = self.staking.min_stake;
        let most = self.staking.unit.saturating_mul(MAX_WEIGHT.into());
        for v in &self.validators {
            let (found, allowed) = match self.mode {
                Mode::Poa if v.stake > 0 => (format!("stake {}", v.stake), "none, only a weight".to_owned()),
                Mode::Pos | Mode::Hybrid if v.weight != 1 => {
                    (format!("weight {}", v.weight), "none, only a stake".to_owned())
                }
                Mode::Pos | Mode::Hybrid if !(least..=most).contains(&v.stake) => (
                    format!("stake {}", v.stake),
                    format!("{least} (staking.min_stake) to {most} (staking.unit × {MAX_WEIGHT})"),
                ),
                _ => continue,
            };
            return Err(GenesisError::Stake { key: v.public_key, found, mode: self.mode, allowed });
        }
        Ok(())
    }

    /// Checks every rule.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn check(&self) -> Result<(), GenesisError> {
        if !valid_chain_id(&self.chain_id) {
            return Err(GenesisError::ChainId(self.chain_id.chars().take(64).collect()));
        }
        self.staking.check(self.validators.len())?;
        self.check_stakes()?;
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
            validators: vec![GenesisValidator { public_key, weight: 1, stake: 0 }],
            accounts: vec![GenesisAccount { address: public_key.address(), balance: 5 }],
            faucet: None,
            receipts: None,
            parameters: Parameters::default(),
            staking: Staking::default(),
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
        wrong.validators.push(GenesisValidator { public_key: PublicKey([0; 32]), weight: 1, stake: 0 });
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

    fn staked(stakes: &[u64]) -> Genesis {
        let validator = |(n, stake): (usize, &u64)| GenesisValidator {
            public_key: SecretKey::from_seed([n as u8 + 1; 32]).public(),
            weight: 1,
            stake: *stake,
        };
        let staking = Staking { min_stake: 100, unit: 10, ..Staking::default() };
        let validators = stakes.iter().enumerate().map(validator).collect();
        Genesis { mode: Mode::Hybrid, validators, staking, ..genesis() }
    }

    #[test]
    fn stakes_of_genesis_are_voting_power_and_part_of_the_supply() {
        let genesis = staked(&[100, 205, 300, 100_000]);
        genesis.check().expect("valid");
        let set = genesis.validator_set().expect("a set");
        let mut weights: Vec<u32> = set.members().iter().map(|member| member.weight).collect();
        weights.sort_unstable();
        assert_eq!(weights, [10, 20, 29, 29], "by unit, and below a third");
        let open = Genesis { mode: Mode::Pos, ..genesis.clone() };
        let open = open.validator_set().expect("a set");
        assert_eq!(
            open.members().iter().map(|member| member.weight).max(),
            Some(7_485),
            "three small ones are no quorum"
        );
        assert_eq!(genesis.supply(), Some(100_605 + 5));
    }

    #[test]
    fn a_stake_or_weight_that_the_mode_does_not_have_is_refused_by_name() {
        let refused = |genesis: Genesis, words: [&str; 2]| {
            let text = genesis.check().expect_err("refused").to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        };
        refused(Genesis { mode: Mode::Poa, ..staked(&[100]) }, ["stake 100", "mode poa"]);
        refused(staked(&[99]), ["stake 99", "100 (staking.min_stake)"]);
        refused(staked(&[10 * u64::from(MAX_WEIGHT) + 1]), ["stake 200000001", "staking.unit"]);
        let mut weighted = staked(&[100]);
        weighted.validators[0].weight = 2;
        refused(weighted, ["weight 2", "mode hybrid"]);
        assert!(Genesis { mode: Mode::Pos, ..staked(&[100]) }.check().is_ok());
        assert!(matches!(staked(&[MAX_SUPPLY / 2, MAX_SUPPLY]).check(), Err(GenesisError::Stake { .. })));
    }

    #[test]
    fn each_wrong_field_of_staking_is_named() {
        let refused = |change: fn(&mut Staking)| {
            let mut genesis = genesis();
            change(&mut genesis.staking);
            match genesis.check() {
                Err(GenesisError::Parameters(wrong)) => wrong.name,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused(|s| s.unit = 0), "staking.unit");
        assert_eq!(refused(|s| (s.unit, s.min_stake) = (2, 1)), "staking.min_stake");
        assert_eq!(refused(|s| s.min_validators = 0), "staking.min_validators");
        assert_eq!(refused(|s| s.min_validators = 2), "staking.min_validators");
        assert_eq!(refused(|s| s.max_validators = 101), "staking.max_validators");
        assert_eq!(refused(|s| s.unbonding_epochs = 1), "staking.unbonding_epochs");
        assert_eq!(refused(|s| s.unbonding_ms = u64::MAX), "staking.unbonding_ms");
        assert_eq!(refused(|s| s.slash_bp = 10_001), "staking.slash_bp");
        assert_eq!(refused(|s| s.jail_epochs = 0), "staking.jail_epochs");
        assert_eq!(refused(|s| s.absence_slots = 0), "staking.absence_slots");
        assert_eq!(refused(|s| s.absence_ms = u64::MAX), "staking.absence_ms");
        assert_eq!(refused(|s| s.block_reward = u64::MAX), "staking.block_reward");
    }
}
