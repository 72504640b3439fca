//! The format and the executor against hand-computed values and damaged files.

use copriv_model::{
    Bias, ConvSpec, Graph, GraphBuilder, LayerWeights, LinearSpec, Model, ModelError, Op, Subsample,
    TensorType, Weights, execute, file,
};

fn layer(weight_bits: u32, bias_bits: u32) -> LinearSpec {
    LinearSpec {
        weight_bits,
        ternary: false,
        weight_scale_log2: -3,
        channel_shifts: vec![],
        bias_bits,
        acc_bound: None,
    }
}

fn conv(out_channels: usize, kernel: usize, pad: usize) -> ConvSpec {
    ConvSpec { out_channels, kernel, stride: 1, pad, groups: 1, linear: layer(4, 6) }
}

/// conv 3x3 -> relu -> requant -> residual -> pool -> flatten -> linear, with a position
/// dependent bias and channel shifts.
fn small() -> Model {
    let mut b = GraphBuilder::new("small", TensorType::unsigned([1, 4, 4], 4, -4));
    let x = b.input();
    let mut spec = conv(2, 3, 1);
    spec.linear.channel_shifts = vec![0, 2];
    let y = b.conv("conv", x, spec).unwrap();
    let y = b.relu("relu", y).unwrap();
    let y = b.requant("requant", y, 3, 4, false, true).unwrap();
    let z = b.conv("point", y, conv(2, 1, 0)).unwrap();
    let z = b.add("add", z, y).unwrap();
    let z = b.requant("requant2", z, 4, 6, true, true).unwrap();
    let z = b.avg_pool("pool", z, 4, 4).unwrap();
    let z = b.flatten("flat", z).unwrap();
    let z = b.linear("logits", z, 3, layer(3, 4)).unwrap();
    let graph = b.finish(z).unwrap();
    let mut w = Weights::default();
    let weight = (0..18).map(|i| (i % 7) - 3).collect();
    let map = (0..16).map(|p| u8::from(p < 4)).collect();
    w.insert("conv", LayerWeights { weight, bias: Bias { vectors: vec![vec![5, -3], vec![-5, 9]], map } });
    w.insert("point", LayerWeights { weight: vec![2, -1, 3, 7], bias: Bias::per_channel(vec![1, -1]) });
    w.insert(
        "logits",
        LayerWeights { weight: vec![1, 2, -3, 0, 3, -4], bias: Bias::per_channel(vec![0, 1, 2]) },
    );
    Model::new(graph, w).unwrap()
}

#[test]
fn executor_matches_values_computed_by_hand() {
    // x = 1 everywhere: the interior of channel 0 sums the nine weights -3..3,-3,-2 = -5, plus bias 5.
    let trace = execute::run(&small(), &[1; 16]).unwrap();
    let conv = &trace.values[1];
    assert_eq!(conv[5], 0);
    // channel 1, interior: weights (9..18)%7-3 = -1,0,1,2,3,-3,-2,-1,0 sum -1, shifted by 2, bias -3.
    assert_eq!(conv[16 + 5], -7);
    // top-left corner of channel 0: taps (1,1),(1,2),(2,1),(2,2) = 1,2,-3,-2; border bias -5.
    assert_eq!(conv[0], -7);
    assert_eq!(trace.values[2][0], 0);
}

#[test]
fn requant_rounds_half_up_and_saturates() {
    let mut b = GraphBuilder::new("requant", TensorType::signed([5, 1, 1], 8, 0));
    let x = b.input();
    let y = b.requant("r", x, 2, 4, true, true).unwrap();
    let model = Model::new(b.finish(y).unwrap(), Weights::default()).unwrap();
    // -6/4 = -1.5 -> -1 ; 6/4 = 1.5 -> 2 ; 5/4 -> 1 ; 127/4 -> 7 (saturated) ; -128/4 -> -8
    assert_eq!(execute::run(&model, &[-6, 6, 5, 127, -128]).unwrap().output(), &[-1, 2, 1, 7, -8]);
}

#[test]
fn a_requantisation_that_could_wrap_is_refused() {
    let mut b = GraphBuilder::new("requant", TensorType::signed([1, 1, 1], 8, 0));
    let x = b.input();
    let y = b.requant("narrow", x, 2, 4, true, false).unwrap();
    let error = b.finish(y).unwrap_err().to_string();
    assert!(error.contains("narrow") && error.contains("[-32, 32]"), "{error}");
}

