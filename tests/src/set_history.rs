//! Who validates which epoch, as every validator of a chain tells it while it runs: all must tell the same (protocol.md E1).

use crate::localnet::Localnet;
use crate::rpc::{Answer, Rpc};
use crate::vote_archive::VoteArchive;
use crate::wait;
use aitbc_core::key::PublicKey;
use aitbc_core::validators::{Validator, ValidatorSet};
use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Pause between two looks at every validator. Each set is told twice, as the next one and as the present one.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long an epoch may be ahead that a test waits for.
const TOLD_LIMIT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Told {
    sets: BTreeMap<u64, ValidatorSet>,
    contradictions: Vec<String>,
}

impl Told {
    fn note(&mut self, validator: usize, epoch: u64, set: ValidatorSet) {
        let known = self.sets.entry(epoch).or_insert_with(|| set.clone());
        if *known != set {
            self.contradictions.push(format!("epoch {epoch}: {known:?}, of validator {validator} {set:?}"));
        }
    }
}

/// Asks until it is dropped.
pub struct SetHistory {
    told: Arc<Mutex<Told>>,
    keys: Vec<PublicKey>,
    task: JoinHandle<()>,
}

impl Drop for SetHistory {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SetHistory {
    /// Begins to ask all nodes of a chain.
    ///
    /// # Errors
    /// Where genesis has no set.
    pub fn start(net: &Localnet) -> Result<SetHistory> {
        let (genesis, nodes) = (net.genesis.validator_set()?, net.nodes.len());
        let told = Told { sets: BTreeMap::from([(0, genesis.clone()), (1, genesis)]), contradictions: Vec::new() };
        let told = Arc::new(Mutex::new(told));
        let task = tokio::spawn(ask(told.clone(), net.nodes.iter().map(|node| node.rpc.clone()).collect()));
        let keys = (0..nodes).map(|index| net.seed().key("validator", index as u64).public()).collect();
        Ok(SetHistory { told, keys, task })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the set of an epoch is told.
    ///
    /// # Errors
    /// Where nobody tells it in time.
    pub async fn set(&self, epoch: u64) -> Result<ValidatorSet> {
        let what = format!("somebody tells who validates epoch {epoch}");
        wait::until(&what, TOLD_LIMIT, async || self.told().sets.get(&epoch).cloned()).await
    }

    /// Weights of the members of an epoch, by position in [`Localnet::nodes`].
    ///
    /// # Errors
    /// As [`SetHistory::set`].
    pub async fn weights(&self, epoch: u64) -> Result<BTreeMap<usize, u64>> {
        let set = self.set(epoch).await?;
        let weight = |(position, key)| Some((position, set.weight(set.index_of(key)?)));
        Ok(self.keys.iter().enumerate().filter_map(weight).collect())
    }

    /// The first epoch from `from` on with these members' weights.
    ///
    /// # Errors
    /// Where none comes in time.
    pub async fn first_with(&self, from: u64, weights: &BTreeMap<usize, u64>) -> Result<u64> {
        let mut epoch = from;
        let what = format!("an epoch from {from} on whose members weigh {weights:?}");
        let found = async {
            while self.weights(epoch).await? != *weights {
                epoch += 1;
            }
            anyhow::Ok(epoch)
        };
        tokio::time::timeout(TOLD_LIMIT, found).await.with_context(|| format!("waited in vain: {what}"))?
    }

    /// Position of the node that leads a slot.
    ///
    /// # Errors
    /// As [`SetHistory::set`].
    pub async fn leader(&self, epoch: u64, slot: u64) -> Result<usize> {
        let set = self.set(epoch).await?;
        let leader = set.get(set.leader(epoch, slot)).context("a leader")?.key;
        self.keys.iter().position(|key| *key == leader).context("a node of this chain")
    }

    /// All told the same, and nobody voted in an epoch but the members of its set.
    ///
    /// # Errors
    /// Names who did.
    pub fn check(&self, votes: &VoteArchive) -> Result<()> {
        let told = self.told();
        ensure!(told.contradictions.is_empty(), "{:#?}", told.contradictions);
        for (position, key) in self.keys.iter().enumerate() {
            for (epoch, signer) in votes.cast_by(position) {
                let set = told.sets.get(&(epoch as u64)).with_context(|| format!("nobody told of epoch {epoch}"))?;
                let index = set.index_of(key).map(i64::from);
                ensure!(index == Some(signer), "validator {position} voted in epoch {epoch} as {signer}, is {index:?}");
            }
        }
        let mut changes: Vec<&ValidatorSet> = told.sets.values().collect();
        changes.dedup();
        println!("{} epochs, {} sets one after the other, all tell the same", told.sets.len(), changes.len());
        Ok(())
    }
}

async fn ask(told: Arc<Mutex<Told>>, nodes: Vec<Rpc>) {
    loop {
        let answers = join_all(nodes.iter().map(|rpc| rpc.get("/rpc/validators"))).await;
        for (validator, answer) in answers.into_iter().enumerate() {
            // Who does not run tells nothing.
            let Ok(answer) = answer.and_then(Answer::ok) else { continue };
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            match sets(&answer) {
                Ok((epoch, [present, next])) => {
                    told.note(validator, epoch, present);
                    told.note(validator, epoch + 1, next);
                }
                Err(cause) => told.contradictions.push(format!("validator {validator}: {cause:#}: {answer}")),
            }
        }
        wait::let_it_run(LOOK_EVERY).await;
    }
}

/// The epoch of an answer, its set and the next one's.
fn sets(answer: &Value) -> Result<(u64, [ValidatorSet; 2])> {
    let set = |list: &str, key: &str| -> Result<ValidatorSet> {
        let member = |member: &Value| -> Result<Validator> {
            let weight = member["weight"].as_u64().context("a weight")?;
            Ok(Validator { key: member[key].as_str().context("a key")?.parse()?, weight: u32::try_from(weight)? })
        };
        let members = answer[list].as_array().context("a list")?.iter().map(member).collect::<Result<_>>()?;
        Ok(ValidatorSet::new(members)?)
    };
    let epoch = answer["epoch"].as_u64().context("an epoch")?;
    Ok((epoch, [set("validators", "public_key")?, set("next", "key")?]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use serde_json::json;

    #[test]
    fn an_answer_tells_two_sets_and_another_set_of_an_epoch_is_a_contradiction() {
        let key = |n: u64| Seed(1).key("validator", n).public().to_string();
        let answer = |weight: u64| {
            json!({"epoch": 3, "validators": [{"public_key": key(0), "weight": 1}],
                   "next": [{"key": key(0), "weight": weight}, {"key": key(1), "weight": 1}]})
        };
        let (epoch, [present, next]) = sets(&answer(2)).expect("two sets");
        assert_eq!((epoch, present.len(), next.len(), next.total_weight()), (3, 1, 2, 3));
        let mut told = Told::default();
        told.note(0, 4, next.clone());
        told.note(1, 4, next);
        assert!(told.contradictions.is_empty());
        let (_, [_, other]) = sets(&answer(3)).expect("two sets");
        told.note(2, 4, other);
        assert_eq!(told.contradictions.len(), 1);
    }
}
