//! The network that the tests share: `manifests/samples/devnet.yaml`, brought up once, looked at from inside and outside.

use aitbc_core::genesis::Genesis;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::params::MAX_EXPIRY_AHEAD;
use aitbc_core::transaction::{Action, Payment, Transaction};
use aitbc_tests::cluster::{Cluster, Endpoint, repository};
use aitbc_tests::localnet::run;
use aitbc_tests::rpc::Rpc;
use aitbc_tests::seed::Seed;
use aitbc_tests::subscriber::Subscriber;
use aitbc_tests::wait;
use aitbc_tests::wallet::Wallet;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Its name, as in the sample.
pub const NAME: &str = "devnet";
/// Validators.
pub const VALIDATORS: usize = 4;
/// From apply to Ready: images are there, databases are made.
pub const READY_LIMIT: Duration = Duration::from_secs(180);
/// A lost validator is back and signs.
pub const BACK_LIMIT: Duration = Duration::from_secs(90);
/// Longest pause of the chain while one validator is missing.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Units that a new account asks the faucet for.
const FUNDS: u64 = 10_000;

/// The network in its cluster.
pub struct Network {
    /// Where it is.
    pub cluster: Cluster,
    /// Genesis hash.
    pub chain: Hash,
    /// Of keys and choices.
    pub seed: Seed,
}

/// Runs a test on the shared network, up and Ready before it begins; shows everything where it fails.
pub fn scenario(test: &str, steps: impl AsyncFnOnce(&Network) -> Result<()>) {
    let seed = Seed::of(test);
    run(test, async {
        let network = Network::bring_up(seed).await?;
        let outcome = steps(&network).await;
        if outcome.is_err() {
            eprintln!("{}", network.cluster.diagnosis(NAME).await);
        }
        outcome
    });
}

