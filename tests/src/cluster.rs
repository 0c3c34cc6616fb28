//! A real Kubernetes as a user has it: kubectl and helm, their output on failure; what is needed quickly is read by API.

use crate::rpc::Rpc;
use crate::wait;
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "aitbc-system";
/// Label with the name of the network.
const NETWORK_LABEL: &str = "blockchain.aitbc.io/network";
/// How long a pod's port may take to answer before another way is tried.
const REACH_LIMIT: Duration = Duration::from_millis(800);
/// Longest time for one kubectl or helm command.
const COMMAND_LIMIT: Duration = Duration::from_secs(330);
/// Lines of a log that a failure shows.
const TAIL: &str = "--tail=40";

/// A cluster and one namespace in it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// Where the tests' objects are.
    pub namespace: String,
}

/// A port of a pod or Service that can be connected to from here.
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// `kubectl port-forward`, where the address itself cannot be reached.
    _forward: Option<Child>,
}

impl Endpoint {
    /// As REST interface.
    ///
    /// # Errors
    /// Where the HTTP client cannot be made.
    pub fn rpc(&self) -> Result<Rpc> {
        Rpc::new(format!("http://{}", self.address))
    }

    /// As WebSocket address.
    pub fn ws(&self) -> String {
        format!("ws://{}", self.address)
    }
}

/// Root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// Where it fails: with the command and what it said.
pub async fn command(program: &str, arguments: &[&str], stdin: &str) -> Result<String> {
    let shown = || format!("{program} {}", arguments.join(" "));
    let mut process = Command::new(program);
    process.args(arguments).current_dir(repository()).stdin(Stdio::piped()).kill_on_drop(true);
    let mut child =
        process.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| format!("run {}", shown()))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A command that does not read it is right not to.
        let _ = pipe.write_all(stdin.as_bytes()).await;
    }
    let output = tokio::time::timeout(COMMAND_LIMIT, child.wait_with_output()).await;
    let output = output.with_context(|| format!("{} does not end", shown()))??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}: {text}{}", shown(), String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

