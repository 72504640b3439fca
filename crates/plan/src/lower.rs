//! Graph to steps.
//!
//! A requantisation is PrivQuant's algorithm 1: with a shift a truncate-and-reduce, without one a
//! reduction that is local; then an extension if a consumer's ring is wider. What PrivQuant (section 4,
//! propositions 4.1-4.3) says of neighbours holds here by construction, since no step asks for more bits
//! than its result needs and every value is extended at most once:
//!
//! | rule | where |
//! |---|---|
//! | a truncation within a ring is a truncate-and-reduce, then an extension | `truncate`, `extend_to_demand` |
//! | extensions, and truncations, that follow each other are one | `Rings::demand`: the widest ring of all consumers |
//! | an extension in front of a reduction is none | `in_ring`: a narrower ring is local |
//! | a known sign makes an extension one correlated OT (4.2.1) | `Extend::msb_known`, from the range proofs |
//! | a residual is aligned to the accumulator, added there, requantised once (4.1.2) | `Op::Add` works in the wider ring |
//! | an extension in front of a product is made, or its wrap is corrected inside (table 4) | `Products::input_ring` |
//!
//! A truncate-and-reduce has no use for a known sign: it never looks at the high bits.

mod products;

use copriv_model::{Graph, Mask, NodeId, Op, range};

use crate::choice::Choice;
use crate::rings::Rings;
use crate::step::{Plan, Step, StepId, StepKind, Window};
use crate::{PlanError, rings};
use products::Products;

impl Plan {
    /// Lowers a valid graph.
    ///
    /// # Errors
    /// An invalid graph, or an operator that no protocol covers yet.
    pub fn new(graph: &Graph, choice: Choice) -> Result<Self, PlanError> {
        graph.validate()?;
        let mut products = Products::new(graph, choice);
        let rings = Rings::of(graph, choice.preset, |rings, id| products.input_ring(rings, id))?;
        let nodes = graph.nodes.len();
        let mut lowering = Lowering {
            graph,
            choice,
            rings,
            steps: Vec::new(),
            values: vec![None; nodes],
            scaled: vec![0; nodes],
            products,
        };
        for id in 0..graph.nodes.len() {
            if !lowering.rings.fused[id] {
                lowering.node(id)?;
            }
        }
        lowering.reveal();
        Ok(Self { choice, steps: lowering.steps, values: lowering.values, scaled: lowering.scaled })
    }
}

struct Lowering<'a> {
    graph: &'a Graph,
    choice: Choice,
    rings: Rings,
    steps: Vec<Step>,
    /// The step that holds each node's value, in the widest ring that a consumer asks for.
    values: Vec<Option<StepId>>,
    /// Extra bits at the low end of each node's value, which Winograd leaves and a requantisation drops.
    scaled: Vec<u32>,
    products: Products<'a>,
}

