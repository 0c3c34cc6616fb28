//! `aitbc-node`: parses the command line, starts, waits.

use aitbc_node::cli::{self, Cli};
use clap::Parser;
use std::process::ExitCode;

/// What a node allocates is small, and most of it is freed by another thread than asked for it: glibc's allocator takes a twentieth of a busy
/// node's time for that. On x86-64 alone: elsewhere the kernel's pages may be larger than those of the machine that compiles, where jemalloc
/// would not start.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
