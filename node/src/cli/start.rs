//! `run`, `devnet`, `init-devnet`: from the command line to a running node.

use super::fail;
use super::genesis::{mode, time};
use crate::config::Config;
use crate::{devnet, node, telemetry};
use aitbc_core::env::exit;
use aitbc_core::genesis::Mode;
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
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
    /// How validators are chosen: poa, pos or hybrid.
    #[arg(long, default_value = "poa", value_parser = mode)]
    mode: Mode,
}

impl DevnetArgs {
    fn options(self) -> devnet::Options {
        devnet::Options {
            dir: self.dir,
            validators: self.validators,
            database: self.database,
            port_offset: self.port_offset,
            block_time_ms: u64::try_from(self.block_time.as_millis()).unwrap_or(u64::MAX),
            mode: self.mode,
        }
    }
}

/// Settings, then the node; the exit code says how it ended.
pub(super) async fn run(args: RunArgs) -> u8 {
    let config = match Config::load(args.config.as_deref(), |name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => return fail(&error.into(), exit::CONFIGURATION),
    };
    if let Err(error) = telemetry::start(&config) {
        return fail(&anyhow::anyhow!("LOG_LEVEL \"{}\" is no filter: {error}", config.log_level), exit::CONFIGURATION);
    }
    raise_open_files();
    match node::run(config).await {
        Ok(()) => 0,
        Err(error) => {
            let code = error.exit_code();
            fail(&error.into(), code)
        }
    }
}

/// A shell's soft limit, often 1,024 files, is meant for programs that call `select`; clients alone need more here.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(cause) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%cause, "the limit of open files stays; fewer connections are taken");
    }
}

pub(super) async fn devnet(args: DevnetArgs) -> u8 {
    match devnet::run(args.options()).await {
        Ok(()) => 0,
        Err(error) => fail(&error, 1),
    }
}

pub(super) async fn init_devnet(args: DevnetArgs) -> u8 {
    let options = args.options();
    match devnet::init(&options).await {
        Ok(_) => {
            let dir = options.dir.display();
            println!(
                "files of {} validators are in {dir}; start each: aitbc-node run --config {dir}/validator-0.yaml",
                options.validators
            );
            0
        }
        Err(error) => fail(&error, 1),
    }
}
