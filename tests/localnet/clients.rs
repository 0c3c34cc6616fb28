//! Programs that are no part of this repository's Rust: a client of the Python prototype, and those of docs/clients.md.

use aitbc_tests::devnet::Devnet;
use aitbc_tests::localnet::run;
use aitbc_tests::rpc::Rpc;
use aitbc_tests::wait;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

/// Has `cryptography`: both are among the packages that `make setup` installs.
const PYTHON: &str = "/usr/bin/python3";
/// How long the first block may take.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long all validators may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Whom the documented programs pay, in both forms of an address.
const RECIPIENTS: [&str; 2] =
    ["0x1111111111111111111111111111111111111111", "ait1zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3ctaggk"];

/// Starts one, does the steps, and ends it in order whatever came of them: its validators are no children of the test.
async fn on_devnet(steps: impl AsyncFnOnce(&Devnet) -> Result<()>) -> Result<()> {
    let mut devnet = Devnet::prepare()?;
    devnet.process.start()?;
    let ready = || async { devnet.nodes[0].get("/ready").await?.ok() };
    let outcome = match wait::until_ok(Duration::from_millis(50), "a devnet", START_LIMIT, ready).await {
        Ok(_) => steps(&devnet).await,
        Err(cause) => Err(cause),
    };
    let outcome = outcome.with_context(|| devnet.process.tail());
    let stopped = devnet.process.stop_by(Signal::INT, STOP_LIMIT).await;
    outcome.and(stopped.map(|_| ()))
}

/// Runs a program to its end; what it printed.
async fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.with_context(|| format!("{program} {arguments:?} runs on after {LIMIT:?}"))?;
    let output = output.with_context(|| format!("start {program}: \"make setup\" installs it"))?;
    let (said, complained) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{program} {arguments:?}: {}\n{said}{complained}", output.status);
    }
    Ok(said)
}

#[test]
fn a_client_of_the_prototype_has_its_day() {
    let day = on_devnet(async |devnet| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/day.py").display().to_string();
        let said = output(PYTHON, &[&script, devnet.nodes[0].base(), &devnet.data.display().to_string()]).await?;
        println!("{}", said.trim());
        ensure!(said.starts_with("the day is over"), "{said}");
        Ok(())
    });
    run("the prototype's client", day);
}

#[test]
fn the_documented_programs_pay_on_a_devnet() {
    let paying = on_devnet(async |devnet| {
        let key = devnet.data.join("account.pem").display().to_string();
        let mut amount: u64 = 5;
        for (language, program, file) in [("python", PYTHON, "pay.py"), ("typescript", "node", "pay.mjs")] {
            let text = documented(language)?;
            ensure!(text.lines().count() < 60, "the {language} program has {} lines", text.lines().count());
            let path = devnet.dir.path().join(file);
            std::fs::write(&path, text)?;
            for recipient in RECIPIENTS {
                let before = balance(&devnet.nodes[0]).await?;
                let (path, amount_text) = (path.display().to_string(), amount.to_string());
                let said = output(program, &[&path, devnet.nodes[0].base(), &key, recipient, &amount_text]).await?;
                let status: Value = serde_json::from_str(&said)?;
                ensure!(status["status"] == "final", "{language}: {status}");
                ensure!(balance(&devnet.nodes[0]).await? == before + amount, "{language} to {recipient}");
                amount += 1;
            }
        }
        Ok(())
    });
    run("documented programs", paying);
}

async fn balance(rpc: &Rpc) -> Result<u64> {
    Ok(rpc.balance(RECIPIENTS[0].parse()?).await?.0)
}

/// The program of a language in docs/clients.md.
fn documented(language: &str) -> Result<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/clients.md");
    let page = std::fs::read_to_string(page)?;
    let start = format!("```{language}\n");
    let (_, rest) = page.split_once(&start).with_context(|| format!("no program in {language}"))?;
    let (program, _) = rest.split_once("```").context("a program without end")?;
    Ok(program.to_owned())
}
