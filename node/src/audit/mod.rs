//! The chain checked again by who trusts no node: `aitbc-node verify`. The rules are the core's ([`aitbc_core::light`],
//! [`aitbc_core::ledger`]); here is what feeds them.
//!
//! ```text
//! source → headers: links, set, leader, certificates → batches: digests, authors, signatures → executed: roots → report
//! ```

pub mod proofs;
pub mod source;

use crate::client::ClientError;
use crate::metrics::Metrics;
use crate::storage::StorageError;
use crate::verify::Verifier;
use aitbc_core::batch::{Batch, BatchError, VerifiedBatch};
use aitbc_core::block::Header;
use aitbc_core::epoch::{Epochs, Sets};
use aitbc_core::evidence::EvidenceError;
use aitbc_core::genesis::Genesis;
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, PublicKey, Signature};
use aitbc_core::ledger::{self, Context, Rules};
use aitbc_core::light::{self, Anchor, LightError, LinkError, equal};
use aitbc_core::params::MAX_EXPIRY_AHEAD;
use aitbc_core::record::RecordKey;
use aitbc_core::state::State;
use aitbc_core::vote::Vote;
use futures_util::future::{join_all, try_join_all};
use proofs::{Proofs, ProvenBalance, ProvenResult};
use serde::Serialize;
use source::{Chunk, Item, Source};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Chunks read ahead of the checks.
const AHEAD: usize = 2;
/// Headers read beyond the last one asked for, to find a certificate that covers it: below a fetched state there is one an epoch
/// at least, and no epoch is longer.
const BEYOND: u64 = MAX_EXPIRY_AHEAD;
/// Headers at the end of a chain that may be without a certificate: a node stores a few before the one that covers them.
const OPEN_END: u64 = 64;

/// What is wrong, or why it could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Something is not as it must be; names the height, what was expected and what was found.
    #[error("{0}")]
    Wrong(String),
    /// The node does not answer, or not as documented.
    #[error(transparent)]
    Rpc(#[from] ClientError),
    /// The database cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<LinkError> for AuditError {
    fn from(error: LinkError) -> Self {
        AuditError::Wrong(error.to_string())
    }
}

impl From<LightError> for AuditError {
    fn from(error: LightError) -> Self {
        AuditError::Wrong(error.to_string())
    }
}

/// What is believed without proof, beside the validators of genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The hash of genesis.
    Genesis,
    /// Nothing: the first header is the one at this height, and a certificate must cover it.
    Height(u64),
    /// The digest of the header at a height.
    Trusted {
        /// Its height.
        height: u64,
        /// Its digest.
        digest: Hash,
    },
}

/// What to check.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to begin.
    pub start: Start,
    /// Last height; `None`: the last block when the audit begins.
    pub to: Option<u64>,
    /// An account whose balance shall be proven.
    pub account: Option<Address>,
    /// A transaction whose result shall be proven.
    pub transaction: Option<Hash>,
}

/// What was checked.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// First height that was checked.
    pub from: u64,
    /// Last height that is final.
    pub to: u64,
    /// Digest of its header.
    pub hash: Hash,
    /// Headers that link.
    pub headers: u64,
    /// Headers above `to`, which no certificate covers yet.
    pub not_final: u64,
    /// Certificates, each signature of them.
    pub certificates: u64,
    /// Batches: digest, author's signature.
    pub batches: u64,
    /// Transactions, each signature of them.
    pub transactions: u64,
    /// Batches and evidence of epochs before the one in which the audit began: nobody says who their validators were, so no
    /// signature of them was checked.
    pub unchecked: u64,
    /// Batches of blocks below this height are gone; `None`: all are there.
    pub pruned_below: Option<u64>,
    /// Height up to which all blocks were executed from genesis and roots compared; `None`: the audit began elsewhere, or
    /// batches are gone.
    pub executed_to: Option<u64>,
    /// Height of the accounts in the database, whose root was compared; `None`: not a database, or no final header or
    /// execution says what it must be.
    pub state_height: Option<u64>,
    /// The account asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<ProvenBalance>,
    /// The transaction asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<ProvenResult>,
}

/// The chain's end by own execution.
struct Execution {
    rules: Rules,
    state: State,
    roots: (Hash, Hash),
    /// Of the epoch of the next block, as the state decides them (E1).
    sets: Sets,
}

