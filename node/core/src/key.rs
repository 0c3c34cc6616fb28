//! Keys, signatures and addresses: ed25519, verified by the ZIP-215 rules so that one and many agree (F2).

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes, spki::der::pem::LineEnding};
use ed25519_dalek::{Signer, SigningKey};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Human-readable part of an address in bech32.
const ADDRESS_HRP: &str = "ait";
/// Characters of an address in bech32: `ait1`, 32 symbols of 5 bits for 20 bytes, 6 of checksum.
const ADDRESS_LEN: usize = 42;

/// An ed25519 public key. Text form: 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct PublicKey(pub [u8; 32]);

/// An ed25519 signature (R ‖ s). Text form: 128 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, BorshSerialize, BorshDeserialize)]
pub struct Signature(pub [u8; 64]);

/// First 20 bytes of SHA-256(public key). Text form: bech32 `ait1…`; `0x` and 40 hex digits is read as the same bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Address(pub [u8; 20]);

/// A secret key. Never printed; zeroed when dropped.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// Key of a 32-byte seed. The seed must come from the operating system's generator, or a test.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        SecretKey(SigningKey::from_bytes(&seed))
    }

    /// Reads a PKCS#8 PEM (`BEGIN PRIVATE KEY`), as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// Where the text is no ed25519 PKCS#8 PEM. The message never contains key bytes.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, ParseKeyError> {
        SigningKey::from_pkcs8_pem(pem).map(SecretKey).map_err(|_| ParseKeyError::NotPkcs8)
    }

    /// PKCS#8 PEM of this key: the only form in which a key is stored. Of version 1, without the public key: OpenSSL, and
    /// with it Python and Node, reads no other.
    pub fn to_pkcs8_pem(&self) -> String {
        let key = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        key.to_pkcs8_pem(LineEnding::LF).map(|pem| pem.to_string()).unwrap_or_default()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signature over `message`, deterministic (RFC 8032).
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public().address())
    }
}

impl PublicKey {
    /// The address of this key.
    pub fn address(&self) -> Address {
        let digest = Sha256::digest(self.0);
        let mut out = [0; 20];
        out.copy_from_slice(&digest[..20]);
        Address(out)
    }

    /// True iff it is a point of full order, as every key of a secret is: of any other either nobody can make signatures,
    /// or everybody, for ZIP-215 does not see what is of small order.
    pub fn has_full_order(&self) -> bool {
        ed25519_dalek::VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| !key.is_weak() && key.to_edwards().is_torsion_free())
    }

    /// True iff it is of small order, so that everybody can make signatures that are valid for it.
    pub fn is_everybodys(&self) -> bool {
        ed25519_dalek::VerifyingKey::from_bytes(&self.0).is_ok_and(|key| key.is_weak())
    }

    /// True iff `signature` over `message` is valid by ZIP-215.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        ed25519_zebra::VerificationKey::try_from(self.0)
            .is_ok_and(|key| key.verify(&ed25519_zebra::Signature::from(signature.0), message).is_ok())
    }
}

/// Why a text is no key, signature or address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// The PEM is no ed25519 PKCS#8 private key.
    #[error("not an ed25519 private key in PKCS#8 PEM (\"-----BEGIN PRIVATE KEY-----\")")]
    NotPkcs8,
    /// The public key is not 64 hex digits.
    #[error("\"{0}\" is not a public key: expected 64 hex digits, optionally after 0x")]
    PublicKey(String),
    /// The signature is not 128 hex digits.
    #[error("not a signature: expected 128 hex digits, optionally after 0x")]
    Signature,
    /// The address is neither bech32 nor hex.
    #[error("\"{0}\" is not an address: expected ait1… (bech32) or 0x and 40 hex digits")]
    Address(String),
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

fn bare(text: &str) -> &str {
    text.strip_prefix("0x").unwrap_or(text)
}

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut out = [0; 32];
        hex::decode_to_slice(bare(text), &mut out).map_err(|_| ParseKeyError::PublicKey(short(text)))?;
        Ok(PublicKey(out))
    }
}

impl FromStr for Signature {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut out = [0; 64];
        hex::decode_to_slice(bare(text), &mut out).map_err(|_| ParseKeyError::Signature)?;
        Ok(Signature(out))
    }
}

