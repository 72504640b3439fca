//! Shape and price of the operators of CrypTFlow2 and SiRNN, as their reference implementation
//! (SCI) has them. Element by element, with IKNP:
//!
//! | operator | bytes |
//! |---|---|
//! | comparison of `l <= 4` bits | `32 + 2^l / 8` |
//! | of `l > 4` bits: `q = ceil(l / 4)`, `t = 2q - 2 - ceil(log2 q)` | `36 q + 18 t + t / 2` |
//! | the same with equality, last digit of `r` bits | `36 (q - 1) + 32 + 2^r / 4 + 34.75 (q - 1)` |
//! | AND | 18 |
//! | wrap with a known sign | 32.5 |
//! | ReLU's MUX | `2 (16 + l / 4)` |
//! | B2A into `l` bits, MUX by correlated OT | as ours: `16 + (l - 1) / 8`, `2 (16 + l / 8)` |
//!
//! All 1-of-N OTs are Kolesnikov's and Kumaresan's (32 B and all N entries), the client choosing.

use crate::comparison::{Finds, Tree};
use crate::ot::packed;
use crate::traffic::Flow;

/// Random OTs that key the 1-of-N extension at set-up, the client sending.
pub const KEY_OTS: u64 = 256;
/// Bits of a digit.
const DIGIT: u32 = 4;

/// 1-of-`2^m` OTs of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookups {
    /// How many.
    pub n: u64,
    /// Bits of a choice.
    pub m: u32,
    /// Bits of an entry.
    pub t: u32,
}

/// A millionaires' comparison of `bits`-bit integers: CrypTFlow2 section 3, and with equality
/// SiRNN appendix A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Width of the operands.
    pub bits: u32,
    /// Whether `1{x = y}` is found, too.
    pub equality: bool,
}

impl Comparison {
    /// Digits and levels.
    pub fn tree(&self) -> Tree {
        let finds = if self.equality { Finds::GreaterAndEqual } else { Finds::Greater };
        Tree::with_digits(finds, self.bits, DIGIT)
    }

    /// The digits' tables, for `n` comparisons each. Without equality the last digit, too, has a
    /// table of full size, and a single digit's entries have one bit.
    pub fn leaves(&self, n: u64) -> Vec<Lookups> {
        let digits = self.tree().digits;
        let single = digits.len() == 1 && !self.equality;
        let table = |&width: &u32| {
            let whole = digits.len() > 1 && !self.equality;
            Lookups { n, m: if whole { DIGIT } else { width }, t: if single { 1 } else { 2 } }
        };
        digits.iter().map(table).collect()
    }

    /// Bit triples of one comparison: with equality a pair of ANDs is one triple of two bits.
    pub fn triples(&self) -> u64 {
        let ands = self.tree().levels().into_iter().flat_map(|level| level.ands);
        ands.map(|k| if self.equality { 1 } else { u64::from(k) }).sum()
    }

    /// What makes the triples of `n` comparisons, if any are needed.
    pub fn triple_lookups(&self, n: u64) -> Lookups {
        let triples = n * self.triples();
        if self.equality { Lookups { n: triples, m: 3, t: 2 } } else { and_lookups(triples) }
    }

    /// Bits that each party opens on each level.
    pub fn opened(&self) -> Vec<u32> {
        let bits = |k: u32| if self.equality { 1 + k } else { 2 * k };
        let levels = self.tree().levels();
        levels.iter().map(|level| level.ands.iter().map(|&k| bits(k)).sum()).collect()
    }

    /// Messages of `n` comparisons.
    pub fn flows(&self, n: u64) -> Vec<Flow> {
        if self.bits == 0 {
            return Vec::new();
        }
        let mut lookups = self.leaves(n);
        lookups.push(self.triple_lookups(n));
        let opened = self.opened().into_iter().map(|bits| packed(n, u64::from(bits)));
        [exchange(&lookups), opened.map(|bytes| Flow::Both { up: bytes, down: bytes }).collect()].concat()
    }
}

/// Two ANDs, or two triples, from one OT of 16 entries of two bits.
pub fn and_lookups(n: u64) -> Lookups {
    Lookups { n: n.div_ceil(2), m: 4, t: 2 }
}

/// One OT of four entries finds the wrap of a value whose sign is shared (SiRNN, MSB-to-wrap).
pub fn wrap_lookups(n: u64) -> Lookups {
    Lookups { n, m: 2, t: 1 }
}

/// The client's columns, then the server's entries.
pub fn exchange(lookups: &[Lookups]) -> Vec<Flow> {
    let columns = |l: &Lookups| 256 * l.n.div_ceil(8);
    let entries = |l: &Lookups| packed(l.n, u64::from(l.t) << l.m);
    vec![Flow::Up(lookups.iter().map(columns).sum()), Flow::Down(lookups.iter().map(entries).sum())]
}
