//! What each test gets: a namespace, an operator that looks after it alone, and words for what it wants to see.

use crate::wait;
use aitbc_operator::crd::BlockchainNetwork;
use aitbc_operator::crd::definition::definition;
use aitbc_operator::run::{self, Options};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const ADMIN_PORT: u16 = 8080;

/// A test's part of the cluster.
pub struct World {
    pub client: Client,
    pub namespace: String,
    number: u8,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

/// Numbers the worlds of this process, for addresses of their own.
static WORLDS: AtomicU8 = AtomicU8::new(1);

impl World {
    /// A namespace with an operator.
    pub async fn new(name: &str) -> Self {
        let mut world = World::without_operator(name).await;
        world.start_operator();
        world
    }

    /// A namespace only.
    pub async fn without_operator(name: &str) -> Self {
        let client = Client::try_default().await.expect("KUBECONFIG names a cluster");
        install_definition(&client).await;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let namespace = format!("{name}-{since}");
        let object = Namespace {
            metadata: kube::core::ObjectMeta { name: Some(namespace.clone()), ..Default::default() },
            ..Namespace::default()
        };
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.expect("namespace created");
        World { client, namespace, number: WORLDS.fetch_add(1, Ordering::SeqCst), stop: None }
    }

    /// A loopback address of this world.
    pub fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 77, self.number, last)
    }

    /// Starts an operator, as after an upgrade.
    pub fn start_operator(&mut self) {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let options = Options {
            node_image: "aitbc/blockchain-node:test".into(),
            namespace: Some(self.namespace.clone()),
            admin: Some((self.address(200), ADMIN_PORT).into()),
            lease: None,
            instance: "control-plane-test".into(),
        };
        let client = self.client.clone();
        tokio::spawn(async move {
            let wait = async { drop(stopped.await) };
            run::run(client, options, wait).await.expect("the operator runs");
        });
        self.stop = Some(stop);
    }

    /// Stops the operator; what it planned stays in status.
    pub async fn stop_operator(&mut self) {
        drop(self.stop.take());
        let address = self.address(200);
        wait::until("the operator to stop", || async move {
            match tokio::net::TcpListener::bind((address, ADMIN_PORT)).await {
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await;
    }

    /// Objects of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies a network as `kubectl apply --server-side` would.
    pub async fn apply(&self, name: &str, spec: Value) -> Result<BlockchainNetwork, kube::Error> {
        let params = PatchParams::apply("user").force();
        self.api::<BlockchainNetwork>().patch(name, &params, &Patch::Apply(manifest(name, spec))).await
    }

    /// The network as it is.
    pub async fn network(&self, name: &str) -> BlockchainNetwork {
        self.api::<BlockchainNetwork>().get(name).await.expect("the network")
    }

    /// Public keys of its validators, by ordinal, as far as its status tells.
    pub async fn public_keys(&self, name: &str) -> Vec<String> {
        let status = self.network(name).await.status.unwrap_or_default();
        status.validator_statuses.into_iter().filter_map(|validator| validator.public_key).collect()
    }

    /// Deletes the network and waits until it is gone.
    pub async fn delete(&self, name: &str) {
        let networks = self.api::<BlockchainNetwork>();
        networks.delete(name, &DeleteParams::default()).await.expect("deleted");
        wait::until("the network to go", || async { gone(networks.get_opt(name).await.expect("answer")) }).await;
    }

    /// Waits for a condition with status and reason; gives its message.
    pub async fn condition(&self, name: &str, type_: &str, status: &str, reason: &str) -> String {
        let networks = self.api::<BlockchainNetwork>();
        wait::until(&format!("{type_}={status} {reason}"), || async {
            let network = networks.get(name).await.map_err(|error| error.to_string())?;
            let conditions = network.status.map(|status| status.conditions).unwrap_or_default();
            let found = conditions.into_iter().find(|condition| condition.type_ == type_);
            let found = found.ok_or_else(|| "no such condition yet".to_owned())?;
            let as_wanted = found.status == status && found.reason == reason;
            if as_wanted { Ok(found.message) } else { Err(format!("{found:?}")) }
        })
        .await
    }

    /// Waits for an event with this reason; gives its note.
    pub async fn told(&self, reason: &str) -> String {
        wait::until(&format!("the event {reason}"), || async {
            let events = self.api::<Event>().list(&ListParams::default()).await.expect("list");
            let found = events.iter().find(|event| event.reason.as_deref() == Some(reason));
            let note = found.map(|event| event.note.clone().unwrap_or_default());
            note.ok_or_else(|| events.into_iter().filter_map(|event| event.reason).collect::<Vec<_>>())
        })
        .await
    }

    /// Names of the objects of a kind.
    pub async fn names<K>(&self) -> Vec<String>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        self.versions::<K>().await.into_keys().collect()
    }

    /// Resource versions of the objects of a kind, by name.
    pub async fn versions<K>(&self) -> BTreeMap<String, String>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let list = self.api::<K>().list(&ListParams::default()).await.expect("list");
        list.iter().map(|object| (object.name_any(), object.resource_version().unwrap_or_default())).collect()
    }

    /// Waits until the operator has visited its networks this many times more.
    pub async fn more_visits(&self, more: u64) {
        let before = self.visits().await;
        wait::until("more visits", || async {
            let now = self.visits().await;
            if now >= before + more { Ok(()) } else { Err(now) }
        })
        .await;
    }

    async fn visits(&self) -> u64 {
        let url = format!("http://{}:{ADMIN_PORT}/metrics", self.address(200));
        let text = match reqwest::get(&url).await {
            Ok(response) => response.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        let line = text.lines().find_map(|line| line.strip_prefix("aitbc_operator_reconciles_total "));
        line.and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

impl Drop for World {
    /// Leaves nothing behind in a cluster that somebody named. A failed test leaves everything, to be looked at.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(self.leave()));
        }
    }
}

impl World {
    async fn leave(&self) {
        let networks = self.api::<BlockchainNetwork>();
        networks.delete_collection(&DeleteParams::default(), &ListParams::default()).await.expect("networks deleted");
        wait::until("the networks to go", || async {
            let left = self.names::<BlockchainNetwork>().await;
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await.expect("namespace deleted");
    }
}

/// `Ok` where there is nothing.
pub fn gone<T: Debug>(found: Option<T>) -> Result<(), T> {
    found.map_or(Ok(()), Err)
}

/// A network's manifest.
pub fn manifest(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "blockchain.aitbc.io/v1alpha1",
        "kind": "BlockchainNetwork",
        "metadata": { "name": name },
        "spec": spec,
    })
}

/// Four validators that no machine takes, so that no kubelet meddles.
pub fn nowhere() -> Value {
    json!({ "validators": { "replicas": 4, "pod": { "nodeSelector": { "nowhere": "to-be-found" } } } })
}

/// The same with a part of the spec set, as in `with("suspend", json!("Paused"))`.
pub fn with(path: &str, value: Value) -> Value {
    let mut spec = nowhere();
    let mut place = &mut spec;
    for part in path.split('.') {
        place = &mut place[part];
    }
    *place = value;
    spec
}

async fn install_definition(client: &Client) {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let mut crd = serde_json::to_value(definition()).expect("json");
    (crd["apiVersion"], crd["kind"]) = (json!("apiextensions.k8s.io/v1"), json!("CustomResourceDefinition"));
    let name = "blockchainnetworks.blockchain.aitbc.io";
    let params = PatchParams::apply("control-plane-test").force();
    definitions.patch(name, &params, &Patch::Apply(crd)).await.expect("definition installed");
    await_condition(definitions, name, is_crd_established()).await.expect("definition established");
}
