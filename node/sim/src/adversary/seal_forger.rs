//! Ends epochs that have not ended: tells all of Seals under certificates that are thin, of another kind, slot or block, or of
//! another epoch.

use super::certificate_forger::{alone, forge};
use super::{Lie, Scene};
use aitbc_core::block::{Header, Seal};
use aitbc_core::message::Message;
use aitbc_core::validators::Index;
use aitbc_core::vote::{Cert, Kind, Statement};

/// Headers that it remembers.
const HEADERS_MAX: usize = 4;

pub fn twist(scene: &mut Scene<'_>, to: Index, message: &Message) -> Vec<Lie> {
    match message {
        Message::Seal(seal) if scene.random.percent(70) => {
            let (cert, header) = (forge(scene, &seal.cert), seal.header.clone());
            vec![(to, 0, Message::Seal(Box::new(Seal { header, cert })))]
        }
        _ => vec![(to, 0, message.clone())],
    }
}

/// What is notarized it calls final, and the end of an epoch.
pub fn hear(scene: &mut Scene<'_>, heard: &Message) -> Vec<Lie> {
    let seal = match heard {
        Message::Proposal(proposal) => {
            scene.remember(&proposal.candidate.header, HEADERS_MAX);
            return Vec::new();
        }
        Message::Cert(cert) if cert.statement.kind != Kind::Skip && scene.random.percent(40) => of_cert(scene, cert),
        Message::Status(_) if scene.random.percent(20) => of_nothing(scene),
        _ => None,
    };
    let Some(seal) = seal else { return Vec::new() };
    let others = (0..scene.n as Index).filter(|to| *to != scene.me);
    others.map(|to| (to, 0, Message::Seal(Box::new(seal.clone())))).collect()
}

/// A true certificate under a header of its digest, or of another: only a Final one of a last block is a Seal.
fn of_cert(scene: &mut Scene<'_>, cert: &Cert) -> Option<Seal> {
    let named = scene.bases.iter().find(|header| header.digest() == cert.statement.digest);
    let mut header = named.or(scene.bases.last())?.clone();
    let mut cert = cert.clone();
    match scene.random.below(4) {
        0 => cert.statement.kind = Kind::Final,
        1 => header.height = scene.epochs.last(header.epoch),
        2 => header.epoch += 1,
        _ => {}
    }
    Some(Seal { header, cert })
}

/// The last header known, as the last one of its epoch or of the next, final by the liar's word alone.
fn of_nothing(scene: &mut Scene<'_>) -> Option<Seal> {
    let known = scene.bases.last()?.clone();
    let epoch = known.epoch + scene.random.below(2);
    let header = Header { epoch, height: scene.epochs.last(epoch), ..known };
    let statement = Statement { epoch, slot: header.slot, kind: Kind::Final, digest: header.digest() };
    Some(Seal { cert: alone(scene, statement), header })
}
