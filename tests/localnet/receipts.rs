//! A receipt mints once however it is sent: to two validators in the same millisecond, written in another way, in two
//! transactions, twice, and after a restart of all.

use aitbc_core::hash::Hash;
use aitbc_core::json;
use aitbc_core::key::SecretKey;
use aitbc_core::receipt::AttestedReceipt;
use aitbc_core::transaction::{Action, SignedTransaction};
use aitbc_tests::localnet::{Database, Localnet, START_LIMIT, Shape, Wiring, run};
use aitbc_tests::rpc::Answer;
use aitbc_tests::seed::Seed;
use aitbc_tests::wait;
use aitbc_tests::work::{self, MINTED};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Until a transaction is final, or all nodes tell the same.
const LIMIT: Duration = Duration::from_secs(10);
/// Receipts sent to two validators at once in each of two ways: some of them within one millisecond, whatever else runs.
const ROUNDS: usize = 6;

/// A chain, a provider with receipts, and what was claimed so far.
struct Market {
    net: Localnet,
    provider: SecretKey,
    coordinator: SecretKey,
    minted: Vec<AttestedReceipt>,
}

#[test]
fn a_receipt_mints_once_however_often_wherever_and_in_whatever_form_it_is_sent() {
    run("receipts", async {
        let mut market = Market::start(Seed::of("receipts")).await?;
        market.one_transaction_to_two_validators_at_once().await?;
        market.two_transactions_to_two_validators_at_once().await?;
        market.written_in_another_way().await?;
        market.twice_in_one_request().await?;
        market.check().await?;
        market.net.stop_all().await?;
        market.net.start_all()?;
        market.net.wait_for_height(1, START_LIMIT).await?;
        market.all_again().await?;
        market.check().await?;
        market.net.finish().await
    });
}

/// What became of a transaction: its code once it is in a block, or why it left the pool.
fn code(status: &Value) -> String {
    status["code"].as_str().unwrap_or_default().to_owned()
}

impl Market {
    async fn start(seed: Seed) -> Result<Market> {
        let wiring = Wiring::Direct;
        let shape = Shape {
            validators: 4,
            database: Database::Both,
            seed,
            accounts: 8,
            parameters: Default::default(),
            wiring,
        };
        let net = Localnet::prepare_with(shape, |genesis| genesis.receipts = Some(work::terms(seed))).await?;
        let mut market =
            Market { net, provider: seed.key("provider", 0), coordinator: work::coordinator(seed), minted: Vec::new() };
        market.net.start_all()?;
        market.net.wait_for_height(1, START_LIMIT).await?;
        Ok(market)
    }

    /// A receipt that nobody has seen; it will have minted once.
    fn new_receipt(&mut self) -> Result<Box<AttestedReceipt>> {
        let id = format!("receipt {}", self.minted.len());
        let receipt = work::receipt(&self.net.chain, &self.provider, &self.coordinator, &id)?;
        self.minted.push((*receipt).clone());
        Ok(receipt)
    }

    /// A claim by one of the accounts.
    async fn claim(&mut self, account: usize, receipt: Box<AttestedReceipt>) -> Result<SignedTransaction> {
        let (chain, expiry) = (self.net.chain, self.net.expiry().await?);
        Ok(self.net.wallets[account].sign(&chain, Action::ClaimReceipt(receipt), expiry))
    }

    /// What a transaction came to, as each validator tells.
    async fn outcome(&self, id: Hash) -> Result<String> {
        let mut codes = Vec::new();
        for node in &self.net.nodes {
            let told = wait::until_ok(Duration::from_millis(20), "the transaction's end", LIMIT, async || {
                let status = node.rpc.status(id).await?;
                ensure!(status["height"].is_u64(), "{status}");
                Ok(code(&status))
            });
            codes.push(told.await.with_context(|| format!("validator {}", node.index))?);
        }
        ensure!(codes.iter().all(|other| *other == codes[0]), "{id}: {codes:?}");
        Ok(codes.swap_remove(0))
    }

    /// Two transactions, or one twice, go to two validators at once; whether within one millisecond.
    async fn at_once(&self, both: [&SignedTransaction; 2]) -> Result<bool> {
        let send = async |index: usize| -> Result<(u128, Answer)> {
            let sent = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
            Ok((sent, self.net.nodes[index].rpc.send(both[index], &self.net.chain, "").await?))
        };
        let (first, second) = tokio::join!(send(0), send(1));
        let ((first_at, first), (second_at, second)) = (first?, second?);
        for answer in [first, second] {
            // Whoever is second may know already that the nonce was used.
            ensure!(answer.status == 200 || answer.code() == "NONCE_TOO_LOW", "{answer:?}");
        }
        Ok(first_at == second_at)
    }

    async fn one_transaction_to_two_validators_at_once(&mut self) -> Result<()> {
        let mut within = 0;
        for _ in 0..ROUNDS {
            let receipt = self.new_receipt()?;
            let signed = self.claim(0, receipt).await?;
            within += usize::from(self.at_once([&signed; 2]).await?);
            let code = self.outcome(signed.id(&self.net.chain)).await?;
            ensure!(code == "OK", "{code}");
        }
        ensure!(within > 0, "never within one millisecond");
        Ok(())
    }