impl Lowering<'_> {
    fn node(&mut self, id: NodeId) -> Result<(), PlanError> {
        let graph = self.graph;
        let node = &graph.nodes[id];
        let (name, len, ring) = (&node.name, node.output.len(), self.rings.working[id]);
        let value = match &node.op {
            Op::Input => self.push(name, StepKind::Input, vec![], len, ring),
            Op::Conv(_) | Op::Linear(_) => {
                let x = self.operand(id, 0)?;
                let (_, product) = self.products.choose(&self.rings, id, self.rings.inputs[id])?;
                let ring = product.output_ring();
                self.scaled[id] = product.algorithm.extra_bits();
                self.push(name, StepKind::Product { node: id, product }, vec![x], len, ring)
            }
            Op::Relu => {
                let x = self.operand(id, 0)?;
                let extra = self.scaled[node.inputs[0]];
                self.scaled[id] = extra;
                self.push(name, StepKind::ClampLow { bound: 0 }, vec![x], len, ring + extra)
            }
            Op::PartialRelu { mask } => {
                let x = self.operand(id, 0)?;
                let extra = self.scaled[node.inputs[0]];
                self.scaled[id] = extra;
                let ring = ring + extra;
                let [inside, outside] = self.split(name, mask, x);
                let bound = StepKind::ClampLow { bound: 0 };
                let rectified = self.push(name, bound, vec![inside], mask.count(true), ring);
                let join = StepKind::Join { mask: mask.clone() };
                self.push(name, join, vec![rectified, outside], len, ring)
            }
            Op::Requant { shift, clamp } => self.requant(id, (*shift, *clamp))?,
            Op::Add { shifts } => {
                let extra = [0, 1].map(|i| self.scaled[node.inputs[i]]);
                let most = extra[0].max(extra[1]);
                self.scaled[id] = most;
                // Both in the scale of the one with more extra bits.
                let shifts = [0, 1].map(|i| shifts[i] + most - extra[i]);
                let operands = vec![self.operand(id, 0)?, self.operand(id, 1)?];
                self.push(name, StepKind::Add { shifts }, operands, len, ring + most)
            }
            Op::AvgPool { kernel, stride } => {
                let window = self.window(id, *kernel, *stride, 0);
                let x = self.operand(id, 0)?;
                let sum = self.push(name, StepKind::SumPool(window), vec![x], len, ring);
                self.divide(id, sum, (kernel * kernel) as u64)?
            }
            Op::MaxPool { kernel, stride, pad } => {
                let window = self.window(id, *kernel, *stride, *pad);
                let x = self.operand(id, 0)?;
                self.push(name, StepKind::MaxPool(window), vec![x], len, ring)
            }
            Op::Subsample(how) => {
                let x = self.operand(id, 0)?;
                let input = graph.nodes[node.inputs[0]].output.shape;
                self.push(name, StepKind::Subsample { input, how: *how }, vec![x], len, ring)
            }
            Op::Flatten => self.operand(id, 0)?,
            Op::Argmax => {
                let x = self.operand(id, 0)?;
                let candidates = graph.nodes[node.inputs[0]].output.len();
                let bits = node.output.bits + 1;
                self.push(name, StepKind::Argmax { candidates, from: ring }, vec![x], 1, bits)
            }
            Op::TopK { .. } => {
                let x = self.operand(id, 0)?;
                let candidates = graph.nodes[node.inputs[0]].output.len();
                let bits = node.output.bits + 1;
                if ring + bits > 62 {
                    let reason = format!("{candidates} values of {ring} bits; use the class or the logits");
                    return Err(PlanError::Unsupported { node: name.clone(), reason });
                }
                self.push(name, StepKind::TopK { candidates, from: ring }, vec![x], len, bits)
            }
        };
        let value = self.extend_to_demand(id, value);
        self.values[id] = Some(value);
        Ok(())
    }

    /// Behind a fused partial ReLU, the rectified elements and the others each in their own way.
    fn requant(&mut self, id: NodeId, how: (u32, bool)) -> Result<StepId, PlanError> {
        let graph = self.graph;
        let node = &graph.nodes[id];
        let source = self.rings.source(graph, id);
        let x = self.in_ring(source, self.rings.working[id] + self.scaled[source])?;
        let [true, false] = *self.rings.fused_parts(graph, id) else {
            let rectified = self.rings.fused[node.inputs[0]];
            return Ok(self.requant_part(id, x, how, rectified));
        };
        let Op::PartialRelu { mask } = &graph.nodes[node.inputs[0]].op else {
            let reason = "a partial ReLU without a mask".into();
            return Err(PlanError::Unsupported { node: node.name.clone(), reason });
        };
        let demand = self.rings.demand[id];
        let parts = self.split(&node.name, mask, x);
        let mut joined = Vec::with_capacity(2);
        for (part, rectified) in parts.into_iter().zip([true, false]) {
            let value = self.requant_part(id, part, how, rectified);
            let (lo, hi) = self.rings.ranges[id];
            let range = if rectified { (lo.max(0), hi) } else { (lo, hi) };
            let value = self.extend(&node.name, value, demand, range);
            joined.push(if self.steps[value].ring > demand {
                self.push(&node.name, StepKind::Reduce, vec![value], self.steps[value].len, demand)
            } else {
                value
            });
        }
        Ok(self.push(&node.name, StepKind::Join { mask: mask.clone() }, joined, mask.len(), demand))
    }

    /// The elements in a mask and those outside.
    fn split(&mut self, layer: &str, mask: &Mask, x: StepId) -> [StepId; 2] {
        let ring = self.steps[x].ring;
        [true, false].map(|inside| {
            let pick = StepKind::Pick { mask: mask.clone(), inside };
            self.push(layer, pick, vec![x], mask.count(inside), ring)
        })
    }

    /// Truncate, then saturate: from below (the fused ReLU, if any) and from above.
    fn requant_part(
        &mut self,
        id: NodeId,
        x: StepId,
        (shift, clamp): (u32, bool),
        rectified: bool,
    ) -> StepId {
        let graph = self.graph;
        let (node, len) = (&graph.nodes[id], self.steps[x].len);
        let clamps = self.rings.clamps(graph, id, (shift, clamp), rectified);
        let ring = self.rings.uniform.unwrap_or(self.rings.working[id] - shift);
        let shift = shift + self.scaled[self.rings.source(graph, id)];
        if let Some((bound, window)) = clamps.window()
            && self.rings.fuses
        {
            return self.truncate_and_saturate(&node.name, x, shift, (bound, window));
        }
        let mut value = self.truncate(&node.name, x, shift);
        if let Some(bound) = clamps.low {
            let layer = if rectified { &graph.nodes[node.inputs[0]].name } else { &node.name };
            value = self.push(layer, StepKind::ClampLow { bound }, vec![value], len, ring);
        }
        if let Some(bound) = clamps.high {
            value = self.push(&node.name, StepKind::ClampHigh { bound }, vec![value], len, ring);
        }
        value
    }

    /// In two steps or, where the objective likes that better, in one.
    fn truncate_and_saturate(
        &mut self,
        layer: &str,
        x: StepId,
        shift: u32,
        (bound, window): (i64, u32),
    ) -> StepId {
        let (len, from) = (self.steps[x].len, self.steps[x].ring);
        let start = self.steps.len();
        let value = self.truncate(layer, x, shift);
        let kind = StepKind::Saturate { from: self.steps[value].ring, bound, window };
        let two = self.push(layer, kind, vec![value], len, window + 1);
        if shift == 0 {
            return two;
        }
        let kind = StepKind::TruncateSaturate { from, shift, bias: 1 << (shift - 1), bound, window };
        let one = Step { layer: layer.to_owned(), kind, inputs: vec![x], len, ring: window + 1 };
        let two_steps: f64 = self.steps[start..].iter().map(|s| s.value(self.choice)).sum();
        if one.value(self.choice) < two_steps {
            self.steps.truncate(start);
            self.steps.push(one);
        }
        self.steps.len() - 1
    }

    /// Rounds half up.
    fn truncate(&mut self, layer: &str, x: StepId, shift: u32) -> StepId {
        if shift == 0 {
            return x;
        }
        let (len, from) = (self.steps[x].len, self.steps[x].ring);
        let bias = 1 << (shift - 1);
        if let Some(ring) = self.rings.uniform {
            let shifted = self.push(layer, StepKind::ShiftRight { shift, bias }, vec![x], len, from);
            let reduced = from > ring;
            return if reduced {
                self.push(layer, StepKind::Reduce, vec![shifted], len, ring)
            } else {
                shifted
            };
        }
        self.push(layer, StepKind::Truncate { from, shift, bias }, vec![x], len, from - shift)
    }

    /// `floor((sum + area/2) / area)` for a pool's window sums, see [`Rings::division`].
    fn divide(&mut self, id: NodeId, sum: StepId, area: u64) -> Result<StepId, PlanError> {
        let node = &self.graph.nodes[id];
        let (name, len) = (node.name.as_str(), node.output.len());
        let Some(division) = self.rings.division(name, id, area)? else {
            return Ok(self.truncate(name, sum, area.ilog2()));
        };
        let rings::Division { offset, largest, factor, shift, bits } = division;
        let from = self.steps[sum].ring;
        let addend = (offset * area + area / 2) as i64;
        let back = StepKind::Affine { factor: 1, addend: -(offset as i64) };
        let scale = StepKind::Affine { factor, addend: 0 };
        let sum = self.push(name, StepKind::Affine { factor: 1, addend }, vec![sum], len, from);
        if self.rings.uniform.is_some() {
            let scaled = self.push(name, scale, vec![sum], len, from);
            let quotient = self.push(name, StepKind::ShiftRight { shift, bias: 0 }, vec![scaled], len, from);
            return Ok(self.push(name, back, vec![quotient], len, from));
        }
        // Wide enough for the product, and for the quotient to come out in its own ring.
        let out = self.rings.ring_of_node(id);
        let ring = bits.max(shift + out);
        let msb_known = self.choice.preset.knows_signs() && largest < 1 << (from - 1);
        let wide = self.push(name, StepKind::Extend { from, offset: 0, msb_known }, vec![sum], len, ring);
        let scaled = self.push(name, scale, vec![wide], len, ring);
        let truncate = StepKind::Truncate { from: ring, shift, bias: 0 };
        let quotient = self.push(name, truncate, vec![scaled], len, out);
        Ok(self.push(name, back, vec![quotient], len, out))
    }

    fn extend_to_demand(&mut self, id: NodeId, value: StepId) -> StepId {
        let extra = self.scaled[id];
        let (lo, hi) = self.rings.ranges[id];
        let wanted = self.rings.demand[id] + extra;
        self.extend(&self.graph.nodes[id].name, value, wanted, (lo << extra, hi << extra))
    }

    /// Into the ring `wanted` unless it is that wide already; all values are between `lo` and `hi`.
    fn extend(&mut self, layer: &str, value: StepId, wanted: u32, (lo, hi): range::Interval) -> StepId {
        let from = self.steps[value].ring;
        if wanted <= from {
            return value;
        }
        let offset = lo.min(0).unsigned_abs() as u64;
        let msb_known = self.choice.preset.knows_signs() && hi + i128::from(offset) < 1i128 << (from - 1);
        let len = self.steps[value].len;
        let kind = StepKind::Extend { from, offset, msb_known };
        self.push(layer, kind, vec![value], len, wanted)
    }

    /// Operand `i` of node `id` in the ring that the node works in.
    fn operand(&mut self, id: NodeId, i: usize) -> Result<StepId, PlanError> {
        let operand = self.graph.nodes[id].inputs[i];
        self.in_ring(operand, self.rings.operand_ring(self.graph, id, i) + self.scaled[operand])
    }

    fn in_ring(&mut self, node: NodeId, ring: u32) -> Result<StepId, PlanError> {
        let name = &self.graph.nodes[node].name;
        let missing =
            || PlanError::Unsupported { node: name.clone(), reason: "its value was fused away".into() };
        let value = self.values[node].ok_or_else(missing)?;
        if self.steps[value].ring == ring {
            return Ok(value);
        }
        let len = self.steps[value].len;
        Ok(self.push(name, StepKind::Reduce, vec![value], len, ring))
    }

    fn reveal(&mut self) {
        let node = &self.graph.nodes[self.graph.output];
        let ring = self.rings.demand[self.graph.output];
        if let Ok(value) = self.in_ring(self.graph.output, ring) {
            self.push(&node.name, StepKind::Reveal, vec![value], node.output.len(), ring);
        }
    }

    fn window(&self, id: NodeId, kernel: usize, stride: usize, pad: usize) -> Window {
        let input = self.graph.nodes[self.graph.nodes[id].inputs[0]].output.shape;
        Window { input, kernel, stride, pad }
    }

    fn push(&mut self, layer: &str, kind: StepKind, inputs: Vec<StepId>, len: usize, ring: u32) -> StepId {
        self.steps.push(Step { layer: layer.to_owned(), kind, inputs, len, ring });
        self.steps.len() - 1
    }
}
