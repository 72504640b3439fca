//! Convolutions in which every filter sees every channel.

use rayon::prelude::*;

use super::simd::{Gram, LANES, Product, panels};

/// Rows of a panel of weights.
const R: usize = 8;
/// Weight gradients are summed in so many parts, whatever the number of threads, so that results
/// do not depend on it.
const PARTS: usize = 8;
/// Columns of a chunk of images: what keeps its rows in the second-level cache.
const COLUMNS: usize = 1024;

/// A convolution of `[n, channels, height, width]` by `[filters, channels, kernel, kernel]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub n: usize,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub filters: usize,
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
}

impl Geometry {
    /// Height and width of the output.
    pub(super) fn output(&self) -> [usize; 2] {
        [self.height, self.width].map(|side| (side + 2 * self.pad - self.kernel) / self.stride + 1)
    }

    pub(super) fn input_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    pub(super) fn output_len(&self) -> usize {
        self.filters * self.output().iter().product::<usize>()
    }

    /// Runs `part` on parts of the batch, whole chunks of images each: it fills the gradients of the
    /// inputs, an empty slice unless `wanted`, and returns those of the weights, which are added up
    /// in order.
    pub(super) fn in_parts(
        &self,
        chunk: usize,
        x: &[f32],
        dy: &[f32],
        wanted: bool,
        part: impl Fn(&mut [f32], &[f32], &[f32]) -> Vec<f32> + Sync,
    ) -> (Vec<f32>, Vec<f32>) {
        let images = self.n.div_ceil(chunk).div_ceil(PARTS) * chunk;
        let mut dx = vec![0.0; if wanted { self.n * self.input_len() } else { 0 }];
        let mut parts: Vec<&mut [f32]> = dx.chunks_mut(images * self.input_len()).collect();
        parts.resize_with(self.n.div_ceil(images), Default::default);
        let x = x.par_chunks(images * self.input_len());
        let dy = dy.par_chunks(images * self.output_len());
        let sums: Vec<_> =
            parts.into_par_iter().zip(x.zip(dy)).map(|(dx, (x, dy))| part(dx, x, dy)).collect();
        let mut sums = sums.into_iter();
        let mut dw = sums.next().unwrap_or_default();
        for part in sums {
            dw.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
        }
        (dw, dx)
    }

    /// Matrix products on the images where they lie.
    fn in_place(&self) -> bool {
        let area = self.height * self.width;
        (self.kernel, self.stride, self.pad) == (1, 1, 0) && area.is_multiple_of(LANES)
    }
}

/// How the planes of some images lie in a buffer: a row for each channel (and phase of the
/// stride), in it one plane an image.
pub(super) struct Planes {
    /// Images that share a row.
    pub images: usize,
    pub height: usize,
    pub width: usize,
    /// From row to row.
    pub pitch: usize,
    stride: usize,
    pad: usize,
    /// Remainders of a position by the stride that some tap meets.
    pub phases: Vec<[usize; 2]>,
    /// Offset of every tap in a channel's rows.
    taps: Vec<usize>,
}

impl Planes {
    /// Padded inputs, of which the output at `[y, x]` meets tap `t` at `y * width + x + offset(t)`.
    pub(super) fn of_inputs(g: &Geometry) -> Self {
        let s = g.stride;
        // With stride 1 what pads one line or image at its end pads the next one at its start.
        let pad = if s == 1 { g.pad } else { 2 * g.pad };
        let [height, width] = [g.height, g.width].map(|side| (side + pad).div_ceil(s));
        let sides = s.min(g.kernel);
        let phases: Vec<_> = (0..sides).flat_map(|y| (0..sides).map(move |x| [y, x])).collect();
        let mut planes =
            Self { images: 1, height, width, pitch: 0, stride: s, pad: g.pad, phases, taps: vec![] };
        planes.tile(g.n, (g.kernel - 1) / s);
        planes.taps = (0..g.kernel)
            .flat_map(|y| (0..g.kernel).map(move |x| (y, x)))
            .map(|(y, x)| ((y % s) * sides + x % s) * planes.pitch + y / s * width + x / s)
            .collect();
        planes
    }

