//! A validator that signs what no honest one signs: every other convicts it, of everything, and of nothing else.

use crate::verify::verified;
use aitbc_core::batch::Batch;
use aitbc_core::evidence::Class;
use aitbc_core::hash::{Hash, plain};
use aitbc_core::message::Message;
use aitbc_core::vote::{Kind, Statement, Vote};
use aitbc_tests::abuser::Liar;
use aitbc_tests::localnet::{Database, Localnet, scenario};
use aitbc_tests::wait;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// Whose key signs twice, its own process being gone.
const CONVICT: usize = 3;
/// Whoever does not lie.
const HONEST: [usize; 3] = [0, 1, 2];
/// Until a liar is let in.
const LET_IN: Duration = Duration::from_secs(5);
/// Until all that is signed twice stands in final blocks: evidence waits for a leader that has it.
const CONVICTED: Duration = Duration::from_secs(20);

#[test]
fn whoever_signs_twice_is_convicted_of_each_class_by_all_and_its_blocks_verify_on_sqlite() {
    scenario("double signing sqlite", 4, Database::Sqlite, convicted);
}

#[test]
fn whoever_signs_twice_is_convicted_of_each_class_by_all_and_its_blocks_verify_on_postgres() {
    scenario("double signing postgres", 4, Database::Postgres, convicted);
}

async fn convicted(net: &mut Localnet) -> Result<()> {
    net.nodes[CONVICT].process.kill().await?;
    let key = net.seed().key("validator", CONVICT as u64);
    let liar = Liar::start(net, key, net.chain, net.nodes[0].gossip)?;
    liar.let_in(LET_IN).await?;
    let batches = two_batches(net).await?;
    wait::until_ok(Duration::from_millis(100), "every class stands in final blocks", CONVICTED, async || {
        let frontier = net.nodes[0].rpc.get("/rpc/consensus/doctor").await?.ok()?["frontier"]["slot"].as_u64();
        let slot = frontier.context("a frontier")? + 8;
        for message in contradictions(net, slot).into_iter().chain(batches.clone()) {
            // What finds no room is said again at the next look.
            let _ = liar.gossip.send(net.nodes[0].signer as u16, &message);
        }
        let found = classes(net, 0).await?;
        ensure!(found == all_classes(), "so far: {found:?}");
        Ok(())
    })
    .await?;
    drop(liar);

    let height = net.height().await?;
    net.wait_for_height(height + 1, CONVICTED).await?;
    for index in HONEST {
        let found = classes(net, index).await?;
        ensure!(found == all_classes(), "validator {index}: {found:?}");
    }
    // Only this one was told both; the others have it from blocks.
    let metrics = net.metrics(0).await?;
    for class in Class::ALL {
        let counted = metrics.value("blockchain_evidence_total", &format!("class=\"{}\"", class.name()));
        ensure!(counted == 1.0, "{counted} of {class:?} counted");
    }
    for index in HONEST {
        let rpc = net.nodes[index].rpc.base();
        verified(net, &["--rpc", rpc]).await.with_context(|| format!("validator {index}"))?;
    }
    Ok(())
}

fn all_classes() -> BTreeSet<String> {
    Class::ALL.iter().map(|class| class.name().to_owned()).collect()
}

/// Classes that a validator's state convicts of; all of them of the one that lies.
async fn classes(net: &Localnet, index: usize) -> Result<BTreeSet<String>> {
    let answer = net.nodes[index].rpc.get("/rpc/evidence").await?.ok()?;
    let found = answer["evidence"].as_array().context("a list")?;
    let liar = net.nodes[CONVICT].address.to_string();
    ensure!(found.iter().all(|one| one["validator"] == liar.as_str()), "somebody else is convicted: {answer}");
    let classes: Vec<&str> = found.iter().filter_map(|one: &Value| one["class"].as_str()).collect();
    let distinct: BTreeSet<String> = classes.iter().map(|class| (*class).to_owned()).collect();
    ensure!(distinct.len() == classes.len() && found.len() == classes.len(), "a class twice: {answer}");
    Ok(distinct)
}

/// Votes of one signer, each pair in a slot of its own (X2 a-d).
fn contradictions(net: &Localnet, slot: u64) -> Vec<Message> {
    let (one, other, none) = (plain(b"one"), plain(b"other"), Hash::ZERO);
    let pairs = [
        [(Kind::Notar, one), (Kind::Notar, other)],
        [(Kind::Skip, none), (Kind::Final, one)],
        [(Kind::Final, one), (Kind::Final, other)],
        [(Kind::Notar, one), (Kind::Final, other)],
    ];
    let key = net.seed().key("validator", CONVICT as u64);
    let signer = net.nodes[CONVICT].signer as u16;
    let vote = |slot, (kind, digest)| {
        Message::Vote(Vote::sign(Statement { epoch: 0, slot, kind, digest }, &net.chain, signer, &key))
    };
    (slot..).zip(pairs).flat_map(|(slot, pair)| pair.map(|said| vote(slot, said))).collect()
}

/// Two batches under one number (X2 e), each with a transfer that nobody else sends.
async fn two_batches(net: &mut Localnet) -> Result<Vec<Message>> {
    let expiry = net.expiry().await?;
    let key = net.seed().key("validator", CONVICT as u64);
    let author = net.nodes[CONVICT].signer as u16;
    let to = net.wallets[1].address();
    let transfers = [1, 2].map(|amount| net.wallets[0].transfer(&net.chain, to, amount, expiry));
    // Above every number that its own process has used.
    let seal = |tx| Batch::seal(&net.chain, &key, (0, author), u64::MAX >> 1, expiry, vec![tx]);
    Ok(transfers.map(|tx| Message::Batch(Box::new(seal(tx)))).to_vec())
}
