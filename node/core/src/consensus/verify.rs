//! Who decides whether a vote's signature is valid (protocol.md F2).

use crate::key::Signature;
use crate::validators::{Index, ValidatorSet};
use std::fmt;

/// Decides signatures of the set's members. The simulation puts a cheap one in, so that a million schedules fit a night.
pub trait Verify: Send + Sync + fmt::Debug {
    /// True iff the member at `signer` signed `message`.
    fn verifies(&self, signer: Index, message: &[u8], signature: &Signature) -> bool;
}

/// ZIP-215 verification with the keys decompressed once, which saves a tenth of each verification.
pub struct Ed25519 {
    /// By index; `None` where the bytes are no point, so nothing verifies.
    keys: Vec<Option<ed25519_zebra::VerificationKey>>,
}

impl Ed25519 {
    /// Keys of a set.
    pub fn new(set: &ValidatorSet) -> Self {
        let key = |bytes: [u8; 32]| ed25519_zebra::VerificationKey::try_from(bytes).ok();
        Ed25519 { keys: set.members().iter().map(|member| key(member.key.0)).collect() }
    }
}

impl Verify for Ed25519 {
    fn verifies(&self, signer: Index, message: &[u8], signature: &Signature) -> bool {
        let key = self.keys.get(usize::from(signer)).and_then(Option::as_ref);
        key.is_some_and(|key| key.verify(&ed25519_zebra::Signature::from(signature.0), message).is_ok())
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
        assert!(verifier.verifies(0, b"yes", &signature));
        assert!(!verifier.verifies(0, b"no", &signature));
        assert!(!verifier.verifies(1, b"yes", &signature), "no such member");
    }
}
