//! A connection from hello to result.
//!
//! ```text
//! client -> server   "copriv01", what to reveal, which OT, number of inferences
//! server -> client   the public graph (length, JSON), hash of the server's plan
//! client -> server   hash of the client's plan
//! both               base OTs
//! then, for each inference, offline and online
//! ```
//!
//! All of it but the inferences is *set-up*.

use std::time::{Duration, Instant};

use copriv_model::{Graph, Model, file};
use copriv_ot::{Channel, Role};
use copriv_plan::traffic::Meter;
use copriv_plan::{Flavour, Flow, Plan, Prediction, Traffic};
use rand::make_rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::engine::{self, Material, Measured};
use crate::error::{Error, Result};
use crate::party::{Party, extension};

const MAGIC: &[u8; 8] = b"copriv01";
const HELLO_BYTES: usize = MAGIC.len() + 2 + 4;
const HASH_BYTES: usize = 32;
/// A longer graph is refused before it is read.
const MAX_GRAPH_BYTES: usize = 16 << 20;

/// What the client learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reveal {
    /// The model's output.
    #[default]
    Logits,
    /// Only the index of its largest entry.
    Class,
}

/// What the client asks for in its hello.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What it learns.
    pub reveal: Reveal,
    /// What makes the random OTs.
    pub flavour: Flavour,
}

impl Terms {
    /// What both parties run on these terms.
    ///
    /// # Errors
    /// A graph that cannot be planned.
    pub fn plan(&self, graph: &Graph) -> Result<Plan> {
        Ok(match self.reveal {
            Reveal::Logits => Plan::new(graph, self.flavour)?,
            Reveal::Class => Plan::new(&graph.with_argmax()?, self.flavour)?,
        })
    }

    /// The set-up traffic that [`Client::connect`] causes on these terms.
    ///
    /// # Errors
    /// None in practice; the serialiser's if it fails.
    pub fn predict_setup(&self, graph: &Graph) -> Result<Traffic> {
        let ot = extension(self.flavour).setup_traffic();
        let flows = [
            Flow::Up(HELLO_BYTES as u64),
            Flow::Down((4 + file::graph_to_json(graph)?.len() + HASH_BYTES) as u64),
            Flow::Up(HASH_BYTES as u64),
        ];
        let base = Traffic { up: ot.sent, down: ot.received, rounds: ot.rounds };
        Ok(Meter::new().count(&flows) + base)
    }
}

/// Traffic and time of a session so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Handshake and base OTs.
    pub setup: Traffic,
    /// Of the last inference, by layer.
    pub inference: Prediction,
    /// Inferences done.
    pub inferences: u64,
    /// Seconds of all of it, by phase: set-up, offline, online.
    pub seconds: [f64; 3],
}

/// The model owner's end.
pub struct Server<'m> {
    core: Core,
    model: &'m Model,
    inferences: u32,
}

/// The data owner's end.
pub struct Client {
    core: Core,
    graph: Graph,
}

struct Core {
    party: Party,
    plan: Plan,
    measured: Measured,
    report: Report,
}

impl<'m> Server<'m> {
    /// Answers a client's hello and sets up.
    ///
    /// # Errors
    /// The connection broke, or the peer is no copriv client or planned otherwise.
    pub fn accept(mut channel: Channel, model: &'m Model) -> Result<Self> {
        let start = Instant::now();
        let hello = channel.recv(HELLO_BYTES)?;
        let (magic, rest) = hello.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Error::PeerIncompatible("it is no copriv client of this version".into()));
        }
        let reveal = match rest[0] {
            0 => Reveal::Logits,
            1 => Reveal::Class,
            other => return Err(Error::PeerMisbehaved(format!("it asks to reveal {other}"))),
        };
        let Some(&flavour) = Flavour::ALL.get(usize::from(rest[1])) else {
            return Err(Error::PeerMisbehaved(format!("it asks for OT number {}", rest[1])));
        };
        let inferences = u32::from_le_bytes([rest[2], rest[3], rest[4], rest[5]]);
        let terms = Terms { reveal, flavour };
        let plan = terms.plan(&model.graph)?;
        let graph = file::graph_to_json(&model.graph)?;
        channel.send(&(graph.len() as u32).to_le_bytes())?;
        channel.send(graph.as_bytes())?;
        channel.send(&plan.hash())?;
        if channel.recv(HASH_BYTES)? != plan.hash() {
            return Err(Error::PeerIncompatible("its plan differs from ours".into()));
        }
        let core = Core::connect(channel, Role::Server, plan, start)?;
        Ok(Self { core, model, inferences })
    }

    /// Serves the inferences that the client announced.
    ///
    /// # Errors
    /// The connection broke or the peer misbehaved.
    pub fn run(mut self) -> Result<Report> {
        for _ in 0..self.inferences {
            let material = self.offline()?;
            self.online(material)?;
        }
        Ok(self.core.report)
    }

    /// Offline part of one inference.
    ///
    /// # Errors
    /// The connection broke or the peer misbehaved.
    pub fn offline(&mut self) -> Result<Material> {
        self.core.offline(Some(&self.model.weights))
    }

    /// Online part of one inference.
    ///
    /// # Errors
    /// The connection broke or the peer misbehaved.
    pub fn online(&mut self, material: Material) -> Result<()> {
        self.core.online(Some(&self.model.weights), material, None).map(drop)
    }
}

