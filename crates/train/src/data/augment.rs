//! Batches: random crops and mirror images, made in parallel from bytes in memory.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Images, PixelScale};
use crate::TrainError;

/// Random changes to training images, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Shift by up to so many pixels each way; what enters is pixel value 0.
    pub crop: usize,
    /// Mirror every second image.
    pub flip: bool,
    /// RandAugment (Cubuk et al., 2020): so many operations an image.
    pub rand_augment: usize,
    /// Strength of its operations, 0 to 10.
    pub magnitude: f64,
    /// Probability of random erasing (Zhong et al., 2020).
    pub erase: f64,
    /// Mixup (Zhang et al., 2018): both parameters of the beta distribution; 0 is none.
    pub mixup: f64,
    /// CutMix (Yun et al., 2019): likewise. With mixup, each image gets one of the two.
    pub cutmix: f64,
}

impl Default for Augment {
    fn default() -> Self {
        Self { crop: 2, flip: true, ..Self::NONE }
    }
}

impl Augment {
    /// No change.
    pub const NONE: Self =
        Self { crop: 0, flip: false, rand_augment: 0, magnitude: 9.0, erase: 0.0, mixup: 0.0, cutmix: 0.0 };

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn check(&self) -> Result<(), TrainError> {
        for (name, value, limit) in [
            ("magnitude", self.magnitude, 10.0),
            ("erase", self.erase, 1.0),
            ("mixup", self.mixup, f64::MAX),
            ("cutmix", self.cutmix, f64::MAX),
        ] {
            if !(0.0..=limit).contains(&value) {
                return Err(TrainError::config(name, format!("{value} is out of range")));
            }
        }
        if self.rand_augment > 0 || self.erase > 0.0 || self.mixup > 0.0 || self.cutmix > 0.0 {
            return Err(TrainError::config("augment", "crop and flip are all there is yet"));
        }
        Ok(())
    }
}

/// `n` network inputs `[channels, side, side]` and their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[n, channels, side, side]`.
    pub shape: [usize; 4],
    /// Inputs, row-major.
    pub inputs: Vec<f32>,
    /// Labels.
    pub labels: Vec<i32>,
}

/// The images at `indices` as a batch; image `i` is changed by a generator that depends on
/// `seed` and `i` alone, so the result does not depend on batch borders or threads.
pub fn gather(images: &Images, indices: &[usize], scale: PixelScale, augment: Augment, seed: u64) -> Batch {
    let (channels, side) = (images.channels, images.side);
    let len = images.image_len();
    let mut inputs = vec![0f32; indices.len() * len];
    inputs.par_chunks_mut(len).zip(indices).for_each(|(out, &i)| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let reach = augment.crop as i32;
        let mut shift = || rng.random_range(-reach..=reach) as isize;
        let (dy, dx) = (shift(), shift());
        let mirror = augment.flip && rng.random_bool(0.5);
        let image = images.image(i);
        for (plane, out) in out.chunks_exact_mut(side * side).enumerate().take(channels) {
            let plane = &image[plane * side * side..][..side * side];
            for y in 0..side {
                for x in 0..side {
                    let from_x = if mirror { side - 1 - x } else { x } as isize + dx;
                    let from_y = y as isize + dy;
                    let inside = |v: isize| (0..side as isize).contains(&v);
                    let pixel = if inside(from_x) && inside(from_y) {
                        plane[from_y as usize * side + from_x as usize]
                    } else {
                        0
                    };
                    out[y * side + x] = scale.real(pixel);
                }
            }
        }
    });
    Batch {
        shape: [indices.len(), channels, side, side],
        inputs,
        labels: indices.iter().map(|&i| i32::from(images.labels[i])).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Images {
        Images { channels: 1, side: 4, pixels: (1..=64).collect(), labels: vec![0, 1, 2, 3] }
    }

    const SCALE: PixelScale = PixelScale { offset: 0, scale_log2: 0 };

    #[test]
    fn without_augmentation_pixels_pass_unchanged() {
        let batch = gather(&images(), &[2, 0], SCALE, Augment::NONE, 7);
        let expected: Vec<f32> = (33..=48).chain(1..=16).map(|p| p as f32).collect();
        assert_eq!(batch.inputs, expected);
        assert_eq!(batch.labels, [2, 0]);
    }

    #[test]
    fn every_augmented_image_is_a_shift_or_its_mirror() {
        let images = images();
        let augment = Augment { crop: 1, flip: true, ..Augment::NONE };
        let mut seen = std::collections::HashSet::new();
        for seed in 0..200 {
            let got = gather(&images, &[1], SCALE, augment, seed).inputs;
            let candidates = (-1..=1isize).flat_map(|dy| (-1..=1isize).map(move |dx| (dy, dx)));
            let found = candidates.flat_map(|s| [(s, false), (s, true)]).find(|&((dy, dx), mirror)| {
                (0..16isize).all(|p| {
                    let (y, x) = (p / 4, if mirror { 3 - p % 4 } else { p % 4 });
                    let (fy, fx) = (y + dy, x + dx);
                    let inside = (0..4).contains(&fy) && (0..4).contains(&fx);
                    let expected = if inside { (17 + fy * 4 + fx) as f32 } else { 0.0 };
                    got[p as usize] == expected
                })
            });
            seen.insert(found.expect("a shift by at most 1, perhaps mirrored"));
        }
        assert_eq!(seen.len(), 18, "all 9 shifts, mirrored and not");
    }

    #[test]
    fn an_image_does_not_depend_on_its_batch() {
        let augment = Augment::default();
        let together = gather(&images(), &[0, 3], SCALE, augment, 5);
        let alone = gather(&images(), &[3], SCALE, augment, 5);
        assert_eq!(together.inputs[16..], alone.inputs);
    }
}
