//! Price of the operators that steps are made of, on `n` elements: random OTs, made offline, and
//! online messages. Every preset has the same operators; these are where they differ.

use crate::baseline::{self, Comparison};
use crate::choice::Choice;
use crate::comparison::Forest;
use crate::ot::{Ots, packed};
use crate::traffic::Flow;
use crate::uses::{Use, UseKind};

/// What an operator needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Random OTs, in the order in which they are used.
    pub uses: Vec<Use>,
    /// Online messages, in order.
    pub online: Vec<Flow>,
}

impl Cost {
    /// Messages alone.
    pub fn messages(online: Vec<Flow>) -> Self {
        Self { uses: Vec::new(), online }
    }

    /// Random OTs.
    pub fn ots(&self) -> Ots {
        self.uses.iter().map(Use::ots).fold(Ots::default(), std::ops::Add::add)
    }

    /// One after the other.
    pub fn then(mut self, next: Self) -> Self {
        self.uses.extend(next.uses);
        self.online.extend(next.online);
        self
    }
}

impl FromIterator<Cost> for Cost {
    fn from_iter<I: IntoIterator<Item = Self>>(costs: I) -> Self {
        costs.into_iter().fold(Self::default(), Self::then)
    }
}

/// Comparisons of `bits`-bit integers.
pub fn greater(n: u64, bits: u32, choice: Choice) -> Cost {
    if choice.preset.is_baseline() {
        let comparison = Comparison { bits, equality: false };
        return Cost::messages(comparison.flows(n));
    }
    trees(n, &Forest::greater(bits, choice))
}

/// Comparisons side by side.
pub fn trees(n: u64, forest: &Forest) -> Cost {
    Cost { uses: forest.uses(n), online: forest.flows(n) }
}

/// Shared bits into `Z_2^ring`: the product of the two shares is needed modulo `2^(ring-1)`.
pub fn b2a(n: u64, ring: u32) -> Cost {
    if ring > 1 { cot(n, ring - 1) } else { Cost::default() }
}

/// Shared bits times shared values: a correlated OT in each direction.
pub fn mux(n: u64, ring: u32) -> Cost {
    both(Use::both(n, ring), [packed(n, 1), packed(n, u64::from(ring))])
}

/// The MUX behind a comparison: the baselines send both strings instead of a correlation.
pub fn select(n: u64, ring: u32, choice: Choice) -> Cost {
    if choice.preset.is_baseline() {
        return both(Use::both(n, ring), [packed(n, 1), packed(n, 2 * u64::from(ring))]);
    }
    mux(n, ring)
}

/// `max(x, bound)`: DReLU, then MUX.
pub fn clamp(n: u64, ring: u32, choice: Choice) -> Cost {
    greater(n, ring - 1, choice).then(select(n, ring, choice))
}

/// [`crate::StepKind::Truncate`].
pub fn truncate(n: u64, shift: u32, ring: u32, choice: Choice) -> Cost {
    greater(n, shift, choice).then(b2a(n, ring))
}

/// [`crate::StepKind::Extend`].
pub fn extend(n: u64, (from, to, msb_known): (u32, u32, bool), choice: Choice) -> Cost {
    if !msb_known {
        return greater(n, from, choice).then(b2a(n, to - from));
    }
    if choice.preset.is_baseline() {
        let wrap = Cost::messages(baseline::exchange(&[baseline::wrap_lookups(n)]));
        return wrap.then(b2a(n, to - from));
    }
    cot(n, to - from)
}

/// Look-ups in a table of `2^bits` entries of `ring` bits: a random OT a bit, all entries but one.
pub fn look_up(n: u64, bits: u32, ring: u32) -> Cost {
    let entries = packed(n, u64::from(ring) * ((1 << bits) - 1));
    let online = vec![Flow::Up(packed(n, u64::from(bits))), Flow::Down(entries)];
    Cost { uses: vec![Use::from_server(n * u64::from(bits), UseKind::Long)], online }
}

/// [`crate::StepKind::ShiftRight`].
pub fn shift_right(n: u64, ring: u32, shift: u32) -> Cost {
    let low = Cost::messages(Comparison { bits: shift, equality: false }.flows(n));
    let high = Cost::messages(Comparison { bits: ring - shift, equality: true }.flows(n));
    let and = Cost::messages(baseline::exchange(&[baseline::and_lookups(n)]));
    [low, high, and, b2a(n, shift), b2a(n, ring)].into_iter().collect()
}

/// [`crate::StepKind::Saturate`]: trees, two ANDs with a common operand, one AND, MUX and conversion.
pub fn saturate(n: u64, (from, window, ring): (u32, u32, u32), choice: Choice) -> Cost {
    let trees = trees(n, &Forest::saturate(from, window, choice));
    [trees, and(n, 2), and(n, 1), mux_and_b2a(n, ring, n)].into_iter().collect()
}

/// [`crate::StepKind::TruncateSaturate`]: an AND for the tap, another for the carry that is kept.
pub fn truncate_saturate(n: u64, (from, shift, window, ring): (u32, u32, u32, u32), choice: Choice) -> Cost {
    let trees = trees(n, &Forest::truncate_saturate(from, shift, window, choice));
    [trees, and(n, 1), and(n, 2), and(n, 1), and(n, 1), mux_and_b2a(n, ring, 2 * n)].into_iter().collect()
}

/// ANDs of one bit with `k` bits: a triple, both operands opened.
fn and(n: u64, k: u32) -> Cost {
    both(Use::both(n, k), [packed(n, 1 + u64::from(k))])
}

/// A MUX, and in its messages the conversion of `m` bits, whose sender is the server.
fn mux_and_b2a(n: u64, ring: u32, m: u64) -> Cost {
    let (flips, strings) = (packed(n, 1), packed(n, u64::from(ring)));
    let online = vec![
        Flow::Both { up: flips + packed(m, 1), down: flips },
        Flow::Both { up: strings, down: strings + packed(m, u64::from(ring) - 1) },
    ];
    let [there, back] = Use::both(n, ring);
    Cost { uses: vec![there, back, Use::from_server(m, UseKind::Strings { bits: ring - 1 })], online }
}

/// A tournament of `candidates` that carries an index of `index_ring` bits, if any.
pub fn play(n: u64, candidates: usize, (ring, index_ring): (u32, u32), choice: Choice) -> Cost {
    let round = |matches: usize| {
        let m = n * matches as u64;
        let index = if index_ring > 0 { select(m, index_ring, choice) } else { Cost::default() };
        clamp(m, ring, choice).then(index)
    };
    tournament(candidates).map(round).collect()
}

/// Matches in each round of a tournament; a candidate without opponent moves on.
pub fn tournament(candidates: usize) -> impl Iterator<Item = usize> {
    let mut left = candidates;
    std::iter::from_fn(move || {
        let matches = left / 2;
        left -= matches;
        (matches > 0).then_some(matches)
    })
}

/// A correlated OT with the server as sender: the client's flipped choices, then the messages.
fn cot(n: u64, width: u32) -> Cost {
    let online = vec![Flow::Up(packed(n, 1)), Flow::Down(packed(n, u64::from(width)))];
    Cost { uses: vec![Use::from_server(n, UseKind::Strings { bits: width })], online }
}

/// Crossing messages of the same sizes.
fn both<const N: usize>(uses: [Use; 2], bytes: [u64; N]) -> Cost {
    Cost { uses: uses.into(), online: bytes.map(|b| Flow::Both { up: b, down: b }).into() }
}
