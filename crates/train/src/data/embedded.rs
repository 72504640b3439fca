//! `datasets/fashion-mini`, compiled into the program; its README describes the layout.

use super::{Dataset, EMBEDDED, Images, PixelScale};
use crate::TrainError;

const TRAIN: &[u8] = include_bytes!("../../../../datasets/fashion-mini/train.webp");
const TEST: &[u8] = include_bytes!("../../../../datasets/fashion-mini/test.webp");
pub(super) const CLASSES: [&str; 10] =
    ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"];
/// Side of a tile in the mosaics.
const TILE: usize = 28;
/// Side of an image as the networks see it: tiles centred on black.
const SIDE: usize = 32;

pub(super) fn load() -> Result<Dataset, TrainError> {
    let (train, validation) = mosaic("train.webp", TRAIN)?.split_validation();
    Ok(Dataset {
        name: EMBEDDED.to_owned(),
        classes: CLASSES.map(str::to_owned).to_vec(),
        // Black is 0 and stays 0 where a convolution pads; white is nearly 2.
        pixels: PixelScale { offset: 0, scale_log2: -7 },
        train,
        validation,
        test: mosaic("test.webp", TEST)?,
    })
}

fn mosaic(file: &str, bytes: &[u8]) -> Result<Images, TrainError> {
    let fail = |reason: String| TrainError::Data {
        name: EMBEDDED.to_owned(),
        path: file.into(),
        reason: format!("{reason}; run datasets/fashion-mini/make.py and rebuild"),
    };
    let picture = image::load_from_memory_with_format(bytes, image::ImageFormat::WebP)
        .map_err(|e| fail(e.to_string()))?
        .into_luma8();
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (columns, rows) = (width / TILE, height / TILE);
    let count = columns * rows;
    if columns * TILE != width || rows * TILE != height || !count.is_multiple_of(CLASSES.len()) {
        return Err(fail(format!("a mosaic of {width}x{height} does not hold {TILE}x{TILE} tiles")));
    }
    let per_class = count / CLASSES.len();
    let margin = (SIDE - TILE) / 2;
    let mut pixels = vec![0u8; count * SIDE * SIDE];
    for (i, image) in pixels.chunks_exact_mut(SIDE * SIDE).enumerate() {
        let (top, left) = (i / columns * TILE, i % columns * TILE);
        for y in 0..TILE {
            let from = (top + y) * width + left;
            let to = (margin + y) * SIDE + margin;
            image[to..to + TILE].copy_from_slice(&picture.as_raw()[from..from + TILE]);
        }
    }
    let labels = (0..count).map(|i| (i / per_class) as u16).collect();
    Ok(Images { channels: 1, side: SIDE, pixels: pixels.into(), labels })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_balanced_and_padded_with_black() {
        let data = load().unwrap();
        for (images, per_class) in [(&data.train, 540), (&data.validation, 60), (&data.test, 100)] {
            assert_eq!(images.len(), per_class * CLASSES.len());
            for class in 0..CLASSES.len() {
                assert_eq!(images.labels.iter().filter(|&&l| usize::from(l) == class).count(), per_class);
            }
        }
        let first = data.train.image(0).unwrap();
        assert!(first[..2 * SIDE].iter().all(|&p| p == 0), "two black rows above the tile");
        assert!(first.iter().any(|&p| p > 128), "the tile itself is there");
    }

    #[test]
    fn the_integer_input_is_the_pixel_itself() {
        let scale = load().unwrap().pixels;
        let pre = scale.preprocess(1);
        for pixel in 0..=255u8 {
            let real = (f32::from(pixel) / 255.0 - pre.mean[0]) / pre.std[0];
            let integer = (f64::from(real) * 2f64.powi(-scale.scale_log2) + 0.5).floor();
            assert_eq!(integer, f64::from(pixel));
        }
    }
}
