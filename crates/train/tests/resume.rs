//! A run that is killed and gone on with equals one that never stopped, bit for bit.
//!
//! Each run is a process of its own, this test binary with another purpose, which the test kills
//! (SIGKILL) at a step of its choice.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use copriv_train::data::{self, Dataset};
use copriv_train::fit::{Advance, State};
use copriv_train::net::Array;
use copriv_train::quant::{ScaleLearning, WeightWidth};
use copriv_train::{
    Checkpoint, ExportConfig, Metrics, Progress, PruneConfig, PrunedBlock, QuantConfig, QuantStage, Recipe,
    RunFolder, TrainConfig, TrainError, export, prune, snl, train, untrained,
};

/// Names the folder of a run, in the process that is to run it.
const FOLDER: &str = "COPRIV_TEST_RUN";
/// What to run there: `train`, `prune`, `snl` or `export`.
const WHAT: &str = "COPRIV_TEST_WHAT";
/// Step after which the run stops by itself and keeps its state; none for a whole run.
const STOP: &str = "COPRIV_TEST_STOP";

/// Steps an epoch: 160 images in batches of 64.
const STEPS: usize = 3;

fn images() -> Dataset {
    let data = data::load(data::EMBEDDED, Path::new("data")).unwrap();
    Dataset { train: data.train.sample(160), validation: data.validation.sample(50), ..data }
}

fn recipe(epochs: usize) -> Recipe {
    Recipe { epochs, batch: 64, ema: 0.9, ..Recipe::default() }
}

/// Tells the test of each step, and stops where it was told to.
struct Reporter {
    steps: usize,
    stop: Option<usize>,
}

impl Progress for Reporter {
    fn advance(&mut self, _: &Advance) {
        self.steps += 1;
        println!("step");
        std::io::stdout().flush().unwrap();
    }

    fn interrupted(&self) -> bool {
        self.stop.is_some_and(|stop| self.steps >= stop)
    }
}

/// The process that runs; a test without purpose otherwise.
#[test]
fn run() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let stop = std::env::var(STOP).ok().map(|s| s.parse().unwrap());
    let mut reporter = Reporter { steps: 0, stop };
    let data = images();
    let fresh = !folder.join("args.toml").exists();
    let what = std::env::var(WHAT).unwrap();
    let outcome = if what == "export" {
        let start = untrained("mbv2-tiny", &data, 5).unwrap();
        let gentle = |epochs| Recipe { rate: 1e-3, ..recipe(epochs) };
        let config = ExportConfig {
            quant: QuantConfig { weight_bits: WeightWidth::Ternary, act_bits: 3, ..QuantConfig::default() },
            stages: vec![QuantStage { weight_bits: 4.into(), act_bits: 4, recipe: gentle(2) }],
            qat: gentle(2),
            scales: ScaleLearning { rate: 0.2, until: 0.9 },
            calibration: 32,
            seed: 5,
            ..ExportConfig::default()
        };
        let (mut run, config) = if fresh {
            (RunFolder::create(folder, &config, &mut reporter).unwrap(), config)
        } else {
            RunFolder::open(folder, &mut reporter).unwrap()
        };
        let data = Dataset { test: data.test.sample(20), ..data };
        export(&config, &start, &data, &mut run).map(|exported| {
            exported.checkpoint.save(&folder.join("quantised.safetensors")).unwrap();
        })
    } else if what == "train" {
        let config = TrainConfig { recipe: recipe(4), seed: 5, ..TrainConfig::default() };
        let (mut run, config) = if fresh {
            (RunFolder::create(folder, &config, &mut reporter).unwrap(), config)
        } else {
            RunFolder::open(folder, &mut reporter).unwrap()
        };
        train(&config, &data, &mut run).map(drop)
    } else {
        let start = untrained("mbv2-tiny", &data, 5).unwrap();
        let config =
            PruneConfig { search: recipe(3), finetune: recipe(1), seed: 5, ..PruneConfig::default() };
        let blocks = what == "prune";
        let (mut run, config) = if fresh {
            (RunFolder::create(folder, &config, &mut reporter).unwrap(), config)
        } else {
            RunFolder::open(folder, &mut reporter).unwrap()
        };
        let savings: Vec<f64> = (0..start.graph.blocks.len()).map(|i| 1.0 + i as f64).collect();
        if blocks {
            prune(&config, &start, &data, savings.as_slice().into(), &mut run).map(|pruned| {
                let blocks = serde_json::to_vec(&pruned.blocks).unwrap();
                fs::write(folder.join("blocks.json"), blocks).unwrap();
            })
        } else {
            snl(&config, &start, &data, &mut run).map(drop)
        }
    };
    match outcome {
        Ok(()) => assert!(stop.is_none(), "it was to be stopped"),
        Err(TrainError::Interrupted { .. }) => assert!(stop.is_some()),
        Err(error) => panic!("{error}"),
    }
}

fn spawn(folder: &Path, what: &str, stop: Option<usize>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "run", "--nocapture"]).env(FOLDER, folder).env(WHAT, what);
    if let Some(stop) = stop {
        command.env(STOP, stop.to_string());
    }
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// Runs to the end, or to the step `stop` after the start.
fn finish(folder: &Path, what: &str, stop: Option<usize>) {
    assert!(spawn(folder, what, stop).wait_with_output().unwrap().status.success());
}