impl Cluster {
    /// The cluster of KUBECONFIG; makes the namespace, under the strictest Pod Security.
    ///
    /// # Errors
    /// Where there is no cluster.
    pub async fn connect(namespace: &str) -> Result<Cluster> {
        let client = Client::try_default().await.context("no cluster: run by \"tests/cluster/run.sh -- …\"")?;
        let cluster = Cluster { client, namespace: namespace.to_owned() };
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": namespace, "labels": { "pod-security.kubernetes.io/enforce": "restricted" } },
        });
        cluster.apply(&object.to_string()).await?;
        Ok(cluster)
    }

    /// Prometheus and its operator, where the cluster is the tests' own; another one has its own or none.
    ///
    /// # Errors
    /// Where they do not come up.
    pub async fn install_monitoring(&self) -> Result<()> {
        let own = std::env::var("CLUSTER_KIND").is_ok_and(|kind| kind == "own");
        if !own || command("kubectl", &["get", "namespace", "monitoring"], "").await.is_ok() {
            return Ok(());
        }
        command("tests/cluster/monitoring.sh", &[], "").await.map(|_| ())
    }

    /// Installs the chart, or leaves it as it is.
    ///
    /// # Errors
    /// Where it does not come up.
    pub async fn install_operator(&self) -> Result<()> {
        let arguments = ["upgrade", "--install", "aitbc", "charts/aitbc", "--namespace", OPERATOR_NAMESPACE];
        let more = ["--create-namespace", "--wait", "--timeout", "2m"];
        let outcome = command("helm", &[&arguments[..], &more[..]].concat(), "").await;
        if outcome.is_err() {
            eprintln!("{}", self.diagnosis_of_operator().await);
        }
        outcome.map(|_| ())
    }

    /// kubectl in the namespace.
    ///
    /// # Errors
    /// Where it fails.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with(arguments, "").await
    }

    /// As [`Cluster::kubectl`], with something on its standard input.
    ///
    /// # Errors
    /// Where it fails.
    pub async fn kubectl_with(&self, arguments: &[&str], stdin: &str) -> Result<String> {
        command("kubectl", &[&["--namespace", &self.namespace], arguments].concat(), stdin).await
    }

    /// An object, or a list of them, as JSON.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn get(&self, what: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "--output", "json"], what].concat()).await?;
        serde_json::from_str(&text).with_context(|| format!("kubectl get {what:?}"))
    }

    /// Applies a manifest.
    ///
    /// # Errors
    /// Where the API server refuses it.
    pub async fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_with(&["apply", "--filename", "-"], manifest).await
    }

    /// Waits for the condition Ready of a network, as the README says.
    ///
    /// # Errors
    /// After `limit`, with all conditions.
    pub async fn wait_ready(&self, network: &str, limit: Duration) -> Result<()> {
        let (object, limit) = (format!("bcn/{network}"), format!("--timeout={}s", limit.as_secs()));
        let outcome = self.kubectl(&["wait", "--for=condition=Ready", &object, &limit]).await;
        match outcome {
            Ok(_) => Ok(()),
            Err(cause) => Err(cause.context(self.conditions(network).await)),
        }
    }

    /// All conditions of a network in words.
    pub async fn conditions(&self, network: &str) -> String {
        let Ok(object) = self.get(&[&format!("bcn/{network}")]).await else { return "no such network".into() };
        let list = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let line = |c: &Value| format!("{}={} {}: {}", c["type"], c["status"], c["reason"], c["message"]);
        list.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Validator pods of a network, by name.
    ///
    /// # Errors
    /// Where the API server does not answer.
    pub async fn pods(&self, network: &str) -> Result<Vec<Pod>> {
        let query = format!("{NETWORK_LABEL}={network},blockchain.aitbc.io/role=validator");
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut pods = api.list(&ListParams::default().labels(&query)).await?.items;
        pods.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        Ok(pods)
    }

    /// A port of a pod.
    ///
    /// # Errors
    /// Where it cannot be reached in any way.
    pub async fn pod_port(&self, pod: &str, port: u16) -> Result<Endpoint> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let address = api.get(pod).await?.status.and_then(|status| status.pod_ip);
        self.reach(address, port, &format!("pod/{pod}")).await
    }

    /// A port of a Service.
    ///
    /// # Errors
    /// Where it cannot be reached in any way.
    pub async fn service_port(&self, service: &str, port: u16) -> Result<Endpoint> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let address = api.get(service).await?.spec.and_then(|spec| spec.cluster_ip);
        self.reach(address, port, &format!("service/{service}")).await
    }

    /// Directly where the pod network is this machine's, else through the API server.
    async fn reach(&self, address: Option<String>, port: u16, object: &str) -> Result<Endpoint> {
        if let Some(host) = address {
            let address = format!("{host}:{port}");
            if matches!(tokio::time::timeout(REACH_LIMIT, TcpStream::connect(&address)).await, Ok(Ok(_))) {
                return Ok(Endpoint { address, _forward: None });
            }
        }
        let mut forward = Command::new("kubectl");
        forward.args(["--namespace", &self.namespace, "port-forward", object, &format!(":{port}")]);
        let mut child = forward.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let output = child.stdout.take().context("output of kubectl port-forward")?;
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await??.unwrap_or_default();
        // Forwarding from 127.0.0.1:41234 -> 9080
        let address = line.split_whitespace().nth(2).with_context(|| format!("port-forward {object}: {line}"))?;
        Ok(Endpoint { address: address.to_owned(), _forward: Some(child) })
    }

    /// Every process of a container ends by SIGKILL, as the kernel's out-of-memory killer would do it.
    ///
    /// # Errors
    /// Where the node's containerd is not this machine's: only the test cluster can do it.
    pub async fn kill_container(&self, pod: &str, container: &str) -> Result<()> {
        self.kill_containers(pod, |name| name == container).await
    }

    /// All containers of some pods end by SIGKILL at once.
    ///
    /// # Errors
    /// As [`Cluster::kill_container`].
    pub async fn kill_pods(&self, pods: &[String]) -> Result<()> {
        let all = pods.iter().map(|pod| self.kill_containers(pod, |_| true));
        futures_util::future::try_join_all(all).await.map(|_| ())
    }

    async fn kill_containers(&self, pod: &str, chosen: impl Fn(&str) -> bool) -> Result<()> {
        let object = self.get(&[&format!("pod/{pod}")]).await?;
        let status = &object["status"];
        let lists = [&status["containerStatuses"], &status["initContainerStatuses"]];
        let all = lists.iter().filter_map(|list| list.as_array()).flatten();
        let ids = all.filter(|c| c["name"].as_str().is_some_and(&chosen)).filter_map(|c| c["containerID"].as_str());
        let ids: Vec<&str> = ids.filter_map(|id| id.strip_prefix("containerd://")).collect();
        ensure!(!ids.is_empty(), "no such container in {pod}: {status}");
        let kill = ["--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", "--all"];
        let commands: Vec<Vec<&str>> = ids.iter().map(|id| [&kill[..], &[id]].concat()).collect();
        let kills = commands.iter().map(|arguments| command("ctr", arguments, ""));
        futures_util::future::try_join_all(kills).await.map(|_| ())
    }

    /// Everything one would look at first: objects, their conditions and events, logs of every container.
    pub async fn diagnosis(&self, network: &str) -> String {
        let mut text = String::new();
        let object = format!("bcn/{network}");
        let looks: [&[&str]; 5] = [
            &["get", "bcn,statefulsets,pods,persistentvolumeclaims,services", "--output", "wide"],
            &["describe", &object],
            &["describe", "pods"],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["get", "secrets,configmaps"],
        ];
        for look in looks {
            text += &section(&format!("kubectl {}", look.join(" ")), self.kubectl(look).await);
        }
        for pod in self.pods(network).await.unwrap_or_default() {
            let name = pod.metadata.name.unwrap_or_default();
            for container in ["validator", "postgres"] {
                let log = ["logs", &name, "--container", container, TAIL];
                text += &section(&format!("{name} {container}"), self.kubectl(&log).await);
            }
            let before = ["logs", &name, "--container", "validator", TAIL, "--previous"];
            if let Ok(log) = self.kubectl(&before).await {
                text += &section(&format!("{name} validator, before its last restart"), Ok(log));
            }
        }
        text + &self.diagnosis_of_operator().await
    }

    async fn diagnosis_of_operator(&self) -> String {
        let name = ["--namespace", OPERATOR_NAMESPACE];
        let describe = command("kubectl", &[&name[..], &["describe", "pods"]].concat(), "").await;
        let selector = "app.kubernetes.io/name=aitbc";
        let logs = command("kubectl", &[&name[..], &["logs", "--selector", selector, TAIL]].concat(), "").await;
        section("operator pods", describe) + &section("operator log", logs)
    }
}

