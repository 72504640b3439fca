//! Hessian-vector products and traces against second differences of the loss, computed here in
//! double precision from the definitions of the layers.

use std::collections::BTreeMap;

use burn::tensor::Device;
use copriv_train::data::{Images, PixelScale};
use copriv_train::hessian::{Direction, Of, TraceConfig, product, traces};
use copriv_train::net::{Array, Bias, Conv, Graph, Node, NodeId, Op, PositionMap, Subsample, Weights};
use copriv_train::quant::requantised;
use copriv_train::rewrite::mask_rectifiers;
use copriv_train::{Checkpoint, Ranking, Stage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Step of the differences. No rectifier may change its mind within it.
const STEP: f64 = 2e-5;
/// Values closer to a kink than this disqualify a network.
const MARGIN: f64 = 2e-3;
const PIXELS: PixelScale = PixelScale { offset: 128, scale_log2: -6 };

fn node(name: &str, op: Op, inputs: &[NodeId]) -> Node {
    Node { name: name.into(), op, inputs: inputs.to_vec() }
}

fn conv(shape: [usize; 2], kernel: usize, stride: usize, pad: usize, groups: usize, bias: Bias) -> Op {
    let [in_channels, out_channels] = shape;
    Op::Conv(Conv { in_channels, out_channels, kernel, stride, pad, groups, norm: false, bias })
}

/// Every operator that has an integer form once.
fn convolutional() -> Graph {
    let relu = || Op::Relu { gate: None };
    let map = PositionMap { rows: vec![0, 1, 1, 1, 1, 2], columns: vec![0, 0, 0, 1, 1, 1] };
    let nodes = vec![
        node("input", Op::Input { shape: [1, 6, 6] }, &[]),
        node("stem", conv([1, 4], 3, 1, 1, 1, Bias::Position(map)), &[0]),
        node("stem.relu", relu(), &[1]),
        node("depthwise", conv([4, 4], 3, 2, 1, 4, Bias::None), &[2]),
        node("depthwise.relu", relu(), &[3]),
        node("pointwise", conv([4, 6], 1, 1, 0, 1, Bias::Channel), &[4]),
        node("shortcut", Op::Subsample(Subsample { stride: 2, before: 1, after: 1 }), &[2]),
        node("add", Op::Add, &[5, 6]),
        node("mean", Op::AvgPool { kernel: 2, stride: 1 }, &[7]),
        node("max", Op::MaxPool { kernel: 2, stride: 1, pad: 1 }, &[8]),
        node("last.relu", relu(), &[9]),
        node("pool", Op::GlobalAvgPool, &[10]),
        node("logits", Op::Linear { in_features: 6, out_features: 4 }, &[11]),
    ];
    Graph { arch: "every-operator".into(), nodes, blocks: vec![] }
}

/// 2,000 weights in three fully connected layers.
fn perceptron() -> Graph {
    let relu = || Op::Relu { gate: None };
    let nodes = vec![
        node("input", Op::Input { shape: [3, 6, 6] }, &[]),
        node("first", conv([3, 12], 6, 1, 0, 1, Bias::Channel), &[0]),
        node("first.relu", relu(), &[1]),
        node("second", conv([12, 32], 1, 1, 0, 1, Bias::Channel), &[2]),
        node("second.relu", relu(), &[3]),
        node("logits", Op::Linear { in_features: 32, out_features: 10 }, &[4]),
    ];
    Graph { arch: "perceptron".into(), nodes, blocks: vec![] }
}

type Moves = BTreeMap<NodeId, Vec<f64>>;

/// The loss in double precision.
struct Reference {
    graph: Graph,
    weights: BTreeMap<String, Vec<f64>>,
    images: Images,
}

impl Reference {
    /// Sum of the cross entropies, and the distance to the nearest kink, with weights or values moved
    /// by so much.
    fn loss(&self, of: Of, moves: &Moves) -> (f64, f64) {
        let (mut loss, mut margin) = (0.0, f64::INFINITY);
        for i in 0..self.images.len() {
            let (z, near) = self.logits(i, of, moves);
            let sum: f64 = z.iter().map(|v| v.exp()).sum();
            loss += sum.ln() - z[usize::from(self.images.labels[i])];
            margin = margin.min(near);
        }
        (loss, margin)
    }

    fn logits(&self, image: usize, of: Of, moves: &Moves) -> (Vec<f64>, f64) {
        let shapes = self.graph.shapes().unwrap();
        let mut margin = f64::INFINITY;
        let mut values: Vec<Vec<f64>> = Vec::new();
        for (id, node) in self.graph.nodes.iter().enumerate() {
            let weight = || {
                let mut weight = self.weights[&format!("{}.weight", node.name)].clone();
                if let Some(by) = moves.get(&id).filter(|_| of == Of::Weights) {
                    weight.iter_mut().zip(by).for_each(|(w, d)| *w += d);
                }
                weight
            };
            let bias = |at: usize| self.weights.get(&format!("{}.bias", node.name)).map_or(0.0, |b| b[at]);
            let x = node.inputs.first().map_or(&[][..], |&i| &values[i]);
            let [out, rows, columns] = shapes[id];
            let [c, h, w] = node.inputs.first().map_or([0; 3], |&i| shapes[i]);
            let positions =
                (0..out).flat_map(|k| (0..rows).flat_map(move |y| (0..columns).map(move |x| (k, y, x))));
            let inside = |at: usize, pad: usize, size: usize| at.checked_sub(pad).filter(|&p| p < size);
            let mut y: Vec<f64> = match &node.op {
                Op::Input { .. } => {
                    self.images.image(image).unwrap().iter().map(|&p| f64::from(PIXELS.real(p))).collect()
                }
                Op::Conv(conv) => {
                    let weight = weight();
                    let (k, group) = (conv.kernel, conv.in_channels / conv.groups);
                    let vectors = match &conv.bias {
                        Bias::Position(map) => map.indices(),
                        _ => vec![0; rows * columns],
                    };
                    let at = |(o, oy, ox): (usize, usize, usize)| {
                        let mut sum = match conv.bias {
                            Bias::None => 0.0,
                            _ => bias(vectors[oy * columns + ox] * out + o),
                        };
                        for (i, (ky, kx)) in (0..group * k * k).map(|t| (t / (k * k), (t / k % k, t % k))) {
                            let channel = o / (out / conv.groups) * group + i;
                            let (iy, ix) = (
                                inside(oy * conv.stride + ky, conv.pad, h),
                                inside(ox * conv.stride + kx, conv.pad, w),
                            );
                            if let (Some(iy), Some(ix)) = (iy, ix) {
                                sum += weight[((o * group + i) * k + ky) * k + kx]
                                    * x[(channel * h + iy) * w + ix];
                            }
                        }
                        sum
                    };
                    positions.map(at).collect()
                }
                Op::Linear { in_features, .. } => {
                    let weight = weight();
                    let rows = weight.chunks_exact(*in_features).enumerate();
                    rows.map(|(o, row)| bias(o) + row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>())
                        .collect()
                }
                Op::Relu { .. } => {
                    margin = x.iter().fold(margin, |m, v| m.min(v.abs()));
                    x.iter().map(|v| v.max(0.0)).collect()
                }
                Op::Relu6 => {
                    margin = x.iter().fold(margin, |m, v| m.min(v.abs()).min((v - 6.0).abs()));
                    x.iter().map(|v| v.clamp(0.0, 6.0)).collect()
                }
                Op::PartialRelu { mask } => {
                    margin = x.iter().fold(margin, |m, v| m.min(v.abs()));
                    let rectified = |(v, inside): (&f64, &bool)| if *inside { v.max(0.0) } else { *v };
                    x.iter().zip(mask.inside()).map(rectified).collect()
                }
                Op::Blend { .. } => panic!("{} is of a search", node.name),
                Op::Add => x.iter().zip(&values[node.inputs[1]]).map(|(a, b)| a + b).collect(),
                Op::Subsample(how) => {
                    let at = |(k, y, col): (usize, usize, usize)| match inside(k, how.before, c) {
                        Some(k) => x[(k * h + y * how.stride) * w + col * how.stride],
                        None => 0.0,
                    };
                    positions.map(at).collect()
                }
                Op::AvgPool { kernel, stride } => {
                    let at = |(k, y, col): (usize, usize, usize)| {
                        let taps = (0..kernel * kernel)
                            .map(|t| (y * stride + t / kernel, col * stride + t % kernel));
                        taps.map(|(y, col)| x[(k * h + y) * w + col]).sum::<f64>() / (kernel * kernel) as f64
                    };
                    positions.map(at).collect()
                }
                Op::MaxPool { kernel, stride, pad } => {
                    let mut near = f64::INFINITY;
                    let y = positions
                        .map(|(k, y, col)| {
                            let taps = (0..kernel * kernel).filter_map(|t| {
                                let y = inside(y * stride + t / kernel, *pad, h)?;
                                let col = inside(col * stride + t % kernel, *pad, w)?;
                                Some(x[(k * h + y) * w + col])
                            });
                            let mut taps: Vec<f64> = taps.collect();
                            taps.sort_by(|a, b| b.total_cmp(a));
                            near = taps.get(1).map_or(near, |second| near.min(taps[0] - second));
                            taps[0]
                        })
                        .collect();
                    margin = margin.min(near);
                    y
                }
                Op::GlobalAvgPool => {
                    x.chunks_exact(h * w).map(|p| p.iter().sum::<f64>() / (h * w) as f64).collect()
                }
            };
            if let Some(by) = moves.get(&id).filter(|_| of == Of::Values) {
                let by = &by[image * y.len()..][..y.len()];
                y.iter_mut().zip(by).for_each(|(v, d)| *v += d);
            }
            values.push(y);
        }
        (values.pop().unwrap(), margin)
    }

    /// `a^T H b` by the mixed second difference.
    fn bend(&self, of: Of, a: &Moves, b: &Moves) -> f64 {
        let at = |s: f64, t: f64| {
            let mut moves: Moves =
                a.iter().map(|(&id, v)| (id, v.iter().map(|v| s * STEP * v).collect())).collect();
            for (&id, v) in b {
                let sum = moves.entry(id).or_insert_with(|| vec![0.0; v.len()]);
                sum.iter_mut().zip(v).for_each(|(m, v)| *m += t * STEP * v);
            }
            self.loss(of, &moves).0
        };
        (at(1.0, 1.0) - at(1.0, -1.0) - at(-1.0, 1.0) + at(-1.0, -1.0)) / (4.0 * STEP * STEP)
    }

    /// Exact traces of the mean loss, by the diagonal of the explicit Hessian.
    fn traces(&self) -> Vec<f64> {
        let layers = self
            .graph
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, n)| matches!(n.op, Op::Conv(_) | Op::Linear { .. }));
        let here = self.loss(Of::Weights, &Moves::new()).0;
        let trace = |(id, node): (NodeId, &Node)| {
            let n = self.weights[&format!("{}.weight", node.name)].len();
            let second = |i: usize| {
                let at = |s: f64| {
                    let mut by = vec![0.0; n];
                    by[i] = s;
                    self.loss(Of::Weights, &Moves::from([(id, by)])).0
                };
                (at(STEP) - 2.0 * here + at(-STEP)) / (STEP * STEP)
            };
            (0..n).map(second).sum::<f64>() / self.images.len() as f64
        };
        layers.map(trace).collect()
    }
}

