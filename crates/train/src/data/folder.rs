//! A folder of image files in ImageNet's layout: `train/CLASS/*` and `val/CLASS/*` (or `test`).
//!
//! Images are resized so that the shorter side fits and cropped to the middle square. A data set
//! that fits is kept as bytes; of a larger one every batch decodes its files, so that a damaged
//! file is only met then. Every tenth training image of the sorted list is the validation split;
//! `val` is the test split.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::picture::Picture;
use super::{Dataset, Images, PixelScale, Pixels};
use crate::TrainError;

/// Extensions that are read; other files are left alone.
const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
/// Names of the test split's folder.
const TEST: [&str; 2] = ["val", "test"];
/// Pixels are kept in memory: at most so many bytes.
pub(super) const IN_MEMORY: usize = 4 << 30;

/// A file and its label.
type Labelled = (PathBuf, u16);

/// Loads the folder `dir`; into memory if it takes at most `limit` bytes there.
pub(super) fn load(name: &str, side: usize, dir: &Path, limit: usize) -> Result<Dataset, TrainError> {
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
    let resident = bytes <= limit;
    let images = |files: Vec<Labelled>| -> Result<Images, TrainError> {
        let (paths, labels): (Vec<PathBuf>, Vec<u16>) = files.into_iter().unzip();
        let pixels = if resident { decode(&paths, side)?.into() } else { Pixels::Files(paths) };
        Ok(Images { channels: 3, side, pixels, labels })
    };
    let (train, validation) = images(train)?.split_validation();
    Ok(Dataset {
        name: name.to_owned(),
        classes,
        pixels: PixelScale { offset: 128, scale_log2: -6 },
        train,
        validation,
        test: images(test)?,
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

/// The middle squares, planes in order.
fn decode(paths: &[PathBuf], side: usize) -> Result<Vec<u8>, TrainError> {
    let len = 3 * side * side;
    let mut pixels = vec![0; paths.len() * len];
    pixels
        .par_chunks_mut(len)
        .zip(paths)
        .try_for_each(|(out, path)| Picture::open(path).map(|p| out.copy_from_slice(&p.middle(side))))?;
    Ok(pixels)
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
        let data = load("folder-8", 8, dir.path(), IN_MEMORY).unwrap();
        assert_eq!(data.classes, ["cat", "dog"]);
        assert_eq!((data.train.len(), data.validation.len(), data.test.len()), (18, 2, 1));
        assert_eq!(data.validation.labels, [0, 1]);
        assert_eq!(data.test.labels, [1]);
        assert_eq!(data.test.image(0).unwrap()[..], [[7u8; 64], [8; 64], [9; 64]].concat());
        assert_eq!(data.train.image(3).unwrap()[..64], [13; 64]);
        // Twice the size: bilinear, and the middle keeps its colour.
        let large = load("folder-16", 16, dir.path(), IN_MEMORY).unwrap();
        assert_eq!(large.test.image(0).unwrap()[8 * 16 + 8], 7);
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let message = || load("folder-8", 8, dir.path(), IN_MEMORY).unwrap_err().to_string();
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
    }

    #[test]
    fn a_folder_larger_than_memory_shows_the_same_images() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path());
        let resident = load("folder-6", 6, dir.path(), IN_MEMORY).unwrap();
        let decoded = load("folder-6", 6, dir.path(), 1000).unwrap();
        assert!(matches!(decoded.train.pixels, Pixels::Files(_)), "21 images of 108 bytes are too many");
        for split in [|d: &Dataset| d.train.clone(), |d: &Dataset| d.validation.sample(1)] {
            let (a, b) = (split(&resident), split(&decoded));
            assert_eq!(a.labels, b.labels);
            for i in 0..a.len() {
                assert_eq!(a.image(i).unwrap(), b.image(i).unwrap());
            }
        }
        fs::write(dir.path().join("train/dog/01.png"), b"\x89PNG but no more").unwrap();
        let decoded = load("folder-6", 6, dir.path(), 1000).unwrap();
        let error = (0..decoded.train.len()).find_map(|i| decoded.train.image(i).err()).unwrap().to_string();
        assert!(error.contains("01.png") && !error.contains('\n'), "{error}");
    }
}
