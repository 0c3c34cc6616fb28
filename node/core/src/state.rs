//! Accounts and records as a persistent Merkle trie: forks by clone, a root over everything, proofs of what is there and
//! what is not.
//!
//! A crit-bit trie over `key = H(state-key: address)` with its first bit cleared, or `H(record-key: borsh(record key))` with that bit set: a
//! branch stands where keys differ first, so there are exactly `len − 1` branches and no chains of single children.
//! Accounts, of which each transaction changes some, are neighbours by that: their paths do not grow with the records, most of which are
//! written once, and the changes of a block share more of them.
//!
//! ```text
//! leaf   = H(state-leaf: borsh(address, account))        address [20] | balance u64 | nonce u64
//!        | H(record: borsh(record key) ‖ borsh(record))  see `record`
//! branch = H(state-node: bit u8 ‖ left[32] ‖ right[32])  bit counted from the first byte's highest
//! root   = hash of the top node, zero for an empty state
//! ```
//!
//! Why a path with bits proves absence too: a lookup follows the key's own bit at each branch and so reaches the only
//! leaf where the key could be. A branch's hash commits to its bit, so the verifier walks the same way; if that leaf
//! holds another address or record key, the key is not in the trie. Nothing has to be known of the prefixes in between,
//! nor which of the two kinds that leaf is.
//!
//! Depth is at most 256, the bits of a key, so recursion is bounded.

pub mod chunk;

use crate::codec;
use crate::hash::{Domain, Hash, hash};
use crate::key::Address;
use crate::record::{Record, RecordChange, RecordKey};
use borsh::{BorshDeserialize, BorshSerialize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock};

/// Bits of a key: the longest path.
const MAX_DEPTH: usize = 256;

/// What an address owns. One with neither balance nor nonce is the same as no account.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
    JsonSchema,
)]
pub struct Account {
    /// Smallest units, at most [`MAX_SUPPLY`](crate::params::MAX_SUPPLY).
    pub balance: u64,
    /// Number of its transactions that had an effect: the nonce of its next one.
    pub nonce: u64,
}

impl Account {
    /// True for the account of an address that was never used.
    pub fn is_empty(&self) -> bool {
        *self == Account::default()
    }
}

/// First bit of a record's key; an account's has it clear.
const RECORDS: u8 = 0x80;

/// Place of an address in the trie.
pub(crate) fn key_of(address: &Address) -> Hash {
    let mut key = hash(Domain::StateKey, &[&address.0]);
    key.0[0] &= !RECORDS;
    key
}

fn bit(key: &Hash, at: u8) -> bool {
    key.0[usize::from(at) / 8] & (0x80 >> (at % 8)) != 0
}

/// First bit in which two keys differ; `None` for equal ones.
fn first_difference(a: &Hash, b: &Hash) -> Option<u8> {
    let byte = a.0.iter().zip(&b.0).position(|(x, y)| x != y)?;
    let within = (a.0[byte] ^ b.0[byte]).leading_zeros();
    u8::try_from(byte * 8 + within as usize).ok()
}

fn leaf_hash(address: &Address, account: &Account) -> Hash {
    hash(Domain::StateLeaf, &[&address.0, &account.balance.to_le_bytes(), &account.nonce.to_le_bytes()])
}

fn branch_hash(bit: u8, left: &Hash, right: &Hash) -> Hash {
    hash(Domain::StateNode, &[&[bit], &left.0, &right.0])
}

fn record_key_of(key: &RecordKey) -> Hash {
    let mut key = hash(Domain::RecordKey, &[&codec::encode(key)]);
    key.0[0] |= RECORDS;
    key
}

fn record_hash(key: &RecordKey, record: &Record) -> Hash {
    hash(Domain::Record, &[&codec::encode(key), &codec::encode(record)])
}

/// What stands in a leaf, or takes its place.
#[derive(Clone, PartialEq)]
enum Item {
    Account(Address, Account),
    /// Shared by the versions of the state that have it; `None` never stands in a leaf.
    Record(Arc<RecordChange>),
}

/// An item to set, with its key.
type Change = (Hash, Item);

impl Item {
    fn record(key: RecordKey, record: Option<Record>) -> Item {
        Item::Record(Arc::new((key, record)))
    }

    /// Place in the trie.
    fn key(&self) -> Hash {
        match self {
            Item::Account(address, _) => key_of(address),
            Item::Record(record) => record_key_of(&record.0),
        }
    }

    /// True for one that only says what is gone.
    fn is_nothing(&self) -> bool {
        match self {
            Item::Account(_, account) => account.is_empty(),
            Item::Record(record) => record.1.is_none(),
        }
    }

