//! Packed VOLE (design section 5): groups of weight digits that multiply the same plane.
//!
//! Per input channel and plane, every bit `b` of `v - lo` of every tap and filter is a *digit*; its
//! product with the plane is needed modulo `2^width` with
//! `width = filter_ring - zeros(factor) - b`. Weights of three values are one digit of radix 3
//! instead, where that is cheaper: five of them on the 243 points of a tree of depth 8. Digits are sorted by width, the widest first, and cut
//! into groups of at most `k`; a group's message has its widest digit's bits an entry. This packs the
//! same bit plane of many weights together, so that higher planes send fewer bits.
//!
//! The client may draw its mask as it likes: where planes are inputs, in the product's own ring, it takes
//! the first group's sum for it, and that group sends nothing.

use std::ops::Range;

use super::{Form, Method, Product, Tap};

/// One digit of one weight of a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digit {
    /// Filter, within its group of the convolution.
    pub filter: usize,
    /// Which of the form's taps.
    pub tap: usize,
    /// The digit counts `2^bit`.
    pub bit: u32,
    /// Bits of the ring that its product is needed in.
    pub width: u32,
}

/// Digits that share a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Their indices in [`PlaneGroups::digits`].
    pub digits: Range<usize>,
    /// Bits of a message entry.
    pub width: u32,
    /// The mask is chosen so that nothing is sent.
    pub silent: bool,
}

/// The digits and groups of a plane, the same for every channel of a group of the convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaneGroups {
    /// Entries of the plane.
    pub len: usize,
    /// Values of a digit: 2, or 3 for all of `v - lo`.
    pub radix: u16,
    /// The widest first.
    pub digits: Vec<Digit>,
    /// In order.
    pub groups: Vec<Group>,
}

impl PlaneGroups {
    /// Plane `plane` for the filters of group `part` of the convolution.
    pub fn new(product: &Product, form: &Form, plane: usize, part: usize) -> Self {
        let three = form.taps.iter().filter(|tap| tap.plane == plane).all(is_ternary);
        let radix = radix(product, three);
        let mut digits = Vec::new();
        for filter in 0..product.filters_per_group() {
            let ring = product.filter_ring(part * product.filters_per_group() + filter);
            for (t, tap) in form.taps.iter().enumerate().filter(|(_, tap)| tap.plane == plane) {
                let top = ring.saturating_sub(tap.zeros());
                digits.extend((0..places(tap, radix).min(top)).map(|bit| Digit {
                    filter,
                    tap: t,
                    bit,
                    width: top - bit,
                }));
            }
        }
        digits.sort_by_key(|d| std::cmp::Reverse(d.width));
        let mut groups = Vec::new();
        let mut start = 0;
        for size in sizes(digits.len(), most(product, radix)) {
            let width = digits[start].width;
            let silent = start == 0 && sets_mask(product, form);
            groups.push(Group { digits: start..start + size, width, silent });
            start += size;
        }
        Self { len: form.planes[plane], radix, digits, groups }
    }

    /// Depth of a group's tree.
    pub fn depth(&self, group: &Group) -> u32 {
        depth(self.radix, group.digits.len()) as u32
    }

    /// The digit's value in a weight.
    pub fn value(&self, tap: &Tap, digit: &Digit, v: i64) -> u16 {
        let offset = v.wrapping_sub(tap.range.0) as u64;
        (if self.radix == 2 { offset >> digit.bit & 1 } else { offset }) as u16
    }

    /// Bytes of the plane's message: one bit string.
    pub fn message_bytes(&self) -> usize {
        let sent = self.groups.iter().filter(|g| !g.silent);
        let bits: u64 = sent.map(|g| u64::from(g.width) * self.len as u64).sum();
        bits.div_ceil(8) as usize
    }
}

/// Whether the first group of a plane may define the mask: all of its bits, which the sum has.
fn sets_mask(product: &Product, form: &Form) -> bool {
    form.planes_are_inputs() && product.input_ring() == product.ring
}

/// Most digits of a group.
fn most(product: &Product, radix: u16) -> usize {
    match product.method {
        Method::Packed { k } if radix == 2 => k as usize,
        // 3^m <= 2^k
        Method::Packed { k } => (k as usize * 630_929 / 1_000_000).max(1),
        Method::Cot { .. } => 1,
    }
}

/// Depth of the tree of a group.
fn depth(radix: u16, size: usize) -> usize {
    usize::from(radix).pow(size as u32).next_power_of_two().ilog2() as usize
}

/// Digits of a weight.
fn places(tap: &Tap, radix: u16) -> u32 {
    if radix == 2 { tap.bits() } else { 1 }
}

/// Whether a tap's weights have three values.
fn is_ternary(tap: &Tap) -> bool {
    tap.range.1 - tap.range.0 == 2
}

