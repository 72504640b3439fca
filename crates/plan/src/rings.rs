//! Which ring each value is shared in.
//!
//! Every ring must hold the proven interval of its values (and of the differences that a
//! comparison forms). Backwards over the graph, each node learns the widest ring that a
//! consumer asks of it: a product or a sum simply works in that ring, the others are extended
//! once behind it.

use copriv_model::range::{self, Interval};
use copriv_model::{Graph, NodeId, Op};

use crate::{PlanError, Preset};

/// The ring arithmetic of one graph.
pub(crate) struct Rings {
    /// Proven interval of each node.
    pub ranges: Vec<Interval>,
    /// Widest ring that a consumer of each node asks for.
    pub demand: Vec<u32>,
    /// Ring in which each node's own protocol works (its input ring for a requantisation).
    pub working: Vec<u32>,
    /// Ring in which each linear layer wants its input's shares.
    pub inputs: Vec<u32>,
    /// Relus that are done inside the requantisation behind them.
    pub fused: Vec<bool>,
    /// Whether there may be any.
    pub fuses: bool,
    /// The one ring of all values, if the preset has one.
    pub uniform: Option<u32>,
}

/// What a requantisation does after the shift.
pub(crate) struct Clamps {
    pub low: Option<i64>,
    pub high: Option<i64>,
    /// Ring that holds the shifted value and both differences.
    pub ring: u32,
}

/// A division by a public constant.
pub(crate) struct Division {
    /// Makes every quotient non-negative.
    pub offset: u64,
    /// The largest dividend then.
    pub largest: u64,
    /// The reciprocal is `factor / 2^shift`.
    pub factor: u64,
    /// See there.
    pub shift: u32,
    /// Bits of the largest product with the factor.
    pub bits: u32,
}

impl Rings {
    /// `input_ring(rings, id)` chooses that of linear layer `id`'s input, when all behind it is known.
    pub(crate) fn of(
        graph: &Graph,
        preset: Preset,
        mut input_ring: impl FnMut(&Self, NodeId) -> u32,
    ) -> Result<Self, PlanError> {
        let n = graph.nodes.len();
        let mut rings = Self {
            ranges: range::of_graph(graph)?,
            demand: vec![0; n],
            working: vec![0; n],
            inputs: vec![0; n],
            fuses: !preset.is_baseline(),
            fused: if preset.is_baseline() { vec![false; n] } else { fused_relus(graph) },
            uniform: None,
        };
        let (lo, hi) = rings.ranges[graph.output];
        rings.demand[graph.output] = range::signed_bits(lo, hi);
        for id in (0..n).rev() {
            rings.visit(graph, id, &mut input_ring)?;
        }
        if preset.one_ring() {
            rings.unite(graph)?;
        }
        Ok(rings)
    }

    /// One ring for all: the widest that any node works in.
    fn unite(&mut self, graph: &Graph) -> Result<(), PlanError> {
        let mut widest = self.working.iter().copied().max().unwrap_or(1);
        for (id, node) in graph.nodes.iter().enumerate() {
            if let Op::AvgPool { kernel, .. } = node.op
                && let Some(division) = self.division(&node.name, id, (kernel * kernel) as u64)?
            {
                widest = widest.max(division.bits + 1);
            }
        }
        self.working.fill(widest);
        for (demand, node) in self.demand.iter_mut().zip(&graph.nodes) {
            if !matches!(node.op, Op::Argmax | Op::TopK { .. }) {
                *demand = widest;
            }
        }
        self.uniform = Some(widest);
        Ok(())
    }

    /// How a sum over `area` values of node `id` becomes `floor((sum + area/2) / area)`; `None` if
    /// a shift does it. Sums are made non-negative and multiplied by a rounded-up reciprocal,
    /// `floor(x / d) = floor(x * m / 2^k)` with `m = ceil(2^k / d)`, exact for `x < 2^N` and
    /// `k = N + ceil(log2 d)` (Granlund and Montgomery, PLDI 1994, theorem 4.2).
    pub(crate) fn division(&self, name: &str, id: NodeId, area: u64) -> Result<Option<Division>, PlanError> {
        if area.is_power_of_two() {
            return Ok(None);
        }
        let (lo, hi) = self.ranges[id];
        let offset = lo.min(0).unsigned_abs() as u64;
        let largest = (hi.unsigned_abs() as u64 + offset) * area + area / 2;
        let width = |v: u64| u64::BITS - v.leading_zeros();
        let k = width(largest) + width(area - 1);
        let factor = if k < 62 { (1u64 << k).div_ceil(area) } else { u64::MAX };
        let bits = width(largest) + width(factor);
        if bits.max(k + self.ring_of_node(id)) > 61 {
            let reason = format!("an average over {area} values needs a ring of more than 62 bits");
            return Err(PlanError::Unsupported { node: name.to_owned(), reason });
        }
        Ok(Some(Division { offset, largest, factor, shift: k, bits }))
    }