    /// True iff both are of one address or record key.
    fn is_of(&self, other: &Item) -> bool {
        match (self, other) {
            (Item::Account(a, _), Item::Account(b, _)) => a == b,
            (Item::Record(a), Item::Record(b)) => a.0 == b.0,
            _ => false,
        }
    }

    /// What says that it is gone.
    fn gone(&self) -> Item {
        match self {
            Item::Account(address, _) => Item::Account(*address, Account::default()),
            Item::Record(record) => Item::record(record.0.clone(), None),
        }
    }

    fn hash(&self) -> Hash {
        match self {
            Item::Account(address, account) => leaf_hash(address, account),
            Item::Record(record) => record.1.as_ref().map_or(Hash::ZERO, |value| record_hash(&record.0, value)),
        }
    }
}

#[derive(Clone)]
struct Leaf {
    item: Item,
    hash: OnceLock<Hash>,
}

#[derive(Clone)]
struct Branch {
    /// Where the keys below differ first: left has 0 there, right 1.
    bit: u8,
    left: Node,
    right: Node,
    hash: OnceLock<Hash>,
}

#[derive(Clone)]
enum Node {
    Leaf(Arc<Leaf>),
    Branch(Arc<Branch>),
}

impl Branch {
    fn child(&self, key: &Hash) -> &Node {
        if bit(key, self.bit) { &self.right } else { &self.left }
    }

    fn sibling(&self, key: &Hash) -> &Node {
        if bit(key, self.bit) { &self.left } else { &self.right }
    }

    fn child_mut(&mut self, key: &Hash) -> &mut Node {
        if bit(key, self.bit) { &mut self.right } else { &mut self.left }
    }
}

impl Node {
    fn leaf(item: Item) -> Node {
        Node::Leaf(Arc::new(Leaf { item, hash: OnceLock::new() }))
    }

    fn branch(bit: u8, left: Node, right: Node) -> Node {
        Node::Branch(Arc::new(Branch { bit, left, right, hash: OnceLock::new() }))
    }

    /// Where the keys below differ first; `None`: there is one.
    fn bit(&self) -> Option<u8> {
        match self {
            Node::Leaf(_) => None,
            Node::Branch(branch) => Some(branch.bit),
        }
    }

    /// What is on one side of a bit by which this node divides, or all of it.
    fn side(&self, at: u8, right: bool) -> &Node {
        match self {
            Node::Branch(branch) if branch.bit == at => {
                if right {
                    &branch.right
                } else {
                    &branch.left
                }
            }
            _ => self,
        }
    }

    /// The item of the least key.
    fn first(&self) -> &Item {
        let mut node = self;
        loop {
            match node {
                Node::Leaf(leaf) => return &leaf.item,
                Node::Branch(branch) => node = &branch.left,
            }
        }
    }

    /// Hash of the node, computed once.
    fn hash(&self) -> Hash {
        match self {
            Node::Leaf(leaf) => *leaf.hash.get_or_init(|| leaf.item.hash()),
            Node::Branch(branch) => {
                *branch.hash.get_or_init(|| branch_hash(branch.bit, &branch.left.hash(), &branch.right.hash()))
            }
        }
    }

