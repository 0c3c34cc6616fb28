//! `recover`: a database that was restored, or whose owner vouches for it (protocol.md A3, A9).

use super::fail;
use crate::config::Config;
use crate::node;
use aitbc_core::env::exit;
use aitbc_core::memory::Cause;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// `recover`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// YAML file of settings; environment variables stand over it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Vouch that no vote of this key is missing in the database, instead of asking the other validators. If that is
    /// wrong, the validator may vote twice: only where more than a third of the voting power is gone for good.
    #[arg(long)]
    assume_clean: bool,
}

/// Writes it into the memory record; a node that runs on the database is fenced and ends with 70.
pub(super) async fn run(args: Args) -> u8 {
    let config = match Config::load(args.config.as_deref(), |name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => return fail(&error.into(), exit::CONFIGURATION),
    };
    let changed = node::change_memory(&config, |memory| match args.assume_clean {
        true => memory.vouched_for(),
        false => memory.quarantined(Cause::Command),
    });
    match changed.await {
        Ok(_) => {
            println!("{}", told(args.assume_clean));
            0
        }
        Err(error) => {
            let code = error.exit_code();
            fail(&error.into(), code)
        }
    }
}

fn told(assume_clean: bool) -> &'static str {
    if assume_clean {
        "the database counts as complete because you said so; start the node. If another validator shows a vote that is \
         missing after all, it is quarantined again"
    } else {
        "quarantined: start the node; it votes again once validators heavier than two thirds have told it their highest \
         votes, which takes a second where they are up"
    }
}
