//! Which algorithm and method a linear layer gets: all of them priced, the cheapest taken.

use super::{Algorithm, Form, Method, Product, Side, WeightOts, cot, packed};
use crate::choice::{Choice, Preset};
use crate::network::Objective;
use crate::ot::Ots;

/// Bytes of a candidate, an inference.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Messages and fresh OTs.
    pub offline: f64,
    /// Trees, before they are shared out to the inferences of a session.
    pub setup: f64,
    /// AES blocks of each party.
    pub blocks: f64,
}

impl Product {
    /// What its method costs; without the online message, which is the same for all.
    pub fn cost(&self, choice: Choice) -> Cost {
        self.cost_of(&self.form(), choice)
    }

    fn cost_of(&self, form: &Form, choice: Choice) -> Cost {
        let fresh = |ots: Ots, bytes: u64| {
            let n = (ots.server_sends + ots.client_sends) as f64;
            let offline = bytes as f64 + n * choice.flavour.millibits() as f64 / 8000.0;
            // Two pads at the sender, and what the extension needs.
            Cost { offline, setup: 0.0, blocks: 2.0 * bytes as f64 / 16.0 + 4.0 * n }
        };
        match self.method {
            Method::Cot { receiver: Side::Server } => {
                let all = WeightOts::new(self, form);
                fresh(all.ots(), all.message_bytes())
            }
            Method::Cot { receiver: Side::Client } => {
                let (ots, bytes) = cot::input_totals(self, form);
                fresh(Ots::from_server(ots), bytes)
            }
            Method::Packed { .. } => {
                let trees = packed::trees(self, form);
                let levels = |f: fn(f64) -> f64| trees.iter().map(|&(d, n)| f(f64::from(d)) * n as f64).sum();
                Cost {
                    offline: packed::message_bytes(self, form) as f64,
                    // A correlated OT a level (two bytes of SoftSpoken8, a bit of choice), a sum a
                    // level but the first.
                    setup: levels(|depth| 2.125 * depth + 16.0 * (depth - 1.0)),
                    blocks: packed::blocks(self, form),
                }
            }
        }
    }

    /// The cheapest algorithm and method for this layer under `choice`.
    ///
    /// Where the result may be a multiple of the layer's (`scalable`), `behind` are the bytes that an
    /// algorithm's extra bits cost until a requantisation has dropped them.
    pub(crate) fn choose(self, choice: Choice, scalable: bool, behind: impl Fn(Algorithm) -> f64) -> Self {
        let algorithms = match choice.preset {
            Preset::Copriv | Preset::CoprivNg if scalable => Algorithm::candidates(&self.geometry),
            _ => vec![Algorithm::Direct],
        };
        let mut best: Option<([f64; 2], Self)> = None;
        for algorithm in algorithms {
            let mut candidate = Self { algorithm, ..self.clone() };
            if candidate.output_ring() > MAX_RING {
                continue;
            }
            if matches!(choice.preset, Preset::Cryptflow2 | Preset::Copriv) {
                // Their weights are ring elements.
                candidate.weight_bits = self.ring;
                candidate.ternary = false;
            }
            let form = candidate.form();
            let behind = behind(algorithm);
            for method in methods(choice) {
                candidate.method = method;
                let cost = candidate.cost_of(&form, choice);
                let setup = cost.setup / f64::from(choice.session.max(1));
                let total = cost.offline + setup + behind;
                let score = match choice.objective {
                    Objective::Total => [total, 0.0],
                    Objective::Online => [behind, total],
                    Objective::Latency(network) => [network.overlapped(total, cost.blocks), total],
                };
                if best.as_ref().is_none_or(|(least, _)| score < *least) {
                    best = Some((score, candidate.clone()));
                }
            }
        }
        best.map_or(self, |(_, product)| product)
    }
}

/// Shares of a wider ring do not fit a word with room for a carry.
const MAX_RING: u32 = 62;

fn methods(choice: Choice) -> Vec<Method> {
    let [server, client] = [Side::Server, Side::Client].map(|receiver| Method::Cot { receiver });
    match choice.preset {
        Preset::Cryptflow2 | Preset::Sirnn => vec![client],
        Preset::Copriv | Preset::Privquant => vec![server, client],
        Preset::CoprivNg => {
            let packed = (1..=choice.packing).map(|k| Method::Packed { k });
            [server, client].into_iter().chain(packed).collect()
        }
    }
}
