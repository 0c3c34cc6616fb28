//! How many units there are: what was minted and burnt since genesis.

use crate::params::MAX_SUPPLY;
use borsh::{BorshDeserialize, BorshSerialize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was made and unmade since genesis.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SupplyChange")]
pub struct Supply {
    /// Smallest units: block rewards and receipts.
    pub minted: u64,
    /// Smallest units: slashed.
    pub burnt: u64,
}

impl Supply {
    /// All units there are, of `genesis` at height 0.
    pub fn total(&self, genesis: u64) -> u64 {
        genesis.saturating_add(self.minted).saturating_sub(self.burnt)
    }

    /// After minting; `None` where there would be more than [`MAX_SUPPLY`].
    #[must_use]
    pub fn minting(self, genesis: u64, amount: u64) -> Option<Supply> {
        let room = MAX_SUPPLY.saturating_sub(self.total(genesis));
        (amount <= room).then(|| Supply { minted: self.minted.saturating_add(amount), ..self })
    }

    /// After burning.
    #[must_use]
    pub fn burning(self, amount: u64) -> Supply {
        Supply { burnt: self.burnt.saturating_add(amount), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_minted_than_may_exist() {
        let genesis = MAX_SUPPLY - 10;
        let some = Supply::default().minting(genesis, 4).expect("room");
        assert_eq!((some.minting(genesis, 7), some.minting(genesis, u64::MAX)), (None, None));
        let all = some.minting(genesis, 6).expect("room for all");
        assert_eq!((all.total(genesis), all.minting(genesis, 1)), (MAX_SUPPLY, None));
        let less = all.burning(3);
        assert_eq!((less.total(genesis), less.minting(genesis, 4)), (MAX_SUPPLY - 3, None));
        assert_eq!(less.minting(genesis, 3), Some(Supply { minted: 13, burnt: 3 }));
    }
}
