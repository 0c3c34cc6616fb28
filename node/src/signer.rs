//! Signs votes and makes them durable before anybody sees them (protocol.md P1-P7).

use crate::metrics::Metrics;
use crate::storage::{Storage, StorageError, VoteWrite};
use aitbc_core::consensus::input::{Input, WriteFailure, WriteId};
use aitbc_core::consensus::output::{Rows, Write};
use aitbc_core::hash::Hash;
use aitbc_core::key::{SecretKey, Signature};
use aitbc_core::validators::Index;
use aitbc_core::vote::{Cert, Statement, Vote};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tracing::error;

/// Writes waiting for the database. The core has at most two open a slot and waits for each.
pub const QUEUE: usize = 256;
/// A write of the core, with the own index in the set of its epoch.
pub struct Job {
    /// What to write.
    pub write: Write,
    /// Signs votes; [`Index::MAX`] where the own key is no member, which votes for nothing.
    pub signer: Index,
}

/// Writes that share a commit.
const GROUP: usize = 64;

/// The own key with what its rows need.
pub struct Signer {
    /// Consensus key.
    pub key: Arc<SecretKey>,
    /// Genesis hash.
    pub chain: Hash,
    /// Where votes become durable.
    pub storage: Arc<dyn Storage>,
    /// Commit times.
    pub metrics: Arc<Metrics>,
    /// Told why a vote could not be stored: the process must end, for only a restart reads the rows again (P6).
    pub failed: watch::Sender<Option<Arc<StorageError>>>,
}

impl Signer {
    /// Serves writes until the channel closes; answers each with `Durable` or `WriteFailed`.
    pub async fn run(self, mut writes: mpsc::Receiver<Job>, core: mpsc::Sender<Input>) {
        let mut group = Vec::with_capacity(GROUP);
        while writes.recv_many(&mut group, GROUP).await > 0 {
            let mut votes = Vec::new();
            let mut certs = Vec::new();
            let mut memories = Vec::new();
            let mut seals = Vec::new();
            for Job { write, signer } in group.drain(..) {
                match write.rows {
                    Rows::FinalCert { cert } => certs.push((write.id, cert)),
                    Rows::Seal { seal } => seals.push((write.id, *seal)),
                    Rows::Memory { memory, generation } => memories.push((write.id, memory, generation)),
                    Rows::Notar { statement, candidate } => {
                        let mut row = self.sign(statement, signer);
                        let mut candidate = *candidate;
                        // The own proposal is signed by this very vote (F6); a block proposed again keeps its first signature (E4).
                        if candidate.header.proposer == signer && candidate.header.slot == statement.slot {
                            candidate.signature = row.vote.signature;
                        }
                        row.candidate = Some(candidate);
                        votes.push((write.id, row));
                    }
                    Rows::Final { statement, cert } => {
                        votes.push((write.id, VoteWrite { cert: Some(cert), ..self.sign(statement, signer) }));
                    }
                    Rows::Skip { statement } => votes.push((write.id, self.sign(statement, signer))),
                }
            }
            let mut answers = self.commit(votes, certs).await;
            for (id, memory, generation) in memories {
                let result = self.storage.commit_memory(memory, generation).await;
                answers.extend(self.answers(vec![(id, None)], result));
            }
            for (id, seal) in seals {
                let result = self.storage.commit_seal(seal).await;
                answers.extend(self.answers(vec![(id, None)], result));
            }
            for answer in answers {
                if core.send(answer).await.is_err() {
                    return;
                }
            }
        }
    }

    fn sign(&self, statement: Statement, signer: Index) -> VoteWrite {
        let vote = Vote::sign(statement, &self.chain, signer, &self.key);
        VoteWrite { vote, candidate: None, cert: None }
    }

    /// Votes first: somebody waits for them. Only the highest certificate matters.
    async fn commit(&self, votes: Vec<(WriteId, VoteWrite)>, certs: Vec<(WriteId, Cert)>) -> Vec<Input> {
        let mut answers = Vec::new();
        if !votes.is_empty() {
            let ids: Vec<(WriteId, Option<Signature>)> =
                votes.iter().map(|(id, row)| (*id, Some(row.vote.signature))).collect();
            let rows = votes.into_iter().map(|(_, row)| row).collect();
            let timer = self.metrics.database_seconds.with_label_values(&["votes"]).start_timer();
            let result = self.storage.commit_votes(rows).await;
            timer.observe_duration();
            answers.extend(self.answers(ids, result));
        }
        let highest = certs
            .iter()
            .max_by_key(|(_, cert)| (cert.statement.epoch, cert.statement.slot))
            .map(|(_, cert)| cert.clone());
        if let Some(cert) = highest {
            let ids = certs.iter().map(|(id, _)| (*id, None)).collect();
            let result = self.storage.commit_cert(cert).await;
            answers.extend(self.answers(ids, result));
        }
        answers
    }

    fn answers(&self, ids: Vec<(WriteId, Option<Signature>)>, result: Result<(), StorageError>) -> Vec<Input> {
        let failure = match result {
            Ok(()) => {
                return ids.into_iter().map(|(write, signature)| Input::Durable { write, signature }).collect();
            }
            Err(cause @ StorageError::Fenced { .. }) => {
                error!(%cause, "fenced: this process stops signing");
                WriteFailure::Fenced
            }
            Err(cause @ StorageError::ConflictingVote { .. }) => {
                error!(%cause, "conflicting vote refused");
                WriteFailure::Conflict
            }
            Err(cause) => {
                error!(%cause, "a vote could not be stored: no vote until restart");
                self.failed.send_replace(Some(Arc::new(cause)));
                WriteFailure::Unknown
            }
        };
        ids.into_iter().map(|(write, _)| Input::WriteFailed { write, failure }).collect()
    }
}
