//! What proves the chain to a client that trusts no node: headers under certificates, and what hangs on them (protocol.md
//! L1-L3). Pure; where the headers come from is the caller's business.
//!
//! ```text
//! genesis or a trusted header ─ header ─ header ─ header ← certificate of this one makes all below it final
//!                                          │        └ parent_state_root ← account, parent_results_root ← result
//!                                          └ batch digest ← transaction
//! ```

use crate::batch::{Batch, BatchHead, BatchRef};
use crate::block::{Header, VERSION};
use crate::codec;
use crate::consensus::input::Tip;
use crate::epoch::Sets;
use crate::hash::Hash;
use crate::key::{PublicKey, Signature};
use crate::ledger::TxResult;
use crate::merkle;
use crate::transaction::SignedTransaction;
use crate::validators::ValidatorSet;
use crate::vote::{Cert, CertError, Kind, Statement};
use borsh::{BorshDeserialize, BorshSerialize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// Longest path in a Merkle list: 2^16 leaves, more than a block may have transactions.
const MAX_PATH: usize = 16;

/// The end of a chain of headers: what the next one must follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Digest of the last header; the genesis hash at height 0.
    pub digest: Hash,
    /// Its slot, 0 for genesis.
    pub slot: u64,
    /// Its height, 0 for genesis.
    pub height: u64,
    /// Its time in milliseconds since 1970, 0 for genesis.
    pub time_ms: u64,
}

/// A header does not follow from the one before it, or another value does not fit its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("block {height}: {field} is {found}, expected {expected}")]
pub struct LinkError {
    /// Height at which the chain breaks.
    pub height: u64,
    /// Field of the header.
    pub field: &'static str,
    /// What it must be.
    pub expected: String,
    /// What it is.
    pub found: String,
}

/// That a field has the one value that is right.
pub fn equal<T: PartialEq + Display>(height: u64, field: &'static str, expected: T, found: T) -> Result<(), LinkError> {
    if expected == found {
        return Ok(());
    }
    Err(LinkError { height, field, expected: expected.to_string(), found: found.to_string() })
}

/// **V1** That this program speaks the version of a header.
///
/// # Errors
/// Says which ones it speaks.
pub fn spoken(header: &Header) -> Result<(), LinkError> {
    if header.version <= VERSION {
        return Ok(());
    }
    let (expected, found) = (format!("at most {VERSION}"), header.version.to_string());
    Err(LinkError { height: header.height, field: "version", expected, found })
}

fn above(height: u64, field: &'static str, least: u64, found: u64) -> Result<(), LinkError> {
    if found > least {
        return Ok(());
    }
    Err(LinkError { height, field, expected: format!("more than {least}"), found: found.to_string() })
}

impl Anchor {
    /// The beginning of a chain: the floor of epoch 0 (M4).
    pub fn genesis(chain: Hash) -> Anchor {
        Anchor { digest: chain, slot: 0, height: 0, time_ms: 0 }
    }

    /// A header whose digest the caller has.
    pub fn of(header: &Header, digest: Hash) -> Anchor {
        Anchor { digest, slot: header.slot, height: header.height, time_ms: header.time_ms }
    }

    /// The anchor that `first` itself says it follows from: nothing is known of it but that.
    fn below(first: &Header) -> Anchor {
        Anchor {
            digest: first.parent,
            slot: first.parent_slot,
            height: first.height.saturating_sub(1),
            time_ms: first.time_ms.saturating_sub(1),
        }
    }

