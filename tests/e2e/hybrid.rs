//! Authorities and stake together: a fifth validator bonds, is admitted, signs, signs twice, is slashed and jailed; status, metrics
//! and events of the network tell it.

use aitbc_core::genesis::Genesis;
use aitbc_core::hash::{Hash, plain};
use aitbc_core::key::SecretKey;
use aitbc_core::message::Message;
use aitbc_core::transaction::{Action, Motion, Payment, Stake, Transaction};
use aitbc_core::validators::{Validator, ValidatorSet};
use aitbc_core::vote::{Kind, Statement, Vote};
use aitbc_tests::abuser::Liar;
use aitbc_tests::cluster::{Cluster, OPERATOR_NAMESPACE, command};
use aitbc_tests::localnet::run;
use aitbc_tests::metrics::Metrics;
use aitbc_tests::rpc::Rpc;
use aitbc_tests::wait;
use aitbc_tests::wallet::FEE;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;

const NAME: &str = "hybrid";
/// Of its own: it goes with everything in it.
const NAMESPACE: &str = "e2e-hybrid";
/// Those that decide from the beginning.
const AUTHORITIES: usize = 4;
/// The one that comes in.
const NEWCOMER: usize = 4;
/// `consensus.minStake` of the sample: what each authority has, and what the newcomer bonds.
const STAKE: u64 = 10_000;
/// After `slash_bp` of it, by default 5 %.
const SLASHED: u64 = 9_500;
/// Shorter than in the sample, so that two of them pass in a minute of an idle chain.
const EPOCH_BLOCKS: u64 = 20;
/// Slots above the frontier of which the second process speaks: votes of the next 64 are heard, and no epoch here gets so far. The
/// validator's own Final of that slot would be a second offence, which costs it again.
const BEYOND_THE_EPOCH: u64 = 50;
/// From apply to Ready: images are there, databases are made.
const READY_LIMIT: Duration = Duration::from_secs(180);
/// Two epochs of an idle chain, one that has begun, and the operator's next look.
const TWO_EPOCHS: Duration = Duration::from_secs(120);
/// Until two votes of one slot stand in a final block.
const CONVICTED: Duration = Duration::from_secs(60);
/// Until the operator has looked, and told.
const TOLD: Duration = Duration::from_secs(30);
/// Between two looks by kubectl.
const LOOK: Duration = Duration::from_millis(500);

#[test]
fn a_fifth_validator_comes_in_by_stake_and_votes_and_is_slashed_and_jailed_for_signing_twice() {
    run("e2e hybrid", async {
        let hybrid = Hybrid::bring_up().await?;
        let outcome = hybrid.story().await;
        match &outcome {
            Ok(()) => hybrid.leave().await?,
            Err(_) => eprintln!("{}", hybrid.cluster.diagnosis(NAME).await),
        }
        outcome
    });
}

struct Hybrid {
    cluster: Cluster,
    chain: Hash,
    /// Of each validator, as its Secret has it.
    keys: Vec<SecretKey>,
}

/// The sample, with shorter epochs, and without a Postgres for each of five: other networks of the tests run beside it.
async fn manifest() -> Result<String> {
    let changes = json!({ "spec": {
        "consensus": { "epochBlocks": EPOCH_BLOCKS },
        "database": { "mode": "SQLite" },
    } });
    let sample = ["patch", "--local", "--filename", "manifests/samples/hybrid.yaml", "--output", "json"];
    command("kubectl", &[&sample[..], &["--type=merge", "--patch", &changes.to_string()]].concat(), "").await
}

impl Hybrid {
    async fn bring_up() -> Result<Hybrid> {
        let cluster = Cluster::connect(NAMESPACE).await?;
        cluster.install_operator().await?;
        cluster.apply(&manifest().await?).await?;
        if let Err(cause) = cluster.wait_ready(NAME, READY_LIMIT).await {
            eprintln!("{}", cluster.diagnosis(NAME).await);
            return Err(cause);
        }
        let map = cluster.get(&[&format!("configmap/{NAME}-genesis")]).await?;
        let text = map["data"]["genesis.json"].as_str().context("no genesis.json in the ConfigMap")?;
        let chain = Genesis::from_json(text)?.hash();
        let mut keys = Vec::new();
        for index in 0..=NEWCOMER {
            let secret = format!("secret/{NAME}-validator-{index}-key");
            let template = r#"go-template={{index .data "ed25519.pem" | base64decode}}"#;
            keys.push(SecretKey::from_pkcs8_pem(&cluster.kubectl(&["get", &secret, "--output", template]).await?)?);
        }
        Ok(Hybrid { cluster, chain, keys })
    }

    async fn leave(&self) -> Result<()> {
        self.cluster.kubectl(&["delete", "bcn", NAME, "--timeout=120s"]).await?;
        self.cluster.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"]).await.map(|_| ())
    }

