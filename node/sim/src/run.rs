//! A whole run: what the seed and the scenario decide, what must come of it, and the story.

use crate::adversary::Adversary;
use crate::network::Network;
use crate::random::Random;
use crate::world::{Plan, World};
use aitbc_core::genesis::Mode;
use aitbc_core::params::Parameters;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// After the heal the first block must be final within this (protocol.md §10.9), or ...
const FIRST_FINAL_MS: u64 = 3_000;
/// ... and later where a faulty validator, or one whose clock is off, has its turns to lead: each takes a skip timeout, which has
/// grown with every slot of the chaos (C10; §8.3, Progress).
const FAULTY_LEADER_MS: u64 = 3_000;
/// Every honest validator must have caught up with it and with what followed so much later.
const CATCH_UP_MS: u64 = 1_000;
/// Blocks that must follow the first.
const BLOCKS_AFTER: u64 = 3;
/// How often the runner looks.
const LOOK_MS: u64 = 20;

/// What a run is of.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub seed: u64,
    /// Validators; the seed decides where absent.
    pub nodes: Option<usize>,
    /// Keep going until this many blocks are final; 0: until the heal is proved.
    pub slots: u64,
    pub scenario: Option<Scenario>,
    /// How long the chaos lasts; the seed decides where absent, up to 3 s.
    pub chaos_ms: Option<u64>,
    /// Keep the story.
    pub tell: bool,
    /// Epochs of a few blocks, with sets that change: members join and leave, or only their weights change, by the seed.
    pub epochs: bool,
    /// Epochs of a few blocks, in which stakes, votes, offences and absence decide who validates, in a mode by the seed.
    pub stakes: bool,
}

/// What goes wrong besides network and crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Nothing: everybody is honest.
    Chaos,
    /// One wall clock is ten seconds off.
    Clock,
    /// Every process starts again from what is durable, after every step or after many.
    Forgetful,
    /// All lose power at the same moment, several times.
    PowerLoss,
    /// Databases of one validator are lost or put back as old copies, while another one may lie about marks (A1-A7).
    Amnesia,
    /// The lane of final blocks stands still again and again, and processes die, in a chain at full speed: ledgers whose blocks
    /// are epochs behind their votes.
    Lag,
    /// Somebody lies.
    Liar(Adversary),
    /// Somebody lies and leads two slots of three.
    OftenLeader(Adversary),
}

impl Scenario {
    /// What seeds choose from.
    pub fn drawn() -> Vec<Scenario> {
        let mut all = vec![Scenario::Chaos, Scenario::Clock, Scenario::Forgetful, Scenario::PowerLoss];
        all.extend(Adversary::ALL.map(Scenario::Liar));
        all.extend(Adversary::ALL.map(Scenario::OftenLeader));
        all
    }

    /// Those that are drawn, and those that are run by their name: another drawn one would make another run of each seed.
    pub fn all() -> Vec<Scenario> {
        let mut all = Scenario::drawn();
        all.extend([Scenario::Amnesia, Scenario::Lag]);
        all.extend(Adversary::OF_EPOCHS.map(Scenario::Liar));
        all.extend(Adversary::OF_EPOCHS.map(Scenario::OftenLeader));
        all
    }

    pub fn name(self) -> String {
        match self {
            Scenario::Chaos => "chaos".into(),
            Scenario::Clock => "clock".into(),
            Scenario::Forgetful => "forgetful".into(),
            Scenario::PowerLoss => "power-loss".into(),
            Scenario::Amnesia => "amnesia".into(),
            Scenario::Lag => "lag".into(),
            Scenario::Liar(adversary) => adversary.name().into(),
            Scenario::OftenLeader(adversary) => format!("{}-often", adversary.name()),
        }
    }

    pub fn from_name(name: &str) -> Option<Scenario> {
        Scenario::all().into_iter().find(|scenario| scenario.name() == name)
    }
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub scenario: String,
    pub nodes: usize,
    /// What was violated; absent where nothing was.
    pub violation: Option<String>,
    pub story: Vec<String>,
    pub trace: u64,
    pub height: u64,
    pub votes: u64,
    pub crashes: u64,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    pub steps: u64,
    /// From the heal to the first final block.
    pub first_final_ms: u64,
    /// Most bytes of an honest validator to a peer in a second.
    pub egress: u64,
    /// Blocks that came by block sync.
    pub synced_blocks: u64,
    /// Databases lost, and how often a validator recovered from it.
    pub losses: u64,
    pub recoveries: u64,
    /// Epochs that have ended, and slots in which a last block was proposed again (E4).
    pub epochs: u64,
    pub reproposals: u64,
    /// Starts that found the last block of an epoch without its Seal.
    pub rebuilt_seals: u64,
    /// Starts on a ledger whose votes were of later epochs than its next block, and by how many epochs at most.
    pub starts_behind: u64,
    pub worst_lag: u64,
    /// How often something happened to validators, and where in an epoch: "jail at" its end.
    pub happened: BTreeMap<String, u64>,
}

