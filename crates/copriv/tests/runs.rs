//! Runs that are killed, stopped, starved of disk or damaged, by real processes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// A few steps of the smallest network.
const TRAIN: &str = "train --seed 3 --epochs 3 --set images=128 --set recipe.ema=0.9";

fn copriv(dir: &Path) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("copriv"));
    command.current_dir(dir);
    command
}

fn run(dir: &Path, args: &str) -> Output {
    copriv(dir).args(args.split_whitespace()).output().unwrap()
}

fn finish(dir: &Path, args: &str) {
    let output = run(dir, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The last line of standard error of a run that ends with `status`.
fn failure(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

fn same(dir: &Path, a: &str, b: &str) {
    for file in ["last.safetensors", "best.safetensors"] {
        let [a, b] = [a, b].map(|run| fs::read(dir.join(run).join(file)).unwrap());
        assert!(a == b, "{file} differs");
    }
}

#[test]
fn a_killed_and_a_stopped_run_end_like_one_that_ran_through() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    finish(dir, &format!("{TRAIN} --out straight"));

    let mut child = copriv(dir).args(format!("{TRAIN} --out killed").split_whitespace()).spawn().unwrap();
    let state = dir.join("killed/state-train.safetensors");
    while !state.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    finish(dir, "train --resume killed");
    same(dir, "straight", "killed");

    let message = failure(&run(dir, &format!("{TRAIN} --out stopped --max-minutes 0")), 3);
    assert!(message.contains("--resume stopped"), "{message}");
    finish(dir, "train --resume stopped");
    same(dir, "straight", "stopped");
    for file in ["args.toml", "metrics.csv", "curves.svg"] {
        assert!(dir.join("stopped").join(file).exists(), "{file}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let args = "train --seed 3 --epochs 10000 --set images=128 --out run";
    let mut child = copriv(dir).args(args.split_whitespace()).spawn().unwrap();
    while !dir.join("run/state-train.safetensors").exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let message = failure(&run(dir, "train --resume run --max-minutes 0"), 3);
    assert!(message.contains("--resume run"), "{message}");
}

/// A limit on the size of files stands for a full disk: writing fails half-way.
#[cfg(unix)]
#[test]
fn a_full_disk_is_one_line_and_the_last_good_checkpoint_stays() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    finish(dir, "train --seed 3 --epochs 1 --set images=128 --out run");
    let good = fs::read(dir.join("run/last.safetensors")).unwrap();
    let binary = assert_cmd::cargo::cargo_bin!("copriv");
    let script = format!("trap '' XFSZ; ulimit -f 40; exec {} {TRAIN} --out run", binary.display());
    let output = Command::new("bash").args(["-c", &script]).current_dir(dir).output().unwrap();
    let message = failure(&output, 1);
    assert!(message.contains("run/last.safetensors") && message.contains("last good"), "{message}");
    assert_eq!(fs::read(dir.join("run/last.safetensors")).unwrap(), good);
    let left = fs::read_dir(dir.join("run")).unwrap().map(|e| e.unwrap().file_name());
    assert!(
        left.into_iter().all(|name| !name.to_string_lossy().starts_with('.')),
        "a temporary file is left"
    );
}

/// Writes CIFAR-10's layout with 20 records a file, labels from 0 on.
fn write_cifar(dir: &Path) {
    let folder = dir.join("data/cifar-10-batches-bin");
    fs::create_dir_all(&folder).unwrap();
    let names = (1..=5).map(|i| format!("data_batch_{i}.bin")).chain(["test_batch.bin".to_owned()]);
    for (i, name) in names.enumerate() {
        let record = |r: u32| {
            let pixels = (0..3072u32).map(move |p| (p.wrapping_mul(r + 7 * i as u32 + 1) % 251) as u8);
            std::iter::once((r % 10) as u8).chain(pixels)
        };
        fs::write(folder.join(name), (0..20).flat_map(record).collect::<Vec<u8>>()).unwrap();
    }
}

#[test]
fn bad_data_and_bad_losses_are_one_line_and_the_last_good_checkpoint_stays() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_cifar(dir);
    let train = "train --dataset cifar10 --arch mbv2-tiny --seed 3 --epochs 1 --batch 30 --out run";
    finish(dir, train);
    let [last, best] = ["last", "best"].map(|name| dir.join(format!("run/{name}.safetensors")));
    let good = [&last, &best].map(|path| fs::read(path).unwrap());
    let fails = |args: &str, parts: &[&str]| {
        let message = failure(&run(dir, args), 1);
        assert!(parts.iter().all(|part| message.contains(part)), "{parts:?} in: {message}");
        assert!(
            good == [&last, &best].map(|path| fs::read(path).unwrap()),
            "{args}: the checkpoints changed"
        );
    };
    fails(&format!("{train} --set recipe.rate=1e38"), &["diverged", "learning rate", "run/last.safetensors"]);

    let file = dir.join("data/cifar-10-batches-bin/data_batch_3.bin");
    let whole = fs::read(&file).unwrap();
    let mut stranger = whole.clone();
    stranger[2 * 3073] = 200;
    fs::write(&file, stranger).unwrap();
    fails(train, &["data_batch_3.bin", "record 2", "label 200", "10 classes"]);
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    fails(train, &["data_batch_3.bin", "truncated"]);
    fs::remove_file(&file).unwrap();
    fails(train, &["data_batch_3.bin", "--data-dir"]);
    fs::write(&file, &whole).unwrap();
    fs::remove_file(dir.join("data/cifar-10-batches-bin/test_batch.bin")).unwrap();
    fails(train, &["test_batch.bin"]);

    // A folder without its test split.
    fs::create_dir_all(dir.join("photos/train/cat")).unwrap();
    fs::create_dir_all(dir.join("photos/train/dog")).unwrap();
    let photos = "train --dataset folder-32 --data-dir photos --arch resnet18 --epochs 1 --out run";
    fails(photos, &["photos", "test split is missing"]);
    // A file that is no image.
    for name in ["train/cat/a.png", "train/dog/b.png", "val/dog/c.png"] {
        fs::create_dir_all(dir.join("photos").join(name).parent().unwrap()).unwrap();
        fs::write(dir.join("photos").join(name), b"\x89PNG but no more").unwrap();
    }
    fails(photos, &[".png", "cannot be decoded"]);
}

#[test]
fn damaged_states_and_diverging_runs_are_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    failure(&run(dir, &format!("{TRAIN} --out run --max-minutes 0")), 3);
    let state = dir.join("run/state-train.safetensors");
    let whole = fs::read(&state).unwrap();
    for len in [0, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&state, &whole[..len]).unwrap();
        let message = failure(&run(dir, "train --resume run"), 1);
        assert!(message.contains("state-train.safetensors") && message.contains("truncated"), "{message}");
    }
    let message = failure(&run(dir, "train --resume nowhere"), 1);
    assert!(message.contains("nowhere/args.toml"), "{message}");
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_was_not_built_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    finish(dir, "train --seed 3 --epochs 1 --set images=64 --out run");
    for command in ["train --device cuda", "export run/last.safetensors --device cuda --out model"] {
        let message = failure(&run(dir, command), 1);
        assert!(message.contains("--features cuda"), "{message}");
    }
}