/// An audit under way.
struct Audit {
    chain: Hash,
    epochs: Epochs,
    client: light::Client,
    /// Of the client's epoch. Without execution those that are not known are taken to be the same: of later epochs, where they
    /// are not, the next header's `set_hash` says so.
    sets: Sets,
    /// Epoch from which on the sets are known, beside those of 0 and 1, which are genesis' (E1).
    known_from: u64,
    verifier: Verifier,
    execution: Option<Execution>,
    proofs: Proofs,
    /// A block whose batches are there: from it on all must be.
    complete_from: Option<u64>,
    /// Heights of the evidence seen, by what it proves.
    convicted: BTreeMap<RecordKey, u64>,
    report: Report,
}

/// A header that links, with its batches still to be verified.
struct Linked {
    header: Header,
    /// Those whose authors are known.
    batches: Vec<(Arc<Batch>, Hash, PublicKey)>,
    whole: bool,
}

/// Checks the chain at `source` against `genesis`, and tells what was checked so far after each chunk, with the height it
/// goes to.
///
/// # Errors
/// The first thing that is wrong, or why something cannot be read.
pub async fn run(
    source: &Source,
    genesis: &Genesis,
    plan: &Plan,
    progress: impl FnMut(&Report, u64),
) -> Result<Report, AuditError> {
    run_by(source, genesis, Rules::of(genesis), plan, progress).await
}

/// The same by given rules.
async fn run_by(
    source: &Source,
    genesis: &Genesis,
    rules: Rules,
    plan: &Plan,
    mut progress: impl FnMut(&Report, u64),
) -> Result<Report, AuditError> {
    let client = client(source, genesis, plan.start).await?;
    let mut audit = begin(source, genesis, rules, plan, client).await?;
    let (first, head) = (audit.report.from, source.head().await?);
    let to = plan.to.unwrap_or(head).max(audit.proofs.highest());
    if to > head || (plan.to.is_some() && to < first) {
        return Err(AuditError::Wrong(format!("blocks {first} to {to} asked for, the last one there is {head}")));
    }
    let (sender, mut chunks) = mpsc::channel(AHEAD);
    let reading = tokio::spawn(source.clone().read(first, to, BEYOND, sender));
    while audit.client.trusted().is_none_or(|anchor| anchor.height < to) {
        let Some(chunk) = chunks.recv().await else { break };
        audit.take(chunk?).await?;
        progress(&audit.report, to);
    }
    reading.abort();
    audit.finish(plan, to)
}

/// What is trusted first, and all that must be read before the chain goes on.
async fn begin(
    source: &Source,
    genesis: &Genesis,
    rules: Rules,
    plan: &Plan,
    client: light::Client,
) -> Result<Audit, AuditError> {
    let (chain, epochs, known_from) = (genesis.hash(), Epochs::by(&genesis.parameters), client.epoch());
    let sets = Sets { epoch: known_from, ..Sets::genesis(Arc::new(client.set().clone())) };
    let verifier = Metrics::new().map_err(|cause| cause.to_string());
    let verifier = verifier.and_then(|m| Verifier::new(None, Arc::new(m)).map_err(|cause| cause.to_string()));
    let verifier = verifier.map_err(|cause| AuditError::Wrong(format!("no threads to verify with: {cause}")))?;
    let execution = (client.head().height == 0).then(|| Execution::genesis(genesis, rules, sets.clone()));
    let report = Report::new(client.head(), execution.is_some());
    let proofs = Proofs::ask(source, plan, report.from).await?;
    let (complete_from, convicted) = (None, BTreeMap::new());
    Ok(Audit { chain, epochs, client, sets, known_from, verifier, execution, proofs, complete_from, convicted, report })
}

async fn client(source: &Source, genesis: &Genesis, start: Start) -> Result<light::Client, AuditError> {
    let chain = genesis.hash();
    let set = genesis.validator_set().map_err(|cause| AuditError::Wrong(format!("genesis: {cause}")))?;
    let missing = |height: u64| AuditError::Wrong(format!("block {height}: there is none"));
    Ok(match start {
        Start::Genesis | Start::Height(0 | 1) => light::Client::at_genesis(chain, set),
        Start::Height(height) => {
            light::Client::before(chain, set, &source.header(height).await?.ok_or_else(|| missing(height))?)
        }
        Start::Trusted { height: 0, digest } => {
            equal(0, "digest", digest, chain)?;
            light::Client::at_genesis(chain, set)
        }
        Start::Trusted { height, digest } => {
            let header = source.header(height).await?.ok_or_else(|| missing(height))?;
            equal(height, "digest", digest, header.digest())?;
            light::Client::at(chain, set, &header)
        }
    })
}

impl Execution {
    fn genesis(genesis: &Genesis, rules: Rules, sets: Sets) -> Execution {
        let state = State::from_genesis(genesis);
        Execution { rules, roots: (state.root(), Hash::ZERO), state, sets }
    }
}

