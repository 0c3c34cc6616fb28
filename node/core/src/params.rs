//! Named bounds and the consensus parameters of genesis (protocol.md §9).

use borsh::{BorshDeserialize, BorshSerialize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most validators in a set (M1).
pub const MAX_VALIDATORS: usize = 100;
/// Most a validator may weigh; keeps W ≤ 2^31 (M1).
pub const MAX_WEIGHT: u32 = 20_000_000;
/// Greatest total supply in the smallest unit: exact as a JSON number everywhere (design.md §2).
pub const MAX_SUPPLY: u64 = (1 << 53) - 1;
/// Batches a header may name (V6).
pub const MAX_BLOCK_BATCHES: usize = 64;
/// Bytes of all batches of a block (V6).
pub const MAX_BLOCK_BYTES: u64 = 2 << 20;
/// Transactions of a block (V6).
pub const MAX_BLOCK_TXS: u64 = 16_384;
/// Evidence items of a header (V7).
pub const MAX_EVIDENCE: usize = 8;
/// Bytes of an encoded header (V8).
pub const MAX_HEADER_BYTES: usize = 64 << 10;
/// Certificates inline in a proposal (F6); the rest comes by C15.
pub const MAX_INLINE_CERTS: usize = 16;
/// Bytes at which a batch is sealed.
pub const BATCH_TARGET_BYTES: usize = 64 << 10;
/// Most bytes of an encoded batch.
pub const MAX_BATCH_BYTES: usize = 256 << 10;
/// Most transactions in one batch.
pub const MAX_BATCH_TXS: usize = 4_096;
/// Bytes of an encoded signed transaction.
pub const MAX_TX_BYTES: usize = 16 << 10;
/// Bytes of an action that the least fee pays for; each such piece begun costs it again.
pub const FEE_UNIT_BYTES: usize = 256;
/// Least fees that a record which outlives its transaction costs: the nullifier of a receipt, an escrow, an activation.
pub const FEE_UNITS_OF_RECORD: u64 = 16;
/// Payments in one `TransferMany`.
pub const MAX_TRANSFERS: usize = 64;
/// How far ahead of the chain a transaction or batch may expire, in heights (§9).
pub const MAX_EXPIRY_AHEAD: u64 = 2_000;
/// Votes are taken for slots up to F + this (C1).
pub const VOTE_WINDOW: u64 = 64;
/// Slots whose certificates and rows are kept below the last final one (C20, P9).
pub const KEEP_FINAL_SLOTS: u64 = 64;
/// Slots one standstill attempt covers (C17).
pub const STANDSTILL_SLOTS: u64 = 64;
/// Bytes one standstill attempt may send to a peer (C17).
pub const STANDSTILL_BYTES: usize = 256 << 10;
/// Least number of blocks whose batches a node keeps: one may be named again until it expires (V6), which a start reads
/// from the ledger, and the blocks of the last final slots are asked for by late peers (C14, C20).
pub const MIN_KEEP_BLOCKS: u64 = MAX_EXPIRY_AHEAD + KEEP_FINAL_SLOTS;
/// Fetch requests in flight (C14).
pub const MAX_FETCHES: usize = 16;
/// First and longest fetch time-out in milliseconds, growing by half (C14).
pub const FETCH_TIMEOUT_MS: (u64, u64) = (100, 2_000);
/// How often Status goes to every peer, in milliseconds (C18).
pub const STATUS_EVERY_MS: u64 = 500;
/// Least time between two repairs to one lagging peer, in milliseconds (C18).
pub const REPAIR_EVERY_MS: u64 = 50;
/// Bytes of candidates and certificates that a peer gets within a second for asking (C14, C15): a request of 2 KiB may name 64
/// candidates of 64 KiB, and nothing else limits how often it comes. An honest peer has 16 requests under way, each for 100 ms.
pub const ANSWER_BYTES: usize = 1 << 20;
/// Coordinators a genesis may name, and attestations of a receipt.
pub const MAX_COORDINATORS: usize = 16;
/// Entries of a receipt's metadata.
pub const MAX_METADATA: usize = 16;
/// Longest time a receipt can be claimed in seconds: ten years.
pub const MAX_RECEIPT_EXPIRY: u64 = 315_360_000;
/// How far ahead of the block's time work may have been completed, in seconds: what clocks differ by. Further ahead, the receipt
/// would hardly ever expire.
pub const MAX_RECEIPT_AHEAD: u64 = 60;
/// How far ahead an escrow may time out, in heights: a slip of a digit must not lock units up for ever.
pub const MAX_ESCROW_AHEAD: u64 = 100_000_000;
/// Longest unbonding time, in milliseconds: a year.
pub const MAX_UNBONDING_MS: u64 = 365 * 86_400_000;
/// Accounts a genesis may endow.
pub const MAX_GENESIS_ACCOUNTS: usize = 1_024;

/// Parameters that must be equal on every validator: part of genesis. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// T0: first skip timeout. More than three hops and three commits.
    pub skip_timeout_ms: u64,
    /// α in thousandths: growth of the timeout per unfinished slot.
    pub skip_timeout_growth_permille: u64,
    /// T_cap: longest skip timeout; the slowest network on which the chain still moves.
    pub skip_timeout_cap_ms: u64,
    /// Longest pause between blocks of an idle chain (`idle`; the setting BLOCK_TIME).
    pub block_time_ms: u64,
    /// Least time between a block and its child (`min_slot`).
    pub min_slot_ms: u64,
    /// How far a header's time may lie ahead of the voter's clock (H1).
    pub drift_ms: u64,
    /// Least fee in the smallest unit, which large transactions pay several times (docs/rpc.md, "Fees"); faucet requests are free.
    pub min_fee: u64,
    /// N: heights of an epoch; the validators of an epoch are fixed (M5).
    pub epoch_blocks: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            skip_timeout_ms: 150,
            skip_timeout_growth_permille: 1_500,
            skip_timeout_cap_ms: 10_000,
            block_time_ms: 1_000,
            min_slot_ms: 5,
            drift_ms: 500,
            min_fee: 1,
            epoch_blocks: 1_000,
        }
    }
}

