//! Pieces of a state that prove themselves against its root: what a node far behind fetches instead of blocks (S3).
//!
//! ```text
//!        root           chunk  = before, leaves, after               the leaves in the order of their keys
//!       /    \          before = what is left of the first leaf      hash and bit of each branch on its path, root first
//!     ##      /\        after  = what is right of the last leaf      the same, deepest branch first
//!            l  /\
//!              l  ##    from these exactly one trie can be built, and its root must be the right one
//! ```
//! A root commits to one trie only, so what hashes to it is a part of that trie. Between two neighbouring leaves of a chunk
//! there is no other one; whether something is missing before the first or after the last is told by `before` and `after`.

use super::{Branch, MAX_DEPTH, Node, ProvenLeaf, State, Step, bit, branch_hash, first_difference};
use crate::codec;
use crate::hash::Hash;
use borsh::{BorshDeserialize, BorshSerialize};

/// Bytes of leaves after which a chunk ends.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Least bytes of the leaves of a chunk that is not the last one: whoever sends less keeps the asker waiting.
pub const CHUNK_BYTES_MIN: usize = CHUNK_BYTES / 2;
/// Most leaves of a chunk: more than fit, as an account has 37 bytes.
pub const MAX_CHUNK_LEAVES: usize = 32_768;

/// Neighbouring leaves of a state.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StateChunk {
    /// What is left of the first leaf, from the root down.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_DEPTH>")]
    pub before: Vec<Step>,
    /// By ascending key; none only where the state is empty.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_CHUNK_LEAVES>")]
    pub leaves: Vec<ProvenLeaf>,
    /// What is right of the last leaf, upwards.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_DEPTH>")]
    pub after: Vec<Step>,
}

/// What a chunk says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// All leaves of the state from the asked key to `to`, and perhaps the one before that key.
    pub leaves: Vec<ProvenLeaf>,
    /// Key of the last one; `None` where there is none after it.
    pub to: Option<Hash>,
}

/// Why a chunk is refused: the peer that sent it is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Keys or bits are in no order that a trie has.
    #[error("its leaves and branches make no trie")]
    Order,
    /// It is of another state, or changed.
    #[error("it hashes to {found}, the state to {expected}")]
    OtherRoot {
        /// Root of the state.
        expected: Hash,
        /// Of what came.
        found: Hash,
    },
    /// It begins after the key that was asked for.
    #[error("it begins after the key that was asked for")]
    Start,
    /// More leaves would have fitted, or it does not go beyond the key that was asked for.
    #[error("it has {0} bytes of leaves, and more of them follow")]
    Short(usize),
}

/// A way from the root to a leaf.
struct Walk<'a> {
    /// Branches, and whether the way goes right there.
    path: Vec<(&'a Branch, bool)>,
    leaf: ProvenLeaf,
}

