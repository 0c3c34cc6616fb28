//! Random valid values of each format. Signatures are noise: decoders do not look at them.

use aitbc_core::batch::{Batch, BatchHead, BatchRef};
use aitbc_core::block::{Block, Candidate, Header, Proposal, Reproposal, Seal};
use aitbc_core::codec::encode;
use aitbc_core::evidence::{Class, Evidence, SealedHead};
use aitbc_core::hash::Hash;
use aitbc_core::hello::{Heard, Hello, Role};
use aitbc_core::json;
use aitbc_core::key::{Address, PublicKey, Signature};
use aitbc_core::ledger::{ResultCode, TxResult};
use aitbc_core::light::{InclusionProof, ResultProof, TransactionProof};
use aitbc_core::memory::{Mark, MarkReply, Seen};
use aitbc_core::message::{Blocks, Headers, Message, Snapshot, Status};
use aitbc_core::receipt::{Attestation, AttestedReceipt, Extra, Receipt, Text};
use aitbc_core::record::{Record, RecordKey};
use aitbc_core::state::{Account, AccountProof, RecordProof, State};
use aitbc_core::transaction::{Action, Lock, Payment, SignedTransaction, Transaction};
use aitbc_core::validators::Validator;
use aitbc_core::vote::{Cert, Kind, Statement, Vote};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

// By its path, because the node's tests read this file too.
#[path = "staking.rs"]
mod staking;

fn hash(rng: &mut StdRng) -> Hash {
    Hash(rng.random())
}

fn signature(rng: &mut StdRng) -> Signature {
    let mut bytes = [0; 64];
    rng.fill_bytes(&mut bytes);
    Signature(bytes)
}

fn list<T>(rng: &mut StdRng, most: usize, mut item: impl FnMut(&mut StdRng) -> T) -> Vec<T> {
    (0..rng.random_range(0..=most)).map(|_| item(rng)).collect()
}

/// A small or any number.
fn number(rng: &mut StdRng) -> u64 {
    if rng.random_bool(0.7) { rng.random_range(0..1_000) } else { rng.random() }
}

/// A small number or a great one, of which many together are no more than JSON holds exactly.
fn some(rng: &mut StdRng) -> u64 {
    if rng.random_bool(0.7) { rng.random_range(1..=1_000) } else { 1 + (rng.next_u64() >> 20) }
}

fn payment(rng: &mut StdRng) -> Payment {
    Payment { to: Address(rng.random()), amount: some(rng) }
}

pub fn transaction(rng: &mut StdRng) -> SignedTransaction {
    let action = match rng.random_range(0..3) {
        0 => Action::Transfer(payment(rng)),
        1 => Action::TransferMany { payments: list(rng, 8, payment) },
        _ => Action::Faucet(payment(rng)),
    };
    with_action(rng, action)
}

/// Of the kinds that have to do with receipts, in the order of their tags.
pub fn receipt_transactions(rng: &mut StdRng) -> [SignedTransaction; 4] {
    let claim = Action::ClaimReceipt(Box::new(attested(rng)));
    let lock = Action::LockEscrow(lock(rng));
    let release = Action::ReleaseEscrow(Box::new(attested(rng)));
    let refund = Action::RefundEscrow { job_id: text(rng) };
    [claim, lock, release, refund].map(|action| with_action(rng, action))
}

/// Of the kinds that have to do with who validates, in the order of their tags.
pub fn stake_transactions(rng: &mut StdRng) -> [SignedTransaction; 5] {
    staking::actions(rng).map(|action| with_action(rng, action))
}

fn with_action(rng: &mut StdRng, action: Action) -> SignedTransaction {
    let transaction = Transaction {
        sender: PublicKey(rng.random()),
        nonce: some(rng),
        fee: some(rng),
        expiry_height: some(rng),
        action,
    };
    SignedTransaction { transaction, signature: signature(rng) }
}

/// 1 to 16 of the characters that receipts have.
fn text<const MAX: usize>(rng: &mut StdRng) -> Text<MAX> {
    let characters: Vec<char> = (' '..='~').filter(|c| *c != '"' && *c != '\\').collect();
    let text: String = (0..rng.random_range(1..=16)).map(|_| *characters.choose(rng).expect("some")).collect();
    Text::new(&text).expect("a text")
}

