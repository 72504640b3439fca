//! CIFAR-10 and CIFAR-100 in the official binary layout.
//!
//! A record is 1 (CIFAR-10) or 2 (CIFAR-100: coarse, fine) label bytes and 3x32x32 pixels in
//! planes R, G, B. <https://www.cs.toronto.edu/~kriz/cifar.html>

use std::fs;
use std::path::Path;

use super::{Dataset, Images, PixelScale};
use crate::TrainError;

/// What distinguishes the two sets.
pub(super) struct Layout {
    name: &'static str,
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    names: &'static str,
    label_bytes: usize,
    classes: usize,
}

pub(super) const CIFAR10: Layout = Layout {
    name: "cifar10",
    folder: "cifar-10-batches-bin",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    names: "batches.meta.txt",
    label_bytes: 1,
    classes: 10,
};

pub(super) const CIFAR100: Layout = Layout {
    name: "cifar100",
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: "test.bin",
    names: "fine_label_names.txt",
    label_bytes: 2,
    classes: 100,
};

const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;

pub(super) fn load(layout: &Layout, dir: &Path) -> Result<Dataset, TrainError> {
    let folder = dir.join(layout.folder);
    let (train, validation) = read(layout, &folder, layout.train)?.split_validation();
    let test = read(layout, &folder, &[layout.test])?;
    let names = fs::read_to_string(folder.join(layout.names)).unwrap_or_default();
    let mut classes: Vec<String> =
        names.lines().filter(|l| !l.is_empty()).take(layout.classes).map(str::to_owned).collect();
    classes.extend((classes.len()..layout.classes).map(|i| format!("class {i}")));
    Ok(Dataset {
        name: layout.name.to_owned(),
        classes,
        pixels: PixelScale { offset: 128, scale_log2: -6 },
        train,
        validation,
        test,
    })
}

fn read(layout: &Layout, folder: &Path, files: &[&str]) -> Result<Images, TrainError> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for file in files {
        read_file(layout, &folder.join(file), &mut pixels, &mut labels)?;
    }
    Ok(Images { channels: 3, side: SIDE, pixels: pixels.into(), labels })
}

fn read_file(
    layout: &Layout,
    path: &Path,
    all_pixels: &mut Vec<u8>,
    all_labels: &mut Vec<u16>,
) -> Result<(), TrainError> {
    let fail =
        |reason: String| TrainError::Data { name: layout.name.to_owned(), path: path.to_owned(), reason };
    let bytes = fs::read(path).map_err(|e| {
        fail(format!(
            "{e}; unpack the official `{}` archive there, or name another folder with --data-dir",
            layout.folder
        ))
    })?;
    let record = layout.label_bytes + PIXELS;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        return Err(fail(format!(
            "{} bytes are not a whole number of {record}-byte records; the file is truncated or of another layout",
            bytes.len()
        )));
    }
    for (i, record) in bytes.chunks_exact(record).enumerate() {
        let (labels, pixels) = record.split_at(layout.label_bytes);
        let label = labels[layout.label_bytes - 1];
        if usize::from(label) >= layout.classes {
            return Err(fail(format!("record {i} has label {label}, there are {} classes", layout.classes)));
        }
        all_labels.push(u16::from(label));
        all_pixels.extend_from_slice(pixels);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(labels: &[u8]) -> Vec<u8> {
        labels
            .iter()
            .flat_map(|&l| std::iter::once(l).chain((0..PIXELS).map(move |p| (p as u8) ^ l)))
            .collect()
    }

    fn write_all(dir: &Path, test: &[u8]) {
        let folder = dir.join(CIFAR10.folder);
        fs::create_dir_all(&folder).unwrap();
        for file in CIFAR10.train {
            fs::write(folder.join(file), fixture(&[0, 1, 2, 3])).unwrap();
        }
        fs::write(folder.join(CIFAR10.test), test).unwrap();
    }

    #[test]
    fn records_become_planes_and_labels() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path(), &fixture(&[9, 4]));
        let data = load(&CIFAR10, dir.path()).unwrap();
        assert_eq!((data.train.len(), data.validation.len(), data.test.len()), (18, 2, 2));
        assert_eq!(data.test.labels, [9, 4]);
        assert_eq!(data.test.image(1).unwrap()[..4], [4, 5, 6, 7]);
        assert_eq!(data.test.interleaved(1).unwrap()[..3], [4, 4, 4]);
    }

    #[test]
    fn absent_truncated_and_foreign_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let absent = load(&CIFAR10, dir.path()).unwrap_err().to_string();
        assert!(absent.contains("data_batch_1.bin") && absent.contains("--data-dir"), "{absent}");
        write_all(dir.path(), &fixture(&[1])[..100]);
        let truncated = load(&CIFAR10, dir.path()).unwrap_err().to_string();
        assert!(truncated.contains("test_batch.bin") && truncated.contains("truncated"), "{truncated}");
        write_all(dir.path(), &fixture(&[10]));
        let foreign = load(&CIFAR10, dir.path()).unwrap_err().to_string();
        assert!(foreign.contains("label 10"), "{foreign}");
    }
}
