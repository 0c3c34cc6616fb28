//! Byzantine validators: an honest core whose words are twisted on their way out, one way of lying a file.

mod batch_withholder;
mod certificate_forger;
mod certificate_withholder;
mod double_voter;
mod early_bird;
mod equivocator;
mod flooder;
mod forker;
mod garbage;
mod late_revealer;
mod mark_liar;
mod reproposer;
mod seal_forger;
mod slow_leader;
mod twin;

use crate::disk::sign_vote;
use crate::random::Random;
use aitbc_core::block::{Candidate, Header, Proposal};
use aitbc_core::epoch::Epochs;
use aitbc_core::hash::Hash;
use aitbc_core::message::Message;
use aitbc_core::validators::Index;
use aitbc_core::vote::Cert;

/// Where a lie is told.
pub struct Scene<'a> {
    pub chain: Hash,
    pub epochs: Epochs,
    pub me: Index,
    pub n: usize,
    pub random: &'a mut Random,
    /// Headers that the liar remembers.
    pub bases: &'a mut Vec<Header>,
}

impl Scene<'_> {
    /// Remembers a header among the last `most`.
    fn remember(&mut self, header: &Header, most: usize) {
        self.bases.push(header.clone());
        if self.bases.len() > most {
            self.bases.remove(0);
        }
    }

    /// A block of its own, signed, with this proof of its base.
    fn proposal(&self, header: Header, proof: &[Cert]) -> Message {
        let signature = sign_vote(&self.chain, self.me, header.notar(header.digest())).signature;
        Message::Proposal(Box::new(Proposal { candidate: Candidate { header, signature }, proof: proof.to_vec() }))
    }
}

/// The header that a message tells of.
fn header_of(heard: &Message) -> Option<&Header> {
    match heard {
        Message::Proposal(proposal) => Some(&proposal.candidate.header),
        Message::Cand(candidate) => Some(&candidate.header),
        _ => None,
    }
}

/// A message to somebody after so many milliseconds.
pub type Lie = (Index, u64, Message);

/// The kinds of liars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adversary {
    /// Not among [`Adversary::ALL`]: it needs somebody who recovers.
    MarkLiar,
    Equivocator,
    DoubleVoter,
    BatchWithholder,
    CertificateWithholder,
    Garbage,
    Twin,
    SlowLeader,
    LateRevealer,
    Flooder,
    CertificateForger,
    Forker,
    /// Nor these three: they need epochs that end.
    Reproposer,
    SealForger,
    EarlyBird,
}

impl Adversary {
    pub const ALL: [Adversary; 11] = [
        Adversary::Equivocator,
        Adversary::DoubleVoter,
        Adversary::BatchWithholder,
        Adversary::CertificateWithholder,
        Adversary::Garbage,
        Adversary::Twin,
        Adversary::SlowLeader,
        Adversary::LateRevealer,
        Adversary::Flooder,
        Adversary::CertificateForger,
        Adversary::Forker,
    ];

    /// Those who lie about epochs.
    pub const OF_EPOCHS: [Adversary; 3] = [Adversary::Reproposer, Adversary::SealForger, Adversary::EarlyBird];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Adversary::MarkLiar => "mark-liar",
            Adversary::Equivocator => "equivocator",
            Adversary::DoubleVoter => "double-voter",
            Adversary::BatchWithholder => "batch-withholder",
            Adversary::CertificateWithholder => "certificate-withholder",
            Adversary::Garbage => "garbage",
            Adversary::Twin => "twin",
            Adversary::SlowLeader => "slow-leader",
            Adversary::LateRevealer => "late-revealer",
            Adversary::Flooder => "flooder",
            Adversary::CertificateForger => "certificate-forger",
            Adversary::Forker => "forker",
            Adversary::Reproposer => "reproposer",
            Adversary::SealForger => "seal-forger",
            Adversary::EarlyBird => "early-bird",
        }
    }

    /// What becomes of a message that its core would send.
    pub fn twist(self, scene: &mut Scene<'_>, to: Index, message: &Message) -> Vec<Lie> {
        match self {
            Adversary::MarkLiar => mark_liar::twist(scene, to, message),
            Adversary::Equivocator => equivocator::twist(scene, to, message),
            Adversary::DoubleVoter => double_voter::twist(to, message),
            Adversary::BatchWithholder => batch_withholder::twist(scene, to, message),
            Adversary::CertificateWithholder => certificate_withholder::twist(scene, to, message),
            Adversary::Garbage => garbage::twist(scene, to, message),
            Adversary::Twin => twin::twist(to, message),
            Adversary::SlowLeader => slow_leader::twist(to, message),
            Adversary::LateRevealer => late_revealer::twist(scene, to, message),
            Adversary::Flooder => flooder::twist(scene, to, message),
            Adversary::CertificateForger => certificate_forger::twist(scene, to, message),
            Adversary::Forker => forker::twist(scene, to, message),
            Adversary::Reproposer => reproposer::twist(scene, to, message),
            Adversary::SealForger => seal_forger::twist(scene, to, message),
            Adversary::EarlyBird => early_bird::twist(scene, to, message),
        }
    }

    /// What it says on hearing a message.
    pub fn hear(self, scene: &mut Scene<'_>, heard: &Message) -> Vec<Lie> {
        match self {
            Adversary::Equivocator | Adversary::DoubleVoter | Adversary::MarkLiar => double_voter::hear(scene, heard),
            Adversary::CertificateForger => certificate_forger::hear(scene, heard),
            Adversary::Forker => forker::hear(scene, heard),
            Adversary::Reproposer => reproposer::hear(scene, heard),
            Adversary::SealForger => seal_forger::hear(scene, heard),
            Adversary::BatchWithholder
            | Adversary::CertificateWithholder
            | Adversary::Garbage
            | Adversary::Twin
            | Adversary::SlowLeader
            | Adversary::LateRevealer
            | Adversary::Flooder
            | Adversary::EarlyBird => Vec::new(),
        }
    }

    /// True where honest validators may have proof against it.
    pub fn votes_twice(self) -> bool {
        use Adversary::{DoubleVoter, EarlyBird, Equivocator, Flooder, Forker, Garbage, MarkLiar, Reproposer, Twin};
        matches!(
            self,
            MarkLiar | Equivocator | DoubleVoter | Twin | Flooder | Garbage | Forker | Reproposer | EarlyBird
        )
    }
}
