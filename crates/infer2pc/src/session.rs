//! A connection from hello to result.
//!
//! ```text
//! client -> server   "copriv01", what to reveal, number of inferences
//! server -> client   the public graph (length, JSON)
//! client -> server   OT extension and preset, hash of its plan
//! server -> client   hash of its plan
//! both               base OTs, and the trees of packed VOLE
//! then, for each inference, offline and online
//! ```
//!
//! All of it but the inferences is *set-up*.

mod terms;

use std::time::{Duration, Instant};

use copriv_model::{Graph, Model, file};
use copriv_ot::{Channel, Role};
use copriv_plan::{Choice, Plan, Prediction, Product, Traffic};
use rand::make_rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::engine::{self, Material, Measured};
use crate::error::{Error, Result};
use crate::party::Party;
use crate::trees::{self, Nursery, Trees};

use terms::plan_for;
pub use terms::{Reveal, Terms, predict_setup};

const MAGIC: &[u8; 8] = b"copriv01";
const HELLO_BYTES: usize = MAGIC.len() + 1 + 4;
const HASH_BYTES: usize = 32;
/// A longer graph is refused before it is read.
const MAX_GRAPH_BYTES: usize = 16 << 20;

/// Traffic and time of a session so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Handshake and base OTs.
    pub setup: Traffic,
    /// Of all inferences, by layer.
    pub total: Prediction,
    /// Inferences done.
    pub inferences: u64,
    /// Seconds of all of it, by phase: set-up, offline, online.
    pub seconds: [f64; 3],
    /// Whether the trees of an earlier session served this one.
    pub reused: bool,
    /// Bytes of correlations that this party kept in a temporary file for want of memory.
    pub spilled: u64,
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
    pub fn accept(mut channel: Channel, model: &'m Model, nursery: Option<&Nursery>) -> Result<Self> {
        let start = Instant::now();
        let hello = channel.recv(HELLO_BYTES)?;
        let (magic, rest) = hello.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Error::PeerIncompatible("it is no copriv client of this version".into()));
        }
        let known = Reveal::ALL.into_iter().find(|r| r.classes() == rest[0]);
        let reveal = known.ok_or_else(|| Error::PeerMisbehaved(format!("it asks to reveal {}", rest[0])))?;
        let inferences = u32::from_le_bytes([rest[1], rest[2], rest[3], rest[4]]);
        let graph = file::graph_to_json(&model.graph)?;
        channel.send(&(graph.len() as u32).to_le_bytes())?;
        channel.send(graph.as_bytes())?;
        let wanted = channel.recv(Choice::BYTES)?;
        let choice = wanted.as_slice().try_into().ok().and_then(Choice::from_bytes);
        let choice = choice
            .ok_or_else(|| Error::PeerMisbehaved(format!("it asks for the unknown protocols {wanted:?}")))?;
        let hash = channel.recv(HASH_BYTES)?;
        let plan = plan_for(&model.graph, reveal, choice)?;
        channel.send(&plan.hash())?;
        if hash != plan.hash() {
            return Err(disagreement(&mut channel, &plan));
        }
        let mut old = None;
        let mut print = [0; 32];
        if plan.products().any(Product::is_packed) {
            let id = channel.recv(trees::ID_BYTES)?;
            if let Some(nursery) = nursery {
                let layers = engine::layers(&plan, Some(&model.weights))?;
                print = trees::fingerprint(&plan, &trees::leaves(layers.into_iter())?);
                let id = id.as_slice().try_into().map_err(|_| Error::Usage("an identifier".into()))?;
                old = nursery.punctured(id, &print).map(Trees::Punctured);
            }
            channel.send(&[u8::from(old.is_some())])?;
        }
        let reused = old.is_some();
        let mut core = Core::connect(channel, Role::Server, plan, Some(&model.weights), old, start)?;
        if let Some(nursery) = nursery.filter(|_| !reused) {
            core.party.keep_trees(nursery, &core.plan, &print)?;
        }
        core.report.reused = reused;
        Ok(Self { core, model, inferences })
    }

    /// Bounds what this party holds at a time ([`crate::memory`]).
    ///
    /// # Errors
    /// The model needs more, or there is no temporary file.
    pub fn limit_memory(&mut self, bytes: u64) -> Result<()> {
        self.core.party.limit_memory(bytes, &self.core.plan)
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
    pub fn connect(
        mut channel: Channel,
        terms: Terms,
        inferences: u32,
        nursery: Option<&Nursery>,
    ) -> Result<Self> {
        let start = Instant::now();
        channel.send(MAGIC)?;
        channel.send(&[terms.reveal.classes()])?;
        channel.send(&inferences.to_le_bytes())?;
        let length = channel.recv(4)?;
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if length > MAX_GRAPH_BYTES {
            return Err(Error::PeerMisbehaved(format!("its model description has {length} bytes")));
        }
        let text = channel.recv(length)?;
        let text =
            String::from_utf8(text).map_err(|_| Error::PeerMisbehaved("its model is no text".into()))?;
        let graph = file::graph_from_json(&text).map_err(Error::PeerIncompatible)?;
        graph.validate().map_err(|e| Error::PeerMisbehaved(e.to_string()))?;
        let plan = terms.plan(&graph, inferences)?;
        channel.send(&plan.choice.to_bytes())?;
        channel.send(&plan.hash())?;
        if channel.recv(HASH_BYTES)? != plan.hash() {
            return Err(disagreement(&mut channel, &plan));
        }
        let mut old = None;
        if plan.products().any(Product::is_packed) {
            old = nursery.and_then(|nursery| nursery.holder(&plan));
            channel.send(old.as_ref().map_or(&[0; trees::ID_BYTES], |trees| trees.id()))?;
            if channel.recv(1)? != [1] {
                old = None;
            }
        }
        let reused = old.is_some();
        let mut core = Core::connect(channel, Role::Client, plan, None, old.map(Trees::Holder), start)?;
        if let Some(nursery) = nursery.filter(|_| !reused) {
            core.party.keep_trees(nursery, &core.plan, &[0; 32])?;
        }
        core.report.reused = reused;
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

    /// Bounds what this party holds at a time ([`crate::memory`]).
    ///
    /// # Errors
    /// The model needs more, or there is no temporary file.
    pub fn limit_memory(&mut self, bytes: u64) -> Result<()> {
        self.core.party.limit_memory(bytes, &self.core.plan)
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

/// Both parties tell their steps' fingerprints, to name the first that differs.
fn disagreement(channel: &mut Channel, plan: &Plan) -> Error {
    /// Enough to tell steps apart; no plan has so many.
    const PRINT: usize = 8;
    const MOST: usize = 1 << 16;
    let mine: Vec<u8> = plan.steps.iter().flat_map(|step| step.fingerprint()[..PRINT].to_vec()).collect();
    let mut differs = || -> Result<String> {
        let theirs = channel.exchange(&(plan.steps.len() as u32).to_le_bytes(), 4)?;
        let steps = u32::from_le_bytes([theirs[0], theirs[1], theirs[2], theirs[3]]) as usize;
        if steps > MOST {
            return Err(Error::PeerMisbehaved(format!("its plan has {steps} steps")));
        }
        let theirs = channel.exchange(&mine, PRINT * steps)?;
        let same = mine.chunks(PRINT).zip(theirs.chunks(PRINT)).take_while(|(a, b)| a == b).count();
        Ok(plan.steps.get(same).map_or_else(|| "the end".into(), |step| format!("layer `{}`", step.layer)))
    };
    match differs() {
        Ok(place) => Error::PeerIncompatible(format!(
            "its plan differs from ours, first at {place}; do both run the same version?"
        )),
        Err(error) => error,
    }
}

impl Core {
    fn connect(
        channel: Channel,
        role: Role,
        plan: Plan,
        weights: Option<&copriv_model::Weights>,
        old: Option<Trees>,
        start: Instant,
    ) -> Result<Self> {
        let mut party = Party::connect(channel, role, plan.choice, make_rng::<StdRng>())?;
        match old {
            Some(trees) => party.adopt(trees)?,
            None => engine::plant(&mut party, &plan, weights)?,
        }
        party.channel.flush()?;
        let setup = engine::to_plan(&party, party.channel.traffic());
        let mut core = Self { party, plan, measured: Measured::default(), report: Report::default() };
        core.report.setup = setup;
        core.report.seconds[0] = seconds(start.elapsed());
        Ok(core)
    }

    fn offline(&mut self, weights: Option<&copriv_model::Weights>) -> Result<Material> {
        let start = Instant::now();
        let material = engine::offline(&mut self.party, &self.plan, weights, &mut self.measured)?;
        self.report.seconds[1] += seconds(start.elapsed());
        self.report.spilled = self.party.spilled();
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
        self.report.total = self.measured.prediction();
        self.report.inferences += 1;
        self.report.seconds[2] += seconds(start.elapsed());
        Ok(result)
    }
}

fn seconds(d: Duration) -> f64 {
    d.as_secs_f64()
}
