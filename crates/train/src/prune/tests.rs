//! The searches find what a problem was made for.

use super::*;
use crate::data::{Augment, Images, PixelScale};
use crate::fit::Silent;
use crate::net::{Array, Bias, BlockState, Conv, Node, Op, Weights};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SIDE: usize = 4;

/// Pixels of one size, half of them of each sign: their sum is zero, so only the mean of the
/// *rectified* ones tells the classes, small and large, apart.
fn images(n: usize, rng: &mut ChaCha8Rng) -> Images {
    let mut pixels = Vec::with_capacity(n * SIDE * SIDE);
    for i in 0..n {
        let size: i32 = if i % 2 == 0 { 16 } else { 96 };
        let mut image: Vec<u8> =
            (0..SIDE * SIDE).map(|p| (if p % 2 == 0 { 128 + size } else { 128 - size }) as u8).collect();
        image.shuffle(rng);
        pixels.extend(image);
    }
    Images { channels: 1, side: SIDE, pixels: pixels.into(), labels: (0..n).map(|i| (i % 2) as _).collect() }
}

fn conv(inputs: usize, outputs: usize) -> Op {
    Op::Conv(Conv {
        in_channels: inputs,
        out_channels: outputs,
        kernel: 1,
        stride: 1,
        pad: 0,
        groups: 1,
        norm: false,
        bias: Bias::Channel,
    })
}

/// `|x|`, whose block is vital, then the mean, then a block whose rectifiers see positive values only.
fn network(seed: u64) -> Checkpoint {
    let node = |name: &str, op, inputs: &[usize]| Node { name: name.into(), op, inputs: inputs.to_vec() };
    let block = |name: &str| Block {
        name: name.into(),
        convs: vec![format!("{name}.expand"), format!("{name}.project")],
        relus: vec![format!("{name}.relu")],
        add: None,
        state: BlockState::Kept,
    };
    let nodes = vec![
        node("input", Op::Input { shape: [1, SIDE, SIDE] }, &[]),
        node("vital.expand", conv(1, 2), &[0]),
        node("vital.relu", Op::Relu { gate: Some(0) }, &[1]),
        node("vital.project", conv(2, 1), &[2]),
        node("pool", Op::GlobalAvgPool, &[3]),
        node("useless.expand", conv(1, 2), &[4]),
        node("useless.relu", Op::Relu { gate: Some(1) }, &[5]),
        node("useless.project", conv(2, 1), &[6]),
        node("classifier", Op::Linear { in_features: 1, out_features: 2 }, &[7]),
    ];
    let graph = Graph { arch: "made".into(), nodes, blocks: vec![block("vital"), block("useless")] };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = Weights::default();
    for (name, shape, values) in [
        ("vital.expand.weight", vec![2, 1, 1, 1], vec![1.0, -1.0]),
        ("vital.expand.bias", vec![2], vec![0.0, 0.0]),
        ("vital.project.weight", vec![1, 2, 1, 1], vec![1.0, 1.0]),
        ("vital.project.bias", vec![1], vec![0.0]),
        ("useless.expand.weight", vec![2, 1, 1, 1], vec![0.5, 0.5]),
        ("useless.expand.bias", vec![2], vec![3.0, 3.0]),
        ("useless.project.weight", vec![1, 2, 1, 1], vec![1.0, 1.0]),
        ("useless.project.bias", vec![1], vec![-6.0]),
        ("classifier.weight", vec![2, 1], vec![-2.0, 2.0]),
        ("classifier.bias", vec![2], vec![1.7, -1.7]),
    ] {
        let data = values.into_iter().map(|v: f32| v + rng.random_range(-0.1..0.1)).collect();
        weights.insert(name, Array::new(shape, data));
    }
    Checkpoint {
        stage: Stage::Float,
        graph,
        weights,
        quant: None,
        dataset: "made".into(),
        classes: vec!["small".into(), "large".into()],
        pixels: PixelScale { offset: 128, scale_log2: -6 },
    }
}

fn data(start: &Checkpoint, seed: u64) -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Dataset {
        name: "made".into(),
        classes: start.classes.clone(),
        pixels: start.pixels,
        train: images(64, &mut rng),
        validation: images(8, &mut rng),
        test: images(8, &mut rng),
    }
}

fn config(seed: u64) -> PruneConfig {
    let recipe = Recipe { batch: 8, augment: Augment::NONE, warmup: 0.0, ..Recipe::default() };
    PruneConfig {
        budget: 0.5,
        activation: false,
        search: Recipe { epochs: 3, rate: 0.02, ..recipe.clone() },
        finetune: Recipe { epochs: 1, rate: 0.01, ..recipe },
        seed,
        ..PruneConfig::default()
    }
}

#[test]
fn a_vital_block_is_kept_and_a_useless_one_goes_within_three_epochs_for_every_seed() {
    for seed in 0..10 {
        let start = network(seed);
        let data = data(&start, seed);
        let pruned = prune(&config(seed), &start, &data, [1.0, 1.0].as_slice().into(), &mut Silent).unwrap();
        let kept: Vec<bool> = pruned.blocks.iter().map(|b| b.keep).collect();
        assert_eq!(kept, [true, false], "seed {seed}: {:?}", pruned.blocks);
    }
}

/// The vital block's gate starts at 0 and closed, the other's at 1 and open.
#[test]
fn gates_that_start_on_the_wrong_side_come_back_within_three_epochs_for_every_seed() {
    for seed in 0..10 {
        let start = network(seed);
        let data = data(&start, seed);
        let config = PruneConfig { gate_rate: 0.1, ..config(seed) };
        let gates = GateSearch::new(&[1.0, 1.0].as_slice().into(), 24, config.rule());
        let mut search = Search::Gates(gates.standing_at(&[0.0, 1.0], &[false, true]));
        let job = Job { search: Some(&mut search), ..config.search_job(&start, &start) };
        fit(job, &data, &mut Silent).unwrap();
        let Search::Gates(mut gates) = search else { panic!("the search has become another") };
        gates.settle(None).unwrap();
        assert_eq!(gates.open(), [true, false], "seed {seed}: {:?}", gates.alpha());
    }
}

/// Of 34 positions the useless block has two; SENet sees that its rectifiers change nothing, SNL that the
/// loss does not care.
#[test]
fn channels_and_positions_that_change_nothing_lose_their_rectifiers() {
    for pixels in [true, false] {
        let start = network(3);
        let data = data(&start, 3);
        let config = PruneConfig { pixels, budget: 16.0 / 34.0, gate_rate: 0.1, ..config(3) };
        let (searched, ranking) = snl(&config, &start, &data, &mut Silent).unwrap();
        assert_eq!(searched.graph, start.graph);
        let masks = ranking.masks(config.budget);
        assert_eq!(masks["useless.relu"].count(true), 0, "{masks:?}");
        assert!(masks["vital.relu"].count(true) >= 8, "{masks:?}");
        let pruned = prune_by_masks(&config, &start, &searched, &data, &masks, &mut Silent).unwrap();
        assert_eq!(pruned.graph.relu_count().unwrap(), masks["vital.relu"].count(true));
        assert_eq!(pruned.kept_blocks(), [true, false]);

        let masks = senet(&config, &start, &data).unwrap().masks(18.0 / 34.0);
        assert!(masks.values().map(|m| m.count(true)).sum::<usize>() <= 18);
        assert!(masks["vital.relu"].count(true) >= 14, "{masks:?}");
    }
}
