//! What both parties run.

use copriv_model::{Mask, NodeId, Subsample};
use serde::Serialize;

use crate::choice::Choice;
use crate::linear::Product;

/// Index of a step in [`Plan::steps`]; also names the shares that it produces.
pub type StepId = usize;

/// A two-party program: what both parties run, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What was chosen before; comparisons choose their digits by it.
    pub choice: Choice,
    /// Operands stand before their users; the last step reveals the result to the client.
    pub steps: Vec<Step>,
    /// For each node of the graph the step whose shares hold its value; `None` where an
    /// activation was fused with the requantisation behind it.
    pub values: Vec<Option<StepId>>,
    /// For each node by how many bits its value is shifted left in those shares.
    pub scaled: Vec<u32>,
}

/// One protocol on all elements of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Name of the layer that it is accounted under.
    pub layer: String,
    /// The protocol.
    pub kind: StepKind,
    /// Operands.
    pub inputs: Vec<StepId>,
    /// Elements of the result.
    pub len: usize,
    /// The result is additively shared in `Z_2^ring`.
    pub ring: u32,
}

/// Protocols. `n` is the number of elements; intervals were proven by `copriv_model::range`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepKind {
    /// The client's integers; the server's share is zero.
    Input,
    /// Product with the weights of a node: `W * x_s` locally, `W * (x_c - r)` after one
    /// message, `W * r` from the offline phase.
    Product {
        /// Whose weights.
        node: NodeId,
        /// Shape and widths.
        product: Product,
    },
    /// Keeps the low bits of each share: local.
    Reduce,
    /// Embeds values of `[-offset, ..)` into a wider ring: adds `offset`, subtracts the wrap
    /// of the shares, subtracts `offset`.
    Extend {
        /// Ring of the operand.
        from: u32,
        /// Makes every value non-negative.
        offset: u64,
        /// `value + offset < 2^(from-1)`: the wrap is an OR of the shares' top bits
        /// (PrivQuant section 4.2.1) instead of a comparison.
        msb_known: bool,
    },
    /// `floor((x + bias) / 2^shift)`: SiRNN's truncate-and-reduce (eprint 2021/459, section
    /// 3.3), exact. Rounding half up has `bias = 2^(shift-1)`.
    Truncate {
        /// Ring of the operand.
        from: u32,
        /// Bits dropped.
        shift: u32,
        /// Added first.
        bias: u64,
    },
    /// `floor((x + bias) / 2^shift)` of two's complement values, in the same ring: what a system
    /// with one ring for all does (CrypTFlow2's and SiRNN's faithful truncation).
    ShiftRight {
        /// Bits dropped.
        shift: u32,
        /// Added first; the sum fits the ring.
        bias: u64,
    },
    /// `x * factor + addend`: local.
    Affine {
        /// Public multiplier.
        factor: u64,
        /// Public addend.
        addend: i64,
    },
    /// `max(x, bound)` by DReLU and MUX; ReLU has the bound 0.
    ClampLow {
        /// Smallest result.
        bound: i64,
    },
    /// `min(x, bound)` by DReLU and MUX.
    ClampHigh {
        /// Largest result.
        bound: i64,
    },
    /// `max(bound, min(x, bound + 2^window - 1))` in one comparison instead of two: with
    /// `x' = x - bound`, the bits of `x'` between window and sign are all zero or the value is
    /// out of range, and then the sign says on which side.
    ///
    /// Of the shares' sum, `carry` out of the window, and for the bits `h` above it
    /// `E1 = 1{h_s + h_c = -1}` and `E0 = 1{h_s + h_c = 0}`: the sum's bits are zero iff
    /// `carry ? E1 : E0`, and the comparison for the sign finds `carry` and `E1` on its way.
    Saturate {
        /// Ring of the operand; `x'` fits it.
        from: u32,
        /// Smallest result.
        bound: i64,
        /// log2 of the number of results.
        window: u32,
    },
    /// [`StepKind::Truncate`] and [`StepKind::Saturate`] from one comparison with a tap at bit
    /// `shift`: of `x' = x + bias - bound * 2^shift` the carry out of the low bits, `c`, goes on as
    /// `carry = gt | eq & c` of the window. Fewer rounds than the two steps.
    TruncateSaturate {
        /// Ring of the operand; `x'` fits it.
        from: u32,
        /// Bits dropped.
        shift: u32,
        /// Added first.
        bias: u64,
        /// Smallest result.
        bound: i64,
        /// log2 of the number of results.
        window: u32,
    },
    /// `x0 * 2^shifts[0] + x1 * 2^shifts[1]`: local.
    Add {
        /// Left shifts.
        shifts: [u32; 2],
    },
    /// Window sums: local.
    SumPool(Window),
    /// Pixels of the operand and zeros: local.
    Subsample {
        /// `[channels, height, width]` of the operand.
        input: [usize; 3],
        /// Which pixels.
        how: Subsample,
    },
    /// The elements at the positions of a public mask, or at all others: local.
    Pick {
        /// Which positions.
        mask: Mask,
        /// Those of the mask.
        inside: bool,
    },
    /// Both parts of a [`StepKind::Pick`] in their places again: local.
    Join {
        /// Positions of the first operand's elements.
        mask: Mask,
    },
    /// Window maxima: a tournament of DReLU and MUX.
    MaxPool(Window),
    /// Index of the largest element, smallest first: a tournament that carries the index.
    Argmax {
        /// Candidates.
        candidates: usize,
        /// Ring of the operand.
        from: u32,
    },
    /// Indices of the `len` largest elements, largest first, the smaller index first of equals.
    ///
    /// With `x'_i = x_i 2^ring + (n - 1 - i)`, a local step, all are different and carry their
    /// index. A tournament of compare-and-swap leaves the largest and, as a set, the others, among
    /// which the next tournament is played.
    TopK {
        /// Candidates.
        candidates: usize,
        /// Ring of the operand.
        from: u32,
    },
    /// The server sends its share to the client.
    Reveal,
}

