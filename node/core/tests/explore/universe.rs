//! The finite world of a run: validators, every candidate that can exist, every statement about them, by number.

use aitbc_core::block::{Candidate, Header, VERSION};
use aitbc_core::consensus::Config;
use aitbc_core::consensus::input::{Roots, Tip};
use aitbc_core::consensus::verify::Verify;
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
    /// By index.
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
}

pub struct Universe {
    pub bounds: Bounds,
    pub config: Config,
    pub floor: Tip,
    pub cands: Vec<Cand>,
    pub honest: Vec<Index>,
    /// Total weight of the Byzantine.
    pub byzantine_weight: u64,
}

/// Signatures that cost nothing: the signer, then what is signed. Only the world makes them; real ones are tested apart.
#[derive(Debug)]
struct Plain(Vec<PublicKey>);

impl Verify for Plain {
    fn verifies(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let signer = self.0.iter().position(|known| known == key);
        signer.is_some_and(|signer| sign(signer as Index, message) == *signature)
    }

    fn prepared(&self, set: &ValidatorSet) -> Arc<dyn Verify> {
        Arc::new(Plain::of(set))
    }
}

impl Plain {
    fn of(set: &ValidatorSet) -> Plain {
        Plain(set.members().iter().map(|member| member.key).collect())
    }
}

fn sign(signer: Index, message: &[u8]) -> Signature {
    let mut bytes = [0; 64];
    bytes[..2].copy_from_slice(&signer.to_le_bytes());
    // Epoch, slot, kind and digest: the last 49 bytes (F3).
    bytes[2..51].copy_from_slice(&message[message.len() - 49..]);
    Signature(bytes)
}

pub fn roots(digest: Hash) -> Roots {
    Roots { state: hash::plain(&digest.0), results: hash::plain(&[0; 8]), next_version: VERSION }
}

impl Universe {
    pub fn new(bounds: Bounds) -> Universe {
        let n = bounds.weights.len();
        let mut keys: Vec<_> = (0..n).map(|i| SecretKey::from_seed([i as u8 + 1; 32]).public()).collect();
        keys.sort();
        let members = keys.into_iter().zip(&bounds.weights).map(|(key, weight)| Validator { key, weight: *weight });
        let set = Arc::new(ValidatorSet::new(members.collect()).expect("valid set"));
        // Idle chains wait for minutes, so that a wait of a timeout is not one of an idle chain.
        let parameters = Parameters { skip_timeout_ms: 1_000, block_time_ms: 100_000, ..Parameters::default() };
        let chain = hash::plain(b"explored chain");
        let config = Config::new(chain, set, 0, parameters, 1);
        let verifier = Arc::new(Plain::of(&config.set));
        let config = Config { verifier, watches_memory: false, accuses: false, ..config };
        let digest = if bounds.floor == 0 { chain } else { hash::plain(b"floor") };
        let floor = Tip { digest, slot: bounds.floor, height: bounds.floor, time_ms: 0, roots: roots(digest) };
        let honest = (0..n as Index).filter(|i| !bounds.byzantine.contains(i)).collect();
        let byzantine_weight = bounds.byzantine.iter().map(|i| config.set.weight(*i)).sum();
        assert!(byzantine_weight <= config.set.faulty_weight(), "more than fw is Byzantine");
        let mut universe = Universe { bounds, config, floor, cands: Vec::new(), honest, byzantine_weight };
        (0..universe.slots()).for_each(|slot| universe.add_candidates(slot));
        assert!(universe.statements() <= 64, "the rows of a validator must fit 64 bits");
        universe
    }

    /// On each possible parent: as many blocks as the bound says of a Byzantine leader, one of an honest one.
    fn add_candidates(&mut self, slot: usize) {
        let leader = self.leader(slot);
        let variants = if self.is_byzantine(leader) { self.bounds.variants[slot] } else { 1 };
        for parent in std::iter::once(None).chain((0..self.cands.len()).map(Some)) {
            for variant in 0..variants as u64 {
                let header = self.header(slot, parent, variant);
                let digest = header.digest();
                let vote = self.sign(leader, header.notar(digest));
                let candidate = Candidate { header, signature: vote.signature };
                self.cands.push(Cand { candidate, digest, slot, parent });
            }
        }
    }

    /// What the core builds, for variant 0.
    fn header(&self, slot: usize, parent: Option<usize>, variant: u64) -> Header {
        let base = match parent {
            None => self.floor.clone(),
            Some(parent) => {
                let Cand { candidate, digest, .. } = &self.cands[parent];
                let header = &candidate.header;
                let (slot, height, time_ms) = (header.slot, header.height, header.time_ms);
                Tip { digest: *digest, slot, height, time_ms, roots: roots(*digest) }
            }
        };
        Header {
            version: VERSION,
            epoch: 0,
            slot: self.number(slot),
            height: base.height + 1,
            parent_slot: base.slot,
            parent: base.digest,
            parent_state_root: base.roots.state,
            parent_results_root: base.roots.results,
            time_ms: WALL.max(base.time_ms + 1) + variant,
            proposer: self.leader(slot),
            set_hash: self.config.set_hash,
            next_set_hash: self.config.set_hash,
            batches: Vec::new(),
            evidence: Vec::new(),
        }
    }

