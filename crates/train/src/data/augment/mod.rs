//! Batches: images with random changes, made in parallel from bytes in memory.

mod operations;
mod regions;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::operations::Operation;
pub(super) use self::regions::Rectangle;
use self::regions::share;
use super::{Images, PixelScale};
use crate::TrainError;

/// Random changes to training images, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// A random part of the image, of at least this share of its area, resized to the whole
    /// (Szegedy et al., 2015); 0 is none.
    pub resized_crop: f64,
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
    pub const NONE: Self = Self {
        resized_crop: 0.0,
        crop: 0,
        flip: false,
        rand_augment: 0,
        magnitude: 9.0,
        erase: 0.0,
        mixup: 0.0,
        cutmix: 0.0,
    };

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn check(&self) -> Result<(), TrainError> {
        for (name, value, limit) in [
            ("resized_crop", self.resized_crop, 1.0),
            ("magnitude", self.magnitude, 10.0),
            ("erase", self.erase, 1.0),
            ("mixup", self.mixup, f64::MAX),
            ("cutmix", self.cutmix, f64::MAX),
        ] {
            if !(0.0..=limit).contains(&value) {
                return Err(TrainError::config(name, format!("{value} is out of range")));
            }
        }
        Ok(())
    }
}

/// `n` network inputs `[channels, side, side]` and what they show.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[n, channels, side, side]`.
    pub shape: [usize; 4],
    /// Inputs, row-major.
    pub inputs: Vec<f32>,
    /// Labels.
    pub labels: Vec<i32>,
    /// The label of what was mixed into each image.
    pub partners: Vec<i32>,
    /// The share of each image itself: 1 where nothing was mixed in.
    pub shares: Vec<f32>,
}

impl Batch {
    /// The target distribution of every image, row-major `[n, classes]`: its label and its
    /// partner's by their shares, mixed with `smoothing` of the uniform distribution.
    pub fn targets(&self, classes: usize, smoothing: f32) -> Vec<f32> {
        let mut targets = vec![smoothing / classes as f32; self.labels.len() * classes];
        for (i, row) in targets.chunks_exact_mut(classes).enumerate() {
            row[self.labels[i] as usize] += (1.0 - smoothing) * self.shares[i];
            row[self.partners[i] as usize] += (1.0 - smoothing) * (1.0 - self.shares[i]);
        }
        targets
    }
}

/// The images at `indices` as a batch. Image `i` is changed by a generator that depends on
/// `seed` and `i` alone, and its partner is drawn from the whole split: so the result does not depend on
/// batch borders, order or threads, and a resumed run sees what the first would have seen.
///
/// # Errors
/// An image file that cannot be decoded.
pub fn gather(
    images: &Images,
    indices: &[usize],
    scale: PixelScale,
    augment: Augment,
    seed: u64,
) -> Result<Batch, TrainError> {
    let len = images.image_len();
    let mut inputs = vec![0f32; indices.len() * len];
    let mixed = inputs
        .par_chunks_mut(len)
        .zip(indices)
        .map(|(out, &i)| {
            changed(images, i, scale, augment, seed, out)?;
            mix(images, i, scale, augment, seed, out)
        })
        .collect::<Result<Vec<(i32, f32)>, TrainError>>()?;
    let (partners, shares) = mixed.into_iter().unzip();
    Ok(Batch {
        shape: [indices.len(), images.channels, images.side, images.side],
        inputs,
        labels: indices.iter().map(|&i| i32::from(images.labels[i])).collect(),
        partners,
        shares,
    })
}

/// Separates the streams of an image's own changes and of its mixture.
const MIXTURE: u64 = 0x6d69_7874_7572_6500;

