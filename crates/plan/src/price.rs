//! Bytes and rounds of each step, and of a whole plan.

use serde::{Deserialize, Serialize};

use crate::choice::Choice;
use crate::cost::{self, Cost};
use crate::ot::{Choices, Offline, OtMeter, Ots, packed};
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
    /// Layer, offline part and online messages of each step: the same in every inference.
    steps: Vec<(&'p str, Vec<Offline>, Vec<Flow>)>,
    ots: OtMeter,
}

impl<'p> Forecast<'p> {
    /// A session after its set-up.
    pub fn new(plan: &'p Plan) -> Self {
        let of = |step: &'p Step| (step.layer.as_str(), step.offline(plan.choice), step.online(plan.choice));
        Self { steps: plan.steps.iter().map(of).collect(), ots: OtMeter::new(plan.choice.flavour) }
    }

    /// The next inference.
    pub fn inference(&mut self) -> Prediction {
        let mut prediction = Prediction::default();
        let (mut offline, mut online) = (Meter::new(), Meter::new());
        for (name, parts, flows) in &self.steps {
            let layer = prediction.layer_mut(name);
            layer.offline += offline.count(&self.ots.offline(parts));
            layer.online += online.count(flows);
        }
        prediction.without_silent_layers()
    }
}

impl Step {
    /// Random OTs and online messages.
    pub fn cost(&self, choice: Choice) -> Cost {
        let (n, ring) = (self.len as u64, self.ring);
        let message = |flow| Cost::messages(vec![flow]);
        match &self.kind {
            StepKind::Product { product, .. } => product.online(choice),
            StepKind::Extend { from, msb_known, .. } => cost::extend(n, (*from, ring, *msb_known), choice),
            StepKind::Truncate { shift, .. } => cost::truncate(n, *shift, ring, choice),
            StepKind::ShiftRight { shift, .. } => cost::shift_right(n, ring, *shift),
            StepKind::ClampLow { .. } | StepKind::ClampHigh { .. } => cost::clamp(n, ring, choice),
            StepKind::Saturate { from, window, .. } => cost::saturate(n, (*from, *window, ring), choice),
            StepKind::TruncateSaturate { from, shift, window, .. } => {
                cost::truncate_saturate(n, (*from, *shift, *window, ring), choice)
            }
            StepKind::MaxPool(window) => cost::play(n, window.kernel * window.kernel, (ring, 0), choice),
            StepKind::Argmax { candidates, from } => cost::play(1, *candidates, (*from, ring), choice),
            StepKind::TopK { candidates, from } => (0..self.len)
                .map(|taken| cost::play(1, candidates - taken, (from + ring, 0), choice))
                .collect(),
            StepKind::Reveal => message(Flow::Down(packed(n, u64::from(ring)))),
            StepKind::Input
            | StepKind::Reduce
            | StepKind::Affine { .. }
            | StepKind::Add { .. }
            | StepKind::SumPool(_)
            | StepKind::Subsample { .. }
            | StepKind::Pick { .. }
            | StepKind::Join { .. } => Cost::default(),
        }
    }

    /// Offline and online bytes, fresh OTs at their price in the long run.
    pub(crate) fn bytes(&self, choice: Choice) -> f64 {
        let cost = self.cost(choice);
        let ots = cost.ots();
        let offline = (ots.server_sends + ots.client_sends) * choice.flavour.millibits();
        Meter::new().count(&cost.online).bytes() as f64 + offline as f64 / 8000.0
    }

    /// What the choice's objective makes small, fresh OTs at their price in the long run.
    pub(crate) fn value(&self, choice: Choice) -> f64 {
        let cost = self.cost(choice);
        let ots = cost.ots();
        let fresh = (ots.server_sends + ots.client_sends) * choice.flavour.millibits() / 8000;
        let offline = Traffic { up: fresh, ..Traffic::default() };
        choice.objective.value(offline, Meter::new().count(&cost.online))
    }

    /// Random OTs that the step consumes online.
    pub fn ots(&self, choice: Choice) -> Ots {
        self.cost(choice).ots()
    }

    /// What is offline.
    pub fn offline(&self, choice: Choice) -> Vec<Offline> {
        match &self.kind {
            StepKind::Product { product, .. } => product.offline(choice),
            _ => vec![Offline::Extend(self.ots(choice), Choices::Random)],
        }
    }

    /// Online messages.
    pub fn online(&self, choice: Choice) -> Vec<Flow> {
        self.cost(choice).online
    }
}