    async fn story(&self) -> Result<()> {
        let endpoint = self.cluster.pod_port(&format!("{NAME}-validator-0"), aitbc_core::env::RPC_PORT).await?;
        let rpc = endpoint.rpc()?;
        self.newcomer("is a candidate", TOLD, |v| v["state"] == "Candidate" && v["weight"] == 0).await?;
        self.condition("ValidatorSetSynced", "False", "ValidatorsOutside").await?;

        self.comes_in(&rpc).await?;
        self.newcomer("signs", TWO_EPOCHS, |v| {
            let signed = v["lastSignedHeight"].as_i64().is_some_and(|height| height > 0);
            v["state"] == "Active" && v["weight"] == STAKE && v["stake"] == STAKE && signed
        })
        .await?;
        self.condition("ValidatorSetSynced", "True", "Synced").await?;
        self.told("Normal", "ValidatorJoined").await?;
        self.counted("Active", 5).await?;

        self.signs_twice(&rpc).await?;
        self.newcomer("is slashed and jailed", TOLD, |v| {
            v["state"] == "Jailed" && v["jailedFor"] == "DoubleSigning" && v["stake"] == SLASHED
        })
        .await?;
        self.told("Warning", "ValidatorJailed").await?;
        let note = self.told("Warning", "ValidatorSlashed").await?;
        ensure!(note.contains(&format!("from {STAKE} to {SLASHED}")), "{note}");
        self.counted("Jailed", 1).await?;

        self.newcomer("is out of the set", TWO_EPOCHS, |v| v["state"] == "Jailed" && v["weight"] == 0).await?;
        self.told("Normal", "ValidatorLeft").await?;
        let height = rpc.height().await?;
        wait::until_ok(LOOK, "the four go on", TOLD, async || {
            let now = rpc.height().await?;
            ensure!(now > height + 2, "{now}, before {height}");
            Ok(())
        })
        .await
    }

    /// Activates, bonds, and is admitted by more than two thirds of the authorities.
    async fn comes_in(&self, rpc: &Rpc) -> Result<()> {
        for key in &self.keys {
            self.fund(rpc, key).await?;
        }
        let newcomer = &self.keys[NEWCOMER];
        let validator = newcomer.public();
        self.send(rpc, newcomer, Action::Activate { owner: validator.address() }).await.context("activate")?;
        self.send(rpc, newcomer, Action::Bond(Stake { validator, amount: STAKE })).await.context("bond")?;
        for key in self.keys.iter().take(AUTHORITIES - 1) {
            self.send(rpc, key, Action::AuthorityVote(Motion::Admit(validator))).await.context("vote")?;
        }
        let known = self.candidate(rpc).await?;
        ensure!(known["admitted"] == true && known["stake"] == STAKE && known["active"] == true, "{known}");
        Ok(())
    }

    async fn fund(&self, rpc: &Rpc, key: &SecretKey) -> Result<()> {
        let to = key.public().address();
        let action = Action::Faucet(Payment { to, amount: 2 * STAKE });
        self.send_for(rpc, key, 0, action).await.context("ask the faucet")
    }

    async fn send(&self, rpc: &Rpc, key: &SecretKey, action: Action) -> Result<()> {
        self.send_for(rpc, key, action.fee_units() * FEE, action).await
    }

    async fn send_for(&self, rpc: &Rpc, key: &SecretKey, fee: u64, action: Action) -> Result<()> {
        let (_, nonce) = rpc.balance(key.public().address()).await?;
        let expiry_height = rpc.height().await? + 500;
        let unsigned = Transaction { sender: key.public(), nonce, fee, expiry_height, action };
        let status = rpc.send_final(&unsigned.sign(&self.chain, key), &self.chain).await?;
        ensure!(status["code"] == "OK", "{status}");
        Ok(())
    }

    /// A second process with the newcomer's key, while its pod runs, tells one validator two things of one slot.
    async fn signs_twice(&self, rpc: &Rpc) -> Result<()> {
        let endpoint = self.cluster.pod_port(&format!("{NAME}-validator-0"), aitbc_core::env::P2P_PORT).await?;
        let key = &self.keys[NEWCOMER];
        let (set, _) = self.set(rpc).await?;
        let twin =
            Liar::dial(&set, SecretKey::from_pkcs8_pem(&key.to_pkcs8_pem())?, self.chain, endpoint.address.clone())?;
        twin.let_in(TOLD).await?;
        // In one epoch only: each one of them would cost it again.
        let (_, only) = self.set(rpc).await?;
        wait::until_ok(LOOK, "the double signing stands in a final block", CONVICTED, async || {
            let (set, epoch) = self.set(rpc).await?;
            let slot = rpc.get("/rpc/consensus/doctor").await?.ok()?["frontier"]["slot"].as_u64();
            let slot = slot.context("a frontier")? + BEYOND_THE_EPOCH;
            let signer = set.index_of(&key.public()).context("it decides no more")?;
            let peer = set.index_of(&self.keys[0].public()).context("nobody dialed")?;
            let digests = [plain(b"one"), plain(b"other")];
            for digest in digests.into_iter().filter(|_| epoch == only) {
                let statement = Statement { epoch, slot, kind: Kind::Notar, digest };
                let vote = Vote::sign(statement, &self.chain, signer, key);
                // What finds no room is said again at the next look.
                let _ = twin.gossip.send(peer, &Message::Vote(vote));
            }
            let found = rpc.get("/rpc/evidence").await?.ok()?;
            let all = found["evidence"].as_array().context("a list")?;
            let convict = key.public().to_string();
            ensure!(all.iter().any(|one| one["public_key"] == convict.as_str()), "so far: {found}");
            ensure!(all.iter().all(|one| one["public_key"] == convict.as_str()), "somebody else too: {found}");
            Ok(())
        })
        .await?;
        let known = self.candidate(rpc).await?;
        ensure!(known["jailed_for"] == "double_signing" && known["stake"] == SLASHED, "{known}");
        let endpoint = self.cluster.pod_port(&format!("{NAME}-validator-0"), aitbc_core::env::METRICS_PORT).await?;
        let metrics = Metrics::parse(&endpoint.rpc()?.text("/metrics").await?);
        ensure!(metrics.value("blockchain_evidence_total", "class=\"notars\"") >= 1.0, "the validator counts none");
        Ok(())
    }

