//! Lies in certificates: makes others of every one it sees, one signer short, of another statement, or signed by itself alone.

use super::{Lie, Scene};
use crate::disk::sign;
use aitbc_core::block::Proposal;
use aitbc_core::hash::{self, Hash};
use aitbc_core::message::Message;
use aitbc_core::validators::Index;
use aitbc_core::vote::{Cert, Kind, Statement};

pub fn twist(scene: &mut Scene<'_>, to: Index, message: &Message) -> Vec<Lie> {
    let message = match message {
        Message::Cert(cert) if scene.random.percent(50) => Message::Cert(forge(scene, cert)),
        Message::Certs { certs } => {
            Message::Certs { certs: certs.iter().map(|cert| perhaps_forge(scene, cert)).collect() }
        }
        Message::Proposal(proposal) => {
            let proof = proposal.proof.iter().map(|cert| perhaps_forge(scene, cert)).collect();
            Message::Proposal(Box::new(Proposal { candidate: proposal.candidate.clone(), proof }))
        }
        other => other.clone(),
    };
    vec![(to, 0, message)]
}

/// What becomes known to it is at once told to all in another form.
pub fn hear(scene: &mut Scene<'_>, heard: &Message) -> Vec<Lie> {
    let known = match heard {
        Message::Cert(cert) => cert.clone(),
        Message::Vote(vote) if scene.random.percent(30) => alone(scene, vote.statement),
        _ => return Vec::new(),
    };
    let others = (0..scene.n as Index).filter(|to| *to != scene.me).collect::<Vec<_>>();
    others.into_iter().map(|to| (to, 0, Message::Cert(forge(scene, &known)))).collect()
}

fn perhaps_forge(scene: &mut Scene<'_>, cert: &Cert) -> Cert {
    if scene.random.percent(50) { forge(scene, cert) } else { cert.clone() }
}

/// A certificate that nobody may believe.
pub(super) fn forge(scene: &mut Scene<'_>, cert: &Cert) -> Cert {
    let mut cert = cert.clone();
    let Statement { kind, digest, .. } = cert.statement;
    match scene.random.below(8) {
        0 => drop_last(&mut cert),
        // Each signature is somebody's, of something else.
        1 if kind == Kind::Notar => cert.statement.kind = Kind::Final,
        2 if kind != Kind::Skip => (cert.statement.kind, cert.statement.digest) = (Kind::Skip, Hash::ZERO),
        3 if kind != Kind::Skip => cert.statement.digest = hash::plain(&digest.0),
        4 => cert.statement.slot += 1,
        5 => cert.signatures.rotate_left(1),
        // One signer many times.
        6 => cert.signatures = vec![cert.signatures[0]; cert.signatures.len()],
        _ => return alone(scene, cert.statement),
    }
    cert
}

/// One signer, and so its weight, less: a quorum less one where the certificate had no more than it needs.
fn drop_last(cert: &mut Cert) {
    let last = cert.signer_indices().last();
    if let Some(byte) = last.and_then(|last| cert.signers.get_mut(usize::from(last) / 8).map(|byte| (byte, last % 8))) {
        *byte.0 &= !(1 << byte.1);
        cert.signatures.pop();
    }
}

/// In the name of all, by the one key it has.
pub(super) fn alone(scene: &Scene<'_>, statement: Statement) -> Cert {
    let signature = sign(scene.me, &statement.sign_bytes(&scene.chain));
    Cert { statement, signers: vec![(1 << scene.n.min(7)) - 1], signatures: vec![signature; scene.n] }
}
