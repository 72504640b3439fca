//! Rectangles to erase or to paste, and the shares of two images in a mixture, from uniform draws.

use rand::{Rng, RngExt};
use rand_distr::{Beta, Distribution};

/// Part of an image: rows `top..bottom`, columns `left..right`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data) struct Rectangle {
    pub top: usize,
    pub bottom: usize,
    pub left: usize,
    pub right: usize,
}

/// Share of the image's area that is erased.
const AREA: (f64, f64) = (0.02, 1.0 / 3.0);
/// Height over width; its logarithm is uniform.
const ASPECT: (f64, f64) = (0.3, 3.3);
/// Height over width of a part that is resized, likewise.
const MILD_ASPECT: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
/// Draws until one fits.
const ATTEMPTS: usize = 10;

impl Rectangle {
    /// For random erasing (Zhong et al., 2020), with torchvision's parameters; `None` if no draw
    /// fits.
    pub fn to_erase(rng: &mut impl Rng, side: usize) -> Option<Self> {
        (0..ATTEMPTS).find_map(|_| Self::from_draws(side, [(); 4].map(|()| rng.random())))
    }

    /// From four numbers of `0..1`: area, aspect, row, column.
    fn from_draws(side: usize, [area, aspect, row, column]: [f64; 4]) -> Option<Self> {
        let between = |(lo, hi): (f64, f64), u: f64| lo + (hi - lo) * u;
        let area = between(AREA, area) * (side * side) as f64;
        let aspect = between((ASPECT.0.ln(), ASPECT.1.ln()), aspect).exp();
        let height = (area * aspect).sqrt().round() as usize;
        let width = (area / aspect).sqrt().round() as usize;
        if height >= side || width >= side {
            return None;
        }
        let at = |u: f64, room: usize| (u * (room + 1) as f64) as usize;
        let (top, left) = (at(row, side - height), at(column, side - width));
        Some(Self { top, bottom: top + height, left, right: left + width })
    }

    /// For a random resized crop (Szegedy et al., 2015) of an image of `[height, width]`, with
    /// torchvision's parameters: at least the share `least` of its area. If no draw fits, the middle
    /// of the image, as much of it as the aspect allows.
    pub fn to_resize(rng: &mut impl Rng, size: [usize; 2], least: f64) -> Self {
        let draw = |_| Self::part_from_draws(size, least, [(); 4].map(|()| rng.random()));
        (0..ATTEMPTS).find_map(draw).unwrap_or_else(|| Self::middle(size))
    }

    /// From four numbers of `0..1`: area, aspect, row, column.
    fn part_from_draws(
        [height, width]: [usize; 2],
        least: f64,
        [area, aspect, row, column]: [f64; 4],
    ) -> Option<Self> {
        let between = |(lo, hi): (f64, f64), u: f64| lo + (hi - lo) * u;
        let area = between((least, 1.0), area) * (height * width) as f64;
        let aspect = between((MILD_ASPECT.0.ln(), MILD_ASPECT.1.ln()), aspect).exp();
        let h = (area * aspect).sqrt().round() as usize;
        let w = (area / aspect).sqrt().round() as usize;
        if h == 0 || w == 0 || h > height || w > width {
            return None;
        }
        let at = |u: f64, room: usize| (u * (room + 1) as f64) as usize;
        let (top, left) = (at(row, height - h), at(column, width - w));
        Some(Self { top, bottom: top + h, left, right: left + w })
    }

    fn middle([height, width]: [usize; 2]) -> Self {
        let limit = |own: usize, other: usize| ((other as f64 * MILD_ASPECT.1).round() as usize).min(own);
        let (h, w) = (limit(height, width), limit(width, height));
        let (top, left) = ((height - h) / 2, (width - w) / 2);
        Self { top, bottom: top + h, left, right: left + w }
    }

    /// For CutMix (Yun et al., 2019, appendix A): a box around `(row, column)` that covers `1 - share` of
    /// the image, as far as it lies inside.
    pub fn to_paste(side: usize, share: f64, [row, column]: [usize; 2]) -> Self {
        let half = ((side as f64 * (1.0 - share).sqrt()) as usize) / 2;
        let (lo, hi) = (|v: usize| v.saturating_sub(half), |v: usize| (v + half).min(side));
        Self { top: lo(row), bottom: hi(row), left: lo(column), right: hi(column) }
    }

    /// Number of pixels.
    pub fn area(&self) -> usize {
        (self.bottom - self.top) * (self.right - self.left)
    }

    /// Calls `f` with the range of each row's elements in a plane of width `side`.
    pub fn rows(&self, side: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        let Self { top, bottom, left, right } = *self;
        (top..bottom).map(move |y| y * side + left..y * side + right)
    }
}

/// A share from `Beta(alpha, alpha)`.
pub(super) fn share(rng: &mut impl Rng, alpha: f64) -> f64 {
    Beta::new(alpha, alpha).map_or(1.0, |beta| beta.sample(rng))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use serde::Deserialize;

    use super::*;

    /// What NumPy makes of the published definitions; see `tests/vectors/regions.py`.
    #[derive(Deserialize)]
    struct Vectors {
        erase: Vec<(usize, [f64; 4], Option<[usize; 4]>)>,
        paste: Vec<(usize, f64, [usize; 2], [usize; 4])>,
        resize: Vec<Part>,
        middle: Vec<([usize; 2], [usize; 4])>,
    }

    /// Size, least share, draws, corners.
    type Part = ([usize; 2], f64, [f64; 4], Option<[usize; 4]>);

    fn corners(r: Rectangle) -> [usize; 4] {
        [r.top, r.bottom, r.left, r.right]
    }

    #[test]
    fn rectangles_are_those_of_the_definitions() {
        let vectors: Vectors =
            serde_json::from_str(include_str!("../../../tests/vectors/regions.json")).unwrap();
        assert!(vectors.erase.iter().any(|(_, _, r)| r.is_none()));
        for (side, draws, expected) in vectors.erase {
            assert_eq!(Rectangle::from_draws(side, draws).map(corners), expected, "{draws:?}");
        }
        for (side, share, centre, expected) in vectors.paste {
            assert_eq!(corners(Rectangle::to_paste(side, share, centre)), expected, "{share} {centre:?}");
        }
        assert!(vectors.resize.iter().any(|(.., r)| r.is_none()));
        for (size, least, draws, expected) in vectors.resize {
            assert_eq!(
                Rectangle::part_from_draws(size, least, draws).map(corners),
                expected,
                "{size:?} {draws:?}"
            );
        }
        for (size, expected) in vectors.middle {
            assert_eq!(corners(Rectangle::middle(size)), expected, "{size:?}");
        }
    }

    /// Mean 1/2 and variance 1 / (4 (2 alpha + 1)).
    #[test]
    fn shares_follow_the_beta_distribution() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for alpha in [0.2, 1.0, 4.0] {
            let n = 20_000;
            let draws: Vec<f64> = (0..n).map(|_| share(&mut rng, alpha)).collect();
            let mean = draws.iter().sum::<f64>() / n as f64;
            let variance = draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / n as f64;
            let expected = 0.25 / (2.0 * alpha + 1.0);
            assert!(
                (mean - 0.5).abs() < 0.01 && (variance / expected - 1.0).abs() < 0.05,
                "{mean} {variance}"
            );
        }
    }
}
