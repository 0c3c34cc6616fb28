//! Every few hundred milliseconds: is the database there, how far are the peers, may this node be called ready?

use crate::doctor::Examined;
use crate::gossip::GossipHandle;
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::shutdown::Shutdown;
use crate::storage::{Storage, StorageError};
use crate::sync::Heights;
use crate::view::{NodeStatus, PeerInfo, Snapshot};
use aitbc_core::block::VERSION;
use aitbc_core::consensus::input::Input;
use aitbc_core::consensus::output::Halt;
use aitbc_core::epoch::Sets;
use aitbc_core::key::PublicKey;
use aitbc_core::staking::motion::Upgrade;
use aitbc_core::state_sync::Progress;
use aitbc_core::sync::credible_height;
use aitbc_core::validators::{Index, ValidatorSet};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

/// Pause between two looks.
const EVERY: Duration = Duration::from_millis(200);
/// Looks between two pings of the database.
const PING_EVERY: u32 = 5;
/// A ping that takes longer counts as failed.
const PING_LIMIT: Duration = Duration::from_secs(2);
/// Blocks behind the best peer at which a node is still caught up.
const CAUGHT_UP_WITHIN: u64 = 5;
/// How long the frontier waits for a block of a version that is not spoken here before the node is not ready for it: the block
/// below may become final meanwhile, or lose against another one.
const AWAITED_FOR: Duration = Duration::from_secs(5);

/// What the task looks at.
pub struct StatusTask {
    /// Own consensus key.
    pub key: PublicKey,
    /// Own end of the chain.
    pub chain: watch::Receiver<Arc<Snapshot>>,
    /// Database to ping.
    pub storage: Arc<dyn Storage>,
    /// Channels to peers.
    pub gossip: GossipHandle,
    /// What peers said of their heights.
    pub heights: Arc<Heights>,
    /// How far the fetch of a snapshot is.
    pub state_sync: watch::Receiver<Option<Progress>>,
    /// The consensus loop.
    pub pulse: Arc<Pulse>,
    /// Told when the database comes and goes.
    pub core: mpsc::Sender<Input>,
    /// What the loop waits for.
    pub doctor: watch::Receiver<Arc<Examined>>,
    /// Gauges.
    pub metrics: Arc<Metrics>,
    /// Whether voting stopped for good; told here where the lease is lost.
    pub halted: watch::Sender<Option<Halt>>,
}