/// Runs it to its end. A checker that fails ends it, and is the verdict.
pub fn run(wanted: &Wanted) -> Verdict {
    let mut random = Random::new(wanted.seed ^ 0x5eed);
    // Drawn in any case, so that a seed is the same run whether its scenario is named or not.
    let drawn = random.choose(&Scenario::drawn());
    let scenario = wanted.scenario.unwrap_or(drawn);
    let mut plan = plan(wanted, scenario, &mut random);
    if wanted.epochs {
        shorten_epochs(&mut plan, &mut Random::new(wanted.seed ^ 0xe90c));
    }
    if wanted.stakes {
        stake(&mut plan, &mut Random::new(wanted.seed ^ 0x57ae));
    }
    let (nodes, heal_at) = (plan.weights.len(), plan.network.heal_at);
    let honest = plan.byzantine.is_none() && plan.clock_off.is_none();
    let limit = if honest { FIRST_FINAL_MS } else { FIRST_FINAL_MS + FAULTY_LEADER_MS };
    // After a long chaos the skip timeout under way at the heal may be as long as half of it, and the next one longer (C10).
    let limit = limit.max(wanted.chaos_ms.unwrap_or(0));
    let mut world = World::new(plan);
    let mut first_final_ms = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        world.run_until(heal_at);
        first_final_ms = check_recovery(&mut world, heal_at, limit);
        while world.safety.height() < wanted.slots && world.now < 600_000 {
            world.run_until(world.now + LOOK_MS);
        }
        world.honest().into_iter().for_each(|node| world.audit(node));
    }));
    let violation = outcome.err().map(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_else(|| "a panic".into())
    });
    Verdict {
        scenario: scenario.name(),
        nodes,
        violation,
        trace: world.trace,
        height: world.safety.height(),
        votes: world.safety.votes,
        losses: world.losses,
        recoveries: world.recoveries,
        crashes: world.crashes,
        virtual_ms: world.now,
        steps: world.steps,
        first_final_ms,
        egress: world.egress.worst,
        synced_blocks: world.synced_blocks,
        epochs: world.epochs.after(world.safety.height()),
        reproposals: world.reproposals.len() as u64,
        rebuilt_seals: world.rebuilt_seals(),
        starts_behind: world.starts_behind,
        worst_lag: world.worst_lag,
        happened: world.stakes.map(|stakes| stakes.happened).unwrap_or_default(),
        story: std::mem::take(&mut world.story),
    }
}

/// Liveness: soon a first block, then more, at every honest validator.
fn check_recovery(world: &mut World, heal_at: u64, limit: u64) -> u64 {
    let before = world.safety.height();
    let mut first = None;
    loop {
        world.run_until(world.now + LOOK_MS);
        let since = world.now - heal_at;
        if world.safety.height() > before && first.is_none() {
            first = Some(since);
        }
        let goal = before + BLOCKS_AFTER;
        if world.honest().into_iter().all(|node| world.ledger_height(node) >= goal) {
            return first.unwrap_or(since);
        }
        assert!(first.is_some() || since <= limit, "liveness: no block is final {since} ms after the heal");
        let heights: Vec<u64> = world.honest().into_iter().map(|node| world.ledger_height(node)).collect();
        assert!(since <= limit + CATCH_UP_MS, "liveness: ledgers {heights:?} {since} ms after the heal, {goal} wanted");
    }
}

/// Epochs of 1 to 20 blocks. With a liar members and their numbers stay and weights change, so that no set has more than it may;
/// with one that forgets, some join and leave, all of equal weight, itself perhaps among them; else of any weight, or all at once.
fn shorten_epochs(plan: &mut Plan, random: &mut Random) {
    plan.parameters.epoch_blocks = random.choose(&[1, 2, 3, 5, 5, 8, 20]);
    plan.boundary_crashes = random.choose(&[0, 20, 50]);
    let n = plan.weights.len();
    let (liar, amnesic) = (plan.byzantine.map(|(who, _)| who), plan.amnesic);
    let light = |i: u16| liar == Some(i) || amnesic == Some(i);
    let kinds: &[u64] = match (liar, amnesic) {
        (Some(_), _) => &[0, 1],
        (None, Some(_)) => &[0, 1, 4, 4],
        (None, None) => &[0, 1, 2, 3],
    };
    let kind = random.choose(kinds);
    let epochs = random.between(2, 6);
    plan.schedule = match kind {
        // For ever the same.
        0 => Vec::new(),
        // Other weights; who is faulty has the least.
        1 => (0..epochs)
            .map(|_| (0..n as u16).map(|i| if light(i) { 2 } else { random.between(2, 3) as u32 }).collect())
            .collect(),
        // Two more identities; of all, four or more at a time.
        2 => {
            plan.weights.extend([0, 0]);
            (0..epochs).map(|_| some_of(n + 2, random)).collect()
        }
        4 => {
            plan.weights = vec![1; n];
            plan.weights.extend([0, 0]);
            let equal = |weights: Vec<u32>| weights.into_iter().map(|weight| weight.min(1)).collect();
            (0..epochs).map(|_| equal(some_of(n + 2, random))).collect()
        }
        // Another four in every other epoch, none of the first among them.
        _ => {
            plan.weights.extend([0; 4]);
            let (first, others) = (vec![1; n], vec![0; n]);
            let other = [others, vec![1; 4]].concat();
            let same = [first, vec![0; 4]].concat();
            vec![other.clone(), other, same.clone(), same]
        }
    };
    plan.network.widen(plan.weights.len());
}

