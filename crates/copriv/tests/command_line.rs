//! The command as its users meet it: real processes, and one clear line for everything that
//! can be wrong with the input.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use assert_cmd::cargo::CommandCargoExt;
use copriv_infer2pc::Terms;
use copriv_model::{
    Bias, ConvSpec, GraphBuilder, LayerWeights, LinearSpec, Model, TensorType, Weights, execute, file,
};
use copriv_plan::Flavour;
use copriv_train::net::{Bias as FloatBias, Conv, Graph, Node, Op};
use copriv_train::{Checkpoint, Stage, data};

fn copriv() -> Command {
    Command::cargo_bin("copriv").unwrap()
}

/// Runs to the end; `(exit code, stdout, stderr)`.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = copriv().args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// Fails with one line that contains all of these.
fn fails(args: &[&str], parts: &[&str]) {
    let (code, _, stderr) = run(args);
    assert_ne!(code, 0, "{args:?} succeeded");
    let line =
        stderr.lines().find(|l| l.starts_with("error:")).unwrap_or_else(|| panic!("{args:?}: {stderr}"));
    for part in parts {
        assert!(line.contains(part), "{args:?}: `{part}` is not in `{line}`");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// An untrained model for 28x28 grey images, saved in `folder`.
fn save_model(folder: &Path) -> Model {
    let linear = |bits| LinearSpec {
        weight_bits: bits,
        ternary: false,
        weight_scale_log2: -3,
        channel_shifts: vec![],
        bias_bits: 4,
        acc_bound: None,
    };
    let mut b = GraphBuilder::new("tests", TensorType::unsigned([1, 32, 32], 8, -8));
    let x = b.input();
    let spec = ConvSpec { out_channels: 2, kernel: 3, stride: 2, pad: 1, groups: 1, linear: linear(4) };
    let y = b.conv("stem", x, spec).unwrap();
    let y = b.relu("relu", y).unwrap();
    let y = b.requant("requant", y, 5, 6, false, true).unwrap();
    let y = b.avg_pool("pool", y, 16, 16).unwrap();
    let y = b.flatten("flatten", y).unwrap();
    let y = b.linear("logits", y, 10, linear(5)).unwrap();
    let mut weights = Weights::default();
    let layer = |n: i32, k: usize| LayerWeights {
        weight: (0..n).map(|i| i * 5 % 15 - 7).collect(),
        bias: Bias::per_channel((0..k as i64).collect()),
    };
    weights.insert("stem", layer(18, 2));
    weights.insert("logits", layer(20, 10));
    let model = Model::new(b.finish(y).unwrap(), weights).unwrap();
    file::save(&model, folder).unwrap();
    model
}

/// `copriv serve`, ended when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(model: &Path) -> Self {
        let mut child = copriv()
            .arg("serve")
            .arg(model)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn private_eval_equals_the_executor_and_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    save_model(&model);
    let model = model.to_str().unwrap();
    let json = folder.path().join("report.json");
    let html = folder.path().join("report.html");
    for (reveal, widths) in [("logits", "weights"), ("class", "worst-case"), ("top5", "worst-case")] {
        let (json, html) = (json.to_str().unwrap(), html.to_str().unwrap());
        let args = ["private-eval", model, "--images", "3", "--reveal", reveal, "--tile-widths", widths]
            .into_iter()
            .chain(["--json", json, "--html", html, "--memory", "200M"])
            .collect::<Vec<_>>();
        let (code, stdout, stderr) = run(&args);
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains("online MB"), "{stdout}");
    }
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["images"], 3);
    assert_eq!(report["mismatched_logits"], 0);
    assert_eq!(report["as_planned"], true);
    let sum = |phase: &str| -> u64 {
        let layers = report["layers"].as_array().unwrap();
        layers.iter().map(|l| l[phase]["up"].as_u64().unwrap() + l[phase]["down"].as_u64().unwrap()).sum()
    };
    for phase in ["offline", "online"] {
        assert!(sum(phase) > 0);
        assert_eq!(report["bytes"][phase].as_u64().unwrap(), sum(phase), "{phase}");
        assert!(report["rounds"][phase].as_u64().unwrap() > 0);
    }
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("<svg") && page.contains("stem"));
}

#[test]
fn explain_adds_up_to_what_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    save_model(folder.path());
    let model = folder.path().to_str().unwrap();
    let json = |args: &[&str]| -> serde_json::Value {
        let (code, stdout, stderr) = run(args);
        assert_eq!(code, 0, "{stderr}");
        serde_json::from_str(&stdout).unwrap()
    };
    let steps = json(&["explain", model, "--ot", "iknp", "--json", "-"]);
    let report = json(&["private-eval", model, "--images", "1", "--ot", "iknp", "--json", "-"]);
    for phase in ["offline", "online"] {
        let bytes = |s: &serde_json::Value| s[format!("{phase}_bytes")].as_u64().unwrap();
        let sum: u64 = steps.as_array().unwrap().iter().map(bytes).sum();
        assert_eq!(sum, report["bytes"][phase].as_u64().unwrap(), "{phase}");
    }
    let (_, stdout, _) = run(&["explain", model]);
    assert!(stdout.contains("ReLU") && stdout.contains("saturate to 0..=63"), "{stdout}");
}