impl<'a> Walk<'a> {
    /// To the last leaf at or before a key; to the first leaf where there is none.
    fn at(top: &'a Node, key: &Hash) -> Option<Walk<'a>> {
        let near = ProvenLeaf::of(&top.find(key).item)?;
        let differs = first_difference(key, &near.key());
        let mut walk = Walk { path: Vec::new(), leaf: near };
        let mut node = top;
        // Up to where the keys below lie all on one side of this one.
        while let Node::Branch(branch) = node
            && differs.is_none_or(|at| branch.bit < at)
        {
            let right = bit(key, branch.bit);
            walk.path.push((branch, right));
            node = branch.child(key);
        }
        match differs {
            Some(at) if bit(key, at) => walk.descend(node, true)?,
            Some(_) => walk.step_back(top)?,
            None => {}
        }
        Some(walk)
    }

    /// To the outermost leaf below a node.
    fn descend(&mut self, mut node: &'a Node, right: bool) -> Option<()> {
        loop {
            match node {
                Node::Leaf(leaf) => {
                    self.leaf = ProvenLeaf::of(&leaf.item)?;
                    return Some(());
                }
                Node::Branch(branch) => {
                    self.path.push((branch, right));
                    node = if right { &branch.right } else { &branch.left };
                }
            }
        }
    }

    /// To the last leaf left of all below the path's end; to the first of the trie where there is none.
    fn step_back(&mut self, top: &'a Node) -> Option<()> {
        while let Some((branch, right)) = self.path.pop() {
            if right {
                self.path.push((branch, false));
                return self.descend(&branch.left, true);
            }
        }
        self.descend(top, false)
    }

    /// To the next leaf; `None` at the last.
    fn step(&mut self) -> Option<()> {
        let up = self.path.iter().rposition(|(_, right)| !right)?;
        self.path.truncate(up + 1);
        let (branch, _) = self.path.pop()?;
        self.path.push((branch, true));
        self.descend(&branch.right, false)
    }

    fn left_of(&self) -> Vec<Step> {
        let hidden = self.path.iter().filter(|(_, right)| *right);
        hidden.map(|(branch, _)| Step { bit: branch.bit, sibling: branch.left.hash() }).collect()
    }

    fn right_of(&self) -> Vec<Step> {
        let hidden = self.path.iter().rev().filter(|(_, right)| !right);
        hidden.map(|(branch, _)| Step { bit: branch.bit, sibling: branch.right.hash() }).collect()
    }
}

/// Bytes of a leaf on the wire.
fn size(leaf: &ProvenLeaf) -> usize {
    borsh::object_length(leaf).unwrap_or(CHUNK_BYTES)
}

impl State {
    /// The leaves from the last one at or before `from` on, until they have `bytes` bytes, but two if there are.
    pub fn chunk(&self, from: &Hash, bytes: usize) -> StateChunk {
        let mut chunk = StateChunk { before: Vec::new(), leaves: Vec::new(), after: Vec::new() };
        let Some(mut walk) = self.top.as_ref().and_then(|top| Walk::at(top, from)) else { return chunk };
        chunk.before = walk.left_of();
        let mut room = bytes.saturating_sub(size(&walk.leaf));
        chunk.leaves.push(walk.leaf.clone());
        while (room > 0 || chunk.leaves.len() < 2) && chunk.leaves.len() < MAX_CHUNK_LEAVES && walk.step().is_some() {
            room = room.saturating_sub(size(&walk.leaf));
            chunk.leaves.push(walk.leaf.clone());
        }
        chunk.after = walk.right_of();
        chunk
    }

    /// All leaves, by ascending key.
    pub fn leaves(&self) -> impl Iterator<Item = ProvenLeaf> {
        self.items().filter_map(ProvenLeaf::of)
    }

    /// The state of many leaves, in any order.
    pub fn from_leaves(leaves: impl IntoIterator<Item = ProvenLeaf>) -> State {
        State::from_items(leaves.into_iter().map(|leaf| (leaf.key(), leaf.item())).collect())
    }
}

/// Builds the hash of a trie from neighbouring subtrees, left to right.
struct Fold {
    /// What is left of `last`, each with the bit by which it differs from what follows; bits ascend.
    open: Vec<(Hash, u8)>,
    last: Hash,
}

impl Fold {
    fn push(&mut self, bit: u8, next: Hash) -> Result<(), ChunkError> {
        self.close(Some(bit));
        // In a trie no two branches on one way have the same bit.
        if self.open.last().is_some_and(|(_, at)| *at == bit) {
            return Err(ChunkError::Order);
        }
        self.open.push((std::mem::replace(&mut self.last, next), bit));
        Ok(())
    }

