//! One core with real signatures, and hands for everything around it: peers, ledger, executor, clock.

use crate::batch::BatchRef;
use crate::block::{Candidate, Header, Proposal, VERSION};
use crate::consensus::input::{Input, Now, Recovered, Roots, Tip};
use crate::consensus::output::{Event, Halt, Output, Rows};
use crate::consensus::{Config, Core, VotingState};
use crate::hash::{self, Hash};
use crate::key::{SecretKey, Signature};
use crate::memory::{Mark, MarkReply, Memory, Seen};
use crate::message::{Message, Status};
use crate::params::Parameters;
use crate::validators::{Index, Validator, ValidatorSet};
use crate::vote::{Cert, Kind, Statement, Vote};
use std::sync::Arc;

/// Wall clock at the start of a test; far from zero, as block times are compared with it.
pub const WALL: u64 = 1_700_000_000_000;
/// Heights batches of tests live for.
pub const EXPIRY: u64 = 1_000;

pub struct Rig {
    pub core: Core,
    pub keys: Vec<SecretKey>,
    pub config: Config,
    pub now: Now,
    /// Outputs since they were last taken.
    pub out: Vec<Output>,
    /// What the state after each last block of an epoch decides (E1).
    pub after: Arc<ValidatorSet>,
    /// From this height on blocks have a version that the core does not speak (V1).
    pub upgrade: Option<u64>,
}

/// A block as a parent.
#[derive(Clone, Debug)]
pub struct Parent {
    pub digest: Hash,
    pub slot: u64,
    pub height: u64,
    pub time_ms: u64,
}

pub fn chain() -> Hash {
    hash::plain(b"test chain")
}

pub fn genesis() -> Parent {
    Parent { digest: chain(), slot: 0, height: 0, time_ms: 0 }
}

pub fn genesis_tip() -> Tip {
    Tip { digest: chain(), slot: 0, height: 0, time_ms: 0, roots: roots(chain()) }
}

/// What executing a block gives, in tests: something that differs for each.
pub fn roots(digest: Hash) -> Roots {
    Roots { state: hash::plain(&digest.0), results: hash::plain(&[1; 3]), next_version: VERSION }
}

pub fn nothing() -> Recovered {
    Recovered {
        tip: genesis_tip(),
        seals: Vec::new(),
        final_cert: None,
        votes: Vec::new(),
        certs: Vec::new(),
        candidates: Vec::new(),
        batches: Vec::new(),
        included: Vec::new(),
        vote_floor: (0, 0),
        recent: Vec::new(),
        nullifiers: Vec::new(),
        memory: Memory::first_start(),
        generation: 1,
    }
}

pub fn batch(author: Index, name: u8) -> BatchRef {
    BatchRef { digest: Hash([name; 32]), epoch: 0, author, bytes: 1_000, txs: 10 }
}

pub fn statement(kind: Kind, slot: u64, digest: Hash) -> Statement {
    Statement { epoch: 0, slot, kind, digest }
}

pub fn after(candidate: &Candidate) -> Parent {
    let header = &candidate.header;
    Parent { digest: header.digest(), slot: header.slot, height: header.height, time_ms: header.time_ms }
}

impl Rig {
    /// `n` equal validators; the core is number `me`. Validator i leads slots i+1, i+1+n, ….
    pub fn new(n: usize, me: Index) -> Rig {
        Rig::weighted(&vec![1; n], me)
    }

    pub fn weighted(weights: &[u32], me: Index) -> Rig {
        Rig::with(weights, me, Parameters::default(), nothing())
    }

    pub fn recovered(n: usize, me: Index, recovered: Recovered) -> Rig {
        Rig::with(&vec![1; n], me, Parameters::default(), recovered)
    }

    /// All peers are connected, and have told that they know of no vote that is not in the database (A2).
    pub fn with(weights: &[u32], me: Index, parameters: Parameters, recovered: Recovered) -> Rig {
        let mut rig = Rig::alone(weights, me, parameters, recovered);
        for peer in (0..weights.len() as Index).filter(|peer| *peer != me) {
            rig.give(Input::Connected { peer });
            if rig.core.voting_state() == VotingState::Checking {
                rig.answer(peer, 0, Seen::default());
            }
        }
        rig
    }

