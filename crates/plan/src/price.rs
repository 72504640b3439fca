//! Bytes and rounds of each step, and of a whole plan.

use serde::{Deserialize, Serialize};

use crate::choice::Choice;
use crate::comparison::Forest;
use crate::ot::{Choices, OtMeter, Ots, packed};
use crate::step::{Plan, Step, StepKind};
use crate::traffic::{Flow, Meter, Traffic};

/// Traffic of one inference, by layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prediction {
    /// In order of execution; layers without messages are left out.
    pub layers: Vec<LayerPrice>,
}

/// Traffic of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerPrice {
    /// The layer's name.
    pub name: String,
    /// Independent of the client's input.
    pub offline: Traffic,
    /// After the input is known.
    pub online: Traffic,
}

impl Prediction {
    /// Offline traffic of all layers.
    pub fn offline(&self) -> Traffic {
        self.layers.iter().map(|l| l.offline).sum()
    }

    /// Online traffic of all layers.
    pub fn online(&self) -> Traffic {
        self.layers.iter().map(|l| l.online).sum()
    }

    /// Offline and online bytes, both directions.
    pub fn total_bytes(&self) -> u64 {
        (self.offline() + self.online()).bytes()
    }

    /// The entry of `name`, made if it is not there.
    pub fn layer_mut(&mut self, name: &str) -> &mut LayerPrice {
        let at = self.layers.iter().position(|l| l.name == name).unwrap_or_else(|| {
            self.layers.push(LayerPrice { name: name.to_owned(), ..Default::default() });
            self.layers.len() - 1
        });
        &mut self.layers[at]
    }

    /// Adds another inference, layer by layer.
    pub fn add(&mut self, other: &Self) {
        for layer in &other.layers {
            let sum = self.layer_mut(&layer.name);
            sum.offline += layer.offline;
            sum.online += layer.online;
        }
    }

    /// The mean of `n` inferences, layer by layer, rounded to whole bytes and rounds.
    pub fn mean(&self, n: u64) -> Self {
        let n = n.max(1);
        let each = |v: u64| (v + n / 2) / n;
        let mean = |t: Traffic| Traffic { up: each(t.up), down: each(t.down), rounds: each(t.rounds) };
        let layer = |l: &LayerPrice| LayerPrice {
            name: l.name.clone(),
            offline: mean(l.offline),
            online: mean(l.online),
        };
        Self { layers: self.layers.iter().map(layer).collect() }
    }

    /// Drops layers without messages.
    pub fn without_silent_layers(mut self) -> Self {
        self.layers.retain(|l| l.offline != Traffic::default() || l.online != Traffic::default());
        self
    }
}

impl Plan {
    /// The bytes and rounds of a session's first inference: equal to what `copriv-infer2pc`
    /// measures. See [`Forecast`] for the later ones.
    pub fn predict(&self) -> Prediction {
        Forecast::new(self).inference()
    }

    /// The bytes and rounds of a whole session.
    pub fn predict_session(&self, inferences: u64) -> Prediction {
        let mut forecast = Forecast::new(self);
        let mut total = Prediction::default();
        for _ in 0..inferences {
            total.add(&forecast.inference());
        }
        total
    }
}

/// Predicts the inferences of a session one after another: with Ferret some of them start an
/// iteration that later ones live on.
#[derive(Debug)]
pub struct Forecast<'p> {
    plan: &'p Plan,
    ots: OtMeter,
}

impl<'p> Forecast<'p> {
    /// A session after its set-up.
    pub fn new(plan: &'p Plan) -> Self {
        Self { plan, ots: OtMeter::new(plan.choice.flavour) }
    }

    /// The next inference.
    pub fn inference(&mut self) -> Prediction {
        let mut prediction = Prediction::default();
        let (mut offline, mut online) = (Meter::new(), Meter::new());
        for step in &self.plan.steps {
            let layer = prediction.layer_mut(&step.layer);
            layer.offline += offline.count(&step.offline(self.plan.choice, &mut self.ots));
            layer.online += online.count(&step.online(self.plan.choice));
        }
        prediction.without_silent_layers()
    }
}

impl Step {
    /// Random OTs that the step consumes online (a product makes its own).
    pub fn ots(&self, choice: Choice) -> Ots {
        let n = self.len as u64;
        match &self.kind {
            StepKind::Extend { msb_known: true, .. } => Ots::from_server(n),
            StepKind::Extend { from, .. } => {
                Forest::greater(*from, choice).ots(n) + b2a_ots(n, self.ring - from)
            }
            StepKind::Truncate { shift, .. } => {
                Forest::greater(*shift, choice).ots(n) + b2a_ots(n, self.ring)
            }
            StepKind::ClampLow { .. } | StepKind::ClampHigh { .. } => clamp_ots(n, self.ring, choice),
            // Two ANDs with a common operand, one AND, MUX, B2A.
            StepKind::Saturate { from, window, .. } => {
                Forest::saturate(*from, *window, choice).ots(n) + Ots::both(3 * n) + b2a_ots(n, self.ring)
            }
            StepKind::MaxPool(window) => {
                let matches = window.kernel * window.kernel - 1;
                clamp_ots(n * matches as u64, self.ring, choice)
            }
            StepKind::Argmax { candidates, from } => {
                let matches = *candidates as u64 - 1;
                clamp_ots(matches, *from, choice) + Ots::both(matches)
            }
            _ => Ots::default(),
        }
    }

