//! The simulated world: real cores, and clock, network, disks and crashes that the seed decides.

use crate::adversary::{Adversary, Lie, Scene};
use crate::checkers::{Egress, Pace, Safety};
use crate::disk::{Disk, Signer, roots, sign, version_at};
use crate::network::{Network, bytes_of};
use crate::random::Random;
use crate::stakes::Stakes;
use aitbc_core::batch::Batch;
use aitbc_core::block::{Candidate, Header, Reproposal, VERSION};
use aitbc_core::consensus::input::{Input, Now, WriteFailure};
use aitbc_core::consensus::output::{Event as CoreEvent, Halt, Output, Rows, Write};
use aitbc_core::consensus::verify::Verify;
use aitbc_core::consensus::{Config, Core};
use aitbc_core::epoch::{Epochs, Sets};
use aitbc_core::evidence::{Class, Evidence};
use aitbc_core::genesis::Mode;
use aitbc_core::hash::{self, Hash};
use aitbc_core::key::{Address, PublicKey, Signature};
use aitbc_core::light::Client;
use aitbc_core::memory::{Cause, MarkReply};
use aitbc_core::message::Message;
use aitbc_core::params::Parameters;
use aitbc_core::sync::Planner;
use aitbc_core::transaction::{Action, Payment, SignedTransaction, Transaction};
use aitbc_core::validators::{Index, Validator, ValidatorSet};
use aitbc_core::vote::{Cert, Kind, Statement, Vote};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod block_sync;

/// Wall clock at the start.
const WALL: u64 = 1_700_000_000_000;
/// Heights a batch lives for, as the node seals it: within what V6 allows.
const EXPIRY: u64 = 1_500;
/// How long a forgetful process is away. A real one is away for longer; without any pause each message would be met by a process
/// that has sent nothing yet, so that C16's "once to every peer" and C18's "at most once per 50 ms" bound nothing, and each
/// certificate would be relayed by everybody to everybody without end.
const RESTART_MS: (u64, u64) = (10, 60);
/// How long a cut at a boundary block lasts: some until long after it, some not as long as it takes to be proposed again.
const BOUNDARY_CUT_MS: (u64, u64) = (50, 600);
/// How long the lane of blocks stands still: many epochs of a block or two.
const STALL_MS: (u64, u64) = (20, 1_000);

/// What a scenario fixes.
pub struct Plan {
    pub seed: u64,
    pub weights: Vec<u32>,
    pub parameters: Parameters,
    pub network: Network,
    /// Percent of commits around which the process dies, while there is chaos; of sends a tenth of that.
    pub crashes: u64,
    /// Moments at which all die at once.
    pub power_losses: Vec<u64>,
    pub byzantine: Option<(Index, Adversary)>,
    /// It leads two slots of three.
    pub leads_often: bool,
    /// A validator whose wall clock is off by so many milliseconds.
    pub clock_off: Option<(Index, i64)>,
    /// Percent of steps of the chaos after which a process starts again from what is durable.
    pub forgetful: u64,
    /// A validator whose database is lost or put back as an old copy at some of its crashes, and nobody hides it (A3).
    pub amnesic: Option<Index>,
    /// Keep the story.
    pub tell: bool,
    /// A new batch every so many milliseconds, from a random live author; 0 for none.
    pub batch_every: u64,
    /// Weights in epochs 2, 3, …, again from the first after the last; 0 is no member. Empty: as in `weights` for ever.
    pub schedule: Vec<Vec<u32>>,
    /// Percent of boundary blocks around whose proposal their leader dies, while there is chaos.
    pub boundary_crashes: u64,
    /// Percent of boundary blocks at whose proposal the network is cut, while there is chaos.
    pub boundary_cuts: u64,
    /// Percent of writes of final blocks that hold up all later ones for long, while there is chaos: votes have another lane.
    pub stalls: u64,
    /// Blocks decide who validates, in this mode, after those that have a weight; each weighs as the chain says. Of liars, only
    /// identity 0 keeps its index.
    pub stakes: Option<Mode>,
    /// From this height on blocks have the newest version, below it the one before (V1).
    pub upgrade: Option<u64>,
    /// Who runs a program that does not speak the newest version.
    pub old: BTreeSet<Index>,
}

impl Plan {
    /// Processes: one a validator, and one more for a twin.
    fn processes(&self) -> usize {
        let twin = self.byzantine.is_some_and(|(_, adversary)| adversary == Adversary::Twin);
        self.weights.len() + usize::from(twin)
    }

    /// E1: set(0) = set(1) is that of genesis.
    fn weights_of(&self, epoch: u64) -> &[u32] {
        let scheduled = epoch.checked_sub(2).filter(|_| !self.schedule.is_empty());
        scheduled.map_or(&self.weights, |at| &self.schedule[at as usize % self.schedule.len()])
    }

    pub fn set(&self, epoch: u64) -> ValidatorSet {
        // Keys are names here: signatures are those of `sign`.
        let member = |(i, weight): (usize, &u32)| Validator { key: key_of(i as Index), weight: *weight };
        let weights = self.weights_of(epoch).iter().enumerate().filter(|(_, weight)| **weight > 0);
        let set = ValidatorSet::new(weights.map(member).collect());
        let set = set.expect("a plan has members of weight, with keys of their own");
        let n = set.len() as Index;
        // A liar is a member of every set, with the same index.
        match self.byzantine.filter(|_| self.leads_often) {
            None => set,
            Some((who, _)) => set.with_cycle((0..n).filter(|i| *i != who).flat_map(|i| [who, who, i]).collect()),
        }
    }
}

/// A validator: its process, if it runs, and its disk.
struct Node {
    core: Option<Core>,
    /// Its channels are up: also while it is away for as long as [`World::forget`] says, which peers do not notice.
    reachable: bool,
    /// Counts processes: what was meant for an earlier one is dropped.
    life: u64,
    disk: Disk,
    timer: Option<u64>,
    /// Commits of votes, certificates and Seals asked for and not answered.
    writes: Vec<Write>,
    /// Final blocks on their way into the ledger, by a lane of their own: epochs behind the votes, if it must be.
    blocks: Vec<(Vec<(Hash, Candidate)>, Cert)>,
    /// No block is written before.
    stalled_until: u64,
    /// Height of the ledger as this process began.
    began_at: u64,
    planner: Planner,
    clock_skew: i64,
    /// Parts per million that the wall clock runs too fast.
    clock_drift: i64,
    down_for_good: bool,
    /// A copy of the database that may be put back.
    copy: Option<Disk>,
}

