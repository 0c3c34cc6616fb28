//! What one bad validator of four costs the chain: throughput, finality and pauses, with it well, dead for good, or slow.

use crate::load::{self, Latencies, Load};
use crate::localnet::{Database, Localnet, Shape, Wiring};
use crate::proxy::Faults;
use crate::seed::Seed;
use crate::subscriber::Event;
use crate::wait;
use crate::wallet::Wallet;
use aitbc_core::params::Parameters;
use anyhow::Result;
use std::time::{Duration, Instant};

/// Which one is bad.
const BAD: usize = 3;
/// Those that clients send to.
const GOOD: [usize; 3] = [0, 1, 2];
/// What a slow validator says arrives so much later, and what is said to it.
pub const SLOW: Duration = Duration::from_millis(300);
/// Until the chain has taken notice: longer than `skip_after` (C11).
const SETTLE: Duration = Duration::from_secs(4);
/// A pause between two blocks under load that somebody would notice.
pub const NOTICED: Duration = Duration::from_millis(250);

/// How the fourth validator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fourth {
    /// As the others.
    Well,
    /// Its process is gone.
    Dead,
    /// All its traffic is late by [`SLOW`], both ways.
    Slow,
}

impl Fourth {
    /// In the order of reports.
    pub const ALL: [Fourth; 3] = [Fourth::Well, Fourth::Dead, Fourth::Slow];

    /// For reports.
    pub fn name(self) -> &'static str {
        match self {
            Fourth::Well => "well",
            Fourth::Dead => "dead",
            Fourth::Slow => "slow",
        }
    }
}

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What keeps the blocks.
    pub database: Database,
    /// Of keys and choices.
    pub seed: Seed,
    /// Distinct senders.
    pub senders: usize,
    /// Length of each of both measurements.
    pub time: Duration,
    /// Transfers a second while finality is measured: well below what the machine can do, so that it waits for the chain.
    pub rate: u32,
    /// Accepted and not yet final at any time while throughput is measured.
    pub in_flight: u64,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// How the fourth validator was.
    pub fourth: Fourth,
    /// Final transactions a second, as many as it takes.
    pub final_tx_per_second: f64,
    /// Final blocks a second meanwhile.
    pub blocks_per_second: f64,
    /// Milliseconds from send to final at the fixed rate.
    pub p50_ms: f64,
    /// The same, of 99 of 100.
    pub p99_ms: f64,
    /// Of those, how many did not become final.
    pub failed: u64,
    /// Longest pause between two blocks at the fixed rate.
    pub longest_pause: Duration,
    /// Pauses of at least [`NOTICED`] a minute.
    pub noticed_a_minute: f64,
}

/// Starts a chain whose links run through proxies, makes the fourth validator bad, and measures at the others.
///
/// # Errors
/// Where the chain does not come up, stops, or breaks an invariant.
pub async fn measure(options: &Options, fourth: Fourth) -> Result<Report> {
    let mut net = Localnet::start_shape(Shape {
        validators: 4,
        database: options.database,
        seed: options.seed,
        accounts: options.senders,
        parameters: Parameters::default(),
        wiring: Wiring::Proxied,
    })
    .await?;
    match fourth {
        Fourth::Well => {}
        Fourth::Dead => net.nodes[BAD].process.kill().await?,
        Fourth::Slow => net.network()?.set_all_of(BAD, Faults { delay: SLOW, ..Faults::default() }),
    }
    wait::let_it_run(SETTLE).await;

    let mut senders = std::mem::take(&mut net.wallets);
    let (latencies, pauses) = at_fixed_rate(&net, &mut senders, options).await?;
    let (final_tx_per_second, blocks_per_second) = at_full_speed(&net, senders, options).await?;
    net.network()?.heal();
    net.finish().await?;

    let noticed = pauses.iter().filter(|pause| **pause >= NOTICED).count();
    Ok(Report {
        fourth,
        final_tx_per_second,
        blocks_per_second,
        p50_ms: latencies.quantile(0.5),
        p99_ms: latencies.quantile(0.99),
        failed: latencies.failed,
        longest_pause: pauses.iter().max().copied().unwrap_or_default(),
        noticed_a_minute: noticed as f64 * 60.0 / options.time.as_secs_f64(),
    })
}

/// Time to finality, and the times between blocks.
async fn at_fixed_rate(
    net: &Localnet,
    senders: &mut [Wallet],
    options: &Options,
) -> Result<(Latencies, Vec<Duration>)> {
    let subscriber = net.subscribe(GOOD[0], &["new_blocks"]).await?;
    let latencies = load::open_loop(net, senders, options.rate, options.time, &GOOD).await?;
    Ok((latencies, pauses(&subscriber.take())))
}

/// Final transactions and blocks a second.
async fn at_full_speed(net: &Localnet, senders: Vec<Wallet>, options: &Options) -> Result<(f64, f64)> {
    let load = Load::closed_loop_on(net, senders, options.in_flight, &GOOD).await?;
    wait::let_it_run(SETTLE).await;
    let (before, start) = (net.metrics(GOOD[0]).await?, Instant::now());
    wait::let_it_run(options.time).await;
    let (after, seconds) = (net.metrics(GOOD[0]).await?, start.elapsed().as_secs_f64());
    load.stop().await?;
    let rate = |name: &str| (after.sum(name) - before.sum(name)) / seconds;
    Ok((rate("blockchain_transactions_total"), rate("blockchain_blocks_total")))
}

/// Times between blocks.
fn pauses(blocks: &[Event]) -> Vec<Duration> {
    blocks.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}
