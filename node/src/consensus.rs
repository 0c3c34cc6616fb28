//! The task that owns the core: inputs in, each output carried out; no await inside a step.

use crate::batches::{BatchPool, Batches};
use crate::doctor::Doctor;
use crate::events;
use crate::executor::Command;
use crate::gossip::{GossipEvent, GossipHandle, Peers};
use crate::lapse::{Lapse, Lapses};
use crate::mempool::intake::Intake;
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::signer;
use crate::storage::Storage;
use crate::subscriptions::Subscriptions;
use crate::sync::SyncEvent;
use crate::view::Identity;
use aitbc_core::batch::Batch;
use aitbc_core::consensus::input::Input;
use aitbc_core::consensus::output::{Event, Halt, Output};
use aitbc_core::consensus::{Core, VotingState};
use aitbc_core::epoch::Sets;
use aitbc_core::evidence::{Class, Evidence};
use aitbc_core::key::{PublicKey, SecretKey};
use aitbc_core::memory::{Mark, MarkReply, Seen};
use aitbc_core::message::{MAX_REQUEST, Message};
use aitbc_core::validators::Index;
use aitbc_core::vote::{Kind, Vote};
use prometheus::IntCounterVec;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{debug, error, info, warn};

/// Inputs waiting for the core: from the signer, the batches, the executor.
pub const QUEUE: usize = 4_096;
/// Inputs taken between two looks at the clock.
const BURST: usize = 64;
/// Largest batch that a leader is reminded of.
const ANNOUNCE_BYTES: usize = 8 << 10;
/// Requests for batches answered at once.
pub const ANSWERING: usize = 16;
/// The loop turns at least this often, so that liveness can be told.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Channels and shared parts of the loop.
pub struct Consensus {
    /// The state machine.
    pub core: Core,
    /// Fixed facts.
    pub identity: Arc<Identity>,
    /// Of the epoch that the outputs being carried out are of; a step may end one.
    pub sets: Sets,
    /// Consensus key: signs marks (A4).
    pub key: Arc<SecretKey>,
    /// Its public half.
    pub own: PublicKey,
    /// Channels to peers.
    pub gossip: GossipHandle,
    /// Incoming batches.
    pub batches: Batches,
    /// Transactions that nodes of no set pass on.
    pub intake: Intake,
    /// Batches in memory, to answer requests.
    pub pool: Arc<BatchPool>,
    /// Batches in the ledger, to answer requests.
    pub storage: Arc<dyn Storage>,
    /// Votes to sign and store.
    pub writes: Outbox<signer::Job>,
    /// Blocks to execute.
    pub executor: Outbox<Command>,
    /// Block sync.
    pub sync: mpsc::Sender<SyncEvent>,
    /// Subscribers.
    pub subscriptions: Subscriptions,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Read by health, status and metrics.
    pub pulse: Arc<Pulse>,
    /// Says why there is no block.
    pub doctor: Doctor,
    /// Inputs of the own loop, for what is read off it; weak, or the loop would never see them close.
    pub inputs: mpsc::WeakSender<Input>,
    /// Room for requests of peers being answered.
    pub answering: Arc<Semaphore>,
    /// Told when the core will not vote any more.
    pub halted: watch::Sender<Option<Halt>>,
}

