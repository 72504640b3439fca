//! Whole models: every value of a private run equals the executor's, and the bytes and rounds
//! equal the plan's, for random graphs, weights, widths and inputs.

mod common;

use common::{check, parties};
use copriv_infer2pc::engine::{self, Measured};
use copriv_infer2pc::session::predict_setup;
use copriv_infer2pc::{Channel, Client, Nursery, Reveal, Server, Terms};
use copriv_model::{
    Bias, ConvSpec, Graph, GraphBuilder, LayerWeights, LinearSpec, Mask, Model, NodeId, Subsample,
    TensorType, Weights, execute,
};
use copriv_plan::linear::with_tile_widths;
use copriv_plan::{Choice, Flavour, Objective, Plan, Preset};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Draws graphs and weights.
struct Draw {
    rng: StdRng,
    builder: GraphBuilder,
    weights: Weights,
    count: usize,
}

impl Draw {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let side = rng.random_range(2..7usize);
        let shape = [rng.random_range(1..4usize), side, rng.random_range(2..7usize)];
        let bits = rng.random_range(2..9);
        let input = if rng.random() {
            TensorType::unsigned(shape, bits, -4)
        } else {
            TensorType::signed(shape, bits, -4)
        };
        Self { rng, builder: GraphBuilder::new("random", input), weights: Weights::default(), count: 0 }
    }

    fn name(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}{}", self.count)
    }

    fn linear(&mut self, outputs: usize) -> LinearSpec {
        let channel_shifts = if self.rng.random() {
            vec![]
        } else {
            (0..outputs).map(|_| self.rng.random_range(0..4)).collect()
        };
        let weight_bits = self.rng.random_range(2..9);
        LinearSpec {
            weight_bits,
            ternary: weight_bits == 2 && self.rng.random(),
            weight_scale_log2: -3,
            channel_shifts,
            bias_bits: self.rng.random_range(1..10),
            acc_bound: None,
        }
    }

    /// Random weights, the extreme ones among them.
    fn fill(&mut self, name: &str, spec: &LinearSpec, weights: usize, outputs: usize, pixels: usize) {
        let half = 1i32 << (spec.weight_bits - 1);
        let range = if spec.ternary { -1..=1 } else { -half..=half - 1 };
        let mut weight: Vec<i32> = (0..weights).map(|_| self.rng.random_range(range.clone())).collect();
        weight[0] = *range.start();
        let limit = 1i64 << spec.bias_bits;
        let vectors = if pixels > 1 && self.rng.random() { 3 } else { 1 };
        let mut bias = Bias {
            vectors: (0..vectors)
                .map(|_| (0..outputs).map(|_| self.rng.random_range(1 - limit..limit)).collect())
                .collect(),
            map: vec![],
        };
        if vectors > 1 {
            bias.map = (0..pixels).map(|_| self.rng.random_range(0..3)).collect();
        }
        self.weights.insert(name, LayerWeights { weight, bias });
    }

    fn conv(&mut self, x: NodeId) -> NodeId {
        let [c, h, w] = self.builder.type_of(x).shape;
        let depthwise = c > 1 && self.rng.random();
        let out_channels = if depthwise { c } else { self.rng.random_range(1..5usize) };
        let kernel =
            if h >= 3 && w >= 3 { *[1, 3].get(self.rng.random_range(0..2usize)).unwrap() } else { 1 };
        let linear = self.linear(out_channels);
        let spec = ConvSpec {
            out_channels,
            kernel,
            stride: self.rng.random_range(1..3usize),
            pad: kernel / 2,
            groups: if depthwise { c } else { 1 },
            linear,
        };
        let name = self.name("conv");
        let y = self.builder.conv(&name, x, spec.clone()).unwrap();
        let [_, oh, ow] = self.builder.type_of(y).shape;
        let fan_in = c / spec.groups * kernel * kernel;
        self.fill(&name, &spec.linear, out_channels * fan_in, out_channels, oh * ow);
        y
    }

    fn requant(&mut self, x: NodeId) -> NodeId {
        let bits = self.builder.type_of(x).bits;
        let name = self.name("requant");
        let shift = self.rng.random_range(0..bits.min(8));
        if self.rng.random_range(0..3) == 0 {
            // Wide enough to be proven without saturation.
            return self.builder.requant(&name, x, shift, bits - shift + 1, true, false).unwrap();
        }
        let (out_bits, signed) = (self.rng.random_range(2..9), self.rng.random());
        self.builder.requant(&name, x, shift, out_bits, signed, true).unwrap()
    }

    fn relu(&mut self, x: NodeId) -> NodeId {
        let name = self.name("relu");
        let len = self.builder.type_of(x).len();
        if len < 2 || self.rng.random_range(0..3) > 0 {
            return self.builder.relu(&name, x).unwrap();
        }
        let share = self.rng.random_range(0.0..1.0);
        let mut inside: Vec<bool> = (0..len).map(|_| self.rng.random_bool(share)).collect();
        (inside[0], inside[len - 1]) = (true, false);
        self.builder.partial_relu(&name, x, Mask::new(inside)).unwrap()
    }

    fn step(&mut self, x: NodeId) -> NodeId {
        match self.rng.random_range(0..6) {
            0 => self.relu(x),
            1 => {
                let y = self.conv(x);
                let y = self.relu(y);
                self.requant(y)
            }
            2 => {
                let y = self.conv(x);
                self.requant(y)
            }
            3 => {
                // A residual block.
                let y = self.conv(x);
                let y = self.requant(y);
                let (tx, ty) = (self.builder.type_of(x).clone(), self.builder.type_of(y).clone());
                if tx.shape != ty.shape || (tx.scale_log2 - ty.scale_log2).abs() > 20 {
                    return y;
                }
                let name = self.name("add");
                let y = self.builder.add(&name, x, y).unwrap();
                self.requant(y)
            }
            4 => {
                let name = self.name("subsample");
                let mut draw = |below| self.rng.random_range(0..below);
                let how = Subsample { stride: draw(2) + 1, before: draw(3), after: draw(3) };
                self.builder.subsample(&name, x, how).unwrap()
            }
            _ => {
                let [_, h, w] = self.builder.type_of(x).shape;
                if h < 2 || w < 2 {
                    return self.relu(x);
                }
                let name = self.name("pool");
                let stride = self.rng.random_range(1..3usize);
                let kernel = self.rng.random_range(1..=h.min(w).min(3));
                if self.rng.random() {
                    let pad = self.rng.random_range(0..kernel);
                    self.builder.max_pool(&name, x, (kernel, stride, pad)).unwrap()
                } else {
                    self.builder.avg_pool(&name, x, kernel, stride).unwrap()
                }
            }
        }
    }

    fn model(mut self, steps: usize) -> Model {
        let mut x = self.builder.input();
        for _ in 0..steps {
            x = self.step(x);
        }
        let name = self.name("flatten");
        x = self.builder.flatten(&name, x).unwrap();
        let inputs = self.builder.type_of(x).len();
        let name = self.name("logits");
        let spec = self.linear(6);
        let y = self.builder.linear(&name, x, 6, spec.clone()).unwrap();
        self.fill(&name, &spec, inputs * 6, 6, 1);
        Model::new(self.builder.finish(y).unwrap(), self.weights).unwrap()
    }
}

