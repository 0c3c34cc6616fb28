//! The finite world of a run: validators, every candidate that can exist, every statement about them, by number.

use aitbc_core::block::{Candidate, Header, VERSION};
use aitbc_core::consensus::Config;
use aitbc_core::consensus::input::{self, Input, Roots, Tip};
use aitbc_core::consensus::verify::Verify;
use aitbc_core::epoch::{Epochs, Sets};
use aitbc_core::hash::{self, Hash};
use aitbc_core::key::{PublicKey, SecretKey, Signature};
use aitbc_core::params::Parameters;
use aitbc_core::validators::{Index, Validator, ValidatorSet};
use aitbc_core::vote::{Cert, Kind, Statement, Vote};
use std::sync::Arc;

/// Wall clock, the same at all times: header times then depend on the parent alone.
pub const WALL: u64 = 1_000_000;

/// What a run is about.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// What the output calls it.
    pub name: &'static str,
    /// Of the first set, by index.
    pub weights: Vec<u32>,
    /// Who sign anything.
    pub byzantine: Vec<Index>,
    /// The last final slot at the start; those explored come after it.
    pub floor: u64,
    /// Slots explored, each with how many blocks on one parent a Byzantine leader may make in it.
    pub variants: Vec<usize>,
    /// Votes arrive one by one and certificates form in the cores; else certificates arrive.
    pub single_votes: bool,
    /// So many commits under way, and nothing else comes in until one is durable.
    pub commits_under_way: usize,
    /// Commits may fail with unknown outcome (P6).
    pub failures: bool,
    /// Executions take their time (H2); else they are done at once.
    pub slow_execution: bool,
    /// An epoch ends.
    pub boundary: Option<Boundary>,
}

/// The block on the floor is the last one of epoch 0, and the last slot explored is slot 1 of epoch 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Boundary {
    /// The member that a newcomer replaces in epoch 1; `None`: the set stays.
    pub leaves: Option<Index>,
    /// Messages of epoch 1 that may come before it has begun here.
    pub early: usize,
    /// A Byzantine leader also proposes blocks above the last height (E3).
    pub above: bool,
    /// Final blocks get into the ledger, ahead of the Seal or not, and come by block sync; else a start knows none of them.
    pub ledger: bool,
}

/// A set of own votes: bit b for statement b of the universe.
pub type Rows = u64;

/// A candidate with its place among the others.
pub struct Cand {
    pub candidate: Candidate,
    pub digest: Hash,
    /// Position among the explored slots.
    pub slot: usize,
    /// Parent; `None` for the floor.
    pub parent: Option<usize>,
    /// The candidate that is proposed again here (E4).
    pub again: Option<usize>,
}

/// Whose votes count in an epoch.
struct Count {
    set: Arc<ValidatorSet>,
    /// By peer, 0 of who is no member.
    weights: Vec<u64>,
    /// Indices in the set, by peer.
    indices: Vec<Option<Index>>,
    /// Total of the Byzantine.
    byzantine: u64,
    /// Statements of the epoch.
    statements: Rows,
}

pub struct Universe {
    pub bounds: Bounds,
    pub config: Config,
    pub floor: Tip,
    pub cands: Vec<Cand>,
    /// Peers by number: the members of epoch 0 by index, then the newcomer.
    roster: Vec<PublicKey>,
    /// Peers that follow the rules.
    pub honest: Vec<Index>,
    /// Of epochs 0 and 1.
    counts: [Count; 2],
    /// By number.
    all: Vec<Statement>,
}

/// Signatures that cost nothing: the signer, then what is signed. Only the world makes them; real ones are tested apart.
#[derive(Clone, Debug)]
struct Plain(Vec<PublicKey>);

impl Verify for Plain {
    fn verifies(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let signer = self.0.iter().position(|known| known == key);
        signer.is_some_and(|signer| sign(signer as Index, message) == *signature)
    }

    fn prepared(&self, _: &ValidatorSet) -> Arc<dyn Verify> {
        Arc::new(self.clone())
    }
}

