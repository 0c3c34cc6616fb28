//! What readers see: the last final block, its state, and how the node is doing. Written by the node, read by RPC.

use crate::doctor::Examined;
use crate::pulse::Pulse;
use crate::storage::Storage;
use aitbc_core::block::{Header, VERSION};
use aitbc_core::consensus::VotingState;
use aitbc_core::epoch::Sets;
use aitbc_core::genesis::Genesis;
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, PublicKey};
use aitbc_core::memory::Cause;
use aitbc_core::staking::motion::Upgrade;
use aitbc_core::state::State;
use aitbc_core::state_sync::Progress;
use aitbc_core::validators::ValidatorSet;
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// A final block in a few words.
#[derive(Clone, Debug, Serialize)]
pub struct BlockSummary {
    /// Height.
    pub height: u64,
    /// Slot it was proposed in.
    pub slot: u64,
    /// Digest of its header; the genesis hash at height 0.
    pub hash: Hash,
    /// Digest of the parent.
    pub parent_hash: Hash,
    /// Milliseconds since 1970, by the proposer's clock.
    pub time_ms: u64,
    /// Who proposed it; absent for genesis.
    pub proposer: Option<Address>,
    /// Transactions in it.
    pub tx_count: u64,
    /// State root after it.
    pub state_root: Hash,
    /// Root of its transactions' results.
    pub results_root: Hash,
}

impl BlockSummary {
    /// Height 0, with the root of the state that genesis makes.
    pub fn genesis(chain: Hash, state_root: Hash) -> BlockSummary {
        BlockSummary {
            height: 0,
            slot: 0,
            hash: chain,
            parent_hash: Hash::ZERO,
            time_ms: 0,
            proposer: None,
            tx_count: 0,
            state_root,
            results_root: Hash::ZERO,
        }
    }

    /// A block with the roots of state and results after it; `set` is that of its epoch, where that is known.
    pub fn of(set: Option<&Arc<ValidatorSet>>, digest: Hash, header: &Header, roots: (Hash, Hash)) -> BlockSummary {
        BlockSummary {
            height: header.height,
            slot: header.slot,
            hash: digest,
            parent_hash: header.parent,
            time_ms: header.time_ms,
            proposer: set.and_then(|set| set.address(header.proposer)),
            tx_count: header.tx_count(),
            state_root: roots.0,
            results_root: roots.1,
        }
    }
}

/// The chain's end.
#[derive(Clone)]
pub struct Snapshot {
    /// Last final block.
    pub head: BlockSummary,
    /// State after it.
    pub state: State,
    /// State after its parent, to which its header commits: what can be proven to who trusts certificates only (L3).
    /// `None` for genesis, and from a start to the next block unless the chain had stood for some seconds: the database keeps the
    /// newest state, and what the last block changed once no other follows.
    pub parent_state: Option<State>,
    /// The sets of the next block's epoch, as the state has them (E1).
    pub sets: Sets,
}

impl Snapshot {
    /// The next upgrade to a version that this program does not speak (V1): it stops before its height.
    pub fn upgrade(&self) -> Option<Upgrade> {
        self.state.upgrade_beyond(VERSION)
    }

    /// It, where the next block has it: this block is the last one here.
    pub fn upgrade_due(&self) -> Option<Upgrade> {
        self.upgrade().filter(|upgrade| self.head.height.saturating_add(1) >= upgrade.height)
    }
}

/// Whose names can be told of a block, however old: of the epochs around the last block, of those at genesis, and of others
/// whose set is one of these.
#[derive(Clone)]
pub struct KnownSets {
    sets: Sets,
    genesis: Arc<ValidatorSet>,
}

impl KnownSets {
    /// The set of an epoch.
    pub fn of_epoch(&self, epoch: u64) -> Option<&Arc<ValidatorSet>> {
        if epoch < 2 { Some(&self.genesis) } else { self.sets.of(epoch) }
    }

