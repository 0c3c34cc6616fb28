//! I/O: everything the pure steps look at, read in one go: Secrets, genesis, owned objects, pods and what each node says of itself.
//!
//! Reads are live, not from a cache: decisions that destroy something must not rest on yesterday's view.

pub mod chain_set;

use crate::crd::BlockchainNetwork;
use crate::crd::validators::KeyPolicy;
use crate::names::{self, GENESIS_ENTRY, ORDINAL_LABEL, ROLE_LABEL, Role, STARTED_ON_ANNOTATION};
use crate::observe::chain_set::ChainSet;
use aitbc_core::env;
use futures_util::future::join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, PartialObjectMeta};
use kube::{Api, Client, Resource, ResourceExt};
use reqwest::StatusCode;
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

/// Longest a node may take to say how it is, or who validates.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_000);
/// Most bytes of what a node says of itself, a dozen short fields. All nodes of several networks are asked at once.
const SYNC_BYTES_MAX: usize = 64 << 10;
/// Most bytes of who validates: with all candidates it has 0.5 MB.
const SET_BYTES_MAX: usize = 2 << 20;

/// Most of a node's sentence on why it is quarantined.
const QUARANTINE_CHARS_MAX: usize = 300;

/// What the cluster holds of a network.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// When it was looked at.
    pub now: Timestamp,
    /// The ServiceMonitor API, where the cluster has it.
    pub monitors: Option<ApiResource>,
    /// Key Secrets by ordinal.
    pub key_secrets: BTreeMap<i32, Secret>,
    /// The Secret that pods mount.
    pub mounted_keys: Option<Secret>,
    /// The user's keys by ordinal, PEM; `None` inside: the Secret or its entry is missing.
    pub provided_keys: BTreeMap<i32, Option<String>>,
    /// Chains on which the user's keys have voted, by ordinal, as their Secrets say.
    pub provided_started: BTreeMap<i32, String>,
    /// The user's databases by ordinal, URL; `None` inside: the Secret or its entry is missing.
    pub database_urls: BTreeMap<i32, Option<String>>,
    /// Genesis.
    pub genesis: Option<ConfigMap>,
    /// The StatefulSet.
    pub stateful_set: Option<StatefulSet>,
    /// Volume claims by ordinal.
    pub claims: BTreeMap<i32, PersistentVolumeClaim>,
    /// Pods by ordinal.
    pub pods: BTreeMap<i32, Pod>,
    /// What each node says of itself; absent: it does not answer.
    pub sync: BTreeMap<i32, SyncStatus>,
    /// Who validates, as the node that [`Observed::best`] believes says; `None`: it does not say.
    pub set: Option<ChainSet>,
    /// Objects that carry our owner reference, to prune and to skip what has not changed.
    pub owned: Vec<Owned>,
}

/// An object that belongs to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Version of its content.
    pub resource_version: String,
}

/// Answer of a node's `/sync_status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SyncStatus {
    /// Name of the chain.
    pub chain_id: String,
    /// Height of the last final block it has.
    pub height: i64,
    /// Greatest height a peer told it of.
    pub best_peer_height: i64,
    /// Whether it is behind.
    pub catching_up: bool,
    /// What its readiness probe says.
    pub ready: bool,
    /// Time of the last block, milliseconds since 1970.
    pub last_block_time_ms: i64,
    /// Hash of genesis.
    pub genesis_hash: String,
    /// State root at its height.
    pub state_root: String,
    /// Version of the node.
    pub version: String,
    /// Itself as a validator.
    pub validator: Option<SyncValidator>,
    /// Whether its database serves.
    pub database_ready: bool,
    /// Connected peers.
    pub peers: i64,
}

/// A node as a validator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SyncValidator {
    /// Its address.
    pub address: String,
    /// Its public key.
    pub public_key: String,
    /// Its voting power.
    pub weight: i64,
    /// Height of the last block it signed since it started.
    pub last_signed_height: i64,
    /// Whether it may vote.
    pub voting_state: VotingState,
    /// Why it is quarantined; `None` where it is not.
    pub quarantine: Option<String>,
}

/// Whether a validator may vote (protocol A1-A6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VotingState {
    /// It asks its peers whether its database lacks a vote of its key.
    Checking,
    /// It votes.
    Voting,
    /// It casts no vote: its database may lack votes of its key.
    Quarantined,
    /// A version that does not say, or says something else.
    #[default]
    #[serde(other)]
    Unknown,
}

