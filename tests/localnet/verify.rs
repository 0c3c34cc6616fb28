//! `aitbc-node verify` over every validator's RPC and straight from its database; a changed byte is named with its height.

use aitbc_core::env::exit;
use aitbc_core::key::Address;
use aitbc_tests::localnet::{Database, FUNDS, Localnet, scenario};
use aitbc_tests::node_process::node_binary;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sqlx::{Connection, SqliteConnection};
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;
use tokio::process::Command;

/// Longest time a check of so short a chain may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Transfers sent before the checks.
const TRANSFERS: u64 = 6;

#[test]
fn a_chain_is_verified_over_rpc_and_from_each_database_and_a_changed_byte_is_named_on_sqlite() {
    scenario("verify sqlite", 4, Database::Sqlite, async |net| {
        let height = everywhere(net).await?;
        a_changed_byte_is_named(net, height).await?;
        wrong_arguments_are_refused(net).await
    });
}

#[test]
fn a_chain_is_verified_over_rpc_and_from_each_database_on_postgres() {
    scenario("verify postgres", 4, Database::Postgres, async |net| everywhere(net).await.map(|_| ()));
}

/// Verifies the running chain and then each stopped validator's database; gives the height that all have.
async fn everywhere(net: &mut Localnet) -> Result<u64> {
    let (sender, to, id) = (net.wallets[0].address(), net.wallets[1].address(), transfers(net).await?);
    for node in &net.nodes {
        let arguments = ["--rpc", node.rpc.base(), "--account", &to.to_string(), "--transaction", &id];
        let report = verified(net, &arguments).await.with_context(|| format!("RPC of validator {}", node.index))?;
        checked(&report, to, FUNDS + TRANSFERS)?;
        ensure!(report["transaction"]["code"] == "OK" && report["transaction"]["tx_hash"] == id, "{report}");
        // A database that its node writes to: whatever is there at the time is right.
        let report = verified(net, &["--database", &node.database_url]).await?;
        ensure!(report["executed_to"].as_u64() >= report["to"].as_u64(), "validator {}: {report}", node.index);
    }
    net.stop_all().await?;
    let mut least = u64::MAX;
    for node in &net.nodes {
        let arguments = ["--database", &node.database_url, "--account", &sender.to_string()];
        let report =
            verified(net, &arguments).await.with_context(|| format!("database of validator {}", node.index))?;
        checked(&report, sender, FUNDS - 2 * TRANSFERS)?;
        ensure!(report["state_height"].as_u64() >= report["to"].as_u64(), "validator {}: {report}", node.index);
        least = least.min(report["to"].as_u64().context("a height")?);
    }
    Ok(least)
}

/// One after the other, so that they stand in different blocks, and then a block above them; gives the last one's id.
async fn transfers(net: &mut Localnet) -> Result<String> {
    let (expiry, to) = (net.expiry().await?, net.wallets[1].address());
    let mut id = String::new();
    for _ in 0..TRANSFERS {
        let signed = net.wallets[0].transfer(&net.chain, to, 1, expiry);
        net.nodes[0].rpc.send_final(&signed, &net.chain).await?;
        id = signed.id(&net.chain).to_string();
    }
    // The proof of an account is of the height below the last block, and results are in the block after.
    let height = net.height().await?;
    net.wait_for_height(height + 2, LIMIT).await?;
    Ok(id)
}

/// All blocks linked, covered, executed; all transfers seen; the account proven.
fn checked(report: &Value, address: Address, balance: u64) -> Result<()> {
    let number = |name: &str| report[name].as_u64().with_context(|| format!("no {name} in {report}"));
    ensure!(number("from")? == 1 && number("to")? > TRANSFERS, "{report}");
    ensure!(number("headers")? == number("to")? + number("not_final")?, "{report}");
    ensure!(number("executed_to")? == number("headers")? && report["pruned_below"].is_null(), "{report}");
    ensure!(number("transactions")? == TRANSFERS && number("certificates")? > 0, "{report}");
    let account = &report["account"];
    ensure!(account["address"] == address.to_string() && account["balance"] == balance, "{report}");
    Ok(())
}

async fn a_changed_byte_is_named(net: &Localnet, height: u64) -> Result<()> {
    let (url, at) = (&net.nodes[1].database_url, i64::try_from(height / 2)?);
    let mut ledger = SqliteConnection::connect(&url.replace("sqlite:///", "sqlite://")).await?;
    let before: Vec<u8> =
        sqlx::query_scalar("SELECT header FROM blocks WHERE height = ?").bind(at).fetch_one(&mut ledger).await?;
    // Of the digest of its parent.
    let mut changed = before.clone();
    changed[50] ^= 1;
    let write = "UPDATE blocks SET header = ? WHERE height = ?";
    sqlx::query(write).bind(&changed).bind(at).execute(&mut ledger).await?;
    ledger.close().await?;
    let output = verify(net, &["--database", url]).await?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "{}: {text}", output.status);
    let last = text.lines().last().unwrap_or_default();
    ensure!(last.starts_with(&format!("aitbc-node: block {at}: ")) && last.contains("expected"), "{text}");
    Ok(())
}

async fn wrong_arguments_are_refused(net: &Localnet) -> Result<()> {
    let other = net.dir().join("other.json");
    let mut genesis = net.genesis.clone();
    genesis.chain_id = "other".into();
    std::fs::write(&other, genesis.to_json())?;
    let (url, other) = (&net.nodes[0].database_url, other.display().to_string());
    let configuration = i32::from(exit::CONFIGURATION);
    let missing = format!("sqlite:///{}/none.db", net.dir().display());
    let cases: [(&[&str], i32, &str); 6] = [
        (&["--database", url, "--genesis", &other], configuration, "another genesis"),
        (&["--database", url, "--genesis", "/nowhere.json"], configuration, "/nowhere.json"),
        (&["--database", "mysql://x"], configuration, "mysql"),
        (&["--database", &missing], configuration, "none.db"),
        (&["--database", url, "--trusted", "7"], 2, "HEIGHT:DIGEST"),
        (&["--database", url, "--rpc", "http://127.0.0.1:1"], 2, "--rpc"),
    ];
    for (arguments, code, word) in cases {
        let output = verify(net, arguments).await?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(code) && text.contains(word), "{arguments:?}: {}: {text}", output.status);
    }
    Ok(())
}

/// The report of a check that finds nothing wrong.
pub(crate) async fn verified(net: &Localnet, arguments: &[&str]) -> Result<Value> {
    let output = verify(net, arguments).await?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {}: {error}", output.status);
    ensure!(error.lines().last().is_some_and(|line| line.starts_with("block ")), "no progress: {error}");
    serde_json::from_slice(&output.stdout).with_context(|| format!("{arguments:?}"))
}

/// Runs `verify` with the net's genesis, unless `arguments` name another.
async fn verify(net: &Localnet, arguments: &[&str]) -> Result<Output> {
    let genesis: PathBuf = net.dir().join("genesis.json");
    let mut command = Command::new(node_binary()?);
    command.args(["verify", "--output", "json"]).args(arguments).env("GENESIS_FILE", genesis).env_remove("AITBC_RPC");
    let output = tokio::time::timeout(LIMIT, command.kill_on_drop(true).output()).await;
    output.with_context(|| format!("{arguments:?} takes longer than {LIMIT:?}"))?.context("start aitbc-node")
}
