//! Widths of weights and activations.

/// How a network's real numbers become integers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Narrow integers that saturate, with proven accumulators.
    Quantised(Bits),
    /// CrypTFlow2's and CoPriv's fixed point: every value in `Z_2^ring` with `scale` fractional
    /// bits, truncated after every product, and *assumed* not to overflow. Weights have 16 bits here,
    /// the widest of the format; older systems send as if they had `ring`, which
    /// [`crate::literature`] prices.
    FixedPoint {
        /// `l`; 41 in CoPriv on CIFAR, 37 for ImageNet.
        ring: u32,
        /// `s`, 12 in all the papers.
        scale: u32,
    },
}

/// Widths of a quantised network.
///
/// Real activations are taken to lie in `[-4, 4)` and weights in `+-4/sqrt(fan-in)`, as batch
/// norm makes them about; from this follow the scales, and so the bits that a requantisation drops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    /// Of weights, 2..=16.
    pub weights: u32,
    /// Of what a convolution reads.
    pub activations: u32,
    /// Of the residual stream; at least `activations`.
    pub residual: u32,
    /// Of the weights of the first and last layer.
    pub ends: u32,
    /// Of the weights of each linear layer, in order; empty for `ends`, `weights`.., `ends`.
    pub layers: Vec<u32>,
}

impl Bits {
    /// `WwAa` with 8-bit residuals and 8-bit weights in the first and last layer (PrivQuant, section 5).
    pub fn new(weights: u32, activations: u32) -> Self {
        Self { weights, activations, residual: 8, ends: 8, layers: Vec::new() }
    }
}

impl From<Bits> for Numbers {
    fn from(bits: Bits) -> Self {
        Self::Quantised(bits)
    }
}
