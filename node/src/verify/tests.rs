//! Verdicts of groups against those of single signatures, culprits, bounds.

use super::*;
use aitbc_core::key::{Address, SecretKey};
use aitbc_core::receipt::{AttestedReceipt, Receipt, Text};
use aitbc_core::transaction::{Action, Payment, Transaction};

fn chain() -> Hash {
    hash::plain(b"test chain")
}

fn verifier() -> Verifier {
    Verifier::new(Some(2), Arc::new(Metrics::new().expect("metrics"))).expect("threads")
}

fn key(n: usize) -> SecretKey {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
    SecretKey::from_seed(seed)
}

/// Signed transfers of distinct senders.
fn transfers(numbers: Range<usize>) -> Vec<SignedTransaction> {
    let sign = |n| {
        let action = Action::Transfer(Payment { to: Address([1; 20]), amount: 1 });
        let key = key(n);
        Transaction { sender: key.public(), nonce: 0, fee: 1, expiry_height: 9, action }.sign(&chain(), &key)
    };
    numbers.map(sign).collect()
}

/// Makes a signature that looks right and is not: by the right key over something else.
fn spoil(tx: &mut SignedTransaction, n: usize) {
    tx.signature = key(n).sign(b"something else");
}

/// Signed claims of distinct senders and receipts: four signatures each.
fn claims(numbers: Range<usize>) -> Vec<SignedTransaction> {
    let sign = |n| {
        let (provider, key) = (key(2_000_000), key(n));
        let receipt = Receipt::required(
            (Text::new(&format!("r-{n}")).expect("text"), Text::new("job").expect("text")),
            provider.public(),
            Address([8; 20]),
            (1, Text::new("gpu_seconds").expect("text")),
            (1, 2),
        );
        let coordinators = [self::key(2_000_001), self::key(2_000_002)];
        let attested = receipt.attest(&chain(), &provider, &[&coordinators[0], &coordinators[1]]);
        let action = Action::ClaimReceipt(Box::new(attested));
        Transaction { sender: key.public(), nonce: 0, fee: 1, expiry_height: 9, action }.sign(&chain(), &key)
    };
    numbers.map(sign).collect()
}

/// The receipt changed by who sends it, and signed by its sender again.
fn forge(tx: &mut SignedTransaction, n: usize, change: impl FnOnce(&mut AttestedReceipt)) {
    let Action::ClaimReceipt(receipt) = &mut tx.transaction.action else { panic!("a claim") };
    change(receipt);
    *tx = tx.transaction.clone().sign(&chain(), &key(n));
}

fn sealed(seq: u64, txs: Vec<SignedTransaction>) -> (Arc<Batch>, Hash) {
    let batch = Batch::seal(&chain(), &key(1_000_000), (0, 0), seq, 9, txs);
    let digest = batch.digest();
    (Arc::new(batch), digest)
}

fn author() -> PublicKey {
    key(1_000_000).public()
}

#[tokio::test]
async fn valid_transactions_come_back_with_their_ids_in_order() {
    let txs = transfers(0..40);
    let verified = verifier().verify_transactions(&chain(), txs.clone()).await.expect("room");
    for (tx, verified) in txs.into_iter().zip(verified) {
        assert_eq!(verified, Some(VerifiedTx::trusted(tx, &chain())));
    }
}

#[tokio::test]
async fn what_was_passed_on_is_verified_like_what_clients_send() {
    let mut txs = transfers(0..700);
    spoil(&mut txs[600], 600);
    let verified = verifier().verify_forwarded(&chain(), txs).await;
    let missing: Vec<usize> = (0..700).filter(|n| verified[*n].is_none()).collect();
    assert_eq!((verified.len(), missing), (700, vec![600]));
}