fn input(graph: &Graph, seed: u64) -> Vec<i64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let t = graph.input_type();
    let (min, max) = (t.min() as i64, t.max() as i64);
    (0..t.len()).map(|i| if i % 5 == 0 { max } else { rng.random_range(min..=max) }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn private_equals_plaintext_and_measured_equals_planned(seed in any::<u64>(), steps in 1usize..6) {
        let model = Draw::new(seed).model(steps);
        let flavour = Flavour::ALL[[0, 3, 4, 3, 0][steps - 1]];
        let objective = Objective::ALL[seed as usize % 5];
        let choice = Choice { flavour, packing: seed as u32 % 11, session: 40, objective, ..Choice::default() };
        check(&model, choice, &input(&model.graph, seed ^ 1));
    }
}

/// A ternary layer is three values to accumulator, planner and groups: five weights on 243 points.
#[test]
fn ternary_layers_send_less_than_two_bits() {
    let choice = Choice { flavour: Flavour::SoftSpoken4, packing: 8, ..Choice::default() };
    let bytes = [false, true].map(|ternary| {
        let mut draw = Draw::new(1);
        draw.builder = GraphBuilder::new("ternary", TensorType::unsigned([4, 9, 9], 4, -4));
        let linear = LinearSpec { weight_bits: 2, ternary, channel_shifts: vec![], ..draw.linear(16) };
        let spec = ConvSpec { out_channels: 16, kernel: 3, stride: 1, pad: 1, groups: 1, linear };
        let x = draw.builder.input();
        let y = draw.builder.conv("conv", x, spec.clone()).unwrap();
        draw.fill("conv", &spec.linear, 16 * 4 * 9, 16, 81);
        let model = Model::new(draw.builder.finish(y).unwrap(), draw.weights).unwrap();
        let plan = Plan::new(&model.graph, choice).unwrap();
        assert!(plan.products().all(|p| p.ternary == ternary && p.is_packed()));
        check(&model, choice, &input(&model.graph, 5));
        plan.predict().total_bytes()
    });
    assert!(bytes[1] * 10 < bytes[0] * 9, "{bytes:?}");
}

