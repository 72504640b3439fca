//! The loop learns, repeats itself exactly, and refuses what it cannot do.

mod common;

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use copriv_train::data::{self, Augment, Dataset, gather};
use copriv_train::net::{Array, BlockState, Gates, Graph, Network, Node, Op, Pass, Weights};
use copriv_train::rewrite::fold_norms;
use copriv_train::{
    Checkpoint, Distill, ExportConfig, PruneConfig, Recipe, Silent, TrainConfig, TrainError, evaluate,
    export, prune, train, untrained,
};

fn embedded() -> Dataset {
    data::load(data::EMBEDDED, Path::new("data")).unwrap()
}

/// The embedded set with fewer images.
fn small(train: usize) -> Dataset {
    let data = embedded();
    Dataset {
        train: data.train.sample(train),
        validation: data.validation.sample(100),
        test: data.test.sample(100),
        ..data
    }
}

fn short(epochs: usize) -> Recipe {
    Recipe { epochs, ..Recipe::default() }
}

#[test]
fn a_run_repeats_itself_bit_for_bit_and_another_seed_does_not() {
    let data = small(256);
    let config = |seed| TrainConfig { recipe: short(1), seed, ..TrainConfig::default() };
    let first = train(&config(1), &data, &mut Silent).unwrap();
    assert_eq!(train(&config(1), &data, &mut Silent).unwrap(), first);
    assert_ne!(train(&config(2), &data, &mut Silent).unwrap().weights, first.weights);
}

#[test]
fn every_stage_runs_and_leaves_a_network_that_beats_chance() {
    let data = small(1500);
    let float =
        train(&TrainConfig { recipe: short(4), ..TrainConfig::default() }, &data, &mut Silent).unwrap();
    let accuracy = evaluate(&float, &data.test).unwrap().accuracy;
    assert!(accuracy > 40.0, "{accuracy} % after 4 epochs of 1,500 images");

    let blocks = float.graph.blocks.len();
    let config = PruneConfig {
        search: Recipe { rate: 0.02, ..short(1) },
        finetune: short(2),
        ..PruneConfig::default()
    };
    let pruned = prune(&config, &float, &data, vec![1.0; blocks].as_slice().into(), &mut Silent).unwrap();
    let kept = pruned.blocks.iter().filter(|b| b.keep).count();
    assert_eq!(kept, blocks.div_ceil(2));
    assert_eq!(pruned.checkpoint.kept_blocks(), pruned.blocks.iter().map(|b| b.keep).collect::<Vec<_>>());
    assert!(pruned.checkpoint.graph.relu_count().unwrap() < float.graph.relu_count().unwrap());

    let config = ExportConfig { qat: Recipe { rate: 0.01, ..short(1) }, ..ExportConfig::default() };
    let exported = export(&config, &pruned.checkpoint, &data, &mut Silent).unwrap();
    let merged = exported.checkpoint.graph.blocks.iter().filter(|b| b.state == BlockState::Merged).count();
    assert_eq!(merged, blocks - kept);
    assert_eq!(exported.fake_quant_accuracy, exported.integer_accuracy);
    assert!(exported.integer_accuracy > 40.0, "{}", exported.integer_accuracy);

    // Training that destroys the network is not kept: the calibrated start validates better.
    let with = |qat| ExportConfig { qat, ..ExportConfig::default() };
    let calibrated = export(&with(short(0)), &pruned.checkpoint, &data, &mut Silent).unwrap();
    let destroyed = Recipe { rate: 1e3, ..short(1) };
    let exported = export(&with(destroyed), &pruned.checkpoint, &data, &mut Silent).unwrap();
    assert_eq!(exported.checkpoint, calibrated.checkpoint);
}