/// Kills the run as soon as it has done `steps` steps.
fn kill_after(folder: &Path, what: &str, steps: usize) {
    let mut child = spawn(folder, what, None);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let seen = lines.map(|l| l.unwrap()).filter(|l| l.contains("step")).take(steps).count();
    assert_eq!(seen, steps, "the run ended too early");
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
}

fn state(folder: &Path, stage: &str) -> State {
    let mut state = State::load(&folder.join(format!("state-{stage}.safetensors"))).unwrap();
    state.position.seconds = 0.0;
    state
}

fn metrics(folder: &Path) -> Vec<Metrics> {
    let mut table = csv::Reader::from_path(folder.join("metrics.csv")).unwrap();
    table.deserialize().map(|row| Metrics { seconds: 0.0, ..row.unwrap() }).collect()
}

fn same_results(a: &Path, b: &Path) {
    for file in ["last.safetensors", "best.safetensors"] {
        assert_eq!(Checkpoint::load(&a.join(file)).unwrap(), Checkpoint::load(&b.join(file)).unwrap());
    }
    assert_eq!(metrics(a), metrics(b));
}

fn folders(dir: &tempfile::TempDir) -> [PathBuf; 2] {
    ["straight", "killed"].map(|name| dir.path().join(name))
}

#[test]
fn a_killed_training_goes_on_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let [straight, killed] = folders(&dir);
    // Two epochs and a step, killed: the step is lost. Then stopped in the middle of the last epoch.
    kill_after(&killed, "train", 2 * STEPS + 1);
    let position = state(&killed, "train").position;
    assert_eq!((position.epoch, position.step), (2, 0));
    finish(&killed, "train", Some(STEPS + 2));
    finish(&straight, "train", Some(3 * STEPS + 2));
    let (a, b) = (state(&straight, "train"), state(&killed, "train"));
    assert_eq!((a.position.epoch, a.position.step), (3, 2));
    assert!(a.moments[0].iter().count() > 10 && a.average.iter().count() > 10, "optimiser and average");
    assert_eq!(a, b);
    for folder in [&straight, &killed] {
        finish(folder, "train", None);
    }
    same_results(&straight, &killed);
    assert_eq!(metrics(&straight).len(), 4);
    // A run that is over says so again without a step.
    finish(&killed, "train", None);
    same_results(&straight, &killed);
}

#[test]
fn a_killed_pruning_goes_on_to_the_same_alphas() {
    let dir = tempfile::tempdir().unwrap();
    let [straight, killed] = folders(&dir);
    finish(&straight, "prune", None);
    // In the second epoch of the search, then in the finetuning.
    kill_after(&killed, "prune", STEPS + 2);
    kill_after(&killed, "prune", 2 * STEPS + 1);
    finish(&killed, "prune", None);
    let blocks = |folder: &Path| -> Vec<PrunedBlock> {
        serde_json::from_slice(&fs::read(folder.join("blocks.json")).unwrap()).unwrap()
    };
    let found = blocks(&straight);
    assert!(found.iter().any(|b| b.alpha != found[0].alpha), "the search did something: {found:?}");
    assert_eq!(found, blocks(&killed));
    assert_eq!(state(&straight, "search"), state(&killed, "search"));
    same_results(&straight, &killed);
}

#[test]
fn a_killed_quantisation_goes_on_with_its_scales() {
    let dir = tempfile::tempdir().unwrap();
    let [straight, killed] = folders(&dir);
    finish(&straight, "export", None);
    // In the second epoch at four bits, then in the middle of the last stage.
    kill_after(&killed, "export", STEPS + 2);
    finish(&killed, "export", Some(2 * STEPS + 1));
    let scales = state(&killed, "qat").scales;
    assert!(scales.iter().all(|part| part.iter().count() > 10));
    let moved = |(_, array): (&str, &Array)| array.data.iter().any(|t| t.fract() != 0.0);
    assert!(scales[0].iter().any(moved), "scales are learned");
    finish(&killed, "export", None);
    same_results(&straight, &killed);
    let quantised = |folder: &Path| Checkpoint::load(&folder.join("quantised.safetensors")).unwrap();
    assert!(quantised(&straight) == quantised(&killed));
    for stage in ["qat-1", "qat"] {
        let [a, b] = [&straight, &killed].map(|folder| state(folder, stage));
        assert!(a.weights == b.weights && a.scales == b.scales, "{stage}");
    }
}

#[test]
fn a_killed_search_of_masks_goes_on_to_the_same_coefficients() {
    let dir = tempfile::tempdir().unwrap();
    let [straight, killed] = folders(&dir);
    finish(&straight, "snl", None);
    kill_after(&killed, "snl", STEPS + 2);
    finish(&killed, "snl", Some(STEPS + 1));
    finish(&killed, "snl", None);
    let found = state(&straight, "search");
    let alpha = found.weights.iter().find(|(name, _)| name.ends_with(".alpha")).unwrap().1;
    assert!(alpha.data.iter().any(|a| *a != alpha.data[0]), "the search did something");
    let again = state(&killed, "search");
    assert!(found.weights == again.weights, "the coefficients differ");
    assert_eq!(format!("{:?}", found.position), format!("{:?}", again.position));
}
