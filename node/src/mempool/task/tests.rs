//! What is refused before it costs the node anything.

use super::*;
use crate::batches::BatchPool;
use crate::gossip::{Gossip, GossipConfig, Peers};
use crate::tests::chain::{Chain, Stored, chain, secret};
use crate::view::BlockSummary;
use aitbc_core::epoch::Sets;
use aitbc_core::hash::plain;
use aitbc_core::key::Signature;
use aitbc_core::ledger::ReceiptRules;
use aitbc_core::mempool::Limits;
use aitbc_core::receipt::{Attestation, AttestedReceipt, Receipt, Text};
use aitbc_core::state::State;
use aitbc_core::terms::{Coordinator, Terms};
use aitbc_core::transaction::{Action, Payment, Transaction};
use aitbc_core::validators::{Validator, ValidatorSet};

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn rules() -> Rules {
    let terms = Terms {
        mint_per_unit: 1,
        coordinator_parts_per_million: 0,
        coordinators: vec![Coordinator { public_key: key(11).public() }],
        coordinator_threshold: 1,
        epoch_cap: 9,
        provider_epoch_cap: 9,
        expiry_seconds: 9,
    };
    let receipts = ReceiptRules { chain_id: "devnet".into(), terms };
    Rules { chain: plain(b"chain"), min_fee: 1, receipts: Some(receipts), ..Rules::default() }
}

/// No signature in it is valid.
fn claim(coordinator: u8) -> SignedTransaction {
    let receipt = Receipt::required(
        (Text::new("r").expect("text"), Text::new("j").expect("text")),
        key(7).public(),
        Address([9; 20]),
        (1, Text::new("gpu_seconds").expect("text")),
        (1, 2),
    );
    let signature = Signature([7; 64]);
    let attestations = vec![Attestation { coordinator: key(coordinator).public(), signature }];
    forged(Action::ClaimReceipt(Box::new(AttestedReceipt { receipt, signature, attestations })))
}

fn forged(action: Action) -> SignedTransaction {
    let transaction = Transaction { sender: key(1).public(), nonce: 0, fee: 1, expiry_height: 9, action };
    SignedTransaction { transaction, signature: Signature([7; 64]) }
}

fn set_of(n: u8) -> Arc<ValidatorSet> {
    let member = Validator { key: key(n).public(), weight: 1 };
    Arc::new(ValidatorSet::new(vec![member]).expect("valid"))
}

/// Before the first block of an epoch with these sets.
fn snapshot(state: State, sets: Sets) -> Arc<Snapshot> {
    let head = BlockSummary {
        height: 0,
        slot: 0,
        hash: Hash::ZERO,
        parent_hash: Hash::ZERO,
        time_ms: 0,
        proposer: None,
        tx_count: 0,
        state_root: Hash::ZERO,
        results_root: Hash::ZERO,
    };
    Arc::new(Snapshot { head, state, parent_state: None, sets })
}

/// Of a node with this key, on a chain of one validator, that will have another one.
fn handle(own: &SecretKey, metrics: &Arc<Metrics>) -> Handle {
    let verifier = Arc::new(Verifier::new(Some(1), metrics.clone()).expect("threads"));
    let sets = Sets { next: set_of(3), ..Sets::genesis(set_of(1)) };
    let snapshot = watch::channel(snapshot(State::default(), sets)).1;
    let (commands, rules, metrics) = (mpsc::channel(1).0, Arc::new(rules()), metrics.clone());
    Handle { commands, verifier, rules, metrics, own: own.public(), snapshot }
}

#[tokio::test]
async fn a_node_that_does_not_validate_now_takes_no_transaction_though_it_will_in_the_next_epoch() {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    for own in [2, 3] {
        let answers = handle(&key(own), &metrics).submit_all(vec![claim(11), claim(12)]).await;
        assert_eq!(answers.len(), 2);
        assert!(answers.iter().all(|answer| matches!(answer, Err(SubmitError::NotValidator))), "{answers:?}");
    }
}