impl StatusTask {
    /// Looks until the wish to stop.
    pub async fn run(self, status: watch::Sender<Arc<NodeStatus>>, shutdown: Shutdown) {
        let mut looks: u32 = 0;
        let mut database_ready = true;
        let mut last_reason = Some("starting".to_owned());
        let mut last_upgrade = None;
        let mut awaited = Awaited::default();
        loop {
            if looks.is_multiple_of(PING_EVERY) {
                let before = database_ready;
                database_ready = self.ping().await;
                if before != database_ready {
                    // Without a database nothing can be voted, so nobody should wait for our proposals.
                    let _ = self.core.send(Input::Ready(database_ready)).await;
                }
            }
            looks = looks.wrapping_add(1);
            let stopped = awaited.look(Instant::now(), self.doctor.borrow().report.upgrade);
            let now = self.look(database_ready, stopped, shutdown.is_asked());
            if now.not_ready != last_reason {
                match &now.not_ready {
                    Some(reason) => warn!(reason, height = self.chain.borrow().head.height, "not ready"),
                    None => info!(height = self.chain.borrow().head.height, "ready"),
                }
                last_reason.clone_from(&now.not_ready);
            }
            if now.upgrade.map(|(upgrade, _)| upgrade) != last_upgrade {
                last_upgrade = now.upgrade.map(|(upgrade, _)| upgrade);
                tell(last_upgrade);
            }
            status.send_replace(Arc::new(now));
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = shutdown.asked() => {
                    status.send_replace(Arc::new(self.look(database_ready, stopped, true)));
                    return;
                }
            }
        }
    }

    /// Whether the database answers. A process that has nothing to write learns here that another took the lease (P7).
    async fn ping(&self) -> bool {
        let start = Instant::now();
        let answer = tokio::time::timeout(PING_LIMIT, self.storage.ping()).await;
        self.metrics.database_seconds.with_label_values(&["ping"]).observe(start.elapsed().as_secs_f64());
        if let Ok(Err(cause @ StorageError::Fenced { .. })) = &answer {
            error!(%cause, "fenced: this process ends");
            self.halted.send_if_modified(|halted| {
                let first = halted.is_none();
                if first {
                    *halted = Some(Halt::Fenced);
                }
                first
            });
        }
        matches!(answer, Ok(Ok(())))
    }

    /// `stopped`: the upgrade for which the frontier has waited for long.
    fn look(&self, database_ready: bool, stopped: Option<Upgrade>, stopping: bool) -> NodeStatus {
        let snapshot = self.chain.borrow().clone();
        let (head, sets) = (&snapshot.head, &snapshot.sets);
        let peers = self.peers(sets);
        let connected = peers.iter().filter(|peer| peer.connected).count();
        self.metrics.network_peers.set(connected as i64);
        self.metrics.runtime_tasks.set(tokio::runtime::Handle::current().metrics().num_alive_tasks() as i64);
        let told = peers.iter().filter(|peer| peer.last_seen_ms.is_some()).map(|peer| (peer.public_key, peer.height));
        let told = told.chain([(self.key, head.height)]);
        let told: Vec<_> = told.filter_map(|(key, height)| Some((sets.current.index_of(&key)?, height))).collect();
        let anybody = self.gossip.connected().into_iter().filter_map(|peer| self.heights.get(peer));
        let anybody = anybody.map(|(height, _)| height).max();
        let best_peer_height = best_height(&sets.current, &told, anybody).max(head.height);
        let catching_up = best_peer_height > head.height + CAUGHT_UP_WITHIN;
        let state_sync = *self.state_sync.borrow();
        self.metrics.state_sync_permille.set(state_sync.map_or(0, |progress| progress.permille as i64));
        let upgrade = snapshot.upgrade().map(|upgrade| (upgrade, snapshot.upgrade_due().is_some()));
        self.metrics.upgrade_height.set(upgrade.map_or(0, |(upgrade, _)| upgrade.height as i64));
        let reason = if stopping {
            Some("stopping".to_owned())
        } else if let Some(halt) = &*self.halted.borrow() {
            Some(format!("voting stopped: {halt:?}"))
        } else if !database_ready {
            Some("the database does not answer".to_owned())
        } else if let Some(upgrade) = snapshot.upgrade_due().or(stopped) {
            Some(needs(&upgrade))
        } else if !peers.is_empty() && connected == 0 {
            Some("no peer is connected".to_owned())
        } else if let Some(Progress { phase, height, permille, .. }) = state_sync {
            Some(format!("fetching a snapshot instead of blocks: {phase} of height {height}, {permille} ‰"))
        } else if catching_up {
            Some(format!("catching up: height {} of {best_peer_height}", head.height))
        } else {
            None
        };
        let (voting_state, quarantine) = self.pulse.voting_state();
        NodeStatus {
            voting_state,
            state_sync,
            quarantine,
            upgrade,
            best_peer_height,
            catching_up,
            database_ready,
            not_ready: reason,
            last_signed_height: self.pulse.last_signed_height.load(Ordering::Relaxed),
            frontier: self.pulse.frontier.load(Ordering::Relaxed),
            final_slot: self.pulse.final_slot.load(Ordering::Relaxed),
            peers,
        }
    }

    /// The members of this epoch's set, then who only was one or will be one.
    fn peers(&self, sets: &Sets) -> Vec<PeerInfo> {
        let connected = self.gossip.connected();
        let others = sets.previous.members().iter().chain(sets.next.members()).map(|member| member.key);
        let others: BTreeSet<PublicKey> = others.filter(|key| sets.current.index_of(key).is_none()).collect();
        let members = sets.current.members().iter().map(|member| (member.key, member.weight));
        let all = members.chain(others.into_iter().map(|key| (key, 0))).filter(|(key, _)| *key != self.key);
        let info = |(public_key, weight): (PublicKey, u32)| {
            let peer = self.gossip.number_of(&public_key);
            let seen = peer.and_then(|peer| self.heights.get(peer));
            PeerInfo {
                address: public_key.address(),
                public_key,
                weight,
                connected: peer.is_some_and(|peer| connected.contains(&peer)),
                height: seen.map_or(0, |(height, _)| height),
                last_seen_ms: seen.map(|(_, at)| at),
            }
        };
        all.map(info).collect()
    }
}

/// How far the chain is: by the word of more than the faulty of those members that told, this node among them, so that one
/// liar makes nobody unready. As long as no more have told than may be faulty, the sets known here may be of the past and
/// others validate by now: then what any peer says counts, a stranger too.
fn best_height(set: &ValidatorSet, told: &[(Index, u64)], anybody: Option<u64>) -> u64 {
    let credible = credible_height(set, told.iter().copied());
    let weight: u64 = told.iter().map(|(index, _)| set.weight(*index)).sum();
    if weight > set.faulty_weight() { credible } else { credible.max(anybody.unwrap_or(0)) }
}

/// An upgrade that this program does not speak and for which the frontier waits, and since when. The block below it may be
/// notarized and not final for as long as only programs of this version run: the last final block does not say it then (V1).
#[derive(Default)]
struct Awaited(Option<(Upgrade, Instant)>);