fn sign(peer: Index, message: &[u8]) -> Signature {
    let mut bytes = [0; 64];
    bytes[..2].copy_from_slice(&peer.to_le_bytes());
    // Epoch, slot, kind and digest: the last 49 bytes (F3).
    bytes[2..51].copy_from_slice(&message[message.len() - 49..]);
    Signature(bytes)
}

pub fn roots(digest: Hash) -> Roots {
    Roots { state: hash::plain(&digest.0), results: hash::plain(&[0; 8]), next_version: VERSION }
}

fn key(seed: usize) -> PublicKey {
    SecretKey::from_seed([seed as u8; 32]).public()
}

/// The set of epoch 1, and the newcomer, whose key is below all others: every index changes.
fn next_set(keys: &[PublicKey], bounds: &Bounds) -> (Vec<Validator>, Option<PublicKey>) {
    let leaves = bounds.boundary.and_then(|boundary| boundary.leaves).map(usize::from);
    let newcomer = leaves.and_then(|_| (keys.len() + 1..256).map(key).find(|key| *key < keys[0]));
    let key_of = |at: usize| newcomer.filter(|_| leaves == Some(at)).unwrap_or(keys[at]);
    let members = (0..keys.len()).map(|at| Validator { key: key_of(at), weight: bounds.weights[at] });
    (members.collect(), newcomer)
}

impl Universe {
    pub fn new(bounds: Bounds) -> Universe {
        let n = bounds.weights.len();
        let mut roster: Vec<_> = (1..=n).map(key).collect();
        roster.sort();
        let first = roster.iter().zip(&bounds.weights).map(|(key, weight)| Validator { key: *key, weight: *weight });
        let (next, newcomer) = next_set(&roster, &bounds);
        let sets = [first.collect(), next].map(|members| Arc::new(ValidatorSet::new(members).expect("valid set")));
        roster.extend(newcomer);
        // Idle chains wait for minutes, so that a wait of a timeout is not one of an idle chain.
        let mut parameters = Parameters { skip_timeout_ms: 1_000, block_time_ms: 100_000, ..Parameters::default() };
        if bounds.boundary.is_some() {
            parameters.epoch_blocks = bounds.floor + 1;
        }
        let chain = hash::plain(b"explored chain");
        let of_epochs = Sets { next: sets[1].clone(), ..Sets::genesis(sets[0].clone()) };
        let config = Config::at(chain, roster[0], of_epochs, roster.clone(), parameters, 1);
        let verifier = Arc::new(Plain(roster.clone()));
        let config = Config { verifier, watches_memory: false, accuses: false, ..config };
        let digest = if bounds.floor == 0 { chain } else { hash::plain(b"floor") };
        let floor = Tip { digest, slot: bounds.floor, height: bounds.floor, time_ms: 0, roots: roots(digest) };
        let honest = (0..roster.len() as Index).filter(|i| !bounds.byzantine.contains(i)).collect();
        let counts = sets.map(|set| Count::of(set, &roster, &bounds.byzantine));
        let mut universe =
            Universe { bounds, config, floor, cands: Vec::new(), roster, honest, counts, all: Vec::new() };
        (0..universe.slots()).for_each(|slot| universe.add_candidates(slot));
        assert!(universe.statements() <= 64, "the rows of a validator must fit 64 bits");
        universe.all = (0..universe.statements()).map(|number| universe.make_statement(number)).collect();
        for number in 0..universe.statements() {
            let epoch = universe.epoch_of(number);
            universe.counts[epoch].statements |= 1 << number;
        }
        universe
    }