/// A pool of validator 1 that seals nothing yet, with what it needs to live.
async fn pool_of(chain: &Chain, stored: &Stored, snapshot: watch::Receiver<Arc<Snapshot>>) -> (Handle, impl Sized) {
    let (id, own) = (chain.identity.chain, Arc::new(key(1)));
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let verifier = Arc::new(Verifier::new(Some(1), metrics.clone()).expect("threads"));
    let ((core, inputs), (blocks, final_blocks)) = (mpsc::channel(8), mpsc::channel(8));
    let ((events, gossiped), (stop, stopped)) = (mpsc::channel(8), watch::channel(false));
    let config = GossipConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        peers: Vec::new(),
        chain: id,
        allowed: Peers::of_set(&set_of(1)),
        key: own.clone(),
        generation: 1,
        metrics: metrics.clone(),
    };
    let batch_pool = Arc::new(BatchPool::new(Sets::genesis(set_of(1))));
    let parts = Parts {
        chain: id,
        key: own,
        epochs: chain.epochs,
        generation: 1,
        pulse: Arc::new(Pulse::default()),
        snapshot,
        batches: Batches::start(id, batch_pool, verifier.clone(), stored.storage.clone(), core, metrics.clone()),
        gossip: Gossip::start(config, events, stopped).expect("starts"),
        verifier,
        subscriptions: Subscriptions::default(),
        metrics,
    };
    let handle = start(parts, Pool::new(chain.rules.clone(), Limits::default()), final_blocks);
    (handle, (inputs, blocks, gossiped, stop))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_the_set_says_so_of_all_that_it_has_not_sealed() {
    let chain = chain(1);
    let stored = chain.store(0, 0).await;
    let at = |n: u8| snapshot(chain.state(0), Sets::genesis(set_of(n)));
    let (snapshots, snapshot) = watch::channel(at(1));
    let (handle, _parts) = pool_of(&chain, &stored, snapshot).await;
    let payment = Action::Transfer(Payment { to: Address([9; 20]), amount: 1 });
    let sender = secret(90);
    let transaction = Transaction { sender: sender.public(), nonce: 0, fee: 1, expiry_height: 9, action: payment };
    let transaction = transaction.sign(&chain.identity.chain, &sender);
    let admitted = handle.submit_all(vec![transaction.clone()]).await.remove(0);
    let id = admitted.expect("a validator takes it");
    assert_eq!(handle.standing(id).await, Standing::Pending(Pending::Queued));
    snapshots.send_replace(at(2));
    // A question is answered before the pool is looked at.
    handle.standing(id).await;
    assert_eq!(handle.standing(id).await, Standing::Dropped(Reason::NotValidator));
    let refused = handle.submit_all(vec![transaction]).await.remove(0);
    assert!(matches!(refused, Err(SubmitError::NotValidator)), "{refused:?}");
}

#[tokio::test]
async fn what_every_block_would_refuse_is_refused_before_its_signatures_are_verified() {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let handle = handle(&key(1), &metrics);
    let payment = Action::Transfer(Payment { to: Address([9; 20]), amount: 1 });
    let answers = handle.submit_all(vec![claim(12), claim(11), forged(payment)]).await;
    let [stranger, coordinator, payment] = &answers[..] else { panic!("an answer each: {answers:?}") };
    let code = |answer: &Result<Hash, SubmitError>| match answer {
        Err(SubmitError::Rejected(rejected)) => Some(rejected.code()),
        _ => None,
    };
    assert_eq!(code(stranger), Some("UNKNOWN_COORDINATOR"), "{stranger:?}");
    assert!(matches!(coordinator, Err(SubmitError::InvalidSignature)), "{coordinator:?}");
    assert!(matches!(payment, Err(SubmitError::InvalidSignature)), "{payment:?}");
    assert_eq!(metrics.mempool_rejected.with_label_values(&["UNKNOWN_COORDINATOR"]).get(), 1);
}
