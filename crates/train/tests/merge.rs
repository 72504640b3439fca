//! A merged block computes what the block computed, at every pixel.

use burn::tensor::{Device, Tensor, TensorData};
use copriv_train::net::{
    Array, Bias, Block, BlockState, Conv, Graph, Network, Node, Op, Pass, Subsample, Weights,
};
use copriv_train::rewrite::{
    drop_rectifiers, fold_norms, merge_blocks, merge_graph, move_padding, rectify_behind,
    spare_outer_rectifiers,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Clone, Copy, Debug)]
struct Shape {
    inputs: usize,
    expansion: usize,
    outputs: usize,
    height: usize,
    width: usize,
    kernel: usize,
    stride: usize,
}

impl Shape {
    fn has_skip(&self) -> bool {
        self.stride == 1 && self.inputs == self.outputs
    }
}

fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize, groups: usize) -> Op {
    Op::Conv(Conv {
        in_channels: inputs,
        out_channels: outputs,
        kernel,
        stride,
        pad: kernel / 2,
        groups,
        norm: false,
        bias: Bias::Channel,
    })
}

/// A network of one inverted residual block, with rectifiers.
fn network(shape: Shape) -> Graph {
    let Shape { inputs, expansion, outputs, height, width, kernel, stride } = shape;
    let hidden = inputs * expansion;
    let mut nodes =
        vec![Node { name: "input".into(), op: Op::Input { shape: [inputs, height, width] }, inputs: vec![] }];
    let mut push = |name: &str, op: Op, inputs: Vec<usize>| {
        nodes.push(Node { name: name.into(), op, inputs });
        nodes.len() - 1
    };
    let mut block =
        Block { name: "block".into(), convs: vec![], relus: vec![], add: None, state: BlockState::Kept };
    let mut top = 0;
    if expansion > 1 {
        top = push("expand", conv(inputs, hidden, 1, 1, 1), vec![top]);
        top = push("expand.relu", Op::Relu { gate: Some(0) }, vec![top]);
        block.convs.push("expand".into());
        block.relus.push("expand.relu".into());
    }
    top = push("depthwise", conv(hidden, hidden, kernel, stride, hidden), vec![top]);
    top = push("depthwise.relu", Op::Relu { gate: Some(0) }, vec![top]);
    top = push("project", conv(hidden, outputs, 1, 1, 1), vec![top]);
    block.convs.extend(["depthwise".into(), "project".into()]);
    block.relus.push("depthwise.relu".into());
    if shape.has_skip() {
        top = push("add", Op::Add, vec![top, 0]);
        block.add = Some("add".into());
    }
    top = push("pool", Op::GlobalAvgPool, vec![top]);
    push("classifier", Op::Linear { in_features: outputs, out_features: 2 }, vec![top]);
    Graph { arch: "one block".into(), nodes, blocks: vec![block] }
}

/// Weights, biases included, of deviation about 1 after each layer.
fn random_weights(graph: &Graph, seed: u64) -> Weights {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = Weights::init(graph, seed);
    let names: Vec<String> = weights.iter().map(|(name, _)| name.to_owned()).collect();
    for name in names {
        let shape = weights.get(&name).unwrap().shape.clone();
        let fan_in: usize = if name.ends_with("weight") { shape[1..].iter().product() } else { 1 };
        let reach = (3.0 / fan_in as f32).sqrt();
        let data = (0..shape.iter().product::<usize>()).map(|_| rng.random_range(-reach..reach)).collect();
        weights.insert(&name, Array::new(shape, data));
    }
    weights
}

fn random_images(shape: [usize; 4], seed: u64) -> Tensor<4> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data: Vec<f32> = (0..shape.iter().product::<usize>()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(data, shape), &Device::flex())
}

/// The value of node `name` for `images`.
fn value(graph: &Graph, weights: &Weights, images: &Tensor<4>, name: &str) -> Vec<f32> {
    let id = graph.find(name).unwrap();
    let network = Network::new(graph, weights, &Device::flex()).unwrap();
    let mut seen = Vec::new();
    let mut tap = |at: usize, value: &Tensor<4>| {
        if at == id {
            seen = value.clone().into_data().try_into_vec::<f32>().unwrap();
        }
    };
    network.forward(images.clone(), &mut Pass { tap: Some(&mut tap), ..Pass::default() });
    seen
}

fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    let worst = got.iter().zip(expected).map(|(g, e)| (g - e).abs() / e.abs().max(1.0)).fold(0f32, f32::max);
    assert!(worst <= tolerance, "differs by {worst}");
}

fn shapes() -> impl Strategy<Value = Shape> {
    (
        1..5usize,
        1..5usize,
        1..5usize,
        3..9usize,
        3..9usize,
        prop_oneof![Just(3usize), Just(5)],
        1..3usize,
        any::<bool>(),
    )
        .prop_map(|(inputs, expansion, other, height, width, kernel, stride, same)| Shape {
            inputs,
            expansion,
            outputs: if same { inputs } else { other },
            height,
            width,
            kernel,
            stride,
        })
}

