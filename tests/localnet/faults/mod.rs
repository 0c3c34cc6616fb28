//! Faults against real processes. Each scenario ends the same way: nothing told final is lost, no vote against another,
//! everybody back within the bound of protocol.md, and a line in the log that tells a human what happened.

/// A clock that leaps while its node runs.
mod clock;
/// A database without room.
mod disk_full;
/// Nodes and servers that stand still.
mod frozen;
/// Validators killed at random moments.
mod killed;
/// Networks cut in two, and healed.
mod partitions;
/// Links that lose, delay and break.
mod poor_links;
/// A votes table that refuses, or is gone.
mod votes_table;

use aitbc_core::params::Parameters;
use aitbc_tests::localnet::{Database, Localnet, Node, Shape, Wiring, run};
use aitbc_tests::seed::Seed;
use aitbc_tests::wait;
use aitbc_tests::witness::Witness;
use anyhow::{Result, bail, ensure};
use std::time::{Duration, Instant};

/// First Final after the end of a fault (protocol.md §10.9), counted from when bytes flow again.
const FIRST_FINAL: Duration = Duration::from_secs(3);
/// Longest pause of a chain of which at most a third is at fault.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Until a validator that was at fault votes again.
const BACK: Duration = Duration::from_secs(20);
/// Clients, each with an account of its own, that send all the time.
const CLIENTS: usize = 24;

/// Runs a scenario on four validators behind proxies, with clients and subscribers.
fn tormented(test: &str, database: Database, steps: impl AsyncFnOnce(&mut Localnet, &Witness) -> Result<()>) {
    run(test, async {
        let mut net = Localnet::prepare(shape(database, Seed::of(test))).await?;
        begin_and_end(&mut net, steps).await?;
        net.finish().await
    });
}

fn shape(database: Database, seed: Seed) -> Shape {
    let (parameters, wiring) = (Parameters::default(), Wiring::Proxied);
    Shape { validators: 4, database, seed, accounts: 4 + CLIENTS, parameters, wiring }
}

/// The scenario between the first block and the comparison of what was told with what is stored.
async fn begin_and_end(
    net: &mut Localnet,
    steps: impl AsyncFnOnce(&mut Localnet, &Witness) -> Result<()>,
) -> Result<()> {
    net.start_all()?;
    net.wait_for_height(1, aitbc_tests::localnet::START_LIMIT).await?;
    let senders = net.wallets.split_off(4);
    let witness = Witness::start(net, senders);
    witness.block_above(3, aitbc_tests::localnet::START_LIMIT).await?;
    steps(net, &witness).await?;
    witness.end(net).await
}

/// The chain goes on within the bound after a fault's end: from when bytes flow again everywhere, which takes TCP at most
/// as long again as the fault lasted, for its time-outs double, and new connections at most `RECONNECT`.
async fn goes_on(net: &Localnet, witness: &Witness, what: &str, faulty_since: Instant) -> Result<()> {
    /// Longest pause between two attempts to dial, an attempt that times out, and the next (node/src/gossip/limits.rs).
    const RECONNECT: Duration = Duration::from_secs(8);
    let (ended, before) = (Instant::now(), witness.height());
    let network = net.network()?;
    let limit = RECONNECT.max(ended - faulty_since + FIRST_FINAL);
    wait::until("bytes flow in every direction", limit, || async { network.all_arrived_since(ended).then_some(()) })
        .await?;
    let flowing = ended.elapsed();
    let first = witness.block_above(before, FIRST_FINAL).await? - ended;
    println!(
        "{what}: healed after {:?}, bytes flow again {flowing:?} later, first block {first:?}",
        ended - faulty_since
    );
    ensure!(first <= flowing + FIRST_FINAL, "{what}: first block {first:?} after the heal");
    Ok(())
}

/// Every validator votes again.
async fn all_vote(net: &Localnet) -> Result<()> {
    for index in 0..net.nodes.len() {
        net.wait_until_votes(index, BACK).await?;
    }
    Ok(())
}

/// Waits until a node's log has a line with all these words.
async fn log_tells(node: &Node, words: &[&str], limit: Duration) -> Result<()> {
    let what = format!("validator {} logs {words:?}", node.index);
    let line = wait::until(&what, limit, || async {
        let text = node.process.log_text();
        text.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
    })
    .await?;
    println!("validator {} tells: {line}", node.index);
    Ok(())
}

/// `GET /ready` says no, with a reason that contains a word.
async fn unready(node: &Node, word: &str, limit: Duration) -> Result<()> {
    let what = format!("validator {} is not ready: {word}", node.index);
    let body = wait::until_ok(Duration::from_millis(50), &what, limit, || async {
        let answer = node.rpc.get("/ready").await?;
        if answer.status != 503 || !answer.body.to_string().contains(word) {
            bail!("{} {}", answer.status, answer.body);
        }
        Ok(answer.body)
    })
    .await?;
    println!("validator {} is not ready: {body}", node.index);
    Ok(())
}