    /// The set of a header's epoch: its header holds the hash.
    pub fn of_header(&self, header: &Header) -> Option<&Arc<ValidatorSet>> {
        let Sets { older, previous, current, next, .. } = &self.sets;
        let same = |set: &&Arc<ValidatorSet>| set.hash() == header.set_hash;
        self.of_epoch(header.epoch).or_else(|| [current, &self.genesis, previous, next, older].into_iter().find(same))
    }

    /// The set of an epoch that a header names: its own or one just before.
    pub fn of_epoch_in(&self, header: &Header, epoch: u64) -> Option<&Arc<ValidatorSet>> {
        if epoch == header.epoch { self.of_header(header) } else { self.of_epoch(epoch) }
    }
}

/// A peer as `/rpc/peers` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct PeerInfo {
    /// Its validator address.
    pub address: Address,
    /// Its key.
    pub public_key: PublicKey,
    /// Voting power; 0: it has none in this epoch.
    pub weight: u32,
    /// Whether a channel is open.
    pub connected: bool,
    /// Its height by its last status, 0 if none came.
    pub height: u64,
    /// Milliseconds since 1970 of its last status; absent if none came.
    pub last_seen_ms: Option<u64>,
}

/// How the node is doing.
#[derive(Clone, Debug, Default)]
pub struct NodeStatus {
    /// Highest height a peer told of, or the own one.
    pub best_peer_height: u64,
    /// The own height is more than a few blocks below `best_peer_height`.
    pub catching_up: bool,
    /// The database answered lately.
    pub database_ready: bool,
    /// Why the node is not ready; `None`: it is.
    pub not_ready: Option<String>,
    /// Last height this validator helped to finalize.
    pub last_signed_height: u64,
    /// Whether this validator votes, and why not where its votes may be lost.
    pub voting_state: VotingState,
    /// Why it is quarantined.
    pub quarantine: Option<Cause>,
    /// The next upgrade to a version that this program does not speak (V1), and whether the next block has it: then it has stopped.
    pub upgrade: Option<(Upgrade, bool)>,
    /// How far the fetch of a snapshot is; `None`: there is none.
    pub state_sync: Option<Progress>,
    /// Frontier F.
    pub frontier: u64,
    /// s*.
    pub final_slot: u64,
    /// All validators but this one, of this epoch and of those before and after it.
    pub peers: Vec<PeerInfo>,
}

/// Who this node is; fixed for its life.
pub struct Identity {
    /// Genesis.
    pub genesis: Genesis,
    /// Its hash.
    pub chain: Hash,
    /// Validators of epochs 0 and 1; those of later ones stand in the state ([`Snapshot::sets`]).
    pub genesis_set: Arc<ValidatorSet>,
    /// Own consensus key; `None` without one.
    pub key: Option<PublicKey>,
}

/// Read access for RPC; cheap to clone.
#[derive(Clone)]
pub struct View {
    /// Fixed facts.
    pub identity: Arc<Identity>,
    /// Last final block and state.
    pub chain: watch::Receiver<Arc<Snapshot>>,
    /// The node's condition.
    pub status: watch::Receiver<Arc<NodeStatus>>,
    /// Why there is no block, by the consensus loop's last look.
    pub doctor: watch::Receiver<Arc<Examined>>,
    /// For older blocks and transactions.
    pub storage: Arc<dyn Storage>,
    /// Notified where rows of the last blocks are wanted that are not in the database yet.
    pub state_wanted: Arc<Notify>,
    /// The consensus loop's heartbeat.
    pub pulse: Arc<Pulse>,
}

impl View {
    /// The last final block and its state.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.chain.borrow().clone()
    }

    /// Who can be named in old blocks.
    pub fn known_sets(&self) -> KnownSets {
        KnownSets { sets: self.snapshot().sets.clone(), genesis: self.identity.genesis_set.clone() }
    }

    /// What was found in the database of the last blocks; where it is nothing it is wanted soon.
    pub fn or_wanted<T>(&self, found: Option<T>) -> Option<T> {
        if found.is_none() {
            self.state_wanted.notify_one();
        }
        found
    }

    /// The node's condition now.
    pub fn condition(&self) -> Arc<NodeStatus> {
        self.status.borrow().clone()
    }
}
