//! Validators that come, go, weigh more, are jailed and come back, in chains of mode hybrid with short epochs. Each test ends the
//! same way: every block verifies from genesis, over RPC and from each database; all tell the same set of each epoch; nobody voted
//! in an epoch but the members of its set.

/// Last blocks of epochs whose leader is killed, or across which the network is cut; the old set alone.
mod boundaries;
/// The whole way of a validator, step by step.
mod changes;
/// Four, seven, ten and four again, under load.
mod growth;

use crate::verify::verified;
use aitbc_core::epoch::Epochs;
use aitbc_core::genesis::{Genesis, GenesisAccount, Mode, Staking};
use aitbc_core::key::PublicKey;
use aitbc_core::transaction::{Action, Motion, SignedTransaction, Stake};
use aitbc_tests::localnet::{FUNDS, Localnet, START_LIMIT, Shape};
use aitbc_tests::set_history::SetHistory;
use aitbc_tests::wait;
use aitbc_tests::wallet::Wallet;
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::Value;
use std::time::Duration;

/// Validators of genesis. The other nodes follow the chain.
const MEMBERS: usize = 4;
/// Smallest units at stake of each validator of genesis, and what each other one bonds first.
const STAKE: u64 = 1_000;
/// Smallest units at stake for one unit of weight.
const UNIT: u64 = 100;
/// What [`STAKE`] weighs.
const WEIGHT: u64 = STAKE / UNIT;
/// Until a validator that has become one, or was started, signs: its next attempt to dial may be two seconds away.
const SIGNS: Duration = Duration::from_secs(20);
/// Pause between two looks at the head: short against a block.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A chain and what its validators act by.
struct Chain {
    net: Localnet,
    history: SetHistory,
    epochs: Epochs,
    /// Consensus keys, by node.
    keys: Vec<Wallet>,
    /// Who owns the stakes of nodes that are not of genesis, by node.
    owners: Vec<Wallet>,
    /// The validator that transactions are sent to.
    via: usize,
}

impl Chain {
    /// Starts as many nodes as `shape` has validators, of which [`MEMBERS`] are validators, and waits until all have the first
    /// block. The first accounts are owners of stakes, one a node.
    async fn start(shape: Shape, staking: Staking) -> Result<Chain> {
        let (nodes, seed) = (shape.validators, shape.seed);
        let mut net = Localnet::prepare_with(shape, |genesis| make_hybrid(genesis, staking)).await?;
        net.start_all()?;
        net.wait_for_height(1, START_LIMIT).await?;
        let rest = net.wallets.split_off(nodes);
        Ok(Chain {
            history: SetHistory::start(&net)?,
            epochs: Epochs::by(&net.genesis.parameters),
            keys: (0..nodes).map(|node| Wallet::new(seed.key("validator", node as u64))).collect(),
            owners: std::mem::replace(&mut net.wallets, rest),
            via: 0,
            net,
        })
    }

    fn key(&self, node: usize) -> PublicKey {
        self.keys[node].key().public()
    }

    /// A validator's key signs; the height at which it took effect.
    async fn by_key(&mut self, node: usize, action: Action) -> Result<u64> {
        let expiry = self.net.expiry().await?;
        let signed = self.keys[node].sign(&self.net.chain, action, expiry);
        made_final(&self.net, self.via, &signed).await
    }

    /// As [`Chain::by_key`], of who owns its stake.
    async fn by_owner(&mut self, node: usize, action: Action) -> Result<u64> {
        let expiry = self.net.expiry().await?;
        let signed = self.owners[node].sign(&self.net.chain, action, expiry);
        made_final(&self.net, self.via, &signed).await
    }

    async fn bond(&mut self, node: usize, amount: u64) -> Result<u64> {
        let validator = self.key(node);
        self.by_owner(node, Action::Bond(Stake { validator, amount })).await
    }

    async fn unbond(&mut self, node: usize, amount: u64) -> Result<u64> {
        let validator = self.key(node);
        self.by_owner(node, Action::Unbond(Stake { validator, amount })).await
    }

    async fn activate(&mut self, node: usize) -> Result<u64> {
        let owner = self.owners[node].address();
        self.by_key(node, Action::Activate { owner }).await
    }

