//! Batch norm with the rectifier behind it, and the rectifier alone.

use pulp::Arch;
use rayon::prelude::*;

/// Lanes of a sum: independent chains that vectorise.
const LANES: usize = 32;
/// Values that a thread takes at a time.
const GRAIN: usize = 1 << 14;

/// Batch statistics of `[n, channels, area]`.
#[derive(Clone, Debug)]
pub(super) struct Statistics {
    pub mean: Vec<f32>,
    /// Mean square distance from the mean.
    pub variance: Vec<f32>,
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    mean: f32,
    inverse: f32,
    gamma: f32,
    beta: f32,
}

/// What a norm is applied with.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
    pub epsilon: f64,
    /// Values are cut off here: infinite for no rectifier.
    pub low: f32,
    pub high: f32,
}

impl Statistics {
    /// Of `x`, in images of `area` values a channel.
    pub(super) fn of(x: &[f32], channels: usize, area: usize) -> Self {
        // Mean and sum of squared distances of every plane, joined in order (Chan et al., 1983).
        let planes: Vec<[f64; 2]> = x.par_chunks_exact(area).map(moments).collect();
        let n = planes.len() / channels;
        let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
        for c in 0..channels {
            let of_channel = || planes.iter().skip(c).step_by(channels);
            let all = of_channel().map(|p| p[0]).sum::<f64>() / n as f64;
            let squares = of_channel().map(|p| p[1] + area as f64 * (p[0] - all).powi(2)).sum::<f64>();
            mean[c] = all as f32;
            variance[c] = (squares / (n * area) as f64) as f32;
        }
        Self { mean, variance }
    }
}

impl Norm {
    /// The normalised and rectified `x`.
    pub(super) fn forward(&self, x: &[f32], area: usize, statistics: &Statistics) -> Vec<f32> {
        let channels = self.channels(statistics);
        let (low, high) = (self.low, self.high);
        let mut y = vec![0.0; x.len()];
        let arch = Arch::new();
        y.par_chunks_exact_mut(area * channels.len())
            .zip(x.par_chunks_exact(area * channels.len()))
            .for_each(|(y, x)| {
                arch.dispatch(
                    #[inline(always)]
                    || {
                        let planes = y.chunks_exact_mut(area).zip(x.chunks_exact(area));
                        for ((y, x), c) in planes.zip(&channels) {
                            let (scale, shift) = c.affine();
                            y.iter_mut()
                                .zip(x)
                                .for_each(|(y, x)| *y = (x * scale + shift).max(low).min(high));
                        }
                    },
                );
            });
        y
    }

    /// Turns the gradients `d` of the outputs into those of `x`; returns those of `gamma` and
    /// `beta`.
    pub(super) fn backward(
        &self,
        x: &[f32],
        area: usize,
        statistics: &Statistics,
        d: &mut [f32],
    ) -> [Vec<f32>; 2] {
        let channels = self.channels(statistics);
        let image = area * channels.len();
        let (low, high) = (self.low, self.high);
        let arch = Arch::new();
        // Stops the gradients where the rectifier does, and sums them and their products with the
        // normalised inputs.
        let sums: Vec<[f64; 2]> = d
            .par_chunks_exact_mut(image)
            .zip(x.par_chunks_exact(image))
            .flat_map_iter(|(dy, x)| {
                let planes = dy.chunks_exact_mut(area).zip(x.chunks_exact(area)).zip(&channels);
                planes.map(|((dy, x), c)| {
                    arch.dispatch(
                        #[inline(always)]
                        || masked_sums(dy, x, c, low, high),
                    )
                })
            })
            .collect();
        let count = channels.len();
        let total = |c: usize, i: usize| sums.iter().skip(c).step_by(count).map(|s| s[i]).sum::<f64>();
        let beta: Vec<f64> = (0..count).map(|c| total(c, 0)).collect();
        let gamma: Vec<f64> = (0..count).map(|c| total(c, 1)).collect();
        let share = 1.0 / (x.len() / count) as f64;
        d.par_chunks_exact_mut(image).zip(x.par_chunks_exact(image)).for_each(|(dy, x)| {
            arch.dispatch(
                #[inline(always)]
                || {
                    let planes = dy.chunks_exact_mut(area).zip(x.chunks_exact(area));
                    for (i, ((dy, x), c)) in planes.zip(&channels).enumerate() {
                        let (mean, slope) = ((beta[i] * share) as f32, (gamma[i] * share) as f32);
                        let scale = c.gamma * c.inverse;
                        // scale * (dy - mean - normalised * slope)
                        let along = -scale * slope * c.inverse;
                        let constant = -scale * mean - along * c.mean;
                        dy.iter_mut().zip(x).for_each(|(d, x)| *d = *d * scale + (x * along + constant));
                    }
                },
            );
        });
        [gamma, beta].map(|sums| sums.into_iter().map(|v| v as f32).collect())
    }