    /// Gradients of outputs, spread by the stride and padded so that a convolution of stride 1
    /// by the mirrored kernel gives the gradients of the inputs.
    pub(super) fn of_gradients(g: &Geometry) -> Self {
        // Values begin at `kernel - 1 - pad`; the next line's padding closes this one.
        let [height, width] = [g.height, g.width].map(|side| side + g.pad);
        let mut planes = Self {
            images: 1,
            height,
            width,
            pitch: 0,
            stride: 1,
            pad: 0,
            phases: vec![[0, 0]],
            taps: vec![],
        };
        planes.tile(g.n, g.kernel - 1);
        let taps = (0..g.kernel).flat_map(|y| (0..g.kernel).map(move |x| y * width + x));
        planes.taps = taps.collect();
        planes
    }

    fn tile(&mut self, n: usize, reach: usize) {
        let area = self.height * self.width;
        self.images = (COLUMNS / area).clamp(1, n.div_ceil(PARTS / 2).max(1));
        let len = self.images * area + reach * (self.width + 1) + LANES;
        // An odd number of cache lines: rows a page apart would share few sets of the cache.
        self.pitch = (len.div_ceil(16) | 1) * 16;
    }

    /// Room for `channels` channels.
    pub(super) fn buffer(&self, channels: usize) -> Vec<f32> {
        vec![0.0; channels * self.phases.len() * self.pitch]
    }

    pub(super) fn columns(&self, images: usize) -> usize {
        images * self.height * self.width
    }

    /// Of every row of the matrix that the weights are multiplied by: channels, then taps.
    pub(super) fn offsets(&self, channels: usize) -> Vec<usize> {
        let channel = self.phases.len() * self.pitch;
        (0..channels).flat_map(|c| self.taps.iter().map(move |t| c * channel + t)).collect()
    }

    /// Copies `images`, `[.., channels, height, width]` of `side`s, to `buffer`, whose borders are
    /// zero and stay so.
    pub(super) fn pack(&self, images: &[f32], channels: usize, side: [usize; 2], buffer: &mut [f32]) {
        let [height, width] = side;
        let image_len = channels * height * width;
        if images.len() / image_len < self.images {
            buffer.fill(0.0);
        }
        for (i, image) in images.chunks_exact(image_len).enumerate() {
            let rows = buffer.chunks_exact_mut(self.phases.len() * self.pitch);
            for (plane, rows) in image.chunks_exact(height * width).zip(rows) {
                for ([a, b], row) in self.phases.iter().zip(rows.chunks_exact_mut(self.pitch)) {
                    let to = &mut row[self.columns(i)..self.columns(i + 1)];
                    self.pack_plane(plane, [height, width], [*a, *b], to);
                }
            }
        }
    }

    fn pack_plane(&self, plane: &[f32], [height, width]: [usize; 2], [a, b]: [usize; 2], to: &mut [f32]) {
        let (s, pad) = (self.stride, self.pad);
        // The first row and column that are not padding.
        let [top, left] = [a, b].map(|phase| pad.saturating_sub(phase).div_ceil(s));
        for (y, to) in to.chunks_exact_mut(self.width).enumerate().skip(top) {
            let from = y * s + a - pad;
            if from >= height {
                break;
            }
            let from = &plane[from * width..][..width];
            let from = from.get(left * s + b - pad..).unwrap_or_default();
            if s == 1 {
                to[left..left + from.len()].copy_from_slice(from);
            } else {
                to[left..].iter_mut().zip(from.iter().step_by(s)).for_each(|(to, v)| *to = *v);
            }
        }
    }

