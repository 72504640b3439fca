//! Data sets, resident in memory as bytes.
//!
//! | name | images | where |
//! |---|---|---|
//! | `fashion-mini` | 5,400 + 600 + 1,000 of 28x28x1, 10 classes | embedded in the program |
//! | `mnist`, `fashion-mnist` | 54,000 + 6,000 + 10,000 of 28x28x1, 10 classes | IDX files below `--data-dir` |
//! | `folder`, `folder-SIDE` | any, 224x224x3 or `SIDE` | `train/CLASS/*`, `val/CLASS/*` in `--data-dir` |
//! | `cifar10`, `cifar100` | 45,000 + 5,000 + 5,000 or 10,000 of 32x32x3 | official binary layout in `--data-dir` |
//!
//! Every tenth training image is the validation split, whatever the seed; the test images are
//! for the final evaluation only.

mod augment;
mod cifar;
mod embedded;
mod fetch;
mod folder;
mod idx;

use std::path::Path;

use copriv_model::Preprocess;
use serde::{Deserialize, Serialize};

use crate::TrainError;

pub use augment::{Augment, Batch, gather};
pub use fetch::{Source, check_sums, sources};

/// The data set that is used when none is named.
pub const EMBEDDED: &str = "fashion-mini";

const KNOWN: &str =
    "fashion-mini, cifar10, cifar100, mnist, fashion-mnist, folder and folder-SIDE with a side of 8 to 512";

/// Side of a folder's images if none is said.
const FOLDER_SIDE: usize = 224;

const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// One data set in three fixed splits.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Name, as on the command line.
    pub name: String,
    /// Class names by label.
    pub classes: Vec<String>,
    /// How pixels become the network's input.
    pub pixels: PixelScale,
    /// For training.
    pub train: Images,
    /// For choosing among runs and epochs.
    pub validation: Images,
    /// For the final evaluation.
    pub test: Images,
}

/// `n` images `[channels, side, side]` of bytes, planes in order, and their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Planes of an image: 1 or 3.
    pub channels: usize,
    /// Height and width.
    pub side: usize,
    /// `n * channels * side * side` bytes.
    pub pixels: Vec<u8>,
    /// `n` labels.
    pub labels: Vec<u16>,
}

/// `x = (pixel - offset) * 2^scale_log2`: an input that is exact in integers, so that float,
/// fake-quantised and integer networks see the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PixelScale {
    /// Pixel value that becomes 0; also what zero padding means.
    pub offset: u8,
    /// Scale of one step of a pixel.
    pub scale_log2: i32,
}

/// Loads the data set `name`; all but the embedded one are looked for in `dir`.
///
/// # Errors
/// An unknown name, or a file that is absent, truncated or holds a label out of range.
pub fn load(name: &str, dir: &Path) -> Result<Dataset, TrainError> {
    match name {
        EMBEDDED => embedded::load(),
        "cifar10" => cifar::load(&cifar::CIFAR10, dir),
        "cifar100" => cifar::load(&cifar::CIFAR100, dir),
        "mnist" => idx::load(name, &DIGITS, dir),
        "fashion-mnist" => idx::load(name, &embedded::CLASSES, dir),
        "folder" => folder::load(name, FOLDER_SIDE, dir),
        _ => {
            let side = name.strip_prefix("folder-").and_then(|side| side.parse().ok());
            match side.filter(|side| (8..=512).contains(side)) {
                Some(side) => folder::load(name, side, dir),
                None => Err(TrainError::Dataset { name: name.to_owned(), known: KNOWN.to_owned() }),
            }
        }
    }
}

impl Dataset {
    /// Shape of one image, `[channels, height, width]`.
    pub fn shape(&self) -> [usize; 3] {
        [self.train.channels, self.train.side, self.train.side]
    }
}

impl Images {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image.
    pub fn image_len(&self) -> usize {
        self.channels * self.side * self.side
    }

    /// The bytes of image `i`, planes in order.
    pub fn image(&self, i: usize) -> &[u8] {
        &self.pixels[i * self.image_len()..][..self.image_len()]
    }

    /// Image `i` with interleaved channels, as [`copriv_model::Graph::quantise_image`] takes it.
    pub fn interleaved(&self, i: usize) -> Vec<u8> {
        let area = self.side * self.side;
        let image = self.image(i);
        (0..area).flat_map(|p| (0..self.channels).map(move |c| image[c * area + p])).collect()
    }

    /// The images at `indices`, in that order.
    pub fn select(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let mut out = Self { pixels: Vec::new(), labels: Vec::new(), ..*self };
        for i in indices {
            out.pixels.extend_from_slice(self.image(i));
            out.labels.push(self.labels[i]);
        }
        out
    }

    /// Images `i * n / count`: an even sample of a split, whatever its order.
    pub fn sample(&self, count: usize) -> Self {
        let count = count.min(self.len());
        self.select((0..count).map(|i| i * self.len() / count))
    }

    /// Splits off every tenth image for validation.
    fn split_validation(self) -> (Self, Self) {
        let held_out = |i: &usize| i % 10 == 9;
        let validation = self.select((0..self.len()).filter(held_out));
        let train = self.select((0..self.len()).filter(|i| !held_out(i)));
        (train, validation)
    }
}

impl PixelScale {
    /// The network's input for one pixel.
    pub fn real(&self, pixel: u8) -> f32 {
        (f32::from(pixel) - f32::from(self.offset)) * 2f32.powi(self.scale_log2)
    }

    /// The same in the integer model's terms, `(pixel / 255 - mean) / std`.
    pub fn preprocess(&self, channels: usize) -> Preprocess {
        let std = 2f32.powi(-self.scale_log2) / 255.0;
        Preprocess { mean: vec![f32::from(self.offset) / 255.0; channels], std: vec![std; channels] }
    }
}
