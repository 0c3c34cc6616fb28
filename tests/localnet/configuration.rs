//! Wrong settings end the process with one line.

use aitbc_core::env::exit;
use aitbc_tests::localnet::{Database, Localnet, Shape, Wiring, run};
use aitbc_tests::node_process::NodeProcess;
use aitbc_tests::seed::Seed;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

#[test]
fn a_wrong_setting_exits_78_with_one_line_that_names_it() {
    run("configuration", async {
        let shape = Shape {
            validators: 2,
            database: Database::Sqlite,
            seed: Seed::of("configuration"),
            accounts: 1,
            parameters: Default::default(),
            wiring: Wiring::Direct,
        };
        let net = Localnet::prepare(shape).await?;
        let other_address = net.nodes[1].address.to_string();
        // What is set in the environment, and what the line must name.
        let cases: [(&str, &str, &[&str]); 14] = [
            ("RPC_PORT", "70000", &["RPC_PORT", "70000"]),
            ("RPC_HOST", "not a host", &["RPC_HOST", "not a host"]),
            ("BLOCK_TIME", "soon", &["BLOCK_TIME", "soon"]),
            ("BLOCK_TIME", "0s", &["BLOCK_TIME", "0s"]),
            ("CONSENSUS_MODE", "pow", &["CONSENSUS_MODE", "pow"]),
            ("DATABASE_URL", "mysql://x", &["mysql"]),
            ("GENESIS_FILE", "/nowhere/genesis.json", &["GENESIS_FILE", "/nowhere/genesis.json"]),
            ("VALIDATOR_KEY_FILE", "/nowhere/key.pem", &["VALIDATOR_KEY_FILE", "/nowhere/key.pem"]),
            ("VALIDATOR_ADDRESS", &other_address, &["VALIDATOR_ADDRESS", &other_address]),
            ("LOG_FORMAT", "xml", &["LOG_FORMAT", "xml"]),
            ("MEMPOOL_MAX_BYTES", "many", &["MEMPOOL_MAX_BYTES", "many"]),
            ("RPC_TIMEOUT", "-1", &["RPC_TIMEOUT", "-1"]),
            ("STATE_SYNC", "fast", &["STATE_SYNC", "fast", "auto"]),
            ("PRUNING", "1000", &["PRUNING", "1000", "archive", "2064", "named again"]),
        ];
        let config = net.nodes[0].config.display().to_string();
        for (number, (name, value, words)) in cases.into_iter().enumerate() {
            let mut process = process(&net, &config, number);
            process.set_env(name, value);
            refused(&mut process, words).await.with_context(|| format!("{name}={value}"))?;
        }
        // The file: an unknown key, and no YAML at all.
        let text = std::fs::read_to_string(&config)?;
        for (number, (wrong, words)) in
            [(format!("{text}rpc_prot: 1\n"), ["rpc_prot"]), ("]".to_owned(), ["wrong.yaml"])].into_iter().enumerate()
        {
            let path = net.dir().join("wrong.yaml");
            std::fs::write(&path, wrong)?;
            refused(&mut process(&net, &path.display().to_string(), 100 + number), &words).await?;
        }
        refused(&mut process(&net, "/nowhere.yaml", 200), &["/nowhere.yaml"]).await?;
        // Nothing of it left a database: it was refused before.
        net.discard();
        Ok(())
    });
}

fn process(net: &Localnet, config: &str, number: usize) -> NodeProcess {
    let log = net.dir().join(format!("wrong-{number}.log"));
    NodeProcess::new(format!("case {number}"), &["run", "--config", config], log)
}

async fn refused(process: &mut NodeProcess, words: &[&str]) -> Result<()> {
    process.start()?;
    let status = process.exit(Duration::from_secs(10)).await?;
    ensure!(status.code() == Some(exit::CONFIGURATION.into()), "{status}\n{}", process.tail());
    let text = process.log_text();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    ensure!(lines.len() == 1, "one line expected\n{}", process.tail());
    for word in words {
        ensure!(text.contains(word), "\"{word}\" expected in: {text}");
    }
    Ok(())
}