impl Consensus {
    /// Runs until `inputs` closes. Internal inputs go first: they are what peers wait for.
    pub async fn run(mut self, mut inputs: mpsc::Receiver<Input>, mut gossip: mpsc::Receiver<GossipEvent>) {
        let mut outputs = Vec::new();
        let mut timer = None;
        let (sets, roster) = (self.core.sets().clone(), self.core.roster().to_vec());
        self.entered(sets, &roster);
        self.core.start(self.pulse.now(), &mut outputs);
        self.carry_out(&mut outputs, &mut timer);
        let mut burst = Vec::with_capacity(BURST);
        let mut lapses = Lapses::default();
        loop {
            let wake = self.wake_up(timer);
            tokio::select! {
                biased;
                count = inputs.recv_many(&mut burst, BURST) => if count == 0 { return },
                event = gossip.recv() => match event {
                    Some(event) => self.sort(event, &mut gossip, &mut burst),
                    None => return,
                },
                () = self.executor.drain(), if self.executor.is_waiting() => {}
                () = self.writes.drain(), if self.writes.is_waiting() => {}
                () = tokio::time::sleep_until(wake.into()) => burst.push(Input::Tick),
            }
            let turn = self.pulse.now();
            self.pulse.last_turn_ms.store(turn.mono_ms, Ordering::Relaxed);
            lapses.turn(turn).iter().for_each(tell);
            for input in burst.drain(..) {
                self.forget_spent(&input);
                let now = self.pulse.now();
                self.core.step(now, input, &mut outputs);
            }
            self.carry_out(&mut outputs, &mut timer);
            self.doctor.look(&self.core, self.pulse.now());
        }
    }

    fn wake_up(&self, timer: Option<u64>) -> Instant {
        let heartbeat = Instant::now() + HEARTBEAT;
        timer.map_or(heartbeat, |at| heartbeat.min(self.pulse.started + Duration::from_millis(at)))
    }

    /// Turns what peers sent into inputs, as long as there is some, at most a burst of it.
    fn sort(&self, first: GossipEvent, gossip: &mut mpsc::Receiver<GossipEvent>, burst: &mut Vec<Input>) {
        self.input(first, burst);
        for _ in 1..BURST {
            let Ok(event) = gossip.try_recv() else { return };
            self.input(event, burst);
        }
    }

    fn input(&self, event: GossipEvent, burst: &mut Vec<Input>) {
        let (from, message) = match event {
            GossipEvent::Connected(peer, heard) => {
                self.tell_sync(SyncEvent::Connected(peer));
                burst.push(Input::Connected { peer });
                return burst.push(Input::Greeted { peer, heard });
            }
            GossipEvent::Disconnected(peer) => {
                self.tell_sync(SyncEvent::Disconnected(peer));
                return burst.push(Input::Disconnected { peer });
            }
            GossipEvent::Message(from, message) => (from, message),
        };
        if message.is_of_consensus() && !self.gossip.takes_part(from) {
            return self.metrics.network_dropped.with_label_values(&["no_validator"]).inc();
        }
        match message {
            Message::Status(status) => {
                self.tell_sync(SyncEvent::Height { peer: from, height: status.height });
                burst.push(Input::Status { from, status });
            }
            Message::Proposal(proposal) => burst.push(Input::Proposal { from, proposal: *proposal }),
            Message::Vote(vote) => burst.push(Input::Vote { from, vote }),
            Message::Cert(cert) => burst.push(Input::Cert { from, cert }),
            Message::Certs { certs } => burst.extend(certs.into_iter().map(|cert| Input::Cert { from, cert })),
            Message::CandReq { digests } => burst.push(Input::CandReq { from, digests }),
            Message::Cand(candidate) => burst.push(Input::Cand { from, candidate: *candidate }),
            Message::CertReq { slots } => burst.push(Input::CertReq { from, slots }),
            Message::Batch(batch) => self.take_batch(*batch),
            Message::Batches { batches } => batches.into_iter().for_each(|batch| self.take_batch(batch)),
            Message::BatchReq { digests } => self.answer_batches(from, digests),
            Message::BlocksReq { from: height, count } => {
                self.tell_sync(SyncEvent::Request { peer: from, from: height, count });
            }
            Message::Blocks(blocks) => self.tell_sync(SyncEvent::Reply { peer: from, blocks }),
            Message::Reproposal(reproposal) => burst.push(Input::Reproposal { from, reproposal: *reproposal }),
            Message::SealReq { epoch } => burst.push(Input::SealReq { from, epoch }),
            Message::Seal(seal) => burst.push(Input::Seal { from, seal: *seal }),
            Message::HeadersReq { from: height, count } => {
                self.tell_sync(SyncEvent::HeadersRequest { peer: from, from: height, count });
            }
            Message::Headers(headers) => self.tell_sync(SyncEvent::Headers { peer: from, headers }),
            Message::SnapshotReq { height, from: key } => {
                self.tell_sync(SyncEvent::SnapshotRequest { peer: from, height, from: key });
            }
            Message::Snapshot(snapshot) => self.tell_sync(SyncEvent::Snapshot { peer: from, snapshot }),
            Message::Transactions { transactions } => {
                self.intake.receive(from, self.gossip.key_of(from), &self.sets.current, transactions);
            }
            Message::MarkQuery { nonce, votes_above } => {
                // Who has no number any more is gone.
                let asker = self.gossip.key_of(from);
                burst.extend(asker.map(|asker| Input::MarkQuery { from, asker, nonce, votes_above }));
            }
            Message::MarkReply(mut reply) => {
                // A Hello of this very process tells of no other one (A2).
                reply.seen.hello.take_if(|heard| self.gossip.said(&heard.hello));
                burst.push(Input::MarkReply { from, reply: *reply });
            }
        }
    }