impl SyncStatus {
    /// Whether a node of ours can say this; see [`ChainSet::is_possible`].
    pub fn is_possible(&self) -> bool {
        let own = self.validator.as_ref().map_or([0, 0], |validator| [validator.weight, validator.last_signed_height]);
        let numbers = [self.height, self.best_peer_height, self.last_block_time_ms, self.peers];
        let words = [&self.state_root, &self.version];
        numbers.into_iter().chain(own).all(chain_set::is_number)
            && words.into_iter().all(|word| chain_set::is_word(word))
    }

    /// Whether it may vote, as far as it says.
    pub fn voting_state(&self) -> VotingState {
        self.validator.as_ref().map_or(VotingState::Unknown, |validator| validator.voting_state)
    }

    /// Why it is quarantined, cut to what fits into a message.
    pub fn quarantine(&self) -> String {
        let why = self.validator.as_ref().and_then(|validator| validator.quarantine.as_deref());
        why.unwrap_or("no reason given").chars().take(QUARANTINE_CHARS_MAX).collect()
    }

    /// Height of the last block it signed since it started; 0: none.
    pub fn signed_height(&self) -> i64 {
        self.validator.as_ref().map_or(0, |validator| validator.last_signed_height)
    }
}

impl Observed {
    /// Text of the genesis in the cluster.
    pub fn genesis_json(&self) -> Option<&str> {
        self.genesis.as_ref()?.data.as_ref()?.get(GENESIS_ENTRY).map(String::as_str)
    }

    /// The node that is believed how far the chain is.
    pub fn best(&self) -> Option<&SyncStatus> {
        best(&self.sync).map(|(_, sync)| sync)
    }
}

/// Of the nodes that are ready, the most advanced but so many as may lie, and at least but one: no node alone makes the chain higher
/// than it is. Who is ready is at most a few blocks behind. The only one is believed; where none is ready, the most advanced of all.
fn best(sync: &BTreeMap<i32, SyncStatus>) -> Option<(&i32, &SyncStatus)> {
    let mut ready: Vec<_> = sync.iter().filter(|(_, sync)| sync.ready).collect();
    ready.sort_by_key(|(_, sync)| Reverse((sync.height, sync.last_block_time_ms)));
    let liars = (ready.len().saturating_sub(1) / 3).max(1);
    ready.get(liars).or(ready.first()).copied().or_else(|| sync.iter().max_by_key(|(_, sync)| sync.height))
}

/// Why a look at the cluster failed.
#[derive(Debug, thiserror::Error)]
#[error("could not read {what}")]
pub struct ObserveError {
    what: String,
    #[source]
    source: kube::Error,
}

fn reading<T>(what: impl Into<String>, result: Result<T, kube::Error>) -> Result<T, ObserveError> {
    result.map_err(|source| ObserveError { what: what.into(), source })
}

/// Reads everything about one network.
///
/// # Errors
/// Where the API server does not answer or refuses.
pub async fn observe(
    client: &Client,
    http: &reqwest::Client,
    network: &BlockchainNetwork,
) -> Result<Observed, ObserveError> {
    let reader = Reader {
        client,
        namespace: network.namespace().unwrap_or_default(),
        name: network.name_any(),
        uid: network.uid().unwrap_or_default(),
    };
    let (key_secrets, mounted_keys, genesis, stateful_set, pods, claims) = tokio::try_join!(
        reader.list::<Secret>(Role::ValidatorKey),
        reader.get::<Secret>(names::mounted_keys(&reader.name)),
        reader.get::<ConfigMap>(names::genesis(&reader.name)),
        reader.get::<StatefulSet>(names::validator(&reader.name)),
        reader.list::<Pod>(Role::Validator),
        reader.list::<PersistentVolumeClaim>(Role::Validator),
    )?;
    let ((provided_keys, provided_started), database_urls, monitors) =
        tokio::try_join!(reader.provided_keys(network), reader.database_urls(network), reader.monitors())?;
    let owned = reader.owned(monitors.as_ref()).await?;
    let pods = by_ordinal(pods, |pod| names::ordinal_of(&reader.name, &pod.name_any()));
    let prefix = format!("{}-", names::VOLUME);
    let sync = ask_nodes(http, &pods).await;
    Ok(Observed {
        now: Timestamp::now(),
        set: ask_who_validates(http, &pods, &sync).await,
        sync,
        key_secrets: by_ordinal(key_secrets, |secret| secret.labels().get(ORDINAL_LABEL)?.parse().ok()),
        claims: by_ordinal(claims, |c| names::ordinal_of(&reader.name, c.name_any().strip_prefix(&prefix)?)),
        mounted_keys,
        provided_keys,
        provided_started,
        database_urls,
        genesis,
        stateful_set,
        pods,
        monitors,
        owned,
    })
}