    fn channels(&self, statistics: &Statistics) -> Vec<Channel> {
        let affine = self.gamma.iter().zip(&self.beta);
        let moments = statistics.mean.iter().zip(&statistics.variance);
        affine
            .zip(moments)
            .map(|((&gamma, &beta), (&mean, &variance))| {
                let inverse = (1.0 / (f64::from(variance) + self.epsilon).sqrt()) as f32;
                Channel { mean, inverse, gamma, beta }
            })
            .collect()
    }
}

impl Channel {
    /// `x * scale + shift` is the normalised value.
    #[inline(always)]
    fn affine(&self) -> (f32, f32) {
        let scale = self.gamma * self.inverse;
        (scale, self.beta - self.mean * scale)
    }
}

/// `x = clamp(x, 0, high)`.
pub(super) fn rectify(x: &mut [f32], high: f32) {
    let arch = Arch::new();
    x.par_chunks_mut(GRAIN).for_each(|x| {
        arch.dispatch(
            #[inline(always)]
            || x.iter_mut().for_each(|x| *x = x.max(0.0).min(high)),
        );
    });
}

/// Zeroes gradients where the output `y` of [`rectify`] was cut off.
pub(super) fn rectify_backward(d: &mut [f32], y: &[f32], high: f32) {
    let arch = Arch::new();
    d.par_chunks_mut(GRAIN).zip(y.par_chunks(GRAIN)).for_each(|(d, y)| {
        arch.dispatch(
            #[inline(always)]
            || d.iter_mut().zip(y).for_each(|(d, y)| *d = if *y > 0.0 && *y < high { *d } else { 0.0 }),
        );
    });
}

/// Mean and sum of squared distances from it.
fn moments(plane: &[f32]) -> [f64; 2] {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let (chunks, rest) = plane.as_chunks::<LANES>();
            let mut sums = [0f32; LANES];
            for chunk in chunks {
                (0..LANES).for_each(|i| sums[i] += chunk[i]);
            }
            let total = sums.iter().chain(rest).map(|v| f64::from(*v)).sum::<f64>();
            let mean = total / plane.len() as f64;
            let centre = mean as f32;
            let mut squares = [0f32; LANES];
            for chunk in chunks {
                (0..LANES).for_each(|i| squares[i] += (chunk[i] - centre) * (chunk[i] - centre));
            }
            let rest = rest.iter().map(|v| f64::from((v - centre) * (v - centre))).sum::<f64>();
            [mean, squares.iter().map(|v| f64::from(*v)).sum::<f64>() + rest]
        },
    )
}

/// Zeroes `dy` where the output was cut off; sums it and its products with the normalised `x`.
#[inline(always)]
fn masked_sums(dy: &mut [f32], x: &[f32], c: &Channel, low: f32, high: f32) -> [f64; 2] {
    let (scale, shift) = c.affine();
    let mask = |d: &mut f32, x: f32| {
        let y = x * scale + shift;
        *d = if y > low && y < high { *d } else { 0.0 };
        (*d, *d * (x - c.mean))
    };
    let (mut sums, mut products) = ([0f32; LANES], [0f32; LANES]);
    let (dy, dy_rest) = dy.as_chunks_mut::<LANES>();
    let (x, x_rest) = x.as_chunks::<LANES>();
    for (dy, x) in dy.iter_mut().zip(x) {
        for i in 0..LANES {
            let (d, product) = mask(&mut dy[i], x[i]);
            sums[i] += d;
            products[i] += product;
        }
    }
    let mut total = [sums, products].map(|lanes| lanes.iter().map(|v| f64::from(*v)).sum::<f64>());
    for (d, x) in dy_rest.iter_mut().zip(x_rest) {
        let (d, product) = mask(d, *x);
        total[0] += f64::from(d);
        total[1] += f64::from(product);
    }
    [total[0], total[1] * f64::from(c.inverse)]
}