#[test]
fn the_papers_tables_are_reproduced_as_json() {
    let (code, stdout, stderr) = run(&["reproduce", "tables", "--json", "-"]);
    assert_eq!(code, 0, "{stderr}");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&stdout).unwrap();
    let regular = rows.iter().find(|r| r["table"] == "CoPriv table 3" && r["row"] == "regular").unwrap();
    assert_eq!((&regular["unit"], &regular["paper"]), (&"GiB".into(), &23.74.into()));
    assert!((regular["ours"].as_f64().unwrap() / 23.74 - 1.0).abs() < 0.01, "{regular}");
    assert!(rows.iter().all(|r| r["ours"].is_number() || r["note"].is_string()));
}

#[test]
fn an_image_file_is_classified_as_the_executor_does() {
    let folder = tempfile::tempdir().unwrap();
    let model = save_model(folder.path());
    let path = folder.path().join("image.png");
    let picture = image::GrayImage::from_fn(28, 28, |x, y| image::Luma([((x * 9) ^ (y * 7)) as u8]));
    picture.save(&path).unwrap();
    let server = Server::start(folder.path());
    let (code, stdout, stderr) =
        run(&["query", "--connect", &server.address, path.to_str().unwrap(), "--json", "-"]);
    assert_eq!(code, 0, "{stderr}");
    let line: serde_json::Value = serde_json::from_str(stdout.lines().next().unwrap()).unwrap();
    let got: Vec<i64> = line["output"].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
    let input = model.graph.quantise_image(picture.as_raw(), 28, 28).unwrap();
    assert_eq!(got, execute::run(&model, &input).unwrap().output());

    // The same server, afterwards: an image that is too large, and a file that is none.
    let large = folder.path().join("large.png");
    image::GrayImage::new(40, 33).save(&large).unwrap();
    let large = large.to_str().unwrap();
    fails(&["query", "--connect", &server.address, large], &["large.png", "33x40", "at most 32x32"]);
    let text = folder.path().join(file::GRAPH_FILE);
    fails(
        &["query", "--connect", &server.address, text.to_str().unwrap()],
        &["model.json", "no readable image"],
    );
}

#[test]
fn missing_and_damaged_models_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().to_str().unwrap();
    fails(&["private-eval", model], &["model.json", "No such file"]);
    fails(&["serve", model, "--listen", "127.0.0.1:0"], &["model.json", "No such file"]);
    save_model(folder.path());
    let weights = folder.path().join(file::WEIGHTS_FILE);
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    fails(&["private-eval", model], &["weights.safetensors", "export"]);
    fails(&["plan", "resnet20", "--bits", "W4A6", "--tile-widths", "weights"], &["resnet20", "folder"]);
}

#[test]
fn memory_that_is_none_or_too_small_is_said() {
    let folder = tempfile::tempdir().unwrap();
    save_model(folder.path());
    let model = folder.path().to_str().unwrap();
    for bad in ["much", "5X", "-1", "99999999999999999999", "20000000000G"] {
        fails(&["plan", model, "--run", "1", &format!("--memory={bad}")], &[bad, "512M"]);
    }
    let small = ["plan", model, "--run", "1", "--memory", "1K"];
    fails(&small, &["1 kB is too small", "layer `", "needs"]);
    // Either party may be the first to say it.
    let (code, _, stderr) = run(&["private-eval", model, "--images", "1", "--memory", "1K"]);
    assert!(code != 0 && stderr.contains("1 kB is too small"), "{stderr}");
}

#[test]
fn unknown_names_list_the_known_ones() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    fails(&["train", "--arch", "resnet-9000", "--out", out.to_str().unwrap()], &["resnet-9000", "mbv2-tiny"]);
    assert!(!out.exists());
    fails(&["train", "--dataset", "imagenot"], &["imagenot", "fashion-mini"]);
    fails(&["train", "--dataset", "cifar100", "--data-dir", "/nowhere"], &["cifar100", "/nowhere"]);
}