    /// The only leaf where `key` could be.
    fn find(&self, key: &Hash) -> &Leaf {
        let mut node = self;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf,
                Node::Branch(branch) => node = branch.child(key),
            }
        }
    }

    /// Puts a new item in place of the one that the trie holds at `key`.
    fn replace(&mut self, key: &Hash, item: Item) {
        let mut node = self;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let leaf = Arc::make_mut(leaf);
                    leaf.item = item;
                    leaf.hash = OnceLock::new();
                    return;
                }
                Node::Branch(branch) => {
                    let branch = Arc::make_mut(branch);
                    branch.hash = OnceLock::new();
                    node = branch.child_mut(key);
                }
            }
        }
    }

    /// Puts an item where its key belongs: in place of the one that is there, or as a new leaf. Says how many leaves that
    /// adds; `None`, and nothing is done, where the key leaves the path by bit `above`, by which this node's parent divides.
    fn put(&mut self, above: Option<u8>, (key, item): &Change) -> Option<usize> {
        let near = &self.find(key).item;
        if near.is_of(item) {
            if near != item {
                self.replace(key, item.clone());
            }
            return Some(0);
        }
        // Two addresses with one key would be a collision of the hash: the second is not put anywhere.
        let at = first_difference(key, &near.key()).filter(|at| Some(*at) > above)?;
        self.insert(key, at, Node::leaf(item.clone()));
        Some(1)
    }

    /// Puts those of `changes`, sorted by key, that replace a leaf below this node or stand beside one, and says how many leaves
    /// that adds. Each branch on the way is copied and walked once. What is elsewhere, or has to go, is left over.
    fn update(&mut self, above: Option<u8>, changes: &[Change], left_over: &mut Vec<Change>) -> usize {
        let mut added = 0;
        match self {
            // It becomes a branch with the first new one.
            Node::Leaf(_) => {
                for change in changes {
                    let put = if change.1.is_nothing() { None } else { self.put(above, change) };
                    match put {
                        Some(more) => added += more,
                        None => left_over.push(change.clone()),
                    }
                }
            }
            Node::Branch(branch) => {
                // Keys that are not in the trie may differ before this bit and come to the wrong side: they, or those that
                // they draw along, are left over, never lost.
                let middle = changes.partition_point(|(key, _)| !bit(key, branch.bit));
                let branch = Arc::make_mut(branch);
                branch.hash = OnceLock::new();
                let above = Some(branch.bit);
                for (child, part) in [(&mut branch.left, &changes[..middle]), (&mut branch.right, &changes[middle..])] {
                    if !part.is_empty() {
                        added += child.update(above, part, left_over);
                    }
                }
            }
        }
        added
    }

    /// Adds a leaf whose key differs from all below this node first at bit `at`, or below a branch that stands before `at`.
    fn insert(&mut self, key: &Hash, at: u8, leaf: Node) {
        let mut node = self;
        while matches!(node, Node::Branch(branch) if branch.bit < at) {
            let Node::Branch(branch) = node else { return };
            let branch = Arc::make_mut(branch);
            branch.hash = OnceLock::new();
            node = branch.child_mut(key);
        }
        let old = node.clone();
        let (left, right) = if bit(key, at) { (old, leaf) } else { (leaf, old) };
        *node = Node::branch(at, left, right);
    }

    /// Takes out the leaf at `key`, which is below this branch: its sibling takes the parent's place.
    fn remove(&mut self, key: &Hash) {
        let mut node = self;
        while matches!(node, Node::Branch(branch) if matches!(branch.child(key), Node::Branch(_))) {
            let Node::Branch(branch) = node else { return };
            let branch = Arc::make_mut(branch);
            branch.hash = OnceLock::new();
            node = branch.child_mut(key);
        }
        if let Node::Branch(parent) = node {
            *node = parent.sibling(key).clone();
        }
    }

    /// The trie of sorted, distinct keys, bottom up; `items` is not empty.
    fn build(items: &[Change]) -> Node {
        let (first, last) = (&items[0], &items[items.len() - 1]);
        match first_difference(&first.0, &last.0) {
            None => Node::leaf(first.1.clone()),
            Some(at) => {
                let middle = items.partition_point(|(key, _)| !bit(key, at));
                Node::branch(at, Node::build(&items[..middle]), Node::build(&items[middle..]))
            }
        }
    }
}

/// All accounts and records at one point of the chain. `Clone` costs nothing; clones share what neither has changed since.
#[derive(Clone, Default)]
pub struct State {
    top: Option<Node>,
    len: usize,
}

impl State {
    /// Nothing.
    pub fn empty() -> State {
        State::default()
    }

    /// The state of many accounts at once, without records; of an address that stands twice, the last counts.
    pub fn from_accounts(accounts: impl IntoIterator<Item = (Address, Account)>) -> State {
        State::from_parts(accounts, [])
    }

    /// The state of many accounts and records at once; of an address or record key that stands twice, the last counts.
    pub fn from_parts(
        accounts: impl IntoIterator<Item = (Address, Account)>,
        records: impl IntoIterator<Item = (RecordKey, Record)>,
    ) -> State {
        let accounts = accounts.into_iter().map(|(a, account)| (key_of(&a), Item::Account(a, account)));
        let records = records.into_iter().map(|(k, record)| (record_key_of(&k), Item::record(k, Some(record))));
        State::from_items(accounts.chain(records).collect())
    }

    fn from_items(mut items: Vec<Change>) -> State {
        // Stable, reversed: of equal keys the last given stands first and survives.
        items.reverse();
        items.sort_by_key(|item| item.0);
        items.dedup_by_key(|item| item.0);
        items.retain(|item| !item.1.is_nothing());
        let top = (!items.is_empty()).then(|| Node::build(&items));
        State { top, len: items.len() }
    }

    /// Number of accounts that are not empty, and of records.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True where there is neither account nor record.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The account of an address; `None` if it was never used or is empty.
    pub fn get(&self, address: &Address) -> Option<Account> {
        self.get_at(&key_of(address), address)
    }

    /// As [`Self::get`], for who knows the [`key_of`] the address.
    pub(crate) fn get_at(&self, key: &Hash, address: &Address) -> Option<Account> {
        match self.top.as_ref()?.find(key).item {
            Item::Account(found, account) if found == *address => Some(account),
            _ => None,
        }
    }