    /// The end after one more header of `epoch`, whose validators are `set` with hash `set_hash`. Of whatever version: digests link
    /// all of them, and which may be taken is for the caller to see ([`spoken`]).
    ///
    /// # Errors
    /// Names the first field that does not follow.
    pub fn follow(
        &self,
        epoch: u64,
        set: &ValidatorSet,
        set_hash: &Hash,
        header: &Header,
    ) -> Result<Anchor, LinkError> {
        let height = self.height.saturating_add(1);
        equal(height, "height", height, header.height)?;
        // No height is above the greatest.
        above(height, "height", self.height, header.height)?;
        equal(height, "parent", self.digest, header.parent)?;
        equal(height, "epoch", epoch, header.epoch)?;
        equal(height, "parent_slot", self.slot, header.parent_slot)?;
        above(height, "slot", self.slot, header.slot)?;
        above(height, "time_ms", self.time_ms, header.time_ms)?;
        equal(height, "set_hash", *set_hash, header.set_hash)?;
        if set.get(header.proposer).is_none() {
            let (expected, found) = (format!("less than {}", set.len()), header.proposer.to_string());
            return Err(LinkError { height, field: "proposer", expected, found });
        }
        Ok(Anchor::of(header, header.digest()))
    }
}

impl From<&Tip> for Anchor {
    fn from(tip: &Tip) -> Anchor {
        Anchor { digest: tip.digest, slot: tip.slot, height: tip.height, time_ms: tip.time_ms }
    }
}

/// True iff a certificate is of kind Final and of this header. One of a later slot is of the same block proposed again
/// (D3). Its signatures are not looked at.
pub fn names(cert: &Cert, header: &Header, digest: &Hash) -> bool {
    let Statement { epoch, slot, kind, digest: named } = cert.statement;
    kind == Kind::Final && epoch == header.epoch && slot >= header.slot && named == *digest
}

/// That a batch is the one which the header names at `index`; gives its digest and its author's key, by the sets of the
/// header's epoch (V6, E8). Signatures are left to the caller.
///
/// # Errors
/// Says what the header names and what was found.
pub fn named<'a>(
    sets: &'a Sets,
    header: &Header,
    index: usize,
    batch: &Batch,
) -> Result<(Hash, &'a PublicKey), LinkError> {
    let digest = referred(header, index, batch)?;
    let author = sets.of_batch(batch.epoch).and_then(|set| set.get(batch.author)).map(|author| (digest, &author.key));
    author.ok_or_else(|| LinkError {
        height: header.height,
        field: "batch",
        expected: "one of a validator of its epoch".to_owned(),
        found: described(&batch.reference(digest)),
    })
}

/// The same where nobody says who the validators of the batch's epoch were: only its digest.
///
/// # Errors
/// As [`named`], but for the author.
pub fn referred(header: &Header, index: usize, batch: &Batch) -> Result<Hash, LinkError> {
    let digest = batch.digest();
    let (expected, found) = (header.batches.get(index), batch.reference(digest));
    if expected == Some(&found) {
        return Ok(digest);
    }
    let expected = expected.map_or_else(|| format!("{} batches", header.batches.len()), described);
    Err(LinkError { height: header.height, field: "batch", expected, found: described(&found) })
}

fn described(reference: &BatchRef) -> String {
    let BatchRef { digest, epoch, author, bytes, txs } = reference;
    format!("{digest} (epoch {epoch}, validator {author}, {bytes} bytes, {txs} transactions)")
}

/// Why a header is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LightError {
    /// It does not follow from the one before it.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The certificate that came with it is of something else.
    #[error("block {height}: its certificate is of {} {} in slot {}, expected final {expected} in slot {slot} or later",
        .found.kind.name(), .found.digest, .found.slot)]
    OtherCert {
        /// Height of the header.
        height: u64,
        /// Its slot.
        slot: u64,
        /// Its digest.
        expected: Hash,
        /// What the certificate states.
        found: Statement,
    },
    /// The certificate itself is invalid.
    #[error("block {height}: certificate: {cause}")]
    Cert {
        /// Height of the header.
        height: u64,
        /// Which rule of F4 fails.
        cause: CertError,
    },
    /// The next epoch's set is not the one that the last final header names.
    #[error("the set after block {height} has hash {found}, expected {expected}")]
    Set {
        /// Height of the last final header.
        height: u64,
        /// Its `next_set_hash`.
        expected: Hash,
        /// Hash of the set that was given.
        found: Hash,
    },
    /// An epoch ends with a final header, and the last one is not final yet.
    #[error("block {height} is not final: no certificate covers it yet")]
    NotFinal {
        /// Height of the last header.
        height: u64,
    },
}