#[test]
fn what_was_passed_on_waits_for_batches_and_for_what_clients_send() {
    let (mut queue, reply) = (Queue::default(), || oneshot::channel().0);
    queue.forwarded.extend(jobs_of(&chain(), transfers(0..1), FORWARDED_GROUP).0);
    queue.transactions.extend(jobs_of(&chain(), transfers(1..2), GROUP).0);
    (queue.signatures, queue.bytes) = (1, transfers(1..2)[0].encoded_len());
    let (batch, digest) = sealed(1, transfers(2..3));
    queue.batches.push_back(BatchJob { chain: chain(), batch, digest, author: author(), reply: reply() });
    let first = |group: Option<Group>| match group {
        Some(Group::Transactions(jobs)) => Some(jobs[0].transactions[0].clone()),
        _ => None,
    };
    assert!(matches!(queue.next(), Some(Group::Batches(_))));
    assert_eq!(first(queue.next()), transfers(1..2).pop());
    assert_eq!(first(queue.next()), transfers(0..1).pop());
    assert!(queue.next().is_none());
    assert_eq!((queue.signatures, queue.bytes), (0, 0), "it takes none of the clients' room");
}

#[test]
fn clients_that_never_stop_leave_every_fourth_group_to_what_was_passed_on() {
    let mut queue = Queue::default();
    let turns = |queue: &mut Queue, count: usize| -> Vec<bool> {
        let turn = |_| {
            queue.transactions.extend(jobs_of(&chain(), transfers(9..10), GROUP).0);
            queue.signatures += 1;
            queue.bytes += transfers(9..10)[0].encoded_len();
            let Some(Group::Transactions(jobs)) = queue.next() else { panic!("transactions wait") };
            jobs[0].transactions[0] == transfers(0..1)[0]
        };
        (0..count).map(turn).collect()
    };
    assert!(turns(&mut queue, 20).iter().all(|forwarded| !forwarded), "nothing was passed on yet");
    queue.forwarded.extend(jobs_of(&chain(), transfers(0..1), FORWARDED_GROUP).0);
    let mut expected = vec![false; PASSED_OVER];
    expected.push(true);
    assert_eq!(turns(&mut queue, PASSED_OVER + 1), expected);
    assert!(turns(&mut queue, 20).iter().all(|forwarded| !forwarded), "and it was one");
}

#[test]
fn a_batch_waits_for_no_more_than_64_signatures_that_were_passed_on() {
    let mut queue = Queue::default();
    queue.forwarded.extend(jobs_of(&chain(), transfers(0..100), FORWARDED_GROUP).0);
    queue.forwarded.extend(jobs_of(&chain(), transfers(100..110), FORWARDED_GROUP).0);
    let sizes: Vec<usize> = std::iter::from_fn(|| queue.next())
        .map(|group| match group {
            Group::Transactions(jobs) => jobs.iter().map(|job| job.signatures).sum::<usize>(),
            Group::Batches(_) => panic!("no batch waits"),
        })
        .collect();
    assert_eq!(sizes, [64, 46]);
}

#[test]
fn signatures_that_were_passed_on_and_those_that_clients_sent_have_a_depth_each() {
    let (verifier, mut queue) = (verifier(), Queue::default());
    let depths = |queue: &Queue| {
        verifier.shared.show(queue);
        let depth = |queue| verifier.shared.metrics.queue_depth.with_label_values(&[queue]).get();
        (depth("verify_forwarded"), depth("verify_transactions"))
    };
    assert_eq!(depths(&queue), (0, 0));
    queue.forwarded.extend(jobs_of(&chain(), transfers(0..100), FORWARDED_GROUP).0);
    assert_eq!(depths(&queue), (100, 0));
    assert!(queue.next().is_some());
    assert_eq!(depths(&queue), (36, 0), "a group of 64 is at work");
}

#[tokio::test]
async fn exactly_the_transactions_with_bad_signatures_are_missing() {
    let cases: [&[usize]; 6] = [&[0], &[699], &[3, 4, 350], &[0, 100, 200, 300, 400, 500, 600], &[255, 256], &[]];
    let good = transfers(0..700);
    for bad in cases {
        let mut txs = good.clone();
        bad.iter().for_each(|n| spoil(&mut txs[*n], *n));
        let verified = verifier().verify_transactions(&chain(), txs).await.expect("room");
        let missing: Vec<usize> = (0..700).filter(|n| verified[*n].is_none()).collect();
        assert_eq!(missing, bad);
    }
}

#[tokio::test]
async fn a_group_of_only_bad_signatures_is_told_apart_from_its_good_ones() {
    let mut txs = transfers(0..300);
    (0..300).filter(|n| n % 7 != 0).for_each(|n| spoil(&mut txs[n], n));
    let verified = verifier().verify_transactions(&chain(), txs).await.expect("room");
    assert!(verified.iter().enumerate().all(|(n, tx)| tx.is_some() == (n % 7 == 0)));
}