#[test]
fn impossible_requests_are_one_clear_error() {
    let data = small(64);
    let message = |error: TrainError| error.to_string();
    let with = |recipe: Recipe| TrainConfig { recipe, ..TrainConfig::default() };
    let error = train(&with(Recipe { batch: 0, ..short(1) }), &data, &mut Silent).map(drop).unwrap_err();
    assert!(message(error).contains("batch"));
    let error =
        train(&with(Recipe { rate: f64::NAN, ..short(1) }), &data, &mut Silent).map(drop).unwrap_err();
    assert!(message(error).contains("learning rate"));
    let error = train(&with(Recipe { rate: 1e38, ..short(1) }), &data, &mut Silent).map(drop).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");

    let float = untrained("mbv2-tiny", &data, 0).unwrap();
    let blocks = float.graph.blocks.len();
    let error = prune(&PruneConfig::default(), &float, &data, [1.0].as_slice().into(), &mut Silent)
        .map(drop)
        .unwrap_err();
    assert!(message(error).contains(&format!("{blocks} blocks")));
    let exported =
        export(&ExportConfig { qat: short(0), ..ExportConfig::default() }, &float, &data, &mut Silent)
            .unwrap();
    let error = prune(
        &PruneConfig::default(),
        &exported.checkpoint,
        &data,
        vec![1.0; blocks].as_slice().into(),
        &mut Silent,
    )
    .map(drop)
    .unwrap_err();
    assert!(message(error).contains("quantised"));
    let mut coloured = data.clone();
    coloured.test.channels = 3;
    let error = evaluate(&float, &coloured.test).unwrap_err();
    assert!(message(error).contains("[1, 32, 32]"));
}

/// `gate(x) = open ? max(x, 0) : x` forward; backward `alpha max(x, 0) + (1 - alpha) x`.
#[test]
fn a_gate_is_hard_forward_and_soft_backward() {
    let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
    let graph = Graph {
        arch: "gate".into(),
        nodes: vec![
            node("input", Op::Input { shape: [3, 1, 1] }, vec![]),
            node("relu", Op::Relu { gate: Some(1) }, vec![0]),
            node("classifier", Op::Linear { in_features: 3, out_features: 1 }, vec![1]),
        ],
        blocks: vec![],
    };
    let mut weights = Weights::default();
    weights.insert("classifier.weight", Array::new([1, 3], vec![1.0, 10.0, 100.0]));
    weights.insert("classifier.bias", Array::new([1], vec![0.0]));
    let device = Device::flex().autodiff();
    let network = Network::new(&graph, &weights, &device).unwrap();
    for (open, expected) in [(true, 50.0), (false, 50.0 - 20.0 - 3.0)] {
        let x = Tensor::<4>::from_floats([[[[-3.0f32]], [[-2.0]], [[0.5]]]], &device).require_grad();
        let alpha = Tensor::<1>::from_floats([0.9f32, 0.25], &device).require_grad();
        let gates = Gates { alpha: alpha.clone(), open: vec![true, open] };
        let y = network.forward(x.clone(), &mut Pass { gates: Some(&gates), ..Pass::default() });
        assert_eq!(y.clone().into_scalar::<f32>(), expected);
        let gradients = y.sum().backward();
        let of = |g: Option<Tensor<1>>| g.unwrap().into_data().try_into_vec::<f32>().unwrap();
        assert_eq!(of(x.grad(&gradients).map(|g| g.flatten(0, 3))), [0.75, 7.5, 100.0]);
        // sum_j w_j (max(x_j, 0) - x_j) = 3 + 20
        assert_eq!(of(alpha.grad(&gradients)), [0.0, 23.0]);
    }
}

