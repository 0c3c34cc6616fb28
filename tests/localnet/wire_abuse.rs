//! Abuse of the gossip port of a running validator: whoever does it is dropped, memory stays, and the chain goes on.

use aitbc_core::hash::plain;
use aitbc_core::key::SecretKey;
use aitbc_core::message::Message;
use aitbc_core::vote::{Cert, Kind, Statement, Vote};
use aitbc_tests::abuser::{self, Liar, Tap};
use aitbc_tests::load::{self, Latencies};
use aitbc_tests::localnet::{Database, Localnet, scenario};
use aitbc_tests::process_stats;
use aitbc_tests::wait;
use aitbc_tests::wallet::Wallet;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// Who suffers it.
const VICTIM: usize = 0;
/// Whose key is misused, its own process being gone.
const MISUSED: usize = 3;
/// A handshake may take 3 s (node/src/gossip/limits.rs), a busy machine a bit more.
const DROPPED: Duration = Duration::from_secs(5);
/// Memory that abuse may cost.
const MORE_BYTES: u64 = 50_000_000;
/// Transfers a second while finality is compared.
const RATE: u32 = 100;
/// How long it is measured, quiet and abused.
const TIME: Duration = Duration::from_secs(4);
/// Finality below this is not compared: on two cores the scheduler decides it.
const COMPARED_FROM_MS: f64 = 50.0;
/// Connections of the slow one: more than one address may have waiting.
const SLOW_ONES: usize = 40;

#[test]
fn whoever_abuses_the_gossip_port_is_dropped_and_costs_neither_memory_nor_finality() {
    scenario("wire abuse", 4, Database::Sqlite, async |net| {
        net.nodes[MISUSED].process.kill().await?;
        let mut senders = net.wallets.split_off(4);
        let quiet = finality(net, &mut senders).await?;
        let before = memory(net)?;

        strangers(net).await?;
        replayed_handshake(net).await?;
        announced_gigabyte(net).await?;
        ping_flood(net).await?;
        let slow = slow_loris(net).await?;
        let abused = {
            let _flood = vote_flood(net).await?;
            finality(net, &mut senders).await?
        };
        drop(slow);

        let more = memory(net)?.saturating_sub(before);
        let p99 = |latencies: &Latencies| latencies.quantile(0.99);
        println!("p99 finality {:.1} ms quiet, {:.1} ms abused; {} bytes more memory", p99(&quiet), p99(&abused), more);
        ensure!(more <= MORE_BYTES, "{more} bytes more memory");
        ensure!(abused.failed == 0, "{:?}", abused.first_failure);
        let bound = 2.0 * p99(&quiet).max(COMPARED_FROM_MS);
        ensure!(p99(&abused) <= bound, "p99 finality {:.1} ms, bound {bound:.1}", p99(&abused));
        Ok(())
    });
}

async fn finality(net: &Localnet, senders: &mut [Wallet]) -> Result<Latencies> {
    load::open_loop(net, senders, RATE, TIME, &[VICTIM, 1, 2]).await
}

fn memory(net: &Localnet) -> Result<u64> {
    let pid = net.nodes[VICTIM].process.pid().context("the victim runs")?;
    process_stats::resident_bytes(pid).context("the victim's memory")
}

/// Waits until the victim has counted a refusal of this reason that it had not counted before.
async fn refuses(net: &Localnet, reason: &str, before: f64) -> Result<()> {
    wait::until_ok(Duration::from_millis(50), &format!("{reason} is counted"), DROPPED, || async {
        let now = refusals(net, reason).await?;
        ensure!(now > before, "{now} refusals");
        Ok(())
    })
    .await
}

async fn refusals(net: &Localnet, reason: &str) -> Result<f64> {
    let label = format!("reason=\"{reason}\"");
    Ok(net.metrics(VICTIM).await?.value("blockchain_network_refused_total", &label))
}

/// An unknown key on the right chain, and a validator's key on another chain.
async fn strangers(net: &Localnet) -> Result<()> {
    let stranger = SecretKey::from_seed([9; 32]);
    let misused = net.seed().key("validator", MISUSED as u64);
    let cases = [("unknown_key", stranger, net.chain), ("other_chain", misused, plain(b"another genesis"))];
    for (reason, key, chain) in cases {
        let before = refusals(net, reason).await?;
        let _liar = Liar::start(net, key, chain, net.nodes[VICTIM].gossip)?;
        refuses(net, reason, before).await?;
    }
    Ok(())
}