    /// On each possible parent: as many blocks as the bound says of a Byzantine leader, one of an honest one. Then each
    /// boundary block below again (E4).
    fn add_candidates(&mut self, slot: usize) {
        let leader = self.leader(slot);
        let variants = if self.is_byzantine(leader) { self.bounds.variants[slot] } else { 1 };
        for parent in self.parents(slot) {
            for variant in 0..variants as u64 {
                let header = self.header(slot, parent, variant);
                let digest = header.digest();
                let vote = self.sign(leader, header.notar(digest));
                let candidate = Candidate { header, signature: vote.signature };
                self.cands.push(Cand { candidate, digest, slot, parent, again: None });
            }
        }
        let ends =
            |first: &usize| self.place(slot).0 == 0 && self.is_boundary(*first) && self.cands[*first].slot < slot;
        let blocks: Vec<usize> = (0..self.cands.len()).filter(|first| self.cands[*first].again.is_none()).collect();
        for first in blocks.into_iter().filter(ends).collect::<Vec<_>>() {
            let Cand { candidate, digest, parent, .. } = &self.cands[first];
            let (candidate, digest, parent) = (candidate.clone(), *digest, *parent);
            self.cands.push(Cand { candidate, digest, slot, parent, again: Some(first) });
        }
    }

    /// What a block of this slot can be on: where an epoch ends, on the floor in epoch 0, on each block of that in epoch 1.
    fn parents(&self, slot: usize) -> Vec<Option<usize>> {
        let all = std::iter::once(None).chain((0..self.cands.len()).map(Some));
        let Some(Boundary { above, .. }) = self.bounds.boundary else { return all.collect() };
        let first_epoch = self.place(slot).0 == 0;
        let above = above && self.is_byzantine(self.leader(slot));
        let ends = |parent: usize| self.is_boundary(parent) && self.cands[parent].again.is_none();
        let possible = |parent: &Option<usize>| match parent {
            None => first_epoch,
            Some(parent) => ends(*parent) && (above || !first_epoch),
        };
        all.filter(possible).collect()
    }

    /// What the core builds, for variant 0.
    fn header(&self, slot: usize, parent: Option<usize>, variant: u64) -> Header {
        let (epoch, number) = self.place(slot);
        let base = self.tip_of(parent);
        // The last block of an epoch is slot 0 of the next one (M4).
        let is_floor = parent.is_some_and(|parent| self.cands[parent].candidate.header.epoch < epoch);
        Header {
            version: VERSION,
            epoch,
            slot: number,
            height: base.height + 1,
            parent_slot: if is_floor { 0 } else { base.slot },
            parent: base.digest,
            parent_state_root: base.roots.state,
            parent_results_root: base.roots.results,
            time_ms: WALL.max(base.time_ms + 1) + variant,
            proposer: self.set(epoch).leader(epoch, number),
            set_hash: self.set(epoch).hash(),
            next_set_hash: self.set(1).hash(),
            batches: Vec::new(),
            evidence: Vec::new(),
        }
    }

    pub fn slots(&self) -> usize {
        self.bounds.variants.len()
    }

    /// Epoch and slot number of a position.
    pub fn place(&self, slot: usize) -> (u64, u64) {
        if self.bounds.boundary.is_some() && slot + 1 == self.slots() {
            return (1, 1);
        }
        (0, self.bounds.floor + 1 + slot as u64)
    }

    /// Position of a slot of an epoch, if explored.
    pub fn position(&self, place: (u64, u64)) -> Option<usize> {
        (0..self.slots()).find(|slot| self.place(*slot) == place)
    }

    /// The peer that leads.
    pub fn leader(&self, slot: usize) -> Index {
        let (epoch, number) = self.place(slot);
        self.peer(epoch, self.set(epoch).leader(epoch, number))
    }

    pub fn is_byzantine(&self, peer: Index) -> bool {
        self.bounds.byzantine.contains(&peer)
    }