    /// The node whose value a requantisation really reads: behind a fused ReLU, its operand.
    pub(crate) fn source(&self, graph: &Graph, requant: NodeId) -> NodeId {
        let operand = graph.nodes[requant].inputs[0];
        if self.fused[operand] { graph.nodes[operand].inputs[0] } else { operand }
    }

    /// Of the elements that a requantisation handles alike, whether they are rectified first: by a fused
    /// ReLU all or none, by a fused partial one some.
    pub(crate) fn fused_parts(&self, graph: &Graph, requant: NodeId) -> &'static [bool] {
        let operand = graph.nodes[requant].inputs[0];
        match (&graph.nodes[operand].op, self.fused[operand]) {
            (Op::PartialRelu { .. }, true) => &[true, false],
            (_, true) => &[true],
            (_, false) => &[false],
        }
    }

    /// Clamps of a requantisation, given the interval of what it reads and whether it is rectified first.
    pub(crate) fn clamps(
        &self,
        graph: &Graph,
        requant: NodeId,
        (shift, clamp): (u32, bool),
        rectified: bool,
    ) -> Clamps {
        let (lo, hi) = self.ranges[self.source(graph, requant)];
        let (lo, hi) = (range::round_shift(lo, shift), range::round_shift(hi, shift));
        let out = &graph.nodes[requant].output;
        let mut floor = if clamp { out.min() } else { i128::MIN };
        if rectified {
            floor = floor.max(0);
        }
        let low = (lo < floor).then_some(floor);
        let high = (clamp && hi > out.max()).then_some(out.max());
        let mut extremes = vec![lo, hi];
        if let Some(low) = low {
            extremes.extend([lo - low, hi - low]);
        }
        if let Some(high) = high {
            let lo = low.unwrap_or(lo);
            extremes.extend([high - hi, high - lo, lo - high]);
        }
        Clamps { low: low.map(|v| v as i64), high: high.map(|v| v as i64), ring: ring_of(&extremes) }
    }

    fn visit(
        &mut self,
        graph: &Graph,
        id: NodeId,
        input_ring: &mut impl FnMut(&Self, NodeId) -> u32,
    ) -> Result<(), PlanError> {
        let node = &graph.nodes[id];
        let own = ring_of(&[self.ranges[id].0, self.ranges[id].1]);
        let wide = own.max(self.demand[id]);
        let operand = |i: usize| self.ranges[node.inputs[i]];
        self.working[id] = match &node.op {
            Op::Input | Op::Conv(_) | Op::Linear(_) | Op::Add { .. } => wide,
            Op::Flatten | Op::Subsample(_) => self.demand[id],
            Op::Relu | Op::PartialRelu { .. } => ring_of(&[operand(0).0, operand(0).1]),
            Op::Requant { shift, clamp } => {
                let of = |rectified: &bool| self.clamps(graph, id, (*shift, *clamp), *rectified).ring + shift;
                self.fused_parts(graph, id).iter().map(of).max().unwrap_or(0)
            }
            Op::AvgPool { kernel, .. } => {
                let area = (kernel * kernel) as i128;
                let (lo, hi) = operand(0);
                ring_of(&[lo * area, hi * area + area / 2])
            }
            Op::MaxPool { .. } | Op::Argmax | Op::TopK { .. } => {
                let (lo, hi) = operand(0);
                ring_of(&[lo - hi, hi - lo, lo, hi])
            }
        };
        if self.working[id] > 62 {
            return Err(PlanError::Unsupported {
                node: node.name.clone(),
                reason: format!("needs a ring of {} bits; at most 62 are supported", self.working[id]),
            });
        }
        if self.fused[id] {
            return Ok(());
        }
        if node.op.linear().is_some() {
            self.inputs[id] = input_ring(self, id);
        }
        for (i, &x) in node.inputs.iter().enumerate() {
            let x = if matches!(node.op, Op::Requant { .. }) { self.source(graph, id) } else { x };
            let asked = self.operand_ring(graph, id, i);
            self.demand[x] = self.demand[x].max(asked);
        }
        Ok(())
    }

    /// The requantisations, with their shifts, that alone use a node's value, through ReLUs - fused ones,
    /// or any where none is fused - and additions perhaps; `None` if anything else does.
    pub(crate) fn requants(&self, graph: &Graph, id: NodeId) -> Option<Vec<(NodeId, u32)>> {
        if id == graph.output {
            return None;
        }
        let mut found = Vec::new();
        for (user, node) in graph.nodes.iter().enumerate().filter(|(_, n)| n.inputs.contains(&id)) {
            match &node.op {
                Op::Requant { shift, .. } => found.push((user, *shift)),
                Op::Relu | Op::PartialRelu { .. } if self.fused[user] || !self.fuses => {
                    found.extend(self.requants(graph, user)?);
                }
                Op::Add { .. } => found.extend(self.requants(graph, user)?),
                _ => return None,
            }
        }
        Some(found)
    }

    /// Smallest ring that holds a node's values.
    pub(crate) fn ring_of_node(&self, id: NodeId) -> u32 {
        ring_of(&[self.ranges[id].0, self.ranges[id].1])
    }

    /// The ring that the shares of node `id` come in when nobody asks for more; `None` if they come in any ring
    /// at the same price.
    pub(crate) fn natural(&self, graph: &Graph, id: NodeId) -> Option<u32> {
        let node = &graph.nodes[id];
        let operand = || node.inputs[0];
        match &node.op {
            Op::Input | Op::Conv(_) | Op::Linear(_) | Op::Add { .. } => None,
            Op::Flatten | Op::Subsample(_) => self.natural(graph, operand()),
            Op::Requant { shift, clamp } => {
                let of = |rectified: &bool| {
                    let clamps = self.clamps(graph, id, (*shift, *clamp), *rectified);
                    let saturated = if self.fuses { clamps.window() } else { None };
                    saturated.map_or(clamps.ring, |(_, window)| window + 1)
                };
                self.fused_parts(graph, id).iter().map(of).max()
            }
            Op::Relu | Op::PartialRelu { .. } => {
                Some(ring_of(&[self.ranges[operand()].0, self.ranges[operand()].1]))
            }
            Op::AvgPool { .. } => Some(self.ring_of_node(id)),
            Op::MaxPool { .. } | Op::Argmax | Op::TopK { .. } => {
                let (lo, hi) = self.ranges[operand()];
                Some(ring_of(&[lo - hi, hi - lo, lo, hi]))
            }
        }
    }

    /// Ring that node `id` wants operand `i` in.
    pub(crate) fn operand_ring(&self, graph: &Graph, id: NodeId, i: usize) -> u32 {
        match &graph.nodes[id].op {
            Op::Add { shifts } if self.uniform.is_none() => self.working[id] - shifts[i],
            Op::Conv(_) | Op::Linear(_) if self.uniform.is_none() => self.inputs[id],
            _ => self.working[id],
        }
    }
}

