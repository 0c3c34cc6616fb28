//! The command line: what can be asked of `aitbc-node`, one file a group of commands.
//!
//! `run`, `devnet` and `init-devnet` become a node or several (`start.rs`); everything else is a client and ends at once.

mod genesis;
mod keys;
mod output;
mod query;
mod recover;
mod sim;
mod start;
mod tx;
mod verify;

use clap::{Parser, Subcommand, ValueEnum};
use start::{DevnetArgs, RunArgs};

/// A validator of an AITBC blockchain, and the tools around it.
#[derive(Debug, Parser)]
#[command(name = "aitbc-node", version, about, max_term_width = 100)]
pub struct Cli {
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For programs.
    Json,
    /// For people.
    Table,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run a validator.
    Run(RunArgs),
    /// Run a whole chain on this machine: keys, genesis, validators, a funded account.
    Devnet(DevnetArgs),
    /// Only write the files of a devnet; then `run --config DIR/validator-0.yaml`.
    InitDevnet(DevnetArgs),
    /// Put a validator whose database was restored into quarantine, so that it never votes twice.
    Recover(recover::Args),
    /// Make and look at keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Make and check genesis files.
    #[command(subcommand)]
    Genesis(genesis::Command),
    /// Sign transactions here and send them to a node.
    #[command(subcommand)]
    Tx(tx::Command),
    /// Ask a node.
    Query(query::Args),
    /// Check a node or a database again, from genesis: every header, certificate, signature and root.
    Verify(verify::Args),
    /// Print the OpenAPI document of the REST interface.
    Openapi,
    /// Replay a simulated run of consensus by its seed.
    Sim(sim::Args),
}

/// Does it; answers the exit code of the process.
pub async fn run(cli: Cli) -> u8 {
    let format = cli.output;
    let outcome = match cli.command {
        Command::Run(args) => return start::run(args).await,
        Command::Devnet(args) => return start::devnet(args).await,
        Command::InitDevnet(args) => return start::init_devnet(args).await,
        Command::Recover(args) => return recover::run(args).await,
        Command::Verify(args) => return verify::run(args, format).await,
        Command::Keys(command) => keys::run(command, format),
        Command::Genesis(command) => genesis::run(command, format),
        Command::Tx(command) => tx::run(command, format).await,
        Command::Query(args) => query::run(args, format).await,
        Command::Openapi => openapi(),
        Command::Sim(args) => sim::run(args),
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => fail(&error, 1),
    }
}

fn openapi() -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(&crate::rpc::openapi::document())?);
    Ok(())
}

/// One line with the whole chain of causes.
fn fail(error: &anyhow::Error, code: u8) -> u8 {
    eprintln!("aitbc-node: {error:#}");
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_commands_are_understood() {
        let tx = "--rpc http://h:1 --key k.pem --fee 1 --nonce 2 --wait final";
        for line in [
            "run --config f.yaml",
            "run",
            "devnet --validators 4 --dir d --database sqlite",
            "init-devnet --dir d",
            "keys generate --out k.pem",
            "keys show k.pem --output json",
            "keys import --from - --out k.pem",
            "genesis build --chain-id x --validator aa --account ait1=5 --faucet 10:1 --out g.json",
            "genesis verify g.json",
            &format!("tx transfer {tx} --to ait1 --amount 5"),
            &format!("tx transfer-many {tx} --pay a=1 --pay b=2"),
            &format!("tx faucet {tx} --amount 5"),
            "query head",
            "query block",
            "query block 7 --full",
            "query balance ait1 --proof",
            "query tx 0x00",
            "query validators",
            "query peers",
            "query mempool",
            "query sync",
            "query genesis",
            "query supply",
            "query receipts --job j --limit 5",
            "query receipts --provider ait1",
            "verify --rpc http://h:1 --genesis g.json --from 0 --to 9 --account ait1 --transaction 0x00",
            "verify --database sqlite:///x.db --genesis g.json --trusted 7:0x00 --output json",
            "sim --seed 7 --nodes 4 --slots 500 --scenario twin",
            "query head --rpc http://h:1 --output json",
            "openapi",
        ] {
            let words = std::iter::once("aitbc-node").chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                // Values are checked while the line is read, so placeholders fail, but by their value only.
                assert_eq!(error.kind(), clap::error::ErrorKind::ValueValidation, "{line}: {error}");
            }
        }
    }

    #[test]
    fn an_escrow_is_locked_for_ten_blocks_at_least() {
        let refused = |blocks: u64| {
            let line = format!("aitbc-node tx escrow lock --key k.pem --job j --amount 5 --timeout-in {blocks}");
            Cli::try_parse_from(line.split(' ')).err().map(|error| error.to_string())
        };
        assert_eq!(refused(10), None);
        for few in [0, 1, 9] {
            assert!(refused(few).is_some_and(|error| error.contains("10..=100000000")), "{few}");
        }
    }
}
