//! What genesis says of receipts: what a unit earns, who attests it, how much an epoch may mint (design.md §5).
//!
//! ```text
//! mint        = units × mint_per_unit
//! coordinator = ⌊mint × coordinator_parts_per_million / 1,000,000⌋ / number of coordinators in genesis, rounded down
//! provider    = mint − coordinator × number of attestations
//! ```
//!
//! A coordinator earns the same whoever attests beside it, so that none gains by sending a receipt without another's
//! attestation. Shares of those who do not attest, and what does not divide, are the provider's.

use crate::key::PublicKey;
use crate::params::{MAX_COORDINATORS, MAX_RECEIPT_EXPIRY, MAX_SUPPLY};
use borsh::{BorshDeserialize, BorshSerialize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Parts in a whole.
const MILLION: u32 = 1_000_000;

/// A key that may attest receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Coordinator {
    /// Ed25519 key; its address earns the share.
    pub public_key: PublicKey,
}

/// Terms on which receipts mint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Smallest units that one unit of work mints; 0: receipts only release escrows.
    pub mint_per_unit: u64,
    /// Share of what is minted that goes to the coordinators if all of them attest, 0 to 1,000,000.
    pub coordinator_parts_per_million: u32,
    /// Who may attest, 1 to 16.
    pub coordinators: Vec<Coordinator>,
    /// How many of them must, at least.
    pub coordinator_threshold: u16,
    /// Most that all receipts of an epoch mint together.
    #[serde(default = "no_cap")]
    pub epoch_cap: u64,
    /// Most that the receipts of one provider mint in an epoch.
    #[serde(default = "no_cap")]
    pub provider_epoch_cap: u64,
    /// Seconds after `completed_at`, by the block's time, in which a receipt is worth something.
    #[serde(default = "a_week")]
    pub expiry_seconds: u64,
}

fn no_cap() -> u64 {
    MAX_SUPPLY
}

fn a_week() -> u64 {
    604_800
}

/// A term that is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// A number.
    #[error("receipts.{name}: {found} given, {allowed}")]
    Range {
        /// Field of [`Terms`].
        name: &'static str,
        /// What genesis says.
        found: u64,
        /// What is allowed.
        allowed: String,
    },
    /// A key stands twice.
    #[error("receipts.coordinators: {0} is listed twice")]
    DuplicateCoordinator(PublicKey),
    /// A key that nobody, or everybody, can sign for.
    #[error("receipts.coordinators: {0} is no point of full order, so it is nobody's ed25519 key")]
    WeakCoordinator(PublicKey),
}

/// What a receipt mints, in smallest units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mint {
    /// For the provider.
    pub provider: u64,
    /// For each coordinator that attested.
    pub coordinator: u64,
    /// Together.
    pub total: u64,
}

