//! `recover`: a database that was restored, or whose owner vouches for it (protocol.md A3, A9).

use super::fail;
use crate::config::Config;
use crate::node;
use aitbc_core::env::exit;
use aitbc_core::memory::{Cause, Memory};
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// `recover`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// YAML file of settings; environment variables stand over it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Vouch that no vote of this key can do harm that is missing in the database and that no other validator has: none above the
    /// last final block that it has now, so let it catch up first. If that is wrong, the validator may vote twice: only where more than
    /// a third of the voting power is gone for good.
    #[arg(long)]
    assume_clean: bool,
}

/// Writes it into the memory record; a node that runs on the database is fenced and ends with 70.
pub(super) async fn run(args: Args) -> u8 {
    let config = match Config::load(args.config.as_deref(), |name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => return fail(&error.into(), exit::CONFIGURATION),
    };
    let changed = node::change_memory(&config, |memory, decided| match args.assume_clean {
        true => memory.vouched_for(decided),
        false => memory.quarantined(Cause::Command),
    });
    match changed.await {
        Ok(memory) => {
            println!("{}", told(&memory));
            0
        }
        Err(error) => {
            let code = error.exit_code();
            fail(&error.into(), code)
        }
    }
}

fn told(memory: &Memory) -> String {
    if memory.quarantine.is_some() {
        return "quarantined: start the node; it votes again once validators heavier than two thirds have told it their highest votes, \
                which takes a second where they are up"
            .into();
    }
    let (epoch, slot) = memory.vouched_to;
    format!(
        "the database counts as complete because you said so; start the node, once all validators that are left run. It has all that was \
         decided up to slot {slot} of epoch {epoch}; votes above that they still have it takes back from them"
    )
}