/// Random parameters and images, far from every kink.
fn sample(graph: Graph, images: usize) -> (Checkpoint, Reference) {
    (0..1000).find_map(|seed| attempt(&graph, images, seed)).expect("a network without values near a kink")
}

fn attempt(graph: &Graph, images: usize, seed: u64) -> Option<(Checkpoint, Reference)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = Weights::default();
    for node in &graph.nodes {
        let (shape, bias) = match &node.op {
            Op::Conv(conv) => (
                conv.weight_shape().to_vec(),
                match &conv.bias {
                    Bias::None => None,
                    Bias::Channel => Some(vec![conv.out_channels]),
                    Bias::Position(map) => Some(vec![map.vectors(), conv.out_channels]),
                },
            ),
            Op::Linear { in_features, out_features } => {
                (vec![*out_features, *in_features], Some(vec![*out_features]))
            }
            _ => continue,
        };
        let mut fill = |shape: Vec<usize>, reach: f32| {
            let data = (0..shape.iter().product()).map(|_| rng.random_range(-reach..reach)).collect();
            Array::new(shape, data)
        };
        let fan_in: usize = shape[1..].iter().product();
        weights.insert(&format!("{}.weight", node.name), fill(shape, 2.0 / (fan_in as f32).sqrt()));
        if let Some(shape) = bias {
            weights.insert(&format!("{}.bias", node.name), fill(shape, 0.5));
        }
    }
    let [channels, side, _] = graph.input_shape();
    let images = Images {
        channels,
        side,
        pixels: (0..images * channels * side * side).map(|_| rng.random()).collect::<Vec<u8>>().into(),
        labels: (0..images).map(|_| rng.random_range(0..graph.outputs() as u16)).collect(),
    };
    let wide = |a: &Array| a.data.iter().map(|&v| f64::from(v)).collect();
    let reference = Reference {
        weights: weights.iter().map(|(name, a)| (name.to_owned(), wide(a))).collect(),
        graph: graph.clone(),
        images,
    };
    let checkpoint = Checkpoint {
        stage: Stage::Float,
        graph: graph.clone(),
        weights,
        quant: None,
        dataset: "noise".into(),
        classes: (0..graph.outputs()).map(|i| i.to_string()).collect(),
        pixels: PIXELS,
    };
    (reference.loss(Of::Weights, &Moves::new()).1 > MARGIN).then_some((checkpoint, reference))
}

