//! `u` and `z_i`, and the shares made of them.

use std::marker::PhantomData;

use super::{Lane, Radices, fold};
use crate::error::check_argument;
use crate::{OtError, Secret};

/// `u = sum_p G_p` and `z_i = sum_p p_i G_p` of one group and use, and the memory to make the next.
pub struct Sums<L> {
    /// `u`, then each `z_i`, `stride` blocks each.
    blocks: Secret<u128>,
    stride: usize,
    columns: usize,
    digits: usize,
    leaves: Secret<u128>,
    scratch: Secret<u128>,
    lane: PhantomData<L>,
}

/// Sums start at multiples of this many blocks of 16 bytes.
pub(super) const ALIGN_BLOCKS: usize = 4;

impl<L: Lane> Sums<L> {
    /// No sums yet.
    pub fn new() -> Self {
        Self {
            blocks: Secret::default(),
            stride: 0,
            columns: 0,
            digits: 0,
            leaves: Secret::default(),
            scratch: Secret::default(),
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

    /// `u`.
    pub fn u(&self) -> &[L] {
        self.vector(0)
    }

    /// `z_i`.
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

    /// The holder's message `c = r - u`.
    pub fn message(&self, r: &[L], message: &mut [L]) -> Result<(), OtError> {
        check_argument("columns", self.columns, r.len())?;
        check_argument("columns", self.columns, message.len())?;
        for ((c, &r), &u) in message.iter_mut().zip(r).zip(self.u()) {
            *c = r.minus(u);
        }
        Ok(())
    }

    /// The holder's share `v_i = -z_i`.
    ///
    /// # Panics
    /// If there is no digit `i`.
    pub fn holder_share(&self, i: usize, share: &mut [L]) -> Result<(), OtError> {
        check_argument("columns", self.columns, share.len())?;
        for (v, &z) in share.iter_mut().zip(self.z(i)) {
            *v = L::default().minus(z);
        }
        Ok(())
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
        for (((q, &c), &u), &z) in share.iter_mut().zip(message).zip(self.u()).zip(self.z(i)) {
            *q = c.plus(u).times(digit).minus(z);
        }
        Ok(())
    }

    /// Expands a tree of `depth` with `grow` and sums it up.
    pub(super) fn fill(
        &mut self,
        key: u128,
        depth: usize,
        radices: &Radices,
        columns: usize,
        grow: impl FnOnce(&mut [u128]),
    ) -> Result<(), OtError> {
        check_argument("tree depth of the radices", depth, radices.depth() as usize)?;
        let blocks = (columns * L::BITS as usize).div_ceil(128);
        self.columns = columns;
        self.digits = radices.digits();
        self.stride = blocks.next_multiple_of(ALIGN_BLOCKS);
        reserve(&mut self.blocks, self.stride * (1 + self.digits));
        reserve(&mut self.leaves, 1 << depth);
        let leaves = &mut self.leaves[..1 << depth];
        grow(leaves);
        let job = fold::Job { key, leaves, radices, blocks, stride: self.stride };
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

/// Makes room for `n` values; what was there is wiped if it must move.
pub(super) fn reserve(values: &mut Secret<u128>, n: usize) {
    if values.len() < n {
        *values = Secret::zeros(n);
    }
}
