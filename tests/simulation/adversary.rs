//! A Byzantine validator: leads with two blocks at once, votes for everything, tells everybody something else.

use crate::disk::sign_vote;
use crate::random::Random;
use aitbc_core::block::{Candidate, Proposal};
use aitbc_core::hash::Hash;
use aitbc_core::message::Message;
use aitbc_core::validators::Index;
use aitbc_core::vote::{Kind, Statement};

/// What it makes of a message its core would send to one peer: half of the peers get the other block, some get nothing.
pub fn twist(chain: &Hash, me: Index, to: Index, message: &Message, random: &mut Random) -> Vec<Message> {
    if random.percent(15) {
        return Vec::new();
    }
    match message {
        Message::Proposal(proposal) if proposal.candidate.header.proposer == me && to.is_multiple_of(2) => {
            let twin = twin(chain, me, proposal);
            // Sometimes both, which is evidence at once.
            if random.percent(20) { vec![twin, message.clone()] } else { vec![twin] }
        }
        other => vec![other.clone()],
    }
}

/// The same block a millisecond later.
fn twin(chain: &Hash, me: Index, proposal: &Proposal) -> Message {
    let mut header = proposal.candidate.header.clone();
    header.time_ms += 1;
    let signature = sign_vote(chain, me, header.notar(header.digest())).signature;
    Message::Proposal(Box::new(Proposal { candidate: Candidate { header, signature }, proof: proposal.proof.clone() }))
}

/// Votes it adds to what it hears: for the candidate, for its finality and against the slot, each to whom it likes.
pub fn double_votes(chain: &Hash, me: Index, heard: &Message, n: usize, random: &mut Random) -> Vec<(Index, Message)> {
    let statement = match heard {
        Message::Vote(vote) if vote.statement.kind == Kind::Notar => vote.statement,
        Message::Proposal(proposal) => proposal.candidate.header.notar(proposal.candidate.header.digest()),
        _ => return Vec::new(),
    };
    let skip = Statement { kind: Kind::Skip, digest: Hash::ZERO, ..statement };
    let fin = Statement { kind: Kind::Final, ..statement };
    let mut out = Vec::new();
    for to in (0..n as Index).filter(|to| *to != me) {
        let statement = random.choose(&[statement, skip, fin]);
        if random.percent(60) {
            out.push((to, Message::Vote(sign_vote(chain, me, statement))));
        }
    }
    out
}
