//! Shape of the millionaires' protocol of CrypTFlow2 (eprint 2020/1002, section 3): digits by
//! 1-of-2^m OT, joined by an AND tree.

use crate::ot::{Flavour, Ots, packed};
use crate::traffic::{Flow, Meter};

/// `1{x > y}` for `bits`-bit integers, x at the server, y at the client, XOR-shared.
///
/// Leaves: for each digit the server offers `(gt, eq)` for every value of the client's digit
/// (the least digit needs no `eq`); the first of the `2^m` messages is free. Inner nodes:
/// `gt = gt_hi ^ (eq_hi & gt_lo)`, `eq = eq_hi & eq_lo`; the two ANDs share `eq_hi`, so that
/// three bits are opened instead of four.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Digit widths, least significant first.
    pub digits: Vec<u32>,
    /// Levels of the tree, from the leaves up.
    pub levels: Vec<Level>,
}

/// One level: neighbours are joined pairwise; a last node without partner moves up as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// ANDs of each joined pair, least significant first: 2 with `eq`, 1 without.
    pub ands: Vec<u32>,
    /// Whether a node is left over.
    pub odd: bool,
}

impl Comparison {
    /// The cheapest digit size for `bits`-bit operands; none for 0 bits (the result is 0).
    pub fn new(bits: u32, flavour: Flavour) -> Self {
        (1..=4)
            .map(|m| Self::with_digits(bits, m))
            .min_by_key(|c| c.millibits(flavour))
            .unwrap_or_else(|| Self::with_digits(bits, 4))
    }

    /// Digits of `m` bits; the most significant one takes what remains.
    pub fn with_digits(bits: u32, m: u32) -> Self {
        let digits: Vec<u32> = (0..bits.div_ceil(m)).map(|i| m.min(bits - i * m)).collect();
        let mut levels = Vec::new();
        let mut nodes = digits.len();
        while nodes > 1 {
            // The least significant pair never needs `eq`.
            let ands = (0..nodes / 2).map(|pair| if pair == 0 { 1 } else { 2 }).collect();
            levels.push(Level { ands, odd: nodes % 2 == 1 });
            nodes = nodes.div_ceil(2);
        }
        Self { digits, levels }
    }

    /// Operand width.
    pub fn bits(&self) -> u32 {
        self.digits.iter().sum()
    }

    /// Bits of table entry of digit `i`: `gt`, and `eq` except for the least digit.
    pub fn entry_bits(&self, i: usize) -> u32 {
        if i == 0 { 1 } else { 2 }
    }

    /// Random OTs that `n` comparisons consume.
    pub fn ots(&self, n: u64) -> Ots {
        let pairs: usize = self.levels.iter().map(|l| l.ands.len()).sum();
        Ots::from_server(n * u64::from(self.bits())) + Ots::both(n * pairs as u64)
    }

    /// Online messages of `n` comparisons.
    pub fn flows(&self, n: u64) -> Vec<Flow> {
        let tables = self
            .digits
            .iter()
            .enumerate()
            .map(|(i, &w)| packed(n, ((1u64 << w) - 1) * u64::from(self.entry_bits(i))));
        let flips = self.digits.iter().map(|&w| packed(n, u64::from(w)));
        let mut flows = vec![Flow::Up(flips.sum()), Flow::Down(tables.sum())];
        for level in &self.levels {
            let opened: u64 = level.ands.iter().map(|&k| 1 + u64::from(k)).sum();
            let bytes = packed(n, opened);
            flows.push(Flow::Both { up: bytes, down: bytes });
        }
        flows
    }

    /// Offline and online thousandths of a bit of one comparison: what the digit size is
    /// chosen by.
    fn millibits(&self, flavour: Flavour) -> u64 {
        // Enough elements for the padding of single messages to vanish.
        const MANY: u64 = 1 << 16;
        let online = Meter::new().count(&self.flows(MANY)).bytes() * 8000 / MANY;
        let ots = self.ots(1);
        online + (ots.server_sends + ots.client_sends) * flavour.millibits()
    }
}