impl Awaited {
    /// Takes note of what the core waits for now; the upgrade once it has waited for [`AWAITED_FOR`] without a break.
    fn look(&mut self, now: Instant, upgrade: Option<Upgrade>) -> Option<Upgrade> {
        let before = self.0.filter(|(before, _)| Some(*before) == upgrade);
        self.0 = before.or(upgrade.map(|upgrade| (upgrade, now)));
        let (upgrade, since) = self.0?;
        (now.saturating_duration_since(since) >= AWAITED_FOR).then_some(upgrade)
    }
}

/// Why a node that has stopped before an upgrade is not ready (V1).
fn needs(Upgrade { version, height }: &Upgrade) -> String {
    format!("blocks from height {height} on have version {version}, and this program speaks up to {VERSION}")
}

/// Once, long before it stops: the upgrade is in the state for a hundred blocks at least.
fn tell(upgrade: Option<Upgrade>) {
    if let Some(Upgrade { version, height }) = upgrade {
        warn!(
            version,
            height,
            spoken = VERSION,
            "an upgrade is scheduled that this program does not speak: it stops before"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::Gossip;
    use crate::tests::chain::{Chain, Stored, chain, gossip_config, secret, set_of};
    use aitbc_core::key::SecretKey;
    use aitbc_core::validators::Validator;

    const NEXT: Upgrade = Upgrade { version: VERSION + 1, height: 300 };

    #[test]
    fn v1_an_upgrade_counts_once_the_frontier_has_waited_for_it_for_five_seconds_without_a_break() {
        let (mut awaited, start) = (Awaited::default(), Instant::now());
        let mut look = |ms: u64, upgrade| awaited.look(start + Duration::from_millis(ms), upgrade);
        assert_eq!(look(0, Some(NEXT)), None, "the block below may become final");
        assert_eq!(look(4_999, Some(NEXT)), None);
        assert_eq!(look(5_000, Some(NEXT)), Some(NEXT));
        assert_eq!(look(5_200, None), None, "it lost against another one");
        assert_eq!(look(5_400, Some(NEXT)), None);
        let later = Upgrade { height: 400, ..NEXT };
        assert_eq!(look(10_200, Some(later)), None, "from the beginning");
        assert_eq!(look(10_400, Some(NEXT)), None);
        assert_eq!(look(15_400, Some(NEXT)), Some(NEXT));
    }

    /// Of validator 1 after the first blocks of a chain, with nobody to talk to.
    async fn task(chain: &Chain, stored: &Stored, stop: watch::Receiver<bool>) -> StatusTask {
        let metrics = Arc::new(Metrics::new().expect("unique names"));
        let start = chain.start(&stored.storage).await.expect("starts");
        let config = gossip_config(1, chain.identity.chain, &set_of(0), &metrics);
        StatusTask {
            key: secret(1).public(),
            chain: watch::channel(Arc::new(start.snapshot)).1,
            storage: stored.storage.clone(),
            gossip: Gossip::start(config, mpsc::channel(1).0, stop).expect("a port"),
            heights: Arc::default(),
            state_sync: watch::channel(None).1,
            pulse: Arc::default(),
            core: mpsc::channel(1).0,
            doctor: watch::channel(Arc::default()).1,
            metrics,
            halted: watch::channel(None).0,
        }
    }

    #[tokio::test]
    async fn v1_a_node_with_the_last_block_below_an_upgrade_notarized_and_not_final_is_not_ready_and_says_what_it_needs()
     {
        let chain = chain(1);
        let (stored, (_stop, stop)) = (chain.store(1, 1).await, watch::channel(false));
        let task = task(&chain, &stored, stop).await;
        let before = task.look(true, None, false);
        assert_eq!(before.not_ready.as_deref(), Some("no peer is connected"));
        let after = task.look(true, Some(NEXT), false);
        let reason =
            format!("blocks from height 300 on have version {}, and this program speaks up to {VERSION}", VERSION + 1);
        assert_eq!(after.not_ready, Some(reason));
    }

    #[test]
    fn whose_known_sets_are_of_the_past_believes_a_stranger_that_it_is_behind_and_no_single_liar_otherwise() {
        let member = |seed: u8| Validator { key: SecretKey::from_seed([seed; 32]).public(), weight: 1 };
        let set = ValidatorSet::new((1..=4).map(member).collect()).expect("valid set");
        let far = Some(1_000_000);
        assert_eq!(
            best_height(&set, &[(0, 1_000_000)], far),
            1_000_000,
            "a node in no set, and one of four that it knows"
        );
        assert_eq!(best_height(&set, &[(0, 7)], far), 1_000_000, "and a stranger that knows better");
        assert_eq!(best_height(&set, &[], None), 0, "nobody is there");
        assert_eq!(best_height(&set, &[(0, 7), (1, 7)], far), 7, "two of four are more than the faulty");
        assert_eq!(best_height(&set, &[(0, 7), (1, 1_000_000)], far), 7);
    }
}