#[test]
fn pools_and_argmax() {
    let mut b = GraphBuilder::new("pools", TensorType::signed([1, 2, 4], 8, 0));
    let x = b.input();
    let y = b.max_pool("max", x, (2, 2, 0)).unwrap();
    let y = b.flatten("flat", y).unwrap();
    let graph = b.finish(y).unwrap().with_argmax().unwrap();
    let model = Model::new(graph, Weights::default()).unwrap();
    let trace = execute::run(&model, &[-5, -9, 3, 1, -7, -6, 2, 3]).unwrap();
    assert_eq!(trace.values[1], [-5, 3]);
    assert_eq!(trace.output(), &[1]);
    assert_eq!(execute::argmax(&[4, 7, 7]), 1);
    assert_eq!(execute::top_k(&[4, 7, -1, 7, 4], 4), [1, 3, 0, 4]);

    // Padding does not take part: the corner's window holds -5, -9, -7, -6 only.
    let mut b = GraphBuilder::new("padded", TensorType::signed([1, 2, 4], 8, 0));
    let x = b.input();
    let y = b.max_pool("max", x, (3, 2, 1)).unwrap();
    let graph = b.finish(y).unwrap();
    let text = file::graph_to_json(&graph).unwrap();
    assert!(text.contains("\"pad\": 1"));
    assert_eq!(file::graph_from_json(&text).unwrap(), graph);
    let model = Model::new(graph, Weights::default()).unwrap();
    assert_eq!(execute::run(&model, &[-5, -9, 3, 1, -7, -6, 2, 3]).unwrap().output(), [-5, 3]);

    let mut b = GraphBuilder::new("mean", TensorType::signed([1, 2, 2], 8, 0));
    let x = b.input();
    let y = b.avg_pool("mean", x, 2, 2).unwrap();
    let model = Model::new(b.finish(y).unwrap(), Weights::default()).unwrap();
    // -1.5 rounds half up to -1
    assert_eq!(execute::run(&model, &[-1, -2, -1, -2]).unwrap().output(), &[-1]);
}

#[test]
fn subsampling_keeps_every_stride_th_pixel_between_channels_of_zeros() {
    let mut b = GraphBuilder::new("shortcut", TensorType::signed([2, 3, 3], 8, 0));
    let x = b.input();
    let y = b.subsample("shortcut", x, Subsample { stride: 2, before: 1, after: 2 }).unwrap();
    assert_eq!(b.type_of(y).shape, [5, 2, 2]);
    let model = Model::new(b.finish(y).unwrap(), Weights::default()).unwrap();
    let input: Vec<i64> = (1..=18).collect();
    let expected = [[0; 4], [1, 3, 7, 9], [10, 12, 16, 18], [0; 4], [0; 4]].concat();
    assert_eq!(execute::run(&model, &input).unwrap().output(), expected);

    for how in
        [Subsample { stride: 0, before: 0, after: 0 }, Subsample { stride: 1, before: usize::MAX, after: 1 }]
    {
        let mut b = GraphBuilder::new("shortcut", TensorType::signed([1, 2, 2], 8, 0));
        let x = b.input();
        assert!(b.subsample("shortcut", x, how).unwrap_err().to_string().contains("shortcut"));
    }
}

#[test]
fn files_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let model = small();
    file::save(&model, folder.path()).unwrap();
    let again = file::load(folder.path()).unwrap();
    assert_eq!(again.graph, model.graph);
    assert_eq!(again.weights, model.weights);
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing but the two files: {names:?}");
}

