//! Weights from and to PyTorch.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{noise, random_network};
use copriv_train::net::{Bias, Op};
use copriv_train::weights::{self, Normalisation};
use copriv_train::{evaluate, untrained};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

fn rewrite(path: &Path, change: impl Fn(&mut BTreeMap<String, (Vec<usize>, Vec<u8>)>)) {
    let bytes = fs::read(path).unwrap();
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, (shape, bytes))| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn what_is_exported_is_imported_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let data = noise(32, 4, 1);
    for arch in ["resnet20a", "resnet20", "mbv2-w0.25", "minionn"] {
        let path = dir.path().join(format!("{arch}.safetensors"));
        let checkpoint = random_network(arch, &data, 2);
        weights::export(&checkpoint, &path).unwrap();
        assert_eq!(weights::import(&path, arch, &data, None).unwrap(), checkpoint, "{arch}");
    }
}

#[test]
fn names_are_those_of_torchvision_and_of_akamaster() {
    let dir = tempfile::tempdir().unwrap();
    let names = |arch: &str| -> Vec<String> {
        let path = dir.path().join("names.safetensors");
        weights::export(&untrained(arch, &noise(32, 1, 1), 1).unwrap(), &path).unwrap();
        let bytes = fs::read(path).unwrap();
        SafeTensors::deserialize(&bytes).unwrap().names().into_iter().map(str::to_owned).collect()
    };
    for (arch, expected) in [
        (
            "resnet18",
            vec!["conv1.weight", "bn1.running_var", "layer2.0.downsample.1.bias", "layer4.1.bn2.weight"],
        ),
        (
            "mbv2-w1",
            vec!["features.0.1.running_mean", "features.1.conv.0.0.weight", "features.1.conv.1.weight"],
        ),
        (
            "mbv2-w1",
            vec!["features.17.conv.1.1.bias", "features.17.conv.3.running_var", "features.18.0.weight"],
        ),
    ] {
        let names = names(arch);
        for name in expected {
            assert!(names.iter().any(|n| n == name), "{arch}: no {name} in {names:?}");
        }
    }

    let data = noise(32, 1, 1);
    let path = dir.path().join("akamaster.safetensors");
    let checkpoint = random_network("resnet20", &data, 4);
    weights::export(&checkpoint, &path).unwrap();
    rewrite(&path, |tensors| {
        let old = std::mem::take(tensors);
        for (name, tensor) in old {
            let name = name.replace(".downsample.", ".shortcut.").replace("fc.", "linear.");
            tensors.insert(format!("module.{name}"), tensor);
        }
        tensors.insert("module.bn1.num_batches_tracked".into(), (vec![1], vec![0; 4]));
    });
    let native = Normalisation::native(data.pixels, 3);
    let imported = weights::import(&path, "resnet20", &data, Some(&native)).unwrap();
    assert_eq!(imported, checkpoint);
}