proptest! {
    #![proptest_config(Config { cases: 200, rng_seed: RngSeed::Fixed(2026), failure_persistence: None, ..Config::default() })]

    #[test]
    fn merged_equals_unmerged_at_every_pixel(shape in shapes(), seed in any::<u64>()) {
        let graph = drop_rectifiers(&network(shape), &[false]).unwrap();
        let weights = random_weights(&graph, seed);
        let (merged, merged_weights) = merge_blocks(&graph, &weights, &[true]).unwrap();
        prop_assert_eq!(&merge_graph(&graph, &[true]).unwrap(), &merged);
        prop_assert_eq!(&merged.blocks[0].state, &BlockState::Merged);
        let images = random_images([2, shape.inputs, shape.height, shape.width], seed ^ 1);
        let before = value(&graph, &weights, &images, if shape.has_skip() { "add" } else { "project" });
        let after = value(&merged, &merged_weights, &images, "block.merged");
        assert_close(&after, &before, 1e-4);
    }
}

/// A ResNet block without its inner rectifier, its shortcut the input, pixels of it, or a 1x1 convolution.
fn residual(stride: usize, inputs: usize, outputs: usize, side: usize, shortcut: usize) -> Graph {
    let mut block =
        Block { name: "block".into(), convs: vec![], relus: vec![], add: None, state: BlockState::Linear };
    block.convs = vec!["conv1".into(), "conv2".into()];
    block.add = Some("add".into());
    let pointwise = Op::Conv(Conv {
        in_channels: inputs,
        out_channels: outputs,
        kernel: 1,
        stride,
        pad: 0,
        groups: 1,
        norm: false,
        bias: Bias::Channel,
    });
    let node = |name: &str, op: Op, inputs: Vec<usize>| Node { name: name.into(), op, inputs };
    let mut nodes = vec![
        node("input", Op::Input { shape: [inputs, side, side] }, vec![]),
        node("conv1", conv(inputs, outputs, 3, stride, 1), vec![0]),
        node("conv2", conv(outputs, outputs, 3, 1, 1), vec![1]),
    ];
    let shortcut = match shortcut {
        0 => 0,
        1 => {
            let how =
                Subsample { stride, before: (outputs - inputs) / 2, after: (outputs - inputs).div_ceil(2) };
            nodes.push(node("shortcut", Op::Subsample(how), vec![0]));
            3
        }
        _ => {
            nodes.push(node("shortcut", pointwise, vec![0]));
            3
        }
    };
    let add = nodes.len();
    nodes.push(node("add", Op::Add, vec![2, shortcut]));
    nodes.push(node("pool", Op::GlobalAvgPool, vec![add]));
    nodes.push(node("classifier", Op::Linear { in_features: outputs, out_features: 2 }, vec![add + 1]));
    Graph { arch: "one block".into(), nodes, blocks: vec![block] }
}

/// Two padded 3x3 convolutions are one 5x5, or 7x7 behind a stride, once their padding is the first one's.
#[test]
fn two_padded_convolutions_with_any_shortcut_merge_once_their_padding_is_moved() {
    for (stride, inputs, outputs, side, shortcut) in
        [(1, 3, 3, 6, 0), (1, 3, 4, 5, 2), (2, 2, 4, 8, 1), (2, 2, 3, 8, 2), (1, 2, 5, 4, 1), (2, 3, 3, 5, 2)]
    {
        let graph = residual(stride, inputs, outputs, side, shortcut);
        let refused = merge_graph(&graph, &[true]).unwrap_err().to_string();
        assert!(refused.contains("merged exactly"), "{refused}");
        let moved = move_padding(&graph, &[true]).unwrap();
        let weights = random_weights(&moved, 17);
        let (merged, merged_weights) = merge_blocks(&moved, &weights, &[true]).unwrap();
        assert_eq!(merged.nodes.len(), 4, "the shortcut is part of it");
        assert_eq!(merge_graph(&moved, &[true]).unwrap(), merged);
        let images = random_images([2, inputs, side, side], 18);
        let before = value(&moved, &weights, &images, "add");
        assert_close(&value(&merged, &merged_weights, &images, "block.merged"), &before, 1e-4);
        // Another network than the one whose second convolution is padded, but at the border only.
        let other = value(&graph, &weights, &images, "add");
        let out = side.div_ceil(stride);
        let inner = |p: usize| (1..out - 1).contains(&(p / out % out)) && (1..out - 1).contains(&(p % out));
        for (p, (a, b)) in other.iter().zip(&before).enumerate() {
            assert!((a - b).abs() < 1e-4 || !inner(p), "{p}: {a} {b}");
        }
        assert!(other.iter().zip(&before).any(|(a, b)| (a - b).abs() > 1e-3), "the border differs");
    }
}

