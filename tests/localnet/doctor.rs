//! Why is there no block? A survivor names who is missing, and says in the log when it is over.

use aitbc_tests::localnet::{Database, Localnet, scenario};
use aitbc_tests::wait;
use anyhow::{Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// How long the doctor may take to know.
const DIAGNOSED: Duration = Duration::from_secs(5);

#[test]
fn with_two_of_four_killed_a_survivor_names_both_within_five_seconds_and_says_when_they_are_back() {
    scenario("doctor", 4, Database::Sqlite, async |net| {
        let healthy = doctor(net, 0).await?;
        ensure!(healthy["state"] != "stalled" && healthy["cause"] == "none", "{healthy}");
        net.nodes[2].process.kill().await?;
        net.nodes[3].process.kill().await?;
        let sick = wait::until_ok(Duration::from_millis(50), "the doctor names both", DIAGNOSED, || async {
            let found = doctor(net, 0).await?;
            let text = found["diagnosis"].as_str().unwrap_or_default().to_owned();
            ensure!(found["state"] == "stalled" && found["cause"] == "no_quorum_connected", "{found}");
            ensure!([2, 3].iter().all(|gone| text.contains(&net.nodes[*gone].address.to_string())), "{text}");
            Ok(found)
        })
        .await?;
        println!("{}", sick["diagnosis"]);
        ensure!(sick["frontier"]["silent"].as_array().is_some_and(|silent| silent.len() >= 2), "{sick}");
        let line = || net.nodes[0].process.log_text().lines().any(|line| told(line, "WARN", "nothing becomes final"));
        wait::until("a line in the log", DIAGNOSED, async || line().then_some(())).await?;
        let stalled = net.metrics(0).await?.sum("blockchain_stalled_seconds");
        ensure!(stalled >= 1.0, "blockchain_stalled_seconds is {stalled}");

        net.start_all()?;
        wait::until_ok(Duration::from_millis(50), "blocks again", Duration::from_secs(10), || async {
            let found = doctor(net, 0).await?;
            ensure!(found["state"] != "stalled", "{}", found["diagnosis"]);
            Ok(())
        })
        .await?;
        let line = || net.nodes[0].process.log_text().lines().any(|line| told(line, "INFO", "final again"));
        wait::until("the end in the log", DIAGNOSED, async || line().then_some(())).await
    });
}

async fn doctor(net: &Localnet, index: usize) -> Result<Value> {
    net.nodes[index].rpc.get("/rpc/consensus/doctor").await?.ok()
}

fn told(line: &str, level: &str, what: &str) -> bool {
    line.contains(level) && line.contains(what)
}
