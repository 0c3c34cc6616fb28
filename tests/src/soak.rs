//! A day's worth of blocks under mixed load, measured: does a validator's memory, or its number of files, threads or tasks,
//! grow, and how does its database?

use crate::ledger_reader::LedgerReader;
use crate::load::Load;
use crate::localnet::{Database, Localnet, START_LIMIT, STOP_LIMIT, Shape, Wiring};
use crate::mixed_load::{Counts, MixedLoad};
use crate::process_stats;
use crate::seed::Seed;
use crate::trend::Trend;
use crate::wait;
use aitbc_core::env::name;
use aitbc_core::params::{MIN_KEEP_BLOCKS, Parameters};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

/// Blocks of a day at the pace of an idle chain: one a second.
pub const DAY: u64 = 86_400;
/// Whoever keeps only the last blocks whole.
pub const PRUNES: usize = 2;
/// Whoever is stopped and started again all the time: its memory is judged only by how it ends.
pub const RESTARTS: usize = 3;
/// Those that transfers are sent to.
const STEADY: [usize; 3] = [0, 1, 2];
/// Most by which a line through resident memory may rise over the second half, as a share of the mean.
pub const MEMORY_GROWTH: f64 = 0.05;
/// Most files and tasks by which that line may rise, or that may be more at rest after the load than before it: connections of
/// the database that are opened when first needed.
pub const MORE_FILES: f64 = 8.0;
/// The same of threads, of which the runtime starts some when first needed and ends them late.
pub const MORE_THREADS: f64 = 8.0;
/// Least share of a database's growth over the second half that a line must explain.
pub const LINEAR: f64 = 0.99;
/// Blocks that the first half must have: what a node keeps of the last blocks is full by then, and old ones are pruned.
pub const WARM_UP: u64 = 2 * MIN_KEEP_BLOCKS;
/// Transactions that it must have: two generations of what a node remembers of them are full by then (114,688 each).
pub const WARM_UP_TRANSACTIONS: u64 = 230_000;
/// At rest, before anything is sent.
const REST: Duration = Duration::from_secs(5);
/// Longest time after the load until files, threads and tasks are as many as before it: readers of SQLite close after 60 s
/// without work, and are looked for every 60 s.
const SETTLE_LIMIT: Duration = Duration::from_secs(180);
/// Pause between two looks at that.
const SETTLE_EVERY: Duration = Duration::from_secs(5);
/// A chain too slow for its blocks is given up after so many times the least time.
const LONGEST: f64 = 6.0;
/// Until a validator that was started again signs.
const BACK: Duration = Duration::from_secs(60);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// What keeps the blocks.
    pub database: Database,
    /// Of keys and choices.
    pub seed: Seed,
    /// Least time of the load.
    pub time: Duration,
    /// Least number of blocks meanwhile.
    pub blocks: u64,
    /// Time between two samples.
    pub every: Duration,
    /// Time between two restarts.
    pub restart_every: Duration,
    /// Distinct senders of transfers.
    pub senders: usize,
    /// Transfers accepted and not yet final at any time: the fewer, the smaller and faster the blocks.
    pub in_flight: u64,
}

/// One validator at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Seconds since the load began; negative before it.
    pub seconds: f64,
    /// Which validator.
    pub validator: usize,
    /// Its last final block.
    pub height: u64,
    /// Transactions in final blocks since its process started.
    pub transactions: u64,
    /// Resident memory, bytes.
    pub memory: u64,
    /// Open file descriptors.
    pub files: u64,
    /// Threads.
    pub threads: u64,
    /// Tasks of the runtime that have not ended.
    pub tasks: u64,
    /// Bytes of the database; on SQLite with its logs.
    pub database: u64,
    /// Bytes of pending transactions.
    pub mempool: u64,
}

impl Sample {
    /// Names of [`Sample::to_csv`]'s fields.
    pub const CSV: &str =
        "seconds,validator,height,transactions,memory_bytes,files,threads,tasks,database_bytes,mempool_bytes";

    /// One line.
    pub fn to_csv(&self) -> String {
        format!(
            "{:.1},{},{},{},{},{},{},{},{},{}",
            self.seconds,
            self.validator,
            self.height,
            self.transactions,
            self.memory,
            self.files,
            self.threads,
            self.tasks,
            self.database,
            self.mempool
        )
    }

