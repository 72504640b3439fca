//! One image in its own size, and squares of it.

use std::path::Path;

use image::imageops::{self, FilterType};
use image::{GrayImage, RgbImage};

use super::augment::Rectangle;
use crate::TrainError;

/// A decoded image, a plane a colour.
pub(super) struct Picture {
    planes: Vec<GrayImage>,
}

impl Picture {
    /// Decodes a colour image.
    pub(super) fn open(path: &Path) -> Result<Self, TrainError> {
        let fail = |e: image::ImageError| {
            TrainError::data("folder", path, format!("cannot be decoded ({})", one_line(&e)))
        };
        let image: RgbImage = image::open(path).map_err(fail)?.into_rgb8();
        let (width, height) = image.dimensions();
        let plane = |c: usize| {
            let bytes = image.as_raw().iter().skip(c).step_by(3).copied().collect();
            GrayImage::from_raw(width, height, bytes).expect("a byte a pixel")
        };
        Ok(Self { planes: (0..3).map(plane).collect() })
    }

    /// Of square planes in order.
    pub(super) fn of_planes(bytes: &[u8], side: usize) -> Self {
        let plane = |bytes: &[u8]| {
            GrayImage::from_raw(side as u32, side as u32, bytes.to_vec()).expect("a byte a pixel")
        };
        Self { planes: bytes.chunks_exact(side * side).map(plane).collect() }
    }

    /// Height and width.
    pub(super) fn size(&self) -> [usize; 2] {
        let (width, height) = self.planes[0].dimensions();
        [height as usize, width as usize]
    }

    /// The middle square of the image, resized so that its shorter side fits; planes in order.
    pub(super) fn middle(&self, side: usize) -> Vec<u8> {
        let shorter = self.size().into_iter().min().unwrap_or(1).max(1);
        let [height, width] = self.size().map(|v| (v * side + shorter / 2) / shorter);
        let (top, left) = ((height - side) / 2, (width - side) / 2);
        let square = |plane: &GrayImage| {
            let resized = if shorter == side { plane } else { &resize(plane, [height, width]) };
            cut(resized, Rectangle { top, bottom: top + side, left, right: left + side }).into_raw()
        };
        self.planes.iter().flat_map(square).collect()
    }

    /// A part of the image, resized to a square; planes in order.
    pub(super) fn part(&self, part: Rectangle, side: usize) -> Vec<u8> {
        self.planes.iter().flat_map(|plane| resize(&cut(plane, part), [side; 2]).into_raw()).collect()
    }
}

fn cut(plane: &GrayImage, part: Rectangle) -> GrayImage {
    let [left, top, width, height] =
        [part.left, part.top, part.right - part.left, part.bottom - part.top].map(|v| v as u32);
    imageops::crop_imm(plane, left, top, width, height).to_image()
}

/// Linear interpolation; over all covered pixels where the result is smaller, as Pillow's.
fn resize(plane: &GrayImage, [height, width]: [usize; 2]) -> GrayImage {
    imageops::resize(plane, width as u32, height as u32, FilterType::Triangle)
}

fn one_line(error: &image::ImageError) -> String {
    error.to_string().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// What Pillow resizes; see `tests/vectors/regions.py`.
    #[derive(Deserialize)]
    struct Vectors {
        parts: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        side: usize,
        picture: Vec<u8>,
        /// Top, bottom, left, right.
        part: [usize; 4],
        to: usize,
        expected: Vec<u8>,
    }

    #[test]
    fn parts_are_resized_as_pillow_does() {
        let vectors: Vectors =
            serde_json::from_str(include_str!("../../tests/vectors/regions.json")).unwrap();
        assert!(vectors.parts.len() >= 4);
        for Case { side, picture, part: [top, bottom, left, right], to, expected } in vectors.parts {
            let picture = Picture::of_planes(&[picture.clone(), picture].concat(), side);
            let got = picture.part(Rectangle { top, bottom, left, right }, to);
            assert_eq!(got.len(), 2 * to * to);
            for (i, (got, expected)) in got.iter().zip(expected.iter().cycle()).enumerate() {
                assert!(
                    got.abs_diff(*expected) <= 1,
                    "{top}..{bottom} {left}..{right}: {got}, not {expected} at {i}"
                );
            }
        }
    }
}
