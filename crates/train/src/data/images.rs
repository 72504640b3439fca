//! The images of one split.

use std::borrow::Cow;
use std::path::PathBuf;

use super::picture::Picture;
use crate::TrainError;

/// `n` images `[channels, side, side]` and their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Planes of an image: 1 or 3.
    pub channels: usize,
    /// Height and width.
    pub side: usize,
    /// Where the pixels are.
    pub pixels: Pixels,
    /// `n` labels.
    pub labels: Vec<u16>,
}

/// The pixels of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pixels {
    /// `n * channels * side * side` bytes, planes in order.
    Memory(Vec<u8>),
    /// `n` image files, decoded each time that one is asked for.
    Files(Vec<PathBuf>),
}

impl From<Vec<u8>> for Pixels {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Memory(bytes)
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

    /// The bytes of image `i`, planes in order; of a file the middle square.
    ///
    /// # Errors
    /// A file that cannot be decoded.
    pub fn image(&self, i: usize) -> Result<Cow<'_, [u8]>, TrainError> {
        Ok(match &self.pixels {
            Pixels::Memory(bytes) => Cow::Borrowed(&bytes[i * self.image_len()..][..self.image_len()]),
            Pixels::Files(_) => Cow::Owned(self.picture(i)?.middle(self.side)),
        })
    }

    /// Image `i` in the size that it has.
    pub(super) fn picture(&self, i: usize) -> Result<Picture, TrainError> {
        match &self.pixels {
            Pixels::Memory(_) => Ok(Picture::of_planes(&self.image(i)?, self.side)),
            Pixels::Files(paths) => Picture::open(&paths[i]),
        }
    }

    /// Image `i` with interleaved channels, as [`copriv_model::Graph::quantise_image`] takes it.
    ///
    /// # Errors
    /// A file that cannot be decoded.
    pub fn interleaved(&self, i: usize) -> Result<Vec<u8>, TrainError> {
        let area = self.side * self.side;
        let image = self.image(i)?;
        Ok((0..area)
            .flat_map(|p| (0..self.channels).map(move |c| (p, c)))
            .map(|(p, c)| image[c * area + p])
            .collect())
    }

    /// The images at `indices`, in that order.
    pub fn select(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let indices: Vec<usize> = indices.into_iter().collect();
        let len = self.image_len();
        let pixels = match &self.pixels {
            Pixels::Memory(bytes) => {
                Pixels::Memory(indices.iter().flat_map(|i| &bytes[i * len..][..len]).copied().collect())
            }
            Pixels::Files(paths) => Pixels::Files(indices.iter().map(|&i| paths[i].clone()).collect()),
        };
        Self { pixels, labels: indices.iter().map(|&i| self.labels[i]).collect(), ..*self }
    }

    /// Images `i * n / count`: an even sample of a split, whatever its order.
    pub fn sample(&self, count: usize) -> Self {
        let count = count.min(self.len());
        self.select((0..count).map(|i| i * self.len() / count))
    }

    /// Splits off every tenth image for validation.
    pub(super) fn split_validation(self) -> (Self, Self) {
        let held_out = |i: &usize| i % 10 == 9;
        let validation = self.select((0..self.len()).filter(held_out));
        let train = self.select((0..self.len()).filter(|i| !held_out(i)));
        (train, validation)
    }
}