/// 3 if all weights of the plane have three values and a ternary group is cheaper than bit planes.
fn radix(product: &Product, three: bool) -> u16 {
    let (ring, m, k) = (product.output_ring() as usize, most(product, 3), most(product, 2));
    if three && k >= 2 && ring * k < (2 * ring - 1) * m { 3 } else { 2 }
}

/// `n` digits in as few groups of at most `k` as possible, of sizes as equal as possible: fewer
/// leaves for the same bytes.
fn sizes(n: usize, k: usize) -> impl Iterator<Item = usize> {
    let groups = n.div_ceil(k);
    (0..groups).map(move |i| n / groups + usize::from(i < n % groups))
}

/// What all groups of a product come to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Total {
    /// Bytes from client to server in one inference.
    pub message_bytes: u64,
    /// AES blocks of each party in one inference: the leaves' vectors in lanes of 16, 32 or 64 bits.
    pub blocks: f64,
    /// Trees of each depth.
    pub trees: [u64; 11],
}

impl Total {
    /// `(depth, how many)` of all trees.
    pub fn trees(&self) -> Vec<(u32, u64)> {
        let depths = self.trees.iter().enumerate().filter(|(_, n)| **n > 0);
        depths.map(|(depth, n)| (depth as u32, *n)).collect()
    }
}

/// Planes that are alike, and how many digits of each width they have: what prices groups of every size,
/// without making their lists.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planes(Vec<Alike>);

#[derive(Clone, Debug, PartialEq)]
struct Alike {
    /// How many.
    planes: u64,
    /// Entries of each.
    len: usize,
    /// Whether radix 3 is possible.
    three: bool,
    /// `(width, digits)` in radix 2 and in radix 3, the widest first.
    widths: [Vec<(u32, usize)>; 2],
}

impl Planes {
    pub fn new(product: &Product, form: &Form) -> Self {
        let (parts, filters) = (product.geometry.groups, product.filters_per_group());
        // Without shifts all parts are alike.
        let (parts, each) = if product.channel_shifts.is_empty() { (1, parts) } else { (parts, 1) };
        let mut all: Vec<Alike> = Vec::new();
        for part in 0..parts {
            let mut rings = [0usize; 65];
            for k in part * filters..(part + 1) * filters {
                rings[product.filter_ring(k) as usize] += 1;
            }
            for (plane, &len) in form.planes.iter().enumerate() {
                let taps = || form.taps.iter().filter(move |tap| tap.plane == plane);
                let new = Alike {
                    planes: (each * product.geometry.channels_per_group()) as u64,
                    len,
                    three: taps().all(is_ternary),
                    widths: [2, 3].map(|radix| widths(taps(), &rings, radix)),
                };
                let same = |a: &&mut Alike| (a.len, a.three, &a.widths) == (new.len, new.three, &new.widths);
                match all.iter_mut().find(same) {
                    Some(alike) => alike.planes += new.planes,
                    None => all.push(new),
                }
            }
        }
        Self(all)
    }

    /// With the groups of the product's method.
    pub fn total(&self, product: &Product, form: &Form) -> Total {
        let mut total = Total::default();
        let sets_mask = sets_mask(product, form);
        for alike in &self.0 {
            let radix = radix(product, alike.three);
            let widths = &alike.widths[usize::from(radix == 3)];
            let n = widths.iter().map(|(_, n)| n).sum();
            let (mut at, mut start, mut bits) = (0, 0, 0);
            let mut end = widths.first().map_or(0, |(_, n)| *n);
            for size in sizes(n, most(product, radix)) {
                while start >= end {
                    at += 1;
                    end += widths[at].1;
                }
                let (width, depth) = (widths[at].0, depth(radix, size));
                if start > 0 || !sets_mask {
                    bits += u64::from(width) * alike.len as u64;
                }
                let lane = width.next_power_of_two().max(16) as usize;
                total.blocks +=
                    (alike.planes << depth) as f64 * (1 + (alike.len * lane).div_ceil(128)) as f64;
                total.trees[depth] += alike.planes;
                start += size;
            }
            total.message_bytes += alike.planes * bits.div_ceil(8);
        }
        total
    }
}

/// How many digits of a plane have each width, the widest first, of `rings[l]` filters in `Z_2^l`.
fn widths<'t>(taps: impl Iterator<Item = &'t Tap>, rings: &[usize; 65], radix: u16) -> Vec<(u32, usize)> {
    let mut counts = [0usize; 65];
    for tap in taps {
        for (ring, filters) in rings.iter().enumerate().filter(|(_, n)| **n > 0) {
            let top = (ring as u32).saturating_sub(tap.zeros());
            for bit in 0..places(tap, radix).min(top) {
                counts[(top - bit) as usize] += filters;
            }
        }
    }
    counts.iter().enumerate().rev().filter(|(_, n)| **n > 0).map(|(w, n)| (w as u32, *n)).collect()
}