impl Report {
    /// Nothing checked yet above `anchor`.
    fn new(anchor: Anchor, executes: bool) -> Report {
        Report {
            from: anchor.height.saturating_add(1),
            to: anchor.height,
            hash: anchor.digest,
            headers: 0,
            not_final: 0,
            certificates: 0,
            batches: 0,
            transactions: 0,
            unchecked: 0,
            pruned_below: None,
            executed_to: executes.then_some(0),
            state_height: None,
            account: None,
            transaction: None,
        }
    }
}

impl Audit {
    /// Checks some blocks, in their order: what is wrong with an earlier one is told first.
    async fn take(&mut self, chunk: Chunk) -> Result<(), AuditError> {
        let mut items = chunk.items.into_iter().peekable();
        while items.peek().is_some() {
            self.take_of_epoch(&mut items).await?;
        }
        chunk.wrong.map_or(Ok(()), Err)
    }

    /// Those up to the end of an epoch: the headers of the next one are checked by what executing these decides (E1).
    async fn take_of_epoch(&mut self, items: &mut impl Iterator<Item = Item>) -> Result<(), AuditError> {
        let (mut linked, mut wrong) = (Vec::new(), None);
        for item in items {
            let ends = self.epochs.is_boundary(item.header.height);
            match self.link(item) {
                Ok(block) => linked.push(block),
                Err(error) => wrong = Some(error),
            }
            if ends || wrong.is_some() {
                break;
            }
        }
        let verified = join_all(linked.iter().map(|block| verify(&self.verifier, &self.chain, block))).await;
        for (block, batches) in linked.iter().zip(verified) {
            let batches = batches?;
            self.report.batches += batches.len() as u64;
            self.report.transactions += batches.iter().map(|batch| batch.ids.len() as u64).sum::<u64>();
            self.execute(block, &batches)?;
        }
        wrong.map_or(Ok(()), Err)
    }

    /// Header, certificate, and which batches belong to it.
    fn link(&mut self, item: Item) -> Result<Linked, AuditError> {
        let Item { header, leader, cert, batches } = item;
        equal(header.height, "epoch", self.epochs.of(header.height), header.epoch)?;
        if header.epoch == self.client.epoch().saturating_add(1) {
            self.enter_epoch()?;
        }
        let digest = self.client.advance(&header, cert.as_ref())?;
        if let Some(signature) = leader {
            self.check_leader(&header, digest, signature)?;
        }
        self.check_evidence(&header)?;
        self.report.headers += 1;
        self.report.certificates += u64::from(cert.is_some());
        let whole = batches.is_some();
        match (&batches, self.complete_from) {
            (None, Some(from)) => {
                let height = header.height;
                let message =
                    format!("block {height}: batches are missing, expected as those of block {from} are there");
                return Err(AuditError::Wrong(message));
            }
            (None, None) => self.report.pruned_below = Some(header.height + 1),
            (Some(batches), None) if !batches.is_empty() => self.complete_from = Some(header.height),
            (Some(_), _) => {}
        }
        let batches = batches.unwrap_or_default();
        if whole {
            equal(header.height, "number of batches", header.batches.len(), batches.len())?;
        }
        let batches = self.name(&header, batches)?;
        self.proofs.pass(&header);
        Ok(Linked { header, batches, whole })
    }

    /// Each batch is the one that the header names; gives those whose authors are known, with their keys.
    fn name(&mut self, header: &Header, batches: Vec<Batch>) -> Result<Vec<(Arc<Batch>, Hash, PublicKey)>, LinkError> {
        let mut named = Vec::with_capacity(batches.len());
        for (index, batch) in batches.into_iter().enumerate() {
            if self.sets.of_batch(batch.epoch).is_some() && !self.knows(batch.epoch) {
                light::referred(header, index, &batch)?;
                self.report.unchecked += 1;
                continue;
            }
            let (digest, author) = light::named(&self.sets, header, index, &batch)?;
            named.push((Arc::new(batch), digest, *author));
        }
        Ok(named)
    }

    /// Whether the set of an epoch is proven, not taken to be that of a later one.
    fn knows(&self, epoch: u64) -> bool {
        epoch <= 1 || epoch >= self.known_from
    }

    /// **L2** The last header of the epoch before names the next set; which it is says the own execution, or else it must be
    /// the one that is known.
    fn enter_epoch(&mut self) -> Result<(), AuditError> {
        let executed = self.execution.as_ref().map(|execution| &execution.sets);
        let known = executed.filter(|sets| sets.epoch == self.client.epoch().saturating_add(1));
        self.sets = known.cloned().unwrap_or_else(|| self.sets.advance(self.sets.next.clone()));
        Ok(self.client.enter_epoch((*self.sets.current).clone())?)
    }