    /// Files, threads and tasks: what a connection, or a forgotten one, has of each.
    fn open(&self) -> [(&'static str, u64, f64); 3] {
        [("files", self.files, MORE_FILES), ("threads", self.threads, MORE_THREADS), ("tasks", self.tasks, MORE_FILES)]
    }
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// At rest before the load, one a validator.
    pub before: Vec<Sample>,
    /// Under load.
    pub samples: Vec<Sample>,
    /// At rest after the load, one a validator.
    pub after: Vec<Sample>,
    /// Seconds of load.
    pub seconds: f64,
    /// Times that a validator was stopped and started.
    pub restarts: usize,
    /// What clients did and were answered.
    pub counts: Counts,
    /// Transfers refused for good.
    pub refused: u64,
}

/// Starts a chain, puts it under load, samples it, and waits until it is at rest again.
///
/// # Errors
/// Where the chain does not come up, stops, or breaks an invariant.
pub async fn measure(options: &Options, mut progress: impl FnMut(&str)) -> Result<Report> {
    let mut net = start(options).await?;
    let readers = net.nodes.iter().map(|node| LedgerReader::open(&node.database_url)).collect::<Result<Vec<_>>>()?;
    wait::let_it_run(REST).await;
    let before = sample(&net, &readers, -REST.as_secs_f64()).await?;

    let payer = net.wallets.pop().context("no account that pays")?;
    let senders = std::mem::take(&mut net.wallets);
    let load = Load::closed_loop_on(&net, senders, options.in_flight, &STEADY).await?;
    let mixed = MixedLoad::start(&net, payer, load.counters.clone(), RESTARTS);
    let start = Instant::now();
    let (samples, restarts) = watch(&mut net, &readers, options, start, &mut progress).await?;
    let seconds = start.elapsed().as_secs_f64();
    let counts = mixed.stop().await?;
    let refused = load.counters.refused().values().sum();
    load.stop().await?;

    progress("load ended; waiting for the chain to be at rest as before");
    let after = settle(&net, &readers, &before, start).await?;
    net.finish().await?;
    Ok(Report { before, samples, after, seconds, restarts, counts, refused })
}

async fn start(options: &Options) -> Result<Localnet> {
    let mut net = Localnet::prepare(Shape {
        validators: 4,
        database: options.database,
        seed: options.seed,
        accounts: options.senders + 1,
        parameters: Parameters::default(),
        wiring: Wiring::Direct,
    })
    .await?;
    net.nodes[PRUNES].process.set_env(name::PRUNING, &MIN_KEEP_BLOCKS.to_string());
    net.start_all()?;
    net.wait_for_height(1, START_LIMIT).await?;
    Ok(net)
}

/// Samples until both time and blocks are enough; restarts one validator meanwhile. The chain must go on all the time.
async fn watch(
    net: &mut Localnet,
    readers: &[LedgerReader],
    options: &Options,
    start: Instant,
    progress: &mut impl FnMut(&str),
) -> Result<(Vec<Sample>, usize)> {
    let (mut samples, mut restarts, mut restarted): (Vec<Sample>, usize, Instant) = (Vec::new(), 0, start);
    let (first, mut last) = (net.height().await?, 0);
    loop {
        let seconds = start.elapsed().as_secs_f64();
        let now = sample(net, readers, seconds).await?;
        let height = now[0].height;
        ensure!(height > last, "no new block in {:?}: height {height}", options.every);
        last = height;
        let blocks = height - first;
        ensure!(
            seconds < options.time.as_secs_f64() * LONGEST,
            "{blocks} of {} blocks in {seconds:.0} s",
            options.blocks
        );
        samples.extend(now);
        progress(&told(&samples, first));
        if seconds >= options.time.as_secs_f64() && blocks >= options.blocks {
            return Ok((samples, restarts));
        }
        if restarted.elapsed() >= options.restart_every {
            let node = &mut net.nodes[RESTARTS];
            node.process.terminate(STOP_LIMIT).await?;
            node.process.start()?;
            net.wait_until_signs(RESTARTS, BACK).await?;
            (restarts, restarted) = (restarts + 1, Instant::now());
        }
        wait::let_it_run(options.every.saturating_sub(start.elapsed() - Duration::from_secs_f64(seconds))).await;
    }
}

/// The last samples in a line.
fn told(samples: &[Sample], first: u64) -> String {
    let latest = &samples[samples.len().saturating_sub(4)..];
    let all = |of: &dyn Fn(&Sample) -> String| latest.iter().map(of).collect::<Vec<_>>().join("/");
    let (seconds, height) = latest.first().map_or((0.0, first), |s| (s.seconds, s.height));
    format!(
        "{seconds:>6.0} s · {} blocks · memory {} MB · files {} · tasks {} · databases {} MB",
        height.saturating_sub(first),
        all(&|s| (s.memory >> 20).to_string()),
        all(&|s| s.files.to_string()),
        all(&|s| s.tasks.to_string()),
        all(&|s| (s.database >> 20).to_string()),
    )
}

/// Waits until nobody has much more open than before the load; after the limit whatever there is.
async fn settle(net: &Localnet, readers: &[LedgerReader], before: &[Sample], start: Instant) -> Result<Vec<Sample>> {
    let until = Instant::now() + SETTLE_LIMIT;
    loop {
        let now = sample(net, readers, start.elapsed().as_secs_f64()).await?;
        let pairs = || before.iter().zip(&now);
        if pairs().all(|(before, now)| more_open(before, now).is_empty()) || Instant::now() >= until {
            return Ok(now);
        }
        wait::let_it_run(SETTLE_EVERY).await;
    }
}

async fn sample(net: &Localnet, readers: &[LedgerReader], seconds: f64) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for (node, reader) in net.nodes.iter().zip(readers) {
        let metrics = net.metrics(node.index).await?;
        let pid = node.process.pid().with_context(|| format!("validator {} has ended", node.index))?;
        let database = match reader {
            LedgerReader::Sqlite { .. } => file_bytes(&net.database_dir(node.index))?,
            LedgerReader::Postgres(_) => reader.bytes().await? as u64,
        };
        samples.push(Sample {
            seconds,
            validator: node.index,
            height: metrics.sum("blockchain_height") as u64,
            transactions: metrics.sum("blockchain_transactions_total") as u64,
            memory: process_stats::resident_bytes(pid).context("its memory")?,
            files: process_stats::open_files(pid).context("its files")? as u64,
            threads: process_stats::threads(pid).context("its threads")? as u64,
            tasks: metrics.sum("blockchain_runtime_tasks") as u64,
            database,
            mempool: metrics.sum("blockchain_mempool_bytes") as u64,
        });
    }
    Ok(samples)
}

