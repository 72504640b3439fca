//! The fake-quantised network and the integer executor say the same.

use std::path::Path;

use copriv_model::execute;
use copriv_train::data::{self, Images};
use copriv_train::net::Array;
use copriv_train::quant::{QuantConfig, calibrate};
use copriv_train::rewrite::drop_rectifiers;
use copriv_train::{
    Checkpoint, Dataset, Merge, Stage, evaluate, integer_graph, integer_logits, integer_model, merge,
    untrained,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn embedded() -> Dataset {
    data::load(data::EMBEDDED, Path::new("data")).unwrap()
}

/// A network whose norms and biases are not trivial, its blocks pruned where `keep` says so.
fn random_network(arch: &str, data: &Dataset, keep: impl Fn(usize) -> bool, seed: u64) -> Checkpoint {
    let mut checkpoint = untrained(arch, data, seed).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let names: Vec<String> = checkpoint.weights.iter().map(|(name, _)| name.to_owned()).collect();
    for name in names {
        let Array { shape, mut data } = checkpoint.weights.get(&name).unwrap().clone();
        let range = match name.rsplit('.').next() {
            Some("gamma" | "var") => 0.5..1.5,
            Some("beta" | "mean" | "bias") => -0.3..0.3,
            _ => continue,
        };
        data.iter_mut().for_each(|v| *v = rng.random_range(range.clone()));
        checkpoint.weights.insert(&name, Array::new(shape, data));
    }
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
        let start = random_network("mbv2-tiny", &data, |block| block % 2 == 0, seed);
        for bits in [(8, 8), (4, 6), (6, 4)] {
            let config = QuantConfig { weight_bits: bits.0, act_bits: bits.1, ..QuantConfig::default() };
            let quantised = quantise(&start, &how, &data, &config);
            let (predictions, logits) = agreement(&quantised, &images, &config);
            assert!(predictions >= 0.999, "{how:?} {bits:?}: {predictions}");
            // Accumulators of this network stay below 24 bits at these widths' real values.
            assert!(logits == 1.0, "{how:?} {bits:?}: {logits} of the logits are equal");
        }
    }
}

#[test]
fn random_pixels_and_tight_accumulators_change_nothing() {
    let data = embedded();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut images = data.validation.sample(100);
    images.pixels.iter_mut().for_each(|p| *p = rng.random());
    let start = random_network("mbv2-tiny", &data, |block| block > 3, 5);
    let config = QuantConfig { tight_accumulators: true, ..QuantConfig::default() };
    let quantised = quantise(&start, &Merge::All, &data, &config);
    assert_eq!(agreement(&quantised, &images, &config), (1.0, 1.0));
    let bits = |config: &QuantConfig| {
        let graph = integer_model(&quantised, config).unwrap().graph;
        graph.nodes.iter().filter_map(|n| n.op.linear()).map(|l| l.acc_bits).sum::<u32>()
    };
    assert!(bits(&config) < bits(&QuantConfig::default()), "tight accumulators are narrower");
}

#[test]
fn signed_colour_input_at_a_small_width() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut image = |n: usize| Images {
        channels: 3,
        side: 32,
        pixels: (0..n * 3072).map(|_| rng.random()).collect(),
        labels: vec![0; n],
    };
    let data = Dataset {
        name: "noise".into(),
        classes: (0..5).map(|i| i.to_string()).collect(),
        pixels: data::PixelScale { offset: 128, scale_log2: -6 },
        train: image(64),
        validation: image(8),
        test: image(8),
    };
    let start = random_network("mbv2-w0.1", &data, |block| block % 3 == 0, 8);
    let config = QuantConfig::default();
    let quantised = quantise(&start, &Merge::All, &data, &config);
    let (predictions, _) = agreement(&quantised, &data.test, &config);
    assert_eq!(predictions, 1.0);
}

#[test]
fn the_structure_is_known_before_training() {
    let data = embedded();
    let config = QuantConfig::default();
    for how in [Merge::None, Merge::All] {
        let start = random_network("mbv2-tiny", &data, |block| block % 2 == 1, 9);
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