    /// V7: each piece proves what it says by its own signatures, and says it once on the chain (X4).
    fn check_evidence(&mut self, header: &Header) -> Result<(), AuditError> {
        for (index, evidence) in header.evidence.iter().enumerate() {
            let wrong =
                |cause: String| AuditError::Wrong(format!("block {}: evidence {index}: {cause}", header.height));
            let stale = EvidenceError::Stale { found: evidence.epoch(), current: header.epoch };
            let set = self.sets.of(evidence.epoch()).ok_or(stale);
            if set.is_ok() && !self.knows(evidence.epoch()) {
                self.report.unchecked += 1;
                continue;
            }
            let offence = set.and_then(|set| evidence.verify(&self.chain, set, header.epoch));
            let nullifier = RecordKey::nullifier(&offence.map_err(|cause| wrong(cause.to_string()))?);
            if let Some(before) = self.convicted.insert(nullifier, header.height) {
                return Err(wrong(format!("it is in block {before} already")));
            }
        }
        Ok(())
    }

    /// The leader's signature, which is its Notar vote (F6).
    fn check_leader(&self, header: &Header, digest: Hash, signature: Signature) -> Result<(), AuditError> {
        let vote = Vote { statement: header.notar(digest), signer: header.proposer, signature };
        let leader = self.client.set().get(header.proposer);
        if leader.is_some_and(|leader| vote.verifies(&self.chain, &leader.key)) {
            return Ok(());
        }
        let message = format!("block {}: signature is not that of its leader, {}", header.height, header.proposer);
        Err(AuditError::Wrong(message))
    }

    /// Roots against the own execution, as long as no batch is missing.
    fn execute(&mut self, block: &Linked, batches: &[VerifiedBatch]) -> Result<(), AuditError> {
        let header = &block.header;
        let Some(execution) = self.execution.as_mut().filter(|_| block.whole) else {
            (self.execution, self.report.executed_to) = (None, None);
            return Ok(());
        };
        equal(header.height, "parent_state_root", execution.roots.0, header.parent_state_root)?;
        equal(header.height, "parent_results_root", execution.roots.1, header.parent_results_root)?;
        let Execution { rules, state, roots, sets } = execution;
        equal(header.height, "next_set_hash", sets.next.hash(), header.next_set_hash)?;
        let done = ledger::execute(state, rules, &Context::of(header, sets), batches);
        *sets = done.state.sets_after(rules, self.epochs, sets, header.height);
        (*state, *roots) = (done.state, (done.state_root, done.results_root));
        self.proofs.executed(header.height, done.state_root);
        self.report.executed_to = Some(header.height);
        Ok(())
    }

    fn finish(mut self, plan: &Plan, to: u64) -> Result<Report, AuditError> {
        let head = self.client.head().height;
        let from = self.report.from;
        let Some(Anchor { height, digest, .. }) = self.client.trusted() else {
            return Err(AuditError::Wrong(format!("block {from}: no certificate covers it, up to block {head}")));
        };
        if head < to {
            return Err(AuditError::Wrong(format!("block {}: it is missing, expected blocks up to {to}", head + 1)));
        }
        let open = head.saturating_sub(height);
        let nothing = height < from && open > 0;
        if height < to && (plan.to.is_some() || nothing || open > OPEN_END || self.proofs.highest() > height) {
            let message = format!("block {}: no certificate covers it, up to block {head}", height + 1);
            return Err(AuditError::Wrong(message));
        }
        (self.report.to, self.report.hash, self.report.not_final) = (height, digest, open);
        self.proofs.finish(&self.chain, height, &mut self.report)?;
        Ok(self.report)
    }
}

/// Shape, author's and all transactions' signatures of a block's batches.
async fn verify(verifier: &Verifier, chain: &Hash, block: &Linked) -> Result<Vec<VerifiedBatch>, AuditError> {
    let one = |(index, (batch, digest, author)): (usize, &(Arc<Batch>, Hash, PublicKey))| {
        let (batch, digest, author) = (batch.clone(), *digest, *author);
        async move {
            let wrong = |cause: BatchError| {
                let height = block.header.height;
                AuditError::Wrong(format!("block {height}: batch {index} ({digest}): {cause}"))
            };
            verifier.verify_batch(chain, batch, digest, &author).await.map_err(wrong)
        }
    };
    try_join_all(block.batches.iter().enumerate().map(one)).await
}

#[cfg(test)]
mod tests;