    /// The account of an address, empty where there is none.
    pub fn account(&self, address: &Address) -> Account {
        self.get(address).unwrap_or_default()
    }

    /// The record under a key.
    pub fn record(&self, key: &RecordKey) -> Option<&Record> {
        match &self.top.as_ref()?.find(&record_key_of(key)).item {
            Item::Record(found) if found.0 == *key => found.1.as_ref(),
            _ => None,
        }
    }

    /// Sets an account; an empty one is removed, so that the root says only what is there.
    pub fn set(&mut self, address: Address, account: Account) {
        self.put(&(key_of(&address), Item::Account(address, account)));
    }

    /// Sets a record, or removes it.
    pub fn set_record(&mut self, key: RecordKey, record: Option<Record>) {
        self.put(&(record_key_of(&key), Item::record(key, record)));
    }

    fn put(&mut self, change: &Change) {
        let (key, item) = change;
        match &mut self.top {
            None if item.is_nothing() => {}
            None => (self.top, self.len) = (Some(Node::leaf(item.clone())), 1),
            Some(top) if !item.is_nothing() => self.len += top.put(None, change).unwrap_or_default(),
            Some(top) if !top.find(key).item.is_of(item) => {}
            Some(_) if self.len == 1 => (self.top, self.len) = (None, 0),
            Some(top) => {
                top.remove(key);
                self.len -= 1;
            }
        }
    }

    /// Sets many accounts, each address once, in less time than one by one.
    pub fn set_many(&mut self, accounts: &[(Address, Account)]) {
        self.set_many_at(accounts.iter().map(|(a, account)| (key_of(a), *a, *account)));
    }

    /// As [`Self::set_many`], for who knows the [`key_of`] each address.
    pub(crate) fn set_many_at(&mut self, accounts: impl Iterator<Item = (Hash, Address, Account)>) {
        self.put_many(accounts.map(|(key, a, account)| (key, Item::Account(a, account))).collect());
    }

    /// Sets or removes many records, each key once, in less time than one by one.
    pub fn set_records(&mut self, records: &[RecordChange]) {
        let item = |(key, record): &RecordChange| Item::record(key.clone(), record.clone());
        self.put_many(records.iter().map(item).map(|item| (item.key(), item)).collect());
    }

    fn put_many(&mut self, mut changes: Vec<Change>) {
        changes.sort_unstable_by_key(|change| change.0);
        let mut left_over = Vec::new();
        match &mut self.top {
            Some(top) if !changes.is_empty() => self.len += top.update(None, &changes, &mut left_over),
            _ => left_over = changes,
        }
        for change in &left_over {
            self.put(change);
        }
    }

    /// Removes an account.
    pub fn remove(&mut self, address: &Address) {
        self.set(*address, Account::default());
    }

    /// Hash over everything, independent of the order in which it came; hashes only what changed since the last call.
    pub fn root(&self) -> Hash {
        self.top.as_ref().map_or(Hash::ZERO, Node::hash)
    }

    /// All accounts, by ascending key, which is no order people know.
    pub fn iter(&self) -> impl Iterator<Item = (Address, Account)> + '_ {
        self.items().filter_map(|item| match item {
            Item::Account(address, account) => Some((*address, *account)),
            Item::Record(_) => None,
        })
    }

    /// All records, in an order people do not know either. Walks over the accounts too.
    pub fn records(&self) -> impl Iterator<Item = (&RecordKey, &Record)> {
        self.items().filter_map(|item| match item {
            Item::Account(..) => None,
            Item::Record(record) => record.1.as_ref().map(|value| (&record.0, value)),
        })
    }

    /// What makes `other` of this state: accounts, those that are gone empty, and records. It passes by what both share, so of
    /// states a block apart it costs what that block changed.
    pub fn changes_to(&self, other: &State) -> (Vec<(Address, Account)>, Vec<RecordChange>) {
        let (mut changes, mut accounts, mut records) = (Vec::new(), Vec::new(), Vec::new());
        differences(self.top.as_ref(), other.top.as_ref(), &mut changes);
        for item in changes {
            match item {
                Item::Account(address, account) => accounts.push((address, account)),
                Item::Record(record) => records.push((*record).clone()),
            }
        }
        (accounts, records)
    }

    fn items(&self) -> impl Iterator<Item = &Item> {
        let mut stack: Vec<&Node> = self.top.iter().collect();
        std::iter::from_fn(move || {
            loop {
                match stack.pop()? {
                    Node::Leaf(leaf) => return Some(&leaf.item),
                    Node::Branch(branch) => stack.extend([&branch.right, &branch.left]),
                }
            }
        })
    }

    /// Proof of the account of `address`, or that there is none (L3).
    pub fn prove(&self, address: &Address) -> AccountProof {
        let (leaf, path) = self.walk(&key_of(address));
        AccountProof { address: *address, leaf, path }
    }

    /// Proof of the record under `key`, or that there is none (L3).
    pub fn prove_record(&self, key: &RecordKey) -> RecordProof {
        let (leaf, path) = self.walk(&record_key_of(key));
        RecordProof { key: key.clone(), leaf, path }
    }

    /// The leaf where a lookup of `key` ends, and the branches on its way.
    fn walk(&self, key: &Hash) -> (Option<ProvenLeaf>, Vec<Step>) {
        let mut path = Vec::new();
        let Some(mut node) = self.top.as_ref() else { return (None, path) };
        loop {
            match node {
                Node::Leaf(leaf) => return (ProvenLeaf::of(&leaf.item), path),
                Node::Branch(branch) => {
                    path.push(Step { bit: branch.bit, sibling: branch.sibling(key).hash() });
                    node = branch.child(key);
                }
            }
        }
    }
}

