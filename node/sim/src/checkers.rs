//! What must hold whatever happens: told of every vote and every block that is final, by nobody's leave.

use crate::disk::sign;
use crate::network::bytes_of;
use crate::world::identity_of;
use aitbc_core::batch::Batch;
use aitbc_core::block::Header;
use aitbc_core::epoch::Epochs;
use aitbc_core::evidence::{Class, Evidence};
use aitbc_core::hash::Hash;
use aitbc_core::message::Message;
use aitbc_core::validators::{Index, ValidatorSet};
use aitbc_core::vote::{Cert, Kind, Statement};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// Safety, over votes *cast* by honest validators, that is durable, plus all Byzantine weight: no need to see who received what.
pub struct Safety {
    genesis: Hash,
    epochs: Epochs,
    byzantine: BTreeSet<Index>,
    /// What each honest validator cast in an epoch, slot and class, and whether it has left.
    rows: BTreeMap<(Index, u64, u64, u8), (Statement, bool)>,
    weight: BTreeMap<Statement, u64>,
    /// By epoch and slot.
    reached: BTreeMap<(u64, u64, Kind), Hash>,
    /// Slot and base of each candidate that an honest validator voted for.
    bases: BTreeMap<Hash, (u64, u64, Hash)>,
    /// Digest of each final height, and who first said so.
    chain: BTreeMap<u64, Hash>,
    /// Batches on the chain.
    included: BTreeSet<Hash>,
    /// Whom evidence of final blocks accuses, and of what.
    pub convicted: BTreeSet<(Index, u64, Class)>,
    /// Votes that left.
    pub votes: u64,
}

impl Safety {
    pub fn new(genesis: Hash, epochs: Epochs, byzantine: BTreeSet<Index>) -> Safety {
        let (rows, weight, reached, bases) = Default::default();
        let (chain, included, convicted) = Default::default();
        Safety { genesis, epochs, byzantine, rows, weight, reached, bases, chain, included, convicted, votes: 0 }
    }

    /// An honest validator is about to vote for a candidate on this base: of a height of the epoch (E3), in another slot than its
    /// own only if it is the last block (E4), and on slot 0 only if that is the final block of the epoch before (M4, E6).
    pub fn candidate(&mut self, signer: Index, statement: &Statement, header: &Header) {
        let Header { epoch, slot, height, parent_slot, parent, .. } = *header;
        let at = format!("validator {signer}, slot {} of epoch {epoch}, height {height}", statement.slot);
        assert_eq!((statement.epoch, self.epochs.of(height)), (epoch, epoch), "{at}: a block of another epoch");
        assert!(
            slot == statement.slot || self.epochs.is_boundary(height),
            "{at}: proposed in slot {slot}, not the last"
        );
        if parent_slot == 0 {
            let floor = if height == 1 { Some(&self.genesis) } else { self.chain.get(&(height - 1)) };
            let first = height == self.epochs.last(epoch) + 1 - self.epochs.last(0);
            assert!(first && floor == Some(&parent), "{at}: on a floor that is not the final block below the epoch");
        }
        self.bases.insert(statement.digest, (slot, parent_slot, parent));
    }

    /// An honest validator's vote is durable.
    pub fn vote_cast(&mut self, set: &ValidatorSet, signer: Index, statement: Statement) {
        let weight = |identity: Index| {
            let member = set.members().iter().find(|member| identity_of(&member.key) == identity);
            member.map_or(0, |member| u64::from(member.weight))
        };
        assert!(weight(signer) > 0, "validator {signer} votes in epoch {}, of whose set it is not", statement.epoch);
        let row = self.rows.entry((signer, statement.epoch, statement.slot, statement.kind.class()));
        if let Entry::Vacant(vacant) = row {
            vacant.insert((statement, false));
            let byzantine: u64 = self.byzantine.iter().map(|i| weight(*i)).sum();
            *self.weight.entry(statement).or_insert(byzantine) += weight(signer);
            self.check_reached(set.quorum(), statement);
        }
    }

