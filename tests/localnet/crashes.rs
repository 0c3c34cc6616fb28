//! Validators and databases killed, one or all: the chain pauses for less than two seconds, forgets nothing, heals itself.

use aitbc_core::hash::Hash;
use aitbc_tests::localnet::{Database, Localnet, scenario};
use aitbc_tests::rounds;
use aitbc_tests::subscriber::longest_pause;
use aitbc_tests::wait;
use aitbc_tests::wallet::Wallet;
use anyhow::{Context, Result, ensure};
use rand::RngExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest pause of the chain while one validator is missing.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a validator may take to sign again after its start.
const BACK: Duration = Duration::from_secs(20);

#[test]
#[ignore = "part of make chaos"]
fn a_validator_killed_with_9_pauses_the_chain_less_than_two_seconds_and_signs_again_on_sqlite() {
    scenario("kill one sqlite", 4, Database::Sqlite, each_killed_in_turn);
}

#[test]
fn a_validator_killed_with_9_pauses_the_chain_less_than_two_seconds_and_signs_again_on_postgres() {
    scenario("kill one postgres", 4, Database::Postgres, each_killed_in_turn);
}

async fn each_killed_in_turn(net: &mut Localnet) -> Result<()> {
    let subscriber = net.subscribe(0, &["new_blocks"]).await?;
    let mut rng = net.seed().rng("kills");
    for victim in [1, 2, 3] {
        // At any moment of a slot.
        wait::let_it_run(Duration::from_millis(rng.random_range(100..1_500))).await;
        let killed_at = Instant::now();
        net.nodes[victim].process.kill().await?;
        wait::let_it_run(Duration::from_secs(4)).await;
        net.nodes[victim].process.start()?;
        net.wait_until_signs(victim, BACK).await?;
        let (pause, height) = longest_pause(&subscriber.events(), killed_at);
        println!("validator {victim} killed and back: longest pause {pause:?}, height {height}");
        ensure!(pause < LONGEST_PAUSE, "no block for {pause:?} after validator {victim} was killed");
    }
    ensure!(subscriber.closed().is_none(), "the subscriber was cut off: {:?}", subscriber.closed());
    Ok(())
}

#[test]
fn the_postgres_of_one_validator_killed_with_9_pauses_the_chain_less_than_two_seconds_and_it_signs_again() {
    scenario("kill postgres", 4, Database::PostgresEach, async |net| {
        let subscriber = net.subscribe(0, &["new_blocks"]).await?;
        let killed_at = Instant::now();
        net.servers[3].kill()?;
        // It waits for its database, or, had it a vote under way whose fate is unknown, ends so that it is started anew:
        // at once or at any later moment, as the database tells.
        let victim = &mut net.nodes[3];
        let what = "validator 3 says that its database is away";
        wait::until(what, Duration::from_secs(10), async || {
            if victim.process.log_text().contains("a vote could not be stored") {
                return Some(());
            }
            let answer = victim.rpc.get("/ready").await.ok()?;
            (answer.status == 503 && answer.body.to_string().contains("database")).then_some(())
        })
        .await?;
        let height = net.nodes[0].rpc.height().await?;
        wait::until_ok(Duration::from_millis(50), "the others go on", Duration::from_secs(10), || async {
            let now = net.nodes[0].rpc.height().await?;
            ensure!(now >= height + 3, "{height}, now {now}");
            Ok(())
        })
        .await?;
        net.servers[3].start_again()?;
        net.start_again_until_votes(3, BACK).await?;
        net.wait_until_signs(3, BACK).await?;
        let (pause, _) = longest_pause(&subscriber.events(), killed_at);
        println!("Postgres killed and back: longest pause {pause:?}");
        ensure!(pause < LONGEST_PAUSE, "no block for {pause:?}");
        Ok(())
    });
}

#[test]
fn with_all_four_killed_at_once_under_load_nothing_reported_final_is_lost_on_sqlite() {
    scenario("kill all sqlite", 4, Database::Sqlite, all_killed_at_once);
}

#[test]
#[ignore = "part of make chaos"]
fn with_all_four_killed_at_once_under_load_nothing_reported_final_is_lost_on_postgres() {
    scenario("kill all postgres", 4, Database::Postgres, all_killed_at_once);
}

