//! Widths under a limit: the best there are, within it, and what the export makes of them.

use std::collections::BTreeMap;
use std::path::Path;

use copriv_train::bits::{Costs, Curvature, Search, Solution};
use copriv_train::data::{self, Dataset};
use copriv_train::hessian::{Of, TraceConfig, traces};
use copriv_train::net::{Bias, Conv, Graph, Node, NodeId, Op, Weights};
use copriv_train::quant::QuantConfig;
use copriv_train::{Checkpoint, ExportConfig, Merge, Recipe, Silent, Stage, TrainError, export};

/// A chain of four convolutions and a classifier.
fn chain(data: &Dataset) -> Checkpoint {
    let conv = |in_channels, out_channels, stride| {
        let (kernel, pad) = if stride == 1 { (1, 0) } else { (3, 1) };
        let (groups, norm, bias) = (1, false, Bias::Channel);
        Op::Conv(Conv { in_channels, out_channels, kernel, stride, pad, groups, norm, bias })
    };
    let mut nodes = vec![Node { name: "input".into(), op: Op::Input { shape: [1, 32, 32] }, inputs: vec![] }];
    let mut push = |name: &str, op: Op, input: NodeId| {
        nodes.push(Node { name: name.into(), op, inputs: vec![input] });
        nodes.len() - 1
    };
    let mut top = 0;
    for (i, op) in [conv(1, 4, 2), conv(4, 8, 1), conv(8, 6, 2)].into_iter().enumerate() {
        top = push(&format!("conv{i}"), op, top);
        top = push(&format!("conv{i}.relu"), Op::Relu { gate: None }, top);
    }
    top = push("pool", Op::GlobalAvgPool, top);
    push("logits", Op::Linear { in_features: 6, out_features: 10 }, top);
    let graph = Graph { arch: "chain".into(), nodes, blocks: vec![] };
    Checkpoint {
        stage: Stage::Merged,
        weights: Weights::init(&graph, 3),
        graph,
        quant: None,
        dataset: data.name.clone(),
        classes: data.classes.clone(),
        pixels: data.pixels,
    }
}

/// A price in the manner of a product by oblivious transfer: layers meet in their rings.
fn price(graph: &copriv_model::Graph) -> Result<u64, TrainError> {
    let of = |node: &copriv_model::Node| match node.op.linear() {
        Some(linear) => {
            let x = &graph.nodes[node.inputs[0]].output;
            u64::from(linear.weight_bits * linear.acc_bits) * x.len() as u64
        }
        None => u64::from(node.output.bits) * node.output.len() as u64,
    };
    Ok(graph.nodes.iter().map(of).sum())
}

fn every_choice(search: &Search<'_>) -> Vec<Solution> {
    let mut choices = vec![vec![]];
    for unit in search.units() {
        let longer = |c: &Vec<usize>| {
            let c = c.clone();
            (0..unit.options.len()).map(move |option| c.iter().copied().chain([option]).collect())
        };
        choices = choices.iter().flat_map(longer).collect();
    }
    choices.into_iter().map(|choice| search.solution(choice, &price).unwrap()).collect()
}

#[test]
fn the_least_sensitive_widths_within_a_limit_are_found() {
    let data = data::load(data::EMBEDDED, Path::new("data")).unwrap();
    let checkpoint = chain(&data);
    let config = TraceConfig { probes: 4, images: 32, ..TraceConfig::default() };
    let measure = |of| traces(&checkpoint, &data.train, of, &config, || ()).unwrap();
    let curvature = Curvature { weights: measure(Of::Weights), values: Some(measure(Of::Values)) };
    let base = QuantConfig::default();
    let search = Search::new(&checkpoint, &data.train.sample(64), &base, &curvature).unwrap();
    let sizes: Vec<usize> = search.units().iter().map(|u| u.options.len()).collect();
    assert_eq!(sizes, [1, 4 * 7, 4 * 7, 7], "outer layers have 8 bits, each activation one reader");

    let all = every_choice(&search);
    let prices = search.prices(&search.uniform()[0], &price).unwrap();
    let (least, most) = all.iter().fold((u64::MAX, 0), |(a, b), s| (a.min(s.planned), b.max(s.planned)));
    for tenth in 0..=10 {
        let limit = least + (most - least) * tenth / 10;
        let best = all.iter().filter(|s| s.planned <= limit).map(|s| s.sensitivity).min_by(f64::total_cmp);
        let found = search.solve(Costs::Planned, &prices, limit, &price).unwrap().unwrap();
        assert!(found.planned <= limit);
        assert_eq!(found.planned, price(&search.exported(&found.choice).unwrap()).unwrap());
        // This price couples neighbours, and still at most a little is lost to the table.
        let best = best.unwrap();
        assert!(found.sensitivity <= 1.05 * best, "{tenth}: {} instead of {best}", found.sensitivity);
        let by_macs = search.solve(Costs::Macs, &prices, limit, &price).unwrap();
        assert!(by_macs.is_none_or(|s| s.planned <= limit && s.sensitivity >= best));
    }
    assert_eq!(search.solve(Costs::Planned, &prices, least - 1, &price).unwrap(), None);
}

#[test]
fn widths_by_name_are_exported_and_strangers_refused() {
    let data = data::load(data::EMBEDDED, Path::new("data")).unwrap();
    let data = Dataset { test: data.test.sample(50), validation: data.validation.sample(10), ..data };
    let checkpoint = chain(&data);
    let with = |weights: &[(&str, u32)], activations: &[(&str, u32)]| {
        let map = |pairs: &[(&str, u32)]| -> BTreeMap<String, u32> {
            pairs.iter().map(|&(n, b)| (n.to_owned(), b)).collect()
        };
        let weights = map(weights).into_iter().map(|(name, bits)| (name, bits.into())).collect();
        let quant = QuantConfig { weights, activations: map(activations), ..QuantConfig::default() };
        let config = ExportConfig {
            quant,
            qat: Recipe { epochs: 0, ..Recipe::default() },
            merge: Merge::None,
            ..ExportConfig::default()
        };
        export(&config, &checkpoint, &data, &mut Silent)
    };
    let exported = with(&[("conv1", 2), ("logits", 3)], &[("conv1.relu", 4)]).unwrap();
    let graph = &exported.model.graph;
    let widths: Vec<u32> = graph.nodes.iter().filter_map(|n| Some(n.op.linear()?.weight_bits)).collect();
    assert_eq!(widths, [8, 2, 6, 3]);
    let bits = |name: &str| graph.nodes.iter().find(|n| n.name == name).map(|n| n.output.bits);
    assert_eq!((bits("conv0.relu.requant"), bits("conv1.relu.requant")), (Some(6), Some(4)));
    assert_eq!(exported.fake_quant_accuracy, exported.integer_accuracy);

    let refused = |result: Result<_, TrainError>, part: &str| match result {
        Ok(_) => panic!("accepted"),
        Err(error) => assert!(error.to_string().contains(part), "{error}"),
    };
    refused(with(&[("conv9", 4)], &[]).map(|_| ()), "conv9");
    refused(with(&[], &[("conv1", 4)]).map(|_| ()), "conv1");
    refused(with(&[("conv1", 9)], &[]).map(|_| ()), "2..=8");
}
