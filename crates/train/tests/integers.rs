//! The fake-quantised network and the integer executor say the same.

mod common;

use std::path::Path;

use burn::tensor::{Device, Tensor};
use common::{noise, random_network};
use copriv_model::execute;
use copriv_train::compare::{Cause, compare};
use copriv_train::data::{self, Images, PixelScale};
use copriv_train::net::{Arch, Array, BlockState, Graph, Mask, Network, Node, Op, Pass, Weights};
use copriv_train::quant::{QuantConfig, calibrate};
use copriv_train::rewrite::{Masks, drop_rectifiers, fold_graph, mask_rectifiers, merge_graph, mergeable};
use copriv_train::{
    Checkpoint, Dataset, Merge, Ranking, Recipe, Silent, Stage, TrainConfig, evaluate, integer_graph,
    integer_logits, integer_model, merge, structure, train, untrained,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn embedded() -> Dataset {
    data::load(data::EMBEDDED, Path::new("data")).unwrap()
}

/// A network whose norms and biases are not trivial, its blocks pruned where `keep` says so.
fn pruned(arch: &str, data: &Dataset, keep: impl Fn(usize) -> bool, seed: u64) -> Checkpoint {
    let checkpoint = random_network(arch, data, seed);
    let keep: Vec<bool> = (0..checkpoint.graph.blocks.len()).map(keep).collect();
    let graph = drop_rectifiers(&checkpoint.graph, &keep).unwrap();
    Checkpoint { stage: Stage::Pruned, graph, ..checkpoint }
}

fn quantise(start: &Checkpoint, how: &Merge, data: &Dataset, config: &QuantConfig) -> Checkpoint {
    let float = merge(start, how).unwrap();
    let images = data.train.sample(64);
    let spec = calibrate(&float.graph, &float.weights, &images, data.pixels, config).unwrap();
    Checkpoint { stage: Stage::Quantised, quant: Some(spec), ..float }
}

/// Share of equal predictions and of equal logits.
fn agreement(checkpoint: &Checkpoint, images: &Images, config: &QuantConfig) -> (f64, f64) {
    let model = integer_model(checkpoint, config).unwrap();
    let integers = integer_logits(&model, images).unwrap();
    let fake = evaluate(checkpoint, images).unwrap();
    let unit = 2f64.powi(model.graph.output_type().scale_log2);
    let same = integers.iter().zip(&fake.predictions).filter(|(z, p)| execute::argmax(z) == **p).count();
    let pairs: Vec<(i64, f32)> = integers.concat().into_iter().zip(fake.logits.concat()).collect();
    let equal = pairs.iter().filter(|(z, f)| *z as f64 * unit == f64::from(*f)).count();
    (same as f64 / images.len() as f64, equal as f64 / pairs.len() as f64)
}

#[test]
fn fake_quantised_and_integer_logits_are_equal_on_real_images() {
    let data = embedded();
    let images = data.validation.sample(200);
    for (how, seed) in [(Merge::None, 1), (Merge::All, 2), (Merge::Only(vec!["block2".into()]), 3)] {
        let start = pruned("mbv2-tiny", &data, |block| block % 2 == 0, seed);
        for bits in [("8", 8), ("4", 6), ("6", 4), ("ternary", 3)] {
            let config = QuantConfig {
                weight_bits: bits.0.parse().unwrap(),
                act_bits: bits.1,
                ..QuantConfig::default()
            };
            let quantised = quantise(&start, &how, &data, &config);
            let (predictions, logits) = agreement(&quantised, &images, &config);
            assert!(predictions >= 0.999, "{how:?} {bits:?}: {predictions}");
            // Accumulators of this network stay below 24 bits at these widths' real values.
            assert!(logits == 1.0, "{how:?} {bits:?}: {logits} of the logits are equal");
        }
    }
}

/// Sums that single precision cannot hold are the only reason for which values differ.
#[test]
fn every_difference_has_a_cause() {
    let data = embedded();
    let images = data.validation.sample(50);
    let start = pruned("mbv2-tiny", &data, |block| block % 2 == 0, 6);
    let compared = |config: &QuantConfig| {
        let float = merge(&start, &Merge::All).unwrap();
        let quantised = quantise(&start, &Merge::All, &data, config);
        let model = integer_model(&quantised, config).unwrap();
        compare(&float, &quantised, &model, &images).unwrap()
    };
    let narrow = compared(&QuantConfig::default());
    assert_eq!((narrow.first(), narrow.predictions(), narrow.within_one()), (None, 100.0, 100.0));
    assert!(narrow.layers.iter().all(|l| l.values > 0 && l.float_error > 0.0));
    let wide = compared(&QuantConfig { weight_bits: 8.into(), residual_bits: 16, ..QuantConfig::default() });
    let causes: Vec<Cause> = wide.layers.iter().filter_map(|l| l.cause).collect();
    assert_eq!(wide.first().and_then(|l| l.cause), Some(Cause::SinglePrecision));
    assert!(causes.iter().all(|c| matches!(c, Cause::SinglePrecision | Cause::Inherited)), "{causes:?}");
    assert!(wide.within_one() >= 99.99, "{}", wide.within_one());
}

/// Rectifiers at some positions or channels only, some whole and some gone.
#[test]
fn masked_rectifiers_are_exact_as_integers() {
    let data = embedded();
    let images = data.validation.sample(100);
    for pixels in [true, false] {
        let start = random_network("mbv2-tiny", &data, 31);
        let masks = Ranking::even(&start.graph, pixels).unwrap().masks(0.3);
        let mut masks: Masks = masks.into_iter().collect();
        masks.insert("block2.expand.relu".into(), Mask::new(vec![false; 96 * 64]));
        masks.insert("block2.depthwise.relu".into(), Mask::new(vec![false; 96 * 64]));
        masks.insert("head.relu".into(), Mask::new(vec![true; 96 * 16]));
        let graph = mask_rectifiers(&start.graph, &masks).unwrap();
        let kept: usize = masks.values().map(|m| m.count(true)).sum();
        assert_eq!(graph.relu_count().unwrap(), kept);
        assert_eq!(graph.blocks[1].state, BlockState::Linear);
        let start = Checkpoint { stage: Stage::Pruned, graph, ..start };
        let config = QuantConfig::default();
        let quantised = quantise(&start, &Merge::All, &data, &config);
        assert_eq!(agreement(&quantised, &images, &config), (1.0, 1.0));
        let model = integer_model(&quantised, &config).unwrap();
        let partial =
            model.graph.nodes.iter().filter(|n| matches!(n.op, copriv_model::Op::PartialRelu { .. }));
        assert!(partial.count() > 8);
    }
}

#[test]
fn random_pixels_and_tight_accumulators_change_nothing() {
    let data = embedded();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut images = data.validation.sample(100);
    images.pixels = (0..images.len() * images.image_len()).map(|_| rng.random()).collect::<Vec<u8>>().into();
    let start = pruned("mbv2-tiny", &data, |block| block > 3, 5);
    let config = QuantConfig { tight_accumulators: true, ..QuantConfig::default() };
    let quantised = quantise(&start, &Merge::All, &data, &config);
    assert_eq!(agreement(&quantised, &images, &config), (1.0, 1.0));
    let bits = |config: &QuantConfig| {
        let graph = integer_model(&quantised, config).unwrap().graph;
        graph.nodes.iter().filter_map(|n| n.op.linear()).map(|l| l.acc_bits).sum::<u32>()
    };
    assert!(bits(&config) < bits(&QuantConfig::default()), "tight accumulators are narrower");
}

/// Every kind of network, with both stems: what the trainer computes is what the executor does.
#[test]
fn every_architecture_is_exact_on_colour_images() {
    for (arch, side) in
        [("mbv2-w0.1", 32), ("mbv2-w0.1", 72), ("resnet20", 16), ("resnet20a", 16), ("minionn", 8)]
    {
        let data = noise(side, 4, 7);
        let start = pruned(arch, &data, |block| block % 3 == 0, 8);
        let config = QuantConfig { act_bits: 8, ..QuantConfig::default() };
        let quantised = quantise(&start, &Merge::All, &data, &config);
        let (predictions, _) = agreement(&quantised, &data.test, &config);
        assert_eq!(predictions, 1.0, "{arch} {side}");
    }
}

/// The large ones: what they will be as integers, with the blocks freed that can be merged.
#[test]
fn large_networks_lower_too() {
    for (arch, side, merged) in [("resnet18", 224, 0), ("resnet50", 224, 16), ("mbv2-w1", 224, 17)] {
        let graph = Arch::parse(arch).unwrap().build([3, side, side], 1000).unwrap();
        let mergeable = mergeable(&graph).unwrap();
        assert_eq!(mergeable.iter().filter(|m| **m).count(), merged, "{arch}");
        let free = drop_rectifiers(&fold_graph(&graph), &vec![false; graph.blocks.len()]).unwrap();
        let free = merge_graph(&free, &mergeable).unwrap();
        for graph in [&graph, &free] {
            let classes: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
            let pixels = PixelScale { offset: 128, scale_log2: -6 };
            let integers = structure(graph, &classes, pixels, &QuantConfig::default()).unwrap();
            assert_eq!(integers.output_type().shape, [1000, 1, 1]);
        }
    }
}

/// MobileNetV2 at 32x32 without a rectifier in its blocks: one convolution a block says the same of every
/// test image.
#[test]
fn seventeen_merged_blocks_predict_what_the_unmerged_ones_do() {
    let data = embedded();
    let start = pruned("mbv2-w0.25", &data, |_| false, 11);
    let merged = merge(&start, &Merge::All).unwrap();
    assert_eq!(merged.graph.blocks.iter().filter(|b| b.state == BlockState::Merged).count(), 17);
    assert_eq!(data.test.len(), 1000);
    let [before, after] = [&start, &merged].map(|c| evaluate(c, &data.test).unwrap());
    let largest = |z: &[f32]| z.iter().fold(0f32, |m, v| m.max(v.abs()));
    for (before, after) in before.logits.iter().zip(&after.logits) {
        let differences: Vec<f32> = before.iter().zip(after).map(|(b, a)| b - a).collect();
        let worst = largest(&differences) / largest(before);
        assert!(worst <= 1e-3, "logits up to {} differ by {worst} of that", largest(before));
    }
    assert_eq!(before.predictions, after.predictions);
    let spread = before.predictions.iter().collect::<std::collections::HashSet<_>>().len();
    assert!(spread > 1, "all images look alike to the network");
}

/// A step through every operator: the gradient arrives at the first layer and is finite.
#[test]
fn every_operator_passes_gradients() {
    for (arch, side) in [("resnet20a", 16), ("minionn", 8), ("mbv2-w0.1", 66)] {
        let data = noise(side, 4, 3);
        let start = untrained(arch, &data, 1).unwrap();
        let recipe = Recipe { epochs: 1, batch: 4, warmup: 0.0, weight_decay: 0.0, ..Recipe::default() };
        let config = TrainConfig { arch: arch.to_owned(), recipe, seed: 1, ..TrainConfig::default() };
        let trained = train(&config, &data, &mut Silent).unwrap();
        assert!(trained.weights.is_finite(), "{arch}");
        let first = start.graph.nodes.iter().find(|n| matches!(n.op, Op::Conv(_))).unwrap();
        let weight = |c: &Checkpoint| c.weights.of(&first.name, "weight").unwrap().clone();
        assert_ne!(weight(&start), weight(&trained), "{arch}");
    }
}

/// The padded maximum and its gradient, by hand.
#[test]
fn a_padded_maximum_ignores_its_padding() {
    let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
    let graph = Graph {
        arch: "pool".into(),
        nodes: vec![
            node("input", Op::Input { shape: [1, 3, 3] }, vec![]),
            node("pool", Op::MaxPool { kernel: 3, stride: 2, pad: 1 }, vec![0]),
            node("classifier", Op::Linear { in_features: 4, out_features: 1 }, vec![1]),
        ],
        blocks: vec![],
    };
    let mut weights = Weights::default();
    weights.insert("classifier.weight", Array::new([1, 4], vec![1.0, 10.0, 100.0, 1000.0]));
    weights.insert("classifier.bias", Array::new([1], vec![0.0]));
    let device = Device::flex().autodiff();
    let network = Network::new(&graph, &weights, &device).unwrap();
    let image = [[-1.0f32, -2.0, -3.0], [-4.0, -5.0, -6.0], [-7.0, -8.0, -9.0]];
    let x = Tensor::<4>::from_floats([[image]], &device).require_grad();
    let y = network.forward(x.clone(), &mut Pass::default());
    assert_eq!(y.clone().into_scalar::<f32>(), -1.0 - 20.0 - 400.0 - 5000.0);
    let gradients = y.sum().backward();
    let gradient = x.grad(&gradients).unwrap().into_data().try_into_vec::<f32>().unwrap();
    assert_eq!(gradient, [1.0, 10.0, 0.0, 100.0, 1000.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn the_structure_is_known_before_training() {
    let data = embedded();
    let config = QuantConfig::default();
    for how in [Merge::None, Merge::All] {
        let start = pruned("mbv2-tiny", &data, |block| block % 2 == 1, 9);
        let float = merge(&start, &how).unwrap();
        let planned = integer_graph(&float, &config).unwrap();
        let real = integer_model(&quantise(&start, &how, &data, &config), &config).unwrap().graph;
        let outline = |graph: &copriv_model::Graph| -> Vec<_> {
            graph
                .nodes
                .iter()
                .map(|n| {
                    (n.name.clone(), n.output.shape, n.op.linear().map(|l| l.weight_bits), n.inputs.clone())
                })
                .collect()
        };
        assert_eq!(outline(&planned), outline(&real));
        for (p, r) in planned.nodes.iter().zip(&real.nodes) {
            if let (Some(planned), Some(real)) = (p.op.linear(), r.op.linear()) {
                assert!(planned.acc_bits.abs_diff(real.acc_bits) <= 2, "{}: {planned:?} {real:?}", p.name);
            }
        }
    }
}