/// Two 3x3 convolutions with a residual connection, on which tiles pay if weights are wide.
fn tiled(weight_bits: u32, stride: usize) -> Model {
    let mut draw = Draw::new(1);
    draw.builder = GraphBuilder::new("tiled", TensorType::signed([6, 9, 8], 6, -4));
    let x = draw.builder.input();
    let mut y = x;
    for (i, name) in ["conv1", "conv2"].into_iter().enumerate() {
        let channel_shifts = vec![0, 1, 2, 0, 1, 3];
        let linear = LinearSpec { weight_bits, ternary: false, channel_shifts, ..draw.linear(6) };
        let spec = ConvSpec { out_channels: 6, kernel: 3, stride, pad: 1, groups: 1, linear };
        y = draw.builder.conv(name, y, spec.clone()).unwrap();
        let [_, rows, columns] = draw.builder.type_of(y).shape;
        draw.fill(name, &spec.linear, 6 * 6 * 9, 6, rows * columns);
        y = if i == 0 || stride > 1 { draw.relu(y) } else { draw.builder.add("add", y, x).unwrap() };
        y = draw.builder.requant(&format!("requant{i}"), y, 9, 7, i == 1, true).unwrap();
    }
    Model::new(draw.builder.finish(y).unwrap(), draw.weights).unwrap()
}

#[test]
fn tiled_convolutions_in_a_whole_model() {
    let model = tiled(8, 1);
    let ours = |packing| Choice { flavour: Flavour::SoftSpoken4, packing, ..Choice::default() };
    let theirs = |preset| Choice { preset, ..Flavour::Iknp.into() };
    for choice in [ours(0), ours(3), ours(10), theirs(Preset::Copriv), theirs(Preset::CoprivEwmm)] {
        let plan = Plan::new(&model.graph, choice).unwrap();
        assert!(plan.scaled.iter().any(|&bits| bits > 0), "{choice:?}: no tiles");
        check(&model, choice, &input(&model.graph, 5));
    }
}

