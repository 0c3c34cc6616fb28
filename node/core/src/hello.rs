//! Who a validator says it is on one channel, signed with its consensus key (protocol.md F8).

use crate::hash::{Hash, sign_prefix};
use crate::key::{PublicKey, SecretKey, Signature};
use borsh::{BorshDeserialize, BorshSerialize};

/// Prefix of a Hello's sign bytes.
const PREFIX: [u8; 16] = sign_prefix("aitbc/hello/v1");

/// Which end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Role {
    /// Opened the TCP connection.
    Dialer = 1,
    /// Accepted it.
    Listener = 2,
}

impl Role {
    /// The other end.
    pub fn other(self) -> Role {
        match self {
            Role::Dialer => Role::Listener,
            Role::Listener => Role::Dialer,
        }
    }
}

/// Who a node says it is, signed for one channel.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Hello {
    /// Genesis hash.
    pub chain: Hash,
    /// Protocol version of the sender.
    pub protocol: u16,
    /// Consensus key.
    pub key: PublicKey,
    /// Lease generation: counts the starts of this validator on its database.
    pub generation: u32,
    /// Noise handshake hash of the channel.
    pub binding: Hash,
    /// By `key`, over [`Hello::sign_bytes`].
    pub signature: Signature,
}

impl Hello {
    /// Signs in the name of `key`; what `signature` holds is replaced.
    pub fn signed(mut self, role: Role, key: &SecretKey) -> Hello {
        self.signature = key.sign(&self.sign_bytes(role));
        self
    }

    /// Bytes under the signature, 119:
    /// pad16(`aitbc/hello/v1`) ‖ `chain[32]` ‖ `handshake hash[32]` ‖ role u8 (1 dialer, 2 listener) ‖ protocol u16le ‖
    /// generation u32le ‖ `key[32]`.
    pub fn sign_bytes(&self, role: Role) -> [u8; 119] {
        let mut out = [0; 119];
        out[..16].copy_from_slice(&PREFIX);
        out[16..48].copy_from_slice(&self.chain.0);
        out[48..80].copy_from_slice(&self.binding.0);
        out[80] = role as u8;
        out[81..83].copy_from_slice(&self.protocol.to_le_bytes());
        out[83..87].copy_from_slice(&self.generation.to_le_bytes());
        out[87..].copy_from_slice(&self.key.0);
        out
    }
}

/// A Hello as one end heard it, to be shown to its signer later (A2).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Heard {
    /// The signer's end of that channel.
    pub role: Role,
    /// What it said.
    pub hello: Hello,
}
