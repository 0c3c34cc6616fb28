//! Measures a chain of real processes on this machine: throughput, finality, memory, processor time.

use crate::ledger_reader::LedgerReader;
use crate::load::{self, Latencies, Load};
use crate::localnet::{Database, Localnet, START_LIMIT, Shape, Wiring};
use crate::metrics::Metrics;
use crate::node_process::node_binary;
use crate::postgres::Postgres;
use crate::process_stats;
use crate::seed::Seed;
use crate::wait;
use crate::wallet::Wallet;
use crate::work;
use aitbc_core::genesis::Genesis;
use aitbc_core::ledger::ResultCode;
use aitbc_core::params::{MAX_GENESIS_ACCOUNTS, MAX_TRANSFERS, Parameters};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Units each sender beyond genesis is endowed with.
const ENDOWMENT: u64 = 500_000;
/// Seconds of load before the measurement begins.
const WARM_UP: Duration = Duration::from_secs(3);
/// Transactions in final blocks by result; those without effect in any case.
const RESULTS: &str = "blockchain_transaction_results_total";

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of validators.
    pub validators: usize,
    /// What keeps the blocks.
    pub database: Database,
    /// Of keys and choices.
    pub seed: Seed,
    /// Distinct senders.
    pub senders: usize,
    /// Length of each measurement under load.
    pub time: Duration,
    /// Accepted and not yet final at any time, closed loop.
    pub in_flight: u64,
    /// Transfers a second of the open loop; 0 leaves it out.
    pub rate: u32,
    /// Single transfers on an idle chain; 0 leaves it out.
    pub singles: usize,
    /// Time at rest before memory is read.
    pub rest: Duration,
    /// Percent of the load that are receipts and bonds, half and half; 0: transfers only, on a chain of authorities.
    pub mix: usize,
}

/// What was measured in one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `sqlite` or `postgres`.
    pub database: &'static str,
    /// Its version.
    pub version: String,
    /// Distinct senders.
    pub senders: usize,
    /// Successful transactions in final blocks, a second.
    pub final_tx_per_second: f64,
    /// In final blocks without effect, over the measurement.
    pub without_effect: f64,
    /// The same by result.
    pub without_effect_by_code: BTreeMap<String, f64>,
    /// Of those: receipts that minted and bonds that took effect, as /rpc/supply tells, a second. Receipts hold two more signatures.
    pub receipts_and_bonds_per_second: [f64; 2],
    /// Final blocks a second under load.
    pub blocks_per_second: f64,
    /// Milliseconds from send to final on an idle chain: p50, p99.
    pub idle_ms: Option<[f64; 2]>,
    /// The same at `rate` transfers a second: p50, p99.
    pub loaded_ms: Option<[f64; 2]>,
    /// Transfers a second of the open loop.
    pub rate: u32,
    /// Those of the open loop that did not become final, and the first reason.
    pub failed: u64,
    /// Of the first.
    pub first_failure: Option<String>,
    /// Largest resident memory of a node at rest, MB.
    pub idle_mb: f64,
    /// Largest resident memory of a node after the load, MB.
    pub loaded_mb: f64,
    /// Refused for good, by code.
    pub refused: BTreeMap<String, u64>,
    /// Sent again because a node was too busy.
    pub retried: u64,
    /// Share of all cores over the measurement under load, by component; nodes by thread name.
    pub cpu_percent: BTreeMap<String, f64>,
}