    /// V1: where this program has stopped no block of its own will ever include it, and the others go on without end.
    fn take_batch(&self, batch: Batch) {
        if self.core.v1_stopped().is_some() {
            return self.metrics.network_dropped.with_label_values(&["old_version"]).inc();
        }
        self.batches.receive(batch);
    }

    /// A batch that came too late, or again, must not count against its author: who sends old ones would keep out new ones.
    fn forget_spent(&self, input: &Input) {
        if let Input::BatchDurable { reference, expiry_height, .. } = input
            && self.core.is_spent(&reference.digest, *expiry_height)
        {
            self.pool.remove(&reference.digest);
        }
    }

    fn tell_sync(&self, event: SyncEvent) {
        if self.sync.try_send(event).is_err() {
            // Sync asks again after its time-out.
            self.metrics.network_dropped.with_label_values(&["sync"]).inc();
        }
    }

    fn note_evidence(&self, evidence: &Evidence) {
        let class = evidence.class().map_or("none", Class::name);
        self.metrics.evidence.with_label_values(&[class]).inc();
        let set = self.sets.of(evidence.epoch());
        let validator = set.and_then(|set| set.address(evidence.signer())).map(|address| address.to_string());
        warn!(
            validator,
            class,
            slot = evidence.slot(),
            "a validator signed two things that contradict each other: two processes run with its key, or its code is altered"
        );
    }

    /// X2 (e): both batches are here, in memory or in the ledger; the core gets the proof.
    fn prove_two_batches(&self, digests: [aitbc_core::hash::Hash; 2]) {
        let Ok(permit) = self.answering.clone().try_acquire_owned() else {
            // Told again when another of that number comes, or after a restart.
            self.metrics.network_dropped.with_label_values(&["two_batches"]).inc();
            return;
        };
        let (pool, storage) = (self.pool.clone(), self.storage.clone());
        let (inputs, chain) = (self.inputs.clone(), self.identity.chain);
        tokio::spawn(async move {
            let mut found = Vec::new();
            for digest in digests {
                match pool.get(&digest) {
                    Some(held) => found.push(held.batch),
                    None => match storage.batches(vec![digest]).await {
                        Ok(stored) => found.extend(stored.into_iter().map(|(_, batch)| batch)),
                        Err(cause) => warn!(%cause, %digest, "a batch that proves misbehaviour could not be read"),
                    },
                }
            }
            if let ([first, second], Some(core)) = (&found[..], inputs.upgrade()) {
                // Fails only while the node stops.
                let _ = core.send(Input::Evidence(Evidence::of_batches(first, second, &chain))).await;
            }
            drop(permit);
        });
    }