fn by_ordinal<K>(items: Vec<K>, ordinal: impl Fn(&K) -> Option<i32>) -> BTreeMap<i32, K> {
    items.into_iter().filter_map(|item| Some((ordinal(&item)?, item))).collect()
}

/// Keys by ordinal, and the chains on which they have voted.
type Provided = (BTreeMap<i32, Option<String>>, BTreeMap<i32, String>);

/// Entry of a Secret that the user names; no other entry is looked at.
fn entry(secret: Option<Secret>, key: &str) -> Option<String> {
    String::from_utf8(secret?.data?.remove(key)?.0).ok()
}

struct Reader<'a> {
    client: &'a Client,
    namespace: String,
    name: String,
    uid: String,
}

impl Reader<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn get<K>(&self, name: String) -> Result<Option<K>, ObserveError>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        reading(format!("\"{name}\""), self.api::<K>().get_opt(&name).await)
    }

    async fn list<K>(&self, role: Role) -> Result<Vec<K>, ObserveError>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let query = ListParams::default().labels(&names::role_query(&self.name, role));
        let what = format!("objects with the role {} of \"{}\"", role.label(), self.name);
        Ok(reading(what, self.api::<K>().list(&query).await)?.items)
    }

    /// The keys that the user brings, and what their Secrets say of them.
    async fn provided_keys(&self, network: &BlockchainNetwork) -> Result<Provided, ObserveError> {
        let keys = &network.spec.validators.keys;
        let (mut found, mut started) = Provided::default();
        if keys.policy == KeyPolicy::Provided {
            for source in &keys.secrets {
                let secret = self.get::<Secret>(source.name.clone()).await?;
                let chains = secret.as_ref().and_then(|secret| secret.annotations().get(STARTED_ON_ANNOTATION));
                started.extend(chains.map(|chains| (source.ordinal, chains.clone())));
                found.insert(source.ordinal, entry(secret, &source.key));
            }
        }
        Ok((found, started))
    }

    async fn database_urls(&self, network: &BlockchainNetwork) -> Result<BTreeMap<i32, Option<String>>, ObserveError> {
        let mut found = BTreeMap::new();
        for source in network.spec.database.external.iter().flat_map(|external| &external.secrets) {
            let secret = self.get::<Secret>(source.name.clone()).await?;
            found.insert(source.ordinal, entry(secret, &source.key));
        }
        Ok(found)
    }

    /// Discovers the ServiceMonitor API; its absence is an answer, not an error.
    async fn monitors(&self) -> Result<Option<ApiResource>, ObserveError> {
        let (group, version, kind) = names::SERVICE_MONITOR_API;
        let gvk = GroupVersionKind::gvk(group, version, kind);
        match kube::discovery::pinned_kind(self.client, &gvk).await {
            Ok((api, _)) => Ok(Some(api)),
            Err(kube::Error::Discovery(_)) => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => reading("the ServiceMonitor API", Err(error)),
        }
    }

    async fn owned(&self, monitors: Option<&ApiResource>) -> Result<Vec<Owned>, ObserveError> {
        let (secrets, accounts, services, budgets, policies, sets) = tokio::try_join!(
            self.owned_of::<Secret>(),
            self.owned_of::<ServiceAccount>(),
            self.owned_of::<Service>(),
            self.owned_of::<PodDisruptionBudget>(),
            self.owned_of::<NetworkPolicy>(),
            self.owned_of::<StatefulSet>(),
        )?;
        let mut all = [secrets, accounts, services, budgets, policies, sets].concat();
        if let Some(api) = monitors {
            let objects = Api::<DynamicObject>::namespaced_with(self.client.clone(), &self.namespace, api);
            let query = ListParams::default().labels(&names::network_query(&self.name));
            let list = reading("ServiceMonitors", objects.list_metadata(&query).await)?;
            all.extend(list.items.iter().filter_map(|item| owned_by(&self.uid, &api.kind, &item.metadata)));
        }
        Ok(all)
    }

    async fn owned_of<K>(&self) -> Result<Vec<Owned>, ObserveError>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let kind = K::kind(&()).into_owned();
        let query = ListParams::default().labels(&names::network_query(&self.name));
        let list = reading(&kind, self.api::<K>().list_metadata(&query).await)?;
        let metas = list.items.iter().map(|item: &PartialObjectMeta<K>| &item.metadata);
        Ok(metas.filter_map(|meta| owned_by(&self.uid, &kind, meta)).collect())
    }
}

