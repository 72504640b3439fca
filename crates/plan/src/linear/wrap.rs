//! Products of shares in a ring narrower than the accumulator's (SiRNN, eprint 2021/459, section 3.4;
//! PrivQuant, section 4.1.1 and table 4).
//!
//! With `x' = x + offset`, not negative and shared in `Z_2^a`, the client's mask `r < 2^a` and the
//! server's `X = x'_s + (x'_c - r) mod 2^a`,
//!
//! ```text
//! x = X - offset + r - 2^a wrap,    wrap = 1{X + r >= 2^a}
//! W x = W (X - offset) + W r - 2^a (W wrap)
//! ```
//!
//! modulo the accumulator's `2^l`: the first product is the server's own, the second is made offline of a
//! mask of `a` bits, and the third is needed modulo `2^(l - a)`. Per input value it is a comparison and
//! *one* correlated OT whose message are all the weights that the value meets. If the sign of `x'` is
//! known, `1 - wrap = (1 - msb(X))(1 - msb(r))`, and the correlated OT alone is enough.
//!
//! | row of table 4 | receiver | `a` |
//! |---|---|---|
//! | weights extended | either | the values' own ring |
//! | activations extended | either | that and `ceil(log2 fan-in)` bits for the sum |
//! | neither (not in the table) | either | `l`: there is no wrap |
//!
//! The weights' own extension is free: the server knows them, and their choices are bits of `v - lo`.

use serde::Serialize;

use super::{Algorithm, Form, Product, cot};
use crate::baseline;
use crate::choice::Choice;
use crate::cost::{self, Cost};
use crate::ot::packed;
use crate::traffic::Flow;
use crate::uses::{Use, UseKind};

/// The input's shares are in a ring of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Wrap {
    /// `a`: ring of the shares and of the mask.
    pub from: u32,
    /// Makes every value non-negative.
    pub offset: u64,
    /// `x + offset < 2^(a-1)`.
    pub sign_known: bool,
}

/// The corrections of a product: one for each input value that meets a weight.
#[derive(Clone, Debug)]
pub struct Wraps {
    /// The ring of the inputs.
    pub wrap: Wrap,
    /// Bits of the products with the weights, `l - a` less what all left shifts have in common.
    pub width: u32,
    channels: usize,
    filters: usize,
    sites: Vec<Site>,
}

/// A pixel and the weights that it meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Index in a channel, row-major.
    pub pixel: usize,
    /// `(kernel position, output pixel)`.
    pub uses: Vec<(usize, usize)>,
}

impl Wraps {
    /// Those of a product; `None` if its shares need no correction.
    pub fn new(product: &Product) -> Option<Self> {
        let (wrap, width) = (product.wrap?, product.wrap_width()?);
        let form = direct(product);
        let positions: Vec<usize> = form.taps.iter().map(|tap| tap.combination[0].0).collect();
        let uses =
            cot::uses(&form).into_iter().map(|uses| uses.into_iter().map(|(t, at)| (positions[t], at)));
        let sites = form.pixels_sent().into_iter().zip(uses);
        let sites = sites.map(|(pixel, uses)| Site { pixel, uses: uses.collect() });
        Some(Self {
            wrap,
            width,
            channels: product.geometry.channels,
            filters: product.filters_per_group(),
            sites: sites.filter(|site| !site.uses.is_empty()).collect(),
        })
    }

    /// The pixels of each channel.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// Values to correct.
    pub fn len(&self) -> usize {
        self.channels * self.sites.len()
    }

    /// Whether there is nothing to correct.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries of a site's message: `[uses, filters of the group]`.
    pub fn entries(&self, site: &Site) -> usize {
        site.uses.len() * self.filters
    }
}

impl Product {
    /// Ring of the input's shares and of the mask.
    pub fn input_ring(&self) -> u32 {
        self.wrap.map_or(self.ring, |wrap| wrap.from)
    }

    /// [`Wraps::width`]; `None` if there is nothing to correct.
    fn wrap_width(&self) -> Option<u32> {
        let shift = self.channel_shifts.iter().copied().min().unwrap_or(0);
        self.ring.checked_sub(self.wrap?.from + shift).filter(|width| *width > 0)
    }

    /// What the corrections cost: the wraps, then for each value a flip and the message of its OT.
    pub(super) fn wrap_cost(&self, choice: Choice) -> Cost {
        let (Some(wrap), Some(width)) = (self.wrap, self.wrap_width()) else { return Cost::default() };
        let (mut sites, mut bytes) = (0, 0);
        for uses in cot::use_counts(&direct(self)).into_iter().filter(|n| *n > 0) {
            sites += 1;
            bytes += packed(uses * self.filters_per_group() as u64, u64::from(width));
        }
        let channels = self.geometry.channels as u64;
        let n = channels * sites;
        let found = if !wrap.sign_known {
            cost::greater(n, wrap.from, choice)
        } else if choice.preset.is_baseline() {
            Cost::messages(baseline::exchange(&[baseline::wrap_lookups(n)]))
        } else {
            Cost::default()
        };
        let online = vec![Flow::Up(packed(n, 1)), Flow::Down(channels * bytes)];
        found.then(Cost { uses: vec![Use::from_server(n, UseKind::Long)], online })
    }
}

/// The planes in which pixels meet weights, whatever the product's algorithm.
fn direct(product: &Product) -> Form {
    Form::new(Algorithm::Direct, &product.geometry, 0..=0, &[])
}
