//! Lowering and pricing, on small graphs.

use copriv_model::{ConvSpec, Graph, GraphBuilder, LinearSpec, TensorType};
use copriv_plan::comparison::{Finds, Tree};
use copriv_plan::linear::{Algorithm, Method, Side, Tile, Wrap};
use copriv_plan::{
    Choice, Flavour, Flow, Network, Objective, Plan, Preset, Product, StepKind, Traffic, traffic::Meter,
};

fn spec(out_channels: usize, kernel: usize, weight_bits: u32) -> ConvSpec {
    let linear = LinearSpec {
        weight_bits,
        ternary: false,
        weight_scale_log2: -4,
        channel_shifts: vec![],
        bias_bits: 6,
        acc_bound: None,
    };
    ConvSpec { out_channels, kernel, stride: 1, pad: kernel / 2, groups: 1, linear }
}

/// A residual block: conv, relu, requantisation, conv, addition, requantisation.
fn residual(weight_bits: u32) -> Graph {
    let mut b = GraphBuilder::new("residual", TensorType::signed([4, 8, 8], 8, -6));
    let x = b.input();
    let y = b.conv("conv1", x, spec(8, 3, weight_bits)).unwrap();
    let y = b.relu("relu", y).unwrap();
    let y = b.requant("requant1", y, 6, 8, false, true).unwrap();
    let y = b.conv("conv2", y, spec(4, 1, weight_bits)).unwrap();
    let y = b.add("add", y, x).unwrap();
    let y = b.requant("requant2", y, 5, 8, true, true).unwrap();
    b.finish(y).unwrap()
}

fn kinds(plan: &Plan) -> Vec<(&str, &'static str)> {
    let kind = |k: &StepKind| match k {
        StepKind::Input => "input",
        StepKind::Product { .. } => "product",
        StepKind::Reduce => "reduce",
        StepKind::Extend { .. } => "extend",
        StepKind::Truncate { .. } => "truncate",
        StepKind::Saturate { .. } => "saturate",
        StepKind::ClampLow { .. } => "low",
        StepKind::ClampHigh { .. } => "high",
        StepKind::Add { .. } => "add",
        StepKind::Reveal => "reveal",
        _ => "other",
    };
    plan.steps.iter().map(|s| (s.layer.as_str(), kind(&s.kind))).collect()
}

#[test]
fn a_relu_is_taken_with_the_saturation_and_shares_are_widened_once() {
    let plan = Plan::new(&residual(4), Flavour::Iknp.into()).unwrap();
    let steps = kinds(&plan);
    let at = |name| steps.iter().position(|s| *s == name).unwrap_or_else(|| panic!("{name:?} in {steps:?}"));
    assert!(at(("requant1", "truncate")) < at(("requant1", "saturate")));
    assert!(!steps.iter().any(|(layer, _)| *layer == "relu"), "the ReLU is part of the saturation");
    assert_eq!(steps.iter().filter(|s| **s == ("requant1", "extend")).count(), 1);
    // The input is the client's own, and no extension is paid for it.
    assert!(!steps.contains(&("input", "extend")));
    assert_eq!(steps.last(), Some(&("requant2", "reveal")));
}

#[test]
fn an_extension_behind_a_clamp_knows_the_sign() {
    let plan = Plan::new(&residual(4), Flavour::Iknp.into()).unwrap();
    for step in &plan.steps {
        if let StepKind::Extend { msb_known, .. } = step.kind {
            assert!(msb_known, "{}", step.layer);
        }
    }
}

#[test]
fn plans_that_differ_anywhere_have_other_hashes() {
    let four = Plan::new(&residual(4), Flavour::Iknp.into()).unwrap();
    let five = Plan::new(&residual(5), Flavour::Iknp.into()).unwrap();
    assert_eq!(four.hash(), Plan::new(&residual(4), Flavour::Iknp.into()).unwrap().hash());
    assert_ne!(four.hash(), five.hash());
    assert_ne!(four.hash(), Plan::new(&residual(4), Flavour::SoftSpoken8.into()).unwrap().hash());
    let first = four.steps.iter().zip(&five.steps).find(|(a, b)| a.fingerprint() != b.fingerprint());
    assert_eq!(
        first.map(|(a, _)| a.layer.as_str()),
        Some("input"),
        "the input's ring is the first to differ"
    );
}

#[test]
fn a_ring_that_no_machine_word_holds_is_named() {
    let mut b = GraphBuilder::new("mean", TensorType::signed([1, 3, 3], 40, 0));
    let x = b.input();
    let y = b.avg_pool("mean", x, 3, 1).unwrap();
    let error = Plan::new(&b.finish(y).unwrap(), Flavour::Iknp.into()).unwrap_err().to_string();
    assert!(error.contains("`mean`") && error.contains("9 values"), "{error}");
}

