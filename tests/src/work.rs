//! Load beside transfers: receipts of work that mint, and stakes that grow; and a genesis on whose chain both take effect.

use crate::localnet::Localnet;
use crate::seed::Seed;
use crate::wallet::Wallet;
use aitbc_core::genesis::{Genesis, Mode, Staking};
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, SecretKey};
use aitbc_core::params::MAX_SUPPLY;
use aitbc_core::receipt::{AttestedReceipt, Name, Receipt, Text};
use aitbc_core::staking::MAX_CANDIDATES;
use aitbc_core::terms::{Coordinator, Terms};
use aitbc_core::transaction::{Action, SignedTransaction, Stake};
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Smallest units that each receipt mints.
pub const MINTED: u64 = UNITS * MINT_PER_UNIT;
/// Units of work of a receipt.
const UNITS: u64 = 3;
/// What each of them mints.
const MINT_PER_UNIT: u64 = 10;
/// Smallest units of each bond.
pub const BOND: u64 = 1;
/// At stake of each validator of genesis: far more than anybody bonds, so that no other gets into the set.
const STAKE: u64 = 10_000_000;
/// Receipts that each sender that claims has before the load begins: more than it claims in half a minute.
const ATTESTED: usize = 256;
/// Senders that are made ready to bond at a time.
const ACTIVATED_AT_ONCE: usize = 64;

/// What a wallet signs when a load asks it for a transaction.
#[derive(Clone, Default)]
pub enum Duty {
    /// A transfer of one unit.
    #[default]
    Transfers,
    /// A receipt of its own work, attested by the coordinator, which it claims itself.
    Claims(Claims),
    /// One unit more at stake of its own key.
    Bonds,
}

/// Receipts of one provider. Its signature and the coordinator's are of machines that are not measured, so they are made before a load
/// begins; once those are used up, when they are asked for.
#[derive(Clone)]
pub struct Claims {
    coordinator: Arc<SecretKey>,
    attested: VecDeque<Box<AttestedReceipt>>,
    made: u64,
}

impl Claims {
    /// None yet.
    pub fn new(coordinator: Arc<SecretKey>) -> Claims {
        Claims { coordinator, attested: VecDeque::new(), made: 0 }
    }

    /// Makes some ahead.
    ///
    /// # Errors
    /// As [`receipt`].
    pub fn attest(&mut self, chain: &Hash, provider: &SecretKey, count: usize) -> Result<()> {
        for _ in 0..count {
            self.made += 1;
            self.attested.push_back(receipt(chain, provider, &self.coordinator, &self.made.to_string())?);
        }
        Ok(())
    }

    fn next(&mut self, chain: &Hash, provider: &SecretKey) -> Result<Box<AttestedReceipt>> {
        if self.attested.is_empty() {
            self.attest(chain, provider, 1)?;
        }
        self.attested.pop_front().context("a receipt was made")
    }
}

/// The key that attests all receipts of a chain.
pub fn coordinator(seed: Seed) -> SecretKey {
    seed.key("coordinator", 0)
}

/// Terms on which receipts of that coordinator mint, without caps.
pub fn terms(seed: Seed) -> Terms {
    Terms {
        mint_per_unit: MINT_PER_UNIT,
        coordinator_parts_per_million: 100_000,
        coordinators: vec![Coordinator { public_key: coordinator(seed).public() }],
        coordinator_threshold: 1,
        epoch_cap: MAX_SUPPLY,
        provider_epoch_cap: MAX_SUPPLY,
        expiry_seconds: 604_800,
    }
}

/// Receipts mint, and stakes decide who validates: for ever those of genesis, as no others fit into the set.
pub fn allow(genesis: &mut Genesis, seed: Seed) {
    let validators = genesis.validators.len() as u16;
    genesis.mode = Mode::Pos;
    genesis.receipts = Some(terms(seed));
    genesis.staking = Staking { min_stake: 1, unit: 1, max_validators: validators, ..Staking::default() };
    genesis.validators.iter_mut().for_each(|validator| validator.stake = STAKE);
}

