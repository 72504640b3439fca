//! The server's weights times a mask: the offline part of a linear layer.
//!
//! Shares of `W * r` are made by one of several [`Method`]s on one of several forms of the
//! convolution ([`Algorithm`]); online the client sends `x_c - r` and the server adds
//! `W * (x_s + x_c - r)`. Everything that the two parties must agree on - which products, in which
//! order, modulo what, in which messages - is fixed here; `copriv-infer2pc` executes it.

mod bounds;
mod choose;
mod cot;
mod form;
mod packed;
mod winograd;
mod wrap;

use copriv_model::KernelBound;
use copriv_model::kernel::Geometry;
use serde::{Deserialize, Serialize};

pub use bounds::with_tile_widths;
pub use choose::Cost;
pub use cot::{EntryBits, InputOts, WeightOt, WeightOts};
pub use form::{Algorithm, Form, Run, Tap};
pub use packed::{Digit, Group, PlaneGroups};
pub use winograd::Tile;
pub use wrap::{Site, Wrap, Wraps};

use crate::choice::Choice;
use crate::ot::{Choices, Offline, packed};
use crate::traffic::Flow;

/// What makes shares of `W * r`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Correlated OTs, fresh in every inference (Gilboa).
    Cot {
        /// Whose bits are the choices.
        receiver: Side,
    },
    /// Packed VOLE: OTs once a client and model, then one message for `k` bits of weights.
    Packed {
        /// Bits of weights in a group, 1..=10; `2^k` leaves are summed for each.
        k: u32,
    },
}

/// A party.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The model owner.
    Server,
    /// The data owner.
    Client,
}

/// Shape, widths and protocol of one layer's product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Product {
    /// Shape.
    #[serde(skip)]
    pub geometry: Geometry,
    /// Width of the signed weights.
    pub weight_bits: u32,
    /// Only -1, 0 and 1 occur.
    pub ternary: bool,
    /// What is known of combinations of its weights; used by tiles.
    pub bounds: Vec<KernelBound>,
    /// Ring of the result, before an algorithm's extra bits.
    pub ring: u32,
    /// The input's shares, if they are in a narrower ring; else they are in [`Self::ring`].
    pub wrap: Option<Wrap>,
    /// Left shift of each output channel; empty for none.
    pub channel_shifts: Vec<u32>,
    /// How the convolution becomes products.
    pub algorithm: Algorithm,
    /// How the products are made.
    pub method: Method,
}

impl Product {
    /// Ring of the result, which is `2^extra_bits` times the layer's.
    pub fn output_ring(&self) -> u32 {
        self.ring + self.algorithm.extra_bits()
    }

    /// The convolution as products of planes.
    pub fn form(&self) -> Form {
        let half = 1i64 << (self.weight_bits - 1);
        let weights = if self.ternary { -1..=1 } else { -half..=half - 1 };
        Form::new(self.algorithm, &self.geometry, weights, &self.bounds)
    }

    /// Ring in which the sum of filter `k` is needed before its left shift.
    pub fn filter_ring(&self, k: usize) -> u32 {
        self.output_ring().saturating_sub(self.channel_shifts.get(k).copied().unwrap_or(0))
    }

    /// Filters of one group of the convolution.
    pub fn filters_per_group(&self) -> usize {
        self.geometry.filters / self.geometry.groups
    }

    /// What is offline, in order: the product with the mask, then the random OTs of [`Self::online`].
    pub fn offline(&self, choice: Choice) -> Vec<Offline> {
        let form = self.form();
        let mut parts = match self.method {
            Method::Cot { receiver: Side::Server } => WeightOts::new(self, &form).parts(),
            Method::Cot { receiver: Side::Client } => InputOts::new(self, &form).parts(),
            Method::Packed { .. } => {
                let total = packed::Planes::new(self, &form).total(self, &form);
                vec![Offline::Message(Flow::Up(total.message_bytes))]
            }
        };
        parts.push(Offline::Extend(self.online(choice).ots(), Choices::Random));
        parts
    }

    /// Online: the client's share less its mask, in the input's ring for each input that matters; then
    /// the corrections of the shares' wraps.
    pub fn online(&self, choice: Choice) -> crate::Cost {
        let pixels = self.form().pixels_sent().len() as u64;
        let opened = packed(self.geometry.channels as u64 * pixels, u64::from(self.input_ring()));
        let opening = crate::Cost::messages(vec![Flow::Up(opened)]);
        opening.then(self.wrap_cost(choice))
    }

    /// Trees of packed VOLE by depth: `(depth, how many)`; grown once a client and model.
    pub fn trees(&self) -> Vec<(u32, u64)> {
        match self.method {
            Method::Packed { .. } => {
                let form = self.form();
                packed::Planes::new(self, &form).total(self, &form).trees()
            }
            Method::Cot { .. } => Vec::new(),
        }
    }

    /// Tells this product from every other.
    pub fn fingerprint(&self) -> [u8; 32] {
        *blake3::hash(format!("{self:?}").as_bytes()).as_bytes()
    }

    /// Number of trees.
    pub fn groups(&self) -> usize {
        self.trees().iter().map(|(_, n)| *n as usize).sum()
    }

    /// Whether the method is packed VOLE.
    pub fn is_packed(&self) -> bool {
        matches!(self.method, Method::Packed { .. })
    }
}