    /// As many of `members` as it takes, from node 0 on, vote for all motions; the height of the last vote.
    async fn decide(&mut self, members: usize, motions: &[Motion]) -> Result<u64> {
        let (net, via, expiry) = (&self.net, self.via, self.net.expiry().await?);
        // One more vote than two thirds of all: a further one would be pointless, and refused.
        let voters = self.keys.iter_mut().take(members * 2 / 3 + 1);
        let votes = voters.map(|wallet| async move {
            let mut height = 0;
            for motion in motions {
                let signed = wallet.sign(&net.chain, Action::AuthorityVote(*motion), expiry);
                height = made_final(net, via, &signed).await?;
            }
            anyhow::Ok(height)
        });
        Ok(try_join_all(votes).await?.into_iter().max().unwrap_or_default())
    }

    /// Height of the head, once it is `below` blocks below the end of an epoch.
    async fn below_end(&self, below: u64) -> Result<u64> {
        let blocks = self.net.genesis.parameters.epoch_blocks;
        let rpc = &self.net.nodes[self.via].rpc;
        wait::until_every(LOOK_EVERY, &format!("{below} blocks below the end of an epoch"), START_LIMIT, async || {
            rpc.height().await.ok().filter(|height| (height + below).is_multiple_of(blocks))
        })
        .await
    }

    /// Head, once it is at a height or above.
    async fn reaches(&self, height: u64) -> Result<Value> {
        let rpc = &self.net.nodes[self.via].rpc;
        wait::until_every(LOOK_EVERY, &format!("height {height}"), START_LIMIT, async || {
            rpc.head().await.ok().filter(|head| head["height"].as_u64() >= Some(height))
        })
        .await
    }

    /// Waits until a validator has signed a block above a height.
    async fn signs(&self, node: usize, above: u64) -> Result<()> {
        let rpc = &self.net.nodes[node].rpc;
        let what = format!("validator {node} signs above height {above}");
        wait::until_ok(LOOK_EVERY * 4, &what, SIGNS, async || {
            let status = rpc.get("/sync_status").await?.ok()?;
            let signed = status["validator"]["last_signed_height"].as_u64();
            ensure!(signed > Some(above), "{status}");
            Ok(())
        })
        .await
    }

    /// What the chain knows of a validator.
    async fn candidate(&self, node: usize) -> Result<Value> {
        let answer = self.net.nodes[self.via].rpc.get("/rpc/validators").await?.ok()?;
        let key = self.key(node).to_string();
        let all = answer["candidates"].as_array().context("a list")?;
        let found = all.iter().find(|candidate| candidate["public_key"] == key.as_str());
        Ok(found.cloned().unwrap_or_default())
    }

    /// What every test ends with.
    async fn finish(mut self) -> Result<()> {
        for node in self.net.nodes.iter().filter(|node| node.process.pid().is_some()) {
            let report = verified(&self.net, &["--rpc", node.rpc.base()]).await;
            report.with_context(|| format!("RPC of validator {}", node.index))?;
        }
        self.net.stop_all().await?;
        for node in &self.net.nodes {
            let report = verified(&self.net, &["--database", &node.database_url]).await;
            let report = report.with_context(|| format!("database of validator {}", node.index))?;
            ensure!(report["from"] == 1 && report["certificates"].as_u64() > Some(0), "{report}");
        }
        // Reads the last votes.
        self.net.votes.check().await;
        self.history.check(&self.net.votes)?;
        self.net.finish().await
    }
}

/// Stakes for those who stay in genesis, and units for the fees of all.
fn make_hybrid(genesis: &mut Genesis, staking: Staking) {
    (genesis.mode, genesis.staking) = (Mode::Hybrid, staking);
    let addresses = genesis.validators.iter().map(|validator| validator.public_key.address());
    genesis.accounts.extend(addresses.map(|address| GenesisAccount { address, balance: FUNDS }));
    genesis.validators.truncate(MEMBERS);
    genesis.validators.iter_mut().for_each(|validator| validator.stake = STAKE);
}

async fn made_final(net: &Localnet, via: usize, signed: &SignedTransaction) -> Result<u64> {
    let status = net.nodes[via].rpc.send_final(signed, &net.chain).await;
    let status = status.with_context(|| format!("{:?}", signed.transaction.action))?;
    status["height"].as_u64().with_context(|| format!("no height in {status}"))
}