/// Starts a chain, measures, stops it, checks what must always hold.
///
/// # Errors
/// Where the chain does not come up, stops, or breaks an invariant.
pub async fn measure(options: &Options) -> Result<Report> {
    let genesis_accounts = options.senders.min(MAX_GENESIS_ACCOUNTS);
    let shape = Shape {
        validators: options.validators,
        database: options.database,
        seed: options.seed,
        accounts: genesis_accounts,
        parameters: Parameters::default(),
        wiring: Wiring::Direct,
    };
    let allow = |genesis: &mut Genesis| {
        if options.mix > 0 {
            work::allow(genesis, options.seed)
        }
    };
    let mut net = Localnet::prepare_with(shape, allow).await?;
    net.start_all()?;
    net.wait_for_height(1, START_LIMIT).await?;
    let version = LedgerReader::open(&net.nodes[0].database_url)?.version().await?;
    wait::let_it_run(options.rest).await;
    let idle_mb = memory_mb(&net);

    let mut senders = std::mem::take(&mut net.wallets);
    endow(&net, &mut senders, options).await?;
    work::assign(&net, &mut senders, options.mix).await?;
    let idle = load::one_by_one(&net, senders.first_mut().context("no senders")?, options.singles).await?;
    let loaded = match options.rate {
        0 => Latencies::default(),
        rate => {
            let all: Vec<usize> = (0..net.nodes.len()).collect();
            load::open_loop(&net, &mut senders, rate, options.time, &all).await?
        }
    };

    let load = Load::closed_loop(&net, senders, options.in_flight).await?;
    wait::let_it_run(WARM_UP.min(options.time)).await;
    let before = Sample::take(&net).await?;
    wait::let_it_run(options.time).await;
    let after = Sample::take(&net).await?;
    let loaded_mb = memory_mb(&net);
    let counters = load.counters.clone();
    load.stop().await?;
    net.finish().await?;

    let seconds = (after.at - before.at).as_secs_f64();
    let without_effect = after.without_effect - before.without_effect;
    let quantiles = |l: &Latencies| (l.count() > 0).then(|| [l.quantile(0.5), l.quantile(0.99)]);
    Ok(Report {
        database: options.database.name(),
        version,
        senders: options.senders,
        final_tx_per_second: (after.transactions - before.transactions - without_effect) / seconds,
        without_effect,
        without_effect_by_code: after.failures_since(&before),
        receipts_and_bonds_per_second: after.work_since(&before).map(|count| count / seconds),
        blocks_per_second: (after.blocks - before.blocks) / seconds,
        idle_ms: quantiles(&idle),
        loaded_ms: quantiles(&loaded),
        rate: options.rate,
        failed: loaded.failed + idle.failed,
        first_failure: idle.first_failure.or(loaded.first_failure),
        idle_mb,
        loaded_mb,
        refused: counters.refused(),
        retried: counters.retried.load(Ordering::Relaxed),
        cpu_percent: after.cpu_since(&before),
    })
}

/// Gives units to senders beyond those that genesis can endow.
async fn endow(net: &Localnet, senders: &mut Vec<Wallet>, options: &Options) -> Result<()> {
    let more = (senders.len()..options.senders).map(|i| Wallet::new(options.seed.key("account", i as u64)));
    let more: Vec<Wallet> = more.collect();
    let expiry = net.expiry().await?;
    for (i, group) in more.chunks(MAX_TRANSFERS).enumerate() {
        let to: Vec<_> = group.iter().map(Wallet::address).collect();
        let signed = senders[i].pay_all(&net.chain, &to, ENDOWMENT, expiry);
        net.nodes[0].rpc.send_final(&signed, &net.chain).await?;
    }
    senders.extend(more);
    Ok(())
}

fn memory_mb(net: &Localnet) -> f64 {
    let bytes = net.nodes.iter().filter_map(|n| process_stats::resident_bytes(n.process.pid()?)).max();
    bytes.unwrap_or(0) as f64 / 1e6
}