/// 1 to 16 of the characters that names of metadata have.
fn entry_name(rng: &mut StdRng) -> Text<64> {
    let characters: Vec<char> =
        ('-'..='.').chain('0'..='9').chain('A'..='Z').chain('_'..='_').chain('a'..='z').collect();
    let name: String = (0..rng.random_range(1..=16)).map(|_| *characters.choose(rng).expect("some")).collect();
    Text::new(&name).expect("a text")
}

fn optional<T>(rng: &mut StdRng, item: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
    rng.random_bool(0.5).then(|| item(rng))
}

fn receipt(rng: &mut StdRng) -> Receipt {
    let extra = |rng: &mut StdRng| if rng.random() { Extra::Text(text(rng)) } else { Extra::Number(some(rng)) };
    let mut metadata = list(rng, 4, |rng| (entry_name(rng), extra(rng)));
    metadata.sort_by(|(a, _), (b, _)| a.cmp(b));
    metadata.dedup_by(|(a, _), (b, _)| a == b);
    let started_at = rng.random_range(0..1_000);
    Receipt {
        receipt_id: text(rng),
        job_id: text(rng),
        provider: PublicKey(rng.random()),
        client: Address(rng.random()),
        units: some(rng),
        unit_type: text(rng),
        price: optional(rng, some),
        model: optional(rng, text),
        prompt_hash: optional(rng, text),
        started_at,
        completed_at: started_at + some(rng),
        duration_ms: optional(rng, some),
        artifact_hash: optional(rng, text),
        coordinator_id: optional(rng, text),
        nonce: optional(rng, text),
        chain_id: optional(rng, text),
        metadata: rng.random_bool(0.5).then_some(metadata),
    }
}

pub fn attested(rng: &mut StdRng) -> AttestedReceipt {
    let attestation =
        |rng: &mut StdRng| Attestation { coordinator: PublicKey(rng.random()), signature: signature(rng) };
    let mut attestations = list(rng, 4, attestation);
    attestations.sort_by_key(|attestation| attestation.coordinator);
    AttestedReceipt { receipt: receipt(rng), signature: signature(rng), attestations }
}

fn lock(rng: &mut StdRng) -> Lock {
    let provider = optional(rng, |rng| Address(rng.random()));
    Lock { job_id: text(rng), provider, amount: some(rng), timeout_height: some(rng) }
}

pub fn batch(rng: &mut StdRng) -> Batch {
    Batch {
        epoch: number(rng),
        author: rng.random(),
        seq: number(rng),
        expiry_height: number(rng),
        txs: list(rng, 4, transaction),
        signature: signature(rng),
    }
}

fn statement(rng: &mut StdRng) -> Statement {
    let kind = *[Kind::Notar, Kind::Skip, Kind::Final].choose(rng).expect("some");
    Statement { epoch: number(rng), slot: number(rng), kind, digest: hash(rng) }
}

pub fn vote(rng: &mut StdRng) -> Vote {
    Vote { statement: statement(rng), signer: rng.random(), signature: signature(rng) }
}

pub fn cert(rng: &mut StdRng) -> Cert {
    let signers = list(rng, 13, |rng| rng.random());
    Cert { statement: statement(rng), signers, signatures: list(rng, 8, signature) }
}

fn reference(rng: &mut StdRng) -> BatchRef {
    BatchRef { digest: hash(rng), epoch: number(rng), author: rng.random(), bytes: rng.random(), txs: rng.random() }
}

fn evidence(rng: &mut StdRng) -> Evidence {
    if rng.random() {
        return Evidence::Votes { first: vote(rng), second: vote(rng) };
    }
    Evidence::Batches { first: SealedHead::of(&batch(rng)), second: SealedHead::of(&batch(rng)) }
}

pub fn header(rng: &mut StdRng) -> Header {
    Header {
        version: rng.random(),
        epoch: number(rng),
        slot: number(rng),
        height: number(rng),
        parent_slot: number(rng),
        parent: hash(rng),
        parent_state_root: hash(rng),
        parent_results_root: hash(rng),
        time_ms: number(rng),
        proposer: rng.random(),
        set_hash: hash(rng),
        next_set_hash: hash(rng),
        batches: list(rng, 5, reference),
        evidence: list(rng, 3, evidence),
    }
}