    /// An honest validator's vote left it.
    pub fn vote_left(&mut self, signer: Index, statement: Statement) {
        let key = (signer, statement.epoch, statement.slot, statement.kind.class());
        let (first, left) = self.rows.entry(key).or_insert((statement, false));
        assert_eq!(*first, statement, "validator {signer} sent two votes of a class");
        if !*left {
            *left = true;
            self.votes += 1;
        }
    }

    /// Lemmas 1, 2 and 3.
    fn check_reached(&mut self, quorum: u64, statement: Statement) {
        if self.weight[&statement] < quorum {
            return;
        }
        let Statement { epoch, slot, kind, digest } = statement;
        let first = *self.reached.entry((epoch, slot, kind)).or_insert(digest);
        assert_eq!(first, digest, "two candidates of slot {slot} reached {kind:?}");
        let has = |kind| self.reached.contains_key(&(epoch, slot, kind));
        assert!(!(has(Kind::Final) && has(Kind::Skip)), "slot {slot} is both final and skipped");
        match kind {
            Kind::Notar => self.check_base(epoch, slot, digest),
            Kind::Final => {
                let notar = self.reached.get(&(epoch, slot, Kind::Notar));
                assert_eq!(notar, Some(&digest), "slot {slot}: what is final was notarized");
            }
            Kind::Skip => {}
        }
    }

    /// Lemma 3: what is notarized rests on what was notarized, and every slot between was skipped.
    fn check_base(&self, epoch: u64, slot: u64, digest: Hash) {
        let Some((own, base, parent)) = self.bases.get(&digest) else { return };
        let notarized = |at: u64| self.reached.get(&(epoch, at, Kind::Notar));
        // A boundary block proposed again rests on itself in an earlier slot (E4).
        let (base, rests) = if *own == slot {
            (*base, *base == 0 || notarized(*base) == Some(parent))
        } else {
            let before = (1..slot).rev().find(|at| notarized(*at) == Some(&digest));
            (before.unwrap_or(0), before.is_some())
        };
        assert!(rests, "epoch {epoch}: slot {slot} rests on a base in slot {base} that was not notarized");
        let gap = (base + 1..slot).find(|gap| !self.reached.contains_key(&(epoch, *gap, Kind::Skip)));
        assert_eq!(gap, None, "epoch {epoch}: slot {slot} leaves out one that was not skipped");
    }

    /// Agreement and prefix consistency: each height has one block for all, on the one below. Every batch once, every
    /// conviction once.
    pub fn block_final(&mut self, genesis: &Hash, node: Index, header: &Header, digest: Hash) {
        let height = header.height;
        if let Some(first) = self.chain.get(&height) {
            assert_eq!(*first, digest, "validator {node} finalised another block at height {height}");
            return;
        }
        if let Some(below) = self.chain.get(&(height - 1)) {
            assert_eq!(*below, header.parent, "height {height} is not on the final block below it");
        }
        for batch in &header.batches {
            assert!(self.included.insert(batch.digest), "height {height} includes a batch a second time");
        }
        for evidence in &header.evidence {
            self.convict(genesis, height, evidence);
        }
        self.chain.insert(height, digest);
    }

    /// Evidence in a final block is against a liar, signed by it, a contradiction by the letter of X2, and the only one of
    /// its kind. By hand: the checker shall not fail with what it checks.
    fn convict(&mut self, genesis: &Hash, height: u64, evidence: &Evidence) {
        let (signers, epochs, signed, class) = match evidence {
            Evidence::Votes { first, second } => {
                let (a, b) = (first.statement, second.statement);
                assert_eq!(a.slot, b.slot, "height {height}: votes of two slots contradict nothing");
                let kinds = [a.kind.code().min(b.kind.code()), a.kind.code().max(b.kind.code())];
                let class = match (kinds, a.digest == b.digest) {
                    ([1, 1], false) => Class::Notars,
                    ([2, 3], _) => Class::SkipFinal,
                    ([3, 3], false) => Class::Finals,
                    ([1, 3], false) => Class::NotarFinal,
                    _ => panic!("height {height}: an honest validator may vote so: {a:?} {b:?}"),
                };
                let bytes = [first, second].map(|v| (v.statement.sign_bytes(genesis).to_vec(), v.signature));
                ([first.signer, second.signer], [a.epoch, b.epoch], bytes, class)
            }
            Evidence::Batches { first, second } => {
                assert_eq!(first.head.seq, second.head.seq, "height {height}: batches of two numbers");
                let bytes = [first, second]
                    .map(|s| (Batch::sign_bytes(genesis, &s.head.digest(&s.root)).to_vec(), s.signature));
                let (a, b) = (first.head, second.head);
                ([a.author, b.author], [a.epoch, b.epoch], bytes, Class::Batches)
            }
        };
        let accused = signers[0];
        assert!(self.byzantine.contains(&accused), "height {height} convicts an honest validator: {accused}");
        assert!(
            signers[0] == signers[1] && epochs[0] == epochs[1],
            "height {height}: evidence of two signers or epochs"
        );
        assert!(signed[0].0 < signed[1].0, "height {height}: evidence that is no pair, or in the wrong order");
        for (message, signature) in &signed {
            assert!(sign(accused, message) == *signature, "height {height}: forged evidence");
        }
        assert!(
            self.convicted.insert((accused, epochs[0], class)),
            "height {height} convicts {accused} again: {class:?}"
        );
    }