    /// Closes the branches below `bit`; all for `None`.
    fn close(&mut self, bit: Option<u8>) {
        while let Some((left, at)) = self.open.pop_if(|(_, at)| bit.is_none_or(|bit| *at > bit)) {
            self.last = branch_hash(at, &left, &self.last);
        }
    }
}

impl StateChunk {
    /// Checks that the leaves are all that the state with `root` has from key `from` on, up to the last one here.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn verify(self, root: &Hash, from: &Hash) -> Result<Piece, ChunkError> {
        let keys: Vec<Hash> = self.leaves.iter().map(ProvenLeaf::key).collect();
        let found = self.root(&keys)?;
        if found != *root {
            return Err(ChunkError::OtherRoot { expected: *root, found });
        }
        if !self.before.is_empty() && keys.first().is_none_or(|first| first > from) {
            return Err(ChunkError::Start);
        }
        let to = keys.last().copied().filter(|_| !self.after.is_empty());
        if let Some(to) = &to {
            let bytes = self.leaves.iter().map(size).sum();
            let full = bytes >= CHUNK_BYTES_MIN || keys.len() >= MAX_CHUNK_LEAVES;
            if !full || to <= from {
                return Err(ChunkError::Short(bytes));
            }
        }
        Ok(Piece { leaves: self.leaves, to })
    }

