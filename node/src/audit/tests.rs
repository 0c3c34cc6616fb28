//! `verify` of a chain whose validators change: by their own execution, and by what no header may say.

use super::*;
use crate::storage::reader::Reader;
use crate::tests::chain::{BLOCKS, Chain, Made, chain, changed, secret, set_of};
use aitbc_core::evidence::{Class, Evidence};
use aitbc_core::hash::plain;
use aitbc_core::vote::{Kind, Statement};

const PLAN: Plan = Plan { start: Start::Genesis, to: None, account: None, transaction: None };

async fn audit(chain: &Chain, rules: Rules, plan: &Plan) -> Result<Report, AuditError> {
    let blocks = chain.blocks.len() as u64;
    let stored = chain.store(blocks, blocks).await;
    let source = Source::Database(Reader::open(&stored.url, &chain.identity.chain).await.expect("readable"));
    run_by(&source, &chain.identity.genesis, rules, plan, |_, _| {}).await
}

/// What is wrong with a chain, by its own rules.
async fn wrong(chain: &Chain, plan: &Plan) -> String {
    audit(chain, chain.rules.clone(), plan).await.expect_err("something is wrong").to_string()
}

#[tokio::test]
async fn l2_a_chain_whose_validators_change_verifies_from_genesis() {
    let chain = chain(7 * BLOCKS);
    let report = audit(&chain, chain.rules.clone(), &PLAN).await.expect("right");
    assert_eq!((report.to, report.headers, report.executed_to), (21, 21, Some(21)));
    assert_eq!((report.certificates, report.batches, report.state_height), (21, 21, Some(21)));
}

#[tokio::test]
async fn e1_validators_that_the_state_does_not_name_are_wrong_however_many_signed() {
    let chain = chain(3 * BLOCKS);
    // By rules under which nothing changes who validates.
    let error = audit(&chain, Rules::of(&chain.identity.genesis), &PLAN).await.expect_err("wrong").to_string();
    assert!(error.contains("block 4: next_set_hash is"), "{error}");
    let lie = changed(3 * BLOCKS, |header| {
        if header.height == 8 {
            header.next_set_hash = set_of(0).hash();
        }
    });
    let error = wrong(&lie, &PLAN).await;
    assert!(error.contains("block 8: next_set_hash is"), "{error}");
}

#[tokio::test]
async fn m5_an_epoch_ends_where_genesis_says() {
    let longer = changed(2 * BLOCKS, |header| {
        if header.height == BLOCKS + 1 {
            (header.epoch, header.slot, header.parent_slot) = (0, BLOCKS + 1, BLOCKS);
        }
    });
    let error = wrong(&longer, &PLAN).await;
    assert!(error.contains("block 4: epoch is 0, expected 1"), "{error}");
}

#[tokio::test]
async fn x1_evidence_is_judged_by_the_set_of_its_own_epoch() {
    let (before, now) = (set_of(3), set_of(4));
    let index = (0..4u16).find(|index| before.get(*index).map(|m| m.key) != now.get(*index).map(|m| m.key));
    let index = index.expect("one has left");
    let guilty = before.get(index).expect("a member").key;
    let key = (1..=9).map(secret).find(|key| key.public() == guilty).expect("a member");
    let id = chain(1).identity.chain;
    let vote = |digest| Vote::sign(Statement { epoch: 3, slot: 2, kind: Kind::Notar, digest }, &id, index, &key);
    let evidence = Evidence::of_votes(vote(plain(b"a")), vote(plain(b"b")), &id);
    let chain = changed(5 * BLOCKS, |header| {
        if header.height == 4 * BLOCKS + 2 {
            header.evidence.push(evidence.clone());
        }
    });
    let report = audit(&chain, chain.rules.clone(), &PLAN).await.expect("right");
    assert_eq!(report.executed_to, Some(5 * BLOCKS));
    let record = RecordKey::Evidence { key: guilty, epoch: 3, class: Class::Notars };
    assert!(chain.state(5 * BLOCKS).record(&record).is_some());
}

#[tokio::test]
async fn l2_an_audit_that_executes_nothing_ends_where_validators_change_that_it_cannot_know() {
    let error = wrong(&chain(3 * BLOCKS), &Plan { start: Start::Height(5), ..PLAN }).await;
    assert!(error.contains("the set after block 6 has hash"), "{error}");
}

#[tokio::test]
async fn v6_x1_batches_and_evidence_of_epochs_before_the_start_are_unchecked_and_later_ones_are_not() {
    let id = chain(1).identity.chain;
    let vote = |digest| Vote::sign(Statement { epoch: 3, slot: 2, kind: Kind::Notar, digest }, &id, 0, &secret(1));
    let evidence = Evidence::of_votes(vote(plain(b"a")), vote(plain(b"b")), &id);
    let chain = changed(5 * BLOCKS, |header| {
        if header.height == 4 * BLOCKS + 2 {
            header.evidence.push(evidence.clone());
        }
    });
    let stored = chain.store(5 * BLOCKS, 5 * BLOCKS).await;
    let source = Source::Database(Reader::open(&stored.url, &id).await.expect("readable"));
    let items: Vec<Item> = chain.blocks[4 * BLOCKS as usize..].iter().map(item).collect();
    // As from a header whose set is that of genesis again.
    let client = light::Client::before(id, (*set_of(4)).clone(), &items[0].header);
    let plan = Plan { start: Start::Height(4 * BLOCKS + 1), ..PLAN };
    let begun = begin(&source, &chain.identity.genesis, chain.rules.clone(), &plan, client).await;
    let mut audit = begun.expect("begins");
    audit.take(Chunk { items, wrong: None }).await.expect("right");
    assert_eq!((audit.report.unchecked, audit.report.batches, audit.report.headers), (2, 2, 3));
}

fn item(block: &Made) -> Item {
    let header = block.candidate.header.clone();
    let batches = block.batches.iter().map(|batch| (*batch.batch).clone()).collect();
    Item { header, leader: Some(block.candidate.signature), cert: Some(block.cert.clone()), batches: Some(batches) }
}