async fn all_killed_at_once(net: &mut Localnet) -> Result<()> {
    let mut rng = net.seed().rng("kills");
    let mut senders: Vec<Wallet> = net.wallets.split_off(4);
    for round in 0..rounds::rounds(3, 20) {
        let subscribers = futures_util::future::try_join_all((0..4).map(|i| net.subscribe(i, &["new_blocks"]))).await?;
        let reported = Arc::new(Mutex::new(Vec::new()));
        let clients = start_clients(net, senders, reported.clone()).await?;
        let time = Duration::from_millis(rng.random_range(1_000..2_500));
        wait::let_it_run(time).await;
        net.nodes.iter().try_for_each(|n| n.process.signal(rustix::process::Signal::KILL))?;
        for node in &mut net.nodes {
            node.process.exit(Duration::from_secs(5)).await?;
        }
        senders = futures_util::future::try_join_all(clients).await?;
        let reported = std::mem::take(&mut *reported.lock().unwrap_or_else(PoisonError::into_inner));
        let blocks: Vec<(u64, String)> = subscribers
            .iter()
            .flat_map(|s| s.events())
            .filter_map(|e| Some((e.data["height"].as_u64()?, e.data["hash"].as_str()?.to_owned())))
            .collect();
        let top = blocks.iter().map(|(height, _)| *height).max().context("no block was seen")?;
        ensure!(!reported.is_empty(), "nothing was reported final before the kill");

        let start = Instant::now();
        net.start_all()?;
        net.wait_for_height(top + 2, Duration::from_secs(30)).await?;
        println!(
            "round {round}: {} transfers and {} blocks reported final; at height {} again after {:?}",
            reported.len(),
            blocks.len(),
            top + 2,
            start.elapsed()
        );
        for (height, hash) in blocks {
            for node in &net.nodes {
                let found = node.rpc.block_hash(height).await?;
                ensure!(found == hash, "block {height} was {hash}, validator {} now has {found}", node.index);
            }
        }
        for (id, height) in reported {
            let node = &net.nodes[rng.random_range(0..4)];
            let status = node.rpc.status(id).await.with_context(|| format!("validator {} lost {id}", node.index))?;
            ensure!(status["status"] == "final" && status["height"] == height, "{id} at {height}: {status}");
        }
        for sender in &mut senders {
            sender.nonce = settled_nonce(net, sender).await?;
        }
    }
    for index in 0..4 {
        net.wait_until_signs(index, BACK).await?;
    }
    Ok(())
}

/// The next nonce, once nothing of the sender is pending any more: what was only pending may be lost or not.
async fn settled_nonce(net: &Localnet, sender: &Wallet) -> Result<u64> {
    wait::until_ok(Duration::from_millis(20), "pending transactions settle", Duration::from_secs(20), || async {
        let (_, nonce) = net.nodes[0].rpc.balance(sender.address()).await?;
        let pending = net.nodes[0].rpc.get("/rpc/mempool").await?.ok()?.to_string();
        ensure!(!pending.contains(&sender.address().to_string()), "still pending: {}", sender.address());
        Ok(nonce)
    })
    .await
}

/// Clients that send and wait, each with a sender of its own, until their validator is gone.
async fn start_clients(
    net: &Localnet,
    senders: Vec<Wallet>,
    reported: Arc<Mutex<Vec<(Hash, u64)>>>,
) -> Result<Vec<tokio::task::JoinHandle<Wallet>>> {
    let expiry = net.expiry().await?;
    let to = net.wallets[0].address();
    let clients = senders.into_iter().enumerate().map(|(i, mut sender)| {
        let (rpc, chain, reported) = (net.nodes[i % 4].rpc.clone(), net.chain, reported.clone());
        tokio::spawn(async move {
            loop {
                let signed = sender.transfer(&chain, to, 1, expiry);
                let Ok(outcome) = rpc.send_final(&signed, &chain).await else { return sender };
                let height = outcome["height"].as_u64().unwrap_or(0);
                reported.lock().unwrap_or_else(PoisonError::into_inner).push((signed.id(&chain), height));
            }
        })
    });
    Ok(clients.collect())
}
