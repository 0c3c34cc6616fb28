//! Two processes with one key: the database decides who signs.

use aitbc_core::env::exit;
use aitbc_tests::localnet::{Database, Localnet, STOP_LIMIT, scenario};
use aitbc_tests::node_process::NodeProcess;
use aitbc_tests::ports::PortBlock;
use aitbc_tests::wait;
use anyhow::{Result, ensure};
use std::time::Duration;

#[test]
fn of_two_nodes_with_one_key_on_one_postgres_database_one_signs_and_the_other_exits_70() {
    scenario("double start postgres", 4, Database::Postgres, second_process_takes_over);
}

#[test]
fn of_two_nodes_with_one_key_on_one_sqlite_file_one_signs_and_the_other_exits_70() {
    scenario("double start sqlite", 4, Database::Sqlite, second_process_takes_over);
}

#[test]
fn a_node_that_has_nothing_to_write_notices_within_seconds_that_another_took_its_postgres_database() {
    scenario("idle double start postgres", 4, Database::Postgres, second_process_takes_over_from_an_idle_one);
}

#[test]
fn a_node_that_has_nothing_to_write_notices_within_seconds_that_another_took_its_sqlite_file() {
    scenario("idle double start sqlite", 4, Database::Sqlite, second_process_takes_over_from_an_idle_one);
}

/// Without the others the chain stands still: the one that is left has voted all that it may, and writes nothing.
async fn second_process_takes_over_from_an_idle_one(net: &mut Localnet) -> Result<()> {
    for index in [0, 1, 2] {
        net.nodes[index].process.kill().await?;
    }
    let rpc = net.nodes[3].rpc.clone();
    wait::until_ok(Duration::from_millis(50), "nothing is left to write", Duration::from_secs(10), || async {
        let doctor = rpc.get("/rpc/consensus/doctor").await?.ok()?;
        ensure!(doctor["state"] == "stalled" && doctor["writes"]["open"] == 0, "{doctor}");
        Ok(())
    })
    .await?;
    let (mut twin, _ports) = start_twin(net)?;
    let status = net.nodes[3].process.exit(Duration::from_secs(10)).await?;
    ensure!(status.code() == Some(exit::FENCED.into()), "{status}");
    ensure!(net.nodes[3].process.log_text().contains("took the lease"), "{}", net.nodes[3].process.tail());
    ensure!(twin.ended().is_none(), "the twin stopped too\n{}", twin.tail());
    twin.terminate(STOP_LIMIT).await?;
    net.start_all()?;
    net.wait_for_height(1, Duration::from_secs(20)).await?;
    net.wait_until_signs(3, Duration::from_secs(20)).await
}

/// A second process with key and database of validator 3, on ports of its own.
fn start_twin(net: &Localnet) -> Result<(NodeProcess, PortBlock)> {
    let ports = PortBlock::take(5)?;
    let config = net.nodes[3].config.display().to_string();
    let mut twin = NodeProcess::new("twin", &["run", "--config", &config], net.dir().join("twin.log"));
    let names = ["RPC_PORT", "WS_PORT", "P2P_PORT", "METRICS_PORT", "ADMIN_PORT"];
    names.iter().zip(ports.base()..).for_each(|(name, port)| twin.set_env(name, &port.to_string()));
    twin.start()?;
    Ok((twin, ports))
}

/// The one that starts later holds the lease: it is what Kubernetes wants to run.
async fn second_process_takes_over(net: &mut Localnet) -> Result<()> {
    net.wait_until_signs(3, Duration::from_secs(10)).await?;
    let (mut twin, _ports) = start_twin(net)?;
    let status = net.nodes[3].process.exit(Duration::from_secs(20)).await?;
    ensure!(status.code() == Some(exit::FENCED.into()), "{status}");
    let log = net.nodes[3].process.log_text();
    ensure!(log.contains("lease"), "the log must say why it stopped\n{}", net.nodes[3].process.tail());
    ensure!(twin.ended().is_none(), "the twin stopped too\n{}", twin.tail());
    net.wait_until_votes(3, Duration::from_secs(20)).await?;
    let generations = net.votes.generations(net.nodes[3].signer);
    ensure!(generations.len() == 2, "votes under the leases {generations:?}, two expected");

    // And back: the twin gives way to the first in the same manner.
    net.start_all()?;
    let status = twin.exit(Duration::from_secs(20)).await?;
    ensure!(status.code() == Some(exit::FENCED.into()), "{status}\n{}", twin.tail());
    net.wait_until_signs(3, Duration::from_secs(20)).await
}
