//! `tx`: builds a transaction from what the node says, signs it here, sends it.

use super::genesis::time;
use super::query::DEFAULT_RPC;
use super::{Format, keys, output};
use crate::client::Client;
use crate::rpc::transaction::{Status, TransactionStatus};
use aitbc_core::hash::Hash;
use aitbc_core::json;
use aitbc_core::key::{Address, PublicKey, SecretKey};
use aitbc_core::params::{MAX_ESCROW_AHEAD, MAX_EXPIRY_AHEAD};
use aitbc_core::receipt::{AttestedReceipt, Name};
use aitbc_core::transaction::{Action, Lock, Motion, Payment, Stake, Term, Transaction};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Least blocks of an escrow: those that come while the transaction is on its way count too.
const MIN_TIMEOUT_IN: u64 = 10;

/// Kinds of transactions.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Pay one account.
    Transfer {
        /// Who receives.
        #[arg(long)]
        to: Address,
        /// Smallest units.
        #[arg(long)]
        amount: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Pay up to 64 accounts, all or none.
    TransferMany {
        /// ADDRESS=AMOUNT; once for each.
        #[arg(long = "pay", required = true, value_parser = payment)]
        payments: Vec<Payment>,
        #[command(flatten)]
        common: Common,
    },
    /// Mint what a receipt earns its provider and coordinators; anybody may send it.
    ClaimReceipt {
        /// JSON file: {"receipt": {…, "signature": {…}}, "attestations": [{"key_id", "sig"}]}.
        #[arg(long)]
        file: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Lock units for a job, pay its provider, have them back.
    Escrow {
        #[command(subcommand)]
        command: Escrow,
    },
    /// Put units at stake for a validator; signed by the owner it named.
    Bond {
        #[command(flatten)]
        stake: StakeArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Ask for units at stake back; signed by the owner.
    Unbond {
        #[command(flatten)]
        stake: StakeArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Say that a validator is ready; signed with the validator's own key.
    Activate {
        /// Who bonds, unbonds and is paid out; without it, the validator's own address.
        #[arg(long)]
        owner: Option<Address>,
        #[command(flatten)]
        common: Common,
    },
    /// Say that a jailed validator is ready again; signed with the validator's own key.
    Unjail {
        #[command(flatten)]
        common: Common,
    },
    /// Vote for a motion; signed with the key of a validator of the present set.
    Vote {
        #[command(flatten)]
        motion: MotionArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Take units from the faucet, where the chain has one.
    Faucet {
        /// Who receives; without it, the signer.
        #[arg(long)]
        to: Option<Address>,
        /// Smallest units.
        #[arg(long)]
        amount: u64,
        #[command(flatten)]
        common: Common,
    },
}

/// What can be done with an escrow.
#[derive(Debug, Subcommand)]
pub(super) enum Escrow {
    /// Lock units for a job; an attested receipt of it pays them out.
    Lock {
        /// The job's name, as its receipt will have it.
        #[arg(long, value_parser = name)]
        job: Name,
        /// Smallest units.
        #[arg(long)]
        amount: u64,
        /// Who may be paid; without it, whoever coordinators attest.
        #[arg(long)]
        provider: Option<Address>,
        /// Blocks from now on in which a receipt pays out, at least 10; then the units can be had back.
        #[arg(long, value_parser = clap::value_parser!(u64).range(MIN_TIMEOUT_IN..=MAX_ESCROW_AHEAD))]
        timeout_in: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Pay the provider of a job by its receipt; anybody may send it.
    Release {
        /// JSON file as for claim-receipt.
        #[arg(long)]
        file: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Have back what was locked for a job, after its timeout.
    Refund {
        /// The job's name.
        #[arg(long, value_parser = name)]
        job: Name,
        #[command(flatten)]
        common: Common,
    },
}

/// A part of a stake.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct StakeArgs {
    /// The validator's public key, 64 hex digits.
    #[arg(long)]
    validator: PublicKey,
    /// Smallest units.
    #[arg(long)]
    amount: u64,
}

impl From<StakeArgs> for Stake {
    fn from(args: StakeArgs) -> Stake {
        Stake { validator: args.validator, amount: args.amount }
    }
}

/// One motion.
#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct MotionArgs {
    /// Let a validator in: its public key.
    #[arg(long)]
    admit: Option<PublicKey>,
    /// Let a validator go: its public key.
    #[arg(long)]
    remove: Option<PublicKey>,
    /// Change a term: TERM=VALUE, of min_fee, min_stake, max_validators and unbonding_ms.
    #[arg(long, value_parser = set_term)]
    set: Option<Motion>,
    /// Schedule an upgrade: VERSION=HEIGHT.
    #[arg(long, value_parser = upgrade)]
    upgrade: Option<Motion>,
}

impl MotionArgs {
    /// The one that was given; clap lets neither none nor two through.
    fn motion(self) -> Result<Motion> {
        let (admit, remove) = (self.admit.map(Motion::Admit), self.remove.map(Motion::Remove));
        admit.or(remove).or(self.set).or(self.upgrade).context("a motion: --admit, --remove, --set or --upgrade")
    }
}

fn set_term(text: &str) -> Result<Motion, String> {
    let parts = text
        .split_once('=')
        .and_then(|(name, value)| Some((Term::ALL.into_iter().find(|term| term.name() == name)?, value.parse().ok()?)));
    let names = || Term::ALL.map(Term::name).join(", ");
    parts.map(|(term, value)| Motion::SetTerm { term, value }).ok_or_else(|| format!("TERM=VALUE, of {}", names()))
}

fn upgrade(text: &str) -> Result<Motion, String> {
    let parts = text.split_once('=').and_then(|(version, height)| Some((version.parse().ok()?, height.parse().ok()?)));
    let motion = parts.map(|(version, height)| Motion::ScheduleUpgrade { version, height });
    motion.ok_or_else(|| "VERSION=HEIGHT expected".to_owned())
}

/// What all kinds have in common.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// REST address of the node.
    #[arg(long, env = "AITBC_RPC", default_value = DEFAULT_RPC)]
    rpc: String,
    /// Key file of the sender.
    #[arg(long)]
    key: PathBuf,
    /// Smallest units for the proposer; without it, the least that is taken.
    #[arg(long)]
    fee: Option<u64>,
    /// Without it, the sender's next as the node says.
    #[arg(long)]
    nonce: Option<u64>,
    /// Blocks after which it may not be included any more.
    #[arg(long, default_value_t = MAX_EXPIRY_AHEAD / 2, value_parser = clap::value_parser!(u64).range(1..=MAX_EXPIRY_AHEAD))]
    expires_in: u64,
    /// Refuse to sign for any other chain than the one with this genesis hash.
    #[arg(long)]
    genesis_hash: Option<Hash>,
    /// What to wait for.
    #[arg(long, value_enum, default_value_t = Wait::None)]
    wait: Wait,
    /// How long to wait.
    #[arg(long, default_value = "30s", value_parser = time)]
    timeout: Duration,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// Until the node has taken it.
    None,
    /// Until it is final.
    #[value(alias = "finalized")]
    Final,
}

fn payment(text: &str) -> Result<Payment, String> {
    let parts = text.split_once('=').and_then(|(to, amount)| Some((to.parse().ok()?, amount.parse().ok()?)));
    parts.map(|(to, amount)| Payment { to, amount }).ok_or_else(|| "ADDRESS=AMOUNT expected".to_owned())
}

pub(super) fn name(text: &str) -> Result<Name, String> {
    let name = Name::new(text).filter(|name| !name.as_str().is_empty());
    name.ok_or_else(|| "1 to 64 characters of printable ASCII without \" and \\ expected".to_owned())
}

fn receipt(path: &Path) -> Result<Box<AttestedReceipt>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let attested = json::read(&text).and_then(|value| json::receipt::attested(&value));
    attested.map(Box::new).with_context(|| format!("{} holds no attested receipt", path.display()))
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    status: TransactionStatus,
    sender: Address,
    nonce: u64,
    fee: u64,
    expiry_height: u64,
}

pub(super) async fn run(command: Command, format: Format) -> Result<()> {
    match command {
        Command::Transfer { to, amount, common } => {
            send(common, format, |_, _| Action::Transfer(Payment { to, amount })).await
        }
        Command::TransferMany { payments, common } => {
            send(common, format, |_, _| Action::TransferMany { payments }).await
        }
        Command::ClaimReceipt { file, common } => {
            let receipt = receipt(&file)?;
            send(common, format, |_, _| Action::ClaimReceipt(receipt)).await
        }
        Command::Escrow { command } => escrow(command, format).await,
        Command::Bond { stake, common } => send(common, format, |_, _| Action::Bond(stake.into())).await,
        Command::Unbond { stake, common } => send(common, format, |_, _| Action::Unbond(stake.into())).await,
        Command::Activate { owner, common } => {
            send(common, format, |signer, _| Action::Activate { owner: owner.unwrap_or(signer) }).await
        }
        Command::Unjail { common } => send(common, format, |_, _| Action::Unjail).await,
        Command::Vote { motion, common } => {
            let motion = motion.motion()?;
            send(common, format, |_, _| Action::AuthorityVote(motion)).await
        }
        Command::Faucet { to, amount, common } => {
            send(common, format, |signer, _| Action::Faucet(Payment { to: to.unwrap_or(signer), amount })).await
        }
    }
}

async fn escrow(command: Escrow, format: Format) -> Result<()> {
    match command {
        Escrow::Lock { job: job_id, amount, provider, timeout_in, common } => {
            let lock = |height| Lock { job_id, provider, amount, timeout_height: height + timeout_in };
            send(common, format, |_, height| Action::LockEscrow(lock(height))).await
        }
        Escrow::Release { file, common } => {
            let receipt = receipt(&file)?;
            send(common, format, |_, _| Action::ReleaseEscrow(receipt)).await
        }
        Escrow::Refund { job, common } => send(common, format, |_, _| Action::RefundEscrow { job_id: job }).await,
    }
}

/// `action` is told the signer and the height of the chain.
async fn send(common: Common, format: Format, action: impl FnOnce(Address, u64) -> Action) -> Result<()> {
    let client = Client::new(&common.rpc)?;
    let key = keys::read(&common.key)?;
    let sender = key.public().address();
    let height = client.get_head().await?.height;
    let (chain, transaction) = prepare(&common, &client, &key, height, action(sender, height)).await?;
    transaction.check()?;
    let (nonce, fee, expiry_height) = (transaction.nonce, transaction.fee, transaction.expiry_height);
    let signed = transaction.sign(&chain, &key);
    let status = match common.wait {
        Wait::None => client.send(&signed).await?,
        Wait::Final => client.send_and_wait(&signed, common.timeout).await?,
    };
    let rejected = status.status == Status::Rejected;
    let code = status.code.clone().unwrap_or_default();
    output::print(format, &Shown { status, sender, nonce, fee, expiry_height })?;
    if rejected {
        bail!("the transaction was rejected: {code}");
    }
    Ok(())
}

/// Chain, fee, nonce and expiry as the node says, where they were not given.
async fn prepare(
    common: &Common,
    client: &Client,
    key: &SecretKey,
    height: u64,
    action: Action,
) -> Result<(Hash, Transaction)> {
    let info = client.genesis().await?;
    let chain = info.genesis.hash();
    ensure!(chain == info.genesis_hash, "{} tells a genesis hash that is not that of its genesis", common.rpc);
    if let Some(expected) = common.genesis_hash {
        ensure!(chain == expected, "{} is on chain {chain}, not on {expected}", common.rpc);
    }
    let nonce = match common.nonce {
        Some(nonce) => nonce,
        None => client.get_balance(&key.public().address(), false).await?.next_nonce,
    };
    let fee = match common.fee {
        Some(fee) => fee,
        None if action.fee_units() == 0 => 0,
        None => action.least_fee(client.validators().await?.terms.min_fee),
    };
    let expiry_height = height + common.expires_in;
    Ok((chain, Transaction { sender: key.public(), nonce, fee, expiry_height, action }))
}