    /// Everybody answers for batches it voted for (C14): from memory, else from the ledger, off this task.
    fn answer_batches(&self, to: Index, mut digests: Vec<aitbc_core::hash::Hash>) {
        digests.truncate(MAX_REQUEST);
        let Ok(permit) = self.answering.clone().try_acquire_owned() else {
            // The asker asks again, or elsewhere (C14).
            self.metrics.network_dropped.with_label_values(&["batch_req"]).inc();
            return;
        };
        let (pool, storage, gossip) = (self.pool.clone(), self.storage.clone(), self.gossip.clone());
        tokio::spawn(async move {
            let send = |batch: &aitbc_core::batch::Batch| {
                // The asker asks again, or elsewhere (C14).
                let _ = gossip.send(to, &Message::Batches { batches: vec![batch.clone()] });
            };
            let mut missing = Vec::new();
            for digest in digests {
                match pool.get(&digest) {
                    Some(batch) => send(&batch.batch),
                    None => missing.push(digest),
                }
            }
            if missing.is_empty() {
                return;
            }
            match storage.batches(missing).await {
                Ok(found) => found.iter().for_each(|(_, batch)| send(batch)),
                Err(cause) => warn!(%cause, "batches asked for could not be read"),
            }
            drop(permit);
        });
    }

    fn carry_out(&mut self, outputs: &mut Vec<Output>, timer: &mut Option<u64>) {
        for output in outputs.drain(..) {
            match output {
                Output::Persist(write) => {
                    let signer = self.index_in(self.sets.epoch).unwrap_or(Index::MAX);
                    self.writes.push(signer::Job { write, signer });
                }
                Output::Execute { digest, candidate } => self.executor.push(Command::Execute { digest, candidate }),
                Output::Finalized { blocks, cert } => {
                    self.note_final(&blocks, &cert);
                    self.executor.push(Command::Finalize { blocks, cert });
                }
                Output::Send { to, message } => self.send(to, &message),
                Output::Broadcast(message) => {
                    if let Err(cause) = self.gossip.broadcast(&message) {
                        error!(%cause, kind = message.name(), "a message of ours is over its cap");
                    }
                }
                Output::Announce { to, batch } => self.announce(to, &batch),
                Output::Mark { to, asker, mark, seen, votes } => self.send_mark(to, &asker, mark, seen, votes),
                Output::Entered { sets, roster } => self.entered(sets, &roster),
                Output::Timer(at) => *timer = Some(at),
                Output::Behind { peer, height } => self.tell_sync(SyncEvent::Behind { peer, height }),
                Output::Evidence(evidence) => self.note_evidence(&evidence),
                Output::TwoBatches { first, second } => self.prove_two_batches([first, second]),
                Output::Halt(halt) => {
                    error!(?halt, "consensus halted");
                    self.halted.send_replace(Some(halt));
                }
                Output::Event(event) => self.note(&event),
            }
        }
        self.note_voting_state();
        self.pulse.frontier.store(self.core.frontier(), Ordering::Relaxed);
        self.pulse.final_slot.store(self.core.final_slot(), Ordering::Relaxed);
        self.metrics.frontier_slot.set(self.core.frontier() as i64);
        self.metrics.final_slot.set(self.core.final_slot() as i64);
    }

    /// Reminds a leader of a small batch of ours (C12). Large ones were broadcast and can be asked for (C14): sending each
    /// twice would cost more than it saves.
    fn announce(&self, to: Index, digest: &aitbc_core::hash::Hash) {
        if let Some(found) = self.pool.get(digest)
            && self.index_in(found.batch.epoch) == Some(found.batch.author)
            && found.batch.encoded_len() <= ANNOUNCE_BYTES
        {
            self.send(to, &Message::Batch(Box::new((*found.batch).clone())));
        }
    }

    /// A4. A process that lost its lease does not know the votes of the one after it, so the lease is read first; at most one
    /// answer a key in 50 ms.
    fn send_mark(&self, to: Index, asker: &PublicKey, mark: Mark, seen: Seen, votes: Vec<Vote>) {
        let bytes = mark.sign_bytes(&self.identity.chain, asker);
        let (storage, gossip, key) = (self.storage.clone(), self.gossip.clone(), self.key.clone());
        tokio::spawn(async move {
            match storage.ping().await {
                // The asker asks again.
                Err(cause) => debug!(%cause, to, "no mark while the lease cannot be read"),
                Ok(()) => {
                    let reply = MarkReply { mark, signature: key.sign(&bytes), seen, votes };
                    let _ = gossip.send(to, &Message::MarkReply(Box::new(reply)));
                }
            }
        });
    }