/// Widths of the real weights: exact, fewer bytes or as many, and part of what both parties hash.
#[test]
fn tile_positions_as_wide_as_the_weights_need() {
    let mut saved = 0;
    for (weight_bits, stride) in [(2, 1), (3, 2), (4, 1), (6, 2), (8, 1)] {
        let any = tiled(weight_bits, stride);
        let real = with_tile_widths(any.clone()).unwrap();
        for packing in [0, 4, 8] {
            // Of a long session, where bytes of the set-up do not matter.
            let choice =
                Choice { flavour: Flavour::SoftSpoken4, packing, session: u32::MAX, ..Choice::default() };
            let plans = [&any, &real].map(|model| Plan::new(&model.graph, choice).unwrap());
            let bytes = plans.each_ref().map(|plan| plan.predict().total_bytes());
            assert!(bytes[1] <= bytes[0], "W{weight_bits}, k = {packing}: {bytes:?}");
            saved += bytes[0] - bytes[1];
            if plans[1].products().any(|p| !p.bounds.is_empty()) {
                assert_ne!(plans[0].hash(), plans[1].hash());
            }
            check(&real, choice, &input(&real.graph, 5));
        }
    }
    assert!(saved > 0, "no width was smaller");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]
    #[test]
    fn every_preset_is_exact_and_as_planned(seed in any::<u64>(), steps in 1usize..6, preset in 0usize..5) {
        let model = Draw::new(seed).model(steps);
        let choice = Choice { preset: Preset::ALL[preset], ..Flavour::Iknp.into() };
        check(&model, choice, &input(&model.graph, seed ^ 1));
    }
}

#[test]
fn sessions_agree_with_the_executor_over_several_inferences() {
    for (i, flavour) in Flavour::ALL.into_iter().enumerate() {
        let (seed, reveal) = (11 + i as u64, [Reveal::Logits, Reveal::Class, Reveal::Top5][i % 3]);
        let model = Draw::new(seed).model(3);
        let (a, b) = Channel::pair();
        let server_model = model.clone();
        let server =
            std::thread::spawn(move || Server::accept(a, &server_model, None).unwrap().run().unwrap());
        let terms = Terms { reveal, flavour: Some(flavour), ..Terms::default() };
        let mut client = Client::connect(b, terms, 3, None).unwrap();
        assert_eq!(client.report().setup, predict_setup(&model.graph, client.plan(), false).unwrap());
        for i in 0..3 {
            let x = input(&model.graph, i);
            let material = client.offline().unwrap();
            let result = client.online(material, &x).unwrap();
            let trace = execute::run(&model, &x).unwrap();
            match reveal {
                Reveal::Logits => assert_eq!(result, trace.output()),
                Reveal::Class => assert_eq!(result, [execute::argmax(trace.output()) as i64]),
                Reveal::Top5 => {
                    let best = execute::top_k(trace.output(), 5);
                    assert_eq!(result, best.into_iter().map(|i| i as i64).collect::<Vec<_>>());
                }
            }
            assert_eq!(client.report().total, client.plan().predict_session(i + 1));
        }
        drop(client);
        let report = server.join().unwrap();
        assert_eq!(report.inferences, 3);
    }
}

#[test]
fn sessions_of_every_preset() {
    for preset in Preset::ALL {
        let model = Draw::new(17).model(3);
        let (a, b) = Channel::pair();
        let server_model = model.clone();
        let server =
            std::thread::spawn(move || Server::accept(a, &server_model, None).unwrap().run().unwrap());
        let mut client = Client::connect(b, Terms { preset, ..Terms::default() }, 1, None).unwrap();
        let choice = client.plan().choice;
        assert_eq!(choice.preset, preset);
        assert_eq!(client.report().setup, predict_setup(&model.graph, client.plan(), false).unwrap());
        let x = input(&model.graph, 4);
        let material = client.offline().unwrap();
        assert_eq!(client.online(material, &x).unwrap(), execute::run(&model, &x).unwrap().output());
        assert_eq!(client.report().total, client.plan().predict());
        server.join().unwrap();
    }
}

