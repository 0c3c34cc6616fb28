//! Merkle lists in the shape of RFC 6962 §2.1: leaf and node hashes in domains of their own, so neither passes for the other.

use crate::hash::{Domain, Hash, hash};

/// Hash of a leaf's bytes.
pub fn leaf(bytes: &[u8]) -> Hash {
    hash(Domain::MerkleLeaf, &[bytes])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    hash(Domain::MerkleNode, &[&left.0, &right.0])
}

/// Root over leaf hashes; [`Hash::ZERO`] for none.
pub fn root(leaves: &[Hash]) -> Hash {
    // Level by level, an odd last hash moves up unchanged: the same tree as RFC 6962's split at a power of two.
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| if let [l, r] = pair { node(l, r) } else { pair[0] }).collect();
    }
    level.first().copied().unwrap_or(Hash::ZERO)
}

/// Sibling hashes from the leaf at `index` up; empty where `index` is out of range.
pub fn path(leaves: &[Hash], index: usize) -> Vec<Hash> {
    let (mut level, mut at, mut out) = (leaves.to_vec(), index, Vec::new());
    while level.len() > 1 && at < level.len() {
        if let Some(sibling) = level.get(at ^ 1) {
            out.push(*sibling);
        }
        level = level.chunks(2).map(|pair| if let [l, r] = pair { node(l, r) } else { pair[0] }).collect();
        at /= 2;
    }
    out
}

/// Root to which `path` leads from `leaf` at `index` of `count` leaves; `None` where no list of that length has such a path.
pub fn climb(leaf: &Hash, index: usize, count: usize, path: &[Hash]) -> Option<Hash> {
    if index >= count {
        return None;
    }
    let (mut at, mut width, mut hash, mut siblings) = (index, count, *leaf, path.iter());
    while width > 1 {
        if at ^ 1 < width {
            let sibling = siblings.next()?;
            hash = if at % 2 == 0 { node(&hash, sibling) } else { node(sibling, &hash) };
        }
        at /= 2;
        width = width.div_ceil(2);
    }
    siblings.next().is_none().then_some(hash)
}

/// True iff `path` leads from `leaf` at `index` of `count` leaves to `root`.
pub fn verify(leaf: &Hash, index: usize, count: usize, path: &[Hash], root: &Hash) -> bool {
    climb(leaf, index, count, path) == Some(*root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_of_every_small_list_has_a_path_that_proves_it_and_nothing_else() {
        for count in 1..=17usize {
            let leaves: Vec<Hash> = (0..count).map(|i| leaf(&[i as u8])).collect();
            let top = root(&leaves);
            for i in 0..count {
                let path = path(&leaves, i);
                assert!(verify(&leaves[i], i, count, &path, &top), "leaf {i} of {count}");
                assert!(!verify(&leaf(b"other"), i, count, &path, &top));
                if count > 1 {
                    assert!(!verify(&leaves[i], (i + 1) % count, count, &path, &top));
                }
            }
        }
    }
}
