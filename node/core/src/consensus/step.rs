//! One step: the clock, the input, then the rules to a fixpoint (protocol.md C0).

use super::input::{Input, Now};
use super::output::Output;
use super::state::Core;
use crate::validators::Index;

/// Rounds of the rules in a step. Each vote and slot makes a rule act once, so a step never comes near.
const ROUNDS_MAX: usize = 1_000;

impl Core {
    /// **C0.** A pure function of state, time and input: applies the input, then the rules until none acts.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        self.set_clock(now);
        self.apply(input);
        self.settle();
        out.append(&mut self.out);
    }

    /// What a start has to do before the first input: the same as a tick.
    pub fn start(&mut self, now: Now, out: &mut Vec<Output>) {
        self.step(now, Input::Tick, out);
    }

    /// The monotonic clock never goes back, whatever the caller says (C0).
    fn set_clock(&mut self, now: Now) {
        self.now = Now { mono_ms: now.mono_ms.max(self.now.mono_ms), wall_ms: now.wall_ms };
        self.wake = None;
    }

    /// Peers come in by the shell's numbers.
    pub(super) fn apply(&mut self, mut input: Input) {
        if let Some(peer) = peer_of(&mut input) {
            let Some(local) = self.roster.local(*peer) else { return self.dropped("peer_unknown") };
            *peer = local;
        }
        match input {
            Input::Proposal { from, proposal } => self.on_proposal(from, proposal),
            Input::Vote { from, vote } => self.c1_observe_vote(from, vote),
            Input::Cert { from, cert } => self.on_cert(from, cert),
            Input::Cand { from, candidate } => self.on_candidate(from, candidate),
            Input::Status { from, status } => self.c18_on_status(from, status),
            Input::Reproposal { from, reproposal } => self.on_reproposal(from, reproposal),
            Input::Seal { from, seal } => self.on_seal(from, seal),
            Input::SealReq { from, epoch } => self.e7_answer(from, epoch),
            Input::CandReq { from, digests } => self.c14_answer_candidates(from, &digests),
            Input::CertReq { from, slots } => self.c15_answer_certs(from, &slots),
            Input::Connected { peer } => self.c18_on_connected(peer),
            Input::Disconnected { peer } => self.on_disconnected(peer),
            Input::Greeted { peer, heard } => self.a2_on_greeted(peer, heard),
            Input::MarkQuery { from, asker, nonce, votes_above } => self.a4_answer(from, asker, nonce, votes_above),
            Input::MarkReply { from, reply } => self.a5_on_reply(from, reply),
            Input::Tick => {}
            Input::BatchDurable { reference, seq, expiry_height } => self.on_batch(reference, seq, expiry_height),
            Input::Executed { digest, roots, set } => self.on_executed(digest, roots, set),
            Input::Durable { write, signature } => self.p5_on_durable(write, signature),
            Input::WriteFailed { write, failure } => self.p6_on_write_failed(write, failure),
            Input::Synced { tip, cert, included, nullifiers, boundary } => {
                self.on_synced(&tip, cert, included, nullifiers, boundary);
            }
            Input::Evidence(evidence) => self.x2_on_evidence(evidence),
            Input::Lagging(lagging) => self.lagging = lagging,
            Input::Ready(ready) => self.on_ready(ready),
        }
    }

    /// C5-C12 to a fixpoint, then what only moves data.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut acted = self.c5_advance_frontier();
            acted |= self.examine_candidates();
            acted |= self.examine_reproposals();
            acted |= self.c19_finalize();
            // What was kept for the new epoch may have moved its s*: the frontier first.
            if self.e5_advance_epoch() {
                continue;
            }
            acted |= self.c7_lead();
            acted |= self.c9_vote_final();
            acted |= self.c10_skip();
            if !acted {
                break;
            }
        }
        self.a5_ask();
        if self.v1_stopped().is_some() {
            // Nothing above is of use, and the others go on without end.
            self.wants.clear();
        }
        self.c14_fetch();
        self.c16_relay_due();
        self.c17_standstill();
        self.c18_status_due();
        self.note_work();
        self.set_timer();
    }

    /// Asks for a tick at the earliest moment some rule waits for, if that is another than asked for already.
    fn set_timer(&mut self) {
        if self.timer != self.wake
            && let Some(at) = self.wake
        {
            self.timer = Some(at);
            self.emit(Output::Timer(at));
        }
    }

    fn on_ready(&mut self, ready: bool) {
        if self.ready != ready {
            self.ready = ready;
            // Peers shall not wait for a leader that will not lead, and what was held back may go now.
            self.broadcast_status();
            self.finals_due.extend(self.slots.keys().copied());
        }
    }
}

/// Who an input is of, where it is of a peer.
fn peer_of(input: &mut Input) -> Option<&mut Index> {
    match input {
        Input::Proposal { from, .. }
        | Input::Vote { from, .. }
        | Input::Cert { from, .. }
        | Input::Cand { from, .. }
        | Input::Reproposal { from, .. }
        | Input::Seal { from, .. }
        | Input::SealReq { from, .. }
        | Input::Status { from, .. }
        | Input::CandReq { from, .. }
        | Input::CertReq { from, .. }
        | Input::MarkReply { from, .. } => Some(from),
        Input::Connected { peer } | Input::Disconnected { peer } | Input::Greeted { peer, .. } => Some(peer),
        Input::MarkQuery { .. }
        | Input::Tick
        | Input::BatchDurable { .. }
        | Input::Executed { .. }
        | Input::Durable { .. }
        | Input::WriteFailed { .. }
        | Input::Synced { .. }
        | Input::Evidence(_)
        | Input::Lagging(_)
        | Input::Ready(_) => None,
    }
}