impl Client {
    /// Announces `inferences` and sets up; learns the public graph.
    ///
    /// # Errors
    /// The connection broke, or the peer is no copriv server or sent an invalid graph.
    pub fn connect(mut channel: Channel, terms: Terms, inferences: u32) -> Result<Self> {
        let start = Instant::now();
        channel.send(MAGIC)?;
        channel.send(&[u8::from(terms.reveal == Reveal::Class), terms.flavour as u8])?;
        channel.send(&inferences.to_le_bytes())?;
        let length = channel.recv(4)?;
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if length > MAX_GRAPH_BYTES {
            return Err(Error::PeerMisbehaved(format!("its model description has {length} bytes")));
        }
        let text = channel.recv(length)?;
        let theirs = channel.recv(HASH_BYTES)?;
        let text =
            String::from_utf8(text).map_err(|_| Error::PeerMisbehaved("its model is no text".into()))?;
        let graph = file::graph_from_json(&text).map_err(Error::PeerIncompatible)?;
        graph.validate().map_err(|e| Error::PeerMisbehaved(e.to_string()))?;
        let plan = terms.plan(&graph)?;
        channel.send(&plan.hash())?;
        if theirs != plan.hash() {
            return Err(Error::PeerIncompatible("its plan differs from ours".into()));
        }
        let core = Core::connect(channel, Role::Client, plan, start)?;
        Ok(Self { core, graph })
    }

    /// The server's public graph: how to prepare an image, and the class names.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What both parties run.
    pub fn plan(&self) -> &Plan {
        &self.core.plan
    }

    /// Traffic and time so far.
    pub fn report(&self) -> &Report {
        &self.core.report
    }

    /// Offline part of one inference.
    ///
    /// # Errors
    /// The connection broke or the peer misbehaved.
    pub fn offline(&mut self) -> Result<Material> {
        self.core.offline(None)
    }

    /// Online part of one inference: the logits, or one class index.
    ///
    /// # Errors
    /// The connection broke or the peer misbehaved.
    pub fn online(&mut self, material: Material, input: &[i64]) -> Result<Vec<i64>> {
        let result = self.core.online(None, material, Some(input))?;
        result.ok_or_else(|| Error::Usage("the plan reveals nothing".into()))
    }
}

impl Core {
    fn connect(channel: Channel, role: Role, plan: Plan, start: Instant) -> Result<Self> {
        let party = Party::connect(channel, role, plan.flavour, make_rng::<StdRng>())?;
        let setup = engine::to_plan(&party, party.channel.traffic());
        let mut core = Self { party, plan, measured: Measured::default(), report: Report::default() };
        core.report.setup = setup;
        core.report.seconds[0] = seconds(start.elapsed());
        Ok(core)
    }

    fn offline(&mut self, weights: Option<&copriv_model::Weights>) -> Result<Material> {
        let start = Instant::now();
        self.measured = Measured::default();
        let material = engine::offline(&mut self.party, &self.plan, weights, &mut self.measured)?;
        self.report.seconds[1] += seconds(start.elapsed());
        Ok(material)
    }

    fn online(
        &mut self,
        weights: Option<&copriv_model::Weights>,
        material: Material,
        input: Option<&[i64]>,
    ) -> Result<Option<Vec<i64>>> {
        let start = Instant::now();
        let party = &mut self.party;
        let result =
            engine::online(party, &self.plan, weights, material, input, &mut self.measured, |_, _| {})?;
        self.report.inference = self.measured.prediction();
        self.report.inferences += 1;
        self.report.seconds[2] += seconds(start.elapsed());
        Ok(result)
    }
}

fn seconds(d: Duration) -> f64 {
    d.as_secs_f64()
}
