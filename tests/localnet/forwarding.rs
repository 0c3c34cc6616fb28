//! Transactions sent to a node of no set: it passes them on to a member, and to another one where that is killed.

use aitbc_core::hash::Hash;
use aitbc_core::params::Parameters;
use aitbc_tests::localnet::{Database, Localnet, START_LIMIT, Shape, Wiring, run};
use aitbc_tests::rpc::Rpc;
use aitbc_tests::seed::Seed;
use aitbc_tests::wait;
use aitbc_tests::wallet::Wallet;
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use rustix::process::Signal;
use std::time::Duration;

/// The one whose key is not in genesis; those before it are validators.
const FOLLOWER: usize = 4;
/// Accounts that send.
const SENDERS: usize = 5;
/// Transactions of each, in half of the test.
const EACH: usize = 5;
/// Until what is sent has been passed on: shorter than a member has before another one gets it.
const PASSED_ON: Duration = Duration::from_secs(3);

#[test]
fn fifty_transactions_sent_to_a_node_of_no_set_are_final_also_after_the_member_it_passed_them_on_to_is_killed() {
    run("forwarding", async {
        let (seed, database, wiring) = (Seed::of("forwarding"), Database::Sqlite, Wiring::Direct);
        let parameters = Parameters::default();
        let shape = Shape { validators: FOLLOWER + 1, database, seed, accounts: SENDERS, parameters, wiring };
        let mut net = Localnet::prepare_with(shape, |genesis| genesis.validators.truncate(FOLLOWER)).await?;
        net.start_all()?;
        net.wait_for_height(1, START_LIMIT).await?;
        wait::until_ok(Duration::from_millis(20), "the follower is ready", START_LIMIT, async || {
            net.nodes[FOLLOWER].rpc.get("/ready").await?.ok()
        })
        .await?;
        let (expiry, rpc, mut senders) =
            (net.expiry().await?, net.nodes[FOLLOWER].rpc.clone(), net.wallets.split_off(0));
        let chain = net.chain;
        all_final(&rpc, &chain, &mut senders, expiry).await?;
        let member = only_receiver(&net).await?;
        // It takes what is passed on and does nothing with it.
        net.nodes[member].process.signal(Signal::STOP)?;
        let kill = async {
            let all = (2 * SENDERS * EACH) as f64;
            wait::until_ok(Duration::from_millis(10), "all is passed on", PASSED_ON, async || {
                let first = net.metrics(FOLLOWER).await?.value("blockchain_mempool_forwarded_total", "time=\"first\"");
                ensure!(first >= all, "{first} are");
                Ok(())
            })
            .await?;
            net.nodes[member].process.kill().await
        };
        tokio::try_join!(all_final(&rpc, &chain, &mut senders, expiry), kill)?;
        let again = net.metrics(FOLLOWER).await?.value("blockchain_mempool_forwarded_total", "time=\"again\"");
        ensure!(again >= (SENDERS * EACH) as f64, "{again} went to another member");
        for sender in &senders {
            let (_, nonce) = rpc.balance(sender.address()).await?;
            ensure!(nonce == 2 * EACH as u64, "{nonce} took effect");
        }
        net.finish().await
    });
}

/// All at once, in whatever order they arrive; each waits until it is final.
async fn all_final(rpc: &Rpc, chain: &Hash, senders: &mut [Wallet], expiry: u64) -> Result<()> {
    let mut waiting = Vec::new();
    for sender in senders {
        let to = sender.address();
        let signed: Vec<_> = (0..EACH).map(|_| sender.transfer(chain, to, 1, expiry)).collect();
        waiting.extend(signed.into_iter().map(async |signed| rpc.send_final(&signed, chain).await));
    }
    try_join_all(waiting).await.map(|_| ())
}

/// The validator that was passed on to: all goes to one.
async fn only_receiver(net: &Localnet) -> Result<usize> {
    let mut receivers = Vec::new();
    for member in 0..FOLLOWER {
        let messages = net.metrics(member).await?;
        let labels = "direction=\"in\",type=\"transactions\"";
        if messages.value("blockchain_network_messages_total", labels) > 0.0 {
            receivers.push(member);
        }
    }
    ensure!(receivers.len() == 1, "{receivers:?} were passed on to");
    receivers.first().copied().context("one")
}
