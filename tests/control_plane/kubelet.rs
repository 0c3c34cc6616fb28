//! Plays the kubelet: pods that no machine takes are given an address and become ready, each with a fake node behind it.

use crate::fake_node::FakeNode;
use crate::world::World;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

/// A chain of fake nodes: one height for all, each signs it unless it is held back.
#[derive(Clone)]
pub struct Kubelet {
    nodes: Arc<Vec<FakeNode>>,
    height: Arc<AtomicI64>,
    /// While set, pods that are started anew do not sign.
    pub newcomers_sign: Arc<AtomicBool>,
}

impl Kubelet {
    /// Starts as many nodes as there are validators, and a loop that gives them to pods.
    pub async fn start(world: &World, replicas: u8) -> Self {
        let mut nodes = Vec::new();
        for ordinal in 0..replicas {
            nodes.push(FakeNode::start(world.address(ordinal + 1)).await);
        }
        let kubelet = Kubelet {
            nodes: Arc::new(nodes),
            height: Arc::new(AtomicI64::new(0)),
            newcomers_sign: Arc::new(AtomicBool::new(true)),
        };
        let (pods, turning) = (world.api::<Pod>(), kubelet.clone());
        tokio::spawn(async move { turning.turn(pods).await });
        kubelet
    }

    /// From now on the node of this ordinal stands so: `checking`, `voting` or `quarantined`.
    pub fn set_voting_state(&self, ordinal: usize, voting_state: &'static str) {
        self.nodes.get(ordinal).expect("a node of that ordinal").set_voting_state(voting_state);
    }

    /// From now on the node of this ordinal says that it has this voting power.
    pub fn set_weight(&self, ordinal: usize, weight: i64) {
        self.nodes.get(ordinal).expect("a node of that ordinal").set_weight(weight);
    }

    /// From now on every node says that these validate: an answer of `/rpc/validators` without the height.
    pub fn set_validators(&self, validators: &Value) {
        self.nodes.iter().for_each(|node| node.set_validators(validators.clone()));
    }

    /// From now on every node says that these keys decide, in this epoch and the next one, with a vote each.
    pub fn set_deciding(&self, keys: &[String]) {
        let member = |key: &String| json!({ "address": "", "public_key": key, "weight": 1, "connected": true });
        let next = |key: &String| json!({ "key": key, "weight": 1 });
        let (validators, next): (Vec<Value>, Vec<Value>) = keys.iter().map(|key| (member(key), next(key))).unzip();
        self.set_validators(&json!({ "epoch": 0, "validators": validators, "next": next, "candidates": [] }));
    }

    /// Each turn is a block: a new height, and new pods become ready.
    async fn turn(self, pods: Api<Pod>) {
        let mut known: BTreeMap<usize, String> = BTreeMap::new();
        let mut held: BTreeMap<usize, i64> = BTreeMap::new();
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            let height = self.height.fetch_add(1, Ordering::SeqCst) + 1;
            let list = pods.list(&ListParams::default()).await;
            for pod in list.iter().flat_map(|list| &list.items) {
                let Some(ordinal) = ordinal(pod) else { continue };
                let uid = pod.uid().unwrap_or_default();
                if known.get(&ordinal) == Some(&uid) || !self.start_pod(&pods, pod, ordinal).await {
                    continue;
                }
                let is_successor = known.insert(ordinal, uid).is_some();
                if is_successor && !self.newcomers_sign.load(Ordering::SeqCst) {
                    held.insert(ordinal, 0);
                }
            }
            if self.newcomers_sign.load(Ordering::SeqCst) {
                held.clear();
            }
            for (ordinal, node) in self.nodes.iter().enumerate() {
                node.is_at(height, held.get(&ordinal).copied().unwrap_or(height));
            }
        }
    }

    async fn start_pod(&self, pods: &Api<Pod>, pod: &Pod, ordinal: usize) -> bool {
        let Some(node) = self.nodes.get(ordinal).filter(|_| pod.metadata.deletion_timestamp.is_none()) else {
            return false;
        };
        let address = node.address.to_string();
        let status = json!({ "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{ "ip": address }],
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
            "containerStatuses": [{
                "name": "validator", "image": "fake", "imageID": "fake", "ready": true, "restartCount": 0, "started": true,
                "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } },
            }],
        }});
        pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&status)).await.is_ok()
    }
}

fn ordinal(pod: &Pod) -> Option<usize> {
    pod.name_any().rsplit_once('-')?.1.parse().ok()
}
