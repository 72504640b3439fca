//! `u` and `z_i`, and the shares made of them.

use std::marker::PhantomData;

use super::fold::{self, ALIGN_BLOCKS, Job, Scratch, Seeds};
use super::{Lane, Radices};
use crate::error::check_argument;
use crate::{OtError, Secret};

/// `u = sum_p G_p` and `z_i = sum_p p_i G_p` of one group and use, and the memory to make the next.
pub struct Sums<L> {
    /// `u`, then each `z_i`, `stride` blocks each.
    blocks: Secret<u128>,
    stride: usize,
    columns: usize,
    digits: usize,
    scratch: Scratch,
    lane: PhantomData<L>,
}

impl<L: Lane> Sums<L> {
    /// No sums yet.
    pub fn new() -> Self {
        Self {
            blocks: Secret::default(),
            stride: 0,
            columns: 0,
            digits: 0,
            scratch: Scratch::default(),
            lane: PhantomData,
        }
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of digits.
    pub fn digits(&self) -> usize {
        self.digits
    }

    /// `u`, the mask of the holder's message `c = r - u`: of one message only, since a second one for another
    /// `r` would give away their difference.
    pub fn u(&self) -> &[L] {
        self.vector(0)
    }

    /// `z_i`; the holder's share is `v_i = -z_i`.
    ///
    /// # Panics
    /// If there is no digit `i`.
    pub fn z(&self, i: usize) -> &[L] {
        assert!(i < self.digits, "digit {i} of {}", self.digits);
        self.vector(1 + i)
    }

    fn vector(&self, i: usize) -> &[L] {
        let blocks = &self.blocks[i * self.stride..(i + 1) * self.stride];
        &bytemuck::cast_slice(blocks)[..self.columns]
    }

    /// The puncturer's share `q_i = w_i (c + u) - z_i`, in time that does not depend on the digit.
    ///
    /// # Panics
    /// If there is no digit `i`.
    pub fn punctured_share(
        &self,
        i: usize,
        digit: u16,
        message: &[L],
        share: &mut [L],
    ) -> Result<(), OtError> {
        check_argument("columns", self.columns, message.len())?;
        check_argument("columns", self.columns, share.len())?;
        L::punctured_share(digit, message, self.u(), self.z(i), share);
        Ok(())
    }

    /// Sums up a tree of `depth` under the keys of the tree and of the use.
    pub(super) fn fill(
        &mut self,
        keys: [u128; 2],
        seeds: Seeds,
        depth: usize,
        radices: &Radices,
        columns: usize,
    ) -> Result<(), OtError> {
        check_argument("tree depth of the radices", depth, radices.depth() as usize)?;
        let blocks = (columns * L::BITS as usize).div_ceil(128);
        self.columns = columns;
        self.digits = radices.digits();
        self.stride = blocks.next_multiple_of(ALIGN_BLOCKS);
        let n = self.stride * (1 + self.digits);
        if self.blocks.len() < n {
            // A new one: growing would leave a copy behind.
            self.blocks = Secret::zeros(n);
        }
        let [tree_key, key] = keys;
        let job = Job { tree_key, key, seeds, depth, radices, blocks, stride: self.stride };
        fold::fold::<L>(&job, &mut self.scratch, &mut self.blocks);
        Ok(())
    }
}

impl<L: Lane> Default for Sums<L> {
    fn default() -> Self {
        Self::new()
    }
}

impl<L> std::fmt::Debug for Sums<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sums")
            .field("columns", &self.columns)
            .field("digits", &self.digits)
            .finish_non_exhaustive()
    }
}
