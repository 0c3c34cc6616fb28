//! P1-P9 as far as they are the core's, and the directed test of P4 (protocol.md §10.5).

use super::rig::*;
use crate::block::Candidate;
use crate::consensus::input::{Input, Recovered, Tip, WriteFailure};
use crate::consensus::output::{Halt, Output, Rows, Write};
use crate::hash::{Hash, plain};
use crate::message::Message;
use crate::vote::{Cert, Kind, Vote};

/// A rig that has asked to store Notar for the candidate of slot 1.
fn voting() -> (Rig, Write, Hash) {
    let mut rig = Rig::new(4, 3);
    let header = rig.header(1, &genesis());
    let digest = rig.propose(header);
    let write = rig.writes().remove(0);
    (rig, write, digest)
}

#[test]
fn p3_a_notar_row_carries_its_candidate() {
    let (rig, write, digest) = voting();
    let Rows::Notar { statement: s, candidate } = write.rows else { panic!("a Notar row") };
    assert_eq!((s, candidate.header.digest()), (statement(Kind::Notar, 1, digest), digest));
    assert_eq!(*candidate, rig.candidate(candidate.header.clone()), "signed by the leader");
}

#[test]
fn p5_nothing_leaves_before_the_commit_is_acknowledged() {
    let (mut rig, write, digest) = voting();
    assert!(rig.sent_votes().is_empty());
    rig.commit(&write);
    assert_eq!(rig.sent_votes(), [statement(Kind::Notar, 1, digest)]);
    rig.commit(&write);
    assert_eq!(rig.sent_votes().len(), 1, "a second answer changes nothing");
}

#[test]
fn p5_a_certificate_with_the_own_vote_forms_after_the_commit() {
    let (mut rig, write, digest) = voting();
    rig.vote(1, statement(Kind::Notar, 1, digest));
    assert!(rig.certified().is_empty());
    rig.commit(&write);
    assert_eq!(rig.certified(), [(Kind::Notar, 1)]);
}

#[test]
fn p6_a_reservation_counts_at_once() {
    let mut rig = Rig::new(4, 3);
    rig.durable_batch(0, 1, 9);
    let header = rig.header(1, &genesis());
    let digest = rig.propose(header);
    rig.serve();
    rig.pass(150);
    assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 1), (Kind::Skip, 1)]);
    rig.cert(Kind::Notar, 1, digest);
    assert_eq!(rig.persisted_kinds().len(), 2, "Skip is reserved: no Final");
}

#[test]
fn p6_no_vote_until_restart_after_an_unknown_outcome() {
    let (mut rig, write, digest) = voting();
    rig.take();
    rig.give(Input::WriteFailed { write: write.id, failure: WriteFailure::Unknown });
    assert!(rig.broadcasts().iter().any(|m| matches!(m, Message::Status(s) if !s.ready)));
    rig.cert(Kind::Notar, 1, digest);
    rig.give(Input::Ready(true));
    rig.pass(20_000);
    let child = rig.header(2, &genesis());
    rig.propose(child);
    assert!(rig.persisted().is_empty() && rig.sent_votes().is_empty());
    assert!(rig.halts().is_empty(), "it goes on serving");
}

#[test]
fn p6_a_vote_without_a_signature_is_an_unknown_outcome() {
    let (mut rig, write, _) = voting();
    rig.give(Input::Durable { write: write.id, signature: None });
    assert!(!rig.core.may_vote());
}

#[test]
fn p4_the_certificate_of_a_final_row_is_held_after_a_restart() {
    let rig = Rig::new(4, 3);
    let header = rig.header(1, &genesis());
    let cert = rig.make_cert(&[0, 1, 2], statement(Kind::Notar, 1, header.digest()));
    let restarted = Rig::recovered(4, 3, Recovered { certs: vec![cert], ..nothing() });
    assert_eq!(restarted.core.frontier(), 2, "slot 1 stays cleared without anybody's help");
}

#[test]
fn p6_a_conflicting_row_halts_with_71_and_a_lost_lease_with_70() {
    for (failure, halt) in [(WriteFailure::Conflict, Halt::ConflictingVote), (WriteFailure::Fenced, Halt::Fenced)] {
        let (mut rig, write, _) = voting();
        rig.give(Input::WriteFailed { write: write.id, failure });
        assert_eq!(rig.halts(), [halt]);
        rig.take();
        rig.pass(5_000);
        assert!(rig.persisted().is_empty());
    }
}

#[test]
fn p6_an_answer_after_a_halt_sends_nothing() {
    let (mut rig, write, digest) = voting();
    for d in [digest, plain(b"other")] {
        rig.cert(Kind::Notar, 1, d);
    }
    assert_eq!(rig.halts().len(), 1);
    rig.commit(&write);
    assert!(rig.sent_votes().is_empty());
}