#[test]
fn the_price_of_a_product_is_its_formula() {
    // 3 filters, 2 channels, 1x1, W3: 18 OTs of 16 B, and messages of l + (l-1) + (l-2) bits
    // for each of 6 weights and 20 pixels.
    let mut b = GraphBuilder::new("product", TensorType::signed([2, 4, 5], 8, 0));
    let x = b.input();
    let y = b.conv("conv", x, spec(3, 1, 3)).unwrap();
    let graph = b.finish(y).unwrap();
    let choice = |packing| Choice { flavour: Flavour::Iknp, packing, ..Choice::default() };
    let priced = |packing| {
        let plan = Plan::new(&graph, choice(packing)).unwrap();
        let price = plan.predict();
        let layer = price.layers.into_iter().find(|l| l.name == "conv").unwrap();
        (u64::from(plan.steps[1].ring), layer)
    };
    let (ring, layer) = priced(0);
    let message = (6 * 20 * (3 * ring - 3)).div_ceil(8);
    assert_eq!(layer.offline, Traffic { up: message, down: 128 * 18u64.div_ceil(8), rounds: 2 });
    let opened = (40 * ring).div_ceil(8);
    let logits = (60 * ring).div_ceil(8);
    assert_eq!(layer.online, Traffic { up: opened, down: logits, rounds: 2 });
    // Packed: a channel's 9 bits are groups of 5 and 4; the first is the mask, and the widest bit of
    // the second is the last of the middle plane.
    let (ring, layer) = priced(8);
    let message = 2 * (20 * (ring - 1)).div_ceil(8);
    assert_eq!(layer.offline, Traffic { up: message, down: 0, rounds: 1 });
}

/// A point-wise convolution and a classifier, each behind a requantisation to 4 bits.
fn narrow(filters: usize, classes: usize) -> Graph {
    let mut b = GraphBuilder::new("narrow", TensorType::unsigned([8, 4, 4], 4, -4));
    let x = b.input();
    let y = b.conv("first", x, spec(filters, 1, 4)).unwrap();
    let y = b.requant("requant1", y, 4, 4, false, true).unwrap();
    let y = b.conv("second", y, spec(filters, 1, 4)).unwrap();
    let y = b.requant("requant2", y, 4, 4, false, true).unwrap();
    let y = b.flatten("flatten", y).unwrap();
    let y = b.linear("classifier", y, classes, spec(0, 1, 8).linear).unwrap();
    b.finish(y).unwrap()
}

/// The rows of PrivQuant's table 4, and widening the shares in front of the product.
#[test]
fn the_ring_of_an_input_is_part_of_the_choice() {
    let graph = narrow(8, 100);
    let wraps = |preset| {
        let plan = Plan::new(&graph, Choice { preset, ..Flavour::Iknp.into() }).unwrap();
        let products: Vec<_> = plan.products().map(|p| (p.wrap.map(|w| w.from), p.method)).collect();
        (plan, products)
    };
    let receives = |receiver| Method::Cot { receiver };
    // SiRNN takes shares as they come, 4 bits and a sign; the client's own input needs no widening.
    let client = receives(Side::Client);
    let (plan, products) = wraps(Preset::Sirnn);
    assert_eq!(products, [(None, client), (Some(5), client), (Some(5), client)]);
    assert!(!plan.steps.iter().any(|step| matches!(step.kind, StepKind::Extend { .. })));
    // Many outputs of one pixel: the activation's few bits choose, and its wrap is corrected inside.
    let (plan, products) = wraps(Preset::Privquant);
    assert_eq!(products[1], (None, receives(Side::Server)));
    assert_eq!(products[2], (Some(5), client));
    assert!(plan.products().all(|p| p.wrap.is_none_or(|w| w.sign_known)));
    // One ring for all.
    assert!(wraps(Preset::Copriv).1.iter().all(|(wrap, _)| wrap.is_none()));
    // What was not chosen costs no less: the sender and the receiver, in any ring of the input.
    let choice = Choice { preset: Preset::Privquant, ..Flavour::Iknp.into() };
    let bytes = |product: &Product| {
        let cost = product.cost(choice);
        cost.offline + cost.online.bytes() as f64
    };
    let chosen = plan.products().nth(2).unwrap();
    let wrap = chosen.wrap.unwrap();
    for receiver in [Side::Client, Side::Server] {
        for from in wrap.from..chosen.ring {
            let other = Product {
                wrap: Some(Wrap { from, ..wrap }),
                method: Method::Cot { receiver },
                ..chosen.clone()
            };
            assert!(bytes(chosen) <= bytes(&other), "{receiver:?} receives, {from} bits");
        }
    }
}

