//! Proposes at the end of an epoch what it should not: two last blocks of one slot, both of them again in its next ones, and a
//! last block again beside a new one. Votes for all.

use super::{Lie, Scene, double_voter, header_of};
use crate::disk::sign_vote;
use aitbc_core::block::{Header, Proposal, Reproposal};
use aitbc_core::message::Message;
use aitbc_core::validators::Index;
use aitbc_core::vote::{Cert, Kind, Statement};

/// Last blocks that it remembers, notarized or not.
const LAST_MAX: usize = 6;

pub fn twist(scene: &mut Scene<'_>, to: Index, message: &Message) -> Vec<Lie> {
    let own = (to, 0, message.clone());
    match message {
        Message::Proposal(proposal) if proposal.candidate.header.proposer == scene.me => {
            let lie = beside_block(scene, proposal);
            mixed(scene, own, lie)
        }
        Message::Reproposal(again) => {
            let lie = beside_again(scene, again);
            mixed(scene, own, lie)
        }
        _ => vec![own],
    }
}

pub fn hear(scene: &mut Scene<'_>, heard: &Message) -> Vec<Lie> {
    if let Some(header) = header_of(heard) {
        remember(scene, header);
    }
    double_voter::hear(scene, heard)
}

/// One half of the peers hears the one, the other half the other, some both.
fn mixed(scene: &mut Scene<'_>, own: Lie, lie: Option<Message>) -> Vec<Lie> {
    let Some(lie) = lie.filter(|_| scene.random.percent(80)) else { return vec![own] };
    let lie = (own.0, scene.random.below(4), lie);
    match (scene.random.percent(25), own.0.is_multiple_of(2)) {
        (true, _) => vec![lie, own],
        (false, true) => vec![lie],
        (false, false) => vec![own],
    }
}

/// Beside its own new block: another last block, or one of before again.
fn beside_block(scene: &mut Scene<'_>, proposal: &Proposal) -> Option<Message> {
    let own = &proposal.candidate.header;
    remember(scene, own);
    if scene.epochs.is_boundary(own.height) && own.time_ms.is_multiple_of(2) {
        let header = Header { time_ms: own.time_ms + 1, ..own.clone() };
        return Some(block(scene, header, &proposal.proof));
    }
    again(scene, own.epoch, own.slot, own, &proposal.proof)
}

/// Beside a last block again: another one again, or a block of the same height in this slot.
fn beside_again(scene: &mut Scene<'_>, reproposal: &Reproposal) -> Option<Message> {
    let Reproposal { epoch, slot, digest, .. } = *reproposal;
    let known = scene.bases.iter().find(|header| header.digest() == digest)?.clone();
    if known.time_ms.is_multiple_of(2) {
        return again(scene, epoch, slot, &known, &reproposal.proof);
    }
    let header = Header { slot, proposer: scene.me, time_ms: known.time_ms + 1, batches: Vec::new(), ..known };
    Some(block(scene, header, &reproposal.proof))
}

/// Another last block of the epoch than `own`, proposed again.
fn again(scene: &Scene<'_>, epoch: u64, slot: u64, own: &Header, proof: &[Cert]) -> Option<Message> {
    let other = |header: &&Header| header.epoch == epoch && header.slot < slot && *header != own;
    let digest = scene.bases.iter().rev().find(other)?.digest();
    let statement = Statement { epoch, slot, kind: Kind::Notar, digest };
    let signature = sign_vote(&scene.chain, scene.me, statement).signature;
    Some(Message::Reproposal(Box::new(Reproposal { epoch, slot, digest, signature, proof: proof.to_vec() })))
}

fn block(scene: &mut Scene<'_>, header: Header, proof: &[Cert]) -> Message {
    remember(scene, &header);
    scene.proposal(header, proof)
}

fn remember(scene: &mut Scene<'_>, header: &Header) {
    if scene.epochs.is_boundary(header.height) && !scene.bases.contains(header) {
        scene.remember(header, LAST_MAX);
    }
}
