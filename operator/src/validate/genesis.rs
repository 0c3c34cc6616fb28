//! Pure: the genesis of the chain. Made once from spec and keys, then read back and never made again.
//!
//! The same spec and keys give the same text, so a network that is created again continues its chain. No clock and no chance go in.

use crate::crd::{BlockchainNetwork, Mode as SpecMode, Switch};
use crate::names;
use crate::observe::Observed;
use crate::validate::keys::{Keys, ValidatorKey};
use crate::validate::{Problem, Settings};
use aitbc_core::genesis::{Faucet, Genesis, GenesisAccount, GenesisValidator, Mode, Staking};
use aitbc_core::params::Parameters;

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
    accounts: Vec<(String, i64)>,
    faucet: Switch,
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
            mode: match network.spec.consensus.mode {
                SpecMode::Poa => Mode::Poa,
            },
            accounts: genesis.accounts.iter().map(|a| (a.address.clone(), a.balance)).collect(),
            faucet: genesis.faucet,
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
    match observed.genesis_json() {
        Some(json) => adopt(wish, &wanted, json),
        None => first(wish, &wanted, began),
    }
}

fn build(wish: &GenesisWish, keys: &Keys) -> Result<Genesis, Problem> {
    let accounts = wish.accounts.iter().map(|(address, balance)| {
        let address = address.parse().map_err(|error| invalid(&format!("genesis.accounts: {error}")))?;
        Ok(GenesisAccount { address, balance: u64::try_from(*balance).unwrap_or(0) })
    });
    let validator = |key: &ValidatorKey| GenesisValidator { public_key: key.public, weight: 1, stake: 0 };
    let genesis = Genesis {
        chain_id: wish.chain_id.clone(),
        mode: wish.mode,
        validators: keys.known.values().map(validator).collect(),
        accounts: accounts.collect::<Result<_, Problem>>()?,
        faucet: match wish.faucet {
            Switch::Enabled => Some(Faucet { balance: FAUCET_BALANCE, max_amount: FAUCET_MAX_AMOUNT }),
            Switch::Disabled => None,
        },
        receipts: None,
        parameters: Parameters { block_time_ms: wish.block_time_ms, ..Parameters::default() },
        staking: Staking::beginning_with(keys.known.len()),
    };
    genesis.check().map_err(|error| invalid(&error.to_string()))?;
    Ok(genesis)
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
    let fields = [
        ("chainID", found.chain_id == wanted.chain_id),
        ("consensus.mode", found.mode == wanted.mode),
        ("the validators' keys", found.validators == wanted.validators),
        ("genesis.accounts", found.accounts == wanted.accounts),
        ("genesis.faucet", found.faucet.is_some() == wanted.faucet.is_some()),
        ("consensus.blockTime", found.parameters.block_time_ms == wanted.parameters.block_time_ms),
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