#[test]
fn damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    file::save(&small(), folder.path()).unwrap();
    for name in [file::GRAPH_FILE, file::WEIGHTS_FILE] {
        let path = folder.path().join(name);
        let whole = std::fs::read(&path).unwrap();
        for keep in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..keep]).unwrap();
            let error = file::load(folder.path()).unwrap_err().to_string();
            assert!(error.contains(name), "{keep}: {error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(file::load(folder.path()), Err(ModelError::Io { .. })));
        std::fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn weights_beyond_their_claims_are_refused() {
    let model = small();
    let mut too_wide = model.weights.clone();
    too_wide.insert("point", LayerWeights { weight: vec![8, 0, 0, 0], bias: Bias::per_channel(vec![0, 0]) });
    assert!(
        Model::new(model.graph.clone(), too_wide).unwrap_err().to_string().contains("8 does not fit 4 bits")
    );
    let mut biased = model.weights.clone();
    biased.insert("point", LayerWeights { weight: vec![7; 4], bias: Bias::per_channel(vec![100_000, 0]) });
    assert!(Model::new(model.graph.clone(), biased).unwrap_err().to_string().contains("above the declared"));
    let mut short = model.weights.clone();
    short.insert("point", LayerWeights { weight: vec![1; 3], bias: Bias::per_channel(vec![0, 0]) });
    assert!(
        Model::new(model.graph.clone(), short).unwrap_err().to_string().contains("3 weights, 2 x 2 expected")
    );
}

#[test]
fn ternary_weights_are_three_values_and_halve_the_accumulator() {
    let graph = |ternary: bool, weight_bits: u32| {
        let mut b = GraphBuilder::new("ternary", TensorType::unsigned([1, 4, 4], 4, -4));
        let mut spec = conv(1, 3, 1);
        spec.linear = LinearSpec { ternary, ..layer(weight_bits, 0) };
        let y = b.conv("conv", b.input(), spec)?;
        b.finish(y)
    };
    let bound = |graph: &Graph| graph.nodes[1].op.linear().unwrap().acc_bound;
    let (plain, ternary) = (graph(false, 2).unwrap(), graph(true, 2).unwrap());
    assert_eq!((bound(&plain), bound(&ternary)), (9 * 2 * 15, 9 * 15));
    assert!(graph(true, 3).unwrap_err().to_string().contains("ternary weights have 2 bits"));

    let weights = |w: i32| {
        let mut all = Weights::default();
        all.insert("conv", LayerWeights { weight: vec![w; 9], bias: Bias::per_channel(vec![0]) });
        all
    };
    Model::new(plain.clone(), weights(-2)).unwrap();
    let error = Model::new(ternary.clone(), weights(-2)).unwrap_err().to_string();
    assert!(error.contains("-2 is not one of the ternary weights"), "{error}");
    let model = Model::new(ternary.clone(), weights(-1)).unwrap();
    assert_eq!(execute::run(&model, &[15; 16]).unwrap().output()[5], -135);

    let text = file::graph_to_json(&ternary).unwrap();
    assert!(text.contains("\"ternary\": true"));
    assert_eq!(file::graph_from_json(&text).unwrap(), ternary);
    assert!(!file::graph_to_json(&plain).unwrap().contains("\"ternary\":"), "as before there were any");
}

#[test]
fn bounds_on_kernels_are_public_and_kept() {
    let mut model = small();
    let bound = |model: &mut Model, text: &str| {
        let Op::Conv(conv) = &mut model.graph.nodes[1].op else { panic!("the first layer is a convolution") };
        conv.kernel_bounds = vec![text.parse().unwrap()];
        Model::new(model.graph.clone(), model.weights.clone()).map_err(|e| e.to_string())
    };
    // The first kernel is -3..=3, -3, -2, the second -1..=3, -3..=0: the middle rows sum to 3 and -2.
    bound(&mut model, "0 0 0 1 1 1 0 0 0: -2..=3").unwrap();
    let text = file::graph_to_json(&model.graph).unwrap();
    assert!(text.contains("0 0 0 1 1 1 0 0 0: -2..=3"));
    assert_eq!(file::graph_from_json(&text).unwrap(), model.graph);
    let error = bound(&mut model, "0 0 0 1 1 1 0 0 0: -2..=2").unwrap_err();
    assert!(error.contains("breaks the bound"), "{error}");
    // Four bits: the middle row is -24..=21 at most. Nor are there other kernels than 3x3.
    for unsound in ["0 0 0 1 1 1 0 0 0: -25..=3", "0 0 0 1 1 1 0 0 0: 3..=2", "1 1 1: 0..=3"] {
        let error = bound(&mut model, unsound).unwrap_err();
        assert!(error.contains(unsound), "{error}");
    }
    for broken in ["", "1 1: 3", "1 x: 0..=3", "1: 0..3"] {
        assert!(broken.parse::<copriv_model::KernelBound>().is_err(), "{broken}");
    }
}

#[test]
fn graphs_that_lie_about_types_are_refused() {
    let graph = small().graph;
    let broken = |change: &dyn Fn(&mut Graph)| {
        let mut g = graph.clone();
        change(&mut g);
        g.validate().unwrap_err().to_string()
    };
    assert!(broken(&|g| g.nodes[1].output.shape = [2, 5, 4]).contains("conv"));
    assert!(broken(&|g| g.nodes[3].inputs = vec![7]).contains("behind its user"));
    assert!(broken(&|g| g.nodes[2].name = "conv".into()).contains("twice"));
    assert!(broken(&|g| g.nodes.clear()).contains("empty"));
    assert!(broken(&|g| g.output = 99).contains("output"));
    assert!(broken(&|g| g.output = 3).contains("nothing reads"));
    assert!(
        broken(&|g| {
            if let Op::Conv(c) = &mut g.nodes[1].op {
                c.stride = 0;
            }
        })
        .contains("stride 0")
    );
    assert!(
        broken(&|g| {
            if let Op::Conv(c) = &mut g.nodes[1].op {
                c.linear.acc_bits -= 1;
            }
        })
        .contains("need")
    );
}

#[test]
fn images_are_centred_and_normalised() {
    let mut graph = small().graph;
    graph.preprocess.std = vec![0.5];
    // one pixel of 255 in the middle of the 4x4 input: 1.0 / 0.5 = 2.0 -> saturates at 15/16
    let q = graph.quantise_image(&[255], 1, 1).unwrap();
    assert_eq!(q.iter().sum::<i64>(), 15);
    assert_eq!(q[5], 15);
    assert!(graph.quantise_image(&[0; 25], 5, 5).unwrap_err().to_string().contains("at most 4x4"));
}
