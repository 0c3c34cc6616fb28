//! Votes and certificates (protocol.md F3, F4).

use crate::codec;
use crate::hash::{self, Hash};
use crate::key::{PublicKey, SecretKey, Signature};
use crate::params::MAX_VALIDATORS;
use crate::validators::{Index, ValidatorSet};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Prefix of a vote's sign bytes.
const PREFIX: [u8; 16] = hash::sign_prefix("aitbc/vote/v1");

/// What is voted for. The borsh tag differs from the byte that is signed: see [`Kind::code`].
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// This candidate is valid and its data is here.
    Notar,
    /// This slot shall pass without a block.
    Skip,
    /// This candidate is notarized, and the slot not skipped by the voter.
    Final,
}

impl Kind {
    /// The byte that is signed: 1, 2, 3 (F3).
    pub fn code(self) -> u8 {
        match self {
            Kind::Notar => 1,
            Kind::Skip => 2,
            Kind::Final => 3,
        }
    }

    /// Name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Notar => "notar",
            Kind::Skip => "skip",
            Kind::Final => "final",
        }
    }

    /// Class of the vote row: 0 Notar, 1 outcome. One row a class and slot (P1, P2).
    pub fn class(self) -> u8 {
        match self {
            Kind::Notar => 0,
            Kind::Skip | Kind::Final => 1,
        }
    }
}

/// What a vote states (M7): Notar(s,d), Skip(s) or Final(s,d).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct Statement {
    /// Epoch.
    pub epoch: u64,
    /// Slot in the epoch, from 1.
    pub slot: u64,
    /// Kind of vote.
    pub kind: Kind,
    /// Candidate; zero for Skip and only for Skip.
    pub digest: Hash,
}

impl Statement {
    /// Bytes under the signature (F3), 97:
    /// pad16(`aitbc/vote/v1`) ‖ `chain[32]` ‖ epoch u64le ‖ slot u64le ‖ kind u8 ‖ `digest[32]`.
    pub fn sign_bytes(&self, chain: &Hash) -> [u8; 97] {
        let mut out = [0; 97];
        out[..16].copy_from_slice(&PREFIX);
        out[16..48].copy_from_slice(&chain.0);
        out[48..56].copy_from_slice(&self.epoch.to_le_bytes());
        out[56..64].copy_from_slice(&self.slot.to_le_bytes());
        out[64] = self.kind.code();
        out[65..].copy_from_slice(&self.digest.0);
        out
    }

    /// False for slot 0, a zero digest of Notar or Final, and a digest of Skip (F3).
    pub fn well_formed(&self) -> bool {
        self.slot > 0 && (self.kind == Kind::Skip) == self.digest.is_zero()
    }
}

/// A signed statement of one validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Vote {
    /// What is stated.
    pub statement: Statement,
    /// Who states it.
    pub signer: Index,
    /// Over [`Statement::sign_bytes`].
    pub signature: Signature,
}

impl Vote {
    /// Signs a statement.
    pub fn sign(statement: Statement, chain: &Hash, signer: Index, key: &SecretKey) -> Vote {
        Vote { statement, signer, signature: key.sign(&statement.sign_bytes(chain)) }
    }

    /// True iff `key` signed it.
    pub fn verifies(&self, chain: &Hash, key: &PublicKey) -> bool {
        key.verifies(&self.statement.sign_bytes(chain), &self.signature)
    }
}

/// Votes of weight ≥ q for one statement (F4).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Cert {
    /// What was voted for.
    pub statement: Statement,
    /// One bit a validator, lowest bit of the first byte is index 0; padding bits zero; ⌈n/8⌉ bytes.
    #[borsh(deserialize_with = "codec::capped::<_, _, BITMAP_BYTES>")]
    pub signers: Vec<u8>,
    /// Signatures in ascending order of index.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_VALIDATORS>")]
    pub signatures: Vec<Signature>,
}

/// Bytes of the signer bitmap of the largest set.
const BITMAP_BYTES: usize = MAX_VALIDATORS.div_ceil(8);