/// What makes the leaves below `to` of those below `from`. A key that is below both takes the same way in both.
fn differences(from: Option<&Node>, to: Option<&Node>, changes: &mut Vec<Item>) {
    match (from, to) {
        (None, None) => {}
        (Some(a), Some(b)) if a.hash() == b.hash() => {}
        (Some(Node::Leaf(a)), Some(Node::Leaf(b))) if b.item.is_of(&a.item) => changes.push(b.item.clone()),
        (Some(Node::Leaf(a)), None) => changes.push(a.item.gone()),
        (None, Some(Node::Leaf(b))) => changes.push(b.item.clone()),
        (Some(Node::Leaf(_)), Some(Node::Leaf(_))) => {
            differences(from, None, changes);
            differences(None, to, changes);
        }
        _ => {
            // The first bit by which either divides; what divides later, or not at all, is all on one side of it.
            let at = [from, to].into_iter().flatten().filter_map(Node::bit).min().unwrap_or(u8::MAX);
            for side in [false, true] {
                let below = |node: &Node| node.bit() == Some(at) || bit(&node.first().key(), at) == side;
                let [from, to] = [from, to].map(|node| node.filter(|node| below(node)).map(|node| node.side(at, side)));
                differences(from, to, changes);
            }
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("len", &self.len).field("root", &self.root()).finish()
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.root() == other.root()
    }
}

impl Eq for State {}

/// One branch on the way from the root to the leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Bit of the key by which the branch divides, 0 is the first byte's highest.
    pub bit: u8,
    /// Hash of the child that is not on the way.
    pub sibling: Hash,
}

/// The leaf where a lookup ends: of what was asked for, or the neighbour that shows it is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum ProvenLeaf {
    /// An account.
    Account {
        /// Whose it is.
        address: Address,
        /// The account.
        account: Account,
    },
    /// A record.
    Record {
        /// Its key.
        key: RecordKey,
        /// The record.
        record: Record,
    },
}

impl ProvenLeaf {
    fn of(item: &Item) -> Option<ProvenLeaf> {
        match item {
            Item::Account(address, account) => Some(ProvenLeaf::Account { address: *address, account: *account }),
            Item::Record(found) => {
                let record = found.1.clone()?;
                Some(ProvenLeaf::Record { key: found.0.clone(), record })
            }
        }
    }

    /// Place in the trie.
    fn key(&self) -> Hash {
        match self {
            ProvenLeaf::Account { address, .. } => key_of(address),
            ProvenLeaf::Record { key, .. } => record_key_of(key),
        }
    }

    fn hash(&self) -> Hash {
        match self {
            ProvenLeaf::Account { address, account } => leaf_hash(address, account),
            ProvenLeaf::Record { key, record } => record_hash(key, record),
        }
    }

    fn item(self) -> Item {
        match self {
            ProvenLeaf::Account { address, account } => Item::Account(address, account),
            ProvenLeaf::Record { key, record } => Item::record(key, Some(record)),
        }
    }
}

/// What a state root says of one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountProof {
    /// The address asked for.
    pub address: Address,
    /// Where its lookup ends; `None` only for an empty state.
    pub leaf: Option<ProvenLeaf>,
    /// Branches from the root down, at most 256.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_DEPTH>")]
    pub path: Vec<Step>,
}

/// What a state root says of one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordProof {
    /// The key asked for.
    pub key: RecordKey,
    /// Where its lookup ends; `None` only for an empty state.
    pub leaf: Option<ProvenLeaf>,
    /// Branches from the root down, at most 256.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_DEPTH>")]
    pub path: Vec<Step>,
}

