//! Alphabets of a group, and which leaf stands for which point.
//!
//! A point `(p_1 .. p_m)` has the number `x = sum_i p_i prod_(j<i) radix_j`, the first digit being the
//! lowest, and the leaf of that number. With `P` points, the leaves `P ..` of the tree stand for the
//! points `0 ..` again.

use super::MAX_DEPTH;
use crate::OtError;
use crate::error::{check_argument, check_range};

/// The radices of a group's digits; their product is at most `2^MAX_DEPTH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Radices {
    radices: [u16; MAX_DEPTH as usize],
    digits: usize,
    points: usize,
    steps: Steps,
}

/// Digits as they are summed up, lowest first: one whose radix is a power of two is one for each bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Steps {
    radices: [u16; MAX_DEPTH as usize],
    /// The digit that each belongs to.
    digits: [u8; MAX_DEPTH as usize],
    len: usize,
}

impl Radices {
    /// Any radices of at least two.
    pub fn new(radices: &[u16]) -> Result<Self, OtError> {
        check_range("digits of a group", radices.len() as u64, 1, MAX_DEPTH.into())?;
        let mut all = [1; MAX_DEPTH as usize];
        let mut points = 1;
        for (slot, &radix) in all.iter_mut().zip(radices) {
            check_range("radix", radix.into(), 2, 1 << MAX_DEPTH)?;
            *slot = radix;
            points *= usize::from(radix);
            check_range("points of a group", points as u64, 2, 1 << MAX_DEPTH)?;
        }
        Ok(Self { radices: all, digits: radices.len(), points, steps: Steps::new(radices) })
    }

    /// `k` binary digits: a bit plane of `k` numbers.
    pub fn binary(k: usize) -> Result<Self, OtError> {
        check_range("binary digits", k as u64, 1, MAX_DEPTH.into())?;
        Self::new(&[2; MAX_DEPTH as usize][..k])
    }

    /// `m` ternary digits: five are 243 points in a tree of depth 8.
    pub fn ternary(m: usize) -> Result<Self, OtError> {
        check_range("ternary digits", m as u64, 1, 6)?;
        Self::new(&[3; 6][..m])
    }

    /// The radices, lowest digit first.
    pub fn radices(&self) -> &[u16] {
        &self.radices[..self.digits]
    }

    /// Number of digits.
    pub fn digits(&self) -> usize {
        self.digits
    }

    /// Number of points.
    pub fn points(&self) -> usize {
        self.points
    }

    /// Depth of the tree that has just enough leaves.
    pub fn depth(&self) -> u32 {
        self.points.next_power_of_two().ilog2()
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) fn steps(&self) -> &Steps {
        &self.steps
    }

    /// The leaf that stands for these digits, to be punctured there. Apart from errors its time does
    /// not depend on the digits.
    pub fn leaf(&self, digits: &[u16]) -> Result<u16, OtError> {
        check_argument("digits of a group", self.digits, digits.len())?;
        let mut leaf = 0;
        for (&digit, &radix) in digits.iter().zip(self.radices()).rev() {
            check_range("digit", digit.into(), 0, u64::from(radix) - 1)?;
            leaf = leaf * usize::from(radix) + usize::from(digit);
        }
        Ok(leaf as u16)
    }
}

impl Steps {
    /// For radices whose product is at most `2^MAX_DEPTH`.
    fn new(radices: &[u16]) -> Self {
        let mut steps = Self { radices: [0; MAX_DEPTH as usize], digits: [0; MAX_DEPTH as usize], len: 0 };
        for (digit, &radix) in (0..).zip(radices) {
            let (radix, levels) = if radix.is_power_of_two() { (2, radix.ilog2()) } else { (radix, 1) };
            for _ in 0..levels {
                steps.radices[steps.len] = radix;
                steps.digits[steps.len] = digit;
                steps.len += 1;
            }
        }
        steps
    }

    /// The radix of each step.
    pub(super) fn radices(&self) -> &[u16] {
        &self.radices[..self.len]
    }

    /// The digit of each step.
    pub(super) fn digits(&self) -> &[u8] {
        &self.digits[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_leaves() {
        let shapes: [(&[u16], usize, u32); 6] = [
            (&[2], 2, 1),
            (&[3], 3, 2),
            (&[3; 5], 243, 8),
            (&[16, 16], 256, 8),
            (&[5, 3, 2], 30, 5),
            (&[1024], 1024, 10),
        ];
        for (radices, points, depth) in shapes {
            let shape = Radices::new(radices).unwrap();
            assert_eq!((shape.points(), shape.depth(), shape.digits()), (points, depth, radices.len()));
            let last: Vec<u16> = radices.iter().map(|r| r - 1).collect();
            assert_eq!(usize::from(shape.leaf(&last).unwrap()), points - 1);
            assert!(shape.leaf(&last[1..]).is_err() && shape.leaf(radices).is_err());
        }
        assert_eq!(Radices::new(&[5, 3, 2]).unwrap().leaf(&[4, 2, 1]).unwrap(), 4 + 2 * 5 + 15);
        let none: [&[u16]; 6] = [&[], &[1], &[2, 0], &[1025], &[3; 7], &[2; 11]];
        for radices in none {
            assert!(Radices::new(radices).is_err(), "{radices:?}");
        }
        assert!(Radices::binary(11).is_err() && Radices::binary(0).is_err() && Radices::ternary(7).is_err());
        assert_eq!(Radices::binary(10).unwrap().points(), 1024);
    }
}
