//! Images a second of a whole training step (forward, backward, update; batch 64, 32x32), processor
//! seconds a step and peak memory, with PyTorch (NCHW, as many threads) beside it in the same run.
//! On a busy machine compare processor seconds; PyTorch's threads spin while they wait for another,
//! so pin it to one (`COPRIV_BENCH_THREADS=1`, for both).
//!
//! PyTorch is looked for in the Python that `COPRIV_PYTHON` names, else in `python3`; without it the
//! bench says so and goes on. `experiments/bench/torch_bench.py` has the same networks.
//!
//! `COPRIV_BENCH_DEVICE` names a GPU to measure instead (PyTorch then takes `cuda`, and memory is not
//! compared), `COPRIV_BENCH_STEPS=30,50` steps before the clock runs and steps that are timed: a GPU's
//! kernels are chosen at their first use. `experiments/gpu/check.sh` sets both. On a GPU this program is also
//! measured in mixed precision, beside its own single precision.
//!
//! ```text
//! python3 -m venv /tmp/torch && /tmp/torch/bin/pip install torch numpy
//! COPRIV_PYTHON=/tmp/torch/bin/python cargo bench -p copriv-train
//! ```

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use std::{env, fs, thread};

use copriv_bench::Results;
use copriv_train::data::{Augment, Dataset, Images, PixelScale, gather};
use copriv_train::fit::Learner;
use copriv_train::{Precision, Processor, Recipe, untrained};
use serde::Deserialize;
use serde_json::json;

const ARCHS: [&str; 2] = ["resnet32", "mbv2-w0.75"];
const BATCH: usize = 64;
/// Steps before the clock runs, and steps that are timed.
const STEPS: &str = "2,6";
/// Both sides take turns, so that other work on the machine meets both.
const ROUNDS: usize = 3;
const TORCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/bench/torch_bench.py");

/// What one process measured.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Measured {
    parameters: usize,
    /// Median over the steps.
    images_per_second: f64,
    /// Processor seconds a step, mean over the steps.
    cpu_seconds: f64,
    peak_mib: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    // A process of its own for each network: peak memory is a process's.
    if let Ok(arch) = env::var("COPRIV_BENCH_ARCH") {
        let mixed = env::var_os("COPRIV_BENCH_MIXED").is_some();
        return measure(&arch, if mixed { Precision::Mixed } else { Precision::Single });
    }
    let threads = match env::var("COPRIV_BENCH_THREADS") {
        Ok(threads) => threads.parse()?,
        Err(_) => thread::available_parallelism()?.get(),
    };
    let python = env::var("COPRIV_PYTHON").unwrap_or_else(|_| "python3".into());
    let torch = Command::new(&python).args(["-c", "import torch"]).output().is_ok_and(|o| o.status.success());
    if !torch {
        println!("no PyTorch in `{python}`: only this program is measured (name another in COPRIV_PYTHON)");
    }
    let [warm, timed] = steps()?.map(|n| n.to_string());
    let device = device()?;
    let on_cpu = device == Processor::Cpu;
    let torch_device = if on_cpu { "cpu" } else { "cuda" };
    let mut results = Results::default();
    for arch in ARCHS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let threads = threads.to_string();
            let mut own = Command::new(env::current_exe()?);
            ours.push(run(own.env("COPRIV_BENCH_ARCH", arch).env("RAYON_NUM_THREADS", &threads))?);
            if torch {
                let args = [TORCH, arch, &threads, &warm, &timed, torch_device];
                theirs.push(run(Command::new(&python).args(args))?);
            }
        }
        let mut mixed = Vec::new();
        if !on_cpu {
            for _ in 0..ROUNDS {
                let mut own = Command::new(env::current_exe()?);
                mixed.push(run(own.env("COPRIV_BENCH_ARCH", arch).env("COPRIV_BENCH_MIXED", "1"))?);
            }
        }
        let params = |by: &str| {
            [
                ("network", json!(arch)),
                ("by", json!(by)),
                ("device", json!(device)),
                ("threads", json!(threads)),
            ]
        };
        let best = |all: &[Measured]| all.iter().map(|m| m.images_per_second).fold(0.0, f64::max);
        let cpu = |all: &[Measured]| all.iter().map(|m| m.cpu_seconds).fold(f64::INFINITY, f64::min);
        let peak = |all: &[Measured]| all.iter().map(|m| m.peak_mib).fold(0.0, f64::max);
        for (by, all) in [("copriv", &ours), ("copriv, mixed", &mixed), ("torch", &theirs)] {
            if !all.is_empty() {
                results.push("training", &params(by), best(all), "images/s");
                results.push("processor time", &params(by), cpu(all), "s/step");
                if on_cpu {
                    results.push("peak memory", &params(by), peak(all), "MiB");
                }
            }
        }
        if let (Some(a), Some(b)) = (ours.first(), theirs.first()) {
            if a.parameters != b.parameters {
                return Err(
                    format!("{arch}: {} parameters here, {} there", a.parameters, b.parameters).into()
                );
            }
            results.push("training, ratio", &params("copriv / torch"), best(&ours) / best(&theirs), "x");
            results.push("processor time, ratio", &params("torch / copriv"), cpu(&theirs) / cpu(&ours), "x");
            if on_cpu {
                results.push("memory, ratio", &params("copriv / torch"), peak(&ours) / peak(&theirs), "x");
            }
        }
    }
    results.finish("training")?;
    Ok(())
}