/// An object that belongs to the network of that UID. A key never does, whatever owner somebody gave it: what is owned and not wanted
/// is pruned.
fn owned_by(network_uid: &str, kind: &str, meta: &ObjectMeta) -> Option<Owned> {
    let ours = meta.owner_references.iter().flatten().any(|owner| owner.uid == network_uid);
    let role = meta.labels.as_ref().and_then(|labels| labels.get(ROLE_LABEL));
    let is_key = role.is_some_and(|role| role == Role::ValidatorKey.label());
    (ours && !is_key && meta.deletion_timestamp.is_none()).then(|| Owned {
        kind: kind.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
    })
}

/// Asks nodes. They are inside the cluster: no proxy of the operator's environment comes between, and none of them sends the operator
/// elsewhere: what answers is an image that a network's owner chose.
///
/// # Errors
/// Where the TLS library cannot be set up.
pub fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().redirect(Policy::none()).build()
}

/// Asks every running node at once; one that does not answer in time is left out.
async fn ask_nodes(http: &reqwest::Client, pods: &BTreeMap<i32, Pod>) -> BTreeMap<i32, SyncStatus> {
    let asked = pods.iter().filter_map(|(ordinal, pod)| {
        let host = host(pod)?;
        Some(async move {
            let said = ask(http, &host, "sync_status", SYNC_BYTES_MAX).await.filter(SyncStatus::is_possible)?;
            Some((*ordinal, said))
        })
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Asks the node that is believed how far the chain is. What says something impossible is no node of ours.
async fn ask_who_validates(
    http: &reqwest::Client,
    pods: &BTreeMap<i32, Pod>,
    sync: &BTreeMap<i32, SyncStatus>,
) -> Option<ChainSet> {
    let (best, _) = best(sync)?;
    let set: ChainSet = ask(http, &host(pods.get(best)?)?, "rpc/validators", SET_BYTES_MAX).await?;
    set.is_possible().then_some(set)
}

fn host(pod: &Pod) -> Option<String> {
    let address = pod.status.as_ref()?.pod_ip.clone()?;
    Some(if address.contains(':') { format!("[{address}]") } else { address })
}

async fn ask<T: DeserializeOwned>(http: &reqwest::Client, host: &str, path: &str, bytes_max: usize) -> Option<T> {
    answer(http, &format!("http://{host}:{}/{path}", env::RPC_PORT), bytes_max).await
}

async fn answer<T: DeserializeOwned>(http: &reqwest::Client, url: &str, bytes_max: usize) -> Option<T> {
    match http.get(url).timeout(ANSWER_TIMEOUT).send().await {
        // Every field has a default: the text of an error would read as a node without blocks and database.
        Ok(response) if response.status() != StatusCode::OK => None,
        Ok(response) => {
            let body = bounded(response, bytes_max).await?;
            serde_json::from_slice(&body).inspect_err(|error| tracing::debug!(%url, %error, "no answer")).ok()
        }
        Err(error) => {
            tracing::debug!(%url, %error, "node does not answer");
            None
        }
    }
}

/// A whole body, if it is not larger than any such answer of a node.
async fn bounded(mut response: reqwest::Response, bytes_max: usize) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > bytes_max {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::response::Redirect;
    use axum::routing::get;
    use serde_json::json;

    #[tokio::test]
    async fn only_what_a_node_itself_says_in_so_many_words_is_an_answer() {
        let short = || async { json!({ "height": 7 }).to_string() };
        let long = || async { json!({ "version": "1".repeat(SYNC_BYTES_MAX) }).to_string() };
        let elsewhere = || async { Redirect::temporary("/short") };
        let routes = Router::new().route("/short", get(short)).route("/long", get(long));
        let busy = || async { (StatusCode::SERVICE_UNAVAILABLE, json!({ "code": "BUSY" }).to_string()) };
        let routes = routes.route("/elsewhere", get(elsewhere)).route("/busy", get(busy));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let http = client().expect("a client");
        let said = |path: &'static str| {
            let (http, url) = (http.clone(), format!("{base}/{path}"));
            async move { answer::<SyncStatus>(&http, &url, SYNC_BYTES_MAX).await.map(|sync| sync.height) }
        };
        assert_eq!((said("short").await, said("long").await, said("elsewhere").await), (Some(7), None, None));
        assert_eq!(said("busy").await, None, "it is no node at height 0");
    }

    /// The height that is believed where nodes say these, and whether they are ready.
    fn believed(said: &[(i64, bool)]) -> Option<i64> {
        let sync =
            said.iter().map(|(height, ready)| SyncStatus { height: *height, ready: *ready, ..SyncStatus::default() });
        Observed { sync: (0..).zip(sync).collect(), ..Observed::default() }.best().map(|sync| sync.height)
    }

    #[test]
    fn no_node_alone_makes_the_chain_higher_than_it_is_and_the_only_one_is_believed() {
        let huge = 1 << 50;
        assert_eq!(believed(&[(100, true), (98, true), (huge, true), (99, true)]), Some(100));
        assert_eq!(believed(&[(100, true), (huge, true)]), Some(100));
        let of_ten: Vec<_> = (0..10).map(|i| (if i < 3 { huge } else { 100 }, true)).collect();
        assert_eq!(believed(&of_ten), Some(100), "as many as a chain of ten bears");
        assert_eq!((believed(&[(100, true)]), believed(&[(0, false)]), believed(&[])), (Some(100), Some(0), None));
    }

    #[test]
    fn nodes_that_are_not_ready_have_a_say_only_where_none_is() {
        assert_eq!(believed(&[(0, false), (100, true), (500, false)]), Some(100));
        assert_eq!(believed(&[(0, false), (100, false)]), Some(100));
    }

    fn read(validator: serde_json::Value) -> SyncStatus {
        serde_json::from_value(json!({ "height": 5, "validator": validator })).expect("a sync status")
    }

    #[test]
    fn a_node_of_any_version_is_understood_as_far_as_it_says_how_it_stands() {
        let quarantined = read(json!({ "voting_state": "quarantined", "quarantine": "the database is new" }));
        assert_eq!(
            (quarantined.voting_state(), quarantined.quarantine().as_str()),
            (VotingState::Quarantined, "the database is new")
        );
        assert_eq!(read(json!({ "voting_state": "voting", "quarantine": null })).voting_state(), VotingState::Voting);
        assert_eq!(read(json!({ "voting_state": "checking" })).voting_state(), VotingState::Checking);
        let older = read(json!({ "address": "", "public_key": "", "weight": 1, "last_signed_height": 4 }));
        assert_eq!((older.voting_state(), older.signed_height()), (VotingState::Unknown, 4));
        assert_eq!(read(json!({ "voting_state": "of a later version" })).voting_state(), VotingState::Unknown);
        assert_eq!(read(json!(null)).voting_state(), VotingState::Unknown);
    }

    #[test]
    fn a_key_is_never_pruned_though_somebody_made_the_network_its_owner() {
        let identity = names::Identity { name: "net".into(), namespace: "chains".into(), uid: "u".into() };
        let owned = |role| owned_by("u", "Secret", &names::owned_meta(&identity, "some".into(), role));
        assert!(owned(Role::MountedKeys).is_some() && owned(Role::ValidatorKey).is_none());
        let others = names::owned_meta(&identity, "some".into(), Role::MountedKeys);
        assert!(owned_by("another", "Secret", &others).is_none());
    }

    #[test]
    fn words_of_a_node_that_no_node_of_ours_says_are_not_listened_to() {
        let at = |version: String| SyncStatus { version, ..SyncStatus::default() };
        assert!(at("0.1.0".into()).is_possible() && !at("1".repeat(1_000)).is_possible());
    }

    #[test]
    fn a_sentence_of_a_node_is_cut_to_what_fits_into_a_message() {
        let long = read(json!({ "voting_state": "quarantined", "quarantine": "ä".repeat(10_000) }));
        assert_eq!(long.quarantine().chars().count(), QUARANTINE_CHARS_MAX);
    }
}