impl Terms {
    /// Checks every range.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn check(&self) -> Result<(), TermsError> {
        let coordinators = self.coordinators.len() as u64;
        let rules = [
            ("mint_per_unit", self.mint_per_unit, 0, MAX_SUPPLY),
            ("coordinator_parts_per_million", self.coordinator_parts_per_million.into(), 0, MILLION.into()),
            ("coordinators", coordinators, 1, MAX_COORDINATORS as u64),
            ("coordinator_threshold", self.coordinator_threshold.into(), 1, coordinators),
            ("epoch_cap", self.epoch_cap, 0, MAX_SUPPLY),
            ("provider_epoch_cap", self.provider_epoch_cap, 0, MAX_SUPPLY),
            ("expiry_seconds", self.expiry_seconds, 1, MAX_RECEIPT_EXPIRY),
        ];
        for (name, found, least, most) in rules {
            if found < least || found > most {
                return Err(TermsError::Range { name, found, allowed: format!("between {least} and {most}") });
            }
        }
        let mut seen = BTreeSet::new();
        for Coordinator { public_key } in &self.coordinators {
            if !public_key.has_full_order() {
                return Err(TermsError::WeakCoordinator(*public_key));
            }
            if !seen.insert(public_key) {
                return Err(TermsError::DuplicateCoordinator(*public_key));
            }
        }
        Ok(())
    }

    /// True for a key that may attest.
    pub fn names(&self, key: &PublicKey) -> bool {
        self.coordinators.iter().any(|coordinator| coordinator.public_key == *key)
    }

    /// What units attested by so many of the coordinators mint; `None` where that is more than there may be.
    pub fn mint(&self, units: u64, attestations: usize) -> Option<Mint> {
        let total = units.checked_mul(self.mint_per_unit).filter(|total| *total <= MAX_SUPPLY)?;
        let share = u128::from(total) * u128::from(self.coordinator_parts_per_million) / u128::from(MILLION);
        let coordinator = u64::try_from(share).ok()?.checked_div(self.coordinators.len() as u64)?;
        let provider = total.checked_sub(coordinator.checked_mul(attestations as u64)?)?;
        Some(Mint { provider, coordinator, total })
    }

    /// The last second, since 1970, at which a receipt of work completed then is worth something.
    pub fn expires(&self, completed_at: u64) -> u64 {
        completed_at.saturating_add(self.expiry_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;

    fn terms() -> Terms {
        let coordinator = |n| Coordinator { public_key: SecretKey::from_seed([n; 32]).public() };
        Terms {
            mint_per_unit: 1_000,
            coordinator_parts_per_million: 50_000,
            coordinators: vec![coordinator(1), coordinator(2), coordinator(3)],
            coordinator_threshold: 2,
            epoch_cap: 10_000,
            provider_epoch_cap: 5_000,
            expiry_seconds: 60,
        }
    }

    fn refused(change: fn(&mut Terms)) -> String {
        let mut terms = terms();
        change(&mut terms);
        terms.check().expect_err("out of range").to_string()
    }

    #[test]
    fn each_term_out_of_range_is_named_with_its_range() {
        assert_eq!(terms().check(), Ok(()));
        assert!(refused(|t| t.mint_per_unit = u64::MAX).contains("receipts.mint_per_unit"));
        assert!(refused(|t| t.coordinator_parts_per_million = 1_000_001).contains("between 0 and 1000000"));
        assert!(refused(|t| t.coordinators.clear()).contains("receipts.coordinators: 0"));
        assert!(refused(|t| t.coordinators = vec![t.coordinators[0]; 17]).contains("between 1 and 16"));
        assert!(refused(|t| t.coordinators[2] = t.coordinators[0]).contains("listed twice"));
        assert!(refused(|t| t.coordinator_threshold = 0).contains("coordinator_threshold: 0"));
        assert!(refused(|t| t.coordinator_threshold = 4).contains("between 1 and 3"));
        assert!(refused(|t| t.epoch_cap = u64::MAX).contains("receipts.epoch_cap"));
        assert!(refused(|t| t.provider_epoch_cap = u64::MAX).contains("provider_epoch_cap"));
        assert!(refused(|t| t.expiry_seconds = 0).contains("expiry_seconds: 0"));
        assert!(refused(|t| t.expiry_seconds = u64::MAX).contains("expiry_seconds"));
    }

    #[test]
    fn a_coordinator_whose_key_is_nobodys_is_named() {
        let zeros = refused(|t| t.coordinators[1].public_key = PublicKey([0; 32]));
        assert!(zeros.contains(&"0".repeat(64)) && zeros.contains("point of full order"), "{zeros}");
        let no_point =
            refused(|t| t.coordinators[0].public_key = PublicKey(std::array::from_fn(|i| u8::from(i == 0) * 2)));
        assert!(no_point.contains("receipts.coordinators: 02"), "{no_point}");
    }

    #[test]
    fn a_coordinator_has_its_share_of_all_whoever_else_attests_and_the_rest_is_the_providers() {
        // 5 % of 1,000 is 50: 16 for each of three, and 2 that stay with the provider.
        assert_eq!(terms().mint(1, 3), Some(Mint { provider: 952, coordinator: 16, total: 1_000 }));
        assert_eq!(terms().mint(1, 2), Some(Mint { provider: 968, coordinator: 16, total: 1_000 }));
        assert_eq!(terms().mint(2, 2), Some(Mint { provider: 1_934, coordinator: 33, total: 2_000 }));
        let odd = Terms { mint_per_unit: 7, ..terms() };
        assert_eq!(odd.mint(1, 2), Some(Mint { provider: 7, coordinator: 0, total: 7 }));
        let all = Terms { coordinator_parts_per_million: 1_000_000, ..terms() };
        assert_eq!(all.mint(1, 3), Some(Mint { provider: 1, coordinator: 333, total: 1_000 }));
        assert_eq!(all.mint(1, 2), Some(Mint { provider: 334, coordinator: 333, total: 1_000 }));
        let nothing = Terms { mint_per_unit: 0, ..terms() };
        assert_eq!(nothing.mint(u64::MAX, 2), Some(Mint { provider: 0, coordinator: 0, total: 0 }));
    }

    #[test]
    fn more_than_there_may_be_is_not_minted() {
        let one = Terms { mint_per_unit: 1, coordinator_parts_per_million: 1_000_000, ..terms() };
        let most = Mint { provider: 1, coordinator: (MAX_SUPPLY - 1) / 3, total: MAX_SUPPLY };
        assert_eq!(one.mint(MAX_SUPPLY, 3), Some(most));
        assert_eq!(one.mint(MAX_SUPPLY + 1, 2), None);
        assert_eq!(terms().mint(1 << 63, 2), None);
    }
}