    /// Who decides now, and the epoch.
    async fn set(&self, rpc: &Rpc) -> Result<(ValidatorSet, u64)> {
        let answer = rpc.get("/rpc/validators").await?.ok()?;
        let member = |one: &Value| -> Result<Validator> {
            let key = one["public_key"].as_str().context("a key")?.parse()?;
            let weight = one["weight"].as_u64().and_then(|weight| u32::try_from(weight).ok());
            Ok(Validator { key, weight: weight.context("a weight")? })
        };
        let members = answer["validators"].as_array().context("a list")?.iter().map(member).collect::<Result<_>>()?;
        Ok((ValidatorSet::new(members)?, answer["epoch"].as_u64().context("an epoch")?))
    }

    /// What the chain knows of the newcomer.
    async fn candidate(&self, rpc: &Rpc) -> Result<Value> {
        let answer = rpc.get("/rpc/validators").await?.ok()?;
        let key = self.keys[NEWCOMER].public().to_string();
        let all = answer["candidates"].as_array().context("a list")?;
        let found = all.iter().find(|one| one["public_key"] == key.as_str());
        found.cloned().with_context(|| format!("the chain does not know it: {answer}"))
    }

    /// Waits until status says this of the newcomer.
    async fn newcomer(&self, what: &str, limit: Duration, holds: impl Fn(&Value) -> bool) -> Result<()> {
        wait::until_ok(LOOK, &format!("the newcomer {what}"), limit, async || {
            let object = self.cluster.get(&[&format!("bcn/{NAME}")]).await?;
            let all = object["status"]["validatorStatuses"].as_array().context("a list")?;
            let found = all.iter().find(|one| one["ordinal"] == NEWCOMER).context("no such validator")?;
            ensure!(holds(found), "{found}");
            Ok(())
        })
        .await
    }

    async fn condition(&self, type_: &str, status: &str, reason: &str) -> Result<()> {
        wait::until_ok(LOOK, &format!("{type_}={status} {reason}"), TOLD, async || {
            let all = self.cluster.conditions(NAME).await;
            let wanted = format!("\"{type_}\"=\"{status}\" \"{reason}\"");
            ensure!(all.contains(&wanted), "{all}");
            Ok(())
        })
        .await
    }

    /// Waits for an event about the newcomer; returns what it says.
    async fn told(&self, type_: &str, reason: &str) -> Result<String> {
        let pod = format!("{NAME}-validator-{NEWCOMER}");
        wait::until_ok(LOOK, &format!("the event {reason}"), TOLD, async || {
            let list = self.cluster.get(&["events.events.k8s.io"]).await?;
            let all = list["items"].as_array().context("a list")?;
            let found = all.iter().find(|event| event["reason"] == reason && event["related"]["name"] == pod.as_str());
            let found = found.with_context(|| format!("{} events, none of it", all.len()))?;
            ensure!(found["type"] == type_, "{found}");
            Ok(found["note"].as_str().unwrap_or_default().to_owned())
        })
        .await
    }

    /// Waits until the operator's metric counts so many validators in a state.
    async fn counted(&self, state: &str, count: u32) -> Result<()> {
        let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/services/aitbc-operator:8080/proxy/metrics");
        let labels = format!("name=\"{NAME}\",namespace=\"{NAMESPACE}\",state=\"{state}\"");
        wait::until_ok(LOOK, &format!("{count} validators {state} in the metric"), TOLD, async || {
            let text = command("kubectl", &["get", "--raw", &path], "").await?;
            let found = Metrics::parse(&text).value("aitbc_operator_network_validators", &labels);
            ensure!(found == f64::from(count), "{found} {state}");
            Ok(())
        })
        .await
    }
}
