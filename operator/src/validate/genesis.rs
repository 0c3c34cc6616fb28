//! Pure: the genesis of the chain. Made once from spec and keys, then read back and never made again.
//!
//! The same spec and keys give the same text, so a network that is created again continues its chain. No clock and no chance go in.

use crate::crd::receipts::Receipts;
use crate::crd::{BlockchainNetwork, Consensus, Switch};
use crate::names;
use crate::observe::Observed;
use crate::validate::keys::Keys;
use crate::validate::{Problem, Settings, parse_duration};
use aitbc_core::genesis::{Faucet, Genesis, GenesisAccount, GenesisValidator, Mode, Staking};
use aitbc_core::params::{MAX_SUPPLY, Parameters};
use aitbc_core::terms::{Coordinator, Terms};
use std::collections::BTreeMap;

/// Units in the faucet of a new chain.
const FAUCET_BALANCE: u64 = 1_000_000_000_000_000;
/// Most units of one request to it.
const FAUCET_MAX_AMOUNT: u64 = 1_000_000_000;

/// What the spec says of genesis.
#[derive(Clone, Debug)]
pub struct GenesisWish {
    network: String,
    chain_id: String,
    mode: Mode,
    power: BTreeMap<i32, i64>,
    accounts: Vec<(String, i64)>,
    faucet: Switch,
    receipts: Option<Receipts>,
    consensus: Consensus,
    block_time_ms: u64,
}

/// A genesis file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisFile {
    /// Its text.
    pub json: String,
    /// Its hash, hex.
    pub hash: String,
    /// Whether its ConfigMap exists already.
    pub stored: Stored,
}

/// Whether something is in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is there.
    Yes,
    /// It has to be created.
    No,
}