/// The sample that the README applies.
pub fn sample() -> Result<String> {
    let path: PathBuf = repository().join("manifests/samples/devnet.yaml");
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

impl Network {
    async fn bring_up(seed: Seed) -> Result<Network> {
        let start = Instant::now();
        let cluster = Cluster::connect("e2e").await?;
        cluster.install_monitoring().await?;
        cluster.install_operator().await?;
        println!("operator installed after {:.1} s", start.elapsed().as_secs_f64());
        cluster.apply(&sample()?).await?;
        if let Err(cause) = cluster.wait_ready(NAME, READY_LIMIT).await {
            eprintln!("{}", cluster.diagnosis(NAME).await);
            return Err(cause);
        }
        println!("network Ready after {:.1} s", start.elapsed().as_secs_f64());
        let chain = genesis(&cluster).await?.hash();
        Ok(Network { cluster, chain, seed })
    }

    /// Pod of a validator.
    pub fn pod(index: usize) -> String {
        format!("{NAME}-validator-{index}")
    }

    /// REST interface of one validator. Keep the endpoint while it is used.
    pub async fn validator(&self, index: usize) -> Result<(Rpc, Endpoint)> {
        let endpoint = self.cluster.pod_port(&Network::pod(index), aitbc_core::env::RPC_PORT).await?;
        Ok((endpoint.rpc()?, endpoint))
    }

    /// The RPC Service.
    pub async fn service(&self) -> Result<(Rpc, Endpoint)> {
        let endpoint = self.cluster.service_port(&format!("{NAME}-rpc"), aitbc_core::env::RPC_PORT).await?;
        Ok((endpoint.rpc()?, endpoint))
    }

    /// Blocks as one validator reports them.
    pub async fn watch_blocks(&self, index: usize) -> Result<(Subscriber, Endpoint)> {
        let endpoint = self.cluster.pod_port(&Network::pod(index), aitbc_core::env::WS_PORT).await?;
        Ok((Subscriber::connect(&endpoint.ws(), &["new_blocks"]).await?, endpoint))
    }

    /// A new account with units from the faucet.
    pub async fn funded_wallet(&self, rpc: &Rpc, purpose: &str) -> Result<Wallet> {
        let key = self.seed.key(purpose, 0);
        let to = key.public().address();
        let expiry_height = rpc.height().await? + MAX_EXPIRY_AHEAD / 2;
        let nonce = rpc.balance(to).await?.1;
        let action = Action::Faucet(Payment { to, amount: FUNDS });
        let request = Transaction { sender: key.public(), nonce, fee: 0, expiry_height, action };
        rpc.send_final(&request.sign(&self.chain, &key), &self.chain).await.context("ask the faucet")?;
        let mut wallet = Wallet::new(key);
        wallet.nonce = nonce + 1;
        Ok(wallet)
    }

    /// Waits until a validator is ready and helped to finalize a block above the chain's present height.
    pub async fn wait_until_signs(&self, index: usize) -> Result<()> {
        let other = (index + 1) % VALIDATORS;
        let start = self.validator(other).await?.0.height().await?;
        let what = format!("validator {index} signs above height {start}");
        wait::until_ok(Duration::from_millis(300), &what, BACK_LIMIT, || async {
            let (rpc, _endpoint) = self.validator(index).await?;
            rpc.get("/ready").await?.ok()?;
            let status = rpc.get("/sync_status").await?.ok()?;
            ensure!(
                status["validator"]["last_signed_height"].as_u64().is_some_and(|height| height > start),
                "{status}"
            );
            Ok(())
        })
        .await
    }

    /// SQL in a validator's own database, by psql in its pod.
    pub async fn psql(&self, index: usize, sql: &str) -> Result<String> {
        let pod = Network::pod(index);
        let psql = ["psql", "-h", "/var/run/postgresql", "-U", "aitbc", "-d", "blockchain", "-XAtc", sql];
        let exec = ["exec", &pod, "--container", "postgres", "--"];
        Ok(self.cluster.kubectl(&[&exec[..], &psql[..]].concat()).await?.trim().to_owned())
    }

    /// A pod with curl in the cluster, which sends a request and returns the answer.
    pub async fn curl(&self, arguments: &[&str], body: &str) -> Result<String> {
        self.client_pod().await?;
        let exec = ["exec", "--stdin", "client", "--", "curl", "--silent", "--show-error", "--max-time", "20"];
        self.cluster.kubectl_with(&[&exec[..], arguments].concat(), body).await
    }

    async fn client_pod(&self) -> Result<()> {
        let restricted = serde_json::json!({
            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "runAsNonRoot": true,
            "seccompProfile": { "type": "RuntimeDefault" },
        });
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "client" },
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{ "name": "client", "image": client_image(), "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "infinity"], "securityContext": restricted }],
            },
        });
        self.cluster.apply(&pod.to_string()).await?;
        self.cluster.kubectl(&["wait", "--for=condition=Ready", "pod/client", "--timeout=60s"]).await.map(|_| ())
    }
}

/// An image with curl: the test cluster's own, or one named for another cluster.
fn client_image() -> String {
    std::env::var("AITBC_CLIENT_IMAGE").unwrap_or_else(|_| "docker.io/aitbc/tools:1".into())
}

/// What validators mount.
async fn genesis(cluster: &Cluster) -> Result<Genesis> {
    let map = cluster.get(&[&format!("configmap/{NAME}-genesis")]).await?;
    let text = map["data"]["genesis.json"].as_str().context("no genesis.json in the ConfigMap")?;
    Ok(Genesis::from_json(text)?)
}

/// Balance and nonce of an account on every validator.
pub async fn balances(network: &Network, address: Address) -> Result<Vec<(u64, u64)>> {
    let mut all = Vec::new();
    for index in 0..VALIDATORS {
        let (rpc, _endpoint) = network.validator(index).await?;
        all.push(rpc.balance(address).await?);
    }
    Ok(all)
}