fn generator(seed: u64, i: usize) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed ^ (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Image `i`, changed but not mixed.
fn changed(
    images: &Images,
    i: usize,
    scale: PixelScale,
    augment: Augment,
    seed: u64,
    out: &mut [f32],
) -> Result<(), TrainError> {
    let side = images.side;
    let mut rng = generator(seed, i);
    let image = if augment.resized_crop > 0.0 {
        let picture = images.picture(i)?;
        let part = Rectangle::to_resize(&mut rng, picture.size(), augment.resized_crop);
        picture.part(part, side).into()
    } else {
        images.image(i)?
    };
    let mut pixels = moved(&image, side, augment, &mut rng);
    for _ in 0..augment.rand_augment {
        Operation::draw(&mut rng, augment.magnitude, side).apply(&mut pixels, side);
    }
    out.iter_mut().zip(&pixels).for_each(|(v, &pixel)| *v = scale.real(pixel));
    if augment.erase > 0.0
        && rng.random_bool(augment.erase)
        && let Some(hole) = Rectangle::to_erase(&mut rng, side)
    {
        for plane in out.chunks_exact_mut(side * side) {
            hole.rows(side).for_each(|row| plane[row].fill(0.0));
        }
    }
    Ok(())
}

/// A random crop and, perhaps, its mirror image.
fn moved(image: &[u8], side: usize, augment: Augment, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let reach = augment.crop as i32;
    let mut shift = || rng.random_range(-reach..=reach) as isize;
    let (dy, dx) = (shift(), shift());
    let mirror = augment.flip && rng.random_bool(0.5);
    let mut out = vec![0; image.len()];
    for (plane, out) in image.chunks_exact(side * side).zip(out.chunks_exact_mut(side * side)) {
        for y in 0..side {
            for x in 0..side {
                let from_x = if mirror { side - 1 - x } else { x } as isize + dx;
                let from_y = y as isize + dy;
                let inside = |v: isize| (0..side as isize).contains(&v);
                if inside(from_x) && inside(from_y) {
                    out[y * side + x] = plane[from_y as usize * side + from_x as usize];
                }
            }
        }
    }
    out
}

/// Mixes a partner into `out`, which holds image `i`: the partner's label, and the share that
/// image `i` keeps.
fn mix(
    images: &Images,
    i: usize,
    scale: PixelScale,
    augment: Augment,
    seed: u64,
    out: &mut [f32],
) -> Result<(i32, f32), TrainError> {
    let own = (i32::from(images.labels[i]), 1.0);
    let paste = match (augment.mixup > 0.0, augment.cutmix > 0.0) {
        (false, false) => return Ok(own),
        (mixup, cutmix) => {
            let either: bool = generator(seed ^ MIXTURE ^ 1, i).random();
            cutmix && (!mixup || either)
        }
    };
    let mut rng = generator(seed ^ MIXTURE, i);
    let partner = rng.random_range(0..images.len());
    let label = i32::from(images.labels[partner]);
    let mut other = vec![0f32; out.len()];
    changed(images, partner, scale, augment, seed, &mut other)?;
    if !paste {
        let share = share(&mut rng, augment.mixup) as f32;
        out.iter_mut().zip(&other).for_each(|(v, o)| *v = share * *v + (1.0 - share) * o);
        return Ok((label, share));
    }
    let side = images.side;
    let share = share(&mut rng, augment.cutmix);
    let centre = [0, 1].map(|_| rng.random_range(0..side));
    let hole = Rectangle::to_paste(side, share, centre);
    for (plane, other) in out.chunks_exact_mut(side * side).zip(other.chunks_exact(side * side)) {
        hole.rows(side).for_each(|row| plane[row.clone()].copy_from_slice(&other[row]));
    }
    Ok((label, 1.0 - hole.area() as f32 / (side * side) as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Images {
        Images {
            channels: 1,
            side: 4,
            pixels: (1..=64).collect::<Vec<u8>>().into(),
            labels: vec![0, 1, 2, 3],
        }
    }

    const SCALE: PixelScale = PixelScale { offset: 0, scale_log2: 0 };

    #[test]
    fn without_augmentation_pixels_pass_unchanged() {
        let batch = gather(&images(), &[2, 0], SCALE, Augment::NONE, 7).unwrap();
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
            let got = gather(&images, &[1], SCALE, augment, seed).unwrap().inputs;
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
        let together = gather(&images(), &[0, 3], SCALE, augment, 5).unwrap();
        let alone = gather(&images(), &[3], SCALE, augment, 5).unwrap();
        assert_eq!(together.inputs[16..], alone.inputs);
    }

    /// With 4x4 images of one value each, every input tells from which images it was made.
    fn flat(n: usize) -> Images {
        let pixels = (0..n).flat_map(|i| [10 * i as u8; 16]).collect::<Vec<u8>>().into();
        Images { channels: 1, side: 4, pixels, labels: (0..n as u16).collect() }
    }

    #[test]
    fn a_mixture_has_the_targets_of_its_parts() {
        let images = flat(10);
        let indices: Vec<usize> = (0..10).collect();
        let mut mixed = 0;
        for (mixup, cutmix) in [(0.4, 0.0), (0.0, 1.0), (1.0, 1.0)] {
            let augment = Augment { mixup, cutmix, ..Augment::NONE };
            for seed in 0..20 {
                let batch = gather(&images, &indices, SCALE, augment, seed).unwrap();
                let targets = batch.targets(10, 0.1);
                for (i, input) in batch.inputs.chunks_exact(16).enumerate() {
                    let (own, other) = (10.0 * i as f32, 10.0 * batch.partners[i] as f32);
                    let share = batch.shares[i];
                    // Mixed or pasted, the mean is that of the parts.
                    let mean = input.iter().sum::<f32>() / 16.0;
                    assert!((mean - (share * own + (1.0 - share) * other)).abs() < 1e-3);
                    mixed += usize::from(own != other && share < 1.0);
                    let row = &targets[i * 10..][..10];
                    assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
                    let expected = 0.01 + 0.9 * if own == other { 1.0 } else { share };
                    assert!((row[i] - expected).abs() < 1e-6, "{row:?}");
                }
            }
        }
        assert!(mixed > 300, "{mixed}");
    }

    #[test]
    fn erasing_leaves_one_hole_of_zeros() {
        let images =
            Images { channels: 3, side: 32, pixels: vec![200; 3 * 1024 * 50].into(), labels: vec![0; 50] };
        let augment = Augment { erase: 0.5, ..Augment::NONE };
        let indices: Vec<usize> = (0..50).collect();
        let batch = gather(&images, &indices, SCALE, augment, 4).unwrap();
        let holes: Vec<usize> = batch
            .inputs
            .chunks_exact(3 * 1024)
            .map(|image| image.iter().filter(|v| **v == 0.0).count())
            .collect();
        let erased = holes.iter().filter(|n| **n > 0).count();
        assert!((15..35).contains(&erased), "{erased} of 50");
        assert!(holes.iter().all(|n| n % 3 == 0 && *n < 3 * 1024 * 2 / 5));
    }

    /// What a resumed run relies on.
    #[test]
    fn everything_at_once_depends_on_seed_and_index_alone() {
        let augment = Augment {
            resized_crop: 0.3,
            crop: 1,
            flip: true,
            rand_augment: 2,
            magnitude: 9.0,
            erase: 0.5,
            mixup: 0.3,
            cutmix: 1.0,
        };
        let all = gather(&images(), &[0, 1, 2, 3], SCALE, augment, 9).unwrap();
        for i in 0..4 {
            let one = gather(&images(), &[i], SCALE, augment, 9).unwrap();
            assert_eq!(all.inputs[i * 16..][..16], one.inputs);
            assert_eq!((all.partners[i], all.shares[i]), (one.partners[0], one.shares[0]));
        }
        assert_ne!(gather(&images(), &[0, 1, 2, 3], SCALE, augment, 10).unwrap().inputs, all.inputs);
    }
}