/// A relation of §9 that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("genesis parameter {name}: {value} given, {allowed}")]
pub struct ParameterError {
    /// Field of [`Parameters`].
    pub name: &'static str,
    /// What genesis says.
    pub value: u64,
    /// What is allowed.
    pub allowed: String,
}

impl Parameters {
    /// Checks the relations of §9.
    ///
    /// # Errors
    /// Names the first parameter that is out of range, and its range.
    pub fn check(&self) -> Result<(), ParameterError> {
        let t0 = self.skip_timeout_ms;
        // All rules are worked out before the first that fails is told: none may overflow on any value.
        let least_cap = t0.saturating_mul(10);
        let rules = [
            ("skip_timeout_ms", t0, (10..=60_000).contains(&t0), "between 10 and 60000".to_owned()),
            (
                "skip_timeout_growth_permille",
                self.skip_timeout_growth_permille,
                (1_001..=4_000).contains(&self.skip_timeout_growth_permille),
                "between 1001 and 4000".to_owned(),
            ),
            (
                "skip_timeout_cap_ms",
                self.skip_timeout_cap_ms,
                (least_cap..=600_000).contains(&self.skip_timeout_cap_ms),
                format!("between {least_cap} (10 × skip_timeout_ms) and 600000"),
            ),
            (
                "block_time_ms",
                self.block_time_ms,
                (100..=3_600_000).contains(&self.block_time_ms),
                "between 100 and 3600000".to_owned(),
            ),
            (
                "min_slot_ms",
                self.min_slot_ms,
                self.min_slot_ms <= t0 / 10,
                format!("at most {} (skip_timeout_ms / 10)", t0 / 10),
            ),
            ("drift_ms", self.drift_ms, (1..=60_000).contains(&self.drift_ms), "between 1 and 60000".to_owned()),
            ("min_fee", self.min_fee, self.min_fee <= MAX_SUPPLY, format!("at most {MAX_SUPPLY}")),
            // A batch of the epoch before may still be included (E8), and an expiry is at most this far ahead.
            (
                "epoch_blocks",
                self.epoch_blocks,
                (1..=MAX_EXPIRY_AHEAD).contains(&self.epoch_blocks),
                format!("between 1 and {MAX_EXPIRY_AHEAD}"),
            ),
        ];
        for (name, value, holds, allowed) in rules {
            if !holds {
                return Err(ParameterError { name, value, allowed });
            }
        }
        Ok(())
    }

    /// T(s) for a slot `excess` beyond what costs nothing (C10): `min(T_cap, T0·α^excess)`.
    pub fn skip_timeout(&self, excess: u64) -> u64 {
        let mut timeout = self.skip_timeout_ms;
        for _ in 0..excess {
            if timeout >= self.skip_timeout_cap_ms {
                break;
            }
            timeout = timeout.saturating_mul(self.skip_timeout_growth_permille) / 1_000;
        }
        timeout.min(self.skip_timeout_cap_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_any_size_is_refused_by_name_and_overflows_nothing() {
        let refused = |change: fn(&mut Parameters)| {
            let mut parameters = Parameters::default();
            change(&mut parameters);
            parameters.check().expect_err("out of range").name
        };
        assert_eq!(refused(|p| p.skip_timeout_ms = u64::MAX), "skip_timeout_ms");
        assert_eq!(refused(|p| p.skip_timeout_growth_permille = u64::MAX), "skip_timeout_growth_permille");
        assert_eq!(refused(|p| p.skip_timeout_cap_ms = u64::MAX), "skip_timeout_cap_ms");
        assert_eq!(refused(|p| p.block_time_ms = u64::MAX), "block_time_ms");
        assert_eq!(refused(|p| p.min_slot_ms = u64::MAX), "min_slot_ms");
        assert_eq!(refused(|p| p.drift_ms = u64::MAX), "drift_ms");
        assert_eq!(refused(|p| p.min_fee = u64::MAX), "min_fee");
        assert_eq!(refused(|p| p.epoch_blocks = u64::MAX), "epoch_blocks");
        assert_eq!(refused(|p| p.epoch_blocks = 0), "epoch_blocks", "an epoch without end is none");
    }
}