pub fn candidate(rng: &mut StdRng) -> Candidate {
    Candidate { header: header(rng), signature: signature(rng) }
}

pub fn proposal(rng: &mut StdRng) -> Proposal {
    Proposal { candidate: candidate(rng), proof: list(rng, 3, cert) }
}

pub fn block(rng: &mut StdRng) -> Block {
    Block { header: header(rng), batches: list(rng, 3, batch) }
}

pub fn result(rng: &mut StdRng) -> TxResult {
    TxResult { id: hash(rng), code: *ResultCode::ALL.choose(rng).expect("some"), fee: number(rng) }
}

pub fn proof(rng: &mut StdRng) -> AccountProof {
    let accounts = list(rng, 20, |rng| (Address(rng.random()), Account { balance: number(rng), nonce: number(rng) }));
    State::from_accounts(accounts).prove(&Address(rng.random()))
}

fn record(rng: &mut StdRng) -> (RecordKey, Record) {
    let class = *Class::ALL.choose(rng).expect("some");
    let key = RecordKey::Evidence { key: PublicKey(rng.random()), epoch: number(rng), class };
    (key, Record::Evidence { slot: number(rng), height: number(rng) })
}

pub fn record_proof(rng: &mut StdRng) -> RecordProof {
    let records = list(rng, 20, record);
    let asked = if rng.random_bool(0.5) { records.first() } else { None };
    let asked = asked.map_or_else(|| record(rng).0, |(key, _)| key.clone());
    State::from_parts([], records).prove_record(&asked)
}

/// Proof of the validators of an epoch, alone in its state.
fn set_proof(rng: &mut StdRng) -> RecordProof {
    let key = RecordKey::ValidatorSet { epoch: number(rng) };
    let members = list(rng, 4, |rng| Validator { key: PublicKey(rng.random()), weight: rng.next_u32() });
    State::from_parts([], [(key.clone(), Record::ValidatorSet { members })]).prove_record(&key)
}

/// A header without batches.
pub fn plain_header() -> Header {
    use rand::SeedableRng;
    Header { batches: Vec::new(), ..header(&mut StdRng::seed_from_u64(0)) }
}

pub fn transaction_proof(rng: &mut StdRng) -> TransactionProof {
    let batch = BatchHead { epoch: number(rng), author: rng.random(), seq: number(rng), expiry_height: number(rng) };
    let inclusion =
        InclusionProof { transaction: transaction(rng), batch, index: rng.random(), path: list(rng, 12, hash) };
    let result = ResultProof { result: result(rng), index: rng.random(), path: list(rng, 14, hash) };
    TransactionProof { inclusion, result: rng.random_bool(0.7).then_some(result) }
}

/// Number of kinds of message, in the order of their tags.
pub const MESSAGES: u8 = 23;

/// A message of the kind with this tag.
pub fn message(rng: &mut StdRng, tag: u8) -> Message {
    match tag {
        0 => Message::Status(Status {
            epoch: number(rng),
            final_slot: number(rng),
            frontier: number(rng),
            height: number(rng),
            ready: rng.random(),
        }),
        1 => Message::Proposal(Box::new(proposal(rng))),
        2 => Message::Vote(vote(rng)),
        3 => Message::Cert(cert(rng)),
        4 => Message::Batch(Box::new(batch(rng))),
        5 => Message::CandReq { digests: list(rng, 5, hash) },
        6 => Message::Cand(Box::new(candidate(rng))),
        7 => Message::BatchReq { digests: list(rng, 5, hash) },
        8 => Message::Batches { batches: list(rng, 3, batch) },
        9 => Message::CertReq { slots: list(rng, 5, number) },
        10 => Message::Certs { certs: list(rng, 3, cert) },
        11 => Message::BlocksReq { from: number(rng), count: rng.random() },
        12 => Message::Blocks(Blocks {
            blocks: list(rng, 2, block),
            headers: list(rng, 2, header),
            cert: rng.random_bool(0.5).then(|| cert(rng)),
            lowest: number(rng),
        }),
        13 => Message::MarkQuery {
            nonce: hash(rng),
            votes_above: rng.random_bool(0.5).then(|| (number(rng), number(rng))),
        },
        14 => Message::MarkReply(Box::new(mark_reply(rng))),
        15 => Message::Reproposal(Box::new(Reproposal {
            epoch: number(rng),
            slot: number(rng),
            digest: hash(rng),
            signature: signature(rng),
            proof: list(rng, 3, cert),
        })),
        16 => Message::SealReq { epoch: number(rng) },
        17 => Message::Seal(Box::new(Seal { header: header(rng), cert: cert(rng) })),
        18 => Message::HeadersReq { from: number(rng), count: rng.random() },
        19 => {
            Message::Headers(Headers { headers: list(rng, 2, header), cert: rng.random_bool(0.5).then(|| cert(rng)) })
        }
        20 => Message::SnapshotReq { height: number(rng), from: hash(rng) },
        21 => Message::Snapshot(Box::new(snapshot(rng))),
        _ => Message::Transactions { transactions: list(rng, 5, transaction) },
    }
}