/// One rectifier behind a freed block: a ResNet's own stays, a bottleneck gets one, and what was
/// merged before it is merged with it.
#[test]
fn a_freed_block_may_have_a_rectifier_behind_it() {
    let shape = Shape { inputs: 3, expansion: 2, outputs: 3, height: 5, width: 5, kernel: 3, stride: 1 };
    let behind = drop_rectifiers(&rectify_behind(&network(shape), &[true]).unwrap(), &[false]).unwrap();
    let weights = random_weights(&behind, 21);
    let (merged, merged_weights) = merge_blocks(&behind, &weights, &[true]).unwrap();
    let names: Vec<&str> = merged.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["input", "block.merged", "block.relu", "pool", "classifier"]);
    let images = random_images([2, 3, 5, 5], 22);
    let after = value(&merged, &merged_weights, &images, "block.relu");
    assert!(after.iter().all(|v| *v >= 0.0));
    assert_close(&after, &value(&behind, &weights, &images, "block.relu"), 1e-4);

    let resnet = copriv_train::Arch::parse("resnet20").unwrap().build([3, 16, 16], 4).unwrap();
    let spared = spare_outer_rectifiers(&resnet).unwrap();
    let none = drop_rectifiers(&spared, &[false; 9]).unwrap();
    let outer = none.nodes.iter().filter(|n| matches!(n.op, Op::Relu { gate: None })).count();
    assert_eq!(outer, 1 + 9, "the stem's and one a block: {:?}", none.nodes);
}

#[test]
fn a_3x3_merge_at_stride_one_has_nine_bias_vectors_and_a_bias_map_that_matters() {
    let shape = Shape { inputs: 4, expansion: 3, outputs: 4, height: 8, width: 8, kernel: 3, stride: 1 };
    let graph = drop_rectifiers(&network(shape), &[false]).unwrap();
    let weights = random_weights(&graph, 5);
    let (merged, mut merged_weights) = merge_blocks(&graph, &weights, &[true]).unwrap();
    let Op::Conv(Conv { bias: Bias::Position(map), .. }) = &merged.nodes[1].op else {
        panic!("no position dependent bias: {:?}", merged.nodes[1].op);
    };
    assert_eq!(map.vectors(), 9);
    // With the middle's vector everywhere the border is wrong: a scalar bias will not do.
    let name = "block.merged.bias";
    let table = merged_weights.get(name).unwrap().clone();
    let middle = table.data[map.indices()[3 * 8 + 3] * 4..][..4].to_vec();
    merged_weights.insert(name, Array::new([9, 4], middle.repeat(9)));
    let images = random_images([1, 4, 8, 8], 6);
    let wrong = value(&merged, &merged_weights, &images, "block.merged");
    let right = value(&graph, &weights, &images, "add");
    let worst = wrong.iter().zip(&right).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(worst > 0.1, "the border differs by {worst} only");
}

#[test]
fn blocks_with_rectifiers_are_not_merged_and_unfolded_norms_are_refused() {
    let shape = Shape { inputs: 2, expansion: 2, outputs: 2, height: 4, width: 4, kernel: 3, stride: 1 };
    let kept = network(shape);
    assert_eq!(merge_graph(&kept, &[true]).unwrap(), kept);
    let mut normed = drop_rectifiers(&kept, &[false]).unwrap();
    for node in &mut normed.nodes {
        if let Op::Conv(conv) = &mut node.op {
            conv.norm = true;
        }
    }
    let refused = merge_graph(&normed, &[true]).unwrap_err().to_string();
    assert!(refused.contains("expand") && refused.contains("folded"), "{refused}");
}

#[test]
fn folding_keeps_the_function_that_the_statistics_describe() {
    let shape = Shape { inputs: 3, expansion: 4, outputs: 3, height: 7, width: 6, kernel: 3, stride: 1 };
    let mut graph = network(shape);
    for node in &mut graph.nodes {
        if let Op::Conv(conv) = &mut node.op {
            conv.norm = true;
        }
    }
    let mut weights = random_weights(&graph, 8);
    for layer in ["expand", "depthwise", "project"] {
        let hidden = weights.of(layer, "var").unwrap().data.len();
        weights.insert(&format!("{layer}.var"), Array::full([hidden], 1.0));
    }
    // The norms of a network in training take the batch's own statistics; once these are the
    // running ones, folding must reproduce the same values on that batch.
    let images = random_images([5, 3, 7, 6], 9);
    let network = Network::new(&graph, &weights, &Device::flex()).unwrap();
    let mut pass = Pass::default();
    network.forward(images.clone(), &mut pass);
    for (layer, statistics) in ["expand", "depthwise", "project"].into_iter().zip(&pass.statistics) {
        for (part, tensor) in ["mean", "var"].into_iter().zip(statistics) {
            let data = tensor.clone().into_data().try_into_vec::<f32>().unwrap();
            weights.insert(&format!("{layer}.{part}"), Array::new([data.len()], data));
        }
    }
    let (folded, folded_weights) = fold_norms(&graph, &weights).unwrap();
    let before = value(&graph, &weights, &images, "add");
    assert_close(&value(&folded, &folded_weights, &images, "add"), &before, 1e-4);
}
