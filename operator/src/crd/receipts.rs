//! `spec.genesis.receipts`: what compute receipts are worth on this chain, and who attests them. Part of genesis, hence for ever.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Terms on which receipts mint.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("self.coordinatorThreshold <= self.coordinators.size()")
        .message("genesis.receipts.coordinatorThreshold must be at most the number of coordinators: no receipt could ever be attested"),
)]
#[serde(rename_all = "camelCase")]
pub struct Receipts {
    /// Smallest units that one unit of work mints, 0 to 2^53 - 1; 0: receipts only release escrows.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub mint_per_unit: i64,

    /// Share of that for all coordinators together in millionths, 0 to 1000000, default 0. Each that attests has its equal part.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub coordinator_parts_per_million: i32,

    /// Who may attest, 1 to 16 keys. Whoever has coordinatorThreshold of them mints up to the caps.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["publicKey"]))]
    pub coordinators: Vec<Coordinator>,

    /// How many of them must attest a receipt, at least 1.
    #[schemars(range(min = 1, max = 16))]
    pub coordinator_threshold: i32,

    /// Most smallest units that all receipts of an epoch mint together, 0 to 2^53 - 1. Default: no cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub epoch_cap: Option<i64>,

    /// Most smallest units that the receipts of one provider mint in an epoch, 0 to 2^53 - 1. Default: no cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub provider_epoch_cap: Option<i64>,

    /// How long after its work a receipt is worth something, by the time of blocks: 1s to 87600h, default 168h.
    #[serde(default = "a_week")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('87600h')")
        .message("genesis.receipts.expiry must be between 1s and 87600h"))]
    pub expiry: String,
}

/// A key that may attest receipts.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Coordinator {
    /// Its ed25519 public key, 64 hex digits; the account of that key earns the share.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub public_key: String,
}

fn a_week() -> String {
    "168h".into()
}
