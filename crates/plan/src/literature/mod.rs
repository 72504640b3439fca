//! What the older systems send, as closed formulas: CrypTFlow2, SiRNN, CoPriv and PrivQuant on the reference
//! implementation SCI, whose traffic was measured to the byte (`design.md`, section 6).
//!
//! These price the papers' *tables*: im2col copies, padded OT batches, uniform rings. What
//! `copriv-infer2pc` sends is [`crate::Plan`]'s to predict.
//!
//! * [`sci`]: OT extension, correlated OTs, comparison and what is built on it.
//! * [`uniform`]: products at one width `l` (CrypTFlow2, eprint 2020/1002).
//! * [`winograd`]: CoPriv's convolution (NeurIPS 2023, section 4.1).
//! * [`mixed`]: products of different widths (SiRNN, eprint 2021/459) with PrivQuant's choices
//!   (ICCAD 2024, table 4).
//! * [`residual`]: PrivQuant's residual blocks (table 10), by the presets' plans.
//! * [`figures`] and [`tables`]: the printed figures, and this project's beside them.

pub mod figures;
pub mod mixed;
pub mod residual;
pub mod sci;
pub mod tables;
pub mod uniform;
pub mod winograd;

use std::iter::Sum;
use std::ops::Add;

use copriv_model::kernel::Geometry;

pub use mixed::{Extended, Mixed};

/// Both papers print GiB as "GB".
pub const GIB: f64 = (1u64 << 30) as f64;

/// Bytes from client to server and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Client to server.
    pub up: u64,
    /// Server to client.
    pub down: u64,
}

impl Sent {
    /// Both directions.
    pub fn bytes(self) -> u64 {
        self.up + self.down
    }

    /// The same with parties exchanged.
    pub fn reversed(self) -> Self {
        Self { up: self.down, down: self.up }
    }

    /// `n` times as much.
    pub fn times(self, n: u64) -> Self {
        Self { up: n * self.up, down: n * self.down }
    }
}

impl Add for Sent {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { up: self.up + other.up, down: self.down + other.down }
    }
}

impl Sum for Sent {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |a, b| a + b)
    }
}

/// A convolution after im2col: `groups` products of `filters x fan_in` weights with
/// `fan_in x pixels` activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Products.
    pub groups: u64,
    /// Filters of one group.
    pub filters: u64,
    /// Weights of a filter.
    pub fan_in: u64,
    /// Output pixels.
    pub pixels: u64,
}

impl Matrix {
    /// `filters` of `kernel x kernel` on `channels`, onto a map of `side x side`.
    pub fn dense(side: u64, channels: u64, filters: u64, kernel: u64) -> Self {
        Self { groups: 1, filters, fan_in: channels * kernel * kernel, pixels: side * side }
    }

    /// Bits by which a sum over the fan-in grows.
    pub fn growth(&self) -> u32 {
        self.fan_in.next_power_of_two().ilog2()
    }

    fn weights(&self) -> u64 {
        self.filters * self.fan_in
    }

    fn copies(&self) -> u64 {
        self.fan_in * self.pixels
    }
}

impl From<&Geometry> for Matrix {
    fn from(g: &Geometry) -> Self {
        let (rows, columns) = g.output_size();
        Self {
            groups: g.groups as u64,
            filters: (g.filters / g.groups) as u64,
            fan_in: (g.channels_per_group() * g.kernel * g.kernel) as u64,
            pixels: (rows * columns) as u64,
        }
    }
}