#[test]
fn p8_a_restart_re_decides_nothing_and_offers_its_votes_again() {
    let (mut rig, _, digest) = voting();
    rig.serve();
    rig.pass(200);
    rig.serve();
    assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 1), (Kind::Skip, 1)]);
    let Some(entry) = rig.core.candidates.get(&digest) else { panic!("candidate") };
    let votes = vec![rig.sign(3, statement(Kind::Notar, 1, digest)), rig.sign(3, statement(Kind::Skip, 1, Hash::ZERO))];
    let recovered = Recovered { votes: votes.clone(), candidates: vec![entry.candidate.clone()], ..nothing() };
    let mut rig = Rig::recovered(4, 3, recovered);
    rig.pass(300);
    assert!(rig.persisted().is_empty());
    assert_eq!(rig.sent_votes(), votes.iter().map(|v| v.statement).collect::<Vec<_>>(), "C17");
    rig.cert(Kind::Notar, 1, digest);
    assert!(rig.persisted().is_empty(), "G8 by the row");
}

#[test]
fn p8_s_star_comes_from_the_certificate_or_the_ledgers_end() {
    let rig = Rig::new(4, 3);
    let cert = rig.others_cert(Kind::Final, 5, Hash([5; 32]));
    let core = Rig::recovered(4, 3, Recovered { final_cert: Some(cert.clone()), ..nothing() }).core;
    assert_eq!((core.final_slot(), core.frontier(), core.height()), (5, 6, 0));
    let tip = crate::consensus::input::Tip { slot: 9, height: 4, digest: Hash([9; 32]), ..genesis_tip() };
    let core = Rig::recovered(4, 3, Recovered { tip, final_cert: Some(cert), ..nothing() }).core;
    assert_eq!((core.final_slot(), core.height()), (9, 4));
}

#[test]
fn s3_on_a_fetched_base_own_votes_above_its_slot_stand_and_older_ones_are_none_any_more() {
    let rig = Rig::new(4, 3);
    let base = Parent { digest: plain(b"base"), slot: 5_000, height: 4_000, ..genesis() };
    let candidate = rig.candidate(rig.header(5_001, &base));
    let digest = candidate.header.digest();
    let own = [statement(Kind::Notar, 5_001, digest), statement(Kind::Skip, 5_001, Hash::ZERO)];
    let old = statement(Kind::Skip, 9, Hash::ZERO);
    let votes = [old, own[0], own[1]].map(|statement| rig.sign(3, statement)).to_vec();
    let certs = vec![rig.others_cert(Kind::Notar, 10, Hash([5; 32]))];
    let tip = Tip { digest: base.digest, slot: base.slot, height: base.height, time_ms: 0, roots: roots(base.digest) };
    let recovered = Recovered { tip, votes, certs, candidates: vec![candidate], ..nothing() };
    let mut rig = Rig::recovered(4, 3, recovered);
    assert_eq!((rig.core.final_slot(), rig.core.frontier(), rig.core.height()), (5_000, 5_001, 4_000));
    rig.pass(300);
    assert!(rig.persisted().is_empty());
    assert_eq!(rig.sent_votes(), own, "C17");
    rig.cert(Kind::Notar, 5_001, digest);
    assert!(rig.persisted().is_empty(), "G8 by the row");
}

#[test]
fn p8_candidates_below_a_recovered_final_certificate_become_final() {
    let mut rig = Rig::new(4, 3);
    let mut parent = genesis();
    let mut candidates = Vec::new();
    for slot in 1..=3 {
        let header = rig.header(slot, &parent);
        let candidate = rig.candidate(header);
        parent = after(&candidate);
        candidates.push(candidate);
    }
    let final_cert = Some(rig.others_cert(Kind::Final, 3, parent.digest));
    let missing = candidates.remove(0);
    // In any order, and with one that is nowhere on disk.
    candidates.reverse();
    rig = Rig::recovered(4, 3, Recovered { final_cert, candidates, ..nothing() });
    rig.pass(5);
    assert!(rig.finalized().is_empty());
    rig.give(Input::Cand { from: 1, candidate: missing });
    rig.serve();
    assert_eq!(rig.finalized(), [1, 2, 3]);
}

#[test]
fn p9_old_rows_in_the_ledger_are_no_votes_any_more() {
    let rig = Rig::new(4, 3);
    let votes = vec![rig.sign(3, statement(Kind::Skip, 3, Hash::ZERO))];
    let cert = rig.others_cert(Kind::Final, 5, Hash([5; 32]));
    let rig = Rig::recovered(4, 3, Recovered { votes, final_cert: Some(cert), ..nothing() });
    assert!(rig.core.slots.is_empty());
}

/// A peer of the directed test: a rig with what its ledger would hold.
struct Peer {
    rig: Rig,
    votes: Vec<Vote>,
    certs: Vec<Cert>,
    candidates: Vec<Candidate>,
}