#[test]
fn a_preset_of_the_literature_runs_on_its_own_extension() {
    let graph = Draw::new(17).model(1).graph;
    let terms = Terms { preset: Preset::Sirnn, flavour: Some(Flavour::Ferret), ..Terms::default() };
    let error = terms.plan(&graph, 1).unwrap_err().to_string();
    assert!(error.contains("sirnn") && error.contains("Iknp"), "{error}");
}

#[test]
fn a_client_without_a_preference_gets_the_fewest_bytes() {
    let graph = Draw::new(3).model(4).graph;
    let bytes = |terms: Terms, n: u32| {
        let plan = terms.plan(&graph, n).unwrap();
        let setup = predict_setup(&graph, &plan, false).unwrap();
        (setup.bytes() + plan.predict_session(u64::from(n)).total_bytes(), plan.choice)
    };
    for n in [1, 30] {
        let (least, chosen) = bytes(Terms::default(), n);
        for flavour in Flavour::ALL {
            let (other, _) = bytes(Terms { flavour: Some(flavour), ..Terms::default() }, n);
            assert!(least <= other, "{n} inferences: {chosen:?} sends {least}, {flavour:?} {other}");
        }
    }
}

#[test]
fn material_of_another_plan_is_refused() {
    let models = [Draw::new(1).model(1), Draw::new(2).model(2)];
    let plans = models.each_ref().map(|m| Plan::new(&m.graph, Flavour::Iknp.into()).unwrap());
    let swapped = |party: &mut copriv_infer2pc::Party, weights: Option<&Weights>| {
        let mut measured = Measured::default();
        engine::plant(party, &plans[0], weights).unwrap();
        let material = engine::offline(party, &plans[0], weights, &mut measured).unwrap();
        engine::online(party, &plans[1], weights, material, None, &mut measured, |_, _| {})
            .unwrap_err()
            .to_string()
    };
    let (a, b) =
        parties(Flavour::Iknp.into(), |p| swapped(p, Some(&models[0].weights)), |p| swapped(p, None));
    assert!(a.contains("another plan") && b.contains("another plan"));
}

#[test]
fn a_set_up_that_is_kept_serves_later_sessions_until_the_weights_change() {
    let folder = std::env::temp_dir().join(format!("copriv-nursery-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let (at_server, at_client) =
        (Nursery::of_server(folder.join("server")), Nursery::of_client(folder.join("client"), "server"));
    let model = Draw::new(21).model(3);
    let mut changed = model.clone();
    let name = model.weights.iter().next().unwrap().0.to_owned();
    let mut layer = changed.weights.layer(&name).unwrap().clone();
    layer.weight[0] ^= 1;
    changed.weights.insert(&name, layer);
    let terms = Terms { shared_by: Some(1000), ..Terms::default() };
    let session = |model: &Model, seed: u64| {
        let (a, b) = Channel::pair();
        std::thread::scope(|scope| {
            let server = scope.spawn(|| Server::accept(a, model, Some(&at_server)).unwrap().run().unwrap());
            let mut client = Client::connect(b, terms, 1, Some(&at_client)).unwrap();
            let x = input(&model.graph, seed);
            let material = client.offline().unwrap();
            assert_eq!(client.online(material, &x).unwrap(), execute::run(model, &x).unwrap().output());
            let report = client.report().clone();
            assert_eq!(report.setup, predict_setup(&model.graph, client.plan(), report.reused).unwrap());
            drop(client);
            assert_eq!(server.join().unwrap().reused, report.reused);
            report.reused
        })
    };
    assert!(!session(&model, 1), "the first session sets up");
    assert!(session(&model, 2) && session(&model, 3));
    assert!(!session(&changed, 4), "changed weights: trees are never punctured anew");
    assert!(session(&changed, 5));
    assert!(!session(&model, 6), "the client keeps one set-up for a server");
    for file in std::fs::read_dir(folder.join("client")).unwrap() {
        std::fs::write(file.unwrap().path(), b"damaged").unwrap();
    }
    assert!(!session(&model, 7), "a damaged file means a new set-up");
    let _ = std::fs::remove_dir_all(&folder);
}
