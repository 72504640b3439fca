//! Sizes against published ones, and every architecture lowers.

use std::collections::HashMap;

use copriv_model::{Graph, Op};
use copriv_plan::architectures::{ArchitectureError, Bits, NAMES, Numbers, geometries, named, size};
use copriv_plan::{Choice, Flavour, Plan, Preset, StepKind};

const FIXED: Numbers = Numbers::FixedPoint { ring: 41, scale: 12 };

fn quantised(name: &str) -> Graph {
    named(name, Bits::new(4, 6)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// As frameworks count them: a norm's two parameters for every channel of a convolution, biases
/// of the classifier.
fn parameters(graph: &Graph) -> u64 {
    let channels: usize =
        graph.nodes.iter().filter(|n| matches!(n.op, Op::Conv(_))).map(|n| n.output.shape[0]).sum();
    size(graph).weights + 2 * channels as u64 + graph.output_type().shape[0] as u64
}

/// torchvision 0.20's `sum(p.numel())` of resnet18, resnet50, mobilenet_v2; the CIFAR sizes
/// are those of He et al. (table 6: 0.27 M and 0.46 M) and, for the MobileNetV2 at 0.75, of
/// `shared/burn-notes.md` (1,368,234 for 10 classes).
#[test]
fn parameters_are_the_published_ones() {
    for (name, published) in
        [("resnet18-224", 11_689_512), ("resnet50", 25_557_032), ("mbv2-224-w1", 3_504_872)]
    {
        assert_eq!(parameters(&quantised(name)), published, "{name}");
    }
    let ten_classes = |name: &str, features: u64| parameters(&quantised(name)) - 90 * (features + 1);
    assert_eq!(ten_classes("mbv2-w0.75", 1280), 1_368_234);
    assert_eq!(ten_classes("resnet20", 64), 269_722);
    assert_eq!(ten_classes("resnet32", 64), 464_154);
}

/// MMAC: He et al. (table 1), FPGM (He et al., 2019, table 1: 40.6 M and 68.9 M for CIFAR),
/// Sandler et al. (table 4: 300 M), MiniONN by its figure 13.
#[test]
fn multiplications_are_the_published_ones() {
    let millions = |name: &str| size(&quantised(name)).macs as f64 / 1e6;
    for (name, published, within) in [
        ("resnet18-224", 1814.0, 1.0),
        ("resnet50", 4089.0, 1.0),
        ("mbv2-224-w1", 300.8, 0.1),
        ("mbv2-w0.75", 59.4, 0.2),
        ("resnet20", 40.6, 0.05),
        ("resnet32", 68.9, 0.05),
        ("resnet18", 555.4, 0.5),
        ("llama7b-32", 4.0 * 32.0 * 16.777_216, 1e-6),
    ] {
        assert!((millions(name) - published).abs() <= within, "{name}: {} MMAC", millions(name));
    }
    // 32x32 twice, 16x16 twice, 8x8, two 1x1, one fully connected.
    let minionn =
        1024 * 64 * (27 + 576) + 2 * 256 * 64 * 576 + 64 * 64 * 576 + 64 * 64 * (64 + 16) + 1024 * 10;
    assert_eq!(size(&quantised("minionn")).macs, minionn);
}

/// torchvision's 2,542,856 parameters less what is left out: the squeeze-and-excite pairs, whose
/// squeezed channels are a quarter of the expanded ones, to a multiple of 8.
#[test]
fn mobilenet_v3_lacks_only_squeeze_and_excite() {
    let squeeze =
        [(16, 8), (96, 24), (240, 64), (240, 64), (120, 32), (144, 40), (288, 72), (576, 144), (576, 144)];
    let left_out: u64 = squeeze.iter().map(|(c, s)| 2 * c * s + c + s).sum();
    // The last hidden layer is linear in torchvision: a bias instead of a norm.
    assert_eq!(parameters(&quantised("mbv3-small")) - 1024 + left_out, 2_542_856);
}

#[test]
fn every_architecture_lowers() {
    for name in NAMES {
        for numbers in [Bits::new(4, 6).into(), FIXED] {
            let graph = named(name, numbers).unwrap_or_else(|e| panic!("{name}: {e}"));
            let plan = Plan::new(&graph, Flavour::Ferret.into()).unwrap_or_else(|e| panic!("{name}: {e}"));
            let products = plan.steps.iter().filter(|s| matches!(s.kind, StepKind::Product { .. })).count();
            assert_eq!(products, geometries(&graph).count(), "{name}");
        }
    }
}

#[test]
fn fixed_point_stays_in_its_ring() {
    for (name, ring) in [("resnet32", 41), ("resnet50", 37), ("mbv2-224-w1", 37)] {
        let graph = named(name, Numbers::FixedPoint { ring, scale: 12 }).unwrap();
        let plan = Plan::new(
            &graph,
            Choice { preset: Preset::Cryptflow2, flavour: Flavour::Iknp, ..Choice::default() },
        );
        let plan = plan.unwrap();
        for step in &plan.steps {
            assert!(step.ring <= ring, "{name}, {}: {} bits", step.layer, step.ring);
            if let StepKind::Product { product, .. } = &step.kind {
                assert_eq!(product.ring, ring, "{name}, {}", step.layer);
            }
        }
    }
}

/// Bytes of each layer, offline and online, the mean of a session.
fn layers(graph: &Graph, preset: Preset, flavour: Flavour) -> HashMap<String, u64> {
    const INFERENCES: u64 = 32;
    let plan = Plan::new(graph, Choice { preset, flavour, ..Choice::default() }).unwrap();
    // IKNP's inferences are all alike.
    let inferences = if flavour == Flavour::Iknp { 1 } else { INFERENCES };
    let mean = plan.predict_session(inferences).mean(inferences);
    mean.layers.into_iter().map(|l| (l.name, (l.offline + l.online).bytes())).collect()
}

#[test]
fn on_no_layer_is_copriv_or_privquant_cheaper_than_copriv_ng() {
    for name in NAMES {
        let graph = quantised(name);
        let others = [Preset::Copriv, Preset::Privquant].map(|p| layers(&graph, p, Flavour::Iknp));
        for (layer, ours) in layers(&graph, Preset::CoprivNg, Flavour::Ferret) {
            for other in &others {
                let theirs = other.get(&layer).copied().unwrap_or(0);
                assert!(ours <= theirs, "{name}, {layer}: {ours} bytes, {theirs} elsewhere");
            }
        }
    }
}

#[test]
fn every_layer_may_have_its_own_width() {
    let widths: Vec<u32> = (0..8).map(|i| 2 + i % 3).collect();
    let bits = Bits { layers: widths.clone(), ..Bits::new(4, 4) };
    let graph = named("minionn", bits).unwrap();
    let built: Vec<u32> = graph.nodes.iter().filter_map(|n| Some(n.op.linear()?.weight_bits)).collect();
    assert_eq!(built, widths);
    let short = Bits { layers: vec![4; 7], ..Bits::new(4, 4) };
    assert!(matches!(named("minionn", short), Err(ArchitectureError::Layers { given: 7, layers: 8, .. })));
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    for name in ["resnet", "mbv2-w3", "mbv2-", "llama7b"] {
        let message = named(name, Bits::new(4, 6)).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("minionn"), "{message}");
    }
}
