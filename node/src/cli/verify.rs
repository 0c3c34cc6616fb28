//! `verify`: checks a node, or a database, as an independent light client.

use super::{Format, fail, output};
use crate::audit::source::Source;
use crate::audit::{self, AuditError, Plan, Report, Start};
use crate::client::{Client, ClientError};
use crate::storage::StorageError;
use crate::storage::reader::Reader;
use aitbc_core::env::exit;
use aitbc_core::genesis::Genesis;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Time between two lines of progress.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// What to check.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// REST address of the node; without it and --database, AITBC_RPC or http://127.0.0.1:9080.
    #[arg(long)]
    rpc: Option<String>,
    /// Database to read instead: sqlite:///path or postgresql://user@host/database. Nothing is written to it.
    #[arg(long, conflicts_with = "rpc")]
    database: Option<String>,
    /// Genesis file: what is trusted.
    #[arg(long, env = "GENESIS_FILE")]
    genesis: PathBuf,
    /// First height; 0 begins at genesis, else a certificate must cover it. Blocks are executed from genesis only.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// HEIGHT:DIGEST of a header that is trusted; begins above it.
    #[arg(long, conflicts_with = "from")]
    trusted: Option<Trusted>,
    /// Last height; without it, the last block.
    #[arg(long)]
    to: Option<u64>,
    /// Also proves the balance of this account.
    #[arg(long)]
    account: Option<Address>,
    /// Also proves the place and the result of this transaction; over RPC only.
    #[arg(long, conflicts_with = "database")]
    transaction: Option<Hash>,
}

/// A header that somebody vouches for.
#[derive(Clone, Copy, Debug)]
struct Trusted {
    height: u64,
    digest: Hash,
}

impl FromStr for Trusted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        parts.map(|(height, digest)| Trusted { height, digest }).ok_or_else(|| "HEIGHT:DIGEST expected".to_owned())
    }
}

impl Args {
    fn plan(&self) -> Plan {
        let start = match (self.trusted, self.from) {
            (Some(Trusted { height, digest }), _) => Start::Trusted { height, digest },
            (None, 0) => Start::Genesis,
            (None, height) => Start::Height(height),
        };
        Plan { start, to: self.to, account: self.account, transaction: self.transaction }
    }

    async fn source(&self, chain: &Hash) -> Result<Source, AuditError> {
        if let Some(url) = &self.database {
            return Ok(Source::Database(Reader::open(url, chain).await?));
        }
        let from_environment = || std::env::var("AITBC_RPC").ok();
        let url = self.rpc.clone().or_else(from_environment);
        Ok(Source::Rpc(Client::new(url.as_deref().unwrap_or(super::query::DEFAULT_RPC))?))
    }
}

/// 0: all that was checked is right. 1: something is wrong or cannot be read. 78: genesis, URL or database do not fit.
pub(super) async fn run(args: Args, format: Format) -> u8 {
    let genesis = match read(&args.genesis) {
        Ok(genesis) => genesis,
        Err(error) => return fail(&error, exit::CONFIGURATION),
    };
    match verify(&args, &genesis, format).await {
        Ok(()) => 0,
        Err(error) => {
            let code = match error.downcast_ref() {
                Some(AuditError::Storage(StorageError::Foreign(_)) | AuditError::Rpc(ClientError::Url(_))) => {
                    exit::CONFIGURATION
                }
                _ => 1,
            };
            fail(&error, code)
        }
    }
}

fn read(path: &Path) -> Result<Genesis> {
    let text = std::fs::read_to_string(path).with_context(|| format!("--genesis: read {}", path.display()))?;
    Genesis::from_json(&text).with_context(|| format!("--genesis: {}", path.display()))
}

async fn verify(args: &Args, genesis: &Genesis, format: Format) -> Result<()> {
    let source = args.source(&genesis.hash()).await?;
    let (start, mut told) = (Instant::now(), Instant::now());
    let progress = |report: &Report, to: u64| {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tell(report, to, start.elapsed());
        }
    };
    let report = audit::run(&source, genesis, &args.plan(), progress).await?;
    tell(&report, report.to, start.elapsed());
    if let Some(height) = report.pruned_below {
        eprintln!("bodies below height {height} are pruned; headers and certificates verified");
    }
    output::print(format, &report)
}

/// A line of progress; results go to standard output, so this does not.
fn tell(report: &Report, to: u64, elapsed: Duration) {
    let Report { from, headers, certificates, transactions, .. } = report;
    let at = from.saturating_add(*headers).saturating_sub(1);
    let rate = *headers as f64 / elapsed.as_secs_f64().max(0.001);
    eprintln!(
        "block {at} of {to}: {headers} headers, {certificates} certificates, {transactions} transactions, {rate:.0} blocks/s"
    );
}
