//! Asked to stop, a node stops.

use aitbc_tests::load::Load;
use aitbc_tests::localnet::{Database, Localnet, STOP_LIMIT, scenario};
use aitbc_tests::wait;
use anyhow::{Result, ensure};
use std::time::Duration;

#[test]
fn sigterm_stops_within_ten_seconds_with_websocket_clients_and_requests_open_on_sqlite() {
    scenario("stopping sqlite", 4, Database::Sqlite, stop_with_clients);
}

#[test]
fn sigterm_stops_within_ten_seconds_with_websocket_clients_and_requests_open_on_postgres() {
    scenario("stopping postgres", 4, Database::Postgres, stop_with_clients);
}

async fn stop_with_clients(net: &mut Localnet) -> Result<()> {
    let topics = ["new_blocks", "new_transactions", "consensus_events"];
    let subscriber = net.subscribe(3, &topics).await?;
    let idle_http = tokio::net::TcpStream::connect(net.nodes[3].rpc.base().trim_start_matches("http://")).await?;
    let idle_ws = tokio::net::TcpStream::connect(net.nodes[3].ws.trim_start_matches("ws://")).await?;
    wait::until("events flow", Duration::from_secs(5), || async { (subscriber.events().len() > 3).then_some(()) })
        .await?;
    let took = net.nodes[3].process.terminate(STOP_LIMIT).await?;
    println!("stopped after {took:?}");
    wait::until("the subscriber is told", Duration::from_secs(2), || async { subscriber.closed() }).await?;
    drop((idle_http, idle_ws));
    // The others go on, and so does it.
    let height = net.height().await?;
    net.wait_for_height(height + 2, Duration::from_secs(5)).await?;
    net.start_all()?;
    net.wait_for_height(height + 3, Duration::from_secs(10)).await?;
    net.wait_until_signs(3, Duration::from_secs(10)).await
}

#[test]
fn sigterm_under_load_stops_in_time_and_loses_nothing_final() {
    scenario("stopping under load", 4, Database::Sqlite, async |net| {
        let senders = net.wallets.split_off(4);
        // Only validators that stay are sent to: a feeder fails where its validator goes away.
        let load = Load::closed_loop_on(net, senders, 2_000, &[0, 1, 2]).await?;
        wait::let_it_run(Duration::from_secs(2)).await;
        let took = net.nodes[3].process.terminate(STOP_LIMIT).await?;
        println!("stopped under load after {took:?}");
        ensure!(load.counters.finalized.load(std::sync::atomic::Ordering::Relaxed) > 0, "nothing was final");
        load.stop().await?;
        net.start_all()?;
        net.wait_until_signs(3, Duration::from_secs(20)).await
    });
}
