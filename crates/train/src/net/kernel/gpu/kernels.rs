//! The kernels. A tensor `[n, channels, height, width]` may lie in memory in whichever order: what a convolution
//! gives has its channels next to each other. A row is a pixel of an image, counted through the batch.

use cubecl::prelude::*;

/// Units of a cube.
pub(super) const UNITS: u32 = 256;
/// Values whose squares a cube sums.
pub(super) const PIECE: u32 = 1 << 13;

/// Where the value of a row and a channel lies.
#[cube]
fn place(x: &Tensor<f32>, row: usize, channel: usize) -> usize {
    let pixels = x.shape(2) * x.shape(3);
    let pixel = row % pixels;
    row / pixels * x.stride(0)
        + channel * x.stride(1)
        + pixel / x.shape(3) * x.stride(2)
        + pixel % x.shape(3) * x.stride(3)
}

/// Adds what the units of a cube have for the same channel, `lanes` channels in all, in a fixed order: the first
/// `lanes` units then have it.
#[cube]
fn join(values: &mut [f32], #[comptime] lanes: u32) {
    let unit = UNIT_POS_X as usize;
    #[unroll]
    for step in 0..comptime![(UNITS / lanes).ilog2()] {
        let half = comptime![(UNITS >> (step + 1)) as usize];
        sync_cube();
        if unit < half {
            values[unit] += values[unit + half];
        }
    }
    sync_cube();
}

/// Rows of a batch.
#[cube]
fn rows_of(x: &Tensor<f32>) -> usize {
    x.shape(0) * x.shape(2) * x.shape(3)
}

/// The channel whose sums a unit helps to form, the unit's first row and the end of its part of the rows.
#[cube]
fn part(x: &Tensor<f32>, rows_a_part: u32, #[comptime] lanes: u32) -> (usize, usize, usize) {
    let start = (CUBE_POS_X * rows_a_part) as usize;
    let mut end = start + rows_a_part as usize;
    if end > rows_of(x) {
        end = rows_of(x);
    }
    let channel = (CUBE_POS_Y * lanes + UNIT_POS_X % lanes) as usize;
    (channel, start + (UNIT_POS_X / lanes) as usize, end)
}

/// Writes two sums of each channel and part, `[2, parts, channels]`, of which every unit has its rows'.
#[cube]
fn write_sums(
    first: f32,
    second: f32,
    out: &mut Tensor<f32>,
    channel: usize,
    channels: usize,
    #[comptime] lanes: u32,
) {
    let unit = UNIT_POS_X as usize;
    let mut firsts = Shared::new_slice(comptime![UNITS as usize]);
    let mut seconds = Shared::new_slice(comptime![UNITS as usize]);
    firsts[unit] = first;
    seconds[unit] = second;
    join(&mut firsts, lanes);
    join(&mut seconds, lanes);
    if UNIT_POS_X < lanes && channel < channels {
        let at = CUBE_POS_X as usize * channels + channel;
        out[at] = firsts[unit];
        out[CUBE_COUNT_X as usize * channels + at] = seconds[unit];
    }
}

/// A channel's two sums over all parts, from [`write_sums`].
#[cube]
fn read_sums(sums: &Tensor<f32>, channel: usize) -> (f32, f32) {
    let parts = sums.shape(1);
    let channels = sums.shape(2);
    let mut first = f32::new(0.0f32);
    let mut second = f32::new(0.0f32);
    for part in 0..parts {
        first += sums[part * channels + channel];
        second += sums[(parts + part) * channels + channel];
    }
    (first, second)
}

/// `clamp(value, low, high)`; what is not a number stays that.
#[cube]
fn cut_off(value: f32, low: f32, high: f32) -> f32 {
    let mut value = value;
    if value < low {
        value = low;
    }
    if value > high {
        value = high;
    }
    value
}

/// For each channel and part of the rows, the sums of `x - shift` and of its squares, where `shift` is the channel's
/// first value: `[2, parts, channels]`.
#[cube(launch)]
pub(super) fn moments(x: &Tensor<f32>, out: &mut Tensor<f32>, rows_a_part: u32, #[comptime] lanes: u32) {
    let channels = x.shape(1);
    let (channel, first, end) = part(x, rows_a_part, lanes);
    let mut sum = f32::new(0.0f32);
    let mut square = f32::new(0.0f32);
    if channel < channels {
        let shift = x[place(x, 0, channel)];
        let mut row = first;
        while row < end {
            let value = x[place(x, row, channel)] - shift;
            sum += value;
            square += value * value;
            row += comptime![(UNITS / lanes) as usize];
        }
    }
    write_sums(sum, square, out, channel, channels, lanes);
}