    /// An epoch has begun (E5): its validators, and those around it, may connect, and their batches are taken.
    fn entered(&mut self, sets: Sets, roster: &[PublicKey]) {
        let (epoch, current) = (sets.epoch, sets.current.clone());
        forget_left(&self.metrics.missed_slots, &sets);
        self.gossip.follow(Peers::of(roster, &sets));
        self.pool.enter(sets.clone());
        self.sets = sets;
        let own = self.index_in(epoch);
        self.pulse.epoch.store(epoch, Ordering::Relaxed);
        self.metrics.epoch.set(epoch as i64);
        self.metrics.validators.set(current.len() as i64);
        self.metrics.validator_weight.set(own.map_or(0, |own| current.weight(own)) as i64);
        info!(epoch, validators = current.len(), member = own.is_some(), "an epoch begins");
    }

    /// Own index in the set of an epoch near this one.
    fn index_in(&self, epoch: u64) -> Option<Index> {
        self.sets.of(epoch).and_then(|set| set.index_of(&self.own))
    }

    /// Whether the others alone make a quorum; else only `recover --assume-clean` ends a quarantine (A5, A9).
    fn can_recover(&self) -> bool {
        let (set, own) = (&self.sets.current, self.index_in(self.sets.epoch));
        set.total_weight() - own.map_or(0, |own| set.weight(own)) >= set.quorum()
    }

    /// Tells everybody when this validator begins or ceases to vote.
    fn note_voting_state(&self) {
        let (voting_state, cause) = (self.core.voting_state(), self.core.memory().quarantine);
        if self.pulse.voting_state() == (voting_state, cause) {
            return;
        }
        self.pulse.set_voting_state(voting_state, cause);
        self.metrics.quarantined.set(i64::from(voting_state == VotingState::Quarantined));
        match cause {
            None => {
                let taken_back = self.core.memory().taken_back.len();
                info!(
                    ?voting_state,
                    taken_back, "no vote of ours is known that the database lacks and that was not taken back"
                );
            }
            Some(cause) => warn!(
                %cause,
                recovers = self.can_recover(),
                "quarantined: votes of this key may be missing here, so it casts none until validators heavier than two \
                 thirds have told their highest votes; then it ends once, to start with a safe floor"
            ),
        }
    }

    fn send(&self, to: Index, message: &Message) {
        if let Message::BatchReq { digests } = message {
            self.pool.want(digests);
        }
        // A peer that left gets what it missed when it is back (C17, C18).
        if let Err(cause) = self.gossip.send(to, message) {
            debug!(%cause, kind = message.name(), "not sent");
        }
    }

    fn note_final(
        &self,
        blocks: &[(aitbc_core::hash::Hash, aitbc_core::block::Candidate)],
        cert: &aitbc_core::vote::Cert,
    ) {
        let Some((digest, candidate)) = blocks.last() else { return };
        debug!(height = candidate.header.height, slot = cert.statement.slot, block = %digest, "final");
    }

    fn note(&self, event: &Event) {
        let metrics = &self.metrics;
        match event {
            Event::SlotStarted { .. } | Event::Proposed { .. } => {}
            Event::Voted { statement } => {
                metrics.votes.with_label_values(&[statement.kind.name()]).inc();
                if statement.kind == Kind::Final {
                    let height = self.core.height_of(&statement.digest).unwrap_or_default();
                    self.pulse.last_signed_height.fetch_max(height, Ordering::Relaxed);
                    metrics.last_signed_height.set(self.pulse.last_signed_height.load(Ordering::Relaxed) as i64);
                }
            }
            Event::Certified { statement } => {
                if statement.kind != Kind::Final {
                    metrics.consensus_rounds.inc();
                }
            }
            Event::Missed { slot, leader, .. } => {
                let address = self.sets.current.address(*leader).map(|a| a.to_string()).unwrap_or_default();
                metrics.missed_slots.with_label_values(&[&address]).inc();
                debug!(slot, leader = address, "slot passed without a block");
            }
            Event::Dropped { reason } => metrics.consensus_dropped.with_label_values(&[reason]).inc(),
        }
        events::consensus(&self.subscriptions, &self.sets.current, metrics.height.get() as u64, event);
    }
}

