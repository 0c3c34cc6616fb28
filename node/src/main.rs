//! `aitbc-node`: parses the command line, starts, waits.

use aitbc_node::cli::{self, Cli};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => {
            eprintln!("aitbc-node: the runtime does not start: {cause}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli::run(cli));
    // A blocking task that hangs must not hold the process: everything durable is durable.
    runtime.shutdown_background();
    ExitCode::from(code)
}
