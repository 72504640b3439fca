//! Products, chosen layer by layer: first the ring of each input, backwards with the other rings, then
//! algorithm and method.

use copriv_model::kernel::Geometry;
use copriv_model::{Graph, NodeId, Op};

use crate::PlanError;
use crate::choice::{Choice, Preset};
use crate::linear::{Algorithm, Method, Product, Side, Tile, Wrap};
use crate::rings::Rings;
use crate::step::{Step, StepKind};

/// A linear layer, whether its result may be scaled, and what each tile then costs behind it.
type Layer = (Product, bool, [f64; 3]);

/// The products of a graph under a choice.
pub(super) struct Products<'a> {
    graph: &'a Graph,
    choice: Choice,
    /// Those chosen before: networks repeat their layers.
    chosen: Vec<(Layer, (f64, Product))>,
}

impl<'a> Products<'a> {
    pub(super) fn new(graph: &'a Graph, choice: Choice) -> Self {
        Self { graph, choice, chosen: Vec::new() }
    }

    /// In which ring layer `id` takes the shares of its input: as they come, with bits for the sum, or as
    /// wide as its accumulator (the rows of [`crate::linear::Wraps`]). SiRNN takes them as they come; the others
    /// what is least together with the extension behind the input.
    pub(super) fn input_ring(&mut self, rings: &Rings, id: NodeId) -> u32 {
        let (whole, x) = (rings.working[id], self.graph.nodes[id].inputs[0]);
        let Some(natural) = rings.natural(self.graph, x) else { return whole };
        let own = rings.ring_of_node(x);
        let growth = self.geometry(id).map_or(0, |g| g.fan_in().next_power_of_two().ilog2());
        let candidates = match self.choice.preset {
            Preset::Cryptflow2 | Preset::Copriv | Preset::CoprivEwmm => return whole,
            Preset::Sirnn => return own.min(whole),
            Preset::Privquant | Preset::CoprivNg => [whole, own, own + growth],
        };
        let mut best = (f64::INFINITY, whole);
        for ring in candidates {
            // What wider ring others ask for is paid for already.
            if ring > whole || ring < whole && rings.demand[x] >= whole {
                continue;
            }
            let Ok((value, _)) = self.choose(rings, id, ring) else { continue };
            let extension = self.extension(rings, x, (natural, ring.max(rings.demand[x])));
            if value + extension < best.0 {
                best = (value + extension, ring);
            }
        }
        best.1
    }

    /// What widening the shares of node `x` comes to.
    fn extension(&self, rings: &Rings, x: NodeId, (from, to): (u32, u32)) -> f64 {
        if to <= from {
            return 0.0;
        }
        let (offset, sign_known) = self.offset(rings, x, from);
        let kind = StepKind::Extend { from, offset, msb_known: sign_known };
        let len = self.graph.nodes[x].output.len();
        Step { layer: String::new(), kind, inputs: vec![], len, ring: to }.value(self.choice)
    }

    /// What makes the values of node `x` non-negative, and whether their sign is then known in `ring`.
    fn offset(&self, rings: &Rings, x: NodeId, ring: u32) -> (u64, bool) {
        let (lo, hi) = rings.ranges[x];
        let offset = lo.min(0).unsigned_abs() as u64;
        let clear = hi + i128::from(offset) < 1i128 << (ring - 1);
        (offset, clear && self.choice.preset.knows_signs())
    }

    /// The product of layer `id` on shares of its input in `from`, by the cheapest algorithm and method, and
    /// what it comes to.
    pub(super) fn choose(
        &mut self,
        rings: &Rings,
        id: NodeId,
        from: u32,
    ) -> Result<(f64, Product), PlanError> {
        let node = &self.graph.nodes[id];
        let unsupported =
            || PlanError::Unsupported { node: node.name.clone(), reason: "not a linear layer".into() };
        let linear = node.op.linear().ok_or_else(unsupported)?;
        let ring = rings.working[id];
        let from = if rings.uniform.is_some() { ring } else { from };
        let (offset, sign_known) = self.offset(rings, node.inputs[0], from);
        let product = Product {
            geometry: self.geometry(id).ok_or_else(unsupported)?,
            weight_bits: linear.weight_bits,
            ternary: linear.ternary,
            bounds: match &node.op {
                Op::Conv(conv) => conv.kernel_bounds.clone(),
                _ => Vec::new(),
            },
            ring,
            wrap: (from < ring).then_some(Wrap { from, offset, sign_known }),
            channel_shifts: linear.channel_shifts.clone(),
            algorithm: Algorithm::Direct,
            method: Method::Cot { receiver: Side::Server },
        };
        let requants = rings.requants(self.graph, id);
        let scalable = requants.is_some();
        let price = |extra: u32| -> f64 {
            let truncations = requants.iter().flatten();
            truncations.map(|&(id, shift)| self.truncation_bytes(rings, id, shift, extra)).sum()
        };
        let behind = Tile::ALL.map(|tile| price(tile.extra_bits()) - price(0));
        let key = (product, scalable, behind);
        if let Some((_, chosen)) = self.chosen.iter().find(|(known, _)| *known == key) {
            return Ok(chosen.clone());
        }
        let chosen = key.0.clone().choose(self.choice, scalable, |algorithm| match algorithm {
            Algorithm::Direct => 0.0,
            Algorithm::Winograd(tile) | Algorithm::ElementWise(tile) => {
                Tile::ALL.iter().zip(behind).find(|(t, _)| **t == tile).map_or(0.0, |(_, b)| b)
            }
        });
        self.chosen.push((key, chosen.clone()));
        Ok(chosen)
    }

    fn geometry(&self, id: NodeId) -> Option<Geometry> {
        let node = &self.graph.nodes[id];
        Geometry::of(node, &self.graph.nodes[*node.inputs.first()?].output)
    }

    /// Bytes of the truncation of requantisation `id` with so many extra bits.
    fn truncation_bytes(&self, rings: &Rings, id: NodeId, shift: u32, extra: u32) -> f64 {
        let shift = shift + extra;
        if shift == 0 {
            return 0.0;
        }
        let from = rings.working[id] + extra;
        let len = self.graph.nodes[id].output.len();
        let (kind, ring) = match rings.uniform {
            Some(_) => (StepKind::ShiftRight { shift, bias: 0 }, from),
            None => (StepKind::Truncate { from, shift, bias: 0 }, from - shift),
        };
        Step { layer: String::new(), kind, inputs: vec![], len, ring }.bytes(self.choice)
    }
}
