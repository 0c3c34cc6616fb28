//! Metrics all the way: ServiceMonitor, prometheus-operator, Prometheus.

use crate::network::{NAME, VALIDATORS, scenario};
use aitbc_tests::cluster::command;
use aitbc_tests::wait;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// The documented names.
const METRICS: [&str; 4] = [
    "blockchain_blocks_total",
    "blockchain_transactions_total",
    "blockchain_consensus_rounds",
    "blockchain_network_peers",
];
/// Discovery, then two scrapes 15 s apart.
const LIMIT: Duration = Duration::from_secs(150);

#[test]
fn prometheus_scrapes_the_four_documented_metrics_from_four_validators_and_they_move() {
    scenario("e2e metrics", async |network| {
        let (rpc, _endpoint) = network.service().await?;
        network.funded_wallet(&rpc, "metrics").await?;
        let first = wait::until_ok(
            Duration::from_secs(2),
            "four targets in Prometheus, each with three peers",
            LIMIT,
            || async {
                let mut all = BTreeMap::new();
                for name in METRICS {
                    let values = query(name).await?;
                    ensure!(values.len() == VALIDATORS, "{name} of {} targets: {values:?}", values.len());
                    // Samples may be from the roll-out before, when one was away.
                    let connected = name != "blockchain_network_peers" || values.values().all(|peers| *peers == 3.0);
                    ensure!(connected, "{name}: {values:?}");
                    all.insert(name, values);
                }
                Ok(all)
            },
        )
        .await?;
        wait::until_ok(Duration::from_secs(2), "the metrics move", LIMIT, || async {
            for name in &METRICS[..3] {
                // So that transactions move too.
                if *name == "blockchain_transactions_total" {
                    network.funded_wallet(&rpc, "metrics").await?;
                }
                let now = query(name).await?;
                for (pod, before) in &first[name] {
                    let now = now.get(pod).copied().unwrap_or(0.0);
                    ensure!(now > *before, "{name} of {pod} stays at {before}, now {now}");
                }
            }
            Ok(())
        })
        .await
    });
}

/// Values of a metric by pod, as Prometheus has them.
async fn query(metric: &str) -> Result<BTreeMap<String, f64>> {
    let path = format!("{}/api/v1/query?query={metric}", prometheus_proxy());
    let answer: Value = serde_json::from_str(&command("kubectl", &["get", "--raw", &path], "").await?)?;
    let list = answer["data"]["result"].as_array().with_context(|| answer.to_string())?;
    let of_network = list.iter().filter(|series| {
        let labels = series["metric"].as_object();
        labels.is_some_and(|labels| labels.values().any(|v| v.as_str().is_some_and(|v| v.starts_with(NAME))))
    });
    of_network
        .map(|series| {
            let pod = series["metric"]["pod"].as_str().context("no label pod")?;
            let value = series["value"][1].as_str().context("no value")?.parse()?;
            Ok((pod.to_owned(), value))
        })
        .collect()
}

/// Prometheus through the API server: works in every cluster.
fn prometheus_proxy() -> String {
    std::env::var("AITBC_PROMETHEUS_PROXY")
        .unwrap_or_else(|_| "/api/v1/namespaces/monitoring/services/prometheus:9090/proxy".into())
}