impl Peer {
    fn new(me: u16) -> Peer {
        Peer { rig: Rig::new(4, me), votes: Vec::new(), certs: Vec::new(), candidates: Vec::new() }
    }

    /// Commits every write, executes every block, and returns what it sent to all.
    fn serve(&mut self) -> Vec<Message> {
        self.rig.serve();
        let me = self.rig.config.me;
        for write in self.rig.writes() {
            match write.rows {
                Rows::Notar { statement, candidate } => {
                    self.votes.push(self.rig.sign(me, statement));
                    self.candidates.push(*candidate);
                }
                Rows::Final { statement, cert } => {
                    self.votes.push(self.rig.sign(me, statement));
                    self.certs.push(cert);
                }
                Rows::Skip { statement } => self.votes.push(self.rig.sign(me, statement)),
                Rows::FinalCert { .. } | Rows::Seal { .. } | Rows::Memory { .. } => {}
            }
        }
        let sent = self.rig.out.iter().filter_map(|o| match o {
            Output::Broadcast(m) | Output::Send { message: m, .. } => Some(m.clone()),
            _ => None,
        });
        let sent = sent.collect();
        self.rig.take();
        sent
    }

    fn restart(&mut self) {
        let recovered = Recovered {
            votes: self.votes.clone(),
            certs: self.certs.clone(),
            candidates: self.candidates.clone(),
            ..nothing()
        };
        let now = self.rig.now;
        self.rig = Rig::recovered(4, self.rig.config.me, recovered);
        let passed = now.mono_ms - self.rig.now.mono_ms;
        self.rig.pass(passed);
    }

    fn hear(&mut self, from: u16, message: Message) {
        match message {
            Message::Vote(vote) => self.rig.give(Input::Vote { from, vote }),
            Message::Cert(cert) => self.rig.give(Input::Cert { from, cert }),
            Message::Certs { certs } => certs.into_iter().for_each(|cert| self.rig.give(Input::Cert { from, cert })),
            Message::Proposal(proposal) => self.rig.give(Input::Proposal { from, proposal: *proposal }),
            Message::Cand(candidate) => self.rig.give(Input::Cand { from, candidate: *candidate }),
            Message::Status(status) => self.rig.give(Input::Status { from, status }),
            Message::CandReq { digests } => self.rig.give(Input::CandReq { from, digests }),
            Message::CertReq { slots } => self.rig.give(Input::CertReq { from, slots }),
            _ => {}
        }
    }
}

/// Two honest validators vote Notar d, one d'; the Byzantine leader completes d for one of them only, which votes Final
/// and crashes; the others skip; then the Byzantine one is silent. The slot must clear.
#[test]
fn p4_a_final_row_keeps_its_slot_clearable_after_a_crash() {
    // 0 is Byzantine and leads slot 1; 1 and 2 vote d, 3 votes d'.
    let mut peers: Vec<Peer> = (1..4).map(Peer::new).collect();
    let d = peers[0].rig.header(1, &genesis());
    let e = crate::block::Header { time_ms: d.time_ms + 1, ..d.clone() };
    for (peer, header) in peers.iter_mut().zip([&d, &d, &e]) {
        peer.rig.propose(header.clone());
    }
    let sent: Vec<Vec<Message>> = peers.iter_mut().map(Peer::serve).collect();
    // Only 1 hears 2's vote; with the leader's own it is a quorum for d, known to 1 alone.
    for message in sent[1].clone() {
        peers[0].hear(2, message);
    }
    peers[0].serve();
    assert!(peers[0].votes.iter().any(|v| v.statement == statement(Kind::Final, 1, d.digest())));
    // It crashes before anything of this left.
    peers[0].restart();
    for peer in &mut peers[1..] {
        peer.rig.vote(0, statement(Kind::Skip, 1, Hash::ZERO));
        peer.rig.pass(1_200);
        peer.serve();
        assert!(peer.votes.iter().any(|v| v.statement.kind == Kind::Skip && v.statement.slot == 1));
    }
    // From here on the Byzantine one is silent and all messages arrive.
    for _ in 0..60 {
        let sent: Vec<Vec<Message>> = peers
            .iter_mut()
            .map(|peer| {
                peer.rig.pass(50);
                peer.serve()
            })
            .collect();
        for (i, messages) in sent.into_iter().enumerate() {
            for (j, peer) in peers.iter_mut().enumerate().filter(|(j, _)| i != *j) {
                let _ = j;
                messages.iter().cloned().for_each(|message| peer.hear(i as u16 + 1, message));
            }
        }
    }
    for peer in &peers {
        assert!(peer.rig.core.frontier() > 1, "slot 1 is cleared for {}", peer.rig.config.me);
        assert!(peer.rig.core.final_slot() > 0, "and the chain goes on");
    }
}
