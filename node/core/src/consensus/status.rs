//! Where everybody stands, and repair of who is behind (protocol.md C18).

use super::certs::within_reply;
use super::output::Output;
use super::resolve::BEHIND_HEIGHTS;
use super::state::Core;
use crate::message::{Message, Status};
use crate::params::{REPAIR_EVERY_MS, STATUS_EVERY_MS};
use crate::validators::Index;

impl Core {
    /// **C18.** Status goes out on connecting.
    pub(super) fn c18_on_connected(&mut self, peer: Index) {
        self.seen.link_changed(peer, self.now.mono_ms);
        if let Some(state) = self.peers.get_mut(usize::from(peer)) {
            state.connected = true;
            let message = Message::Status(self.status());
            self.emit(Output::Send { to: peer, message });
            self.a2_on_connected(peer);
        }
    }

    pub(super) fn on_disconnected(&mut self, peer: Index) {
        self.seen.link_changed(peer, self.now.mono_ms);
        if let Some(state) = self.peers.get_mut(usize::from(peer)) {
            state.connected = false;
            // What a peer had may be lost with its process; that it said not ready stands (C11).
            state.cleared = 0;
            if let Some(status) = &mut state.status {
                (status.final_slot, status.height) = (0, 0);
            }
        }
    }

    /// **C18.** Status goes to everybody every 500 ms.
    pub(super) fn c18_status_due(&mut self) {
        if self.now.mono_ms >= self.status_due {
            self.broadcast_status();
        }
        self.wake_at(self.status_due);
    }

    pub(super) fn broadcast_status(&mut self) {
        self.status_due = self.now.mono_ms + STATUS_EVERY_MS;
        let message = Message::Status(self.status());
        self.emit(Output::Broadcast(message));
    }

    pub(super) fn status(&self) -> Status {
        Status {
            epoch: self.config.epoch(),
            final_slot: self.top.slot,
            frontier: self.frontier.slot,
            height: self.tip.height,
            // Below the floor of a recovery nobody should wait for its proposals either (A6). The moments that a Seal takes to
            // be written do not count: the next epoch's leaders would be skipped for them (C11). Nor does it that it is no member:
            // what it says outlives the epoch, in whose next one it may lead.
            ready: self.g5_past(self.frontier.slot),
        }
    }

    /// **C18.** Upon a Status: help a peer that is behind, call block sync where we are far behind.
    pub(super) fn c18_on_status(&mut self, from: Index, status: Status) {
        let Some(peer) = self.peers.get_mut(usize::from(from)) else { return };
        if status.epoch != self.config.epoch() {
            return self.c18_on_other_epoch(from, status);
        }
        peer.cleared = peer.cleared.max(status.frontier.saturating_sub(1));
        self.p10_ask(from);
        let Some(peer) = self.peers.get_mut(usize::from(from)) else { return };
        // On a quiet chain a validator may be in no certificate only because the others were faster each time.
        let alive = status.ready && status.final_slot >= self.top.slot;
        let (final_slot, frontier, height) = (status.final_slot, status.frontier, status.height);
        peer.status = Some(status);
        if alive {
            self.note_alive(from);
        }
        if height > self.tip.height + BEHIND_HEIGHTS {
            self.emit(Output::Behind { peer: from, height });
        }
        if final_slot < self.top.slot {
            self.c18_repair_final(from);
        } else if frontier < self.frontier.slot && self.may_repair(from) {
            let certs = within_reply(self.clearing_certs(frontier));
            self.send_certs(from, certs);
        }
    }

    /// **C18, E7.** A peer is in another epoch: one that is behind gets the Seal of its own, of one that is ahead ours is asked.
    fn c18_on_other_epoch(&mut self, from: Index, status: Status) {
        let (epoch, height, own) = (status.epoch, status.height, self.config.epoch());
        if let Some(peer) = self.peers.get_mut(usize::from(from)) {
            peer.status = Some(Status { final_slot: 0, frontier: 0, ..status });
        }
        if height > self.tip.height + BEHIND_HEIGHTS {
            self.emit(Output::Behind { peer: from, height });
        }
        if epoch < own {
            return self.e7_help(from, epoch);
        }
        self.note_alive(from);
        if !self.holds_end() && self.may_repair(from) {
            self.emit(Output::Send { to: from, message: Message::SealReq { epoch: own } });
        }
    }

    /// **C18.** A peer is below s*: the Final certificate of s*, and what clears the slots above, lift it to the frontier.
    pub(super) fn c18_repair_final(&mut self, to: Index) {
        if self.may_repair(to) {
            let certs = within_reply(self.top.cert.iter().chain(self.clearing_certs(self.top.slot + 1)));
            self.send_certs(to, certs);
        }
    }

    /// At most one repair per 50 ms and peer.
    pub(super) fn may_repair(&mut self, peer: Index) -> bool {
        let now = self.now.mono_ms;
        let Some(state) = self.peers.get_mut(usize::from(peer)) else { return false };
        let may = state.connected && now >= state.repair_due;
        if may {
            state.repair_due = now + REPAIR_EVERY_MS;
        }
        may
    }

    pub(super) fn is_connected(&self, peer: Index) -> bool {
        self.peers.get(usize::from(peer)).is_some_and(|peer| peer.connected)
    }

    pub(super) fn connected(&self) -> impl Iterator<Item = Index> + '_ {
        let connected = self.peers.iter().enumerate().filter(|(_, peer)| peer.connected);
        connected.map(|(index, _)| index as Index).filter(|index| *index != self.config.me)
    }

    pub(super) fn random_peer(&mut self) -> Option<Index> {
        let peers: Vec<Index> = self.connected().collect();
        self.random.choose(&peers)
    }
}