enum Event {
    Deliver { from: Index, to: Index, message: Box<Message> },
    Commit { node: Index, life: u64 },
    Append { node: Index, life: u64 },
    Executed { node: Index, life: u64, digest: Hash, height: u64, set: Option<Arc<ValidatorSet>> },
    Stored { node: Index, life: u64, batch: Box<Batch> },
    Told { node: Index, life: u64, input: Box<Input> },
    Look { node: Index, life: u64 },
    Tick { node: Index, life: u64, at: u64 },
    Crash { node: Index, life: u64 },
    Start { node: Index },
    Return { node: Index, life: u64 },
    PowerLoss,
    NewBatch,
}

/// The name of an identity.
pub fn key_of(identity: Index) -> PublicKey {
    PublicKey([identity as u8 + 1; 32])
}

/// Whose name a key is.
pub fn identity_of(key: &PublicKey) -> Index {
    Index::from(key.0[0]).wrapping_sub(1)
}

/// Signatures of [`sign`].
#[derive(Debug)]
pub struct Cheap;

impl Verify for Cheap {
    fn verifies(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        sign(identity_of(key), message) == *signature
    }

    fn prepared(&self, _: &ValidatorSet) -> Arc<dyn Verify> {
        Arc::new(Cheap)
    }
}

pub struct World {
    plan: Plan,
    random: Random,
    pub now: u64,
    order: u64,
    events: BTreeMap<(u64, u64), Event>,
    nodes: Vec<Node>,
    /// By epoch, as far as they were asked for; where blocks decide, as far as these are final.
    sets: BTreeMap<u64, Arc<ValidatorSet>>,
    pub stakes: Option<Stakes>,
    pub epochs: Epochs,
    chain: Hash,
    pub safety: Safety,
    pub pace: Pace,
    /// Batches made, with when.
    pub made: BTreeMap<Hash, u64>,
    pub crashes: u64,
    /// Databases lost, and recoveries from it.
    pub losses: u64,
    pub recoveries: u64,
    pub ticks: u64,
    pub evidence: u64,
    /// When honest validators came to have proof of it.
    pub accused: BTreeMap<(Index, Class), Vec<u64>>,
    /// Times at which votes left honest validators.
    pub voted_at: Vec<u64>,
    /// Checksum of everything sent, for determinism.
    pub trace: u64,
    next_seq: u64,
    /// Validators; a twin's second process comes after them.
    n: usize,
    pub egress: Egress,
    /// Events that happened.
    pub steps: u64,
    /// Lines of what happened, if the plan wants them.
    pub story: Vec<String>,
    /// Blocks that came by block sync.
    pub synced_blocks: u64,
    /// Slots in which a boundary block was proposed again (E4).
    pub reproposals: BTreeSet<(u64, u64)>,
    /// What befell boundary blocks that are not final yet, by height.
    faults: BTreeMap<u64, BTreeSet<&'static str>>,
    /// Starts whose ledger had own votes of a later epoch than that of its next block.
    pub starts_behind: u64,
    /// Most epochs between the two at a start.
    pub worst_lag: u64,
    /// What the liar remembers.
    bases: Vec<Header>,
}

impl Event {
    /// Whose step it is.
    fn whom(&self) -> Option<Index> {
        match self {
            Event::Deliver { to: node, .. }
            | Event::Commit { node, .. }
            | Event::Append { node, .. }
            | Event::Executed { node, .. }
            | Event::Stored { node, .. }
            | Event::Told { node, .. }
            | Event::Look { node, .. }
            | Event::Tick { node, .. } => Some(*node),
            Event::Crash { .. } | Event::Start { .. } | Event::Return { .. } | Event::PowerLoss | Event::NewBatch => {
                None
            }
        }
    }
}

impl World {
    pub fn new(plan: Plan) -> World {
        let (n, processes) = (plan.weights.len(), plan.processes());
        let mut random = Random::new(plan.seed);
        let node = |(clock_skew, clock_drift)| Node {
            core: None,
            reachable: false,
            life: 0,
            disk: Disk::of(plan.upgrade),
            timer: None,
            writes: Vec::new(),
            blocks: Vec::new(),
            stalled_until: 0,
            began_at: 0,
            planner: Planner::new(Epochs::by(&plan.parameters)),
            clock_skew,
            clock_drift,
            down_for_good: false,
            copy: None,
        };
        let mut clock = |i| {
            let off = plan.clock_off.filter(|(who, _)| *who == i).map_or(0, |(_, off)| off);
            (off + random.below(40) as i64, random.between(0, 1_000) as i64 - 500)
        };
        let nodes = (0..processes as Index).map(|i| node(clock(i))).collect();
        let (epochs, chain) = (Epochs::by(&plan.parameters), hash::plain(b"simulated chain"));
        let safety = Safety::new(chain, epochs, plan.byzantine.iter().map(|(who, _)| *who).collect());
        let stakes = plan.stakes.map(|mode| Stakes::new(chain, mode, &plan.weights, &plan.parameters, &mut random));
        let mut world = World {
            random,
            now: 0,
            order: 0,
            events: BTreeMap::new(),
            nodes,
            sets: BTreeMap::new(),
            epochs,
            stakes,
            chain,
            safety,
            pace: Pace::default(),
            made: BTreeMap::new(),
            crashes: 0,
            losses: 0,
            recoveries: 0,
            ticks: 0,
            evidence: 0,
            accused: BTreeMap::new(),
            voted_at: Vec::new(),
            trace: 0,
            next_seq: 1,
            n,
            egress: Egress::default(),
            steps: 0,
            story: Vec::new(),
            synced_blocks: 0,
            reproposals: BTreeSet::new(),
            faults: BTreeMap::new(),
            starts_behind: 0,
            worst_lag: 0,
            bases: Vec::new(),
            plan,
        };
        if let Some(sets) = world.stakes.as_ref().map(|stakes| stakes.sets_after(&chain).clone()) {
            world.note_sets(&sets);
        }
        for node in 0..processes as Index {
            let at = world.random.below(20);
            world.at(at, Event::Start { node });
        }
        if world.plan.batch_every > 0 {
            world.at(5, Event::NewBatch);
        }
        for at in world.plan.power_losses.clone() {
            world.at(at, Event::PowerLoss);
        }
        world
    }

