//! Half-trees: all leaves from a root, or all but one from siblings.
//!
//! Level `i = 0, 1, ..` decides bit `i` of the leaf's number, and a level of `n` nodes is expanded in
//! place: node `j` becomes `j` and `n + j` (see [`Cipher::grow`]). The puncturer's unknown node of
//! each level is kept at zero. It stores, for each level, the node that differs from it in that
//! level's bit alone, its *sibling*.

use zeroize::Zeroizing;

use super::fold::Seeds;
use super::{Depths, Lane, Radices, Sums, Ticket};
use crate::cipher::Cipher;
/// All leaves, as in Ferret's trees: `each_level(K)` is called with the sum of the left nodes of each level but
/// the first.
pub(super) use crate::ferret::tree::send as grow;
use crate::rot::select;
use crate::simd::{Level, dispatched};
use crate::{OtError, Secret};

/// One party's side of all groups.
pub struct Trees<Part> {
    pub(super) depths: Depths,
    pub(super) id: [u8; 32],
    pub(super) keys: TreeKeys,
    pub(super) part: Part,
}

/// The holder's: a root a tree, and the `Delta` of all.
pub type HolderTrees = Trees<Roots>;

/// The puncturer's: a leaf and a sibling a level for each tree.
pub type PuncturedTrees = Trees<Siblings>;

/// What the holder of [`Trees`] has of them.
pub struct Roots {
    pub(super) delta: Zeroizing<u128>,
    pub(super) roots: Secret<u128>,
}

/// What the puncturer of [`Trees`] has of them.
pub struct Siblings {
    pub(super) leaves: Secret<u16>,
    pub(super) siblings: Secret<u128>,
}

impl<Part> Trees<Part> {
    pub(super) fn new(depths: Depths, id: [u8; 32], part: Part) -> Self {
        Self { keys: TreeKeys::new(&id), depths, id, part }
    }

    /// Tells this set-up from every other; the peer's of the same one has the same.
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }
}

impl HolderTrees {
    /// `u` and `z_i` of the ticket's group, whose digits have these radices, for `columns` columns.
    /// Working memory is kept in `sums`: a value used again for the same shape allocates nothing.
    pub fn sums<L: Lane>(
        &self,
        ticket: Ticket,
        radices: &Radices,
        columns: usize,
        sums: &mut Sums<L>,
    ) -> Result<(), OtError> {
        let group = ticket.group;
        let (_, depth) = self.depths.locate(group)?;
        let seeds = Seeds::Root { root: self.part.roots[group], delta: *self.part.delta };
        sums.fill([self.keys.key(group), ticket.key], seeds, depth, radices, columns)
    }
}

impl PuncturedTrees {
    /// As [`HolderTrees::sums`], with a dummy in the place of the leaf that is not known: good for
    /// [`Sums::punctured_share`], in which it cancels.
    pub fn sums<L: Lane>(
        &self,
        ticket: Ticket,
        radices: &Radices,
        columns: usize,
        sums: &mut Sums<L>,
    ) -> Result<(), OtError> {
        let group = ticket.group;
        let (at, depth) = self.depths.locate(group)?;
        let Siblings { leaves, siblings } = &self.part;
        let seeds = Seeds::Siblings { leaf: leaves[group], siblings: &siblings[at..at + depth] };
        sums.fill([self.keys.key(group), ticket.key], seeds, depth, radices, columns)
    }
}

impl<Part> std::fmt::Debug for Trees<Part> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trees").field("groups", &self.depths.groups()).finish_non_exhaustive()
    }
}

/// The keys of the trees' hash, one a group: public, and a permutation of the group's number.
pub(super) struct TreeKeys(Cipher);

impl TreeKeys {
    pub(super) fn new(id: &[u8; 32]) -> Self {
        let key = blake3::derive_key("copriv-ot v1 vole trees", id);
        Self(Cipher::new(u128::from_le_bytes(key[..16].try_into().expect("sixteen bytes"))))
    }