/// By blocks and by masks: one command, one planner, one page, and private evaluation of what comes out.
#[test]
fn prunings_of_every_kind_are_priced_compared_and_evaluated_privately() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    finish(dir, "train --seed 3 --epochs 1 --set images=128 --out float");
    let outcome = |name: &str, args: &str| -> serde_json::Value {
        let common = "--images 128 --search-epochs 1 --epochs 1 --seed 3";
        finish(dir, &format!("prune float/last.safetensors {common} {args} --out {name} --json {name}.json"));
        serde_json::from_slice(&fs::read(dir.join(format!("{name}.json"))).unwrap()).unwrap()
    };
    let total =
        |bytes: &serde_json::Value| bytes["offline"].as_u64().unwrap() + bytes["online"].as_u64().unwrap();
    let comm = outcome("comm", "--budget 0.5 --features 0.1 --soft 0.5");
    assert!(total(&comm["after"]) < total(&comm["before"]));
    // With few bits a value without a ReLU is saturated at both ends, which costs as much: what masks spare
    // shows in fixed point.
    let fixed = "--fixed41 --preset cryptflow2";
    let limit = total(&outcome("uniform", &format!("--method uniform {fixed}"))["before"]) / 100 * 90;
    let snl = outcome("snl", &format!("--method snl --by channel {fixed} --comm-limit {limit}"));
    assert!(total(&snl["after"]) <= limit && total(&snl["after"]) > limit / 2, "{}", snl["after"]);
    let senet = outcome("senet", "--method senet --budget 0.3");
    let relus = |outcome: &serde_json::Value, when: &str| outcome[when].as_u64().unwrap();
    let share = relus(&senet, "relus_after") as f64 / relus(&senet, "relus_before") as f64;
    assert!((0.28..=0.3).contains(&share), "{share}");

    finish(dir, "compare comm.json senet.json --out compared");
    for file in ["blocks.svg", "pareto.svg", "report.html", "results.csv"] {
        assert!(dir.join("compared").join(file).exists(), "{file}");
    }
    let table = fs::read_to_string(dir.join("compared/results.csv")).unwrap();
    assert!(table.contains("with L_comm") && table.contains("SENet by pixel"), "{table}");
    let message = failure(&run(dir, "compare senet.json snl.json --out compared"), 1);
    assert!(message.contains("snl.json") && message.contains("priced otherwise"), "{message}");
    let message = failure(&run(dir, "compare senet.json float/args.toml --out compared"), 1);
    assert!(message.contains("args.toml"), "{message}");

    // Outputs that differ from the executor's, or bytes from the plan's, are a failure.
    for (name, preset) in [("senet", "copriv-ng"), ("snl", "sirnn")] {
        finish(dir, &format!("export {name}/last.safetensors --epochs 0 --out model-{name}"));
        finish(dir, &format!("private-eval model-{name} --images 1 --preset {preset}"));
    }
}
