//! `run`, `devnet`, `init-devnet`: from the command line to a running node.

use super::fail;
use super::genesis::time;
use crate::config::Config;
use aitbc_core::env::exit;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// `run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// YAML file of settings; environment variables stand over it.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// `devnet` and `init-devnet`.
#[derive(Debug, Args)]
pub(super) struct DevnetArgs {
    /// How many validators.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=20))]
    validators: u16,
    /// Where files and databases go.
    #[arg(long, default_value = "devnet-data")]
    dir: PathBuf,
    /// `sqlite`, or the URL of a Postgres server in which each validator gets a database of its own.
    #[arg(long, default_value = "sqlite")]
    database: String,
    /// Added to every port, so that two devnets fit on one machine.
    #[arg(long, default_value_t = 0)]
    port_offset: u16,
    /// Longest pause between blocks.
    #[arg(long, default_value = "1s", value_parser = time)]
    block_time: Duration,
}

/// Settings, then the node; the exit code says how it ended.
pub(super) async fn run(args: RunArgs) -> u8 {
    let config = Config::load(args.config.as_deref(), |name| std::env::var(name).ok());
    match config {
        Ok(_) => fail(&anyhow::anyhow!("run: not in this build"), 1),
        Err(error) => fail(&error.into(), exit::CONFIGURATION),
    }
}

pub(super) async fn devnet(_: DevnetArgs) -> u8 {
    fail(&anyhow::anyhow!("devnet: not in this build"), 1)
}

pub(super) async fn init_devnet(_: DevnetArgs) -> u8 {
    fail(&anyhow::anyhow!("init-devnet: not in this build"), 1)
}