/// Mean and variance, `[channels]`, from [`moments`]; and what makes an output of an input, `[4, channels]`: scale,
/// shift, mean, and one over the deviation.
#[cube(launch)]
#[allow(clippy::too_many_arguments)]
pub(super) fn statistics(
    x: &Tensor<f32>,
    sums: &Tensor<f32>,
    gamma: &Tensor<f32>,
    beta: &Tensor<f32>,
    mean: &mut Tensor<f32>,
    variance: &mut Tensor<f32>,
    affine: &mut Tensor<f32>,
    epsilon: f32,
) {
    let channel = ABSOLUTE_POS;
    let channels = x.shape(1);
    if channel < channels {
        let (sum, square) = read_sums(sums, channel);
        let rows = f32::cast_from(rows_of(x) as u32);
        let moved = sum / rows;
        let mut spread = square / rows - moved * moved;
        if spread < 0.0f32 {
            spread = f32::new(0.0f32);
        }
        let centre = moved + x[place(x, 0, channel)];
        let inverse = (spread + epsilon).sqrt().recip();
        let scale = gamma[channel] * inverse;
        mean[channel] = centre;
        variance[channel] = spread;
        affine[channel] = scale;
        affine[channels + channel] = beta[channel] - centre * scale;
        affine[2 * channels + channel] = centre;
        affine[3 * channels + channel] = inverse;
    }
}

/// Row and channel of a value that is counted as it lies in memory: with the channels of a pixel next to each other,
/// or the pixels of a channel. Outputs lie like their inputs.
#[cube]
fn position(x: &Tensor<f32>, index: usize, #[comptime] channels_last: bool) -> (usize, usize) {
    let channels = x.shape(1);
    let pixels = x.shape(2) * x.shape(3);
    if channels_last {
        (index / channels, index % channels)
    } else {
        (index / (channels * pixels) * pixels + index % pixels, index / pixels % channels)
    }
}

/// `clamp(scale x + shift, low, high)`.
#[cube(launch)]
pub(super) fn normalise(
    x: &Tensor<f32>,
    affine: &Tensor<f32>,
    y: &mut Tensor<f32>,
    low: f32,
    high: f32,
    #[comptime] channels_last: bool,
) {
    let channels = x.shape(1);
    if ABSOLUTE_POS < rows_of(x) * channels {
        let (row, channel) = position(x, ABSOLUTE_POS, channels_last);
        let value = x[place(x, row, channel)] * affine[channel] + affine[channels + channel];
        y[ABSOLUTE_POS] = cut_off(value, low, high);
    }
}

/// The gradient of an output where the rectifier lets it through.
#[cube]
fn passed(
    x: &Tensor<f32>,
    affine: &Tensor<f32>,
    dy: &Tensor<f32>,
    row: usize,
    channel: usize,
    low: f32,
    high: f32,
) -> f32 {
    let value = x[place(x, row, channel)] * affine[channel] + affine[x.shape(1) + channel];
    let mut gradient = dy[place(dy, row, channel)];
    if value <= low || value >= high {
        gradient = f32::new(0.0f32);
    }
    gradient
}

/// For each channel and part of the rows, the sums of the gradients and of their products with the normalised inputs:
/// `[2, parts, channels]`.
#[cube(launch)]
#[allow(clippy::too_many_arguments)]
pub(super) fn slopes(
    x: &Tensor<f32>,
    affine: &Tensor<f32>,
    dy: &Tensor<f32>,
    out: &mut Tensor<f32>,
    rows_a_part: u32,
    low: f32,
    high: f32,
    #[comptime] lanes: u32,
) {
    let channels = x.shape(1);
    let (channel, first, end) = part(x, rows_a_part, lanes);
    let mut sum = f32::new(0.0f32);
    let mut product = f32::new(0.0f32);
    if channel < channels {
        let mean = affine[2 * channels + channel];
        let inverse = affine[3 * channels + channel];
        let mut row = first;
        while row < end {
            let gradient = passed(x, affine, dy, row, channel, low, high);
            sum += gradient;
            product += gradient * (x[place(x, row, channel)] - mean) * inverse;
            row += comptime![(UNITS / lanes) as usize];
        }
    }
    write_sums(sum, product, out, channel, channels, lanes);
}

/// The gradients of shift and scale, `[channels]`, from [`slopes`].
#[cube(launch)]
pub(super) fn totals(sums: &Tensor<f32>, beta: &mut Tensor<f32>, gamma: &mut Tensor<f32>) {
    let channel = ABSOLUTE_POS;
    if channel < sums.shape(2) {
        let (sum, product) = read_sums(sums, channel);
        beta[channel] = sum;
        gamma[channel] = product;
    }
}