/// A residual block of 3x3 convolutions with wide weights, on which tiles pay.
fn tiled() -> Graph {
    let mut b = GraphBuilder::new("tiled", TensorType::signed([8, 8, 8], 8, -6));
    let x = b.input();
    let y = b.conv("conv1", x, spec(8, 3, 8)).unwrap();
    let y = b.relu("relu", y).unwrap();
    let y = b.requant("requant1", y, 6, 8, false, true).unwrap();
    let y = b.conv("conv2", y, spec(8, 3, 8)).unwrap();
    let y = b.add("add", y, x).unwrap();
    let y = b.requant("requant2", y, 5, 8, true, true).unwrap();
    b.finish(y).unwrap()
}

#[test]
fn tiles_are_taken_where_they_pay_and_their_bits_go_with_the_next_requantisation() {
    let plan = Plan::new(&tiled(), Choice::default()).unwrap();
    let algorithms: Vec<Algorithm> = plan.products().map(|p| p.algorithm).collect();
    assert_eq!(algorithms, [Algorithm::Winograd(Tile::F4); 2]);
    for (id, node) in tiled().nodes.iter().enumerate() {
        let extra = if ["conv1", "conv2", "add"].contains(&node.name.as_str()) { 6 } else { 0 };
        assert_eq!(plan.scaled[id], extra, "{}", node.name);
    }
    // The linear layer's own output may not be scaled.
    let mut b = GraphBuilder::new("last", TensorType::signed([8, 8, 8], 8, -6));
    let x = b.input();
    let y = b.conv("conv", x, spec(8, 3, 8)).unwrap();
    let last = Plan::new(&b.finish(y).unwrap(), Choice::default()).unwrap();
    assert!(last.products().all(|p| p.algorithm == Algorithm::Direct));
}

#[test]
fn no_choice_is_worse_than_the_literature() {
    for graph in [residual(4), tiled()] {
        let bytes = |preset| {
            let choice = Choice { preset, flavour: Flavour::Iknp, ..Choice::default() };
            let plan = Plan::new(&graph, choice).unwrap();
            plan.products().map(|p| p.cost(choice).offline).sum::<f64>()
        };
        let ours = bytes(Preset::CoprivNg);
        for preset in Preset::ALL {
            assert!(ours <= bytes(preset), "{}", preset.name());
        }
    }
}

#[test]
fn comparisons_cover_every_bit_once_and_join_to_one_node() {
    for finds in [Finds::Greater, Finds::GreaterAndEqual, Finds::Equal] {
        for bits in 0..=64 {
            for m in 1..=4 {
                let tree = Tree::with_digits(finds, bits, m);
                assert_eq!(tree.bits(), bits);
                let mut nodes = tree.digits.len();
                for level in tree.levels() {
                    assert_eq!(nodes, 2 * level.ands.len() + usize::from(level.odd));
                    nodes = level.ands.len() + usize::from(level.odd);
                }
                assert!(nodes <= 1);
            }
            for flavour in Flavour::ALL {
                assert!(Tree::new(finds, bits, flavour.into()).digits.iter().all(|&d| (1..=4).contains(&d)));
            }
        }
    }
}

#[test]
fn rounds_are_counted_as_the_channel_does() {
    let flows =
        [Flow::Up(3), Flow::Up(4), Flow::Down(0), Flow::Up(1), Flow::Down(2), Flow::Both { up: 1, down: 0 }];
    assert_eq!(Meter::new().count(&flows), Traffic { up: 9, down: 2, rounds: 3 });
    let mut meter = Meter::new();
    assert_eq!(meter.count(&[Flow::Up(1)]).rounds + meter.count(&[Flow::Up(1)]).rounds, 1);
}

#[test]
fn an_objective_trades_rounds_for_bytes() {
    let graph = residual(4);
    let online = |objective| {
        let choice = Choice { objective, ..Flavour::SoftSpoken8.into() };
        Plan::new(&graph, choice).unwrap().predict()
    };
    let total = online(Objective::Total);
    for network in [Network::Lan, Network::Wan, Network::Mobile] {
        let quick = online(Objective::Latency(network));
        assert!(quick.online().rounds <= total.online().rounds, "{network:?}");
    }
    let quick = online(Objective::Latency(Network::Mobile));
    assert!(quick.online().rounds < total.online().rounds, "{} rounds", total.online().rounds);
    assert!(quick.total_bytes() > total.total_bytes());
    let least = online(Objective::Online);
    assert!(least.online().bytes() <= total.online().bytes());
}
