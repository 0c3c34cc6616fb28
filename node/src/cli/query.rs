//! `query`: asks a node and prints the answer.

use super::{Format, output};
use crate::client::Client;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::receipt::Name;
use anyhow::Result;
use clap::Subcommand;

/// Where `--rpc` is not given.
pub(super) const DEFAULT_RPC: &str = "http://127.0.0.1:9080";

/// What to ask, and whom.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// REST address of the node.
    #[arg(long, global = true, env = "AITBC_RPC", default_value = DEFAULT_RPC)]
    rpc: String,
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// The last final block.
    Head,
    /// A block by height; the last one without.
    Block {
        /// Height.
        height: Option<u64>,
        /// With whole transactions.
        #[arg(long)]
        full: bool,
    },
    /// An account.
    Balance {
        /// Whose.
        address: Address,
        /// With a proof of it.
        #[arg(long)]
        proof: bool,
    },
    /// What became of a transaction.
    Tx {
        /// Its id.
        id: Hash,
    },
    /// What a receipt minted.
    Receipt {
        /// Its provider.
        #[arg(long)]
        provider: Address,
        /// Its receipt_id.
        #[arg(value_parser = super::tx::name)]
        id: Name,
    },
    /// Receipts that minted, newest first: all, or those of a job or a provider.
    Receipts {
        /// The job's name.
        #[arg(long, value_parser = super::tx::name, conflicts_with = "provider")]
        job: Option<Name>,
        /// The provider.
        #[arg(long)]
        provider: Option<Address>,
        /// Most that are shown.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
    },
    /// What a client locked for a job.
    Escrow {
        /// The client.
        #[arg(long)]
        client: Address,
        /// The job's name.
        #[arg(value_parser = super::tx::name)]
        job: Name,
    },
    /// The validator set, candidates for the next ones, and the terms.
    Validators,
    /// How many units there are, were made and unmade.
    Supply,
    /// The other validators, as this node sees them.
    Peers,
    /// Why there is no block: who or what is waited for, since when.
    Doctor,
    /// Pending transactions.
    Mempool {
        /// Most that are shown.
        #[arg(long, default_value_t = 100)]
        limit: u64,
    },
    /// Where the node is and how it does.
    Sync,
    /// Genesis and its hash.
    Genesis,
}

pub(super) async fn run(args: Args, format: Format) -> Result<()> {
    let client = Client::new(&args.rpc)?;
    match args.question {
        Question::Head => output::print(format, &client.get_head().await?),
        Question::Block { height, full } => output::print(format, &client.get_block(height, full).await?),
        Question::Balance { address, proof } => output::print(format, &client.get_balance(&address, proof).await?),
        Question::Tx { id } => output::print(format, &client.transaction(&id).await?),
        Question::Receipt { provider, id } => output::print(format, &client.receipt(&provider, &id).await?),
        Question::Receipts { job, provider, limit } => {
            output::print(format, &client.receipts(job.as_ref(), provider.as_ref(), limit).await?)
        }
        Question::Escrow { client: who, job } => output::print(format, &client.escrow(&who, &job).await?),
        Question::Validators => output::print(format, &client.validators().await?),
        Question::Peers => output::print(format, &client.peers().await?),
        Question::Doctor => output::print(format, &client.doctor().await?),
        Question::Mempool { limit } => output::print(format, &client.mempool(limit).await?),
        Question::Sync => output::print(format, &client.sync_status().await?),
        Question::Genesis => output::print(format, &client.genesis().await?),
        Question::Supply => output::print(format, &client.supply().await?),
    }
}