fn snapshot(rng: &mut StdRng) -> Snapshot {
    let accounts = list(rng, 20, |rng| (Address(rng.random()), Account { balance: number(rng), nonce: number(rng) }));
    let (state, from) = (State::from_accounts(accounts), hash(rng));
    let chunk = rng.random_bool(0.9).then(|| state.chunk(&from, 100));
    Snapshot { heights: list(rng, 2, number), height: number(rng), from, chunk }
}

fn mark_reply(rng: &mut StdRng) -> MarkReply {
    let mark = Mark {
        nonce: hash(rng),
        epoch: number(rng),
        clean_from: number(rng),
        quarantined: rng.random(),
        slot: number(rng),
    };
    let hello = Hello {
        chain: hash(rng),
        protocol: rng.random(),
        key: PublicKey(rng.random()),
        generation: rng.random(),
        binding: hash(rng),
        signature: signature(rng),
    };
    let role = if rng.random() { Role::Dialer } else { Role::Listener };
    let seen = Seen {
        vote: rng.random_bool(0.5).then(|| vote(rng)),
        hello: rng.random_bool(0.5).then_some(Heard { role, hello }),
    };
    MarkReply { mark, signature: signature(rng), seen, votes: list(rng, 3, vote) }
}

/// Name and bytes of one value of every format; messages of every kind among them.
pub fn all(rng: &mut StdRng) -> Vec<(String, Vec<u8>)> {
    let mut out: Vec<(String, Vec<u8>)> = vec![
        ("transaction".into(), encode(&transaction(rng))),
        ("batch".into(), encode(&batch(rng))),
        ("header".into(), encode(&header(rng))),
        ("candidate".into(), encode(&candidate(rng))),
        ("proposal".into(), encode(&proposal(rng))),
        ("vote".into(), encode(&vote(rng))),
        ("cert".into(), encode(&cert(rng))),
        ("block".into(), encode(&block(rng))),
        ("evidence".into(), encode(&evidence(rng))),
        ("result".into(), encode(&result(rng))),
        ("proof".into(), encode(&proof(rng))),
    ];
    let add_message = |rng: &mut StdRng, out: &mut Vec<(String, Vec<u8>)>, tag| {
        let message = message(rng, tag);
        out.push((format!("message-{}", message.name()), encode(&message)));
    };
    (0..MESSAGES - 1).for_each(|tag| add_message(rng, &mut out, tag));
    out.push(("transaction-proof".into(), encode(&transaction_proof(rng))));
    out.push(("record-proof".into(), encode(&record_proof(rng))));
    out.push(("attested-receipt".into(), encode(&attested(rng))));
    let staked = stake_transactions(rng);
    for transaction in receipt_transactions(rng).into_iter().chain(staked) {
        let name = json::type_name(&transaction.transaction.action).to_lowercase();
        out.push((format!("transaction-{name}"), encode(&transaction)));
    }
    for (name, (key, record)) in staking::records(rng) {
        let proof = State::from_parts([], [(key.clone(), record)]).prove_record(&key);
        out.push((format!("record-{name}"), encode(&proof)));
    }
    out.push(("record-proof-validators".into(), encode(&set_proof(rng))));
    // What is new comes last: the bytes of all others stay.
    add_message(rng, &mut out, MESSAGES - 1);
    out
}