/// All that a validator said in a handshake that was let in, said again.
async fn replayed_handshake(net: &Localnet) -> Result<()> {
    let tap = Tap::start(net.nodes[VICTIM].gossip).await?;
    let key = net.seed().key("validator", MISUSED as u64);
    Liar::start(net, key, net.chain, tap.port)?.let_in(DROPPED).await?;
    let before = refusals(net, "noise").await?;
    let mut tcp = abuser::connect(net.nodes[VICTIM].gossip).await?;
    for piece in tap.heard()? {
        // The node may have closed before it heard all.
        let _ = tcp.write_all(&piece).await;
        wait::let_it_run(Duration::from_millis(20)).await;
    }
    abuser::closed(&mut tcp, DROPPED).await.context("after a replayed handshake")?;
    refuses(net, "noise", before).await
}

/// A frame that announces a gigabyte, before any key is proven.
async fn announced_gigabyte(net: &Localnet) -> Result<()> {
    let mut tcp = abuser::upgraded(net.nodes[VICTIM].gossip).await?;
    tcp.write_all(&abuser::frame(2, 1 << 30, &[0; 1 << 10])).await?;
    let took = abuser::closed(&mut tcp, DROPPED).await.context("after a gigabyte was announced")?;
    println!("a gigabyte announced: closed after {took:?}");
    ensure!(took < Duration::from_secs(1), "it went on reading for {took:?}");
    Ok(())
}

/// As many WebSocket pings as fit, instead of a handshake, and nobody reads the answers.
async fn ping_flood(net: &Localnet) -> Result<()> {
    let (mut tcp, start) = (abuser::upgraded(net.nodes[VICTIM].gossip).await?, Instant::now());
    let pings = abuser::frame(9, 100, &[0; 100]).repeat(100);
    let flood = async { while tcp.write_all(&pings).await.is_ok() {} };
    tokio::time::timeout(DROPPED, flood).await.context("pings were taken for ever")?;
    println!("pings: closed after {:?}", start.elapsed());
    Ok(())
}

/// Many connections that say a byte now and then: few are let in at a time, and those not for long.
async fn slow_loris(net: &Localnet) -> Result<Vec<tokio::net::TcpStream>> {
    let before = refusals(net, "unauthenticated_per_ip_max").await?;
    let mut slow = Vec::new();
    for _ in 0..SLOW_ONES {
        slow.push(abuser::connect(net.nodes[VICTIM].gossip).await?);
    }
    refuses(net, "unauthenticated_per_ip_max", before).await?;
    let start = Instant::now();
    let all = slow.iter_mut().map(async |tcp| {
        while start.elapsed() < DROPPED && tcp.write_all(b"G").await.is_ok() {
            wait::let_it_run(Duration::from_millis(100)).await;
        }
        start.elapsed()
    });
    let longest = futures_util::future::join_all(all).await.into_iter().max().unwrap_or_default();
    println!("{SLOW_ONES} slow connections: the last closed after {longest:?}");
    ensure!(longest < DROPPED, "open for {longest:?}");
    Ok(slow)
}

/// A validator that floods with votes for slots that are far away and certificates that are none. Ends when dropped.
async fn vote_flood(net: &Localnet) -> Result<Flood> {
    let key = net.seed().key("validator", MISUSED as u64);
    let signer = net.nodes[MISUSED].signer as u16;
    let (set, chain) = (net.genesis.validator_set()?, net.chain);
    let statement = |slot| Statement { epoch: 0, slot, kind: Kind::Notar, digest: plain(b"nothing") };
    let vote = |slot| Vote::sign(statement(slot), &chain, signer, &key);
    let mut messages: Vec<Message> = (0..500).map(|i| Message::Vote(vote(1_000_000 + i))).collect();
    messages.extend([1 << 63, u64::MAX].map(|slot| Message::Vote(vote(slot))));
    for slot in [100_000, 1 << 63] {
        let own = vote(slot);
        // Weight one below quorum, and signers that never signed.
        let claimed: Vec<_> = (0..2).chain([signer]).map(|index| (index, own.signature)).collect();
        messages.push(Message::Cert(Cert::collect(own.statement, &set, &[(signer, own.signature)])));
        messages.push(Message::Cert(Cert::collect(own.statement, &set, &claimed)));
    }
    let to = net.nodes[VICTIM].signer as u16;
    let liar = Liar::start(net, key, chain, net.nodes[VICTIM].gossip)?;
    liar.let_in(DROPPED).await?;
    let task = tokio::spawn(async move {
        loop {
            for message in &messages {
                // A message that finds no room is lost to nobody.
                let _ = liar.gossip.send(to, message);
            }
            wait::let_it_run(Duration::from_millis(10)).await;
        }
    });
    Ok(Flood(task))
}

/// Runs until it is dropped.
struct Flood(tokio::task::JoinHandle<()>);

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.abort();
    }
}
