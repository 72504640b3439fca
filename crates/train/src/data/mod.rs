//! Data sets: resident in memory as bytes, or, a folder too large for that, decoded image by image.
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
mod images;
mod picture;

use std::path::Path;

use copriv_model::Preprocess;
use serde::{Deserialize, Serialize};

use crate::TrainError;

pub use augment::{Augment, Batch, gather};
pub use fetch::{Source, check_sums, sources};
pub use images::{Images, Pixels};

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
        "folder" => folder::load(name, FOLDER_SIDE, dir, folder::IN_MEMORY),
        _ => {
            let side = name.strip_prefix("folder-").and_then(|side| side.parse().ok());
            match side.filter(|side| (8..=512).contains(side)) {
                Some(side) => folder::load(name, side, dir, folder::IN_MEMORY),
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