/// Why a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The bits of the path do not ascend, so no trie has this path.
    #[error("the bits of the path do not ascend")]
    Path,
    /// The leaf's own key does not lead down this path.
    #[error("the leaf is not on the path of what was asked for")]
    Leaf,
    /// The path leads to another root.
    #[error("the proof leads to root {found}, not to {expected}")]
    Root {
        /// Root that was asked for.
        expected: Hash,
        /// Root that the proof leads to.
        found: Hash,
    },
}

impl AccountProof {
    /// The account of [`Self::address`] in the state with this root, `None` if it has none.
    ///
    /// The root must come from a final header: `parent_state_root` of the block after the one asked about (L3).
    ///
    /// # Errors
    /// Where the proof does not lead to `root`, or by another path than a lookup of the address takes.
    pub fn verify(&self, root: &Hash) -> Result<Option<Account>, ProofError> {
        climb(&key_of(&self.address), self.leaf.as_ref(), &self.path, root)?;
        Ok(match &self.leaf {
            Some(ProvenLeaf::Account { address, account }) if *address == self.address => Some(*account),
            _ => None,
        })
    }
}

impl RecordProof {
    /// The record under [`Self::key`] in the state with this root, `None` if there is none. See [`AccountProof::verify`].
    ///
    /// # Errors
    /// Where the proof does not lead to `root`, or by another path than a lookup of the key takes.
    pub fn verify(&self, root: &Hash) -> Result<Option<&Record>, ProofError> {
        climb(&record_key_of(&self.key), self.leaf.as_ref(), &self.path, root)?;
        Ok(match &self.leaf {
            Some(ProvenLeaf::Record { key, record }) if *key == self.key => Some(record),
            _ => None,
        })
    }
}

