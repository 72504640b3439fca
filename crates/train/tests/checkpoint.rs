//! Checkpoint files and run folders.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use copriv_train::data::{self, Dataset};
use copriv_train::{Checkpoint, Metrics, Progress, RunFolder, Silent, TrainError, untrained};

fn checkpoint() -> Checkpoint {
    let data: Dataset = data::load(data::EMBEDDED, Path::new("data")).unwrap();
    untrained("mbv2-tiny", &data, 3).unwrap()
}

#[test]
fn what_is_saved_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.safetensors");
    let saved = checkpoint();
    saved.save(&path).unwrap();
    assert_eq!(Checkpoint::load(&path).unwrap(), saved);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_truncated_foreign_or_absent_file_is_one_error_naming_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.safetensors");
    checkpoint().save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let mut cases: Vec<Vec<u8>> =
        [0, 1, 7, 8, 100, whole.len() / 2, whole.len() - 1].map(|n| whole[..n].to_vec()).to_vec();
    cases.push(b"{\"not\": \"a checkpoint\"}".to_vec());
    cases.push(
        safetensors::serialize(Vec::<(String, safetensors::tensor::TensorView<'_>)>::new(), None).unwrap(),
    );
    for bytes in cases {
        fs::write(&path, &bytes).unwrap();
        let message = Checkpoint::load(&path).unwrap_err().to_string();
        assert!(message.contains("net.safetensors"), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
    fs::remove_file(&path).unwrap();
    assert!(Checkpoint::load(&path).unwrap_err().to_string().contains("net.safetensors"));
}

#[test]
fn every_missing_and_misshapen_tensor_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.safetensors");
    let mut broken = checkpoint();
    let weight = broken.weights.remove("stem.weight").unwrap();
    broken.weights.insert("stranger", weight.clone());
    broken.weights.insert("classifier.bias", weight);
    broken.save(&path).unwrap();
    let message = Checkpoint::load(&path).unwrap_err().to_string();
    for name in ["stem.weight", "stranger", "classifier.bias"] {
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn a_path_that_cannot_be_written_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("absent").join("net.safetensors");
    assert!(matches!(checkpoint().save(&path), Err(TrainError::Io { .. })));
    assert!(!path.exists());
}

#[test]
fn a_run_folder_holds_arguments_metrics_and_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let mut silent = Silent;
    let path = dir.path().join("run");
    let mut run = RunFolder::create(&path, &HashMap::from([("name", "argument")]), &mut silent).unwrap();
    let mut row = Metrics {
        stage: "train".into(),
        epoch: 1,
        loss: 1.5,
        train_accuracy: 40.0,
        accuracy: 50.0,
        rate: 0.1,
        seconds: 2.0,
    };
    let first = checkpoint();
    let mut second = first.clone();
    second.dataset = "another".into();
    for (epoch, checkpoint, best) in [(1, &first, true), (2, &second, false)] {
        row.epoch = epoch;
        run.metrics(&row).unwrap();
        run.checkpoint(checkpoint, best).unwrap();
    }
    let metrics = fs::read_to_string(path.join("metrics.csv")).unwrap();
    assert_eq!(metrics.lines().count(), 3);
    assert_eq!(metrics.lines().next(), Some("stage,epoch,loss,train_accuracy,accuracy,rate,seconds"));
    assert!(fs::read_to_string(path.join("args.toml")).unwrap().contains("argument"));
    assert_eq!(Checkpoint::load(&path.join("best.safetensors")).unwrap(), first);
    assert_eq!(Checkpoint::load(&path.join("last.safetensors")).unwrap(), second);
}