/// Process id of a server, from the file that it keeps beside its data.
fn postmaster(server: &Postgres) -> Option<u32> {
    let directory = server.psql("postgres", "SHOW data_directory").ok()?;
    std::fs::read_to_string(format!("{directory}/postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()
}

/// Counters of one moment.
struct Sample {
    at: Instant,
    blocks: f64,
    transactions: f64,
    without_effect: f64,
    /// Minted and at stake, of /rpc/supply.
    supply: [f64; 2],
    metrics: Metrics,
    cpu: BTreeMap<String, f64>,
    machine: (f64, f64),
}

impl Sample {
    async fn take(net: &Localnet) -> Result<Sample> {
        let metrics = net.metrics(0).await?;
        let supply = net.nodes[0].rpc.get("/rpc/supply").await?.ok()?;
        let units = |name: &str| supply[name].as_f64().with_context(|| format!("no {name} in {supply}"));
        let mut cpu = BTreeMap::new();
        for node in &net.nodes {
            let pid = node.process.pid().context("a node has ended")?;
            for (thread, seconds) in process_stats::cpu_by_thread(pid) {
                *cpu.entry(format!("node {thread}")).or_insert(0.0) += seconds;
            }
        }
        for server in &net.servers {
            *cpu.entry("postgres".into()).or_insert(0.0) += postmaster(server).map_or(0.0, process_stats::cpu_of_tree);
        }
        let own: f64 = process_stats::cpu_by_thread(std::process::id()).values().sum();
        cpu.insert("load generator".into(), own);
        Ok(Sample {
            at: Instant::now(),
            blocks: metrics.sum("blockchain_blocks_total"),
            transactions: metrics.sum("blockchain_transactions_total"),
            without_effect: metrics.sum(RESULTS) - metrics.value(RESULTS, "code=\"OK\""),
            supply: [units("minted")?, units("staked")?],
            metrics,
            cpu,
            machine: process_stats::machine_cpu(),
        })
    }

    fn failures_since(&self, before: &Sample) -> BTreeMap<String, f64> {
        let count = |metrics: &Metrics, code: &str| metrics.value(RESULTS, &format!("code=\"{code}\""));
        let failures = ResultCode::ALL.into_iter().filter(|code| *code != ResultCode::Ok).map(ResultCode::name);
        failures
            .map(|code| (code.to_owned(), count(&self.metrics, code) - count(&before.metrics, code)))
            .filter(|(_, count)| *count > 0.0)
            .collect()
    }

    /// Receipts and bonds that took effect: no reward is minted, nothing is slashed or unbonded.
    fn work_since(&self, before: &Sample) -> [f64; 2] {
        let [minted, staked] = [0, 1].map(|i| self.supply[i] - before.supply[i]);
        [minted / work::MINTED as f64, staked / work::BOND as f64]
    }

    fn cpu_since(&self, before: &Sample) -> BTreeMap<String, f64> {
        let all = self.machine.1 - before.machine.1;
        let share = |seconds: f64| (seconds / all.max(1e-9) * 1_000.0).round() / 10.0;
        let mut parts: BTreeMap<String, f64> = self
            .cpu
            .iter()
            .map(|(name, seconds)| (name.clone(), share(seconds - before.cpu.get(name).unwrap_or(&0.0))))
            .filter(|(_, percent)| *percent >= 0.1)
            .collect();
        parts.insert("machine, all busy".into(), share(self.machine.0 - before.machine.0));
        parts
    }
}

/// The machine in a few words.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// Cores.
    pub cores: usize,
    /// Memory, GB.
    pub memory_gb: f64,
    /// Kernel.
    pub kernel: String,
    /// The measured binary.
    pub node_binary: String,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} · {} cores · {} GB · Linux {}", self.processor, self.cores, self.memory_gb, self.kernel)
    }
}

impl Machine {
    /// This machine.
    ///
    /// # Errors
    /// Where there is no node binary.
    pub fn this() -> Result<Machine> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal");
        let kib: f64 = memory.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
        Ok(Machine {
            processor: value(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gb: (kib * 1_024.0 / 1e8).round() / 10.0,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            node_binary: node_binary()?.display().to_string(),
        })
    }
}

/// The run that is in the middle by `figure`.
///
/// # Errors
/// Where there is no run.
pub fn median<R>(mut runs: Vec<R>, figure: impl Fn(&R) -> f64) -> Result<R> {
    if runs.is_empty() {
        bail!("no run to take the median of");
    }
    runs.sort_by(|a, b| figure(a).total_cmp(&figure(b)));
    Ok(runs.swap_remove((runs.len() - 1) / 2))
}