    async fn two_transactions_to_two_validators_at_once(&mut self) -> Result<()> {
        let mut within = 0;
        for _ in 0..ROUNDS {
            let receipt = self.new_receipt()?;
            let both = [self.claim(1, receipt.clone()).await?, self.claim(2, receipt).await?];
            within += usize::from(self.at_once([&both[0], &both[1]]).await?);
            let mut codes = Vec::new();
            for signed in &both {
                codes.push(self.outcome(signed.id(&self.net.chain)).await?);
            }
            codes.sort();
            ensure!(codes == ["OK", "RECEIPT_CLAIMED"], "{codes:?}");
        }
        ensure!(within > 0, "never within one millisecond");
        Ok(())
    }

    /// The same receipt with spaces, escapes, nulls and hexadecimal signatures, in a transaction of another sender.
    async fn written_in_another_way(&mut self) -> Result<()> {
        let receipt = self.new_receipt()?;
        let plain = self.claim(3, receipt.clone()).await?;
        let other = self.claim(4, receipt.clone()).await?;
        let mut value = json::to_value(&other, &self.net.chain);
        let signed = &mut value["payload"]["receipt"]["signature"]["sig"];
        ensure!(signed.is_string(), "no signature in {value}");
        *signed = json!(hex::encode(receipt.signature.0));
        let text = value.to_string().replace(',', " ,\n\t").replace("\"units\"", "\"model\": null, \"\\u0075nits\"");
        let sent = async |index: usize, body: String| {
            let answer =
                self.net.nodes[index].rpc.request("POST", "/rpc/send_tx", "application/json", body.into()).await;
            answer?.ok()
        };
        let plain_text = json::to_value(&plain, &self.net.chain).to_string();
        let (first, second) = tokio::join!(sent(2, plain_text), sent(3, text));
        ensure!(second?["tx_hash"] == other.id(&self.net.chain).to_string(), "another transaction was read");
        first?;
        let mut codes =
            [self.outcome(plain.id(&self.net.chain)).await?, self.outcome(other.id(&self.net.chain)).await?];
        codes.sort();
        ensure!(codes == ["OK", "RECEIPT_CLAIMED"], "{codes:?}");
        Ok(())
    }

    /// One sender, two nonces, one batch; then the first of them once more.
    async fn twice_in_one_request(&mut self) -> Result<()> {
        let receipt = self.new_receipt()?;
        let both = [self.claim(5, receipt.clone()).await?, self.claim(5, receipt).await?];
        self.net.nodes[0].rpc.send_many(&both).await?;
        let mut codes = Vec::new();
        for signed in &both {
            codes.push(self.outcome(signed.id(&self.net.chain)).await?);
        }
        ensure!(codes == ["OK", "RECEIPT_CLAIMED"], "{codes:?}");
        for node in &self.net.nodes {
            let again = node.rpc.send(&both[0], &self.net.chain, "?wait=final").await?;
            ensure!(again.code() == "NONCE_TOO_LOW" || code(&again.body) == "OK", "{again:?}");
        }
        Ok(())
    }

    /// Each receipt in a new transaction, to each validator in turn.
    async fn all_again(&mut self) -> Result<()> {
        let mut sent = Vec::new();
        for (number, receipt) in self.minted.clone().into_iter().enumerate() {
            let signed = self.claim(6, Box::new(receipt)).await?;
            let node = &self.net.nodes[number % self.net.nodes.len()];
            let status = node.rpc.send(&signed, &self.net.chain, "?wait=final").await?.ok()?;
            ensure!(code(&status) == "RECEIPT_CLAIMED", "{status}");
            sent.push(signed);
        }
        ensure!(sent.len() == self.minted.len() && !sent.is_empty());
        Ok(())
    }

    /// What all of it came to: every validator tells the same, to the unit.
    async fn check(&self) -> Result<()> {
        let height = self.net.height().await?;
        self.net.wait_for_height(height, LIMIT).await?;
        let minted = MINTED * self.minted.len() as u64;
        for node in &self.net.nodes {
            let supply = node.rpc.get("/rpc/supply").await?.ok()?;
            ensure!(supply["minted"] == minted, "validator {}: {minted} expected: {supply}", node.index);
            let (provider, coordinator) = (self.provider.public().address(), self.coordinator.public().address());
            let earned = node.rpc.balance(provider).await?.0 + node.rpc.balance(coordinator).await?.0;
            ensure!(earned == minted, "validator {}: {earned} earned, {minted} minted", node.index);
            let mut expected: Vec<&str> = self.minted.iter().map(|one| one.receipt.receipt_id.as_str()).collect();
            expected.sort_unstable();
            // Rows are there a moment after the block is final.
            wait::until_ok(Duration::from_millis(50), "the list of receipts", LIMIT, || async {
                let listed = node.rpc.get(&format!("/rpc/receipts?provider={provider}&limit=100")).await?.ok()?;
                let ids = listed["receipts"].as_array().context("a list")?.iter().map(|one| one["receipt_id"].as_str());
                let mut ids: Vec<&str> = ids.map(Option::unwrap_or_default).collect();
                ids.sort_unstable();
                ensure!(ids == expected, "validator {}: {ids:?}", node.index);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}