#[test]
fn a_truncated_checkpoint_is_named_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.safetensors");
    std::fs::write(&path, [0u8; 9]).unwrap();
    let out = folder.path().join("out");
    let (path, out_arg) = (path.to_str().unwrap(), out.to_str().unwrap());
    fails(&["prune", path, "--out", out_arg], &["cut.safetensors"]);
    fails(&["export", path, "--out", out_arg], &["cut.safetensors"]);
    fails(&["export", "/nowhere.safetensors", "--out", out_arg], &["/nowhere.safetensors", "No such file"]);
    assert!(!out.exists());
}

/// An untrained chain of three convolutions and a classifier for the embedded images.
fn save_chain(path: &Path) {
    let data = data::load(data::EMBEDDED, Path::new("data")).unwrap();
    let mut nodes =
        vec![Node { name: "input".into(), op: Op::Input { shape: data.shape() }, inputs: vec![] }];
    let mut push = |name: String, op| {
        let inputs = vec![nodes.len() - 1];
        nodes.push(Node { name, op, inputs });
    };
    for (i, (in_channels, out_channels)) in [(1, 4), (4, 8), (8, 8)].into_iter().enumerate() {
        let conv = Conv {
            in_channels,
            out_channels,
            kernel: 3,
            stride: 2,
            pad: 1,
            groups: 1,
            norm: false,
            bias: FloatBias::Channel,
        };
        push(format!("conv{i}"), Op::Conv(conv));
        push(format!("conv{i}.relu"), Op::Relu { gate: None });
    }
    push("pool".into(), Op::GlobalAvgPool);
    push("logits".into(), Op::Linear { in_features: 8, out_features: data.classes.len() });
    let graph = Graph { arch: "chain".into(), nodes, blocks: vec![] };
    let checkpoint = Checkpoint {
        stage: Stage::Float,
        weights: copriv_train::net::Weights::init(&graph, 3),
        graph,
        quant: None,
        dataset: data.name,
        classes: data.classes,
        pixels: data.pixels,
    };
    checkpoint.save(path).unwrap();
}

#[test]
fn chosen_widths_keep_within_the_limit_once_exported() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    save_chain(&folder.path().join("float.safetensors"));
    let (float, toml, json, model) =
        (path("float.safetensors"), path("bits.toml"), path("bits.json"), path("model"));
    let curvature = path("curvature.json");
    let choose = |limit: &str| {
        let args = ["bits", &float, "--comm-limit", limit, "--probes", "2", "--images", "16"];
        let files = ["--ot", "iknp", "--out", &toml, "--json", &json, "--curvature", &curvature];
        let all: Vec<&str> = args.into_iter().chain(files).collect();
        run(&all)
    };
    let (code, stdout, stderr) = choose("1GB");
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stderr.contains("curvature along weights"), "{stderr}");
    let outcome =
        || serde_json::from_str::<serde_json::Value>(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let planned = |outcome: &serde_json::Value| outcome["choice"]["planned"].as_u64().unwrap();
    let widths = |outcome: &serde_json::Value| -> Vec<u64> {
        let layers = outcome["layers"].as_array().unwrap().iter();
        layers.map(|l| l["chosen"]["weights"].as_u64().unwrap()).collect()
    };
    let widest = outcome();
    assert_eq!(widths(&widest), [8; 4]);
    let limit = planned(&widest) * 97 / 100;
    let (code, stdout, stderr) = choose(&limit.to_string());
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(!stderr.contains("curvature"), "kept from before: {stderr}");
    let outcome = outcome();
    assert!(planned(&outcome) <= limit && planned(&outcome) > limit * 9 / 10, "{outcome}");

    let (code, _, stderr) = run(&["export", &float, "--bits", &toml, "--epochs", "0", "--out", &model]);
    assert_eq!(code, 0, "{stderr}");
    let graph = file::load_graph(Path::new(&model)).unwrap();
    let exported = graph.nodes.iter().filter_map(|n| Some(u64::from(n.op.linear()?.weight_bits)));
    assert_eq!(exported.collect::<Vec<_>>(), widths(&outcome));
    assert_ne!(widths(&outcome), [8; 4]);
    let terms = Terms { flavour: Some(Flavour::Iknp), ..Terms::default() };
    let bytes = terms.plan(&graph, 1000).unwrap().predict_session(32).total_bytes() / 32;
    assert_eq!(bytes, planned(&outcome), "the exported model's plan");

    let limit = ["bits", &float, "--probes", "1", "--images", "8", "--out", &toml, "--comm-limit"];
    let fails_reusing = |expected: &[&str]| {
        let args = limit.iter().copied().chain(["1GB", "--curvature", &curvature]);
        fails(&args.collect::<Vec<_>>(), expected);
    };
    fails_reusing(&["curvature.json", "--images 16 --probes 2"]);
    let kept = std::fs::read_to_string(&curvature).unwrap();
    std::fs::write(&curvature, kept.replacen("\"network\": \"", "\"network\": \"0", 1)).unwrap();
    fails_reusing(&["curvature.json", "another network"]);
    std::fs::write(&curvature, &kept[..kept.len() / 2]).unwrap();
    fails_reusing(&["curvature.json", "not a file of"]);
    fails(
        &limit.iter().copied().chain(["1kB", "--ot", "iknp"]).collect::<Vec<_>>(),
        &["1000 bytes", "narrowest"],
    );
    fails(&["export", &float, "--bits", &float, "--out", &model], &["float.safetensors"]);
}

