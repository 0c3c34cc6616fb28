//! Block sync of a validator, by the node's own planner and checks, answered from simulated disks (protocol.md S1).

use super::{Cheap, Event, World};
use crate::disk::tip_of;
use aitbc_core::block::{Block, Candidate, Header};
use aitbc_core::consensus::input::{Boundary, Input, Tip};
use aitbc_core::hash::Hash;
use aitbc_core::message::{Blocks, MAX_BLOCKS, Message};
use aitbc_core::record::RecordKey;
use aitbc_core::sync::{Answer, FinalBlock, reply, verify_blocks};
use aitbc_core::validators::Index;
use aitbc_core::vote::Cert;

/// Pause between two looks at time-outs, as in the node.
const LOOK_EVERY_MS: u64 = 250;

impl World {
    /// Looks at time-outs, now and again.
    pub(super) fn look(&mut self, node: Index) {
        if !self.is_up(node) {
            return;
        }
        self.sync_blocks(node);
        let life = self.nodes[usize::from(node)].life;
        self.at(self.now + LOOK_EVERY_MS, Event::Look { node, life });
    }

    /// A peer told its height, or the core saw that it has blocks which are not here.
    pub(super) fn heard_height(&mut self, node: Index, peer: Index, height: u64) {
        self.nodes[usize::from(node)].planner.on_status(peer, height);
        self.sync_blocks(node);
    }

    /// Blocks that were asked for, or not.
    pub(super) fn heard_blocks(&mut self, node: Index, peer: Index, blocks: Blocks) {
        self.nodes[usize::from(node)].planner.on_blocks(peer, blocks);
        self.sync_blocks(node);
    }

    /// What has come is taken in order, what is missing is asked for.
    fn sync_blocks(&mut self, node: Index) {
        while let Some(answer) = self.next_answer(node) {
            self.take_answer(node, answer);
        }
        let (now, own, last) = (self.now, self.head(node).height, self.last_height_of(node));
        self.nodes[usize::from(node)].planner.end_at(last);
        for request in self.nodes[usize::from(node)].planner.next(now, own) {
            self.send(node, request.peer, &Message::BlocksReq { from: request.from, count: request.count });
        }
    }

    fn next_answer(&mut self, node: Index) -> Option<Answer> {
        let own = self.head(node).height;
        self.nodes[usize::from(node)].planner.take(own)
    }

    /// The end of the executor's chain: the ledger's, or beyond where blocks are on their way into it.
    pub(super) fn head(&self, node: Index) -> Tip {
        let state = &self.nodes[usize::from(node)];
        let last = state.blocks.iter().filter_map(|(blocks, _)| blocks.last());
        let last = last.max_by_key(|(_, candidate)| candidate.header.height);
        match last.filter(|(_, candidate)| candidate.header.height > state.disk.height()) {
            Some((digest, candidate)) => tip_of(*digest, &candidate.header, self.plan.upgrade),
            None => state.disk.tip(self.chain),
        }
    }

    /// Verified, then on the chain and on its way into the ledger, then told to the core.
    fn take_answer(&mut self, node: Index, answer: Answer) {
        let (peer, cert) = (answer.peer, answer.cert.clone());
        let head = self.head(node);
        let sets = self.sets_of(self.epochs.after(head.height));
        match verify_blocks(&Cheap, &self.chain, (&sets, self.epochs), &(&head).into(), answer) {
            Ok(blocks) => self.take_blocks(node, blocks, cert),
            Err(cause) => {
                assert!(
                    self.liar(peer).is_some(),
                    "blocks that validator {peer} sent to {node} do not verify: {cause}"
                );
                self.nodes[usize::from(node)].planner.on_wrong(self.now, peer);
            }
        }
    }

    fn take_blocks(&mut self, node: Index, found: Vec<FinalBlock>, cert: Cert) {
        let (mut included, mut nullifiers) = (Vec::new(), Vec::new());
        let mut blocks: Vec<(Hash, Candidate)> = Vec::new();
        for FinalBlock { digest, header, batches } in found {
            for batch in batches {
                included.push((batch.digest, batch.batch.expiry_height));
                self.nodes[usize::from(node)].disk.batches.insert(batch.digest, (*batch.batch).clone());
            }
            let sets = self.sets_of(header.epoch);
            nullifiers.extend(RecordKey::nullifiers(&header.evidence, |epoch| sets.of(epoch).cloned()));
            blocks.push((digest, Candidate::unsigned(header)));
        }
        self.synced_blocks += blocks.len() as u64;
        self.tell(|| format!("validator {node} fetches {} blocks", blocks.len()));
        let mut boundary = None;
        for (digest, candidate) in &blocks {
            let header = &candidate.header;
            boundary =
                self.set_after(node, *digest, header).map(|set| Box::new(Boundary { header: header.clone(), set }));
            self.note_final(node, candidate, *digest);
        }
        self.ask_append(node, blocks, cert.clone());
        let (tip, life, pause) = (self.head(node), self.nodes[usize::from(node)].life, self.random.between(1, 5));
        let input = Box::new(Input::Synced { tip, cert, included, nullifiers, boundary });
        self.at(self.now + pause, Event::Told { node, life, input });
    }

    /// Answers from what is on the disk.
    pub(super) fn answer_blocks(&mut self, node: Index, to: Index, from: u64, count: u32) {
        let disk = &self.nodes[usize::from(node)].disk;
        let first = (from.max(1) - 1).min(disk.height()) as usize;
        let count = (count as usize).clamp(1, MAX_BLOCKS);
        let block = |candidate: &Candidate| {
            let header = candidate.header.clone();
            let batches = header.batches.iter().map(|batch| disk.batches[&batch.digest].clone()).collect();
            Block { header, batches }
        };
        let (found, after) = disk.blocks[first..].split_at(count.min(disk.blocks.len() - first));
        let found = found.iter().map(|(_, candidate, cert)| (block(candidate), cert.clone())).collect();
        let header = |candidate: &Candidate| -> Header { candidate.header.clone() };
        let after = after.iter().map(|(_, candidate, cert)| (header(candidate), cert.clone())).collect();
        let message = Message::Blocks(reply(found, after, 1));
        self.check_certificates(node, &message);
        self.send(node, to, &message);
    }
}
