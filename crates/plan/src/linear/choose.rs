//! Which algorithm and method a linear layer gets: all of them priced, the cheapest taken.

use std::cell::OnceCell;

use super::packed::Planes;
use super::{Algorithm, Form, Method, Product, Side, WeightOts, cot};
use crate::choice::{Choice, Preset};
use crate::network::Objective;
use crate::ot::Ots;
use crate::traffic::{Meter, Traffic};

/// Bytes of a candidate, an inference.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Messages and fresh OTs.
    pub offline: f64,
    /// Messages.
    pub online: Traffic,
    /// Trees, before they are shared out to the inferences of a session.
    pub setup: f64,
    /// AES blocks of each party.
    pub blocks: f64,
}

impl Product {
    /// What it costs, fresh OTs at their price in the long run.
    pub fn cost(&self, choice: Choice) -> Cost {
        let online = self.online(choice);
        let form = self.form();
        let made = self.making(&form, &OnceCell::new(), choice);
        let online_ots = fresh_ots(online.ots(), choice);
        Cost { offline: made.offline + online_ots, online: Meter::new().count(&online.online), ..made }
    }

    /// What its method costs; `planes` are the form's, for groups of every size.
    fn making(&self, form: &Form, planes: &OnceCell<Planes>, choice: Choice) -> Cost {
        let fresh = |ots: Ots, bytes: u64| {
            let n = (ots.server_sends + ots.client_sends) as f64;
            let offline = bytes as f64 + fresh_ots(ots, choice);
            // Two pads at the sender, and what the extension needs.
            let blocks = 2.0 * bytes as f64 / 16.0 + 4.0 * n;
            Cost { offline, blocks, ..Cost::default() }
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
                let total = planes.get_or_init(|| Planes::new(self, form)).total(self, form);
                let levels =
                    |f: fn(f64) -> f64| total.trees().iter().map(|&(d, n)| f(f64::from(d)) * n as f64).sum();
                Cost {
                    offline: total.message_bytes as f64,
                    // A correlated OT a level (two bytes of SoftSpoken8, a bit of choice), a sum a
                    // level but the first.
                    setup: levels(|depth| 2.125 * depth + 16.0 * (depth - 1.0)),
                    blocks: total.blocks,
                    online: Traffic::default(),
                }
            }
        }
    }

    /// The cheapest algorithm and method for this layer under `choice`, and what it comes to, in the
    /// objective's unit ([`Objective::value`]).
    ///
    /// Where the result may be a multiple of the layer's (`scalable`), `behind` are the bytes that an
    /// algorithm's extra bits cost until a requantisation has dropped them.
    pub(crate) fn choose(
        self,
        choice: Choice,
        scalable: bool,
        behind: impl Fn(Algorithm) -> f64,
    ) -> (f64, Self) {
        let algorithms = match choice.preset {
            Preset::Copriv | Preset::CoprivNg if scalable => Algorithm::candidates(&self.geometry),
            Preset::CoprivEwmm if scalable => Algorithm::element_wise(&self.geometry),
            _ => vec![Algorithm::Direct],
        };
        let online = self.online(choice);
        let (online, online_ots) = (Meter::new().count(&online.online), fresh_ots(online.ots(), choice));
        let mut best: Option<(f64, Self)> = None;
        for algorithm in algorithms {
            let mut candidate = Self { algorithm, ..self.clone() };
            if candidate.output_ring() > MAX_RING {
                continue;
            }
            if choice.preset.one_ring() {
                // Their weights are ring elements.
                candidate.weight_bits = self.ring;
                candidate.ternary = false;
                candidate.bounds.clear();
            }
            if algorithm == Algorithm::Direct {
                candidate.bounds.clear();
            }
            let form = candidate.form();
            let planes = OnceCell::new();
            let behind = behind(algorithm);
            for method in methods(algorithm, choice) {
                candidate.method = method;
                let cost = candidate.making(&form, &planes, choice);
                let offline =
                    cost.offline + online_ots + cost.setup / f64::from(choice.session.max(1)) + behind;
                let value = match choice.objective {
                    Objective::Total => offline + online.bytes() as f64,
                    Objective::Online => behind + online.bytes() as f64 + 1e-9 * offline,
                    Objective::Latency(network) => {
                        network.overlapped(offline, cost.blocks) + network.seconds(online)
                    }
                };
                if best.as_ref().is_none_or(|(least, _)| value < *least) {
                    best = Some((value, candidate.clone()));
                }
            }
        }
        best.unwrap_or((f64::INFINITY, self))
    }
}

fn fresh_ots(ots: Ots, choice: Choice) -> f64 {
    (ots.server_sends + ots.client_sends) as f64 * choice.flavour.millibits() as f64 / 8000.0
}

/// Shares of a wider ring do not fit a word with room for a carry.
const MAX_RING: u32 = 62;

fn methods(algorithm: Algorithm, choice: Choice) -> Vec<Method> {
    let [server, client] = [Side::Server, Side::Client].map(|receiver| Method::Cot { receiver });
    match (choice.preset, algorithm) {
        // Either receiver has as many transfers, if those of a mask's entry are not joined either.
        (_, Algorithm::ElementWise(_)) => vec![server],
        (Preset::Cryptflow2 | Preset::Sirnn, _) => vec![client],
        (Preset::Copriv | Preset::CoprivEwmm | Preset::Privquant, _) => vec![server, client],
        (Preset::CoprivNg, _) => {
            let packed = (1..=choice.packing).map(|k| Method::Packed { k });
            [server, client].into_iter().chain(packed).collect()
        }
    }
}
