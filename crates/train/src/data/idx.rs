//! MNIST's file format, IDX, plain or gzipped: `train-images-idx3-ubyte[.gz]` and so on.
//!
//! A file is two zero bytes, the element type (8 is a byte), the number of dimensions, the dimensions as
//! big-endian 32-bit numbers, and the elements. Images of up to 32x32 are centred on a black 32x32 background,
//! whose pools have a power of two of pixels.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::{Dataset, Images, PixelScale};
use crate::TrainError;

/// Side of the background.
const SIDE: usize = 32;
/// Largest file that is read, unpacked.
const MAX_BYTES: u64 = 1 << 31;

/// Files without `.gz`: images and labels for training, then for testing.
const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// The same as they are published.
pub(super) const ZIPPED: [&str; 4] = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
];

pub(super) fn load(name: &str, classes: &[&str], dir: &Path) -> Result<Dataset, TrainError> {
    let folder = dir.join(name);
    let part = |images: &str, labels: &str| split(name, classes.len(), &folder, images, labels);
    let (train, validation) = part(FILES[0], FILES[1])?.split_validation();
    Ok(Dataset {
        name: name.to_owned(),
        classes: classes.iter().map(|c| (*c).to_owned()).collect(),
        pixels: PixelScale { offset: 0, scale_log2: -7 },
        train,
        validation,
        test: part(FILES[2], FILES[3])?,
    })
}

fn split(
    name: &str,
    classes: usize,
    folder: &Path,
    images: &str,
    labels: &str,
) -> Result<Images, TrainError> {
    let (pixel_path, shape, pixels) = read::<3>(name, &folder.join(images))?;
    let (label_path, [count], labels) = read::<1>(name, &folder.join(labels))?;
    let fail = |path: &Path, reason: String| TrainError::data(name, path, reason);
    let [n, height, width] = shape;
    if count != n {
        return Err(fail(&label_path, format!("{count} labels for {n} images")));
    }
    if let Some(i) = labels.iter().position(|&l| usize::from(l) >= classes) {
        return Err(fail(
            &label_path,
            format!("record {i} has label {}, there are {classes} classes", labels[i]),
        ));
    }
    if height > SIDE || width > SIDE || height * width == 0 {
        return Err(fail(
            &pixel_path,
            format!("images of {height}x{width}; at most {SIDE}x{SIDE} are supported"),
        ));
    }
    let (top, left) = ((SIDE - height) / 2, (SIDE - width) / 2);
    let mut all = vec![0u8; n * SIDE * SIDE];
    for (image, tile) in all.chunks_exact_mut(SIDE * SIDE).zip(pixels.chunks_exact(height * width)) {
        for (y, row) in tile.chunks_exact(width).enumerate() {
            image[(top + y) * SIDE + left..][..width].copy_from_slice(row);
        }
    }
    let labels = labels.into_iter().map(u16::from).collect();
    Ok(Images { channels: 1, side: SIDE, pixels: all.into(), labels })
}

/// The file at `path`, or with `.gz` behind it: where it was found, its dimensions, its bytes.
fn read<const D: usize>(name: &str, path: &Path) -> Result<(PathBuf, [usize; D], Vec<u8>), TrainError> {
    let zipped = path.with_extension("gz");
    let (path, gz) = if path.exists() { (path.to_owned(), false) } else { (zipped, true) };
    let fail = |reason: String| TrainError::data(name, &path, reason);
    let file = File::open(&path).map_err(|e| {
        fail(format!("{e}; `copriv data fetch {name}` brings it, --data-dir says where it lies"))
    })?;
    let file = BufReader::new(file);
    let mut source: Box<dyn Read> = if gz { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    let broken = |e: std::io::Error| fail(format!("truncated or damaged ({e})"));
    let mut word = || -> Result<[u8; 4], TrainError> {
        let mut bytes = [0; 4];
        source.read_exact(&mut bytes).map_err(broken)?;
        Ok(bytes)
    };
    let magic = word()?;
    if magic != [0, 0, 8, D as u8] {
        return Err(fail(format!("starts with {magic:?}: not IDX with bytes in {D} dimensions")));
    }
    let mut shape = [0; D];
    for side in &mut shape {
        *side = u32::from_be_bytes(word()?) as usize;
    }
    let size = shape.iter().try_fold(1u64, |n, &side| n.checked_mul(side as u64)).filter(|n| *n <= MAX_BYTES);
    let size =
        size.ok_or_else(|| fail(format!("claims the shape {shape:?}, more than {MAX_BYTES} bytes")))?;
    let mut bytes = Vec::new();
    source.take(size + 1).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 != size {
        let more = if bytes.len() as u64 > size { "more than" } else { "truncated:" };
        return Err(fail(format!(
            "{more} {} of the {size} bytes of shape {shape:?}",
            bytes.len().min(size as usize)
        )));
    }
    Ok((path, shape, bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    const CLASSES: [&str; 3] = ["a", "b", "c"];

    fn idx(shape: &[u32], bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![0, 0, 8, shape.len() as u8];
        shape.iter().for_each(|s| out.extend(s.to_be_bytes()));
        out.extend(bytes);
        out
    }

    fn zip(bytes: &[u8]) -> Vec<u8> {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(bytes).unwrap();
        gz.finish().unwrap()
    }

    /// Ten 2x2 images, the training part gzipped.
    fn write_all(dir: &Path) -> PathBuf {
        let folder = dir.join("mnist");
        fs::create_dir_all(&folder).unwrap();
        let pixels: Vec<u8> = (1..=40).collect();
        let labels = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0];
        fs::write(folder.join("train-images-idx3-ubyte.gz"), zip(&idx(&[10, 2, 2], &pixels))).unwrap();
        fs::write(folder.join("train-labels-idx1-ubyte.gz"), zip(&idx(&[10], &labels))).unwrap();
        fs::write(folder.join(FILES[2]), idx(&[1, 2, 2], &pixels[..4])).unwrap();
        fs::write(folder.join(FILES[3]), idx(&[1], &[2])).unwrap();
        folder
    }

    #[test]
    fn plain_and_gzipped_files_become_centred_images() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path());
        let data = load("mnist", &CLASSES, dir.path()).unwrap();
        assert_eq!((data.train.len(), data.validation.len(), data.test.len()), (9, 1, 1));
        assert_eq!((data.test.labels[0], data.validation.labels[0]), (2, 0));
        let image = data.train.image(1).unwrap();
        assert_eq!(
            [image[15 * 32 + 15], image[15 * 32 + 16], image[16 * 32 + 15], image[16 * 32 + 16]],
            [5, 6, 7, 8]
        );
        assert_eq!(image.iter().filter(|p| **p > 0).count(), 4);
    }

    #[test]
    fn damage_is_one_line_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = write_all(dir.path());
        let message = || load("mnist", &CLASSES, dir.path()).unwrap_err().to_string();
        let labels = folder.join(FILES[3]);
        for (bytes, part) in [
            (idx(&[1], &[3]), "label 3"),
            (idx(&[2], &[1, 1]), "2 labels for 1 images"),
            (idx(&[1], &[]), "truncated"),
            (idx(&[1], &[1, 1]), "more than"),
            (idx(&[u32::MAX], &[]), "claims the shape"),
            (vec![0, 0], "truncated"),
            (b"<html>".to_vec(), "not IDX"),
        ] {
            fs::write(&labels, bytes).unwrap();
            let text = message();
            assert!(text.contains(part) && text.contains(FILES[3]) && !text.contains('\n'), "{text}");
        }
        fs::remove_file(&labels).unwrap();
        assert!(message().contains("data fetch mnist"), "{}", message());
    }
}
