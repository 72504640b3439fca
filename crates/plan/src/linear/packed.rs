//! Packed VOLE (design section 5): groups of weight digits that multiply the same plane.
//!
//! Per input channel and plane, every bit `b` of `v - lo` of every tap and filter is a *digit*; its
//! product with the plane is needed modulo `2^width` with
//! `width = filter_ring - zeros(factor) - b`. Weights of three values are one digit of radix 3
//! instead, where that is cheaper: five of them on the 243 points of a tree of depth 8. Digits are sorted by width, the widest first, and cut
//! into groups of at most `k`; a group's message has its widest digit's bits an entry. This packs the
//! same bit plane of many weights together, so that higher planes send fewer bits.
//!
//! The client may draw its mask as it likes: where planes are inputs it takes the first group's
//! sum for it, and that group sends nothing.

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
        let radix = radix(product, form, plane);
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
            let silent = start == 0 && form.planes_are_inputs();
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

/// 3 if all weights of the plane have three values and a ternary group is cheaper than bit planes.
fn radix(product: &Product, form: &Form, plane: usize) -> u16 {
    let mut taps = form.taps.iter().filter(|tap| tap.plane == plane);
    let three = taps.all(|tap| tap.range.1 - tap.range.0 == 2);
    let (ring, m, k) = (product.output_ring() as usize, most(product, 3), most(product, 2));
    if three && k >= 2 && ring * k < (2 * ring - 1) * m { 3 } else { 2 }
}

/// `n` digits in as few groups of at most `k` as possible, of sizes as equal as possible: fewer
/// leaves for the same bytes.
fn sizes(n: usize, k: usize) -> impl Iterator<Item = usize> {
    let groups = n.div_ceil(k);
    (0..groups).map(move |i| n / groups + usize::from(i < n % groups))
}

/// How many digits of a plane have each width, the widest first.
fn histogram(product: &Product, form: &Form, plane: usize, part: usize) -> Vec<(u32, usize)> {
    let mut counts = [0usize; 65];
    let radix = radix(product, form, plane);
    let filters = part * product.filters_per_group()..(part + 1) * product.filters_per_group();
    let mut rings = [0usize; 65];
    for k in filters {
        rings[product.filter_ring(k) as usize] += 1;
    }
    for tap in form.taps.iter().filter(|tap| tap.plane == plane) {
        for (ring, filters) in rings.iter().enumerate().filter(|(_, n)| **n > 0) {
            let top = (ring as u32).saturating_sub(tap.zeros());
            for bit in 0..places(tap, radix).min(top) {
                counts[(top - bit) as usize] += filters;
            }
        }
    }
    counts.iter().enumerate().rev().filter(|(_, n)| **n > 0).map(|(w, n)| (w as u32, *n)).collect()
}

/// A group's width (`None` if silent) and depth.
type Size = (Option<u32>, usize);

/// Calls `f(planes, their groups, their entries)` for all planes, those that are alike at once.
fn for_each_plane(product: &Product, form: &Form, mut f: impl FnMut(u64, &[Size], usize)) {
    let parts = product.geometry.groups;
    // Without shifts all parts are alike.
    let (parts, each) = if product.channel_shifts.is_empty() { (1, parts) } else { (parts, 1) };
    let channels = (each * product.geometry.channels_per_group()) as u64;
    for part in 0..parts {
        for (plane, &len) in form.planes.iter().enumerate() {
            let radix = radix(product, form, plane);
            let histogram = histogram(product, form, plane, part);
            let n = histogram.iter().map(|(_, n)| n).sum();
            let mut groups = Vec::new();
            let (mut at, mut start) = (0, 0);
            let mut end = histogram.first().map_or(0, |(_, n)| *n);
            for size in sizes(n, most(product, radix)) {
                while start >= end {
                    at += 1;
                    end += histogram[at].1;
                }
                let silent = start == 0 && form.planes_are_inputs();
                groups.push(((!silent).then_some(histogram[at].0), depth(radix, size)));
                start += size;
            }
            f(channels, &groups, len);
        }
    }
}

/// Bytes from client to server in one inference.
pub(super) fn message_bytes(product: &Product, form: &Form) -> u64 {
    let mut bytes = 0;
    for_each_plane(product, form, |planes, groups, len| {
        let bits: u64 = groups.iter().filter_map(|g| g.0).map(|w| u64::from(w) * len as u64).sum();
        bytes += planes * bits.div_ceil(8);
    });
    bytes
}

/// AES blocks of each party in one inference: the leaves' vectors in lanes of 16, 32 or 64 bits.
pub(super) fn blocks(product: &Product, form: &Form) -> f64 {
    let mut blocks = 0.0;
    for_each_plane(product, form, |planes, groups, len| {
        for (width, depth) in groups {
            let lane = width.unwrap_or(product.ring).next_power_of_two().max(16) as usize;
            blocks += (planes << depth) as f64 * (1 + (len * lane).div_ceil(128)) as f64;
        }
    });
    blocks
}

/// `(depth, how many)` of all trees.
pub(super) fn trees(product: &Product, form: &Form) -> Vec<(u32, u64)> {
    let mut counts = [0u64; 11];
    for_each_plane(product, form, |planes, groups, _| {
        for (_, depth) in groups {
            counts[*depth] += planes;
        }
    });
    counts.iter().enumerate().filter(|(_, n)| **n > 0).map(|(d, n)| (d as u32, *n)).collect()
}
