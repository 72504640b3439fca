//! The operations of RandAugment (Cubuk et al., 2020, table 6), byte for byte those of Pillow.
//!
//! Images are planes of bytes, `[channels, side, side]`; one channel is taken as grey.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

/// An operation with its strength.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operation {
    Identity,
    /// Each channel stretched to the full range.
    AutoContrast,
    /// Each channel's histogram flattened.
    Equalize,
    /// By so many degrees, counter-clockwise, about the centre.
    Rotate(f64),
    /// Inverts values from the threshold on.
    Solarize(u16),
    /// Keeps so many high bits.
    Posterize(u32),
    /// Saturation: 0 is grey, 1 the image.
    Color(f32),
    /// 0 is the mean grey, 1 the image.
    Contrast(f32),
    /// 0 is black, 1 the image.
    Brightness(f32),
    /// 0 is smoothed, 1 the image.
    Sharpness(f32),
    /// So many columns a row.
    ShearX(f64),
    /// So many rows a column.
    ShearY(f64),
    /// By so many columns.
    TranslateX(i32),
    /// By so many rows.
    TranslateY(i32),
}

/// Degrees at full magnitude.
const ROTATION: f64 = 30.0;
/// Slope at full magnitude.
const SHEAR: f64 = 0.3;
/// Share of the side at full magnitude.
const TRANSLATION: f64 = 0.45;
/// Distance from 1 of an enhancement factor at full magnitude.
const ENHANCEMENT: f64 = 0.9;
/// Bits lost at full magnitude.
const BITS: f64 = 4.0;

impl Operation {
    /// One of the fourteen, uniformly, at `magnitude` of 0 to 10 and with a random sign.
    pub fn draw(rng: &mut ChaCha8Rng, magnitude: f64, side: usize) -> Self {
        let level = magnitude / 10.0;
        let kind = rng.random_range(0..14);
        let sign = if rng.random::<bool>() { 1.0 } else { -1.0 };
        let factor = (1.0 + sign * ENHANCEMENT * level) as f32;
        let pixels = (sign * TRANSLATION * level * side as f64).round() as i32;
        match kind {
            0 => Self::Identity,
            1 => Self::AutoContrast,
            2 => Self::Equalize,
            3 => Self::Rotate(sign * ROTATION * level),
            4 => Self::Solarize((256.0 * (1.0 - level)).round() as u16),
            5 => Self::Posterize(8 - (BITS * level).round() as u32),
            6 => Self::Color(factor),
            7 => Self::Contrast(factor),
            8 => Self::Brightness(factor),
            9 => Self::Sharpness(factor),
            10 => Self::ShearX(sign * SHEAR * level),
            11 => Self::ShearY(sign * SHEAR * level),
            12 => Self::TranslateX(pixels),
            _ => Self::TranslateY(pixels),
        }
    }