/// Why a certificate is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// The statement is malformed (F3).
    #[error("malformed statement")]
    Statement,
    /// The bitmap has another length than the set, a padding bit, or another count than the signatures.
    #[error("the signer bitmap does not fit the set or the signatures")]
    Bitmap,
    /// The signers' weight is no quorum.
    #[error("signers of weight {found}, at least {quorum} needed")]
    Weight {
        /// Sum of weights.
        found: u64,
        /// q.
        quorum: u64,
    },
    /// A signature is wrong.
    #[error("the signature of validator {0} is invalid")]
    Signature(Index),
}

impl Cert {
    /// Collects votes for one statement, whose signatures the caller has verified. `votes` may come in any order.
    pub fn collect(statement: Statement, set: &ValidatorSet, votes: &[(Index, Signature)]) -> Cert {
        let mut votes = votes.to_vec();
        votes.sort_by_key(|(index, _)| *index);
        votes.dedup_by_key(|(index, _)| *index);
        let mut signers = vec![0u8; set.len().div_ceil(8)];
        for (index, _) in &votes {
            if let Some(byte) = signers.get_mut(usize::from(*index) / 8) {
                *byte |= 1 << (index % 8);
            }
        }
        Cert { statement, signers, signatures: votes.into_iter().map(|(_, signature)| signature).collect() }
    }