#[test]
fn check_names_the_layer_that_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    save_chain(&folder.path().join("float.safetensors"));
    let (float, model) = (path("float.safetensors"), path("model"));
    let (code, _, stderr) = run(&["export", &float, "--epochs", "0", "--out", &model]);
    assert_eq!(code, 0, "{stderr}");
    let check = ["check", &model, "--images", "2", "--test-images", "100"];
    let (code, stdout, stderr) = run(&check);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("integer 100 (100.00 %)") && stdout.contains("no value differs"), "{stdout}");
    assert!(stdout.contains("values of 2 images are equal"), "{stdout}");

    let mut changed = file::load(Path::new(&model)).unwrap();
    let mut layer = changed.weights.layer("conv1").unwrap().clone();
    layer.weight[5] ^= 1;
    changed.weights.insert("conv1", layer);
    file::save(&changed, Path::new(&model)).unwrap();
    fails(&check, &["conv1", "nothing explains"]);
}

#[test]
fn the_progressive_recipe_is_stopped_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    save_chain(&folder.path().join("float.safetensors"));
    let (float, model, json) = (path("float.safetensors"), path("model"), path("model.json"));
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes/quantise/progressive.toml");
    let start = ["quantize", &float, "--recipe", recipe, "--weight-bits", "ternary", "--out", &model];
    let stop: Vec<&str> = start.into_iter().chain(["--max-minutes", "0.005"]).collect();
    let (code, _, stderr) = run(&stop);
    assert_eq!(code, 3, "{stderr}");
    let (code, stdout, stderr) = run(&["quantize", "--resume", &model, "--json", &json]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("conv1.relu.requant") && stdout.contains("saturates"), "{stdout}");
    let stages = std::fs::read_to_string(folder.path().join("model/metrics.csv")).unwrap();
    for stage in ["qat-1,1", "qat-2,1", "qat-3,2", "qat-4,3", "qat,4"] {
        assert!(stages.lines().any(|l| l.starts_with(stage)), "{stage}: {stages}");
    }
    let graph = file::load_graph(Path::new(&model)).unwrap();
    let ternary: Vec<bool> = graph.nodes.iter().filter_map(|n| Some(n.op.linear()?.ternary)).collect();
    assert_eq!(ternary, [false, true, true, false]);
    let outcome: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(outcome["fake_quant"], outcome["integer"]);
    let proofs = outcome["requantisations"].as_array().unwrap();
    assert_eq!(proofs.len(), 3);
    assert!(proofs.iter().all(|p| p["bytes"].as_u64() > Some(0)), "{proofs:?}");
    let (code, stdout, stderr) = run(&["check", &model, "--test-images", "50"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    fails(&["quantize", &float, "--recipe", &float], &["float.safetensors"]);
    fails(&["quantize", &float, "--weight-bits", "nine"], &["nine", "ternary"]);
}

#[test]
fn a_port_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    save_model(folder.path());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails(&["serve", folder.path().to_str().unwrap(), "--listen", &address], &[&address, "in use"]);
}

#[test]
fn a_server_that_is_not_there_or_goes_away_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let hang_up = std::thread::spawn(move || {
        let (mut stream, _) = taken.accept().unwrap();
        stream.write_all(&[7, 0, 0, 0]).unwrap();
        // Dropped: the connection closes inside the model description.
    });
    fails(&["query", "--connect", &address], &["closed the connection"]);
    hang_up.join().unwrap();
    fails(&["query", "--connect", &address], &["no server answers", &address]);
}

#[test]
fn a_server_outlives_clients_that_go_away() {
    let folder = tempfile::tempdir().unwrap();
    save_model(folder.path());
    let server = Server::start(folder.path());
    for bytes in [&b""[..], b"copriv01", b"nonsense nonsense", b"copriv01\x00\x03\x01\x00\x00\x00"] {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(bytes).unwrap();
    }
    let (code, stdout, stderr) = run(&["query", "--connect", &server.address]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("image 0"), "{stdout}");
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in
        ["demo", "train", "prune", "bits", "export", "check", "private-eval", "explain", "serve", "query"]
    {
        let (code, stdout, _) = run(&[command, "--help"]);
        assert_eq!(code, 0);
        assert!(stdout.contains("Example: copriv"), "{command}: {stdout}");
    }
}