    pub fn of_slot(&self, slot: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.cands.len()).filter(move |c| self.cands[*c].slot == slot)
    }

    /// The block of a digest, where it was proposed first.
    pub fn find(&self, digest: &Hash) -> Option<usize> {
        self.cands.iter().position(|cand| cand.digest == *digest)
    }

    // ---- epochs ----

    /// Of epochs 0 and 1, and of those after it.
    pub fn set(&self, epoch: u64) -> &Arc<ValidatorSet> {
        &self.counts[usize::from(epoch > 0)].set
    }

    /// The peer that has an index in the set of an epoch.
    pub fn peer(&self, epoch: u64, index: Index) -> Index {
        let key = self.set(epoch).members()[usize::from(index)].key;
        self.roster.iter().position(|known| *known == key).expect("members are peers") as Index
    }

    /// Index of a peer in the set of an epoch.
    pub fn index_of(&self, peer: Index, epoch: u64) -> Option<Index> {
        self.counts[usize::from(epoch > 0)].indices[usize::from(peer)]
    }

    /// The last block of epoch 0, or that again.
    pub fn is_boundary(&self, cand: usize) -> bool {
        self.bounds.boundary.is_some() && self.cands[cand].candidate.header.height == self.floor.height + 1
    }

    /// A block above the last height of its epoch: nobody may vote for it (E3).
    pub fn is_above_end(&self, cand: usize) -> bool {
        let header = &self.cands[cand].candidate.header;
        Epochs::by(&self.config.parameters).of(header.height) != header.epoch
    }

    /// Statements of an epoch.
    pub fn statements_of(&self, epoch: u64) -> Rows {
        self.counts[usize::from(epoch > 0)].statements
    }

    fn epoch_of(&self, statement: usize) -> usize {
        usize::from(self.all[statement].epoch > 0)
    }

    // ---- statements by number: Notar(c), then Final(c), then Skip(s) ----

    pub fn statements(&self) -> usize {
        2 * self.cands.len() + self.slots()
    }

    pub fn notar(&self, cand: usize) -> usize {
        cand
    }

    pub fn fin(&self, cand: usize) -> usize {
        self.cands.len() + cand
    }

    pub fn skip(&self, slot: usize) -> usize {
        2 * self.cands.len() + slot
    }

    /// Position of the slot that a statement is about.
    pub fn slot_of(&self, statement: usize) -> usize {
        let n = self.cands.len();
        if statement < 2 * n { self.cands[statement % n].slot } else { statement - 2 * n }
    }

    pub fn statement(&self, number: usize) -> Statement {
        self.all[number]
    }

    fn make_statement(&self, number: usize) -> Statement {
        let (epoch, slot) = self.place(self.slot_of(number));
        let n = self.cands.len();
        let (kind, digest) = match number / n {
            0 => (Kind::Notar, self.cands[number].digest),
            1 => (Kind::Final, self.cands[number - n].digest),
            _ => (Kind::Skip, Hash::ZERO),
        };
        Statement { epoch, slot, kind, digest }
    }

    /// `None` for a slot that is not explored.
    ///
    /// # Panics
    /// For a candidate that cannot exist.
    pub fn number_of(&self, statement: &Statement) -> Option<usize> {
        self.position((statement.epoch, statement.slot))?;
        let number = self.all.iter().position(|known| known == statement);
        Some(number.expect("a candidate of the universe"))
    }

    /// A certificate of it can be formed: honest votes for it and all that is Byzantine make a quorum of its epoch's set.
    pub fn reached(&self, votes: &[Rows], statement: usize) -> bool {
        let Count { set, weights, byzantine, .. } = &self.counts[self.epoch_of(statement)];
        self.weight(votes, statement, weights) + byzantine >= set.quorum()
    }

    fn weight(&self, votes: &[Rows], statement: usize, weights: &[u64]) -> u64 {
        let cast = self.honest.iter().zip(votes).filter(|(_, rows)| **rows >> statement & 1 == 1);
        cast.map(|(peer, _)| weights[usize::from(*peer)]).sum()
    }

    /// All statements of which a certificate can be formed.
    pub fn all_reached(&self, votes: &[Rows]) -> Rows {
        let reached = (0..self.statements()).filter(|statement| self.reached(votes, *statement));
        reached.fold(0, |all, statement| all | 1 << statement)
    }

    /// The set of epoch 0 could certify a statement of epoch 1: who has left it may sign anything.
    pub fn reached_by_old_set(&self, votes: &[Rows], statement: usize) -> bool {
        let Count { set, weights, byzantine, .. } = &self.counts[0];
        let gone = self.peers().filter(|peer| self.has_left(*peer));
        let gone: u64 = gone.map(|peer| weights[usize::from(peer)]).sum();
        self.weight(votes, statement, weights) + byzantine + gone >= set.quorum()
    }

    /// Of an epoch that the signer has left: nobody says what it may sign.
    pub fn is_stranger(&self, signer: Index, statement: usize) -> bool {
        self.epoch_of(statement) == 1 && self.has_left(signer)
    }

    /// For a block above the last height: no certificate of it can exist.
    pub fn is_of_nobody(&self, statement: usize) -> bool {
        statement < 2 * self.cands.len() && self.is_above_end(statement % self.cands.len())
    }

    /// A member of epoch 0 and not of epoch 1.
    pub fn has_left(&self, peer: Index) -> bool {
        self.index_of(peer, 0).is_some() && self.index_of(peer, 1).is_none()
    }

    /// Blocks that are final by a certificate of their own, in whatever slot: bit b for candidate b.
    pub fn final_blocks(&self, reached: Rows) -> Rows {
        let finals = (0..self.cands.len()).filter(|cand| reached >> self.fin(*cand) & 1 == 1);
        finals.fold(0, |all, cand| all | 1 << self.block(cand))
    }

    /// Where a candidate was proposed first.
    pub fn block(&self, cand: usize) -> usize {
        self.cands[cand].again.unwrap_or(cand)
    }

    /// What a notarized candidate rests on is there: a notarized base (G2), in epoch 1 a sealed one (E6), for a boundary block
    /// again one of its earlier slots (E4), and Skips between (G3).
    pub fn rests(&self, cand: usize, is: impl Fn(usize) -> bool) -> bool {
        let Cand { slot, parent, again, .. } = self.cands[cand];
        let skipped = |from: usize| (from..slot).all(|gap| is(self.skip(gap)));
        let notarized = |base: usize| is(self.notar(base)) && skipped(self.cands[base].slot + 1);
        let of = |block: usize| (0..self.cands.len()).filter(move |other| self.block(*other) == block);
        match (again, parent) {
            (Some(first), _) => of(first).any(|base| self.cands[base].slot < slot && notarized(base)),
            (None, None) => skipped(0),
            (None, Some(parent)) if self.place(slot).0 == 0 => notarized(parent),
            (None, Some(parent)) => of(parent).any(|base| is(self.fin(base))),
        }
    }

    /// True if the block `ancestor` is that of `cand` or below it.
    pub fn descends(&self, cand: usize, ancestor: usize) -> bool {
        let mut at = Some(self.block(cand));
        while let Some(cand) = at {
            if cand == self.block(ancestor) {
                return true;
            }
            at = self.cands[cand].parent;
        }
        false
    }

    // ---- what the world makes ----

    /// A vote by the number that the signer has in the set of its epoch, or, if it has left, had in the one before.
    pub fn sign(&self, peer: Index, statement: Statement) -> Vote {
        let signer = self.index_of(peer, statement.epoch).or_else(|| self.index_of(peer, 0)).unwrap_or(Index::MAX);
        Vote { statement, signer, signature: sign(peer, &statement.sign_bytes(&self.config.chain)) }
    }

    /// A certificate by peers.
    pub fn cert(&self, statement: Statement, signers: &[Index]) -> Cert {
        let votes: Vec<_> = signers.iter().map(|peer| self.sign(*peer, statement)).collect();
        let votes: Vec<_> = votes.into_iter().map(|vote| (vote.signer, vote.signature)).collect();
        Cert::collect(statement, self.set(statement.epoch), &votes)
    }

    /// One by the members of epoch 0, by their numbers in it, whatever its epoch.
    pub fn cert_by_old_set(&self, statement: Statement, signers: &[Index]) -> Cert {
        let vote = |peer: &Index| Some((self.index_of(*peer, 0)?, self.sign(*peer, statement).signature));
        let votes: Vec<_> = signers.iter().filter_map(vote).collect();
        Cert::collect(statement, self.set(0), &votes)
    }

    pub fn peers(&self) -> std::ops::Range<Index> {
        0..self.roster.len() as Index
    }

    /// For a start from a ledger with this last block.
    pub fn config_of(&self, me: Index, last: Option<usize>) -> Config {
        let config = Config { key: self.roster[usize::from(me)], ..self.config.clone() };
        let epoch = Epochs::by(&config.parameters).after(self.tip_of(last).height);
        let sets = if epoch == 0 { config.sets.clone() } else { config.sets.advance(self.set(1).clone()) };
        let (set, set_hash, next_set_hash) = (sets.current.clone(), sets.current.hash(), sets.next.hash());
        let me = self.index_of(me, epoch).unwrap_or(Index::MAX);
        Config { me, sets, set, set_hash, next_set_hash, ..config }
    }

    /// A block as the last one of a ledger.
    pub fn tip_of(&self, block: Option<usize>) -> Tip {
        let Some(Cand { candidate, digest, .. }) = block.map(|block| &self.cands[block]) else {
            return self.floor.clone();
        };
        let Header { slot, height, time_ms, .. } = candidate.header;
        Tip { digest: *digest, slot, height, time_ms, roots: roots(*digest) }
    }

    /// A block that comes by block sync, with its certificate.
    pub fn synced(&self, cand: usize, cert: Cert) -> Input {
        let tip = self.tip_of(Some(self.block(cand)));
        let header = self.cands[cand].candidate.header.clone();
        let boundary = input::Boundary { header, set: self.set(1).clone() };
        let boundary = self.is_boundary(cand).then(|| Box::new(boundary));
        Input::Synced { tip, cert, included: Vec::new(), nullifiers: Vec::new(), boundary }
    }

    /// What executing a block gives; the last of an epoch decides the set after the next (E1).
    pub fn executed(&self, cand: usize) -> Input {
        let digest = self.cands[cand].digest;
        let set = self.is_boundary(cand).then(|| self.set(1).clone());
        Input::Executed { digest, roots: roots(digest), set }
    }

    pub fn name_of(&self, statement: usize) -> String {
        let Statement { epoch, slot, kind, .. } = self.statement(statement);
        match kind {
            Kind::Skip => format!("Skip({epoch}.{slot})"),
            _ => {
                let kind = if kind == Kind::Notar { "Notar" } else { "Final" };
                format!("{kind}({epoch}.{slot},{})", self.letter(statement))
            }
        }
    }

    fn letter(&self, statement: usize) -> String {
        let cand = statement % self.cands.len();
        let parent = self.cands[cand].parent.map_or("floor".to_owned(), |parent| format!("c{parent}"));
        let again = self.cands[cand].again.map(|first| format!("c{first} again"));
        again.unwrap_or_else(|| format!("c{cand} on {parent}"))
    }

    pub fn names(&self, rows: Rows) -> String {
        let all = (0..self.statements()).filter(|statement| rows >> statement & 1 == 1);
        all.map(|statement| self.name_of(statement)).collect::<Vec<_>>().join(" ")
    }
}

impl Count {
    fn of(set: Arc<ValidatorSet>, roster: &[PublicKey], byzantine: &[Index]) -> Count {
        let weights: Vec<u64> = roster.iter().map(|key| set.weight_of(key)).collect();
        let byzantine = byzantine.iter().map(|peer| weights[usize::from(*peer)]).sum();
        assert!(byzantine <= set.faulty_weight(), "more than fw is Byzantine");
        let indices = roster.iter().map(|key| set.index_of(key)).collect();
        Count { set, weights, indices, byzantine, statements: 0 }
    }
}