    /// Offline and online bytes, fresh OTs at their price in the long run.
    pub(crate) fn bytes(&self, choice: Choice) -> f64 {
        let ots = self.ots(choice);
        let offline = (ots.server_sends + ots.client_sends) * choice.flavour.millibits();
        Meter::new().count(&self.online(choice)).bytes() as f64 + offline as f64 / 8000.0
    }

    /// Offline messages.
    pub fn offline(&self, choice: Choice, meter: &mut OtMeter) -> Vec<Flow> {
        match &self.kind {
            StepKind::Product { product, .. } => product.offline(meter),
            _ => meter.extend(self.ots(choice), Choices::Random),
        }
    }

    /// Online messages.
    pub fn online(&self, choice: Choice) -> Vec<Flow> {
        let n = self.len as u64;
        match &self.kind {
            StepKind::Product { product, .. } => vec![product.online()],
            StepKind::Extend { from, msb_known: true, .. } => cot(n, self.ring - from).into(),
            StepKind::Extend { from, .. } => {
                [Forest::greater(*from, choice).flows(n), b2a(n, self.ring - from)].concat()
            }
            StepKind::Truncate { shift, .. } => {
                [Forest::greater(*shift, choice).flows(n), b2a(n, self.ring)].concat()
            }
            StepKind::ClampLow { .. } | StepKind::ClampHigh { .. } => clamp(n, self.ring, choice),
            StepKind::Saturate { from, window, .. } => {
                let opened = |bits| Flow::Both { up: packed(n, bits), down: packed(n, bits) };
                let trees = Forest::saturate(*from, *window, choice).flows(n);
                [trees, vec![opened(3), opened(2)], mux_and_b2a(n, self.ring).into()].concat()
            }
            StepKind::MaxPool(window) => tournament(window.kernel * window.kernel)
                .flat_map(|m| clamp(n * m as u64, self.ring, choice))
                .collect(),
            StepKind::Argmax { candidates, from } => tournament(*candidates)
                .flat_map(|m| [clamp(m as u64, *from, choice), mux(m as u64, self.ring).into()].concat())
                .collect(),
            StepKind::Reveal => vec![Flow::Down(packed(n, u64::from(self.ring)))],
            StepKind::Input
            | StepKind::Reduce
            | StepKind::Affine { .. }
            | StepKind::Add { .. }
            | StepKind::SumPool(_)
            | StepKind::Subsample { .. } => Vec::new(),
        }
    }
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
fn cot(n: u64, width: u32) -> [Flow; 2] {
    [Flow::Up(packed(n, 1)), Flow::Down(packed(n, u64::from(width)))]
}

/// A shared bit into `Z_2^ring`: the product of the two shares is needed modulo `2^(ring-1)`.
fn b2a(n: u64, ring: u32) -> Vec<Flow> {
    if ring > 1 { cot(n, ring - 1).into() } else { Vec::new() }
}

fn b2a_ots(n: u64, ring: u32) -> Ots {
    Ots::from_server(if ring > 1 { n } else { 0 })
}

/// A shared bit times a shared value: a correlated OT in each direction.
fn mux(n: u64, ring: u32) -> [Flow; 2] {
    let (flips, messages) = (packed(n, 1), packed(n, u64::from(ring)));
    [Flow::Both { up: flips, down: flips }, Flow::Both { up: messages, down: messages }]
}

/// Both in the messages of the MUX; the conversion's sender is the server.
fn mux_and_b2a(n: u64, ring: u32) -> [Flow; 2] {
    let (flips, messages) = (packed(n, 1), packed(n, u64::from(ring)));
    [
        Flow::Both { up: 2 * flips, down: flips },
        Flow::Both { up: messages, down: messages + packed(n, u64::from(ring) - 1) },
    ]
}

fn clamp(n: u64, ring: u32, choice: Choice) -> Vec<Flow> {
    [Forest::greater(ring - 1, choice).flows(n), mux(n, ring).into()].concat()
}

fn clamp_ots(n: u64, ring: u32, choice: Choice) -> Ots {
    Forest::greater(ring - 1, choice).ots(n) + Ots::both(n)
}