/// Bytes of the files of a folder.
fn file_bytes(folder: &Path) -> Result<u64> {
    std::fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

/// What is open after the load and was not before it, beyond what may be.
fn more_open(before: &Sample, after: &Sample) -> Vec<String> {
    let pairs = before.open().into_iter().zip(after.open());
    let more = pairs.filter(|((_, before, most), (_, after, _))| *after as f64 > *before as f64 + most);
    more.map(|((name, before, most), (_, after, _))| {
        format!("{after} {name} at rest after the load, {before} before it: at most {most} more may stay")
    })
    .collect()
}

/// What the samples of a validator say.
#[derive(Clone, Debug)]
pub struct Findings {
    /// Which validator.
    pub validator: usize,
    /// Resident memory over the seconds of the second half; bytes.
    pub memory: Option<Trend>,
    /// Bytes of its database over the height, second half.
    pub database: Option<Trend>,
    /// Bytes of its database for each transaction, second half; 0 where there was none.
    pub bytes_a_transaction: f64,
    /// Most files, threads and tasks at any time.
    pub most: [u64; 3],
    /// What must not be; empty: all is well.
    pub faults: Vec<String>,
}

/// Why the second half says nothing yet, if it was too soon.
pub fn too_short(report: &Report) -> Option<String> {
    let own: Vec<&Sample> = report.samples.iter().filter(|s| s.validator == 0).collect();
    let late = late(report, 0);
    let first_half = |of: fn(&Sample) -> u64| {
        let at = |sample: Option<&&Sample>| sample.map_or(0, |sample| of(sample));
        at(late.first()).saturating_sub(at(own.first()))
    };
    let (blocks, transactions) = (first_half(|s| s.height), first_half(|s| s.transactions));
    (blocks < WARM_UP || transactions < WARM_UP_TRANSACTIONS).then(|| {
        format!(
            "{blocks} blocks in the first half, {transactions} transactions: {WARM_UP} and {WARM_UP_TRANSACTIONS} are \
             needed to judge the second"
        )
    })
}

/// Judges each validator by its samples.
pub fn judge(report: &Report) -> Vec<Findings> {
    let databases: Vec<Option<Trend>> = report
        .before
        .iter()
        .map(|before| line(&late(report, before.validator), |s| s.height, |s| s.database))
        .collect();
    let pairs = report.before.iter().zip(&report.after).zip(&databases);
    pairs
        .map(|((before, after), database)| {
            let validator = before.validator;
            let mut faults = more_open(before, after);
            faults.extend(grows(report, validator));
            // What may shrink is compared with one that keeps all, not with a line.
            faults.extend(if validator == PRUNES {
                grows_faster(*database, databases[0])
            } else {
                not_linear(*database)
            });
            let own = || report.samples.iter().filter(move |s| s.validator == validator);
            let most = |of: fn(&Sample) -> u64| own().map(of).max().unwrap_or(0);
            Findings {
                validator,
                memory: memory(report, validator),
                database: *database,
                bytes_a_transaction: bytes_a_transaction(report, validator),
                most: [most(|s| s.files), most(|s| s.threads), most(|s| s.tasks)],
                faults,
            }
        })
        .collect()
}

/// A validator's samples of the second half.
fn late(report: &Report, validator: usize) -> Vec<&Sample> {
    report.samples.iter().filter(|s| s.validator == validator && s.seconds * 2.0 >= report.seconds).collect()
}

fn line(samples: &[&Sample], x: fn(&Sample) -> u64, y: fn(&Sample) -> u64) -> Option<Trend> {
    Trend::of(&samples.iter().map(|s| (x(s) as f64, y(s) as f64)).collect::<Vec<_>>())
}

fn memory(report: &Report, validator: usize) -> Option<Trend> {
    line(&late(report, validator), |s| s.seconds as u64, |s| s.memory)
}

/// Of the transactions in final blocks as the first validator counts them: it never restarts.
fn bytes_a_transaction(report: &Report, validator: usize) -> f64 {
    let rise = |samples: &[&Sample], of: fn(&Sample) -> u64| match samples {
        [first, .., last] => of(last) as f64 - of(first) as f64,
        _ => 0.0,
    };
    let transactions = rise(&late(report, 0), |s| s.transactions);
    if transactions > 0.0 { rise(&late(report, validator), |s| s.database) / transactions } else { 0.0 }
}

/// Memory, files, threads and tasks of one whose process lives through it all.
fn grows(report: &Report, validator: usize) -> Vec<String> {
    if validator == RESTARTS {
        return Vec::new();
    }
    let Some(memory) = memory(report, validator) else { return vec!["too few samples of its memory".into()] };
    let mut faults = Vec::new();
    if memory.growth() > MEMORY_GROWTH * memory.mean {
        faults.push(format!(
            "memory grew by {:.1} of {:.1} MB over the second half: at most {:.0} % may be",
            memory.growth() / 1e6,
            memory.mean / 1e6,
            MEMORY_GROWTH * 100.0
        ));
    }
    let samples = late(report, validator);
    for (number, (name, _, most)) in Sample::default().open().into_iter().enumerate() {
        let points: Vec<(f64, f64)> = samples.iter().map(|s| (s.seconds, s.open()[number].1 as f64)).collect();
        let growth = Trend::of(&points).map_or(0.0, |trend| trend.growth());
        if growth > most {
            faults.push(format!("{growth:.1} more {name} over the second half: at most {most} may be"));
        }
    }
    faults
}

fn not_linear(database: Option<Trend>) -> Option<String> {
    match database {
        None => Some("too few samples of its database".into()),
        Some(trend) if trend.r2 < LINEAR => {
            Some(format!("a line explains {:.4} of its database's growth: at least {LINEAR} must be", trend.r2))
        }
        Some(_) => None,
    }
}

fn grows_faster(pruned: Option<Trend>, archive: Option<Trend>) -> Option<String> {
    match (pruned, archive) {
        (Some(pruned), Some(archive)) if pruned.slope < archive.slope => None,
        (Some(pruned), Some(archive)) => Some(format!(
            "its database grows by {:.0} bytes a block, one that keeps all by {:.0}",
            pruned.slope, archive.slope
        )),
        _ => Some("too few samples of its database".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: u64 = 40;

    /// Four validators over 390 s at a hundred blocks a second, each sample changed before it is kept.
    fn report(change: impl Fn(&mut Sample)) -> Report {
        let at = |validator: usize, number: u64| Sample {
            seconds: number as f64 * 10.0,
            validator,
            height: 1 + number * 1_000,
            transactions: number * 20_000,
            // A saw: what an allocator makes of a constant need.
            memory: 100_000_000 + number % 4 * 500_000,
            files: 40 + number % 3,
            threads: 12,
            tasks: 60 + number % 5,
            database: 5_000_000 + number * if validator == PRUNES { 30_000 } else { 200_000 },
            mempool: 0,
        };
        let rest = || (0..4).map(|validator| at(validator, 0)).collect();
        let mut report = Report { before: rest(), after: rest(), seconds: 390.0, ..Report::default() };
        report.samples = (0..SAMPLES).flat_map(|number| (0..4).map(move |v| at(v, number))).collect();
        report.samples.iter_mut().chain(&mut report.after).for_each(change);
        report
    }

    fn faults(report: &Report) -> Vec<(usize, String)> {
        let all = judge(report).into_iter();
        all.flat_map(|f| f.faults.into_iter().map(move |fault| (f.validator, fault))).collect()
    }

    /// The only fault is of this validator and has this word.
    fn only(report: &Report, validator: usize, word: &str) {
        let faults = faults(report);
        assert!(matches!(&faults[..], [(who, what)] if *who == validator && what.contains(word)), "{faults:?}");
    }

    #[test]
    fn a_level_memory_and_an_evenly_growing_database_are_no_fault_and_stated() {
        let report = report(|_| {});
        assert_eq!(faults(&report), []);
        let first = &judge(&report)[0];
        assert!(first.database.is_some_and(|d| (d.slope - 200.0).abs() < 1.0), "{first:?}");
        assert!((first.bytes_a_transaction - 10.0).abs() < 0.1, "{first:?}");
        assert_eq!(first.most, [42, 12, 64]);
    }

    #[test]
    fn memory_that_grows_over_the_second_half_is_a_fault_but_not_of_one_that_restarts() {
        let leak =
            |of: usize| report(move |s| s.memory += if s.validator == of { s.seconds as u64 * 40_000 } else { 0 });
        only(&leak(1), 1, "memory grew");
        assert_eq!(faults(&leak(RESTARTS)), []);
    }

    #[test]
    fn memory_that_grew_only_in_the_first_half_is_no_fault() {
        assert_eq!(faults(&report(|s| s.memory += (s.seconds as u64).min(190) * 200_000)), []);
    }

    #[test]
    fn tasks_that_become_more_are_a_fault() {
        only(&report(|s| s.tasks += if s.validator == 0 { s.seconds as u64 / 10 } else { 0 }), 0, "more tasks");
    }

    #[test]
    fn files_that_stay_open_after_the_load_are_a_fault_also_of_one_that_restarts() {
        let mut report = report(|_| {});
        report.after[RESTARTS].files += 9;
        only(&report, RESTARTS, "files at rest");
    }

    #[test]
    fn a_database_that_grows_by_leaps_is_a_fault() {
        only(
            &report(|s| s.database += if s.validator == 1 && s.seconds > 300.0 { 40_000_000 } else { 0 }),
            1,
            "a line",
        );
    }

    #[test]
    fn a_pruned_database_that_grows_as_one_that_keeps_all_is_a_fault() {
        let leak = report(|s| s.database += if s.validator == PRUNES { s.height * 2_000 } else { 0 });
        only(&leak, PRUNES, "bytes a block");
    }

    #[test]
    fn a_run_is_too_short_while_the_first_half_may_be_warm_up() {
        assert_eq!(too_short(&report(|_| {})), None);
        let slow = too_short(&report(|s| s.height /= 10)).expect("too short");
        assert!(slow.contains("2000 blocks in the first half"), "{slow}");
        let few = too_short(&report(|s| s.transactions /= 10)).expect("too short");
        assert!(few.contains("40000 transactions"), "{few}");
    }

    #[test]
    fn two_samples_are_too_few_to_judge() {
        let mut report = report(|_| {});
        report.samples.retain(|s| s.seconds < 1.0);
        assert!(faults(&report).len() >= 4);
    }
}
