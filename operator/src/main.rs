//! Entry point: `run` the controller, or print the custom resource definition (`crd`).

use aitbc_operator::crd::definition;
use aitbc_operator::lease;
use aitbc_operator::run::{self, Options};
use aitbc_operator::telemetry::{self, LogFormat};
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;

/// Version and image belong together: they are released as one.
const NODE_IMAGE: &str = concat!("aitbc/blockchain-node:", env!("CARGO_PKG_VERSION"));

/// Runs BlockchainNetworks on Kubernetes.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Looks after the networks of the cluster.
    Run(RunArgs),
    /// Prints the CustomResourceDefinition as YAML.
    Crd,
}

#[derive(Args)]
struct RunArgs {
    /// Image of the node where a network names none.
    #[arg(long, env = "NODE_IMAGE", default_value = NODE_IMAGE)]
    node_image: String,

    /// The one namespace to look after. Empty: all of them.
    #[arg(long, env = "WATCH_NAMESPACE", default_value = "")]
    watch_namespace: String,

    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, env = "ADMIN_ADDRESS", default_value = "0.0.0.0:8080")]
    admin_address: SocketAddr,

    /// Namespace of the Lease that one operator leads by. Empty: it leads alone.
    #[arg(long, env = "POD_NAMESPACE", default_value = "")]
    lease_namespace: String,

    /// Name of this process in the Lease and in events.
    #[arg(long, env = "POD_NAME", default_value = "aitbc-operator")]
    name: String,

    /// What is logged: error, warn, info, debug, trace, or a tracing filter.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    log_level: String,

    /// How it is logged.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "json")]
    log_format: LogFormat,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Crd => print!("{}", definition::yaml()?),
        Command::Run(args) => start(args).await?,
    }
    Ok(())
}

async fn start(args: RunArgs) -> anyhow::Result<()> {
    telemetry::start(&args.log_level, args.log_format);
    let client = kube::Client::try_default().await?;
    let lease = (!args.lease_namespace.is_empty()).then(|| lease::Settings {
        namespace: args.lease_namespace,
        name: "aitbc-operator".into(),
        identity: args.name.clone(),
    });
    let options = Options {
        node_image: args.node_image,
        namespace: Some(args.watch_namespace).filter(|namespace| !namespace.is_empty()),
        admin: Some(args.admin_address),
        lease,
        instance: args.name,
    };
    let mut stopped = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = stopped.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    run::run(client, options, stop).await
}