/// A client that follows the chain by headers and certificates: all it trusts is where it began, and that of each set at
/// most fw of the weight lies (A-BYZ).
#[derive(Clone, Debug)]
pub struct Client {
    chain: Hash,
    epoch: u64,
    set: ValidatorSet,
    set_hash: Hash,
    /// The last header that links; final only if it is `trusted` too.
    head: Anchor,
    /// The last final header, with the set it names for the next epoch; `None` before the first certificate of a client
    /// that began nowhere.
    trusted: Option<(Anchor, Hash)>,
    /// Height of the block upon which the epoch was entered: it ends that of before only, once.
    entered: Option<u64>,
}

impl Client {
    fn new(chain: Hash, epoch: u64, set: ValidatorSet, head: Anchor) -> Client {
        let set_hash = set.hash();
        Client { chain, epoch, set, set_hash, head, trusted: None, entered: None }
    }

    /// A client that trusts genesis, by its hash and validators.
    pub fn at_genesis(chain: Hash, set: ValidatorSet) -> Client {
        let mut client = Client::new(chain, 0, set, Anchor::genesis(chain));
        client.trusted = Some((client.head, client.set_hash));
        client
    }

    /// A client that trusts a header, whose digest somebody it believes told it, and the set of its epoch.
    pub fn at(chain: Hash, set: ValidatorSet, header: &Header) -> Client {
        let mut client = Client::new(chain, header.epoch, set, Anchor::of(header, header.digest()));
        client.trusted = Some((client.head, header.next_set_hash));
        client
    }

    /// A client that trusts a set only: `first` is the first header it will be given, and nothing is final before a
    /// certificate.
    pub fn before(chain: Hash, set: ValidatorSet, first: &Header) -> Client {
        Client::new(chain, first.epoch, set, Anchor::below(first))
    }

    /// Takes the next header, with its certificate where it has one of its own; gives its digest. Without one it is final
    /// as soon as a later header is (L1). Nothing changes on an error.
    ///
    /// # Errors
    /// Names the height and what is wrong.
    pub fn advance(&mut self, header: &Header, cert: Option<&Cert>) -> Result<Hash, LightError> {
        self.advance_by(header, cert, PublicKey::verifies)
    }

    /// The same, with signatures decided by `verifies`.
    ///
    /// # Errors
    /// As [`Client::advance`].
    pub fn advance_by(
        &mut self,
        header: &Header,
        cert: Option<&Cert>,
        verifies: impl Fn(&PublicKey, &[u8], &Signature) -> bool,
    ) -> Result<Hash, LightError> {
        spoken(header)?;
        self.advance_over(header, cert, verifies)
    }

    /// The same for a header of any version: what it says beyond its links means nothing here.
    ///
    /// # Errors
    /// As [`Client::advance`].
    pub fn advance_over(
        &mut self,
        header: &Header,
        cert: Option<&Cert>,
        verifies: impl Fn(&PublicKey, &[u8], &Signature) -> bool,
    ) -> Result<Hash, LightError> {
        let next = self.head.follow(self.epoch, &self.set, &self.set_hash, header)?;
        equal(next.height, "proposer", self.set.leader(self.epoch, header.slot), header.proposer)?;
        if let Some(cert) = cert {
            self.certify(header, &next, cert, verifies)?;
            self.trusted = Some((next, header.next_set_hash));
        }
        self.head = next;
        Ok(next.digest)
    }

    fn certify(
        &self,
        header: &Header,
        next: &Anchor,
        cert: &Cert,
        verifies: impl Fn(&PublicKey, &[u8], &Signature) -> bool,
    ) -> Result<(), LightError> {
        let (height, slot, expected) = (next.height, next.slot, next.digest);
        if !names(cert, header, &expected) {
            return Err(LightError::OtherCert { height, slot, expected, found: cert.statement });
        }
        let by = |signer, message: &[u8], signature: &Signature| {
            self.set.get(signer).is_some_and(|member| verifies(&member.key, message, signature))
        };
        cert.verify_by(&self.chain, &self.set, by).map_err(|cause| LightError::Cert { height, cause })
    }