/// The gradient of an input: `scale (dy - mean(dy) - normalised mean(dy normalised))`.
#[cube(launch)]
#[allow(clippy::too_many_arguments)]
pub(super) fn differentiate(
    x: &Tensor<f32>,
    affine: &Tensor<f32>,
    dy: &Tensor<f32>,
    beta: &Tensor<f32>,
    gamma: &Tensor<f32>,
    dx: &mut Tensor<f32>,
    low: f32,
    high: f32,
    #[comptime] channels_last: bool,
) {
    let channels = x.shape(1);
    let rows = rows_of(x);
    if ABSOLUTE_POS < rows * channels {
        let (row, channel) = position(x, ABSOLUTE_POS, channels_last);
        let gradient = passed(x, affine, dy, row, channel, low, high);
        let normalised =
            (x[place(x, row, channel)] - affine[2 * channels + channel]) * affine[3 * channels + channel];
        let share = f32::cast_from(rows as u32).recip();
        dx[ABSOLUTE_POS] =
            affine[channel] * (gradient - beta[channel] * share - normalised * gamma[channel] * share);
    }
}

/// `clamp(x, 0, high)` of any values, which lie in whichever order.
#[cube(launch)]
pub(super) fn rectify(x: &Tensor<f32>, y: &mut Tensor<f32>, high: f32, #[comptime] channels_last: bool) {
    if ABSOLUTE_POS < rows_of(x) * x.shape(1) {
        let (row, channel) = position(x, ABSOLUTE_POS, channels_last);
        y[ABSOLUTE_POS] = cut_off(x[place(x, row, channel)], f32::new(0.0f32), high);
    }
}

/// The gradient of [`rectify`]'s input, from its output.
#[cube(launch)]
pub(super) fn rectify_backward(
    y: &Tensor<f32>,
    dy: &Tensor<f32>,
    dx: &mut Tensor<f32>,
    high: f32,
    #[comptime] channels_last: bool,
) {
    if ABSOLUTE_POS < rows_of(y) * y.shape(1) {
        let (row, channel) = position(y, ABSOLUTE_POS, channels_last);
        let value = y[place(y, row, channel)];
        let mut gradient = dy[place(dy, row, channel)];
        if value <= 0.0f32 || value >= high {
            gradient = f32::new(0.0f32);
        }
        dx[ABSOLUTE_POS] = gradient;
    }
}

/// The sums of the squares of `PIECE` values each, in slots from the given one on.
#[cube(launch)]
pub(super) fn squares(values: &Tensor<f32>, out: &mut Tensor<f32>, slot: u32) {
    let unit = UNIT_POS_X as usize;
    let mut sums = Shared::new_slice(comptime![UNITS as usize]);
    let mut sum = f32::new(0.0f32);
    let start = (CUBE_POS_X * PIECE) as usize;
    let mut end = start + comptime![PIECE as usize];
    if end > values.len() {
        end = values.len();
    }
    let mut i = start + unit;
    while i < end {
        sum += values[i] * values[i];
        i += comptime![UNITS as usize];
    }
    sums[unit] = sum;
    join(&mut sums, 1u32);
    if unit == 0 {
        out[(slot + CUBE_POS_X) as usize] = sums[0];
    }
}

/// A step of gradient descent with momentum, see [`super::super::descend`]; gradients count `factor` times if
/// they are `clipped`.
#[cube(launch)]
#[allow(clippy::too_many_arguments)]
pub(super) fn descend(
    parameter: &Tensor<f32>,
    velocity: &Tensor<f32>,
    gradient: &Tensor<f32>,
    factor: &Tensor<f32>,
    new_parameter: &mut Tensor<f32>,
    new_velocity: &mut Tensor<f32>,
    rate: f32,
    momentum: f32,
    decay: f32,
    #[comptime] clipped: bool,
    #[comptime] nesterov: bool,
) {
    let i = ABSOLUTE_POS;
    if i < parameter.len() {
        let mut slope = gradient[i];
        if clipped {
            slope *= factor[0];
        }
        slope += decay * parameter[i];
        let speed = momentum * velocity[i] + slope;
        let mut along = speed;
        if nesterov {
            along = slope + momentum * speed;
        }
        new_velocity[i] = speed;
        new_parameter[i] = parameter[i] - rate * along;
    }
}

/// `keep own + (1 - keep) other`.
#[cube(launch)]
pub(super) fn average(own: &Tensor<f32>, other: &Tensor<f32>, out: &mut Tensor<f32>, keep: f32) {
    let i = ABSOLUTE_POS;
    if i < own.len() {
        out[i] = keep * own[i] + (1.0f32 - keep) * other[i];
    }
}