fn direction(sizes: &BTreeMap<NodeId, usize>, rng: &mut ChaCha8Rng) -> Direction {
    let mut signs = |n: usize| (0..n).map(|_| if rng.random() { 1.0 } else { -1.0 }).collect();
    sizes.iter().map(|(&id, &n)| (id, signs(n))).collect()
}

#[test]
fn products_are_second_differences_of_the_loss() {
    let graph = convolutional();
    let masks = Ranking::even(&graph, true).unwrap().masks(0.5);
    for graph in [mask_rectifiers(&graph, &masks).unwrap(), graph] {
        products_are_second_differences(graph);
    }
}

fn products_are_second_differences(graph: Graph) {
    let (checkpoint, reference) = sample(graph, 3);
    let graph = &checkpoint.graph;
    let images = &reference.images;
    let inputs: Vec<f32> =
        (0..images.len()).flat_map(|i| images.image(i).unwrap().to_vec()).map(|p| PIXELS.real(p)).collect();
    let shapes = graph.shapes().unwrap();
    let rounded = requantised(graph);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for of in [Of::Weights, Of::Values] {
        let size = |id: NodeId| match of {
            Of::Weights => checkpoint.weights.of(&graph.nodes[id].name, "weight").map(|a| a.data.len()).ok(),
            Of::Values => rounded[id].then(|| images.len() * shapes[id].iter().product::<usize>()),
        };
        let sizes: BTreeMap<NodeId, usize> =
            (0..graph.nodes.len()).filter_map(|id| Some((id, size(id)?))).collect();
        assert!(sizes.len() >= 3);
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let v = direction(&sizes, &mut rng);
        let moves: Moves = v.iter().map(|(&id, v)| (id, wide(v))).collect();
        let shape = [images.len(), 1, 6, 6];
        let hv = product(
            &Device::flex(),
            graph,
            &checkpoint.weights,
            (inputs.clone(), shape),
            &images.labels,
            of,
            &v,
        )
        .unwrap();
        assert_eq!(hv.keys().collect::<Vec<_>>(), sizes.keys().collect::<Vec<_>>());
        let (mut error, mut norm) = (0.0, 0.0);
        for (&id, hv) in &hv {
            assert_eq!(hv.len(), sizes[&id]);
            for (i, &got) in hv.iter().enumerate() {
                let mut unit = vec![0.0; hv.len()];
                unit[i] = 1.0;
                let expected = reference.bend(of, &Moves::from([(id, unit)]), &moves);
                error += (f64::from(got) - expected).powi(2);
                norm += expected.powi(2);
            }
        }
        assert!(norm > 0.01, "{of:?}: {norm}");
        assert!(error.sqrt() < 1e-4 * norm.sqrt(), "{of:?}: {} of {}", error.sqrt(), norm.sqrt());
    }
}