    /// Copies gradients of outputs, `[.., filters, side]`, to `buffer`: the value at `[y, x]` goes
    /// to `[top + y * step, top + x * step]`.
    pub(super) fn spread(
        &self,
        images: &[f32],
        filters: usize,
        side: [usize; 2],
        [top, step]: [usize; 2],
        buffer: &mut [f32],
    ) {
        let [height, width] = side;
        let image_len = filters * height * width;
        if images.len() / image_len < self.images {
            buffer.fill(0.0);
        }
        for (i, image) in images.chunks_exact(image_len).enumerate() {
            for (plane, row) in image.chunks_exact(height * width).zip(buffer.chunks_exact_mut(self.pitch)) {
                let to = &mut row[self.columns(i)..self.columns(i + 1)];
                for (y, from) in plane.chunks_exact(width).enumerate() {
                    let to = &mut to[(top + y * step) * self.width + top..];
                    if step == 1 {
                        to[..width].copy_from_slice(from);
                    } else {
                        to.iter_mut().step_by(step).zip(from).for_each(|(to, v)| *to = *v);
                    }
                }
            }
        }
    }

    /// The upper left `side` of every plane of `rows`, back to `[.., channels, side]`.
    pub(super) fn unpack(&self, rows: &[f32], channels: usize, side: [usize; 2], images: &mut [f32]) {
        let [height, width] = side;
        for (i, image) in images.chunks_exact_mut(channels * height * width).enumerate() {
            for (plane, row) in image.chunks_exact_mut(height * width).zip(rows.chunks_exact(self.pitch)) {
                let from = row[self.columns(i)..].chunks_exact(self.width);
                plane
                    .chunks_exact_mut(width)
                    .zip(from)
                    .for_each(|(to, from)| to.copy_from_slice(&from[..width]));
            }
        }
    }
}

/// The outputs `[n, filters, ..]`.
pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32]) -> Vec<f32> {
    let depth = g.channels * g.kernel * g.kernel;
    let panels = panels::<R>(g.filters, depth, |r, k| w[r * depth + k]);
    let mut y = vec![0.0; g.n * g.output_len()];
    if g.in_place() {
        let images = y.par_chunks_exact_mut(g.output_len()).zip(x.par_chunks_exact(g.input_len()));
        images.for_each(|(y, x)| pointwise(&panels, x, g.channels, y, g.filters));
        return y;
    }
    let planes = Planes::of_inputs(g);
    let offsets = planes.offsets(g.channels);
    let chunks = y.par_chunks_mut(planes.images * g.output_len());
    chunks.zip(x.par_chunks(planes.images * g.input_len())).for_each_init(
        || (planes.buffer(g.channels), vec![0.0; g.filters * planes.pitch]),
        |(buffer, out), (y, x)| {
            planes.pack(x, g.channels, [g.height, g.width], buffer);
            Product::<R> {
                panels: &panels,
                b: buffer,
                offsets: &offsets,
                columns: planes.columns(x.len() / g.input_len()),
                rows: g.filters,
                out,
                pitch: planes.pitch,
                gather: false,
            }
            .run();
            planes.unpack(out, g.filters, g.output(), y);
        },
    );
    y
}

/// The gradients of the weights and, if `wanted`, of the inputs. A kernel is at least as wide as
/// its padding.
pub(super) fn backward(g: &Geometry, x: &[f32], w: &[f32], dy: &[f32], wanted: bool) -> (Vec<f32>, Vec<f32>) {
    let taps = g.kernel * g.kernel;
    let depth = g.channels * taps;
    let mirrored = panels::<R>(g.channels, g.filters * taps, |c, k| {
        let (filter, tap) = (k / taps, k % taps);
        w[filter * depth + c * taps + taps - 1 - tap]
    });
    let mut inputs = Planes::of_inputs(g);
    let mut gradients = Planes::of_gradients(g);
    let chunk = inputs.images.min(gradients.images);
    (inputs.images, gradients.images) = (chunk, chunk);
    let work = Backward { g, mirrored: &mirrored, inputs: &inputs, gradients: &gradients };
    g.in_parts(chunk, x, dy, wanted, |dx, x, dy| work.part(chunk, x, dy, dx))
}

