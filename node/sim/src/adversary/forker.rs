//! Leads with blocks on other bases than the one it should: older ones, its own that nobody notarized, genesis. Votes for all.

use super::{Lie, Scene, double_voter, header_of};
use crate::disk::roots;
use aitbc_core::block::{Header, Proposal};
use aitbc_core::hash::Hash;
use aitbc_core::message::Message;
use aitbc_core::validators::Index;

/// Headers it remembers as bases, of which it chooses among the newest.
const BASES_MAX: usize = 8;
const CHOICES: usize = 4;

pub fn twist(scene: &mut Scene<'_>, to: Index, message: &Message) -> Vec<Lie> {
    let own = (to, 0, message.clone());
    match message {
        Message::Proposal(proposal) if proposal.candidate.header.proposer == scene.me => {
            let fork = fork(scene, proposal);
            // Both are known soon, and most vote for the same one: the fork in every other slot.
            let late = scene.random.between(2, 10);
            let mut lies = if proposal.candidate.header.time_ms.is_multiple_of(2) {
                vec![(to, 0, fork), (to, late, message.clone())]
            } else {
                vec![own, (to, late, fork)]
            };
            if scene.random.percent(20) {
                lies.remove(scene.random.below(2) as usize);
            }
            lies
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

/// The same for all who get it, so that it may find a quorum.
fn fork(scene: &mut Scene<'_>, proposal: &Proposal) -> Message {
    let own = &proposal.candidate.header;
    remember(scene, own);
    let known: Vec<&Header> = scene.bases.iter().rev().filter(|base| base.slot < own.slot).take(CHOICES).collect();
    // In two of three cases the newest, which is its own last fork where it led before.
    let choice = (own.time_ms / 2) as usize;
    let choice = if choice.is_multiple_of(3) { choice / 3 % (known.len() + 1) } else { 0 };
    let header = match known.get(choice) {
        Some(base) => on(own, base.digest(), (base.slot, base.height, base.time_ms)),
        None => on(own, scene.chain, (0, 0, 0)),
    };
    remember(scene, &header);
    scene.proposal(header, &proposal.proof)
}

/// An empty block on another parent.
fn on(own: &Header, parent: Hash, (parent_slot, height, time_ms): (u64, u64, u64)) -> Header {
    let roots = roots(parent, own.version);
    Header {
        parent_slot,
        parent,
        height: height + 1,
        parent_state_root: roots.state,
        parent_results_root: roots.results,
        time_ms: own.time_ms.max(time_ms) + 1,
        batches: Vec::new(),
        ..own.clone()
    }
}

fn remember(scene: &mut Scene<'_>, header: &Header) {
    if !scene.bases.contains(header) {
        scene.remember(header, BASES_MAX);
    }
}