    pub fn slots(&self) -> usize {
        self.bounds.variants.len()
    }

    /// Slot number of a position.
    pub fn number(&self, slot: usize) -> u64 {
        self.bounds.floor + 1 + slot as u64
    }

    /// Position of a slot number, if explored.
    pub fn position(&self, number: u64) -> Option<usize> {
        let position = number.checked_sub(self.bounds.floor + 1)? as usize;
        (position < self.slots()).then_some(position)
    }

    pub fn leader(&self, slot: usize) -> Index {
        self.config.set.leader(0, self.number(slot))
    }

    pub fn is_byzantine(&self, index: Index) -> bool {
        self.bounds.byzantine.contains(&index)
    }

    pub fn of_slot(&self, slot: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.cands.len()).filter(move |c| self.cands[*c].slot == slot)
    }

    pub fn find(&self, digest: &Hash) -> Option<usize> {
        self.cands.iter().position(|cand| cand.digest == *digest)
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

    pub fn statement(&self, number: usize) -> Statement {
        let n = self.cands.len();
        let of = |kind, cand: usize| {
            let Cand { slot, digest, .. } = self.cands[cand];
            Statement { epoch: 0, slot: self.number(slot), kind, digest }
        };
        match number / n {
            0 => of(Kind::Notar, number),
            1 => of(Kind::Final, number - n),
            _ => Statement { epoch: 0, slot: self.number(number - 2 * n), kind: Kind::Skip, digest: Hash::ZERO },
        }
    }

    /// `None` for a slot that is not explored.
    ///
    /// # Panics
    /// For a candidate that cannot exist.
    pub fn number_of(&self, statement: &Statement) -> Option<usize> {
        let slot = self.position(statement.slot)?;
        let cand = || self.find(&statement.digest).expect("a candidate of the universe");
        Some(match statement.kind {
            Kind::Notar => self.notar(cand()),
            Kind::Final => self.fin(cand()),
            Kind::Skip => self.skip(slot),
        })
    }

    /// Weight of honest votes for a statement, and all that is Byzantine.
    pub fn weight(&self, votes: &[Rows], statement: usize) -> u64 {
        let cast = self.honest.iter().zip(votes).filter(|(_, rows)| **rows >> statement & 1 == 1);
        cast.map(|(index, _)| self.config.set.weight(*index)).sum::<u64>() + self.byzantine_weight
    }

    /// A certificate of it can be formed.
    pub fn reached(&self, votes: &[Rows], statement: usize) -> bool {
        self.weight(votes, statement) >= self.config.set.quorum()
    }

    /// True if `ancestor` is `cand` or below it.
    pub fn descends(&self, cand: usize, ancestor: usize) -> bool {
        let mut at = Some(cand);
        while let Some(cand) = at {
            if cand == ancestor {
                return true;
            }
            at = self.cands[cand].parent;
        }
        false
    }

    // ---- what the world makes ----

    pub fn sign(&self, signer: Index, statement: Statement) -> Vote {
        Vote { statement, signer, signature: sign(signer, &statement.sign_bytes(&self.config.chain)) }
    }

    pub fn cert(&self, statement: Statement, signers: &[Index]) -> Cert {
        let votes: Vec<_> = signers.iter().map(|i| (*i, self.sign(*i, statement).signature)).collect();
        Cert::collect(statement, &self.config.set, &votes)
    }

    pub fn config_of(&self, me: Index) -> Config {
        let key = self.config.set.members()[usize::from(me)].key;
        Config { me, key, ..self.config.clone() }
    }

    pub fn name_of(&self, statement: usize) -> String {
        let Statement { slot, kind, .. } = self.statement(statement);
        match kind {
            Kind::Skip => format!("Skip({slot})"),
            _ => format!("{}({slot},{})", if kind == Kind::Notar { "Notar" } else { "Final" }, self.letter(statement)),
        }
    }

    fn letter(&self, statement: usize) -> String {
        let cand = statement % self.cands.len();
        let parent = self.cands[cand].parent.map_or("floor".to_owned(), |parent| format!("c{parent}"));
        format!("c{cand} on {parent}")
    }

    pub fn names(&self, rows: Rows) -> String {
        let all = (0..self.statements()).filter(|statement| rows >> statement & 1 == 1);
        all.map(|statement| self.name_of(statement)).collect::<Vec<_>>().join(" ")
    }
}