/// Takes back what was counted of validators that left the set two epochs ago: each key that ever validated would stay for the
/// life of the process.
fn forget_left(missed: &IntCounterVec, sets: &Sets) {
    let stays = |key: &PublicKey| [&sets.previous, &sets.current].iter().any(|set| set.index_of(key).is_some());
    for left in sets.older.members().iter().filter(|member| !stays(&member.key)) {
        // Who missed none has no counter.
        let _ = missed.remove_label_values(&[&left.key.address().to_string()]);
    }
}

/// Says what would otherwise look like a fault of the network.
fn tell(lapse: &Lapse) {
    match lapse {
        Lapse::StoodStill(ms) => {
            warn!(ms, "this process stood still: it was stopped, starved of processor time, or blocked")
        }
        Lapse::ClockLeapt(ms) => {
            warn!(ms, "the wall clock of this machine leapt: blocks too far ahead of it get no vote")
        }
    }
}

/// The way to a task that answers the core. Never waits: the task may be waiting to hand the core an answer,
/// and two tasks that wait for each other stop for good.
pub struct Outbox<T> {
    sender: mpsc::Sender<T>,
    waiting: VecDeque<T>,
}

impl<T> Outbox<T> {
    /// An outbox before a channel.
    pub fn new(sender: mpsc::Sender<T>) -> Self {
        Outbox { sender, waiting: VecDeque::new() }
    }

    /// Sends, or keeps until there is room: the core itself has few writes and blocks open at a time.
    pub fn push(&mut self, item: T) {
        self.waiting.push_back(item);
        while let Some(item) = self.waiting.pop_front() {
            match self.sender.try_send(item) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(item)) => return self.waiting.push_front(item),
                // The node is stopping.
                Err(mpsc::error::TrySendError::Closed(_)) => return self.waiting.clear(),
            }
        }
    }

    fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends what waits, one item at each room; may be cancelled at any time.
    async fn drain(&mut self) {
        match self.sender.reserve().await {
            Ok(permit) => {
                if let Some(item) = self.waiting.pop_front() {
                    permit.send(item);
                }
            }
            Err(_) => self.waiting.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Outbox, forget_left};
    use crate::metrics::Metrics;
    use crate::tests::chain::{secret, sets_of};
    use tokio::sync::mpsc;

    #[test]
    fn missed_slots_of_a_validator_that_left_are_exported_for_one_more_epoch_and_then_no_more() {
        let metrics = Metrics::new().expect("unique names");
        let address = |n: u8| secret(n).public().address().to_string();
        // Validator 2 leaves after epoch 3, validator 1 after epoch 4; validator 3 stays.
        for n in [1, 2, 3] {
            metrics.missed_slots.with_label_values(&[&address(n)]).inc();
        }
        let exported = |epoch: u64| {
            forget_left(&metrics.missed_slots, &sets_of(epoch));
            let text = metrics.render().expect("encodes");
            [1, 2, 3].map(|n| text.contains(&address(n)))
        };
        assert_eq!(exported(4), [true, true, true]);
        assert_eq!(exported(5), [true, false, true]);
        assert_eq!(exported(6), [false, false, true]);
    }

    #[tokio::test]
    async fn an_outbox_keeps_order_through_a_full_channel_and_never_waits() {
        let (sender, mut receiver) = mpsc::channel(2);
        let mut outbox = Outbox::new(sender);
        (0..5).for_each(|i| outbox.push(i));
        assert!(outbox.is_waiting());
        let mut got = vec![receiver.recv().await, receiver.recv().await];
        while outbox.is_waiting() {
            outbox.drain().await;
            got.push(receiver.recv().await);
        }
        assert_eq!(got, (0..5).map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn an_outbox_before_a_closed_channel_drops_what_it_holds() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let mut outbox = Outbox::new(sender);
        outbox.push(1);
        assert!(!outbox.is_waiting());
    }
}
