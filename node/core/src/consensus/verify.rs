//! Who decides whether a vote's signature is valid (protocol.md F2).

use crate::key::{PublicKey, Signature};
use crate::validators::ValidatorSet;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Decides signatures. The simulation puts a cheap one in, so that a million schedules fit a night.
pub trait Verify: Send + Sync + fmt::Debug {
    /// True iff `key` signed `message`.
    fn verifies(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool;

    /// One that decides alike, and fast for the keys of this set.
    fn prepared(&self, set: &ValidatorSet) -> Arc<dyn Verify>;
}

/// ZIP-215 verification with the keys of a set decompressed once, which saves a tenth of each verification.
pub struct Ed25519 {
    /// `None` where the bytes are no point, so nothing verifies.
    keys: BTreeMap<PublicKey, Option<ed25519_zebra::VerificationKey>>,
}

impl Ed25519 {
    /// Keys of a set.
    pub fn new(set: &ValidatorSet) -> Self {
        let key = |bytes: [u8; 32]| ed25519_zebra::VerificationKey::try_from(bytes).ok();
        Ed25519 { keys: set.members().iter().map(|member| (member.key, key(member.key.0))).collect() }
    }
}

impl Verify for Ed25519 {
    fn verifies(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        match self.keys.get(key) {
            Some(Some(known)) => known.verify(&ed25519_zebra::Signature::from(signature.0), message).is_ok(),
            Some(None) => false,
            None => key.verifies(message, signature),
        }
    }

    fn prepared(&self, set: &ValidatorSet) -> Arc<dyn Verify> {
        Arc::new(Ed25519::new(set))
    }
}

impl fmt::Debug for Ed25519 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ed25519({} keys)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;
    use crate::validators::Validator;

    #[test]
    fn f2_a_cached_key_decides_as_the_key_itself() {
        let key = SecretKey::from_seed([3; 32]);
        let set = ValidatorSet::new(vec![Validator { key: key.public(), weight: 1 }]).expect("valid set");
        let verifier = Ed25519::new(&set);
        let signature = key.sign(b"yes");
        assert!(verifier.verifies(&key.public(), b"yes", &signature));
        assert!(!verifier.verifies(&key.public(), b"no", &signature));
        let other = SecretKey::from_seed([4; 32]);
        assert!(!verifier.verifies(&other.public(), b"yes", &signature), "of another key");
        assert!(verifier.verifies(&other.public(), b"yes", &other.sign(b"yes")), "of no member");
    }
}