    /// Indices of the signers, ascending.
    pub fn signer_indices(&self) -> impl Iterator<Item = Index> + '_ {
        self.signers.iter().enumerate().flat_map(|(byte, bits)| {
            (0..8u16).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| byte as Index * 8 + bit)
        })
    }

    /// Everything but the signatures, which cost 40 µs each.
    ///
    /// # Errors
    /// Says which rule of F4 fails.
    pub fn check_shape(&self, set: &ValidatorSet) -> Result<(), CertError> {
        if !self.statement.well_formed() {
            return Err(CertError::Statement);
        }
        let fits = self.signers.len() == set.len().div_ceil(8)
            && self.signer_indices().all(|index| usize::from(index) < set.len())
            && self.signer_indices().count() == self.signatures.len();
        if !fits {
            return Err(CertError::Bitmap);
        }
        let found = self.signer_indices().map(|index| set.weight(index)).sum();
        if found < set.quorum() {
            return Err(CertError::Weight { found, quorum: set.quorum() });
        }
        Ok(())
    }

    /// Valid iff every signer is of the set, distinct, all signatures valid, weight ≥ q (F4).
    ///
    /// # Errors
    /// Says which rule fails.
    pub fn verify(&self, chain: &Hash, set: &ValidatorSet) -> Result<(), CertError> {
        self.verify_by(chain, set, |signer, message, signature| {
            set.get(signer).is_some_and(|v| v.key.verifies(message, signature))
        })
    }

    /// The same, where somebody else decides whether the member at an index signed a message.
    ///
    /// # Errors
    /// Says which rule fails.
    pub fn verify_by(
        &self,
        chain: &Hash,
        set: &ValidatorSet,
        verifies: impl Fn(Index, &[u8], &Signature) -> bool,
    ) -> Result<(), CertError> {
        self.check_shape(set)?;
        let message = self.statement.sign_bytes(chain);
        match self.signer_indices().zip(&self.signatures).find(|(i, signature)| !verifies(*i, &message, signature)) {
            Some((signer, _)) => Err(CertError::Signature(signer)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::validators::Validator;

    pub(crate) fn chain() -> Hash {
        hash::plain(b"chain")
    }

    /// Of four validators, by their numbers; from another seed on, of four others.
    pub(crate) fn keys(first: u8) -> Vec<SecretKey> {
        let mut keys: Vec<SecretKey> = (first..first + 4).map(|seed| SecretKey::from_seed([seed; 32])).collect();
        keys.sort_by_key(SecretKey::public);
        keys
    }

    /// Of those with these keys, each of weight 1.
    pub(crate) fn set_of(keys: &[SecretKey]) -> ValidatorSet {
        let members = keys.iter().map(|key| Validator { key: key.public(), weight: 1 });
        ValidatorSet::new(members.collect()).expect("valid set")
    }

    /// By some of those with these keys.
    pub(crate) fn certify(keys: &[SecretKey], statement: Statement, signers: &[Index]) -> Cert {
        let vote = |i: &Index| (*i, Vote::sign(statement, &chain(), *i, &keys[usize::from(*i)]).signature);
        Cert::collect(statement, &set_of(keys), &signers.iter().map(vote).collect::<Vec<_>>())
    }

    fn set() -> ValidatorSet {
        set_of(&keys(1))
    }

    fn cert(signers: &[Index]) -> (Hash, Cert) {
        cert_of(Statement { epoch: 0, slot: 3, kind: Kind::Notar, digest: hash::plain(b"d") }, signers)
    }

    fn cert_of(statement: Statement, signers: &[Index]) -> (Hash, Cert) {
        (chain(), certify(&keys(1), statement, signers))
    }

    #[test]
    fn f3_vote_sign_bytes_are_97_with_the_fields_in_order() {
        let s = Statement { epoch: 1, slot: 2, kind: Kind::Final, digest: Hash([5; 32]) };
        let bytes = s.sign_bytes(&Hash([9; 32]));
        assert_eq!(&bytes[..16], b"aitbc/vote/v1\0\0\0");
        assert_eq!((bytes[47], bytes[48], bytes[56], bytes[64], bytes[65]), (9, 1, 2, 3, 5));
    }

    #[test]
    fn f3_malformed_statements_are_told_apart() {
        let ok = Statement { epoch: 0, slot: 1, kind: Kind::Skip, digest: Hash::ZERO };
        assert!(ok.well_formed());
        assert!(!Statement { slot: 0, ..ok }.well_formed());
        assert!(!Statement { kind: Kind::Notar, ..ok }.well_formed());
        assert!(!Statement { digest: Hash([1; 32]), ..ok }.well_formed());
    }

    #[test]
    fn f4_a_quorum_of_distinct_known_signers_makes_a_certificate() {
        let (chain, good) = cert(&[3, 0, 1]);
        assert_eq!(good.verify(&chain, &set()), Ok(()));
        let (_, light) = cert(&[0, 1]);
        assert_eq!(light.verify(&chain, &set()), Err(CertError::Weight { found: 2, quorum: 3 }));
        let mut padded = good.clone();
        padded.signers[0] |= 0x80;
        assert_eq!(padded.verify(&chain, &set()), Err(CertError::Bitmap));
        let mut forged = good.clone();
        forged.signatures.swap(0, 1);
        assert_eq!(forged.verify(&chain, &set()), Err(CertError::Signature(0)));
        let (_, twice) = cert(&[0, 0, 1, 2]);
        assert_eq!(twice.signatures.len(), 3);
    }

    #[test]
    fn f4_each_signer_has_a_signature_and_each_signature_a_signer() {
        let (chain, good) = cert(&[3, 0, 1]);
        let refused = |change: fn(&mut Cert)| {
            let mut cert = good.clone();
            change(&mut cert);
            assert_eq!(cert.verify(&chain, &set()), Err(CertError::Bitmap));
        };
        // The signers without one would be believed by their bits alone.
        refused(|cert| cert.signatures.truncate(1));
        refused(|cert| cert.signatures.clear());
        refused(|cert| cert.signatures.push(cert.signatures[0]));
        refused(|cert| cert.signers.push(0));
        // Nobody has this number, so nobody has signed.
        refused(|cert| {
            cert.signers[0] |= 0x80;
            cert.signatures.push(cert.signatures[0]);
        });
        refused(|cert| cert.signers.clear());
    }

    #[test]
    fn f4_a_certificate_of_a_malformed_statement_is_none_whoever_signed_it() {
        let good = Statement { epoch: 0, slot: 3, kind: Kind::Notar, digest: hash::plain(b"d") };
        let malformed = [
            Statement { slot: 0, ..good },
            Statement { digest: Hash::ZERO, ..good },
            Statement { kind: Kind::Skip, ..good },
        ];
        for statement in malformed {
            let (chain, cert) = cert_of(statement, &[0, 1, 2, 3]);
            assert_eq!(cert.verify(&chain, &set()), Err(CertError::Statement));
        }
    }
}