/// That a lookup of `key` in the state with this root takes `path` and ends at `leaf`.
fn climb(key: &Hash, leaf: Option<&ProvenLeaf>, path: &[Step], root: &Hash) -> Result<(), ProofError> {
    if path.windows(2).any(|pair| pair[0].bit >= pair[1].bit) {
        return Err(ProofError::Path);
    }
    let mut found = Hash::ZERO;
    if let Some(leaf) = leaf {
        let near = leaf.key();
        if path.iter().any(|step| bit(&near, step.bit) != bit(key, step.bit)) {
            return Err(ProofError::Leaf);
        }
        found = leaf.hash();
    } else if !path.is_empty() {
        return Err(ProofError::Path);
    }
    for step in path.iter().rev() {
        let (left, right) = if bit(key, step.bit) { (&step.sibling, &found) } else { (&found, &step.sibling) };
        found = branch_hash(step.bit, left, right);
    }
    if found != *root {
        return Err(ProofError::Root { expected: *root, found });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use std::collections::BTreeMap;

    fn address(n: u64) -> Address {
        let mut out = [0; 20];
        out[..8].copy_from_slice(&n.to_le_bytes());
        Address(out)
    }

    fn account(balance: u64) -> Account {
        Account { balance, nonce: balance % 7 }
    }

    fn state(count: u64) -> State {
        State::from_accounts((0..count).map(|n| (address(n), account(n + 1))))
    }

    type Model = BTreeMap<Address, Account>;

    fn check(state: &State, model: &Model, universe: u64, seed: u64) {
        assert_eq!(state.len(), model.len(), "seed {seed}");
        assert_eq!(state.iter().collect::<Model>(), *model, "seed {seed}");
        for n in 0..universe {
            assert_eq!(state.get(&address(n)), model.get(&address(n)).copied(), "seed {seed}, address {n}");
        }
        let rebuilt = State::from_accounts(model.iter().map(|(a, b)| (*a, *b)));
        assert_eq!(state.root(), rebuilt.root(), "seed {seed}");
    }

    /// One random change of a state and its model.
    fn change(rng: &mut StdRng, state: &mut State, model: &mut Model, universe: u64) {
        let address = address(rng.random_range(0..universe));
        if rng.random_bool(0.3) {
            state.remove(&address);
            model.remove(&address);
        } else {
            let account = account(rng.random_range(1..100));
            state.set(address, account);
            model.insert(address, account);
        }
    }

    #[test]
    fn a_state_and_its_forks_equal_plain_maps_after_random_changes() {
        for seed in 0..60 {
            let mut rng = StdRng::seed_from_u64(seed);
            let universe = rng.random_range(1..80);
            let mut forks = vec![(State::empty(), Model::new())];
            for _ in 0..400 {
                let at = rng.random_range(0..forks.len());
                if rng.random_bool(0.02) && forks.len() < 6 {
                    forks.push(forks[at].clone());
                }
                let (state, model) = &mut forks[at];
                change(&mut rng, state, model, universe);
                if rng.random_bool(0.1) {
                    state.root();
                }
            }
            for (state, model) in &forks {
                check(state, model, universe, seed);
            }
        }
    }

    #[test]
    fn many_accounts_set_at_once_end_as_set_one_by_one() {
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let universe = rng.random_range(1..300);
            let (mut state, mut model) = (State::empty(), Model::new());
            for _ in 0..8 {
                let before = (state.clone(), model.clone());
                let mut changes = Model::new();
                for _ in 0..rng.random_range(0..40) {
                    let account =
                        if rng.random_bool(0.2) { Account::default() } else { account(rng.random_range(1..99)) };
                    changes.insert(address(rng.random_range(0..universe)), account);
                }
                state.set_many(&changes.iter().map(|(a, account)| (*a, *account)).collect::<Vec<_>>());
                model.extend(changes);
                model.retain(|_, account| !account.is_empty());
                check(&state, &model, universe, seed);
                check(&before.0, &before.1, universe, seed);
            }
        }
    }

    /// An account or a record of no more than `universe` each, or that it is gone, with this likelihood.
    fn some_change(rng: &mut StdRng, universe: u64, gone: f64) -> Change {
        let (n, is_gone, value) = (rng.random_range(0..universe), rng.random_bool(gone), rng.random_range(1..99));
        let item = if rng.random_bool(0.5) {
            Item::Account(address(n), if is_gone { Account::default() } else { account(value) })
        } else {
            let key = RecordKey::Receipt { nullifier: crate::hash::plain(&n.to_le_bytes()) };
            let record = Record::Receipt { digest: Hash::ZERO, height: value, minted: 1 };
            Item::record(key, (!is_gone).then_some(record))
        };
        (item.key(), item)
    }

    #[test]
    fn accounts_records_and_what_is_gone_put_at_once_end_as_put_one_by_one() {
        for seed in 0..300 {
            let mut rng = StdRng::seed_from_u64(seed);
            let universe = rng.random_range(1..150);
            let (mut at_once, mut one_by_one) = (State::empty(), State::empty());
            for _ in 0..12 {
                let (count, gone) = (rng.random_range(0..60), rng.random_range(0.0..0.9));
                let changes: BTreeMap<Hash, Item> = (0..count).map(|_| some_change(&mut rng, universe, gone)).collect();
                changes.iter().for_each(|(key, item)| one_by_one.put(&(*key, item.clone())));
                at_once.put_many(changes.into_iter().rev().collect());
                assert_eq!(at_once.root(), one_by_one.root(), "seed {seed}");
                let lens = [at_once.len(), one_by_one.len()];
                assert_eq!(lens, [at_once.items().count(); 2], "seed {seed}");
            }
        }
    }

    #[test]
    fn the_root_does_not_depend_on_the_order_of_insertion() {
        let forward = state(300);
        let mut backward = State::empty();
        for n in (0..300).rev() {
            backward.set(address(n), account(n + 1));
        }
        assert_eq!(forward.root(), backward.root());
    }

    #[test]
    fn the_root_changes_with_every_balance_nonce_and_address() {
        let base = state(50);
        let mut other = base.clone();
        other.set(address(3), Account { balance: 4, nonce: 5 });
        assert_ne!(base.root(), other.root());
        let mut other = base.clone();
        other.set(address(3), Account { balance: 5, nonce: 4 });
        assert_ne!(base.root(), other.root());
        let mut other = base.clone();
        other.set(address(1_000), account(1));
        assert_ne!(base.root(), other.root());
        other.remove(&address(1_000));
        assert_eq!(base.root(), other.root());
    }

    #[test]
    fn an_empty_account_is_no_account() {
        let mut state = State::empty();
        state.set(address(1), Account::default());
        assert_eq!((state.len(), state.root()), (0, Hash::ZERO));
        state.set(address(1), account(5));
        state.set(address(1), Account::default());
        assert_eq!((state.get(&address(1)), state.len(), state.root()), (None, 0, Hash::ZERO));
        let built = State::from_accounts([(address(1), Account::default()), (address(2), account(1))]);
        assert_eq!(built.len(), 1);
    }

    #[test]
    fn of_an_address_given_twice_the_last_account_counts() {
        let twice = State::from_accounts([(address(1), account(5)), (address(1), account(6))]);
        assert_eq!((twice.len(), twice.get(&address(1))), (1, Some(account(6))));
    }

    #[test]
    fn every_present_and_absent_account_has_a_proof() {
        for count in [0, 1, 2, 3, 17, 200] {
            let state = state(count);
            for n in 0..count + 50 {
                let proof = state.prove(&address(n));
                assert_eq!(proof.verify(&state.root()), Ok(state.get(&address(n))), "{n} of {count}");
                let bytes = codec::encode(&proof);
                assert_eq!(codec::decode::<AccountProof>(&bytes).expect("own bytes"), proof);
                let text = serde_json::to_string(&proof).expect("json");
                assert_eq!(serde_json::from_str::<AccountProof>(&text).expect("own text"), proof);
            }
        }
    }

    #[test]
    fn a_forged_proof_is_refused() {
        let state = state(100);
        let (root, here, absent) = (state.root(), address(7), address(5_000));
        let good = state.prove(&here);

        let mut richer = good.clone();
        richer.leaf = Some(ProvenLeaf::Account { address: here, account: account(1_000_000) });
        assert!(matches!(richer.verify(&root), Err(ProofError::Root { .. })));

        // Another leaf of the same trie as witness that an account is absent.
        for n in (0..100).filter(|n| *n != 7) {
            let stolen = AccountProof { address: here, ..state.prove(&address(n)) };
            assert!(stolen.verify(&root).is_err(), "neighbour {n}");
        }
        let mut hidden = state.prove(&absent);
        hidden.address = here;
        assert!(hidden.verify(&root).is_err());

        // "There are no accounts at all."
        let nothing = AccountProof { address: here, leaf: None, path: Vec::new() };
        assert!(nothing.verify(&root).is_err());
        assert_eq!(nothing.verify(&Hash::ZERO), Ok(None));

        for at in 0..good.path.len() {
            let mut bent = good.clone();
            bent.path[at].sibling.0[0] ^= 1;
            assert!(bent.verify(&root).is_err());
            let mut bent = good.clone();
            bent.path[at].bit = bent.path[at].bit.wrapping_add(1);
            assert!(bent.verify(&root).is_err());
            let mut short = good.clone();
            short.path.remove(at);
            assert!(short.verify(&root).is_err());
        }
        let mut swapped = good.clone();
        swapped.path.reverse();
        assert_eq!(swapped.verify(&root), Err(ProofError::Path));
    }

    #[test]
    fn a_proof_with_random_damage_proves_nothing_that_is_not_so() {
        let (state, mut rng, mut decoded) = (state(60), StdRng::seed_from_u64(1), 0);
        for _ in 0..20_000 {
            let mut bytes = codec::encode(&state.prove(&address(rng.random_range(0..90))));
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            let Ok(proof) = codec::decode::<AccountProof>(&bytes) else { continue };
            decoded += 1;
            if let Ok(account) = proof.verify(&state.root()) {
                assert_eq!(account, state.get(&proof.address), "{proof:?}");
            }
        }
        assert!(decoded > 1_000, "{decoded}");
    }

    #[test]
    fn a_proof_of_one_root_does_not_hold_for_another() {
        let before = state(100);
        let mut after = before.clone();
        after.set(address(3), account(77));
        assert!(before.prove(&address(3)).verify(&after.root()).is_err());
        assert_eq!(after.prove(&address(3)).verify(&after.root()), Ok(Some(account(77))));
    }

    #[test]
    fn what_makes_one_state_of_another_does_and_is_no_more_than_what_changed() {
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let universe = rng.random_range(1..200);
            let mut from = State::empty();
            let mut unused = Model::new();
            (0..rng.random_range(0..300)).for_each(|_| change(&mut rng, &mut from, &mut unused, universe));
            let record = |n: u8| {
                let key = RecordKey::Receipt { nullifier: Hash([n; 32]) };
                (key, Some(Record::Receipt { digest: Hash::ZERO, height: n.into(), minted: 1 }))
            };
            (0..9).for_each(|n| from.set_record(record(n).0, record(n).1));
            let mut to = from.clone();
            let changed = rng.random_range(0..20);
            (0..changed).for_each(|_| change(&mut rng, &mut to, &mut unused, universe));
            to.set_record(record(3).0, None);
            to.set_record(record(20).0, record(20).1);
            for (from, to) in [(&from, &to), (&to, &from), (&State::empty(), &to), (&to, &State::empty())] {
                let (accounts, records) = from.changes_to(to);
                let mut made = from.clone();
                made.set_many(&accounts);
                made.set_records(&records);
                assert_eq!(made, *to, "seed {seed}");
            }
            let (accounts, records) = from.changes_to(&to);
            assert!(accounts.len() <= changed && records.len() == 2, "seed {seed}: {accounts:?}");
            assert_eq!(to.changes_to(&to), (Vec::new(), Vec::new()));
        }
    }

    #[test]
    fn a_state_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<State>();
    }
}
