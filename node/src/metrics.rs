//! Prometheus metrics of the node; every queue, drop, retry and cache counts here.

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// Seconds from 0.5 ms to 10 s: finality, commits, requests.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

macro_rules! metrics {
    ($( $(#[doc = $help:expr])+ $field:ident : $kind:tt $name:literal $( [ $($label:literal),+ ] )? ; )+) => {
        /// All metrics, registered once.
        pub struct Metrics {
            registry: Registry,
            $( $(#[doc = $help])+ pub $field: metrics!(@type $kind), )+
        }

        impl Metrics {
            /// Registers every metric in a registry of its own.
            ///
            /// # Errors
            /// Where two metrics share a name.
            pub fn new() -> prometheus::Result<Self> {
                let registry = Registry::new();
                $(
                    let help = [$($help),+].concat();
                    let $field = metrics!(@new $kind $name help.trim(), [$($($label),+)?]);
                    registry.register(Box::new($field.clone()))?;
                )+
                Ok(Metrics { registry, $($field),+ })
            }
        }
    };
    (@type counter) => { IntCounter };
    (@type counters) => { IntCounterVec };
    (@type gauge) => { IntGauge };
    (@type gauges) => { IntGaugeVec };
    (@type histogram) => { Histogram };
    (@type histograms) => { HistogramVec };
    (@new counter $name:literal $help:expr, [$($label:literal),*]) => { IntCounter::new($name, $help)? };
    (@new counters $name:literal $help:expr, [$($label:literal),*]) => { IntCounterVec::new(Opts::new($name, $help), &[$($label),*])? };
    (@new gauge $name:literal $help:expr, [$($label:literal),*]) => { IntGauge::new($name, $help)? };
    (@new gauges $name:literal $help:expr, [$($label:literal),*]) => { IntGaugeVec::new(Opts::new($name, $help), &[$($label),*])? };
    (@new histogram $name:literal $help:expr, [$($label:literal),*]) => {
        Histogram::with_opts(HistogramOpts::new($name, $help).buckets(SECONDS.to_vec()))?
    };
    (@new histograms $name:literal $help:expr, [$($label:literal),*]) => {
        HistogramVec::new(HistogramOpts::new($name, $help).buckets(SECONDS.to_vec()), &[$($label),*])?
    };
}

metrics! {
    /// Final blocks committed since start.
    blocks: counter "blockchain_blocks_total";
    /// Transactions in final blocks since start.
    transactions: counter "blockchain_transactions_total";
    /// Slots completed: notarized or skipped.
    consensus_rounds: counter "blockchain_consensus_rounds";
    /// Peers with an open channel.
    network_peers: gauge "blockchain_network_peers";
    /// Height of the last final block.
    height: gauge "blockchain_height";
    /// Height of the last block whose state is in the database.
    state_height: gauge "blockchain_state_applied_height";
    /// Least height whose transactions are kept; below it only headers and certificates are.
    lowest_height: gauge "blockchain_lowest_height";
    /// 1 while block sync stands still because no connected peer can be believed to keep the next block.
    sync_out_of_reach: gauge "blockchain_sync_out_of_reach";
    /// Height from which on blocks have a version that this program does not speak: it stops before; 0 where none is scheduled.
    upgrade_height: gauge "blockchain_upgrade_height";
    /// Thousandths of a snapshot that were fetched; 0 while none is.
    state_sync_permille: gauge "blockchain_state_sync_permille";
    /// Snapshots fetched instead of blocks, by outcome: stored, failed.
    state_syncs: counters "blockchain_state_syncs_total" ["outcome"];
    /// Least slot that is neither notarized nor skipped.
    frontier_slot: gauge "blockchain_frontier_slot";
    /// Epoch whose slots these are; its validators are fixed.
    epoch: gauge "blockchain_epoch";
    /// How many validators it has.
    validators: gauge "blockchain_validators";
    /// The own voting power in it; 0: this node follows.
    validator_weight: gauge "blockchain_validator_weight";
    /// Slot of the highest Final certificate.
    final_slot: gauge "blockchain_final_slot";
    /// Height of the last block that this validator helped to finalize.
    last_signed_height: gauge "blockchain_last_signed_height";
    /// Seconds from a block's header time to its being final here.
    finality_seconds: histogram "blockchain_finality_seconds";
    /// Seconds from admission to final of transactions sent to this node.
    transaction_finality_seconds: histogram "blockchain_transaction_finality_seconds";
    /// Own votes sent, by kind.
    votes: counters "blockchain_votes_total" ["kind"];
    /// Slots that passed without a block, by the address of the leader, who validates in this epoch or did in the one before.
    missed_slots: counters "blockchain_missed_slots_total" ["validator"];
    /// Transactions in final blocks by result code.
    transaction_results: counters "blockchain_transaction_results_total" ["code"];
    /// Consensus messages dropped, by reason.
    consensus_dropped: counters "blockchain_consensus_dropped_total" ["reason"];
    /// 1 while votes of the own key may be missing in the database, so that none is cast.
    quarantined: gauge "blockchain_validator_quarantined";
    /// 1 where somebody declared the database complete by `recover --assume-clean`: a decision of trust, not of proof.
    assumed_clean: gauge "blockchain_validator_assumed_clean";
    /// Seconds for which something should have become final and nothing did; 0 while all is well.
    stalled_seconds: gauge "blockchain_stalled_seconds";
    /// Contradictions that this node has proof of, by class.
    evidence: counters "blockchain_evidence_total" ["class"];
    /// Messages by type and direction (in, out).
    messages: counters "blockchain_network_messages_total" ["type", "direction"];
    /// Bytes by direction (in, out).
    network_bytes: counters "blockchain_network_bytes_total" ["direction"];
    /// Messages dropped: a queue was full, the peer was over its quota, or it or this node is no validator; by queue or cause.
    network_dropped: counters "blockchain_network_dropped_total" ["queue"];
    /// Connections refused or closed, by reason.
    network_refused: counters "blockchain_network_refused_total" ["reason"];
    /// Messages waiting in a queue.
    queue_depth: gauges "blockchain_queue_depth" ["queue"];
    /// Tasks of the runtime that have not ended.
    runtime_tasks: gauge "blockchain_runtime_tasks";
    /// Seconds of a database commit, by what was written.
    database_seconds: histograms "blockchain_database_seconds" ["operation"];
    /// Database errors, by operation.
    database_errors: counters "blockchain_database_errors_total" ["operation"];
    /// Bytes of pending transactions.
    mempool_bytes: gauge "blockchain_mempool_bytes";
    /// Pending transactions.
    mempool_transactions: gauge "blockchain_mempool_transactions";
    /// Transactions refused by the pool, by code.
    mempool_rejected: counters "blockchain_mempool_rejected_total" ["code"];
    /// Transactions passed on to a validator, as this node is none: first, or again as they were not final in time.
    forwarded: counters "blockchain_mempool_forwarded_total" ["time"];
    /// Transactions whose signature was verified.
    verified: counter "blockchain_verified_transactions_total";
    /// Groups of signatures that were verified, by what decided: `known_points`, an equation in which points of known keys are not
    /// found again; or `zip215`, where a group is small, its keys are few, or that equation did not hold or rests after it did not.
    verified_groups: counters "blockchain_verified_groups_total" ["by"];
    /// Batches refused, by reason.
    batches_refused: counters "blockchain_batches_refused_total" ["reason"];
    /// RPC requests by route and status.
    rpc_requests: counters "blockchain_rpc_requests_total" ["route", "status"];
    /// Seconds of an RPC request, by route.
    rpc_seconds: histograms "blockchain_rpc_seconds" ["route"];
    /// Requests for a block answered from memory (hit) and from the database (miss).
    block_cache: counters "blockchain_block_cache_total" ["outcome"];
    /// RPC requests refused before they reached a handler, by limit.
    rpc_limited: counters "blockchain_rpc_limited_total" ["limit"];
    /// Open WebSocket subscribers.
    websocket_clients: gauge "blockchain_websocket_clients";
    /// Subscribers cut off because they read too slowly.
    websocket_lagged: counter "blockchain_websocket_lagged_total";
}

impl Metrics {
    /// Text exposition format 0.0.4.
    ///
    /// # Errors
    /// Where a metric cannot be encoded.
    pub fn render(&self) -> prometheus::Result<String> {
        let mut buffer = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_four_documented_names_are_exported() {
        let text = super::Metrics::new().expect("unique names").render().expect("encodes");
        for name in ["blocks_total", "transactions_total", "consensus_rounds", "network_peers"] {
            assert!(text.contains(&format!("blockchain_{name} 0")), "{name} in {text}");
        }
    }
}