/// A receipt of work that was done just now, signed and attested.
pub fn receipt(chain: &Hash, provider: &SecretKey, coordinator: &SecretKey, id: &str) -> Result<Box<AttestedReceipt>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let name = |text: &str| Name::new(text).context("a name");
    let unit_type = Text::new("gpu_seconds").context("a text")?;
    let receipt = Receipt::required(
        (name(id)?, name("job")?),
        provider.public(),
        Address([7; 20]),
        (UNITS, unit_type),
        (now.saturating_sub(UNITS), now),
    );
    Ok(Box::new(receipt.attest(chain, provider, &[coordinator])))
}

impl Wallet {
    /// What its duty is, at the next nonce, which it uses up; a transfer goes to `to`.
    ///
    /// # Errors
    /// Where the clock of this machine is before 1970.
    pub fn work(&mut self, chain: &Hash, to: Address, expiry_height: u64) -> Result<SignedTransaction> {
        let action = match &mut self.duty {
            Duty::Transfers => return Ok(self.transfer(chain, to, 1, expiry_height)),
            Duty::Claims(claims) => Action::ClaimReceipt(claims.next(chain, &self.key)?),
            Duty::Bonds => Action::Bond(Stake { validator: self.key.public(), amount: BOND }),
        };
        Ok(self.sign(chain, action, expiry_height))
    }
}

/// Of every hundred senders the first `percent` claim and bond, half of them each, so that of a load to which all contribute alike
/// as many transactions do. Those that claim have receipts, those that bond are made ready to: their keys are activated.
///
/// # Errors
/// Where the clock is before 1970, that does not become final, or there are more of them than the chain keeps candidates.
pub async fn assign(net: &Localnet, senders: &mut [Wallet], percent: usize) -> Result<()> {
    let coordinator = Arc::new(coordinator(net.seed()));
    for (number, sender) in senders.iter_mut().enumerate() {
        sender.duty = match number % 100 {
            place if place < percent / 2 => {
                let mut claims = Claims::new(coordinator.clone());
                claims.attest(&net.chain, sender.key(), ATTESTED)?;
                Duty::Claims(claims)
            }
            place if place < percent => Duty::Bonds,
            _ => Duty::Transfers,
        };
    }
    let mut bonding: Vec<&mut Wallet> = senders.iter_mut().filter(|s| matches!(s.duty, Duty::Bonds)).collect();
    let most = MAX_CANDIDATES - net.genesis.validators.len();
    ensure!(bonding.len() <= most, "{} senders would bond, {most} can: take fewer senders", bonding.len());
    let expiry = net.expiry().await?;
    for group in bonding.chunks_mut(ACTIVATED_AT_ONCE) {
        let signed: Vec<SignedTransaction> = group
            .iter_mut()
            .map(|wallet| {
                let owner = wallet.address();
                wallet.sign(&net.chain, Action::Activate { owner }, expiry)
            })
            .collect();
        try_join_all(signed.iter().map(|signed| net.nodes[0].rpc.send_final(signed, &net.chain))).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_transaction_of_a_duty_is_another_one() {
        let (chain, seed) = (aitbc_core::hash::plain(b"chain"), Seed(1));
        let mut claims = Claims::new(Arc::new(coordinator(seed)));
        claims.attest(&chain, &seed.key("account", 0), 2).expect("attested");
        for duty in [Duty::Transfers, Duty::Claims(claims), Duty::Bonds] {
            let mut wallet = Wallet::new(seed.key("account", 0));
            wallet.duty = duty;
            let ids = [0; 3].map(|_| wallet.work(&chain, Address([1; 20]), 9).expect("signed").id(&chain));
            assert!(ids[0] != ids[1] && ids[1] != ids[2] && wallet.nonce == 3);
        }
    }
}
