//! Sends what no honest validator would: forged signatures, other names, thin certificates, absurd slots, wild headers.

use super::{Lie, Scene};
use crate::disk::sign_vote;
use aitbc_core::hash::{self, Hash};
use aitbc_core::key::Signature;
use aitbc_core::message::{Message, Status};
use aitbc_core::validators::Index;
use aitbc_core::vote::{Cert, Kind, Statement, Vote};

pub fn twist(scene: &mut Scene<'_>, to: Index, message: &Message) -> Vec<Lie> {
    let mut out = Vec::new();
    if !scene.random.percent(30) {
        out.push((to, 0, message.clone()));
    }
    if scene.random.percent(60)
        && let Some(garbage) = garbage(scene, message)
    {
        out.push((to, 0, garbage));
    }
    out
}

fn garbage(scene: &mut Scene<'_>, message: &Message) -> Option<Message> {
    let digest = hash::plain(&scene.random.below(1 << 40).to_le_bytes());
    let other = scene.random.below(scene.n as u64 + 2) as Index;
    Some(match (scene.random.below(8), message) {
        // Somebody else's vote, forged.
        (0, Message::Vote(vote)) => Message::Vote(Vote { signer: other, ..vote.clone() }),
        (1, Message::Vote(vote)) => Message::Vote(Vote { signature: Signature([7; 64]), ..vote.clone() }),
        (2, _) => {
            let statement = Statement { epoch: 0, slot: 1 << 63, kind: Kind::Skip, digest: Hash::ZERO };
            Message::Vote(sign_vote(&scene.chain, scene.me, statement))
        }
        // One signature that claims to be all.
        (3, Message::Vote(vote)) => {
            let (signers, signatures) = (vec![(1 << scene.n.min(7)) - 1], vec![vote.signature; scene.n]);
            Message::Cert(Cert { statement: vote.statement, signers, signatures })
        }
        (4, Message::Proposal(proposal)) => {
            let mut proposal = proposal.clone();
            let header = &mut proposal.candidate.header;
            match scene.random.below(4) {
                0 => header.height += 1,
                1 => header.parent = digest,
                2 => header.parent_state_root = digest,
                _ => header.time_ms += 60_000,
            }
            let statement = header.notar(header.digest());
            proposal.candidate.signature = sign_vote(&scene.chain, scene.me, statement).signature;
            Message::Proposal(proposal)
        }
        // Blocks that end elsewhere than their certificate, or are not what it names.
        (5, Message::Blocks(honest)) if !honest.blocks.is_empty() => {
            let mut reply = honest.clone();
            match scene.random.below(3) {
                0 => drop(reply.headers.pop().or_else(|| reply.blocks.pop().map(|block| block.header))),
                1 => reply.blocks[0].header.time_ms += 1,
                _ => reply.blocks.iter_mut().for_each(|block| block.batches.clear()),
            }
            Message::Blocks(reply)
        }
        (7, _) => Message::CandReq { digests: vec![digest; 8] },
        (6, _) => {
            let far = 1 << 40;
            Message::Status(Status { epoch: 0, final_slot: far, frontier: far, height: far, ready: true })
        }
        _ => return None,
    })
}