    fn key(&self, group: usize) -> u128 {
        let mut key = [group as u128];
        self.0.encrypt(&mut key);
        key[0]
    }

    pub(super) fn cipher(&self, group: usize) -> Cipher {
        Cipher::new(self.key(group))
    }
}

/// All leaves but `leaf`, which becomes zero. `sibling(i, sum)` gives the sibling at level `i`; `sum`
/// is that of the known nodes on its side.
pub(super) fn grow_punctured(
    cipher: &Cipher,
    level: Level,
    leaf: u16,
    leaves: &mut [u128],
    mut sibling: impl FnMut(usize, u128) -> u128,
) {
    // The unknown node is zero, so its children are both H(0).
    let mut hole = [0; 2];
    cipher.grow(&mut hole);
    let hole = hole[0];
    let leaf = u64::from(leaf);
    let first = sibling(0, 0);
    let bit = (leaf & 1) as u8;
    leaves[0] = select(bit, 0, first);
    leaves[1] = select(bit, first, 0);
    let (mut i, mut n) = (1, 2);
    while n < leaves.len() {
        let [left, right] = cipher.grow(&mut leaves[..2 * n]);
        let bit = (leaf >> i & 1) as u8;
        let sibling = sibling(i, select(bit, right, left) ^ hole) ^ hole;
        let (left, right) = (select(bit, hole, sibling), select(bit, sibling, hole));
        patch(level, &mut leaves[..2 * n], leaf & (n as u64 - 1), left, right);
        (i, n) = (i + 1, 2 * n);
    }
}

dispatched! {
    /// XORs `left` to `nodes[hole]` and `right` to `nodes[n + hole]`, touching all nodes alike.
    fn patch(nodes: &mut [u128], hole: u64, left: u128, right: u128) = patch_body;
}

#[inline(always)]
fn patch_body(nodes: &mut [u128], hole: u64, left: u128, right: u128) {
    let (low, high) = nodes.split_at_mut(nodes.len() / 2);
    for (j, (low, high)) in (0..).zip(low.iter_mut().zip(high)) {
        let differ: u64 = j ^ hole;
        let ones = ((differ | differ.wrapping_neg()) >> 63).wrapping_sub(1);
        let mask = u128::from(ones) << 64 | u128::from(ones);
        *low ^= left & mask;
        *high ^= right & mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    #[test]
    fn the_puncturer_has_all_leaves_but_its_own() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let keys = TreeKeys::new(&[3; 32]);
        for depth in 1..=10 {
            let n = 1_usize << depth;
            for leaf in (0..n as u16).step_by(n.div_ceil(64)).chain([n as u16 - 1]) {
                let cipher = keys.cipher(usize::from(leaf));
                let (root, delta): (u128, u128) = (rng.random(), rng.random());
                let mut all = vec![0; n];
                grow(&cipher, delta, root, &mut all, |_| {});
                assert_eq!(all.iter().fold(0, |a, b| a ^ b), delta);
                for &level in Level::available() {
                    // The sibling opens the side's sum, as the correlated OT does.
                    let mut sums = vec![root, root ^ delta];
                    grow(&cipher, delta, root, &mut vec![0; n], |sum| sums.extend([sum, sum ^ delta]));
                    let side = |i: usize| 2 * i + (!leaf >> i & 1) as usize;
                    let mut siblings = Vec::new();
                    let mut mine = vec![7; n];
                    grow_punctured(&cipher, level, leaf, &mut mine, |i, known| {
                        siblings.push(sums[side(i)] ^ known);
                        siblings[i]
                    });
                    let mut again = vec![9; n];
                    grow_punctured(&cipher, level, leaf, &mut again, |i, _| siblings[i]);
                    assert_eq!(mine, again);
                    for x in 0..n {
                        let expected = if x == usize::from(leaf) { 0 } else { all[x] };
                        assert_eq!(mine[x], expected, "depth {depth}, leaf {leaf}, {x}");
                    }
                    assert!(!siblings.contains(&all[usize::from(leaf)]));
                }
            }
        }
    }
}