struct Backward<'a> {
    g: &'a Geometry,
    /// The transposed kernels, in panels.
    mirrored: &'a [f32],
    inputs: &'a Planes,
    gradients: &'a Planes,
}

impl Backward<'_> {
    /// The sum of the weights' gradients over some images; `dx` is empty where not wanted.
    fn part(&self, chunk: usize, x: &[f32], dy: &[f32], dx: &mut [f32]) -> Vec<f32> {
        let Self { g, inputs, gradients, .. } = *self;
        let mut dw = vec![0.0; g.filters * g.channels * g.kernel * g.kernel];
        let chunks = x.chunks(chunk * g.input_len()).zip(dy.chunks(chunk * g.output_len()));
        if g.in_place() {
            let area = g.height * g.width;
            let offsets: Vec<_> = (0..g.channels).map(|c| c * area).collect();
            let mut dx = dx.chunks_mut(g.input_len());
            for (x, dy) in chunks {
                Gram {
                    d: dy,
                    pitch: area,
                    rows: g.filters,
                    b: x,
                    offsets: &offsets,
                    columns: area,
                    images: x.len() / g.input_len(),
                    steps: [g.output_len(), g.input_len()],
                    sums: &mut dw,
                }
                .run();
                for (dy, dx) in dy.chunks_exact(g.output_len()).zip(&mut dx) {
                    pointwise(self.mirrored, dy, g.filters, dx, g.channels);
                }
            }
            return dw;
        }
        let (x_offsets, dy_offsets) = (inputs.offsets(g.channels), gradients.offsets(g.filters));
        let mut x_rows = inputs.buffer(g.channels);
        let mut dy_rows = gradients.buffer(g.filters);
        // Where inputs and gradients lie alike, one copy of the gradients serves both products.
        let top = g.kernel - 1 - g.pad;
        let alike = g.stride == 1 && inputs.width == gradients.width && inputs.pitch == gradients.pitch;
        let mut flat_rows = if alike { vec![] } else { vec![0.0; g.filters * inputs.pitch] };
        let mut out = vec![0.0; g.channels * gradients.pitch];
        let mut dx = dx.chunks_mut(chunk * g.input_len());
        for (x, dy) in chunks {
            let images = x.len() / g.input_len();
            inputs.pack(x, g.channels, [g.height, g.width], &mut x_rows);
            let dx = dx.next();
            if alike || dx.is_some() {
                gradients.spread(dy, g.filters, g.output(), [top, g.stride], &mut dy_rows);
            }
            let d = if alike {
                &dy_rows[top * gradients.width + top..]
            } else {
                inputs.spread(dy, g.filters, g.output(), [0, 1], &mut flat_rows);
                &flat_rows[..]
            };
            let columns = inputs.columns(images);
            Gram {
                d,
                pitch: inputs.pitch,
                rows: g.filters,
                b: &x_rows,
                offsets: &x_offsets,
                columns,
                images: 1,
                steps: [0, 0],
                sums: &mut dw,
            }
            .run();
            if let Some(dx) = dx {
                Product::<R> {
                    panels: self.mirrored,
                    b: &dy_rows,
                    offsets: &dy_offsets,
                    columns: gradients.columns(images),
                    rows: g.channels,
                    out: &mut out,
                    pitch: gradients.pitch,
                    gather: false,
                }
                .run();
                gradients.unpack(&out, g.channels, [g.height, g.width], dx);
            }
        }
        dw
    }
}

/// `y = a x` for one image's `[channels, area]`.
fn pointwise(panels: &[f32], x: &[f32], channels: usize, y: &mut [f32], filters: usize) {
    let area = x.len() / channels;
    let offsets: Vec<_> = (0..channels).map(|c| c * area).collect();
    Product::<R> {
        panels,
        b: x,
        offsets: &offsets,
        columns: area,
        rows: filters,
        out: y,
        pitch: area,
        gather: true,
    }
    .run();
}