    /// Applies it to planes of `side * side` bytes.
    pub fn apply(self, image: &mut [u8], side: usize) {
        match self {
            Self::Identity => {}
            Self::AutoContrast => image.chunks_exact_mut(side * side).for_each(auto_contrast),
            Self::Equalize => image.chunks_exact_mut(side * side).for_each(equalize),
            Self::Solarize(threshold) => {
                image.iter_mut().filter(|v| u16::from(**v) >= threshold).for_each(|v| *v = 255 - *v);
            }
            Self::Posterize(bits) => {
                let mask = !((1u16 << (8 - bits.min(8))) - 1) as u8;
                image.iter_mut().for_each(|v| *v &= mask);
            }
            Self::Color(factor) => {
                let grey = luma(image, side);
                for plane in image.chunks_exact_mut(side * side) {
                    blend(&grey, plane, factor);
                }
            }
            Self::Contrast(factor) => {
                let grey = luma(image, side);
                let sum: u64 = grey.iter().map(|&v| u64::from(v)).sum();
                let mean = (sum as f64 / grey.len() as f64 + 0.5) as u8;
                blend(&vec![mean; image.len()], image, factor);
            }
            Self::Brightness(factor) => blend(&vec![0; image.len()], image, factor),
            Self::Sharpness(factor) => {
                for plane in image.chunks_exact_mut(side * side) {
                    blend(&smoothed(plane, side), plane, factor);
                }
            }
            Self::Rotate(degrees) => {
                let angle = -degrees.to_radians();
                let (sin, cos) = (rounded(angle.sin()), rounded(angle.cos()));
                let half = side as f64 / 2.0;
                let x = half - cos * half - sin * half;
                let y = half + sin * half - cos * half;
                affine(image, side, [cos, sin, x, -sin, cos, y]);
            }
            Self::ShearX(slope) => affine(image, side, [1.0, slope, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY(slope) => affine(image, side, [1.0, 0.0, 0.0, slope, 1.0, 0.0]),
            Self::TranslateX(by) => affine(image, side, [1.0, 0.0, f64::from(by), 0.0, 1.0, 0.0]),
            Self::TranslateY(by) => affine(image, side, [1.0, 0.0, 0.0, 0.0, 1.0, f64::from(by)]),
        }
    }
}

/// As Pillow rounds a rotation's coefficients.
fn rounded(v: f64) -> f64 {
    (v * 1e15).round() / 1e15
}

/// The pixel of output `(x, y)` is that of input `(a x + b y + c, d x + e y + f)`, nearest
/// neighbour in 16.16 fixed point, black outside.
fn affine(image: &mut [u8], side: usize, [a, b, c, d, e, f]: [f64; 6]) {
    let fixed = |v: f64| (v * 65536.0 + 0.5).floor() as i64;
    let (a0, a1, a2) = (fixed(a), fixed(b), fixed(c + a * 0.5 + b * 0.5));
    let (a3, a4, a5) = (fixed(d), fixed(e), fixed(f + d * 0.5 + e * 0.5));
    for plane in image.chunks_exact_mut(side * side) {
        let source = plane.to_vec();
        for (i, out) in plane.iter_mut().enumerate() {
            let (x, y) = ((i % side) as i64, (i / side) as i64);
            let column = usize::try_from((a2 + a1 * y + a0 * x) >> 16);
            let row = usize::try_from((a5 + a4 * y + a3 * x) >> 16);
            *out = match (row, column) {
                (Ok(row), Ok(column)) if row < side && column < side => source[row * side + column],
                _ => 0,
            };
        }
    }
}

/// `from + factor * (image - from)`, truncated and saturated.
fn blend(from: &[u8], image: &mut [u8], factor: f32) {
    for (v, &from) in image.iter_mut().zip(from) {
        let start = f32::from(from);
        // A cast to a byte truncates and saturates.
        *v = (start + factor * (f32::from(*v) - start)) as u8;
    }
}

/// ITU-R 601 luma; a grey image is its own.
fn luma(image: &[u8], side: usize) -> Vec<u8> {
    let area = side * side;
    if image.len() < 3 * area {
        return image.to_vec();
    }
    (0..area)
        .map(|i| {
            let [r, g, b] = [0, 1, 2].map(|c| u32::from(image[c * area + i]));
            ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
        })
        .collect()
}

/// Weights 1 around 5, over 13; the border stays.
fn smoothed(plane: &[u8], side: usize) -> Vec<u8> {
    let mut out = plane.to_vec();
    for y in 1..side.saturating_sub(1) {
        for x in 1..side - 1 {
            let window = (y - 1..=y + 1).flat_map(|r| plane[r * side + x - 1..=r * side + x + 1].iter());
            let sum = window.map(|&v| u32::from(v)).sum::<u32>() + 4 * u32::from(plane[y * side + x]);
            out[y * side + x] = ((2 * sum + 13) / 26) as u8;
        }
    }
    out
}

fn histogram(plane: &[u8]) -> [usize; 256] {
    let mut counts = [0; 256];
    plane.iter().for_each(|&v| counts[usize::from(v)] += 1);
    counts
}

fn look_up(plane: &mut [u8], table: impl Fn(u8) -> u8) {
    let table: Vec<u8> = (0..=255).map(table).collect();
    plane.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
}

fn auto_contrast(plane: &mut [u8]) {
    let (lo, hi) = (plane.iter().copied().min().unwrap_or(0), plane.iter().copied().max().unwrap_or(0));
    if lo < hi {
        let scale = 255.0 / f64::from(hi - lo);
        let offset = -f64::from(lo) * scale;
        look_up(plane, |v| (f64::from(v) * scale + offset) as u8);
    }
}

fn equalize(plane: &mut [u8]) {
    let counts = histogram(plane);
    let last = counts.iter().rev().find(|c| **c > 0).copied().unwrap_or(0);
    let step = (plane.len() - last) / 255;
    if step == 0 {
        return;
    }
    let mut below = step / 2;
    let mut table = [0u8; 256];
    for (entry, count) in table.iter_mut().zip(counts) {
        *entry = (below / step).min(255) as u8;
        below += count;
    }
    look_up(plane, |v| table[usize::from(v)]);
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// What Pillow makes of some images; see `tests/vectors/rand_augment.py`.
    #[derive(Deserialize)]
    struct Vectors {
        side: usize,
        /// Planes as hexadecimal digits.
        images: Vec<String>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        operation: Operation,
        image: usize,
        expected: String,
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn operations_are_those_of_pillow_byte_for_byte() {
        let vectors: Vectors =
            serde_json::from_str(include_str!("../../../tests/vectors/rand_augment.json")).unwrap();
        let mut kinds = std::collections::HashSet::new();
        for case in vectors.cases {
            let mut image = bytes(&vectors.images[case.image]);
            case.operation.apply(&mut image, vectors.side);
            let wrong = image.iter().zip(bytes(&case.expected)).filter(|(a, b)| **a != *b).count();
            assert_eq!(wrong, 0, "{:?} of image {}", case.operation, case.image);
            kinds.insert(std::mem::discriminant(&case.operation));
        }
        assert_eq!(kinds.len(), 14);
    }

    #[test]
    fn magnitude_bounds_every_operation() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..2000 {
            let operation = Operation::draw(&mut rng, 10.0, 32);
            seen.insert(std::mem::discriminant(&operation));
            match operation {
                Operation::Rotate(v) => assert_eq!(v.abs(), 30.0),
                Operation::Solarize(v) => assert_eq!(v, 0),
                Operation::Posterize(v) => assert_eq!(v, 4),
                Operation::ShearX(v) | Operation::ShearY(v) => assert_eq!(v.abs(), 0.3),
                Operation::TranslateX(v) | Operation::TranslateY(v) => assert_eq!(v.abs(), 14),
                Operation::Color(v) | Operation::Contrast(v) => assert!(v == 0.1 || v == 1.9, "{v}"),
                _ => {}
            }
        }
        assert_eq!(seen.len(), 14);
        let mut image: Vec<u8> = (0..=255).cycle().take(3 * 32 * 32).collect();
        let before = image.clone();
        for kind in
            [Operation::Rotate(0.0), Operation::Color(1.0), Operation::Posterize(8), Operation::Solarize(256)]
        {
            kind.apply(&mut image, 32);
        }
        assert_eq!(image, before, "no strength, no change");
    }
}