#[tokio::test]
async fn a_transaction_for_another_chain_or_out_of_range_is_missing() {
    let mut txs = transfers(0..2);
    txs[0].transaction.fee = u64::MAX;
    txs[0] = txs[0].transaction.clone().sign(&chain(), &key(0));
    let out_of_range = verifier().verify_transactions(&chain(), txs.clone()).await.expect("room");
    assert_eq!(out_of_range.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
    let elsewhere = verifier().verify_transactions(&hash::plain(b"other"), txs).await.expect("room");
    assert!(elsewhere.iter().all(Option::is_none));
}

#[tokio::test]
async fn a_valid_batch_comes_back_with_digest_and_ids() {
    let (batch, digest) = sealed(1, transfers(0..300));
    let verified = verifier().verify_batch(&chain(), batch.clone(), digest, &author()).await.expect("valid");
    let trusted = VerifiedBatch::trusted(batch, digest, &chain());
    assert_eq!((verified.digest, verified.ids), (digest, trusted.ids));
}

#[tokio::test]
async fn a_batch_is_invalid_as_a_whole_and_the_error_names_the_culprit() {
    let verifier = verifier();
    let check = async |txs, author: PublicKey| {
        let (batch, digest) = sealed(1, txs);
        verifier.verify_batch(&chain(), batch, digest, &author).await.map(|_| ())
    };
    let mut bad = transfers(0..50);
    spoil(&mut bad[33], 33);
    assert_eq!(check(bad, author()).await, Err(BatchError::Transaction { index: 33 }));
    assert_eq!(check(transfers(0..50), key(1).public()).await, Err(BatchError::Signature));
    assert!(matches!(check(vec![], author()).await, Err(BatchError::Size { .. })));
    let mut out_of_range = transfers(0..3);
    out_of_range[2].transaction.fee = u64::MAX;
    assert_eq!(check(out_of_range, author()).await, Err(BatchError::Transaction { index: 2 }));
}

#[tokio::test]
async fn a_bad_batch_does_not_spoil_those_verified_with_it() {
    let verifier = Arc::new(verifier());
    let mut checks = tokio::task::JoinSet::new();
    for n in 0..40 {
        let mut txs = transfers(n * 10..n * 10 + 10);
        if n % 4 == 0 {
            spoil(&mut txs[5], n);
        }
        let (batch, digest) = sealed(n as u64, txs);
        let verifier = verifier.clone();
        checks.spawn(async move { (n, verifier.verify_batch(&chain(), batch, digest, &author()).await.is_ok()) });
    }
    while let Some(check) = checks.join_next().await {
        let (n, valid) = check.expect("no panic");
        assert_eq!(valid, n % 4 != 0);
    }
}

#[tokio::test]
async fn what_was_verified_is_not_verified_again_but_only_with_the_same_signature() {
    let verifier = verifier();
    let txs = transfers(0..100);
    verifier.verify_transactions(&chain(), txs.clone()).await.expect("room");
    assert_eq!(verifier.shared.metrics.verified.get(), 100);
    let (batch, digest) = sealed(1, txs.clone());
    verifier.verify_batch(&chain(), batch, digest, &author()).await.expect("valid");
    assert_eq!(verifier.shared.metrics.verified.get(), 100, "no transaction was new");
    let mut other = txs;
    spoil(&mut other[7], 7);
    let verified = verifier.verify_transactions(&chain(), other).await.expect("room");
    assert_eq!(verified.iter().position(Option::is_none), Some(7));
}

#[tokio::test]
async fn exactly_the_claims_with_a_forged_signature_in_their_receipt_are_missing() {
    let verifier = verifier();
    let mut txs = claims(0..200);
    txs.extend(transfers(200..300));
    let noise = Signature([7; 64]);
    forge(&mut txs[3], 3, |attested| attested.signature = noise);
    forge(&mut txs[50], 50, |attested| attested.attestations[0].signature = noise);
    forge(&mut txs[51], 51, |attested| attested.attestations[1].signature = attested.attestations[0].signature);
    forge(&mut txs[199], 199, |attested| attested.receipt.units = 1 << 40);
    spoil(&mut txs[250], 250);
    let verified = verifier.verify_transactions(&chain(), txs.clone()).await.expect("room");
    let missing: Vec<usize> = (0..300).filter(|n| verified[*n].is_none()).collect();
    assert_eq!(missing, [3, 50, 51, 199, 250]);
    let again = verifier.verify_transactions(&chain(), txs).await.expect("room");
    assert_eq!(again, verified, "what is forged is not remembered as good");
    assert_eq!(verifier.shared.metrics.verified.get(), 295, "and what is good not verified again");
}

#[tokio::test]
async fn a_batch_with_a_forged_attestation_is_invalid_and_the_error_names_the_transaction() {
    let mut txs = transfers(0..20);
    txs.extend(claims(20..40));
    let (batch, digest) = sealed(1, txs.clone());
    assert!(verifier().verify_batch(&chain(), batch, digest, &author()).await.is_ok());
    forge(&mut txs[33], 33, |attested| attested.attestations[1].signature = Signature([7; 64]));
    let (batch, digest) = sealed(1, txs);
    let found = verifier().verify_batch(&chain(), batch, digest, &author()).await.map(|_| ());
    assert_eq!(found, Err(BatchError::Transaction { index: 33 }));
}

#[tokio::test]
async fn a_claim_takes_as_many_places_in_the_queue_as_it_has_signatures() {
    let fits = claims(0..1);
    assert_eq!(fits[0].signatures(), 4);
    let too_many = vec![fits[0].clone(); QUEUE_SIGNATURES / 4 + 1];
    assert_eq!(verifier().verify_transactions(&chain(), too_many).await, Err(Busy));
    let (jobs, _answers) = jobs_of(&chain(), claims(0..600), GROUP);
    assert_eq!(jobs.iter().map(|job| job.signatures).collect::<Vec<_>>(), [1_024, 1_024, 352]);
}

#[tokio::test]
async fn a_full_queue_says_busy_and_counts_it() {
    let verifier = verifier();
    let one = transfers(0..1);
    let too_many = vec![one[0].clone(); QUEUE_SIGNATURES + 1];
    assert_eq!(verifier.verify_transactions(&chain(), too_many).await, Err(Busy));
    let busy = verifier.shared.metrics.mempool_rejected.with_label_values(&["VERIFIER_BUSY"]).get();
    assert_eq!(busy, QUEUE_SIGNATURES as u64 + 1);
    assert!(verifier.verify_transactions(&chain(), one).await.is_ok());
}

#[test]
fn batches_go_before_transactions_and_groups_end_at_1024_signatures() {
    let mut queue = Queue::default();
    let push_transactions = |queue: &mut Queue, n| {
        let reply = oneshot::channel().0;
        queue.signatures += n;
        queue.transactions.push_back(TransactionsJob {
            chain: chain(),
            transactions: transfers(0..n),
            signatures: n,
            bytes: 0,
            reply,
        });
    };
    for n in [400, 600, 200, 1_200, 1] {
        push_transactions(&mut queue, n);
    }
    let (batch, digest) = sealed(1, transfers(0..2));
    let reply = oneshot::channel().0;
    queue.batches.push_back(BatchJob { chain: chain(), batch, digest, author: author(), reply });
    assert!(matches!(queue.next(), Some(Group::Batches(jobs)) if jobs.len() == 1));
    for expected in [&[400, 600][..], &[200], &[1_200], &[1]] {
        let Some(Group::Transactions(jobs)) = queue.next() else { panic!("transactions wait") };
        assert_eq!(jobs.iter().map(|job| job.transactions.len()).collect::<Vec<_>>(), expected);
    }
    assert!(queue.next().is_none());
    assert_eq!(queue.signatures, 0);
}

#[test]
fn of_verified_transactions_those_that_are_asked_for_stay_known_by_their_signature() {
    let mut known = Known::default();
    let signature = Signature([1; 64]);
    let first = hash::plain(b"first");
    known.0.insert(first, signature);
    for n in 0..REMEMBERED as u64 * 4 {
        known.0.insert(hash::plain(&n.to_le_bytes()), signature);
        if n % 1_000 == 0 {
            assert!(known.holds(first, &signature), "after {n}");
        }
    }
    assert!(!known.holds(first, &Signature([2; 64])));
}
