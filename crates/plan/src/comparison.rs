//! Shape of the comparison protocols of CrypTFlow2 (eprint 2020/1002, section 3): digits by
//! 1-of-2^m OT, joined by AND trees.

use crate::choice::Choice;
use crate::ot::{Ots, packed};
use crate::traffic::{Flow, Meter, Traffic};
use crate::uses::{Use, UseKind};

/// What a tree finds out of `x` at the server and `y` at the client, XOR-shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finds {
    /// `1{x > y}`.
    Greater,
    /// `1{x > y}` and `1{x = y}`.
    GreaterAndEqual,
    /// `1{x = y}`.
    Equal,
}

/// One comparison.
///
/// Leaves: for each digit the server offers what there is to know of it for every value of the
/// client's digit; the first of the `2^m` messages is free. Inner nodes:
/// `gt = gt_hi ^ (eq_hi & gt_lo)`, `eq = eq_hi & eq_lo`; the two ANDs share `eq_hi`, so that
/// three bits are opened instead of four.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// What it finds.
    pub finds: Finds,
    /// Digit widths, least significant first.
    pub digits: Vec<u32>,
}

/// One level of a tree: neighbours are joined pairwise; a last node without partner moves up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// ANDs of each joined pair, least significant first.
    pub ands: Vec<u32>,
    /// Whether a node is left over.
    pub odd: bool,
}

impl Tree {
    /// The best digit size for `bits`-bit operands by the objective; none for 0 bits. Small digits
    /// have short tables, large ones few levels and so few rounds.
    pub fn new(finds: Finds, bits: u32, choice: Choice) -> Self {
        let candidates = (1..=4).map(|m| Self::with_digits(finds, bits, m));
        let value = |tree: &Self| Forest(vec![tree.clone()]).value(choice);
        let best = candidates.min_by(|a, b| value(a).total_cmp(&value(b)));
        best.unwrap_or_else(|| Self::with_digits(finds, bits, 4))
    }

    /// Digits of `m` bits; the most significant one takes what remains.
    pub fn with_digits(finds: Finds, bits: u32, m: u32) -> Self {
        Self { finds, digits: (0..bits.div_ceil(m)).map(|i| m.min(bits - i * m)).collect() }
    }

    /// Operand width.
    pub fn bits(&self) -> u32 {
        self.digits.iter().sum()
    }

    /// Bits of a table entry of digit `i`: nobody asks whether the least digits are equal
    /// unless it is to be found.
    pub fn entry_bits(&self, i: usize) -> u32 {
        match self.finds {
            Finds::Greater if i == 0 => 1,
            Finds::Greater | Finds::GreaterAndEqual => 2,
            Finds::Equal => 1,
        }
    }

    /// The levels, from the leaves up.
    pub fn levels(&self) -> Vec<Level> {
        let ands = |pair| match self.finds {
            Finds::Greater if pair == 0 => 1,
            Finds::Greater | Finds::GreaterAndEqual => 2,
            Finds::Equal => 1,
        };
        let mut levels = Vec::new();
        let mut nodes = self.digits.len();
        while nodes > 1 {
            levels.push(Level { ands: (0..nodes / 2).map(ands).collect(), odd: nodes % 2 == 1 });
            nodes = nodes.div_ceil(2);
        }
        levels
    }
}

/// Comparisons that run side by side, in the rounds of the deepest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forest(pub Vec<Tree>);

impl Forest {
    /// One tree that finds `1{x > y}` of `bits`-bit operands.
    pub fn greater(bits: u32, choice: Choice) -> Self {
        Self(vec![Tree::new(Finds::Greater, bits, choice)])
    }

    /// The trees of a saturation of `ring`-bit values to `window` bits: the carry of the low
    /// bits, the comparison of the bits between them and the sign, and whether those are
    /// opposite (see [`crate::StepKind::Saturate`]).
    pub fn saturate(ring: u32, window: u32, choice: Choice) -> Self {
        let high = ring - 1 - window;
        Self(vec![
            Tree::new(Finds::Greater, window, choice),
            Tree::new(Finds::GreaterAndEqual, high, choice),
            Tree::new(Finds::Equal, high, choice),
        ])
    }

    /// The trees of [`crate::StepKind::TruncateSaturate`]: as of a saturation behind a shift, and the
    /// carry of the bits that are dropped.
    pub fn truncate_saturate(ring: u32, shift: u32, window: u32, choice: Choice) -> Self {
        let high = ring - shift - 1 - window;
        Self(vec![
            Tree::new(Finds::Greater, shift, choice),
            Tree::new(Finds::GreaterAndEqual, window, choice),
            Tree::new(Finds::GreaterAndEqual, high, choice),
            Tree::new(Finds::Equal, high, choice),
        ])
    }

    /// Random OTs that `n` runs consume.
    pub fn ots(&self, n: u64) -> Ots {
        let bits: u32 = self.0.iter().map(Tree::bits).sum();
        let pairs: usize = self.0.iter().flat_map(Tree::levels).map(|l| l.ands.len()).sum();
        Ots::from_server(n * u64::from(bits)) + Ots::both(n * pairs as u64)
    }

    /// The same in the order of use: all digits, then the ANDs of each level, tree by tree.
    pub fn uses(&self, n: u64) -> Vec<Use> {
        let mut uses = Vec::new();
        for tree in &self.0 {
            uses.extend(
                tree.digits
                    .iter()
                    .enumerate()
                    .map(|(i, &m)| Use::from_server(n, UseKind::Table { m, t: tree.entry_bits(i) })),
            );
        }
        let levels: Vec<Vec<Level>> = self.0.iter().map(Tree::levels).collect();
        for depth in 0..levels.iter().map(Vec::len).max().unwrap_or(0) {
            let ands = levels.iter().filter_map(|levels| levels.get(depth)).flat_map(|level| &level.ands);
            uses.extend(ands.flat_map(|&k| Use::both(n, k)));
        }
        uses
    }

    /// Online messages of `n` runs.
    pub fn flows(&self, n: u64) -> Vec<Flow> {
        let (mut flips, mut tables) = (0, 0);
        for tree in &self.0 {
            for (i, &width) in tree.digits.iter().enumerate() {
                flips += packed(n, u64::from(width));
                tables += packed(n, ((1u64 << width) - 1) * u64::from(tree.entry_bits(i)));
            }
        }
        let mut flows = vec![Flow::Up(flips), Flow::Down(tables)];
        for bits in self.opened() {
            let bytes = packed(n, u64::from(bits));
            flows.push(Flow::Both { up: bytes, down: bytes });
        }
        flows
    }

    /// Bits that each party opens on each level.
    pub fn opened(&self) -> Vec<u32> {
        let mut opened = Vec::new();
        for tree in &self.0 {
            for (depth, level) in tree.levels().iter().enumerate() {
                if opened.len() == depth {
                    opened.push(0);
                }
                opened[depth] += level.ands.iter().map(|k| 1 + k).sum::<u32>();
            }
        }
        opened
    }

    /// What the digit size is chosen by.
    fn value(&self, choice: Choice) -> f64 {
        // A layer of this size: large enough for the padding of single messages to vanish, and of
        // the size at which round trips begin to matter.
        const LAYER: u64 = 1 << 14;
        let ots = self.ots(LAYER);
        let fresh = (ots.server_sends + ots.client_sends) * choice.flavour.millibits() / 8000;
        let offline = Traffic { up: fresh, ..Traffic::default() };
        choice.objective.value(offline, Meter::new().count(&self.flows(LAYER)))
    }
}