impl FromStr for Address {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseKeyError::Address(short(text));
        let mut out = [0; 20];
        if let Some(digits) = text.strip_prefix("0x") {
            hex::decode_to_slice(digits, &mut out).map_err(|_| wrong())?;
            return Ok(Address(out));
        }
        // The checksum alone lets a `q` come in before a last `p`, and the bytes would be the same.
        if text.len() != ADDRESS_LEN {
            return Err(wrong());
        }
        let parsed = bech32::primitives::decode::CheckedHrpstring::new::<bech32::Bech32>(text).map_err(|_| wrong())?;
        if !parsed.hrp().as_str().eq_ignore_ascii_case(ADDRESS_HRP) {
            return Err(wrong());
        }
        let bytes: Vec<u8> = parsed.byte_iter().collect();
        out = bytes.try_into().map_err(|_| wrong())?;
        Ok(Address(out))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hrp = bech32::Hrp::parse_unchecked(ADDRESS_HRP);
        bech32::encode_to_fmt::<bech32::Bech32, _>(f, hrp, &self.0).map_err(|_| fmt::Error)
    }
}

macro_rules! text_form {
    ($($name:ident: $form:literal, $pattern:literal;)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $form, "pattern": $pattern })
            }
        }
    )*};
}
text_form! {
    PublicKey: "an ed25519 public key, 64 hex digits", "^[0-9a-f]{64}$";
    Signature: "an ed25519 signature, 128 hex digits", "^[0-9a-f]{128}$";
    Address: "first 20 bytes of SHA-256(public key) as bech32; 0x and 40 hex digits is read as the same", "^ait1[02-9ac-hj-np-z]{38}$";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretKey {
        SecretKey::from_seed([7; 32])
    }

    #[test]
    fn a_key_survives_its_pem() {
        let back = SecretKey::from_pkcs8_pem(&key().to_pkcs8_pem()).expect("own pem");
        assert_eq!(back.public(), key().public());
    }

    #[test]
    fn a_pem_is_the_one_that_openssl_writes_and_one_with_the_public_key_is_read_too() {
        let body = "MC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        assert_eq!(key().to_pkcs8_pem(), pem);
        let longer = key().0.to_pkcs8_pem(LineEnding::LF).expect("a pem");
        assert_ne!(longer.as_str(), pem);
        assert_eq!(SecretKey::from_pkcs8_pem(&longer).expect("a key").public(), key().public());
    }

    #[test]
    fn an_address_reads_from_bech32_and_from_hex_as_the_same_bytes() {
        let address = key().public().address();
        assert!(address.to_string().starts_with("ait1"));
        assert_eq!(address.to_string().parse(), Ok(address));
        assert_eq!(format!("0x{}", hex::encode(address.0)).parse(), Ok(address));
    }

    #[test]
    fn other_address_forms_are_refused() {
        for text in ["", "0x12", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "ait1qqqq", "deadbeef"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_signature_verifies_for_its_message_only() {
        let signature = key().sign(b"yes");
        assert!(key().public().verifies(b"yes", &signature));
        assert!(!key().public().verifies(b"no", &signature));
    }

    /// Zeros are what a placeholder looks like, and a point: this signature of nobody is valid for it and any message.
    #[test]
    fn only_a_point_of_full_order_is_a_key_that_somebody_alone_signs_for() {
        let starting = |first: u8| std::array::from_fn(|i| if i == 0 { first } else { 0 });
        let everybodys = [PublicKey([0; 32]), PublicKey(starting(1))];
        let mut of_nobody = Signature([0; 64]);
        of_nobody.0[0] = 1;
        for weak in everybodys {
            assert!(weak.verifies(b"yes", &of_nobody) && weak.verifies(b"no", &of_nobody), "{weak}");
            assert!(!weak.has_full_order() && weak.is_everybodys(), "{weak}");
        }
        let no_point = PublicKey(starting(2));
        assert!(!no_point.verifies(b"yes", &of_nobody) && !no_point.has_full_order());
        assert!(!no_point.is_everybodys() && !key().public().is_everybodys());
        assert!((0..=255).all(|seed| SecretKey::from_seed([seed; 32]).public().has_full_order()));
    }

    /// Two names of one key would be two of a threshold.
    #[test]
    fn a_key_with_a_part_of_small_order_is_another_name_of_one_without_and_none_itself() {
        let zero = ed25519_dalek::VerifyingKey::from_bytes(&[0; 32]).expect("a point").to_edwards();
        let own = ed25519_dalek::VerifyingKey::from_bytes(&key().public().0).expect("a point").to_edwards();
        let other = PublicKey((own + zero).compress().0);
        assert_ne!(other, key().public());
        assert!(!other.has_full_order());
    }

    #[test]
    fn a_secret_key_never_prints_itself() {
        let printed = format!("{:?}", key());
        assert!(!printed.contains(&hex::encode([7; 32])));
    }
}