/// Windows of a pooling step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Window {
    /// `[channels, height, width]` of the operand.
    pub input: [usize; 3],
    /// Side.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Padding.
    pub pad: usize,
}

impl Plan {
    /// The linear layers, in order.
    pub fn products(&self) -> impl Iterator<Item = &Product> {
        self.steps.iter().filter_map(|step| match &step.kind {
            StepKind::Product { product, .. } => Some(product),
            _ => None,
        })
    }

    /// Fingerprint of everything that both parties must agree on: the steps, in order.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("copriv plan v1");
        hasher.update(&self.choice.to_bytes());
        for step in &self.steps {
            hasher.update(&step.fingerprint());
        }
        *hasher.finalize().as_bytes()
    }
}

impl Step {
    /// Fingerprint of one step, for naming the first layer in which two plans differ.
    pub fn fingerprint(&self) -> [u8; 32] {
        *blake3::hash(format!("{self:?}").as_bytes()).as_bytes()
    }
}

impl Window {
    /// `(rows, columns)` of the result.
    pub fn output_size(&self) -> (usize, usize) {
        let side = |n: usize| (n + 2 * self.pad - self.kernel) / self.stride + 1;
        (side(self.input[1]), side(self.input[2]))
    }

    /// For every candidate of a window, in row-major order, the operand's indices by output. A
    /// position in the padding stands for the nearest one on the tensor, which belongs to the
    /// same window: fine for a maximum, while sums have no padding.
    pub fn candidates(&self) -> Vec<Vec<usize>> {
        let [c, h, w] = self.input;
        let (rows, cols) = self.output_size();
        let mut all = Vec::with_capacity(self.kernel * self.kernel);
        for i in 0..self.kernel {
            for j in 0..self.kernel {
                let mut indices = Vec::with_capacity(c * rows * cols);
                for channel in 0..c {
                    for row in 0..rows {
                        let line = (channel * h + self.nearest(row, i, h)) * w;
                        indices.extend((0..cols).map(|col| line + self.nearest(col, j, w)));
                    }
                }
                all.push(indices);
            }
        }
        all
    }

    /// The `offset`-th row or column of window `at`, moved onto the tensor.
    fn nearest(&self, at: usize, offset: usize, size: usize) -> usize {
        (at * self.stride + offset).saturating_sub(self.pad).min(size - 1)
    }
}
