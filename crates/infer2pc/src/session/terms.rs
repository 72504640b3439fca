//! What a client asks for, and the plan and set-up that follow from it.

use copriv_model::{Graph, file};
use copriv_plan::baseline::KEY_OTS;
use copriv_plan::ot::{Choices, OtMeter, Ots};
use copriv_plan::traffic::Meter;
use copriv_plan::{Choice, Flavour, Flow, Objective, Plan, Preset, Product, Traffic};
use serde::{Deserialize, Serialize};

use super::{HASH_BYTES, HELLO_BYTES};
use crate::error::{Error, Result};
use crate::party::extension;
use crate::trees;

/// What the client learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reveal {
    /// The model's output.
    #[default]
    Logits,
    /// Only the index of its largest entry.
    Class,
    /// Only the indices of its five largest entries, in order.
    Top5,
}

impl Reveal {
    /// Every one.
    pub(super) const ALL: [Self; 3] = [Self::Logits, Self::Class, Self::Top5];

    /// How many classes; 0 stands for the logits. Also its byte in the hello.
    pub(super) fn classes(self) -> u8 {
        match self {
            Self::Logits => 0,
            Self::Class => 1,
            Self::Top5 => 5,
        }
    }
}

/// What the client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What it learns.
    pub reveal: Reveal,
    /// What makes the random OTs; `None` takes what is best for this session by the objective.
    pub flavour: Option<Flavour>,
    /// Whose protocols run.
    pub preset: Preset,
    /// What is made small.
    pub objective: Objective,
    /// Most weight bits of a packed VOLE's group; `None` for the default.
    pub packing: Option<u32>,
    /// Inferences that share a set-up of packed VOLE, for the choice of protocols; `None` for those of
    /// the session.
    pub shared_by: Option<u32>,
}

impl Terms {
    /// What both parties run on these terms.
    ///
    /// # Errors
    /// A graph that cannot be planned, or an OT extension that the preset does not run on.
    pub fn plan(&self, graph: &Graph, inferences: u32) -> Result<Plan> {
        // A longer session costs about the same an inference.
        const FEW: u64 = 32;
        let inferences = self.shared_by.unwrap_or(inferences);
        let candidates = self.preset.flavours().iter().copied();
        let mut best: Option<(f64, Plan)> = None;
        for flavour in candidates.filter(|f| self.flavour.is_none_or(|wanted| wanted == *f)) {
            let packing = self.packing.unwrap_or(Choice::default().packing);
            let choice = Choice {
                flavour,
                preset: self.preset,
                objective: self.objective,
                packing,
                session: inferences,
            };
            let plan = plan_for(graph, self.reveal, choice)?;
            let setup = predict_setup(graph, &plan, false)?;
            let all = plan.predict_session(u64::from(inferences).min(FEW));
            let value = self.objective.value(setup + all.offline(), all.online());
            if best.as_ref().is_none_or(|(least, _)| value < *least) {
                best = Some((value, plan));
            }
        }
        best.map(|(_, plan)| plan).ok_or_else(|| {
            Error::Usage(format!("preset {} runs on {:?} only", self.preset.name(), self.preset.flavours()))
        })
    }
}

/// The set-up traffic that [`super::Client::connect`] causes; trees may be there from an earlier session.
///
/// # Errors
/// None in practice; the serialiser's if it fails.
pub fn predict_setup(graph: &Graph, plan: &Plan, reused: bool) -> Result<Traffic> {
    let packed = plan.products().any(Product::is_packed);
    let trees = match (packed, reused) {
        (true, true) => trees::nonce_traffic(),
        _ => trees::setup_traffic(plan.products())?,
    };
    let ot = extension(plan.choice.flavour).setup_traffic() + trees;
    let mut flows = vec![
        Flow::Up(HELLO_BYTES as u64),
        Flow::Down((4 + file::graph_to_json(graph)?.len()) as u64),
        Flow::Up((Choice::BYTES + HASH_BYTES) as u64),
        Flow::Down(HASH_BYTES as u64),
    ];
    if packed {
        flows.extend([Flow::Up(trees::ID_BYTES as u64), Flow::Down(1)]);
    }
    let ot = Traffic { up: ot.sent, down: ot.received, rounds: ot.rounds };
    let mut keys = Vec::new();
    if plan.choice.preset.is_baseline() {
        keys = OtMeter::new(plan.choice.flavour).extend(Ots::from_client(KEY_OTS), Choices::Random);
    }
    Ok(Meter::new().count(&flows) + ot + Meter::new().count(&keys))
}

/// The plan of a choice, with what is revealed at its end.
pub(super) fn plan_for(graph: &Graph, reveal: Reveal, choice: Choice) -> Result<Plan> {
    Ok(match reveal {
        Reveal::Logits => Plan::new(graph, choice)?,
        Reveal::Class => Plan::new(&graph.with_argmax()?, choice)?,
        Reveal::Top5 => Plan::new(&graph.with_top_k(usize::from(reveal.classes()))?, choice)?,
    })
}