impl GenesisWish {
    /// Reads the spec.
    pub fn new(network: &BlockchainNetwork, settings: &Settings) -> Self {
        let genesis = &network.spec.genesis;
        GenesisWish {
            network: settings.identity.name.clone(),
            chain_id: settings.chain_id.clone(),
            mode: settings.mode,
            power: settings.genesis_power.clone(),
            accounts: genesis.accounts.iter().map(|a| (a.address.clone(), a.balance)).collect(),
            faucet: genesis.faucet,
            receipts: genesis.receipts.clone(),
            consensus: network.spec.consensus.clone(),
            block_time_ms: u64::try_from(settings.block_time.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Reads the genesis in the cluster and compares it with the spec, or makes the first one.
///
/// # Errors
/// `GenesisInvalid`, `GenesisConflict`, `WaitingForKeys` or `GenesisMissing`.
pub fn check(
    wish: &GenesisWish,
    keys: &Keys,
    observed: &Observed,
    began: Option<&str>,
) -> Result<GenesisFile, Problem> {
    if !keys.complete() {
        return Err(Problem::new("WaitingForKeys", "genesis names the validators' keys, which are being created"));
    }
    let wanted = build(wish, keys)?;
    match (observed.genesis_json(), &observed.genesis) {
        (Some(json), _) => adopt(wish, &wanted, json),
        (None, None) => first(wish, &wanted, began),
        (None, Some(_)) => Err(Problem::new(
            "GenesisInvalid",
            format!(
                "ConfigMap \"{}\" has no entry \"{}\"; restore it from your backup, or delete it if no chain began with it",
                names::genesis(&wish.network),
                names::GENESIS_ENTRY
            ),
        )),
    }
}

fn build(wish: &GenesisWish, keys: &Keys) -> Result<Genesis, Problem> {
    let accounts = wish.accounts.iter().map(|(address, balance)| {
        let address = address.parse().map_err(|error| invalid(&format!("genesis.accounts: {error}")))?;
        Ok(GenesisAccount { address, balance: number(*balance) })
    });
    let validators = validators(wish, keys);
    let genesis = Genesis {
        chain_id: wish.chain_id.clone(),
        mode: wish.mode,
        accounts: accounts.collect::<Result<_, Problem>>()?,
        faucet: match wish.faucet {
            Switch::Enabled => Some(Faucet { balance: FAUCET_BALANCE, max_amount: FAUCET_MAX_AMOUNT }),
            Switch::Disabled => None,
        },
        receipts: wish.receipts.as_ref().map(terms).transpose()?,
        parameters: parameters(wish),
        staking: staking(&wish.consensus, validators.len()),
        validators,
    };
    genesis.check().map_err(|error| invalid(&error.to_string()))?;
    Ok(genesis)
}

/// Those that decide from the beginning, by ordinal: that is how their keys are told apart later.
fn validators(wish: &GenesisWish, keys: &Keys) -> Vec<GenesisValidator> {
    let one = |(ordinal, power): (&i32, &i64)| {
        let public_key = keys.known.get(ordinal)?.public;
        Some(match wish.mode {
            Mode::Poa => GenesisValidator { public_key, weight: u32::try_from(*power).unwrap_or(1), stake: 0 },
            Mode::Pos | Mode::Hybrid => GenesisValidator { public_key, weight: 1, stake: number(*power) },
        })
    };
    wish.power.iter().filter_map(one).collect()
}

fn parameters(wish: &GenesisWish) -> Parameters {
    let defaults = Parameters::default();
    Parameters {
        block_time_ms: wish.block_time_ms,
        epoch_blocks: wish.consensus.epoch_blocks.map_or(defaults.epoch_blocks, number),
        ..defaults
    }
}

fn staking(consensus: &Consensus, validators: usize) -> Staking {
    let defaults = Staking::beginning_with(validators);
    let max_validators = consensus.max_validators.and_then(|most| u16::try_from(most).ok());
    Staking {
        min_stake: consensus.min_stake.map_or(defaults.min_stake, number),
        max_validators: max_validators.unwrap_or(defaults.max_validators),
        unbonding_epochs: consensus.unbonding_epochs.map_or(defaults.unbonding_epochs, number),
        ..defaults
    }
}

fn terms(receipts: &Receipts) -> Result<Terms, Problem> {
    let coordinators = receipts.coordinators.iter().map(|coordinator| {
        let key = coordinator.public_key.parse();
        let public_key = key.map_err(|error| invalid(&format!("genesis.receipts.coordinators: {error}")))?;
        Ok(Coordinator { public_key })
    });
    Ok(Terms {
        mint_per_unit: number(receipts.mint_per_unit),
        coordinator_parts_per_million: u32::try_from(receipts.coordinator_parts_per_million).unwrap_or(0),
        coordinators: coordinators.collect::<Result<_, Problem>>()?,
        coordinator_threshold: u16::try_from(receipts.coordinator_threshold).unwrap_or(0),
        epoch_cap: receipts.epoch_cap.map_or(MAX_SUPPLY, number),
        provider_epoch_cap: receipts.provider_epoch_cap.map_or(MAX_SUPPLY, number),
        expiry_seconds: parse_duration(&receipts.expiry).map_or(0, |expiry| expiry.as_secs()),
    })
}

/// A number of the spec, whose schema allows none below 0.
fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn invalid(why: &str) -> Problem {
    Problem::new("GenesisInvalid", format!("{why}; create a new network with a valid genesis"))
}

/// A chain that began keeps its genesis. Parameters that the spec does not name may differ: a later operator may have other defaults.
fn adopt(wish: &GenesisWish, wanted: &Genesis, json: &str) -> Result<GenesisFile, Problem> {
    let name = names::genesis(&wish.network);
    let found = Genesis::from_json(json).map_err(|error| {
        Problem::new("GenesisInvalid", format!("ConfigMap \"{name}\": {error}; restore it from your backup"))
    })?;
    let (given, was, is) = (&wish.consensus, &found.staking, &wanted.staking);
    let fields = [
        ("chainID", found.chain_id == wanted.chain_id),
        ("consensus.mode", found.mode == wanted.mode),
        ("the validators' keys", of(&found, |v| v.public_key) == of(wanted, |v| v.public_key)),
        ("validators.weights", found.validators == wanted.validators),
        ("genesis.accounts", found.accounts == wanted.accounts),
        ("genesis.faucet", found.faucet.is_some() == wanted.faucet.is_some()),
        ("genesis.receipts", found.receipts == wanted.receipts),
        ("consensus.blockTime", found.parameters.block_time_ms == wanted.parameters.block_time_ms),
        (
            "consensus.epochBlocks",
            given.epoch_blocks.is_none() || found.parameters.epoch_blocks == wanted.parameters.epoch_blocks,
        ),
        ("consensus.minStake", given.min_stake.is_none() || was.min_stake == is.min_stake),
        ("consensus.maxValidators", given.max_validators.is_none() || was.max_validators == is.max_validators),
        ("consensus.unbondingEpochs", given.unbonding_epochs.is_none() || was.unbonding_epochs == is.unbonding_epochs),
    ];
    match fields.iter().find(|(_, same)| !same) {
        None => Ok(GenesisFile { json: json.to_owned(), hash: found.hash().to_string(), stored: Stored::Yes }),
        Some((field, _)) => Err(Problem::new(
            "GenesisConflict",
            format!(
                "ConfigMap \"{name}\" holds the genesis of an earlier network of this name, and {field} differs; \
                 give the spec the former value to continue that chain, or delete the ConfigMap and the volumes to begin a new one"
            ),
        )),
    }
}

fn of<T>(genesis: &Genesis, field: fn(&GenesisValidator) -> T) -> Vec<T> {
    genesis.validators.iter().map(field).collect()
}

/// A first genesis; a chain that is known to have begun must get the same one again.
fn first(wish: &GenesisWish, wanted: &Genesis, began: Option<&str>) -> Result<GenesisFile, Problem> {
    let hash = wanted.hash().to_string();
    match began {
        Some(former) if former != hash => Err(Problem::new(
            "GenesisMissing",
            format!(
                "ConfigMap \"{}\" is gone, and the chain began with the genesis {former}, which spec and keys no longer give; restore it from your backup",
                names::genesis(&wish.network)
            ),
        )),
        Some(_) | None => Ok(GenesisFile { json: wanted.to_json(), hash, stored: Stored::No }),
    }
}
