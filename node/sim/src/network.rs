//! What the wires do: loss, duplicates, reordering, delay, partitions; calm after the heal.

use crate::random::Random;
use aitbc_core::block::{Block, Candidate, Header};
use aitbc_core::message::Message;
use aitbc_core::vote::Cert;

/// How bad the network is.
#[derive(Clone, Debug)]
pub struct Network {
    /// Until then all of the below; afterwards messages only take `calm_ms`.
    pub heal_at: u64,
    /// Percent of messages lost, and doubled.
    pub loss: u64,
    pub doubled: u64,
    /// Longest delay of the slow ones in chaos; 0: as in calm.
    pub slow_ms: u64,
    /// Longest delay in calm.
    pub calm_ms: u64,
    /// Side of each node; `cut(a, b)` from one side to another while a partition lasts.
    sides: Vec<u8>,
    partition_until: u64,
    /// Times that the cut still comes and goes, and whether it is gone just now.
    flaps: u64,
    open: bool,
    /// Only messages from the higher side to the lower are cut.
    one_way: bool,
    partitions: bool,
}

impl Network {
    /// No chaos at all.
    pub fn calm(n: usize, calm_ms: u64) -> Network {
        Network {
            heal_at: 0,
            loss: 0,
            doubled: 0,
            slow_ms: 0,
            calm_ms,
            sides: vec![0; n],
            partition_until: 0,
            flaps: 0,
            open: false,
            one_way: false,
            partitions: false,
        }
    }

    /// Room for more nodes.
    pub fn widen(&mut self, n: usize) {
        self.sides.resize(n, 0);
    }

    /// Chaos whose measure the seed decides.
    pub fn chaos(n: usize, heal_at: u64, random: &mut Random) -> Network {
        Network {
            heal_at,
            loss: random.between(0, 40),
            doubled: 10,
            slow_ms: random.choose(&[60, 300, 1_000]),
            partitions: true,
            ..Network::calm(n, random.choose(&[1, 5, 10]))
        }
    }

    /// All messages arrive, soon: what goes wrong until the heal is something else, in a chain at full speed.
    pub fn steady(self) -> Network {
        Network { slow_ms: 0, partitions: false, ..self }
    }

    /// Delays of the copies of a message that arrive.
    pub fn delays(&mut self, now: u64, from: usize, to: usize, random: &mut Random) -> Vec<u64> {
        // Steady: nothing is slow.
        if now >= self.heal_at || self.slow_ms == 0 {
            return vec![random.between(1, self.calm_ms)];
        }
        self.move_partition(now, random);
        if random.percent(self.loss) || self.is_cut(now, from, to) {
            return Vec::new();
        }
        let mut delay = || if random.percent(15) { random.between(1, self.slow_ms) } else { random.between(1, 30) };
        let first = delay();
        let second = delay();
        if random.percent(self.doubled) { vec![first, second] } else { vec![first] }
    }

    /// Now and then a new partition: halves, one alone, one-way, flapping, or none.
    fn move_partition(&mut self, now: u64, random: &mut Random) {
        if !self.partitions || now < self.partition_until {
            return;
        }
        if self.flaps > 0 {
            (self.flaps, self.open) = (self.flaps - 1, !self.open);
            self.partition_until = now + random.between(5, 60);
            return;
        }
        (self.flaps, self.open) = (if random.percent(25) { random.between(4, 20) } else { 0 }, false);
        self.partition_until = now + if self.flaps > 0 { random.between(5, 60) } else { random.between(50, 900) };
        self.one_way = random.percent(30);
        let alone = random.below(self.sides.len() as u64) as usize;
        let cut = random.below(10);
        self.divide(alone, cut, random);
    }

    /// Cuts it in two until then, whatever was before: one alone, halves, or any two sides.
    pub fn cut(&mut self, until: u64, random: &mut Random) {
        if !self.partitions {
            return;
        }
        (self.flaps, self.open, self.one_way) = (0, false, random.percent(30));
        self.partition_until = until;
        let alone = random.below(self.sides.len() as u64) as usize;
        let cut = random.between(4, 9);
        self.divide(alone, cut, random);
    }

    fn divide(&mut self, alone: usize, cut: u64, random: &mut Random) {
        let n = self.sides.len();
        for (node, side) in self.sides.iter_mut().enumerate() {
            *side = match cut {
                0..4 => 0,
                4..6 => u8::from(node == alone),
                6..8 => u8::from((node + alone) % n < n / 2),
                _ => random.below(2) as u8,
            };
        }
    }

    /// The cut in force, for the story: sides of the validators, and whether one side still hears the other.
    pub fn partition(&self) -> String {
        if self.open || self.sides.iter().all(|side| *side == self.sides[0]) {
            return "whole".into();
        }
        let sides: String = self.sides.iter().map(|side| if *side == 0 { 'a' } else { 'b' }).collect();
        format!("cut {sides}{}", if self.one_way { ", one way" } else { "" })
    }

    pub fn is_cut(&self, now: u64, from: usize, to: usize) -> bool {
        let (a, b) = (self.sides[from], self.sides[to]);
        now < self.heal_at && now < self.partition_until && !self.open && if self.one_way { a > b } else { a != b }
    }
}

/// Of a batch with one transaction.
const BATCH_BYTES: u64 = 250;

/// About the bytes of a message on the wire, without encoding it.
pub fn bytes_of(message: &Message) -> u64 {
    let cert = |cert: &Cert| 60 + 64 * cert.signatures.len() as u64;
    let candidate = |candidate: &Candidate| 300 + 46 * candidate.header.batches.len() as u64;
    match message {
        Message::Status(_) => 34,
        Message::Proposal(proposal) => candidate(&proposal.candidate) + proposal.proof.iter().map(cert).sum::<u64>(),
        Message::Vote(_) => 116,
        Message::Cert(one) => cert(one),
        Message::Certs { certs } => certs.iter().map(cert).sum(),
        Message::Cand(one) => candidate(one),
        Message::Batch(_) => BATCH_BYTES,
        Message::Batches { batches } => BATCH_BYTES * batches.len() as u64,
        Message::CandReq { digests } | Message::BatchReq { digests } => 5 + 32 * digests.len() as u64,
        Message::CertReq { slots } => 5 + 8 * slots.len() as u64,
        Message::MarkQuery { .. } => 50,
        Message::MarkReply(reply) => 500 + 115 * reply.votes.len() as u64,
        Message::Reproposal(again) => 120 + again.proof.iter().map(cert).sum::<u64>(),
        Message::SealReq { .. } => 9,
        Message::Seal(seal) => 300 + 46 * seal.header.batches.len() as u64 + cert(&seal.cert),
        Message::BlocksReq { .. } | Message::HeadersReq { .. } => 13,
        Message::SnapshotReq { .. } => 41,
        // No node of the simulation prunes, so nobody asks for these; and none has transactions.
        Message::Headers(_) | Message::Snapshot(_) | Message::Transactions { .. } => 0,
        Message::Blocks(reply) => {
            let block = |b: &Block| 300 + (46 + BATCH_BYTES) * b.batches.len() as u64;
            let header = |h: &Header| 300 + 46 * h.batches.len() as u64;
            let proof = reply.headers.iter().map(header).sum::<u64>() + reply.cert.iter().map(cert).sum::<u64>();
            reply.blocks.iter().map(block).sum::<u64>() + proof
        }
    }
}