/// Epochs of 1 to 8 blocks in which everybody bonds, votes, leaves and comes back as it likes, with two identities that are no
/// members at first. Who lies has the lowest key, so that its index is the same whoever else is in, and is capped below a third.
fn stake(plan: &mut Plan, random: &mut Random) {
    let modes: &[Mode] = if plan.byzantine.is_some() { &[Mode::Poa, Mode::Hybrid] } else { &Mode::ALL };
    plan.stakes = Some(random.choose(modes));
    plan.parameters.epoch_blocks = random.choose(&[1, 2, 3, 5, 5, 8]);
    plan.boundary_crashes = random.choose(&[0, 20, 50]);
    plan.byzantine = plan.byzantine.map(|(_, adversary)| (0, adversary));
    (plan.leads_often, plan.amnesic, plan.schedule) = (false, None, Vec::new());
    let members = plan.weights.iter().filter(|weight| **weight > 0).count();
    plan.weights = [vec![1; members], vec![0, 0]].concat();
    plan.network.widen(plan.weights.len());
    plan.boundary_cuts = random.choose(&[0, 20, 50]);
}

/// Weights of four members or more, drawn from so many.
fn some_of(all: usize, random: &mut Random) -> Vec<u32> {
    let mut weights: Vec<u32> = (0..all).map(|_| random.below(3) as u32).collect();
    let mut at = random.below(all as u64) as usize;
    while weights.iter().filter(|weight| **weight > 0).count() < 4 {
        weights[at % all] = weights[at % all].max(1);
        at += 1;
    }
    weights
}

fn plan(wanted: &Wanted, scenario: Scenario, random: &mut Random) -> Plan {
    let nodes = random.choose(&[4, 4, 5, 7]);
    let weights: Vec<u32> = match wanted.nodes.unwrap_or(nodes) {
        5 => vec![3, 2, 2, 1, 2],
        n => vec![1; n],
    };
    let n = weights.len();
    let skip_timeout_ms = random.choose(&[20, 60, 150]);
    let min_slot_ms = (skip_timeout_ms / 10).min(5);
    let heal_at = random.choose(&[600, 1_500, 3_000]);
    let network = Network::chaos(n, wanted.chaos_ms.unwrap_or(heal_at), random);
    let network = if scenario == Scenario::Lag { network.steady() } else { network };
    let who = random.below(n as u64) as u16;
    let (byzantine, leads_often) = match scenario {
        Scenario::Chaos | Scenario::Clock | Scenario::Forgetful | Scenario::PowerLoss | Scenario::Lag => (None, false),
        Scenario::Amnesia => (Some((who, Adversary::MarkLiar)).filter(|_| !wanted.seed.is_multiple_of(3)), false),
        Scenario::Liar(adversary) => (Some((who, adversary)), false),
        Scenario::OftenLeader(adversary) => (Some((who, adversary)), true),
    };
    let off = random.choose(&[-10_000, 10_000]);
    let power_losses = if scenario == Scenario::PowerLoss { random.between(1, 5) } else { 0 };
    Plan {
        seed: wanted.seed,
        parameters: Parameters { skip_timeout_ms, min_slot_ms, ..Parameters::default() },
        power_losses: (0..power_losses).map(|_| random.below(network.heal_at)).collect(),
        network,
        crashes: match scenario {
            Scenario::Amnesia => random.choose(&[6, 12, 20]),
            Scenario::Lag => 1,
            _ => random.choose(&[0, 2, 6, 12]),
        },
        byzantine,
        leads_often,
        clock_off: Some((who, off)).filter(|_| scenario == Scenario::Clock),
        forgetful: if scenario == Scenario::Forgetful { random.choose(&[100, 30, 10, 3]) } else { 0 },
        tell: wanted.tell,
        batch_every: 20,
        schedule: Vec::new(),
        boundary_crashes: 0,
        boundary_cuts: 0,
        stakes: None,
        upgrade: None,
        old: BTreeSet::new(),
        amnesic: Some((who + 1) % n as u16).filter(|_| scenario == Scenario::Amnesia),
        stalls: if scenario == Scenario::Lag { 10 } else { random.choose(&[0, 1, 5, 20]) },
        weights,
    }
}