impl Clamps {
    /// Two clamps whose window has a power of two of values, and bits between it and the sign: its lower
    /// end, and the power.
    pub(crate) fn window(&self) -> Option<(i64, u32)> {
        let (low, high) = (self.low?, self.high?);
        let values = high.checked_sub(low)?.checked_add(1)?.unsigned_abs();
        let window = values.ilog2();
        (values.is_power_of_two() && window >= 1 && window + 2 <= self.ring).then_some((low, window))
    }
}

/// Smallest two's complement ring that holds all of these.
fn ring_of(values: &[i128]) -> u32 {
    let (lo, hi) = (values.iter().min(), values.iter().max());
    range::signed_bits(*lo.unwrap_or(&0), *hi.unwrap_or(&0))
}

/// ReLUs whose only user is a requantisation: `relu(x) >> s == relu(x >> s)`, rounding
/// included, so the sign is taken of the shorter value.
fn fused_relus(graph: &Graph) -> Vec<bool> {
    let mut users = vec![Vec::new(); graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        for &x in &node.inputs {
            users[x].push(id);
        }
    }
    graph
        .nodes
        .iter()
        .enumerate()
        .map(|(id, node)| {
            matches!(node.op, Op::Relu | Op::PartialRelu { .. })
                && id != graph.output
                && matches!(users[id][..], [user] if matches!(graph.nodes[user].op, Op::Requant { .. }))
        })
        .collect()
}