    // ---- what scenarios say ----

    /// Lets everything happen until `end`.
    pub fn run_until(&mut self, end: u64) {
        while let Some(first) = self.events.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), event) = first.remove_entry();
            self.now = at;
            self.steps += 1;
            self.happen(event);
        }
        self.now = end;
    }

    /// A process dies and does not come back until `start`.
    pub fn kill(&mut self, node: Index) {
        self.nodes[usize::from(node)].down_for_good = true;
        self.crash(node);
    }

    /// A new program takes the place of an old one.
    pub fn upgrade(&mut self, node: Index) {
        self.kill(node);
        self.plan.old.remove(&node);
        self.start(node);
    }

    /// V1: the greatest height that the program of a validator can take; `None`: any.
    fn last_height_of(&self, node: Index) -> Option<u64> {
        self.plan.upgrade.filter(|_| self.plan.old.contains(&self.identity(node))).map(|at| at - 1)
    }

    /// V1: an old program executes nothing from an upgrade on, votes for nothing of it, lets nothing of it out.
    fn check_version(&self, node: Index, height: u64) {
        let last = self.last_height_of(node);
        assert!(
            last.is_none_or(|last| height <= last),
            "V1: validator {node} takes height {height}, its last is {last:?}"
        );
    }

    pub fn start(&mut self, node: Index) {
        self.nodes[usize::from(node)].down_for_good = false;
        self.at(self.now, Event::Start { node });
    }

    /// The set of an epoch. Where blocks decide and have not yet, which only a liar asks about, that of genesis.
    pub fn set_of(&mut self, epoch: u64) -> Arc<ValidatorSet> {
        let (plan, sets) = (&self.plan, &mut self.sets);
        match &self.stakes {
            None => sets.entry(epoch).or_insert_with(|| Arc::new(plan.set(epoch))).clone(),
            Some(_) => sets.get(&epoch).unwrap_or(&sets[&0]).clone(),
        }
    }

    /// E1: everybody's sets of an epoch are the same.
    fn note_sets(&mut self, sets: &Sets) {
        let epochs = sets.epoch.saturating_sub(2)..=sets.epoch + 1;
        for (epoch, set) in epochs.filter_map(|epoch| Some((epoch, sets.of(epoch)?))) {
            let known = self.sets.entry(epoch).or_insert_with(|| set.clone());
            assert_eq!(known, set, "E1: another set of epoch {epoch}");
        }
    }

    fn sets_of(&mut self, epoch: u64) -> Sets {
        assert!(self.stakes.is_none() || self.sets.contains_key(&(epoch + 1)), "the set of {} is undecided", epoch + 1);
        let (previous, current) = (self.set_of(epoch.saturating_sub(1)), self.set_of(epoch));
        let (older, next) = (self.set_of(epoch.saturating_sub(2)), self.set_of(epoch + 1));
        Sets { epoch, older, previous, current, next }
    }

    /// An identity's index in the set of an epoch; `None`: no member.
    pub fn index_in(&mut self, epoch: u64, identity: Index) -> Option<Index> {
        self.set_of(epoch).index_of(&key_of(identity))
    }

    /// A batch of this author, now; in the epoch that it is in, whose member it must be.
    pub fn make_batch(&mut self, author: Index) -> Hash {
        self.try_batch(author).expect("the author runs, and is a member")
    }

    fn try_batch(&mut self, identity: Index) -> Option<Hash> {
        let core = self.nodes[usize::from(identity)].core.as_ref();
        let (epoch, author) = (core?.epoch(), core?.member()?);
        let seq = self.next_seq;
        self.next_seq += 1;
        let (expiry_height, tip) = (self.ledger_height(identity) + EXPIRY, self.head(identity).digest);
        let txs = match &self.stakes {
            None => vec![transaction(identity, seq, expiry_height)],
            Some(stakes) => (0..2).map(|_| stakes.transaction(&tip, expiry_height, &mut self.random)).collect(),
        };
        let mut batch = Batch { epoch, author, seq, expiry_height, txs, signature: Signature([0; 64]) };
        let digest = batch.digest();
        batch.signature = sign(identity, &Batch::sign_bytes(&self.chain, &digest));
        self.made.insert(digest, self.now);
        self.send_all(identity, &Message::Batch(Box::new(batch.clone())));
        self.store(identity, batch);
        Some(digest)
    }

    pub fn set_batch_every(&mut self, ms: u64) {
        if self.plan.batch_every == 0 && ms > 0 {
            self.at(self.now + ms, Event::NewBatch);
        }
        self.plan.batch_every = ms;
    }

    pub fn ledger_height(&self, node: Index) -> u64 {
        self.nodes[usize::from(node)].disk.height()
    }

    /// Digests of the batches in a ledger.
    pub fn included(&self, node: Index) -> BTreeSet<Hash> {
        self.nodes[usize::from(node)].disk.included(0).into_iter().map(|(digest, _)| digest).collect()
    }

    pub fn live(&self) -> Vec<Index> {
        (0..self.n as Index).filter(|i| self.is_up(*i)).collect()
    }

    /// Starts that found the last block of an epoch without its Seal, of all.
    pub fn rebuilt_seals(&self) -> u64 {
        self.nodes.iter().map(|node| node.disk.rebuilt_seals).sum()
    }

    pub fn honest(&self) -> Vec<Index> {
        (0..self.n as Index).filter(|i| self.liar(*i).is_none()).collect()
    }

    // ---- events ----

    fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.insert((at.max(self.now), self.order), event);
    }

    fn is_up(&self, node: Index) -> bool {
        self.nodes[usize::from(node)].core.is_some()
    }

    fn lives(&self, node: Index, life: u64) -> bool {
        self.is_up(node) && self.nodes[usize::from(node)].life == life
    }

    fn happen(&mut self, event: Event) {
        let whom = event.whom();
        match event {
            Event::Deliver { from, to, message } => self.deliver(from, to, *message),
            Event::Commit { node, life } if self.lives(node, life) => self.commit(node),
            Event::Append { node, life } if self.lives(node, life) => self.append(node),
            Event::Executed { node, life, digest, height, set } if self.lives(node, life) => {
                let roots = roots(digest, version_at(self.plan.upgrade, height + 1));
                self.give(node, Input::Executed { digest, roots, set });
            }
            Event::Stored { node, life, batch } if self.lives(node, life) => self.stored(node, *batch),
            Event::Told { node, life, input } if self.lives(node, life) => self.give(node, *input),
            Event::Look { node, life } if self.lives(node, life) => self.look(node),
            Event::Tick { node, life, at } if self.lives(node, life) => {
                if self.nodes[usize::from(node)].timer == Some(at) {
                    self.ticks += 1;
                    self.give(node, Input::Tick);
                }
            }
            Event::Crash { node, life } if self.lives(node, life) => self.crash_and_start(node),
            Event::Start { node } => self.boot(node),
            Event::Return { node, life } => self.come_back(node, life),
            Event::PowerLoss => self.lose_power(),
            Event::NewBatch => self.new_batch(),
            // Meant for a process that is gone.
            Event::Commit { .. }
            | Event::Append { .. }
            | Event::Executed { .. }
            | Event::Stored { .. }
            | Event::Told { .. }
            | Event::Look { .. }
            | Event::Tick { .. }
            | Event::Crash { .. } => {}
        }
        if let Some(node) = whom {
            self.forget(node);
        }
    }

    fn in_chaos(&self) -> bool {
        self.now < self.plan.network.heal_at
    }

    fn new_batch(&mut self) {
        if self.plan.batch_every == 0 {
            return;
        }
        let live = self.live();
        if !live.is_empty() {
            let author = self.random.choose(&live);
            let _ = self.try_batch(author);
        }
        let pause = self.random.between(1, 2 * self.plan.batch_every);
        self.at(self.now + pause, Event::NewBatch);
    }

    /// The process is gone; each of its open commits may have reached the disk all the same (P6, P7).
    fn crash(&mut self, node: Index) {
        if !self.is_up(node) {
            return;
        }
        self.crashes += 1;
        self.end_process(node);
        self.lose_database(node);
        self.nodes[usize::from(node)].reachable = false;
        let me = self.identity(node);
        self.tell(|| format!("validator {me} crashes"));
        for peer in self.others_reachable(me) {
            self.nodes[usize::from(peer)].planner.on_disconnected(me);
            self.give(peer, Input::Disconnected { peer: me });
        }
    }

    /// Of the amnesic one: a copy is made, put back, or all is gone.
    fn lose_database(&mut self, node: Index) {
        if self.plan.amnesic != Some(node) || !self.in_chaos() {
            return;
        }
        let (chance, state) = (self.random.below(10), &mut self.nodes[usize::from(node)]);
        let (found, cause) = match chance {
            0..3 => return state.copy = Some(state.disk.clone()),
            3..6 => (state.copy.clone(), Cause::Command),
            6..8 => (Some(Disk::of(state.disk.upgrade)), Cause::NewDatabase),
            _ => return,
        };
        let Some(mut disk) = found else { return };
        disk.quarantine(cause);
        state.disk = disk;
        self.losses += 1;
        self.tell(|| format!("validator {node} has lost its database: {cause}"));
    }

    fn crash_and_start(&mut self, node: Index) {
        self.crash(node);
        let pause = self.random.between(5, 400);
        self.at(self.now + pause, Event::Start { node });
    }

    /// Nobody is left to tell anybody anything (§10.13).
    fn lose_power(&mut self) {
        self.tell(|| "all lose power".into());
        for node in (0..self.nodes.len() as Index).filter(|node| self.is_up(*node)).collect::<Vec<_>>() {
            self.crashes += 1;
            self.end_process(node);
            self.nodes[usize::from(node)].reachable = false;
            let pause = self.random.between(5, 400);
            self.at(self.now + pause, Event::Start { node });
        }
    }

    fn end_process(&mut self, node: Index) {
        let state = &mut self.nodes[usize::from(node)];
        state.core = None;
        state.life += 1;
        state.timer = None;
        state.stalled_until = 0;
        let (writes, blocks) = (std::mem::take(&mut state.writes), std::mem::take(&mut state.blocks));
        // A lane commits in order, so what survives of each is a prefix.
        let survive = self.random.below(writes.len() as u64 + 1) as usize;
        for item in writes.iter().take(survive) {
            self.write(node, item);
        }
        let survive = self.random.below(blocks.len() as u64 + 1) as usize;
        blocks.iter().take(survive).for_each(|(blocks, cert)| self.write_blocks(node, blocks, cert));
    }

    fn boot(&mut self, node: Index) {
        if self.is_up(node) || self.nodes[usize::from(node)].down_for_good {
            return;
        }
        self.tell(|| format!("validator {node} starts"));
        self.nodes[usize::from(node)].reachable = true;
        self.new_core(node);
        let me = self.identity(node);
        for peer in self.others_reachable(me) {
            if !self.is_up(node) {
                return;
            }
            let identity = self.identity(peer);
            self.give(node, Input::Connected { peer: identity });
            self.give(peer, Input::Connected { peer: me });
        }
    }

    fn new_core(&mut self, node: Index) {
        let epoch = self.epochs.after(self.nodes[usize::from(node)].disk.height());
        let (sets, roster) = (self.sets_of(epoch), (0..self.n as Index).map(key_of).collect());
        let (key, parameters) = (key_of(self.identity(node)), self.plan.parameters.clone());
        let seed = self.plan.seed + u64::from(node);
        let old = self.plan.old.contains(&self.identity(node));
        let config = Config {
            version: if old { VERSION - 1 } else { VERSION },
            verifier: Arc::new(Cheap),
            // Liars run altered code; whose memory goes at every step would never be done asking.
            watches_memory: self.liar(self.identity(node)).is_none() && self.plan.forgetful == 0,
            ..Config::at(self.chain, key, sets, roster, parameters, seed)
        };
        let (now, epochs) = (self.clock(node), self.epochs);
        let (plan, known) = (&self.plan, &self.sets);
        let set_of = |epoch| known.get(&epoch).cloned().unwrap_or_else(|| Arc::new(plan.set(epoch)));
        let state = &mut self.nodes[usize::from(node)];
        let recovered = state.disk.recover(self.chain, epochs, set_of);
        assert_eq!(recovered.lacks_seal(epochs), None, "P10: validator {node} starts without the Seal of its floor");
        state.began_at = state.disk.height();
        let newest = recovered.votes.iter().map(|vote| vote.statement.epoch).max().unwrap_or(0);
        let lag = newest.saturating_sub(epoch);
        self.starts_behind += u64::from(lag > 0);
        self.worst_lag = self.worst_lag.max(lag);
        let mut core = Core::new(config, recovered, now);
        let mut out = Vec::new();
        core.start(now, &mut out);
        state.core = Some(core);
        state.planner = Planner::new(epochs);
        self.carry_out(node, out);
        self.look(node);
    }

    /// §10.14: everything volatile goes, as by a crash and a quick start; peers do not notice.
    fn forget(&mut self, node: Index) {
        if self.plan.forgetful == 0 || !self.in_chaos() || !self.is_up(node) {
            return;
        }
        // What is under way mostly gets its chance, or no vote would ever leave.
        let busy = !self.nodes[usize::from(node)].writes.is_empty();
        if !self.random.percent(self.plan.forgetful) || busy && !self.random.percent(10) {
            return;
        }
        self.end_process(node);
        let (life, pause) = (self.nodes[usize::from(node)].life, self.random.between(RESTART_MS.0, RESTART_MS.1));
        self.at(self.now + pause, Event::Return { node, life });
    }

    fn come_back(&mut self, node: Index, life: u64) {
        let state = &self.nodes[usize::from(node)];
        if self.is_up(node) || state.life != life || state.down_for_good {
            return;
        }
        self.new_core(node);
        for peer in self.others_reachable(self.identity(node)) {
            self.give(node, Input::Connected { peer: self.identity(peer) });
        }
    }

    /// Whose key a process has.
    fn identity(&self, process: Index) -> Index {
        if usize::from(process) < self.n {
            return process;
        }
        self.plan.byzantine.map_or(0, |(who, _)| who)
    }

    fn processes_of(&self, identity: Index) -> Vec<Index> {
        (0..self.nodes.len() as Index).filter(|process| self.identity(*process) == identity).collect()
    }

    /// Processes with another key whose channels are up.
    fn others_reachable(&self, me: Index) -> Vec<Index> {
        let all = 0..self.nodes.len() as Index;
        all.filter(|process| self.nodes[usize::from(*process)].reachable && self.identity(*process) != me).collect()
    }

    fn liar(&self, identity: Index) -> Option<Adversary> {
        self.plan.byzantine.filter(|(who, _)| *who == identity).map(|(_, adversary)| adversary)
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.plan.tell {
            self.story.push(format!("{:>6} ms  {}", self.now, line()));
        }
    }

    fn clock(&self, node: Index) -> Now {
        let state = &self.nodes[usize::from(node)];
        let off = state.clock_skew + self.now as i64 * state.clock_drift / 1_000_000;
        Now { mono_ms: self.now, wall_ms: (WALL + self.now).saturating_add_signed(off) }
    }

    fn give(&mut self, node: Index, input: Input) {
        let now = self.clock(node);
        let Some(core) = self.nodes[usize::from(node)].core.as_mut() else { return };
        let mut out = Vec::new();
        core.step(now, input, &mut out);
        self.carry_out(node, out);
    }

    // ---- the shell of each node ----

    fn carry_out(&mut self, node: Index, out: Vec<Output>) {
        for output in out {
            let sends = matches!(output, Output::Send { .. } | Output::Broadcast(_));
            if sends && self.in_chaos() && self.random.below(1_000) < self.plan.crashes {
                // What it would have sent, and all that it wanted after that, never happens.
                return self.crash_and_start(node);
            }
            match output {
                Output::Persist(write) => self.ask_commit(node, write),
                Output::Send { to, message } => {
                    self.check_certificates(node, &message);
                    self.send(node, to, &message);
                }
                Output::Broadcast(message) => {
                    self.check_certificates(node, &message);
                    self.send_all(node, &message);
                }
                Output::Execute { digest, candidate } => self.execute(node, digest, &candidate),
                Output::Finalized { blocks, cert } => self.finalized(node, blocks, cert),
                Output::Announce { to, batch } => {
                    if let Some(batch) = self.nodes[usize::from(node)].disk.batches.get(&batch).cloned() {
                        self.send(node, to, &Message::Batch(Box::new(batch)));
                    }
                }
                Output::Mark { to, asker, mark, seen, votes } => {
                    let signature = sign(self.identity(node), &mark.sign_bytes(&self.chain, &asker));
                    self.send(node, to, &Message::MarkReply(Box::new(MarkReply { mark, signature, seen, votes })));
                }
                Output::Timer(at) => {
                    assert!(at > self.now, "validator {node} has a timer that spins");
                    let life = self.nodes[usize::from(node)].life;
                    self.nodes[usize::from(node)].timer = Some(at);
                    self.at(at, Event::Tick { node, life, at });
                }
                Output::Evidence(evidence) => {
                    let accused = self.set_of(evidence.epoch()).get(evidence.signer()).map(|m| identity_of(&m.key));
                    let accused = accused.expect("a core accuses members");
                    let guilty = self.liar(accused).is_some_and(Adversary::votes_twice);
                    assert!(guilty || self.liar(node).is_some(), "validator {node} accuses an honest one: {accused}");
                    self.evidence += 1;
                    if self.liar(self.identity(node)).is_none()
                        && let Some(class) = evidence.class()
                    {
                        self.accused.entry((accused, class)).or_default().push(self.now);
                    }
                }
                Output::TwoBatches { first, second } => self.prove_two_batches(node, first, second),
                Output::Behind { peer, height } => self.heard_height(node, peer, height),
                // A6: the process ends, and votes after its next start.
                Output::Halt(Halt::Recovered) => {
                    let life = self.nodes[usize::from(node)].life;
                    self.recoveries += 1;
                    self.at(self.now, Event::Crash { node, life });
                }
                Output::Halt(halt) => {
                    assert!(self.liar(self.identity(node)).is_some(), "validator {node} halts: {halt:?}");
                }
                Output::Entered { sets, .. } => {
                    if self.liar(self.identity(node)).is_none() {
                        self.note_sets(&sets);
                    }
                    self.tell(|| format!("validator {node} enters epoch {}", sets.epoch));
                }
                Output::Event(event) => {
                    self.tell_event(node, &event);
                    if self.befalls_boundary(node, &event) {
                        return self.crash_and_start(node);
                    }
                }
            }
        }
    }

    fn ask_commit(&mut self, node: Index, write: Write) {
        let life = self.nodes[usize::from(node)].life;
        self.nodes[usize::from(node)].writes.push(write);
        let pause = self.random.between(1, 4);
        self.at(self.now + pause, Event::Commit { node, life });
        self.perhaps_crash(node);
    }

    /// The process dies around a commit.
    fn perhaps_crash(&mut self, node: Index) {
        if self.in_chaos() && self.random.percent(self.plan.crashes) {
            let (life, pause) = (self.nodes[usize::from(node)].life, self.random.below(6));
            self.at(self.now + pause, Event::Crash { node, life });
        }
    }

    fn write(&mut self, node: Index, write: &Write) -> Option<Signature> {
        let me = self.identity(node);
        let epoch = statement_of(&write.rows).map_or(0, |statement| statement.epoch);
        let index = self.index_in(epoch, me).unwrap_or(Index::MAX);
        let state = &mut self.nodes[usize::from(node)];
        // The row, or the block that a start makes it of; not one that came into the ledger since.
        let sealed = epoch
            .checked_sub(1)
            .is_none_or(|before| state.disk.seals.contains_key(&before) || self.epochs.last(before) <= state.began_at);
        assert!(sealed, "P10: validator {me} votes in epoch {epoch} without the Seal of the one before");
        let signature = state.disk.commit(&self.chain, Signer { identity: me, index }, &write.rows);
        if self.liar(me).is_none() {
            self.note_cast(me, &write.rows);
        }
        signature
    }

    /// Final blocks for the ledger. Now and then it stands still, and all that come wait.
    fn ask_append(&mut self, node: Index, blocks: Vec<(Hash, Candidate)>, cert: Cert) {
        let (stalls, pause) = (self.in_chaos() && self.random.percent(self.plan.stalls), self.random.between(1, 4));
        let until = if stalls { self.now + self.random.between(STALL_MS.0, STALL_MS.1) } else { 0 };
        let (now, healed) = (self.now, self.plan.network.heal_at);
        let state = &mut self.nodes[usize::from(node)];
        state.blocks.push((blocks, cert));
        state.stalled_until = state.stalled_until.max(until.min(healed));
        let (life, at) = (state.life, state.stalled_until.max(now + pause));
        self.at(at, Event::Append { node, life });
        self.perhaps_crash(node);
    }

    /// Sometimes a group.
    fn append(&mut self, node: Index) {
        let state = &self.nodes[usize::from(node)];
        if self.now < state.stalled_until {
            let (at, life) = (state.stalled_until, state.life);
            return self.at(at, Event::Append { node, life });
        }
        let all = state.blocks.len();
        let group = if self.random.percent(30) { all } else { all.min(1) };
        let items: Vec<_> = self.nodes[usize::from(node)].blocks.drain(..group).collect();
        items.iter().for_each(|(blocks, cert)| self.write_blocks(node, blocks, cert));
    }

    fn write_blocks(&mut self, node: Index, blocks: &[(Hash, Candidate)], cert: &Cert) {
        self.nodes[usize::from(node)].disk.append(self.epochs, blocks, cert);
    }

    fn note_cast(&mut self, me: Index, rows: &Rows) {
        if let Rows::Notar { statement, candidate } = rows {
            self.check_version(me, candidate.header.height);
            self.safety.candidate(me, statement, &candidate.header);
        }
        if let Some(statement) = statement_of(rows) {
            let set = self.set_of(statement.epoch);
            self.safety.vote_cast(&set, me, statement);
        }
    }

    fn commit(&mut self, node: Index) {
        // Sometimes a group: all of it is on disk before the first of it is acknowledged.
        let group = if self.random.percent(30) { self.nodes[usize::from(node)].writes.len() } else { 1 };
        let items: Vec<Write> = self.nodes[usize::from(node)].writes.iter().take(group).cloned().collect();
        if group > 1 {
            for item in &items {
                self.write(node, item);
            }
        }
        let life = self.nodes[usize::from(node)].life;
        for item in items {
            if self.lives(node, life) {
                self.nodes[usize::from(node)].writes.remove(0);
                self.commit_one(node, item);
            }
        }
    }

    fn commit_one(&mut self, node: Index, write: Write) {
        // Rarely the connection breaks: the outcome is unknown, the process ends (P6). Blocks are tried until they hold.
        let lost = self.in_chaos() && self.plan.crashes > 0 && self.random.percent(1);
        let signature = if lost && self.random.percent(50) { None } else { self.write(node, &write) };
        if lost {
            self.give(node, Input::WriteFailed { write: write.id, failure: WriteFailure::Unknown });
            let (life, pause) = (self.nodes[usize::from(node)].life, self.random.below(50));
            return self.at(self.now + pause, Event::Crash { node, life });
        }
        self.give(node, Input::Durable { write: write.id, signature });
    }

    /// E1: what the state after the last block of an epoch decides.
    fn set_after(&mut self, node: Index, digest: Hash, header: &Header) -> Option<Arc<ValidatorSet>> {
        let decided = self.stakes.as_mut().map(|stakes| {
            let held = &self.nodes[usize::from(node)].disk.batches;
            stakes.execute(digest, header, header.batches.iter().map(|batch| held[&batch.digest].clone()));
            stakes.sets_after(&digest).next.clone()
        });
        let boundary = self.epochs.is_boundary(header.height);
        boundary.then(|| decided.unwrap_or_else(|| self.set_of(header.epoch + 2)))
    }

    fn execute(&mut self, node: Index, digest: Hash, candidate: &Candidate) {
        let state = &self.nodes[usize::from(node)];
        for batch in &candidate.header.batches {
            assert!(state.disk.batches.contains_key(&batch.digest), "asked to execute without its batches");
        }
        let (life, pause) = (state.life, self.random.between(0, 3));
        let height = candidate.header.height;
        self.check_version(node, height);
        let set = self.set_after(node, digest, &candidate.header);
        self.at(self.now + pause, Event::Executed { node, life, digest, height, set });
    }

    fn finalized(&mut self, node: Index, blocks: Vec<(Hash, Candidate)>, cert: Cert) {
        self.check_certificate(node, &cert);
        for (digest, candidate) in &blocks {
            self.note_final(node, candidate, *digest);
        }
        self.ask_append(node, blocks, cert);
    }

    fn note_final(&mut self, node: Index, candidate: &Candidate, digest: Hash) {
        if let Some(sets) = self.stakes.as_ref().map(|stakes| stakes.sets_after(&digest).clone()) {
            self.note_sets(&sets);
        }
        if self.liar(self.identity(node)).is_some() {
            return;
        }
        let header = &candidate.header;
        self.check_version(node, header.height);
        assert_eq!(header.version, version_at(self.plan.upgrade, header.height), "V1: height {}", header.height);
        if header.height > self.safety.height() {
            self.pace.grew.push(self.now);
            let faults = self.faults.remove(&header.height).unwrap_or_default();
            self.stakes.iter_mut().for_each(|stakes| stakes.note_final(&digest, header.height, &faults));
            let (height, slot, batches) = (header.height, header.slot, header.batches.len());
            let leader = header.proposer;
            self.tell(|| format!("height {height} is final: slot {slot} of validator {leader}, {batches} batches"));
        }
        self.safety.block_final(&self.chain, node, header, digest);
    }

    fn check_certificate(&mut self, node: Index, cert: &Cert) {
        if self.liar(self.identity(node)).is_none() {
            let set = self.set_of(cert.statement.epoch);
            self.safety.certificate(&self.chain, &set, node, cert);
        }
    }

    /// Whatever an honest validator passes on.
    fn check_certificates(&mut self, node: Index, message: &Message) {
        match message {
            Message::Cert(cert) => self.check_certificate(node, cert),
            Message::Certs { certs } => certs.iter().for_each(|cert| self.check_certificate(node, cert)),
            Message::Proposal(proposal) => proposal.proof.iter().for_each(|cert| self.check_certificate(node, cert)),
            Message::Reproposal(again) => {
                again.proof.iter().for_each(|cert| self.check_certificate(node, cert));
                self.reproposals.insert((again.epoch, again.slot));
            }
            Message::Seal(seal) => self.check_certificate(node, &seal.cert),
            Message::Blocks(blocks) => blocks.cert.iter().for_each(|cert| self.check_certificate(node, cert)),
            _ => {}
        }
    }

    fn tell_event(&mut self, node: Index, event: &CoreEvent) {
        let me = self.identity(node);
        match event {
            CoreEvent::Proposed { slot, height, .. } if self.leads(node, *slot) => {
                self.tell(|| format!("validator {me} proposes height {height} in slot {slot}"));
            }
            CoreEvent::Voted { statement } if statement.kind == Kind::Skip => {
                self.tell(|| format!("validator {me} votes to skip slot {}", statement.slot));
            }
            CoreEvent::Certified { statement } if statement.kind == Kind::Skip => {
                self.tell(|| format!("validator {me} holds that slot {} is skipped", statement.slot));
            }
            _ => {}
        }
    }

    fn leads(&mut self, node: Index, slot: u64) -> bool {
        let me = self.identity(node);
        let Some(epoch) = self.nodes[usize::from(node)].core.as_ref().map(Core::epoch) else { return false };
        self.index_in(epoch, me) == Some(self.set_of(epoch).leader(epoch, slot))
    }

    /// What befalls the last block of an epoch as its leader proposes it: the network is cut, and the leader dies, or does so
    /// when it has voted. True where it dies.
    fn befalls_boundary(&mut self, node: Index, event: &CoreEvent) -> bool {
        let CoreEvent::Proposed { slot, height, .. } = event else { return false };
        let (crashes, cuts) = (self.plan.boundary_crashes, self.plan.boundary_cuts);
        let spared = crashes == 0 && cuts == 0 || !self.in_chaos() || !self.epochs.is_boundary(*height);
        if spared || !self.leads(node, *slot) {
            return false;
        }
        if cuts > 0 && self.random.percent(cuts) {
            let until = self.now + self.random.between(BOUNDARY_CUT_MS.0, BOUNDARY_CUT_MS.1);
            self.plan.network.cut(until, &mut self.random);
            self.faults.entry(*height).or_default().insert("cut");
        }
        let dies = crashes > 0 && self.random.percent(crashes);
        if dies {
            self.faults.entry(*height).or_default().insert("leader killed");
        }
        dies
    }

    fn store(&mut self, node: Index, batch: Batch) {
        let (life, pause) = (self.nodes[usize::from(node)].life, self.random.between(1, 5));
        self.at(self.now + pause, Event::Stored { node, life, batch: Box::new(batch) });
    }

    fn stored(&mut self, node: Index, batch: Batch) {
        let digest = batch.digest();
        let set = self.set_of(batch.epoch);
        let author = set.get(batch.author).map(|author| identity_of(&author.key));
        if author.is_none_or(|author| sign(author, &Batch::sign_bytes(&self.chain, &digest)) != batch.signature) {
            return;
        }
        let input = Input::BatchDurable {
            reference: batch.reference(digest),
            seq: batch.seq,
            expiry_height: batch.expiry_height,
        };
        self.nodes[usize::from(node)].disk.batches.insert(digest, batch);
        self.give(node, input);
    }

    /// X2 (e): the shell has both batches, and the core gets the proof a moment later.
    fn prove_two_batches(&mut self, node: Index, first: Hash, second: Hash) {
        let state = &self.nodes[usize::from(node)];
        let evidence = Evidence::of_batches(&state.disk.batches[&first], &state.disk.batches[&second], &self.chain);
        let (life, pause) = (state.life, self.random.between(0, 3));
        self.at(self.now + pause, Event::Told { node, life, input: Box::new(Input::Evidence(evidence)) });
    }

    /// An independent light client goes through a ledger from genesis (L1, L2): no certificate of a set outside its epoch.
    pub fn audit(&mut self, node: Index) {
        let blocks = self.nodes[usize::from(node)].disk.blocks.clone();
        let mut client = Client::at_genesis(self.chain, (*self.set_of(0)).clone());
        let decide = |key: &PublicKey, message: &[u8], signature: &Signature| Cheap.verifies(key, message, signature);
        for (_, candidate, cert) in blocks {
            let header = &candidate.header;
            if header.epoch != client.epoch() {
                let set = self.set_of(header.epoch);
                client.enter_epoch((*set).clone()).unwrap_or_else(|cause| panic!("L2 at validator {node}: {cause}"));
            }
            let taken = client.advance_by(header, cert.as_ref(), decide);
            taken.unwrap_or_else(|cause| panic!("L1 at validator {node}: {cause}"));
        }
    }

    // ---- messages ----

    /// Votes that a message carries in the open.
    fn votes_in(&mut self, message: &Message) -> Vec<Vote> {
        match message {
            Message::Vote(vote) => vec![vote.clone()],
            Message::Proposal(proposal) => vec![proposal.candidate.vote(proposal.candidate.header.digest())],
            Message::Reproposal(again) => {
                let Reproposal { epoch, slot, digest, signature, .. } = **again;
                let statement = Statement { epoch, slot, kind: Kind::Notar, digest };
                vec![Vote { statement, signer: self.set_of(epoch).leader(epoch, slot), signature }]
            }
            _ => Vec::new(),
        }
    }

    fn send_all(&mut self, from: Index, message: &Message) {
        let me = self.identity(from);
        for to in (0..self.n as Index).filter(|to| *to != me) {
            self.send(from, to, message);
        }
    }

    fn send(&mut self, from: Index, to: Index, message: &Message) {
        let me = self.identity(from);
        if let Some(liar) = self.liar(me) {
            let (chain, epochs, n) = (self.chain, self.epochs, self.n);
            let mut scene = Scene { chain, epochs, me, n, random: &mut self.random, bases: &mut self.bases };
            let lies = liar.twist(&mut scene, to, message);
            return self.lie(me, lies);
        }
        self.egress.sent(self.now, from, to, message);
        for vote in self.votes_in(message) {
            if self.index_in(vote.statement.epoch, from) != Some(vote.signer) {
                continue;
            }
            let durable = self.nodes[usize::from(from)].disk.has_vote(&vote.statement);
            assert!(durable, "P5: a vote of {from} leaves before it is durable: {:?}", vote.statement);
            self.safety.vote_left(from, vote.statement);
            self.voted_at.push(self.now);
        }
        self.post(from, to, 0, message);
    }

    fn lie(&mut self, from: Index, lies: Vec<Lie>) {
        for (to, late, message) in lies {
            self.post(from, to, late, &message);
        }
    }

    /// A message between identities: each process of the receiver gets it.
    fn post(&mut self, from: Index, to: Index, late: u64, message: &Message) {
        for number in [self.now, u64::from(from), u64::from(to), bytes_of(message)] {
            self.trace = (self.trace ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        let was = self.plan.tell.then(|| self.plan.network.partition());
        for process in self.processes_of(to) {
            for delay in self.plan.network.delays(self.now, usize::from(from), usize::from(to), &mut self.random) {
                self.at(
                    self.now + late + delay,
                    Event::Deliver { from, to: process, message: Box::new(message.clone()) },
                );
            }
        }
        let is = self.plan.tell.then(|| self.plan.network.partition()).filter(|is| was.as_ref() != Some(is));
        if let Some(is) = is {
            self.tell(|| format!("the network is now {is}"));
        }
    }

    fn deliver(&mut self, from: Index, to: Index, message: Message) {
        if !self.is_up(to) {
            return;
        }
        let me = self.identity(to);
        if let Some(liar) = self.liar(me) {
            let (chain, epochs, n) = (self.chain, self.epochs, self.n);
            let mut scene = Scene { chain, epochs, me, n, random: &mut self.random, bases: &mut self.bases };
            let lies = liar.hear(&mut scene, &message);
            self.lie(me, lies);
        }
        match message {
            Message::Status(status) => {
                self.heard_height(to, from, status.height);
                self.give(to, Input::Status { from, status });
            }
            Message::Proposal(proposal) => self.give(to, Input::Proposal { from, proposal: *proposal }),
            Message::Vote(vote) => self.give(to, Input::Vote { from, vote }),
            Message::Cert(cert) => self.give(to, Input::Cert { from, cert }),
            Message::Certs { certs } => certs.into_iter().for_each(|cert| self.give(to, Input::Cert { from, cert })),
            Message::Reproposal(reproposal) => self.give(to, Input::Reproposal { from, reproposal: *reproposal }),
            Message::SealReq { epoch } => self.give(to, Input::SealReq { from, epoch }),
            Message::Seal(seal) => self.give(to, Input::Seal { from, seal: *seal }),
            Message::CandReq { digests } => self.give(to, Input::CandReq { from, digests }),
            Message::Cand(candidate) => self.give(to, Input::Cand { from, candidate: *candidate }),
            Message::CertReq { slots } => self.give(to, Input::CertReq { from, slots }),
            Message::Batch(batch) => self.store(to, *batch),
            Message::Batches { batches } => batches.into_iter().for_each(|batch| self.store(to, batch)),
            Message::BatchReq { digests } => {
                let held = &self.nodes[usize::from(to)].disk.batches;
                let batches: Vec<Batch> = digests.iter().filter_map(|digest| held.get(digest)).cloned().collect();
                if !batches.is_empty() {
                    self.send(to, from, &Message::Batches { batches });
                }
            }
            Message::BlocksReq { from: height, count } => self.answer_blocks(to, from, height, count),
            Message::Blocks(blocks) => self.heard_blocks(to, from, blocks),
            // No node of the simulation prunes, so none fetches a snapshot.
            Message::HeadersReq { .. } | Message::Headers(_) | Message::SnapshotReq { .. } | Message::Snapshot(_) => {}
            // Nor has any transactions of clients.
            Message::Transactions { .. } => {}
            Message::MarkQuery { nonce, votes_above } => {
                let asker = key_of(self.identity(from));
                self.give(to, Input::MarkQuery { from, asker, nonce, votes_above });
            }
            Message::MarkReply(reply) => self.give(to, Input::MarkReply { from, reply: *reply }),
        }
    }
}

/// What fills a batch: nobody executes it, and block sync looks at its shape only.
fn transaction(author: Index, nonce: u64, expiry_height: u64) -> SignedTransaction {
    let action = Action::Transfer(Payment { to: Address([9; 20]), amount: 1 });
    unsigned(Transaction { sender: key_of(author), nonce, fee: 1, expiry_height, action })
}

pub fn unsigned(transaction: Transaction) -> SignedTransaction {
    SignedTransaction { transaction, signature: Signature([0; 64]) }
}

/// The vote that a commit holds.
fn statement_of(rows: &Rows) -> Option<Statement> {
    match rows {
        Rows::Notar { statement, .. } | Rows::Final { statement, .. } | Rows::Skip { statement } => Some(*statement),
        Rows::FinalCert { .. } | Rows::Seal { .. } | Rows::Memory { .. } => None,
    }
}
