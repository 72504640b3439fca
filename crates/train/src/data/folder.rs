//! A folder of image files in ImageNet's layout: `train/CLASS/*` and `val/CLASS/*` (or `test`).
//!
//! Images are resized so that the shorter side fits, cropped to the middle square, and kept as
//! bytes. Every tenth training image of the sorted list is the validation split; `val` is the test split.

use std::fs;
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use rayon::prelude::*;

use super::{Dataset, Images, PixelScale};
use crate::TrainError;

/// Extensions that are read; other files are left alone.
const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
/// Names of the test split's folder.
const TEST: [&str; 2] = ["val", "test"];
/// Pixels are kept in memory: at most so many bytes.
const MAX_BYTES: usize = 16 << 30;

/// A file and its label.
type Labelled = (PathBuf, u16);

pub(super) fn load(name: &str, side: usize, dir: &Path) -> Result<Dataset, TrainError> {
    let train = dir.join("train");
    let classes = subfolders(name, &train)?;
    if classes.len() < 2 || classes.len() > usize::from(u16::MAX) {
        return Err(TrainError::data(
            name,
            &train,
            format!("{} classes; a folder for each is needed", classes.len()),
        ));
    }
    let test = TEST.map(|t| dir.join(t)).into_iter().find(|t| t.is_dir()).ok_or_else(|| {
        TrainError::data(name, dir, "has no folder `val` or `test` beside `train`: the test split is missing")
    })?;
    if let Some(stranger) = subfolders(name, &test)?.iter().find(|c| !classes.contains(c)) {
        return Err(TrainError::data(
            name,
            &test,
            format!("class `{stranger}` is not among the training classes"),
        ));
    }
    let (train, test) = (files(name, &train, &classes)?, files(name, &test, &classes)?);
    let bytes = (train.len() + test.len()).saturating_mul(3 * side * side);
    if bytes > MAX_BYTES {
        return Err(TrainError::data(
            name,
            dir,
            format!(
                "{:.1} GB of pixels at {side}x{side}, at most {} GB are kept in memory; take a smaller side, such as folder-64",
                bytes as f64 / 1e9,
                MAX_BYTES >> 30
            ),
        ));
    }
    let (train, validation) = decode(name, &train, side)?.split_validation();
    Ok(Dataset {
        name: name.to_owned(),
        classes,
        pixels: PixelScale { offset: 128, scale_log2: -6 },
        train,
        validation,
        test: decode(name, &test, side)?,
    })
}

fn entries(name: &str, dir: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let fail = |e: std::io::Error| TrainError::data(name, dir, format!("{e}; --data-dir says where it lies"));
    let mut paths = fs::read_dir(dir)
        .map_err(fail)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(fail)?;
    paths.sort();
    Ok(paths)
}

fn subfolders(name: &str, dir: &Path) -> Result<Vec<String>, TrainError> {
    let folders = entries(name, dir)?.into_iter().filter(|p| p.is_dir());
    Ok(folders.filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned())).collect())
}

/// The images of a split, sorted by class and name.
fn files(name: &str, split: &Path, classes: &[String]) -> Result<Vec<Labelled>, TrainError> {
    let mut all = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let folder = split.join(class);
        if !folder.is_dir() {
            continue;
        }
        let known = |p: &PathBuf| {
            let extension = p.extension().map(|e| e.to_string_lossy().to_lowercase());
            extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
        };
        all.extend(entries(name, &folder)?.into_iter().filter(known).map(|p| (p, label as u16)));
    }
    if all.is_empty() {
        return Err(TrainError::data(name, split, format!("holds no image ({})", EXTENSIONS.join(", "))));
    }
    Ok(all)
}

fn decode(name: &str, files: &[Labelled], side: usize) -> Result<Images, TrainError> {
    let len = 3 * side * side;
    let mut pixels = vec![0; files.len() * len];
    pixels.par_chunks_mut(len).zip(files).try_for_each(|(out, (path, _))| {
        square(path, side, out).map_err(|e| TrainError::data(name, path, e))
    })?;
    Ok(Images { channels: 3, side, pixels, labels: files.iter().map(|(_, label)| *label).collect() })
}

/// The middle square of one image, as planes.
fn square(path: &Path, side: usize, out: &mut [u8]) -> Result<(), String> {
    let image = image::open(path).map_err(|e| format!("cannot be decoded ({e})"))?.into_rgb8();
    let (width, height) = image.dimensions();
    let scale = side as f64 / f64::from(width.min(height));
    let scaled = |v: u32| ((f64::from(v) * scale).round() as u32).max(side as u32);
    let image = if width.min(height) == side as u32 {
        image
    } else {
        image::imageops::resize(&image, scaled(width), scaled(height), FilterType::Triangle)
    };
    let (left, top) = ((image.width() - side as u32) / 2, (image.height() - side as u32) / 2);
    let area = side * side;
    for y in 0..side {
        for x in 0..side {
            let pixel = image.get_pixel(left + x as u32, top + y as u32).0;
            for (c, value) in pixel.into_iter().enumerate() {
                out[c * area + y * side + x] = value;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    /// A picture whose left and right thirds are black and whose middle has `colour`.
    fn picture(path: &Path, colour: [u8; 3]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let third = |x: u32| if (8..16).contains(&x) { Rgb(colour) } else { Rgb([0; 3]) };
        RgbImage::from_fn(24, 8, |x, _| third(x)).save(path).unwrap();
    }

    fn write_all(dir: &Path) {
        for i in 0..10 {
            picture(&dir.join(format!("train/cat/{i:02}.png")), [10 + i, 20, 30]);
            picture(&dir.join(format!("train/dog/{i:02}.png")), [100 + i, 20, 30]);
        }
        picture(&dir.join("val/dog/x.PNG"), [7, 8, 9]);
        fs::write(dir.join("train/cat/notes.txt"), "not an image").unwrap();
    }

    #[test]
    fn classes_are_folders_and_images_middle_squares() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path());
        let data = load("folder-8", 8, dir.path()).unwrap();
        assert_eq!(data.classes, ["cat", "dog"]);
        assert_eq!((data.train.len(), data.validation.len(), data.test.len()), (18, 2, 1));
        assert_eq!(data.validation.labels, [0, 1]);
        assert_eq!(data.test.labels, [1]);
        assert_eq!(data.test.image(0), [[7u8; 64], [8; 64], [9; 64]].concat());
        assert_eq!(data.train.image(3)[..64], [13; 64]);
        // Twice the size: bilinear, and the middle keeps its colour.
        let large = load("folder-16", 16, dir.path()).unwrap();
        assert_eq!(large.test.image(0)[8 * 16 + 8], 7);
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let message = || load("folder-8", 8, dir.path()).unwrap_err().to_string();
        assert!(message().contains("train"), "{}", message());
        write_all(dir.path());
        let broken = dir.path().join("train/dog/05.png");
        fs::write(&broken, b"\x89PNG but no more").unwrap();
        assert!(message().contains("05.png") && !message().contains('\n'), "{}", message());
        picture(&broken, [1; 3]);
        fs::create_dir_all(dir.path().join("val/wolf")).unwrap();
        assert!(message().contains("wolf"), "{}", message());
        fs::remove_dir_all(dir.path().join("val")).unwrap();
        assert!(message().contains("test split is missing"), "{}", message());
        let huge = load("folder-100000", 100_000, dir.path()).unwrap_err().to_string();
        assert!(huge.contains("missing"), "{huge}");
    }
}