    /// Goes on with the next epoch's validators, after its last header was taken and is final (L2). No epoch can be left
    /// out.
    ///
    /// # Errors
    /// Where the last header is not final, is not of this epoch, or names another set.
    pub fn enter_epoch(&mut self, set: ValidatorSet) -> Result<(), LightError> {
        let (height, found) = (self.head.height, set.hash());
        let of_this_epoch = self.entered != Some(height);
        let Some((_, expected)) = self.trusted.filter(|(anchor, _)| *anchor == self.head && of_this_epoch) else {
            return Err(LightError::NotFinal { height });
        };
        if expected != found {
            return Err(LightError::Set { height, expected, found });
        }
        // The sealed block is slot 0 of the new epoch (M4).
        self.head.slot = 0;
        (self.epoch, self.set, self.set_hash) = (self.epoch.saturating_add(1), set, found);
        self.trusted = Some((self.head, found));
        self.entered = Some(height);
        Ok(())
    }

    /// The last header known to be final; `None` before the first certificate of [`Client::before`].
    pub fn trusted(&self) -> Option<Anchor> {
        self.trusted.map(|(anchor, _)| anchor)
    }

    /// The last header taken, final or not.
    pub fn head(&self) -> Anchor {
        self.head
    }

    /// Epoch of the next header.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Validators of that epoch.
    pub fn set(&self) -> &ValidatorSet {
        &self.set
    }
}

/// Why a proof of a transaction is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotProven {
    /// It is a proof of another transaction.
    #[error("the proof is of transaction {found}, expected {expected}")]
    OtherTransaction {
        /// Id that was asked for.
        expected: Hash,
        /// Id that the proof holds.
        found: Hash,
    },
    /// No batch of the header has this transaction at this place.
    #[error("block {height} names no batch with this transaction at place {index}")]
    NotIncluded {
        /// Height of the header.
        height: u64,
        /// Place in the batch.
        index: u16,
    },
    /// The header given as the next one is not the child of the block's.
    #[error("the header after block {height} has parent {found}, expected {expected}")]
    NotNext {
        /// Height of the block.
        height: u64,
        /// Its digest.
        expected: Hash,
        /// Parent of the header given.
        found: Hash,
    },
    /// The result is of another transaction, or of another place in the block.
    #[error("the result is that of {found} at place {found_at}, expected {expected} at place {expected_at}")]
    OtherResult {
        /// Id of the transaction.
        expected: Hash,
        /// Its place in the block.
        expected_at: u32,
        /// Id in the result.
        found: Hash,
        /// Place of the result.
        found_at: u32,
    },
    /// The path does not lead from the result to the root in the next header.
    #[error("the result does not lead to results root {root} of block {height}")]
    WrongResult {
        /// Height of the block.
        height: u64,
        /// Root that the next header holds.
        root: Hash,
    },
}

/// Path from a transaction to the digest of its batch, which a header names (L3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InclusionProof {
    /// The transaction as it was signed; its Merkle leaf is over these bytes. Hex of borsh in JSON.
    #[serde(with = "codec::hex")]
    #[schemars(with = "String")]
    pub transaction: SignedTransaction,
    /// The rest of its batch. Hex of borsh in JSON: the bytes that stand before the root in the digest.
    #[serde(with = "codec::hex")]
    #[schemars(with = "String")]
    pub batch: BatchHead,
    /// Place in the batch.
    pub index: u16,
    /// Siblings from the leaf up, at most 16.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_PATH>")]
    pub path: Vec<Hash>,
}

impl InclusionProof {
    /// Proof of the transaction at `index` of a batch; `None` where there is none.
    pub fn of(batch: &Batch, index: u16) -> Option<InclusionProof> {
        let transaction = batch.txs.get(usize::from(index))?.clone();
        let path = merkle::path(&batch.leaves(), usize::from(index));
        Some(InclusionProof { transaction, batch: batch.head(), index, path })
    }