#[test]
fn relu6_cuts_off_at_six_and_has_no_integer_form() {
    let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
    let graph = Graph {
        arch: "six".into(),
        nodes: vec![
            node("input", Op::Input { shape: [3, 1, 1] }, vec![]),
            node("relu", Op::Relu6, vec![0]),
            node("classifier", Op::Linear { in_features: 3, out_features: 1 }, vec![1]),
        ],
        blocks: vec![],
    };
    let mut weights = Weights::default();
    weights.insert("classifier.weight", Array::new([1, 3], vec![1.0, 10.0, 100.0]));
    weights.insert("classifier.bias", Array::new([1], vec![0.0]));
    let network = Network::new(&graph, &weights, &Device::flex()).unwrap();
    let x = Tensor::<4>::from_floats([[[[-3.0f32]], [[2.0]], [[9.0]]]], &Device::flex());
    assert_eq!(network.forward(x, &mut Pass::default()).into_scalar::<f32>(), 620.0);

    // One operator with the norm in front of it, or two if someone looks in between.
    let data = common::noise(32, 8, 3);
    let original = common::random_network("mbv2-w0.1-relu6", &data, 4);
    let network = |device: &Device| Network::new(&original.graph, &original.weights, device).unwrap();
    let batch = gather(&data.train, &[0, 1, 2, 3, 4, 5, 6, 7], data.pixels, Augment::NONE, 0).unwrap();
    let device = Device::flex().autodiff();
    let x = Tensor::<4>::from_data(TensorData::new(batch.inputs, batch.shape), &device) * 8.0;
    let fused = network(&device).forward(x.clone(), &mut Pass::default());
    let mut largest = 0f32;
    let mut tap = |_, y: &Tensor<4>| {
        if y.dims()[2] > 1 {
            largest = largest.max(y.clone().max().into_scalar::<f32>());
        }
    };
    let apart = network(&device).forward(x, &mut Pass { tap: Some(&mut tap), ..Pass::default() });
    let difference = (fused - apart).abs().max().into_scalar::<f32>();
    assert!(difference < 1e-4, "{difference}");
    assert!(largest > 6.0, "some norm's output, {largest} at most, is cut off");

    let error = export(&ExportConfig::default(), &original, &data, &mut Silent).map(drop).unwrap_err();
    assert!(error.to_string().contains("--weights FILE"), "{error}");
    assert!(copriv_train::fixed_point(&original.graph, 41, 12).is_err());
}

/// What the classifier sees of some images.
fn features(checkpoint: &Checkpoint, data: &Dataset) -> Vec<f32> {
    let (graph, weights) = fold_norms(&checkpoint.graph, &checkpoint.weights).unwrap();
    let indices: Vec<usize> = (0..50).collect();
    let batch = gather(&data.test, &indices, data.pixels, Augment::NONE, 0).unwrap();
    let device = Device::flex();
    let x = Tensor::<4>::from_data(TensorData::new(batch.inputs, batch.shape), &device);
    let mut pass = Pass::default();
    Network::new(&graph, &weights, &device).unwrap().forward(x, &mut pass);
    pass.features.unwrap().into_data().try_into_vec().unwrap()
}

#[test]
fn a_student_that_listens_to_features_comes_nearer_to_them() {
    let data = small(256);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("teacher.safetensors");
    let teacher =
        train(&TrainConfig { recipe: short(2), seed: 7, ..TrainConfig::default() }, &data, &mut Silent)
            .unwrap();
    teacher.save(&path).unwrap();
    let student = |arch: &str, weight: f64| {
        let config = TrainConfig {
            arch: arch.to_owned(),
            recipe: short(2),
            teacher: Some(path.clone()),
            distill: Distill { features: weight, ..Distill::default() },
            ..TrainConfig::default()
        };
        train(&config, &data, &mut Silent)
    };
    let wanted = features(&teacher, &data);
    let distance = |weight: f64| {
        let seen = features(&student("mbv2-tiny", weight).unwrap(), &data);
        seen.iter().zip(&wanted).map(|(a, b)| (a - b).powi(2)).sum::<f32>()
    };
    let (without, with) = (distance(0.0), distance(20.0));
    assert!(with < 0.8 * without, "{with} with, {without} without");
    let error = student("resnet20", 1.0).unwrap_err().to_string();
    assert!(error.contains("96 features, not 64"), "{error}");
}