#[test]
fn traces_are_those_of_the_explicit_hessian() {
    // All layers share each probe, so a layer that hardly bends sees the others as noise; the standard
    // error says so.
    for (graph, images, probes, share) in
        [(perceptron(), 4, 10_000, 0.05), (convolutional(), 3, 2000, f64::INFINITY)]
    {
        let (checkpoint, reference) = sample(graph, images);
        let exact = reference.traces();
        let config = TraceConfig { probes, tolerance: 0.0, ..TraceConfig::default() };
        let found = traces(&checkpoint, &reference.images, Of::Weights, &config, || ()).unwrap();
        assert_eq!((found.probes, found.layers.len()), (probes, exact.len()));
        for (layer, exact) in found.layers.iter().zip(exact) {
            let off = (layer.trace - exact).abs();
            assert!(off <= share * exact.abs(), "{layer:?} instead of {exact}");
            // One in twenty estimates may lie further off: seven layers, one seed.
            assert!(off <= 2.0 * layer.error, "{layer:?} instead of {exact}");
        }
    }
}

#[test]
fn an_estimate_repeats_itself_and_ends_early() {
    let (checkpoint, reference) = sample(convolutional(), 3);
    let run = |seed, tolerance| {
        let config = TraceConfig { probes: 40, tolerance, seed, ..TraceConfig::default() };
        traces(&checkpoint, &reference.images, Of::Values, &config, || ()).unwrap()
    };
    assert_eq!(run(1, 0.0), run(1, 0.0));
    assert_ne!(run(1, 0.0), run(2, 0.0));
    assert_eq!(run(1, 0.0).probes, 40);
    assert!(run(1, 0.2).probes < 40);
    let quantised = Checkpoint { stage: Stage::Quantised, ..checkpoint };
    let refused = traces(&quantised, &reference.images, Of::Weights, &TraceConfig::default(), || ());
    assert!(refused.unwrap_err().to_string().contains("before quantisation"));
}