    /// Nobody is connected.
    pub fn alone(weights: &[u32], me: Index, parameters: Parameters, recovered: Recovered) -> Rig {
        let mut keys: Vec<SecretKey> = (0..weights.len()).map(|i| SecretKey::from_seed([i as u8 + 1; 32])).collect();
        keys.sort_by_key(SecretKey::public);
        let member = |(key, weight): (&SecretKey, &u32)| Validator { key: key.public(), weight: *weight };
        let set = ValidatorSet::new(keys.iter().zip(weights).map(member).collect()).expect("valid set");
        let config = Config::new(chain(), Arc::new(set), me, parameters, 7);
        let now = Now { mono_ms: 1_000, wall_ms: WALL };
        let core = Core::new(config.clone(), recovered, now);
        let after = config.set.clone();
        let mut rig = Rig { core, keys, config, now, out: Vec::new(), after, upgrade: None };
        let mut out = Vec::new();
        rig.core.start(now, &mut out);
        rig.out.extend(out);
        rig
    }

    pub fn give(&mut self, input: Input) {
        self.core.step(self.now, input, &mut self.out);
    }

    /// Time passes on both clocks, with a tick wherever one was asked for.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        for _ in 0..10_000 {
            let Some(at) = self.core.timer.filter(|at| *at <= end) else { break };
            assert!(at > self.now.mono_ms, "a timer spins at {at}");
            self.set_time(at);
            self.give(Input::Tick);
        }
        self.set_time(end);
        self.give(Input::Tick);
    }

    fn set_time(&mut self, mono_ms: u64) {
        self.now.wall_ms += mono_ms - self.now.mono_ms;
        self.now.mono_ms = mono_ms;
    }

    pub fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    // ---- what peers say ----

    pub fn sign(&self, signer: Index, statement: Statement) -> Vote {
        Vote::sign(statement, &chain(), signer, &self.keys[usize::from(signer)])
    }

    /// A vote over its signer's own channel.
    pub fn vote(&mut self, signer: Index, statement: Statement) {
        let vote = self.sign(signer, statement);
        self.give(Input::Vote { from: signer, vote });
    }

    pub fn forged(&self, signer: Index, statement: Statement) -> Vote {
        Vote { statement, signer, signature: Signature([7; 64]) }
    }

    pub fn make_cert(&self, signers: &[Index], statement: Statement) -> Cert {
        let votes: Vec<_> = signers.iter().map(|i| (*i, self.sign(*i, statement).signature)).collect();
        Cert::collect(statement, &self.config.set, &votes)
    }

    /// A certificate by the first quorum of others.
    pub fn cert(&mut self, kind: Kind, slot: u64, digest: Hash) {
        let cert = self.others_cert(kind, slot, digest);
        let from = cert.signer_indices().next().expect("a quorum has a member");
        self.give(Input::Cert { from, cert });
    }

    pub fn others_cert(&self, kind: Kind, slot: u64, digest: Hash) -> Cert {
        let mut signers = Vec::new();
        for i in (0..self.config.set.len() as Index).filter(|i| *i != self.config.me) {
            signers.push(i);
            if signers.iter().map(|i| self.config.set.weight(*i)).sum::<u64>() >= self.config.set.quorum() {
                break;
            }
        }
        self.make_cert(&signers, Statement { epoch: self.core.epoch(), ..statement(kind, slot, digest) })
    }

    pub fn header(&self, slot: u64, parent: &Parent) -> Header {
        let parent_roots = roots(parent.digest);
        Header {
            version: VERSION,
            epoch: self.core.epoch(),
            slot,
            height: parent.height + 1,
            parent_slot: parent.slot,
            parent: parent.digest,
            parent_state_root: parent_roots.state,
            parent_results_root: parent_roots.results,
            time_ms: self.now.wall_ms.max(parent.time_ms + 1),
            proposer: self.core.config.set.leader(self.core.epoch(), slot),
            set_hash: self.core.config.set_hash,
            next_set_hash: self.core.config.next_set_hash,
            batches: Vec::new(),
            evidence: Vec::new(),
        }
    }

    /// A header signed by its proposer.
    pub fn candidate(&self, header: Header) -> Candidate {
        let signature = self.sign(header.proposer, header.notar(header.digest())).signature;
        Candidate { header, signature }
    }

    /// The leader proposes `header`; its digest.
    pub fn propose(&mut self, header: Header) -> Hash {
        let digest = header.digest();
        let candidate = self.candidate(header);
        self.give_candidate(candidate);
        digest
    }

    pub fn give_candidate(&mut self, candidate: Candidate) {
        let from = candidate.header.proposer;
        self.give(Input::Proposal { from, proposal: Proposal { candidate, proof: Vec::new() } });
    }

    pub fn status(&mut self, from: Index, final_slot: u64, frontier: u64, height: u64, ready: bool) {
        let status = Status { epoch: 0, final_slot, frontier, height, ready };
        self.give(Input::Status { from, status });
    }

    pub fn durable_batch(&mut self, author: Index, seq: u64, name: u8) {
        self.give(Input::BatchDurable { reference: batch(author, name), seq, expiry_height: EXPIRY });
    }

    /// The question that the core asks while it does not vote (A2, A5).
    pub fn nonce(&self) -> Hash {
        let asked = |o: &Output| match o {
            Output::Broadcast(Message::MarkQuery { nonce, .. }) => Some(*nonce),
            _ => None,
        };
        self.out.iter().find_map(asked).expect("the core has asked")
    }

    /// A peer wants to know the core's mark.
    pub fn ask(&mut self, from: Index, nonce: Hash) {
        self.ask_votes(from, nonce, None);
    }

    /// And its votes above a position.
    pub fn ask_votes(&mut self, from: Index, nonce: Hash, votes_above: Option<(u64, u64)>) {
        let asker = self.core.roster()[usize::from(from)];
        self.give(Input::MarkQuery { from, asker, nonce, votes_above });
    }

    /// A clean peer answers it: its highest vote, and what it has seen of the core's key.
    pub fn answer(&mut self, from: Index, slot: u64, seen: Seen) {
        let mark = Mark { nonce: self.nonce(), epoch: 0, clean_from: 0, quarantined: false, slot };
        self.answer_with(from, mark, seen);
    }

    pub fn answer_with(&mut self, from: Index, mark: Mark, seen: Seen) {
        self.reply(from, mark, seen, Vec::new());
    }

    /// The same peer keeps votes of the core's key (A9).
    pub fn answer_showing(&mut self, from: Index, votes: Vec<Vote>) {
        let mark = Mark { nonce: self.core.inquiry_nonce(), epoch: 0, clean_from: 0, quarantined: false, slot: 0 };
        self.reply(from, mark, Seen::default(), votes);
    }

    fn reply(&mut self, from: Index, mark: Mark, seen: Seen, votes: Vec<Vote>) {
        let own = self.keys[usize::from(self.config.me)].public();
        let signature = self.keys[usize::from(from)].sign(&mark.sign_bytes(&chain(), &own));
        self.give(Input::MarkReply { from, reply: MarkReply { mark, signature, seen, votes } });
    }

    // ---- what the shell does ----

    /// Signs and stores every write in the outputs, and executes every block, until there are no more; leaves all outputs.
    pub fn serve(&mut self) {
        let mut at = 0;
        while at < self.out.len() {
            match self.out[at].clone() {
                Output::Persist(write) => self.commit(&write),
                Output::Execute { digest, candidate } => self.executed(digest, &candidate.header),
                _ => {}
            }
            at += 1;
        }
    }

    /// A block is executed; the last of an epoch decides a set.
    pub fn executed(&mut self, digest: Hash, header: &Header) {
        let last = self.core.config.epochs().is_boundary(header.height);
        let set = last.then(|| self.after.clone());
        let foreign = self.upgrade.is_some_and(|at| header.height + 1 >= at);
        let roots = Roots { next_version: VERSION + u16::from(foreign), ..roots(digest) };
        self.give(Input::Executed { digest, roots, set });
    }

    pub fn commit(&mut self, write: &crate::consensus::output::Write) {
        let statement = match &write.rows {
            Rows::Notar { statement, .. } | Rows::Final { statement, .. } | Rows::Skip { statement } => {
                Some(*statement)
            }
            Rows::FinalCert { .. } | Rows::Seal { .. } | Rows::Memory { .. } => None,
        };
        let signature = statement.map(|statement| self.sign(self.config.me, statement).signature);
        self.give(Input::Durable { write: write.id, signature });
    }

    /// Executes what was asked for, without storing anything.
    pub fn execute(&mut self) {
        let asked: Vec<Hash> = self.out.iter().filter_map(executed).collect();
        for digest in asked {
            self.give(Input::Executed { digest, roots: roots(digest), set: None });
        }
    }

    // ---- what came out since the last `take` ----

    /// Statements of the votes asked to be persisted.
    pub fn persisted(&self) -> Vec<Statement> {
        let rows =
            self.out.iter().filter_map(|o| if let Output::Persist(write) = o { Some(&write.rows) } else { None });
        rows.filter_map(|rows| match rows {
            Rows::Notar { statement, .. } | Rows::Final { statement, .. } | Rows::Skip { statement } => {
                Some(*statement)
            }
            Rows::FinalCert { .. } | Rows::Seal { .. } | Rows::Memory { .. } => None,
        })
        .collect()
    }

    pub fn persisted_kinds(&self) -> Vec<(Kind, u64)> {
        self.persisted().iter().map(|s| (s.kind, s.slot)).collect()
    }

    pub fn writes(&self) -> Vec<crate::consensus::output::Write> {
        self.out
            .iter()
            .filter_map(|o| if let Output::Persist(write) = o { Some(write.clone()) } else { None })
            .collect()
    }

    pub fn asked_to_execute(&self) -> Vec<Hash> {
        self.out.iter().filter_map(executed).collect()
    }

    pub fn broadcasts(&self) -> Vec<Message> {
        self.out.iter().filter_map(|o| if let Output::Broadcast(m) = o { Some(m.clone()) } else { None }).collect()
    }

    pub fn sent(&self) -> Vec<(Index, Message)> {
        let sent = |o: &Output| if let Output::Send { to, message } = o { Some((*to, message.clone())) } else { None };
        self.out.iter().filter_map(sent).collect()
    }

    pub fn sent_votes(&self) -> Vec<Statement> {
        let vote = |m: Message| if let Message::Vote(vote) = m { Some(vote.statement) } else { None };
        self.broadcasts().into_iter().filter_map(vote).collect()
    }

    pub fn sent_proposals(&self) -> Vec<Proposal> {
        let proposal = |m: Message| if let Message::Proposal(p) = m { Some(*p) } else { None };
        self.broadcasts().into_iter().filter_map(proposal).collect()
    }

    pub fn certified(&self) -> Vec<(Kind, u64)> {
        let event = |o: &Output| match o {
            Output::Event(Event::Certified { statement }) => Some((statement.kind, statement.slot)),
            _ => None,
        };
        self.out.iter().filter_map(event).collect()
    }

    pub fn dropped(&self) -> Vec<&'static str> {
        let event = |o: &Output| if let Output::Event(Event::Dropped { reason }) = o { Some(*reason) } else { None };
        self.out.iter().filter_map(event).collect()
    }

    pub fn evidence(&self) -> usize {
        self.out.iter().filter(|o| matches!(o, Output::Evidence(_))).count()
    }

    pub fn halts(&self) -> Vec<Halt> {
        self.out.iter().filter_map(|o| if let Output::Halt(halt) = o { Some(halt.clone()) } else { None }).collect()
    }

    /// Heights of the blocks let out.
    pub fn finalized(&self) -> Vec<u64> {
        let blocks =
            self.out.iter().filter_map(|o| if let Output::Finalized { blocks, .. } = o { Some(blocks) } else { None });
        blocks.flatten().map(|(_, candidate)| candidate.header.height).collect()
    }

    // ---- whole episodes ----

    /// The leader of `slot` proposes on `parent`, everybody votes, it becomes final; the block as a parent.
    pub fn final_block(&mut self, slot: u64, parent: &Parent) -> Parent {
        let header = self.header(slot, parent);
        let candidate = self.candidate(header);
        let block = after(&candidate);
        self.give_candidate(candidate);
        self.serve();
        self.cert(Kind::Notar, slot, block.digest);
        self.serve();
        self.cert(Kind::Final, slot, block.digest);
        self.serve();
        block
    }
}

fn executed(output: &Output) -> Option<Hash> {
    if let Output::Execute { digest, .. } = output { Some(*digest) } else { None }
}