    /// A certificate that an honest validator rests on or sends.
    pub fn certificate(&self, chain: &Hash, set: &ValidatorSet, node: Index, cert: &Cert) {
        assert!(cert.check_shape(set).is_ok(), "validator {node} holds a certificate of the wrong shape: {cert:?}");
        // By hand as well: the checker shall not fail with what it checks.
        let weight: u64 = cert.signer_indices().map(|signer| set.weight(signer)).sum();
        assert!(weight >= set.quorum(), "validator {node} holds a certificate of weight {weight}: {cert:?}");
        let message = cert.statement.sign_bytes(chain);
        for (signer, signature) in cert.signer_indices().zip(&cert.signatures) {
            let identity = identity_of(&set.members()[usize::from(signer)].key);
            assert!(sign(identity, &message) == *signature, "validator {node} holds a forged certificate: {cert:?}");
        }
    }

    pub fn height(&self) -> u64 {
        self.chain.keys().next_back().copied().unwrap_or(0)
    }
}

/// Bytes from each honest validator to each peer, second by second.
#[derive(Default)]
pub struct Egress {
    second: u64,
    links: BTreeMap<(Index, Index), Link>,
    /// Most in any second so far.
    pub worst: u64,
}

impl Egress {
    /// Most bytes to a peer in a second: two standstill attempts over 64 slots (C17), a repair of 64 certificates each 50 ms (C18),
    /// each of seven signatures, and some blocks.
    pub const CAP: u64 = 1 << 20;

    pub fn sent(&mut self, now: u64, from: Index, to: Index, message: &Message) {
        if now / 1_000 != self.second {
            self.second = now / 1_000;
            self.links.clear();
        }
        let link = self.links.entry((from, to)).or_default();
        link.add(message);
        self.worst = self.worst.max(link.bytes);
        assert!(
            link.bytes <= Egress::CAP,
            "validator {from} sent {to} {} bytes within a second: {:?}",
            link.bytes,
            link.kinds
        );
    }
}

/// What went from one to another within a second.
#[derive(Default)]
struct Link {
    bytes: u64,
    /// Messages and bytes by name.
    kinds: Vec<(&'static str, u64, u64)>,
}

impl Link {
    fn add(&mut self, message: &Message) {
        let (name, bytes) = (message.name(), bytes_of(message));
        self.bytes += bytes;
        match self.kinds.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, count, sum)) => (*count, *sum) = (*count + 1, *sum + bytes),
            None => self.kinds.push((name, 1, bytes)),
        }
    }
}

/// When blocks became final, for gaps and liveness.
#[derive(Default)]
pub struct Pace {
    /// Times at which the chain grew, by whoever was first.
    pub grew: Vec<u64>,
}

impl Pace {
    /// Longest time without growth between two moments.
    pub fn worst_gap(&self, from: u64, to: u64) -> u64 {
        let inside = self.grew.iter().copied().filter(|at| (from..=to).contains(at));
        let mut last = from;
        let mut worst = 0;
        for at in inside.chain([to]) {
            worst = worst.max(at - last);
            last = at;
        }
        worst
    }
}
