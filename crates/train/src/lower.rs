//! From a quantised network to the integer model.

use copriv_model::{
    Bias as IntegerBias, ConvSpec, GraphBuilder, LayerWeights, Linear, LinearSpec, Model, NodeId,
    Op as IntegerOp, TensorType, Weights as IntegerWeights, range,
};

use crate::TrainError;
use crate::checkpoint::Checkpoint;
use crate::data::PixelScale;
use crate::net::{Bias, Graph, Op, Weights};
use crate::quant::{LayerScale, QuantConfig, QuantSpec, nominal, requantised, round_half_up};
use crate::rewrite::fold_graph;

/// Width of a pixel.
pub(crate) const PIXEL_BITS: u32 = 8;

/// The integer model of a quantised checkpoint.
///
/// # Errors
/// A checkpoint without scales, or one that the integer model refuses.
pub fn integer_model(checkpoint: &Checkpoint, config: &QuantConfig) -> Result<Model, TrainError> {
    let Some(spec) = &checkpoint.quant else {
        return Err(TrainError::Stage {
            found: checkpoint.stage.name(),
            wanted: "an integer model needs a quantised one",
        });
    };
    let lowering = Lowering { source: &checkpoint.graph, spec, weights: Some(&checkpoint.weights), config };
    let (graph, weights) = lowering.run(&checkpoint.classes, checkpoint.pixels)?;
    Ok(Model::new(graph, weights)?)
}

/// The structure that a checkpoint's network, in the state its blocks are in, will have as
/// integers: for pricing, without any training. Scales are nominal; widths are those that
/// `config` prescribes.
///
/// # Errors
/// A graph that the integer model refuses.
pub fn integer_graph(
    checkpoint: &Checkpoint,
    config: &QuantConfig,
) -> Result<copriv_model::Graph, TrainError> {
    structure(&checkpoint.graph, &checkpoint.classes, checkpoint.pixels, config)
}

/// As [`integer_graph`], for a graph alone.
///
/// # Errors
/// As [`integer_graph`].
pub fn structure(
    graph: &Graph,
    classes: &[String],
    pixels: PixelScale,
    config: &QuantConfig,
) -> Result<copriv_model::Graph, TrainError> {
    let graph = fold_graph(graph);
    let spec = nominal(&graph, pixels, config)?;
    scaled_structure(&graph, &spec, classes, pixels, config)
}

/// The structure of a folded graph at given scales; its biases widen no accumulator.
pub(crate) fn scaled_structure(
    graph: &Graph,
    spec: &QuantSpec,
    classes: &[String],
    pixels: PixelScale,
    config: &QuantConfig,
) -> Result<copriv_model::Graph, TrainError> {
    let lowering = Lowering { source: graph, spec, weights: None, config };
    Ok(lowering.run(classes, pixels)?.0)
}

struct Lowering<'a> {
    source: &'a Graph,
    spec: &'a QuantSpec,
    /// Absent where only the structure is wanted.
    weights: Option<&'a Weights>,
    config: &'a QuantConfig,
}