fn run(command: &mut Command) -> Result<Measured, Box<dyn Error>> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn steps() -> Result<[usize; 2], Box<dyn Error>> {
    let text = env::var("COPRIV_BENCH_STEPS").unwrap_or_else(|_| STEPS.into());
    let (warm, timed) = text.split_once(',').ok_or("COPRIV_BENCH_STEPS is WARM_UP,TIMED")?;
    Ok([warm.parse()?, timed.parse()?])
}

fn device() -> Result<Processor, Box<dyn Error>> {
    Ok(env::var("COPRIV_BENCH_DEVICE").unwrap_or_else(|_| "cpu".into()).parse()?)
}

/// Prints a [`Measured`] of this process.
fn measure(arch: &str, precision: Precision) -> Result<(), Box<dyn Error>> {
    let data = noise();
    let start = untrained(arch, &data, 1)?;
    let recipe = Recipe { precision, ..Recipe::default() };
    let mut learner = Learner::new(&start, None, &recipe, &device()?.open()?)?;
    let indices: Vec<usize> = (0..BATCH).collect();
    let batch = gather(&data.train, &indices, data.pixels, Augment::NONE, 0)?;
    let mut seconds = Vec::new();
    let mut cpu = 0.0;
    let [warm, timed] = steps()?;
    for step in 0..warm + timed {
        if step == warm {
            cpu = cpu_seconds();
        }
        let began = Instant::now();
        let outcome = learner.step(0.01, &batch);
        let loss: f32 = outcome.loss.into_scalar();
        if !loss.is_finite() {
            return Err("the loss is not finite".into());
        }
        if step >= warm {
            seconds.push(began.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    let measured = json!({
        "parameters": start.weights.parameters(),
        "images_per_second": BATCH as f64 / seconds[seconds.len() / 2],
        "cpu_seconds": (cpu_seconds() - cpu) / timed as f64,
        "peak_mib": peak_mib(),
    });
    println!("{measured}");
    Ok(())
}

/// Processor time of this process so far, with that of the system for it; 0 where the system does not
/// tell.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, in hundredths; the second is the program's name in parentheses.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Peak resident memory of this process; 0 where the system does not tell.
fn peak_mib() -> f64 {
    let status = fs::read_to_string(Path::new("/proc/self/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// A batch of 32x32 images in ten classes.
fn noise() -> Dataset {
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let images = Images {
        channels: 3,
        side: 32,
        pixels: (0..BATCH * 3 * 32 * 32).map(|_| byte()).collect::<Vec<u8>>().into(),
        labels: (0..BATCH).map(|i| (i % 10) as u16).collect(),
    };
    Dataset {
        name: "noise".into(),
        classes: (0..10).map(|c| c.to_string()).collect(),
        pixels: PixelScale { offset: 128, scale_log2: -6 },
        train: images.clone(),
        validation: images.clone(),
        test: images,
    }
}
