//! An account that signs: its key and the nonce it uses next.

use crate::work::Duty;
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, SecretKey};
use aitbc_core::transaction::{Action, Payment, SignedTransaction, Transaction};

/// Least fee of the chains of the tests, in smallest units: what a transfer pays.
pub const FEE: u64 = 1;

/// A funded account.
pub struct Wallet {
    pub(crate) key: SecretKey,
    /// Of the next transaction.
    pub nonce: u64,
    /// What it signs where a load asks it.
    pub duty: Duty,
}

impl Wallet {
    /// At nonce 0.
    pub fn new(key: SecretKey) -> Wallet {
        Wallet { key, nonce: 0, duty: Duty::default() }
    }

    /// Its address.
    pub fn address(&self) -> Address {
        self.key.public().address()
    }

    /// Its key, for transactions that are wrong on purpose.
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// A transfer at the next nonce, which it uses up.
    pub fn transfer(&mut self, chain: &Hash, to: Address, amount: u64, expiry_height: u64) -> SignedTransaction {
        self.sign(chain, Action::Transfer(Payment { to, amount }), expiry_height)
    }

    /// Payments to many at the next nonce, which it uses up.
    pub fn pay_all(&mut self, chain: &Hash, to: &[Address], amount: u64, expiry_height: u64) -> SignedTransaction {
        let payments = to.iter().map(|to| Payment { to: *to, amount }).collect();
        self.sign(chain, Action::TransferMany { payments }, expiry_height)
    }

    /// Units of the faucet at the next nonce, which it uses up.
    pub fn ask_faucet(&mut self, chain: &Hash, amount: u64, expiry_height: u64) -> SignedTransaction {
        let to = self.address();
        self.sign(chain, Action::Faucet(Payment { to, amount }), expiry_height)
    }

    /// Whatever action at the next nonce, which it uses up.
    pub fn sign(&mut self, chain: &Hash, action: Action, expiry_height: u64) -> SignedTransaction {
        let nonce = self.nonce;
        self.nonce += 1;
        // A request to the faucet pays too: the ones that need not are in tests of their own.
        let fee = action.fee_units().max(1) * FEE;
        Transaction { sender: self.key.public(), nonce, fee, expiry_height, action }.sign(chain, &self.key)
    }
}
