//! `genesis`: makes and checks the file that all validators of a chain must share.

use super::{Format, output};
use crate::config::duration;
use aitbc_core::genesis::{Faucet, Genesis, GenesisAccount, GenesisValidator, Mode, Staking};
use aitbc_core::hash::Hash;
use aitbc_core::key::PublicKey;
use aitbc_core::params::Parameters;
use aitbc_core::terms::Terms;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Commands around genesis.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a genesis file.
    Build(Build),
    /// Check a genesis file and show what it says.
    Verify {
        /// The file.
        file: PathBuf,
        /// Fail where its hash is another.
        #[arg(long)]
        hash: Option<Hash>,
    },
}

/// What a new genesis says.
#[derive(Debug, Args)]
pub(super) struct Build {
    /// Name of the chain.
    #[arg(long)]
    chain_id: String,
    /// How validators are chosen: poa, pos or hybrid.
    #[arg(long, default_value = "poa", value_parser = mode)]
    mode: Mode,
    /// A validator: PUBLIC_KEY or PUBLIC_KEY:WEIGHT, in modes pos and hybrid PUBLIC_KEY:STAKE; once for each.
    #[arg(long = "validator", required = true, value_parser = validator)]
    validators: Vec<(PublicKey, Option<u64>)>,
    /// An endowed account: ADDRESS=BALANCE; once for each.
    #[arg(long = "account", value_parser = account)]
    accounts: Vec<GenesisAccount>,
    /// A faucet: BALANCE:MOST_OF_ONE_REQUEST.
    #[arg(long, value_parser = faucet)]
    faucet: Option<Faucet>,
    /// JSON file with the terms of receipts: what `receipts` of the genesis shall say.
    #[arg(long)]
    receipts: Option<PathBuf>,
    /// Longest pause between blocks, such as 1s or 500ms.
    #[arg(long, value_parser = time)]
    block_time: Option<Duration>,
    /// Blocks of an epoch, for which the validators are fixed; 1,000 if absent.
    #[arg(long)]
    epoch_blocks: Option<u64>,
    /// Least fee of a transaction.
    #[arg(long)]
    min_fee: Option<u64>,
    /// Least stake of a validator.
    #[arg(long)]
    min_stake: Option<u64>,
    /// Stake for each unit of voting power.
    #[arg(long)]
    unit: Option<u64>,
    /// Smallest units made by each block.
    #[arg(long)]
    block_reward: Option<u64>,
    /// File to write, must not be there; without it, the genesis goes to standard output.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Two parts of an argument.
fn pair<A: FromStr, B: FromStr>(text: &str, separator: char, form: &str) -> Result<(A, B), String> {
    let parts = text.split_once(separator).and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parts.ok_or_else(|| format!("{form} expected"))
}

fn validator(text: &str) -> Result<(PublicKey, Option<u64>), String> {
    let form = "PUBLIC_KEY (64 hex digits), PUBLIC_KEY:WEIGHT or PUBLIC_KEY:STAKE";
    if text.contains(':') {
        return pair(text, ':', form).map(|(public_key, power)| (public_key, Some(power)));
    }
    Ok((text.parse().map_err(|_| format!("{form} expected"))?, None))
}

pub(super) fn mode(text: &str) -> Result<Mode, String> {
    Mode::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| "poa, pos or hybrid expected".to_owned())
}

/// A validator with its weight or stake, as the mode has it.
fn with_power(mode: Mode, (public_key, power): (PublicKey, Option<u64>)) -> Result<GenesisValidator> {
    if mode != Mode::Poa {
        return Ok(GenesisValidator { public_key, weight: 1, stake: power.unwrap_or(0) });
    }
    let weight = u32::try_from(power.unwrap_or(1)).with_context(|| format!("weight of validator {public_key}"))?;
    Ok(GenesisValidator { public_key, weight, stake: 0 })
}

fn account(text: &str) -> Result<GenesisAccount, String> {
    pair(text, '=', "ADDRESS=BALANCE").map(|(address, balance)| GenesisAccount { address, balance })
}

fn faucet(text: &str) -> Result<Faucet, String> {
    pair(text, ':', "BALANCE:MOST_OF_ONE_REQUEST").map(|(balance, max_amount)| Faucet { balance, max_amount })
}

fn terms(path: &Path) -> Result<Terms> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} holds no terms of receipts", path.display()))
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "a duration such as 1s or 500ms expected".to_owned())
}

#[derive(Serialize)]
struct Shown<'a> {
    chain_id: &'a str,
    genesis_hash: Hash,
    supply: Option<u64>,
    quorum: u64,
    total_weight: u64,
    mode: Mode,
    parameters: &'a Parameters,
    staking: &'a Staking,
    validators: &'a [GenesisValidator],
    accounts: &'a [GenesisAccount],
    faucet: &'a Option<Faucet>,
    receipts: &'a Option<Terms>,
}

pub(super) fn run(command: Command, format: Format) -> Result<()> {
    match command {
        Command::Build(build) => self::build(build),
        Command::Verify { file, hash } => verify(&file, hash, format),
    }
}

fn build(build: Build) -> Result<()> {
    let defaults = Parameters::default();
    let block_time_ms = match build.block_time {
        Some(time) => u64::try_from(time.as_millis()).context("--block-time")?,
        None => defaults.block_time_ms,
    };
    let staking = Staking::beginning_with(build.validators.len());
    let staking = Staking {
        min_stake: build.min_stake.unwrap_or(staking.min_stake),
        unit: build.unit.unwrap_or(staking.unit),
        block_reward: build.block_reward.unwrap_or(staking.block_reward),
        ..staking
    };
    let genesis = Genesis {
        chain_id: build.chain_id,
        mode: build.mode,
        validators: build.validators.into_iter().map(|given| with_power(build.mode, given)).collect::<Result<_>>()?,
        accounts: build.accounts,
        faucet: build.faucet,
        receipts: build.receipts.as_deref().map(terms).transpose()?,
        parameters: Parameters {
            block_time_ms,
            min_fee: build.min_fee.unwrap_or(defaults.min_fee),
            epoch_blocks: build.epoch_blocks.unwrap_or(defaults.epoch_blocks),
            ..defaults
        },
        staking,
    };
    genesis.check()?;
    let Some(path) = build.out else {
        print!("{}", genesis.to_json());
        return Ok(());
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .with_context(|| format!("write {}, which must not be there", path.display()))?;
    file.write_all(genesis.to_json().as_bytes()).with_context(|| format!("write {}", path.display()))?;
    println!("{}", genesis.hash());
    Ok(())
}

fn verify(path: &Path, hash: Option<Hash>, format: Format) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let genesis = Genesis::from_json(&text).with_context(|| path.display().to_string())?;
    let found = genesis.hash();
    if let Some(expected) = hash
        && expected != found
    {
        bail!("{} has hash {found}, expected {expected}", path.display());
    }
    let set = genesis.validator_set()?;
    let shown = Shown {
        chain_id: &genesis.chain_id,
        genesis_hash: found,
        supply: genesis.supply(),
        quorum: set.quorum(),
        total_weight: set.total_weight(),
        mode: genesis.mode,
        parameters: &genesis.parameters,
        staking: &genesis.staking,
        validators: &genesis.validators,
        accounts: &genesis.accounts,
        faucet: &genesis.faucet,
        receipts: &genesis.receipts,
    };
    output::print(format, &shown)
}