fn section(title: &str, text: Result<String>) -> String {
    format!("\n=== {title}\n{}\n", text.unwrap_or_else(|cause| format!("{cause:#}")))
}

/// Whether the pod's condition Ready is True and it is not on its way out.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// Uid of a pod: another one under the same name has another.
pub fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

/// Restarts of a container of a pod.
pub fn restarts(pod: &Pod, container: &str) -> i32 {
    let status = pod.status.as_ref();
    let lists =
        [status.and_then(|s| s.container_statuses.as_ref()), status.and_then(|s| s.init_container_statuses.as_ref())];
    lists.into_iter().flatten().flatten().find(|c| c.name == container).map_or(0, |c| c.restart_count)
}

/// What a watch over the pods saw.
#[derive(Debug, Default)]
pub struct Disruption {
    /// Most pods that were not ready at one time.
    pub most_down: usize,
    /// How long it took until all were ready again, with what was waited for.
    pub took: Duration,
}

impl Cluster {
    /// Looks at the pods until `done` holds of them and all `count` are ready.
    ///
    /// # Errors
    /// After `limit`.
    pub async fn watch_pods(
        &self,
        network: &str,
        count: usize,
        limit: Duration,
        done: impl Fn(&[Pod]) -> bool,
    ) -> Result<Disruption> {
        let mut seen = Disruption::default();
        let start = Instant::now();
        loop {
            let pods = self.pods(network).await?;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            seen.most_down = seen.most_down.max(count.saturating_sub(ready));
            if ready == count && done(&pods) {
                seen.took = start.elapsed();
                return Ok(seen);
            }
            if start.elapsed() > limit {
                bail!("{ready} of {count} pods ready after {limit:?}; {seen:?}");
            }
            wait::let_it_run(Duration::from_millis(150)).await;
        }
    }
}