    fn root(&self, keys: &[Hash]) -> Result<Hash, ChunkError> {
        // Hidden parts without a leaf would prove nothing.
        let Some(first) = self.leaves.first() else {
            let empty = self.before.is_empty() && self.after.is_empty();
            return if empty { Ok(Hash::ZERO) } else { Err(ChunkError::Order) };
        };
        let mut fold = Fold { open: Vec::new(), last: Hash::ZERO };
        for step in &self.before {
            if fold.open.last().is_some_and(|(_, at)| *at >= step.bit) {
                return Err(ChunkError::Order);
            }
            fold.open.push((step.sibling, step.bit));
        }
        fold.last = first.hash();
        for (pair, leaf) in keys.windows(2).zip(&self.leaves[1..]) {
            let [left, right] = pair else { return Err(ChunkError::Order) };
            let bit = first_difference(left, right).filter(|_| left < right).ok_or(ChunkError::Order)?;
            fold.push(bit, leaf.hash())?;
        }
        for step in &self.after {
            fold.push(step.bit, step.sibling)?;
        }
        fold.close(None);
        Ok(fold.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Class;
    use crate::key::{Address, PublicKey};
    use crate::record::{Record, RecordKey};
    use crate::state::Account;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn address(number: u32) -> Address {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Address(bytes)
    }

    fn state(accounts: u32) -> State {
        State::from_parts((0..accounts).map(|i| (address(i), account(u64::from(i) + 1))), records(accounts / 2))
    }

    fn account(balance: u64) -> Account {
        Account { balance, nonce: 0 }
    }

    fn records(count: u32) -> impl Iterator<Item = (RecordKey, Record)> {
        let key = |epoch| RecordKey::Evidence { key: PublicKey([7; 32]), epoch, class: Class::Notars };
        (0..u64::from(count)).map(move |epoch| (key(epoch), Record::Evidence { slot: epoch + 1, height: 5 }))
    }

    /// Changes what a leaf says.
    fn bend(leaf: &mut ProvenLeaf) {
        match leaf {
            ProvenLeaf::Account { account, .. } => account.balance += 1,
            ProvenLeaf::Record { record, .. } => *record = Record::Evidence { slot: 0, height: 0 },
        }
    }

    fn keys(state: &State) -> Vec<Hash> {
        state.leaves().map(|leaf| leaf.key()).collect()
    }

    /// Fetches a state in chunks of about `bytes`; gives what came and how many chunks it took. Small ones are short.
    fn fetch(state: &State, bytes: usize) -> (State, usize) {
        let (mut from, mut leaves, mut chunks) = (Hash::ZERO, Vec::new(), 0);
        loop {
            let chunk = state.chunk(&from, bytes);
            let short = chunk.clone().verify(&state.root(), &from);
            let piece = match short {
                Ok(piece) => piece,
                Err(ChunkError::Short(_)) => {
                    let to = chunk.leaves.last().map(ProvenLeaf::key);
                    assert!(to > Some(from), "it goes on");
                    Piece { leaves: chunk.leaves, to }
                }
                Err(cause) => panic!("{cause}"),
            };
            leaves.extend(piece.leaves);
            chunks += 1;
            match piece.to {
                Some(to) => from = to,
                None => return (State::from_leaves(leaves), chunks),
            }
        }
    }

    #[test]
    fn s3_chunks_of_any_size_make_the_whole_state() {
        for accounts in [0, 1, 2, 3, 10, 300] {
            for bytes in [1, 37, 100, 1_000, 1 << 20] {
                let whole = state(accounts);
                let (copy, chunks) = fetch(&whole, bytes);
                assert_eq!((copy.root(), copy.len()), (whole.root(), whole.len()), "{accounts} accounts");
                assert!(bytes < 10_000 || chunks == 1, "{accounts} accounts in {chunks} chunks");
            }
        }
    }

    #[test]
    fn s3_a_chunk_begins_at_the_last_leaf_not_after_the_key_and_ends_with_its_bytes() {
        let whole = state(60_000);
        let keys = keys(&whole);
        let mut rng = StdRng::seed_from_u64(3);
        for _ in 0..10 {
            let from = Hash(rng.random());
            let chunk = whole.chunk(&from, CHUNK_BYTES);
            let first = keys.partition_point(|key| *key <= from).saturating_sub(1);
            assert_eq!(chunk.leaves[0].key(), keys[first]);
            let (count, bytes) = (chunk.leaves.len(), chunk.leaves.iter().map(size).sum::<usize>());
            assert!(first + count == keys.len() || (CHUNK_BYTES..CHUNK_BYTES + 100).contains(&bytes), "{bytes} bytes");
            let piece = chunk.verify(&whole.root(), &from).expect("it is genuine");
            assert_eq!(piece.to, (first + count < keys.len()).then(|| keys[first + count - 1]));
        }
    }

    #[test]
    fn s3_a_key_before_between_at_and_after_all_leaves_is_answered() {
        let whole = state(20);
        let keys = keys(&whole);
        let neighbours = |key: &Hash| {
            let (mut below, mut above) = (*key, *key);
            below.0[31] = below.0[31].wrapping_sub(1);
            above.0[31] = above.0[31].wrapping_add(1);
            [below, *key, above]
        };
        let asked = keys.iter().flat_map(neighbours).chain([Hash::ZERO, Hash([255; 32])]);
        for from in asked {
            let piece = whole.chunk(&from, CHUNK_BYTES).verify(&whole.root(), &from).expect("all fits");
            let first = keys.partition_point(|key| *key <= from).saturating_sub(1);
            assert_eq!(piece.leaves.len(), keys.len() - first);
            assert_eq!(piece.to, None);
        }
    }

    #[test]
    fn s3_a_chunk_that_leaves_something_out_or_changes_it_is_refused() {
        let whole = state(60_000);
        // From the last accounts on into the records.
        let (root, from) = (whole.root(), keys(&whole)[59_000]);
        let good = whole.chunk(&from, CHUNK_BYTES);
        assert!(good.clone().verify(&root, &from).is_ok());
        let bad = |change: &dyn Fn(&mut StateChunk)| {
            let mut chunk = good.clone();
            change(&mut chunk);
            chunk.verify(&root, &from).expect_err("it was changed")
        };
        let other = |error| matches!(error, ChunkError::OtherRoot { .. });
        let is_account = |leaf: &ProvenLeaf| matches!(leaf, ProvenLeaf::Account { .. });
        let of_kind =
            |account| good.leaves.iter().position(|leaf| is_account(leaf) == account).expect("both are there");
        for at in [0, of_kind(true), of_kind(false), good.leaves.len() - 1] {
            assert!(other(bad(&|chunk| bend(&mut chunk.leaves[at]))));
        }
        let removed = |at: usize| {
            bad(&move |chunk| {
                chunk.leaves.remove(at);
            })
        };
        assert!(other(removed(7)));
        // Next to what is hidden this may leave bits that no trie has.
        let _ = (removed(0), removed(good.leaves.len() - 1));
        assert_eq!(bad(&|chunk| chunk.leaves.swap(7, 8)), ChunkError::Order);
        assert_eq!(bad(&|chunk| chunk.leaves[8] = chunk.leaves[7].clone()), ChunkError::Order);
        assert_eq!(bad(&|chunk| chunk.leaves.clear()), ChunkError::Order);
        assert_eq!(bad(&|chunk| chunk.before.swap(0, 1)), ChunkError::Order);
        assert_eq!(bad(&|chunk| chunk.after.insert(0, chunk.after[0])), ChunkError::Order);
        assert!(other(bad(&|chunk| chunk.after.clear())), "the end is not near");
        assert!(other(bad(&|chunk| chunk.before.clear())), "nor is it the beginning");
        for at in 0..good.after.len() {
            assert!(other(bad(&|chunk| chunk.after[at].sibling.0[0] ^= 1)));
            bad(&|chunk| chunk.after[at].bit ^= 1);
            bad(&|chunk| {
                chunk.after.remove(at);
            });
        }
        for at in 0..good.before.len() {
            assert!(other(bad(&|chunk| chunk.before[at].sibling.0[0] ^= 1)));
            bad(&|chunk| chunk.before[at].bit ^= 1);
            bad(&|chunk| {
                chunk.before.remove(at);
            });
        }
        assert!(other(
            whole.chunk(&from, CHUNK_BYTES).verify(&state(59_999).root(), &from).expect_err("another state")
        ));
    }

    #[test]
    fn s3_leaves_the_wrong_way_round_make_no_trie() {
        let whole = State::from_parts((0..2).map(|i| (address(i), account(1))), records(0));
        let mut chunk = whole.chunk(&Hash::ZERO, CHUNK_BYTES);
        chunk.leaves.swap(0, 1);
        assert_eq!(chunk.verify(&whole.root(), &Hash::ZERO), Err(ChunkError::Order));
    }

    #[test]
    fn s3_a_genuine_chunk_that_answers_another_question_is_refused() {
        let whole = state(60_000);
        let (root, keys) = (whole.root(), keys(&whole));
        let later = whole.chunk(&keys[200], CHUNK_BYTES);
        assert_eq!(later.clone().verify(&root, &keys[199]), Err(ChunkError::Start));
        assert!(later.verify(&root, &keys[200]).is_ok());
        let small = whole.chunk(&keys[200], 1_000);
        let bytes = small.leaves.iter().map(size).sum();
        assert_eq!(small.verify(&root, &keys[200]), Err(ChunkError::Short(bytes)));
        let earlier = whole.chunk(&keys[200], CHUNK_BYTES);
        let last = earlier.leaves.last().expect("some").key();
        assert!(matches!(earlier.verify(&root, &last), Err(ChunkError::Short(_))), "it says nothing of what follows");
        let nothing = StateChunk { before: Vec::new(), leaves: Vec::new(), after: Vec::new() };
        assert!(nothing.clone().verify(&root, &keys[0]).is_err());
        assert!(nothing.verify(&Hash::ZERO, &keys[0]).is_ok(), "an empty state has nothing");
    }

    #[test]
    fn s3_a_chunk_with_random_damage_proves_nothing_that_is_not_so() {
        let whole = state(300);
        let (root, mut rng) = (whole.root(), StdRng::seed_from_u64(1));
        let leaves: Vec<_> = whole.leaves().collect();
        for _ in 0..5_000 {
            let from = Hash(rng.random());
            let mut bytes = codec::encode(&whole.chunk(&from, CHUNK_BYTES));
            for _ in 0..rng.random_range(0..3) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            let Ok(chunk) = codec::decode::<StateChunk>(&bytes) else { continue };
            let Ok(piece) = chunk.verify(&root, &from) else { continue };
            assert!(piece.leaves.iter().all(|leaf| leaves.contains(leaf)));
            let expected = keys(&whole).iter().filter(|key| **key >= from).count();
            assert_eq!(piece.leaves.iter().filter(|leaf| leaf.key() >= from).count(), expected);
        }
    }
}