/// Black, white and the border show whether the padding is that of the foreign network: it pads
/// with 0 *behind* its normalisation.
#[test]
fn a_foreign_normalisation_is_exact_at_every_pixel() {
    let dir = tempfile::tempdir().unwrap();
    let data = noise(32, 6, 5);
    let ours = random_network("resnet20a", &data, 6);
    let path = dir.path().join("net.safetensors");
    weights::export(&ours, &path).unwrap();
    let foreign = Normalisation { mean: vec![0.4, 0.1, 0.7], std: vec![0.2, 0.3, 0.25] };
    let imported = weights::import(&path, "resnet20a", &data, Some(&foreign)).unwrap();
    assert!(matches!(&imported.graph.nodes[1].op, Op::Conv(c) if matches!(c.bias, Bias::Position(_))));

    // An independent way to the same logits: the stem's normalised input in double precision.
    let stem = ours.weights.get("stem.weight").unwrap();
    let theirs = imported.weights.get("stem.weight").unwrap();
    let Op::Conv(conv) = &imported.graph.nodes[1].op else { panic!() };
    let Bias::Position(map) = &conv.bias else { panic!() };
    let table = imported.weights.get("stem.bias").unwrap();
    let image = data.test.image(3).unwrap();
    for k in 0..16 {
        for (y, x) in [(0, 0), (0, 17), (31, 31), (12, 0), (9, 20)] {
            let (mut expected, mut got) = (0.0f64, 0.0f64);
            for c in 0..3 {
                for t in 0..9 {
                    let (r, s) = (y + t / 3, x + t % 3);
                    if !(1..33).contains(&r) || !(1..33).contains(&s) {
                        continue;
                    }
                    let pixel = image[c * 1024 + (r - 1) * 32 + s - 1];
                    let at = (k * 3 + c) * 9 + t;
                    let normalised = (f64::from(pixel) / 255.0 - foreign.mean[c]) / foreign.std[c];
                    expected += f64::from(stem.data[at]) * normalised;
                    got += f64::from(theirs.data[at]) * f64::from(data.pixels.real(pixel));
                }
            }
            got += f64::from(table.data[map.indices()[y * 32 + x] * 16 + k]);
            assert!((got - expected).abs() < 1e-4, "filter {k} at {y},{x}: {got} instead of {expected}");
        }
    }
    assert!(evaluate(&imported, &data.test).unwrap().logits.concat().iter().all(|v| v.is_finite()));
    let refused = weights::export(&imported, &path).unwrap_err().to_string();
    assert!(refused.contains("stem") && refused.contains("position"), "{refused}");
}

#[test]
fn every_missing_unused_and_misshapen_tensor_is_listed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = noise(32, 1, 1);
    let path = dir.path().join("broken.safetensors");
    weights::export(&untrained("resnet20", &data, 1).unwrap(), &path).unwrap();
    rewrite(&path, |tensors| {
        tensors.remove("layer1.0.conv1.weight");
        tensors.insert("layer9.0.conv1.weight".into(), (vec![1], vec![0; 4]));
        tensors.insert("fc.bias".into(), (vec![3], vec![0; 12]));
        tensors.insert("bn1.weight".into(), (vec![16], f32::NAN.to_le_bytes().repeat(16)));
    });
    let message = weights::import(&path, "resnet20", &data, None).unwrap_err().to_string();
    for part in [
        "broken.safetensors",
        "`layer1.0.conv1.weight` is missing",
        "`layer9.0.conv1.weight` is not part of resnet20",
        "`fc.bias` has shape [3] instead of [10]",
        "`bn1.weight` is not finite",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains('\n'));
}

#[test]
fn a_file_that_is_no_state_dict_is_one_line_naming_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = noise(32, 1, 1);
    for (name, bytes) in
        [("a.th", &b"not a pickle"[..]), ("b.pth", b""), ("c.safetensors", b"\x08\0\0\0\0\0\0\0{}")]
    {
        let path: PathBuf = dir.path().join(name);
        assert!(weights::import(&path, "resnet20", &data, None).unwrap_err().to_string().contains(name));
        fs::write(&path, bytes).unwrap();
        let message = weights::import(&path, "resnet20", &data, None).unwrap_err().to_string();
        assert!(message.contains(name) && !message.contains('\n'), "{message}");
    }
}

/// The shared checkpoint, where there is one: every tensor of a real legacy pickle finds its place.
#[test]
fn a_real_pickle_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models/resnet32-cifar10.th");
    if !path.exists() {
        eprintln!("skipped: no {}", path.display());
        return;
    }
    let data = noise(32, 1, 1);
    let checkpoint = weights::import(&path, "resnet32a", &data, None).unwrap();
    // The stem's bias, by position, is the normalisation's.
    assert_eq!(checkpoint.weights.parameters(), 464_154 + 9 * 16);
    let message = weights::import(&path, "resnet32", &data, None).unwrap_err().to_string();
    assert!(message.contains("layer2.0.downsample.0.weight") && message.contains("missing"), "{message}");
}