impl Lowering<'_> {
    fn run(
        &self,
        classes: &[String],
        pixels: PixelScale,
    ) -> Result<(copriv_model::Graph, IntegerWeights), TrainError> {
        let shape = self.source.input_shape();
        let input = if pixels.offset == 0 {
            TensorType::unsigned(shape, PIXEL_BITS, pixels.scale_log2)
        } else {
            TensorType::signed(shape, PIXEL_BITS, pixels.scale_log2)
        };
        let shapes = self.source.shapes()?;
        let requantised = requantised(self.source);
        let mut b = GraphBuilder::new(&self.source.arch, input);
        b.preprocess(pixels.preprocess(shape[0])).classes(classes.to_vec());
        let mut integers = IntegerWeights::default();
        let mut place: Vec<NodeId> = Vec::with_capacity(self.source.nodes.len());
        for (id, node) in self.source.nodes.iter().enumerate() {
            let name = node.name.as_str();
            let operand = |i: usize| place[node.inputs[i]];
            let mut top = match &node.op {
                Op::Input { .. } => b.input(),
                Op::Conv(conv) => {
                    let fan_in = conv.weight_shape()[1..].iter().product();
                    let (linear, layer) =
                        self.layer(name, &b, operand(0), fan_in, conv.out_channels, &conv.bias)?;
                    layer.into_iter().for_each(|layer| integers.insert(name, layer));
                    let spec = ConvSpec {
                        out_channels: conv.out_channels,
                        kernel: conv.kernel,
                        stride: conv.stride,
                        pad: conv.pad,
                        groups: conv.groups,
                        linear,
                    };
                    b.conv(name, operand(0), spec)?
                }
                Op::Relu { .. } => b.relu(name, operand(0))?,
                Op::Relu6 => return Err(TrainError::without_integers(name)),
                Op::PartialRelu { mask } => b.partial_relu(name, operand(0), mask.clone())?,
                Op::Blend { .. } => {
                    return Err(TrainError::graph(name, "its mask is still being searched"));
                }
                Op::Add => b.add(name, operand(0), operand(1))?,
                Op::Subsample(how) => b.subsample(name, operand(0), *how)?,
                Op::AvgPool { kernel, stride } => b.avg_pool(name, operand(0), *kernel, *stride)?,
                Op::MaxPool { kernel, stride, pad } => {
                    b.max_pool(name, operand(0), (*kernel, *stride, *pad))?
                }
                Op::GlobalAvgPool => {
                    let [_, h, w] = shapes[node.inputs[0]];
                    if h != w {
                        return Err(TrainError::graph(
                            name,
                            format!("pools {h}x{w}; the map must be square"),
                        ));
                    }
                    b.avg_pool(name, operand(0), h, h)?
                }
                Op::Linear { in_features, out_features } => {
                    let x = b.flatten(&format!("{name}.flatten"), operand(0))?;
                    let (linear, layer) =
                        self.layer(name, &b, x, *in_features, *out_features, &Bias::Channel)?;
                    layer.into_iter().for_each(|layer| integers.insert(name, layer));
                    b.linear(name, x, *out_features, linear)?
                }
            };
            if requantised[id] {
                top = self.requantise(name, &mut b, top)?;
            }
            place.push(top);
        }
        let output = place.last().copied().unwrap_or(0);
        let mut graph = b.finish(output)?;
        wrap_where_proven(&mut graph)?;
        Ok((graph, integers))
    }

    fn requantise(&self, name: &str, b: &mut GraphBuilder, x: NodeId) -> Result<NodeId, TrainError> {
        let act = self.spec.activation(name)?;
        let from = b.type_of(x);
        let shift = u32::try_from(act.scale - from.scale_log2).map_err(|_| {
            TrainError::graph(
                name,
                format!("its scale 2^{} is finer than its accumulator's 2^{}", act.scale, from.scale_log2),
            )
        })?;
        Ok(b.requant(&format!("{name}.requant"), x, shift, act.bits, act.signed, true)?)
    }

    /// The public description of a layer, and its integers if there are weights.
    fn layer(
        &self,
        name: &str,
        b: &GraphBuilder,
        x: NodeId,
        fan_in: usize,
        outputs: usize,
        bias: &Bias,
    ) -> Result<(LinearSpec, Option<LayerWeights>), TrainError> {
        let scale = self.spec.layer(name)?;
        if scale.scales.len() != outputs {
            return Err(TrainError::graph(
                name,
                format!("{} scales for {outputs} outputs", scale.scales.len()),
            ));
        }
        let shifts = scale.shifts();
        let public = Linear {
            weight_bits: scale.bits,
            ternary: scale.ternary,
            weight_scale_log2: scale.finest(),
            channel_shifts: if shifts.iter().all(|&s| s == 0) { vec![] } else { shifts },
            acc_bits: 0,
            acc_bound: 0,
        };
        let accumulator = b.type_of(x).scale_log2 + scale.finest();
        let integers = match self.weights {
            Some(weights) => Some(integer_layer(name, weights, scale, accumulator, bias)?),
            None => None,
        };
        let needed = integers.as_ref().map_or(0, |layer| {
            let largest = (0..outputs).map(|k| layer.bias.max_abs(k)).max().unwrap_or(0);
            u64::BITS - largest.leading_zeros()
        });
        let x = range::of_type(b.type_of(x));
        let acc_bound = match &integers {
            Some(layer) if self.config.tight_accumulators => {
                let bound = range::tight_bound(&public, &layer.weight, outputs, x, |k| layer.bias.max_abs(k));
                u64::try_from(bound).ok()
            }
            _ => None,
        };
        let spec = LinearSpec {
            weight_bits: public.weight_bits,
            ternary: public.ternary,
            weight_scale_log2: public.weight_scale_log2,
            bias_bits: needed.max(free_bias_bits(&public, fan_in, x)),
            channel_shifts: public.channel_shifts,
            acc_bound,
        };
        Ok((spec, integers))
    }
}

/// A requantisation saturates only where its operand, by public facts, may leave its type. What it
/// gives is the same either way, so one proof serves all.
fn wrap_where_proven(graph: &mut copriv_model::Graph) -> Result<(), TrainError> {
    let ranges = range::of_graph(graph)?;
    for node in &mut graph.nodes {
        if let IntegerOp::Requant { shift, clamp } = &mut node.op {
            let (lo, hi) = ranges[node.inputs[0]];
            let (lo, hi) = (range::round_shift(lo, *shift), range::round_shift(hi, *shift));
            *clamp = lo < node.output.min() || hi > node.output.max();
        }
    }
    Ok(graph.validate()?)
}

/// Widest bias that does not widen the accumulator beyond what the products need: claiming it
/// says nothing about the real biases.
fn free_bias_bits(linear: &Linear, fan_in: usize, x: range::Interval) -> u32 {
    let Some(worst) = range::worst_case(linear, fan_in, x) else { return 0 };
    let bits = range::signed_bits(-i128::from(worst), i128::from(worst));
    let room = (1u64 << (bits - 1)) - 1 - worst;
    (room + 1).ilog2()
}

fn integer_layer(
    name: &str,
    weights: &Weights,
    scale: &LayerScale,
    accumulator: i32,
    bias: &Bias,
) -> Result<LayerWeights, TrainError> {
    let weight = weights.of(name, "weight")?;
    let fan_in = weight.data.len() / scale.scales.len();
    let rows = weight.data.chunks_exact(fan_in).enumerate();
    let weight = rows.flat_map(|(k, row)| row.iter().map(move |&w| scale.integer(w, k))).collect();
    let bias = match bias {
        Bias::None => IntegerBias::per_channel(vec![0; scale.scales.len()]),
        stored => {
            let values = &weights.of(name, "bias")?.data;
            let round = |row: &[f32]| row.iter().map(|&v| round_half_up(v, accumulator) as i64).collect();
            let vectors = values.chunks_exact(scale.scales.len()).map(round).collect();
            let map = match stored {
                Bias::Position(map) => map
                    .indices()
                    .into_iter()
                    .map(|i| {
                        u8::try_from(i).map_err(|_| TrainError::graph(name, "more than 256 bias vectors"))
                    })
                    .collect::<Result<_, _>>()?,
                _ => Vec::new(),
            };
            IntegerBias { vectors, map }
        }
    };
    Ok(LayerWeights { weight, bias })
}