    /// Place of the transaction among all of the block with this final header.
    ///
    /// # Errors
    /// Where the header names no batch that the path leads to.
    pub fn verify(&self, header: &Header) -> Result<u32, NotProven> {
        let leaf = merkle::leaf(&codec::encode(&self.transaction));
        let mut before = 0u32;
        for reference in &header.batches {
            let root = merkle::climb(&leaf, self.index.into(), reference.txs.into(), &self.path);
            if root.is_some_and(|root| self.batch.digest(&root) == reference.digest) {
                return Ok(before.saturating_add(self.index.into()));
            }
            before = before.saturating_add(reference.txs.into());
        }
        Err(NotProven::NotIncluded { height: header.height, index: self.index })
    }
}

/// Path from a result to `parent_results_root` of the next header (L3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResultProof {
    /// What came of the transaction. Hex of borsh in JSON: its Merkle leaf is over these bytes.
    #[serde(with = "codec::hex")]
    #[schemars(with = "String")]
    pub result: TxResult,
    /// Place in the block, over all batches.
    pub index: u32,
    /// Siblings from the leaf up, at most 16.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_PATH>")]
    pub path: Vec<Hash>,
}

impl ResultProof {
    /// Proof of the result at `index` of all results of a block; `None` where there is none.
    pub fn of(results: &[TxResult], index: u32) -> Option<ResultProof> {
        let at = usize::try_from(index).ok()?;
        let leaves: Vec<Hash> = results.iter().map(|result| merkle::leaf(&codec::encode(result))).collect();
        Some(ResultProof { result: *results.get(at)?, index, path: merkle::path(&leaves, at) })
    }

    /// Checks that the block with the final header `header` had this result, by the final header `next` after it.
    ///
    /// # Errors
    /// Where `next` is not the next one, or the path does not lead to its results root.
    pub fn verify(&self, header: &Header, next: &Header) -> Result<(), NotProven> {
        let (height, expected, root) = (header.height, header.digest(), next.parent_results_root);
        if next.parent != expected {
            return Err(NotProven::NotNext { height, expected, found: next.parent });
        }
        let leaf = merkle::leaf(&codec::encode(&self.result));
        let place = (usize::try_from(self.index), usize::try_from(header.tx_count()));
        let (Ok(index), Ok(count)) = place else { return Err(NotProven::WrongResult { height, root }) };
        if !merkle::verify(&leaf, index, count, &self.path, &root) {
            return Err(NotProven::WrongResult { height, root });
        }
        Ok(())
    }
}

/// That a transaction stands in a final block, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransactionProof {
    /// It is in the block.
    pub inclusion: InclusionProof,
    /// What came of it; `None` while no header after the block is final.
    pub result: Option<ResultProof>,
}

impl TransactionProof {
    /// Checks that transaction `id` of `chain` is in the block with the final header `header`, and where it has a result
    /// that the final header `next` holds it. Gives the place in the block and the proven result.
    ///
    /// # Errors
    /// Names what is not proven. A result without `next` is not looked at.
    pub fn verify(
        &self,
        chain: &Hash,
        id: &Hash,
        header: &Header,
        next: Option<&Header>,
    ) -> Result<(u32, Option<TxResult>), NotProven> {
        let found = self.inclusion.transaction.id(chain);
        if found != *id {
            return Err(NotProven::OtherTransaction { expected: *id, found });
        }
        let place = self.inclusion.verify(header)?;
        let (Some(proof), Some(next)) = (&self.result, next) else { return Ok((place, None)) };
        if (proof.result.id, proof.index) != (*id, place) {
            let (expected, expected_at) = (*id, place);
            let (found, found_at) = (proof.result.id, proof.index);
            return Err(NotProven::OtherResult { expected, expected_at, found, found_at });
        }
        proof.verify(header, next)?;
        Ok((place, Some(proof.result)))
    }
}

#[cfg(test)]
mod tests;
