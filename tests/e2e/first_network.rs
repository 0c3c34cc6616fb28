//! A transfer through the RPC Service; what psql shows; a second apply.

use crate::network::{NAME, Network, VALIDATORS, balances, sample, scenario};
use aitbc_core::json;
use aitbc_core::key::Address;
use aitbc_tests::wait;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[test]
fn a_transfer_through_the_rpc_service_is_final_at_once_and_the_same_on_all_four() {
    scenario("e2e transfer", async |network| {
        let (rpc, _endpoint) = network.service().await?;
        let mut wallet = network.funded_wallet(&rpc, "transfer").await?;
        let to = Address([0x42; 20]);
        let before = balances(network, to).await?;
        let signed = wallet.transfer(&network.chain, to, 1_234, rpc.height().await? + 1_000);
        let body = json::to_value(&signed, &network.chain).to_string();
        let url = format!("http://{NAME}-rpc:9080/rpc/send_tx?wait=final");
        let timing = "\n%{time_total}";
        let arguments =
            ["--request", "POST", "--header", "content-type: application/json", "--data", "@-", "--write-out", timing];
        let answer = network.curl(&[&arguments[..], &[&url]].concat(), &body).await?;
        let (status, seconds) = answer.rsplit_once('\n').context("no answer")?;
        let status: Value = serde_json::from_str(status).with_context(|| answer.clone())?;
        ensure!(status["status"] == "final", "{status}");
        println!("final after {seconds} s, sent from a pod through the Service");
        ensure!(seconds.parse::<f64>()? < 1.0, "final only after {seconds} s");

        let expected: Vec<_> = before.iter().map(|(balance, nonce)| (balance + 1_234, *nonce)).collect();
        wait::until_ok(Duration::from_millis(200), "the same balance on all", Duration::from_secs(10), || async {
            let found = balances(network, to).await?;
            ensure!(found == expected, "{found:?}, expected {expected:?}");
            Ok(())
        })
        .await
    });
}

#[test]
fn psql_in_a_pod_shows_blocks_accounts_and_votes() {
    scenario("e2e psql", async |network| {
        for index in 0..VALIDATORS {
            let count = async |table: &str| -> Result<i64> {
                Ok(network.psql(index, &format!("SELECT count(*) FROM {table}")).await?.parse()?)
            };
            ensure!(count("ledger.blocks").await? > 0, "validator {index} has no blocks");
            ensure!(count("state.accounts").await? > 0, "validator {index} has no accounts");
            ensure!(count("ledger.votes").await? > 0, "validator {index} has no votes");
        }
        let twice =
            "SELECT count(*) FROM (SELECT 1 FROM ledger.votes GROUP BY epoch, slot, class HAVING count(*) > 1) t";
        ensure!(network.psql(0, twice).await? == "0");
        Ok(())
    });
}

#[test]
fn a_second_apply_of_the_same_manifest_changes_nothing() {
    scenario("e2e second apply", async |network| {
        // The status shows heights: it may be written until the network has converged.
        let versions = async || resource_versions(network).await;
        let before =
            wait::until_ok(Duration::from_secs(1), "a converged network", Duration::from_secs(60), async || {
                let first = versions().await?;
                wait::let_it_run(Duration::from_secs(3)).await;
                let second = versions().await?;
                ensure!(first == second, "still changing: {:?}", differences(&first, &second));
                Ok(second)
            })
            .await?;
        let start = Instant::now();
        let said = network.cluster.apply(&sample()?).await?;
        ensure!(said.contains("unchanged"), "{said}");
        // Longer than the operator takes to look again.
        wait::let_it_run(Duration::from_secs(15)).await;
        let after = versions().await?;
        ensure!(before == after, "after {:?}: {:?}", start.elapsed(), differences(&before, &after));
        Ok(())
    });
}

/// resourceVersion of everything of the network but its pods and its own status.
async fn resource_versions(network: &Network) -> Result<BTreeMap<String, String>> {
    let kinds =
        "statefulsets,services,configmaps,secrets,serviceaccounts,poddisruptionbudgets,networkpolicies,servicemonitors";
    let selector = format!("blockchain.aitbc.io/network={NAME}");
    let mut all = BTreeMap::new();
    let list = match network.cluster.get(&[kinds, "--selector", &selector]).await {
        Ok(list) => list,
        // A cluster without the ServiceMonitor API.
        Err(_) => network.cluster.get(&[kinds.trim_end_matches(",servicemonitors"), "--selector", &selector]).await?,
    };
    for object in list["items"].as_array().context("a list")? {
        let name = format!("{}/{}", object["kind"], object["metadata"]["name"]);
        all.insert(name, object["metadata"]["resourceVersion"].to_string());
    }
    let own = network.cluster.get(&[&format!("bcn/{NAME}")]).await?;
    all.insert("generation of the network".into(), own["metadata"]["generation"].to_string());
    ensure!(all.len() > 8, "too few objects: {all:?}");
    Ok(all)
}

fn differences(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<String> {
    let names = a.keys().chain(b.keys()).filter(|name| a.get(*name) != b.get(*name));
    names.map(|name| format!("{name}: {:?} → {:?}", a.get(name), b.get(name))).collect()
}
