//! Convolutions of every channel by itself.

use rayon::prelude::*;

use super::dense::{Geometry, Planes};
use super::simd::{Gram, Product};

/// One channel of one image.
fn plane(g: &Geometry) -> Geometry {
    Geometry { n: 1, channels: 1, filters: 1, ..*g }
}

/// The outputs `[n, channels, ..]` for weights `[channels, 1, kernel, kernel]`.
pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32]) -> Vec<f32> {
    let planes = Planes::of_inputs(&plane(g));
    let offsets = planes.offsets(1);
    let mut y = vec![0.0; g.n * g.output_len()];
    y.par_chunks_mut(g.output_len()).zip(x.par_chunks(g.input_len())).for_each_init(
        || (planes.buffer(1), vec![0.0; planes.pitch]),
        |(row, out), (y, x)| {
            let x = x.chunks_exact(g.height * g.width);
            let y = y.chunks_exact_mut(g.output_len() / g.channels);
            for ((x, y), w) in x.zip(y).zip(w.chunks_exact(offsets.len())) {
                planes.pack(x, 1, [g.height, g.width], row);
                convolve(w, row, &offsets, planes.columns(1), out);
                planes.unpack(out, 1, g.output(), y);
            }
        },
    );
    y
}

/// The gradients of the weights and, if `wanted`, of the inputs.
pub(super) fn backward(g: &Geometry, x: &[f32], w: &[f32], dy: &[f32], wanted: bool) -> (Vec<f32>, Vec<f32>) {
    let one = plane(g);
    let (inputs, gradients) = (Planes::of_inputs(&one), Planes::of_gradients(&one));
    let (x_offsets, dy_offsets) = (inputs.offsets(1), gradients.offsets(1));
    let taps = x_offsets.len();
    let mirrored: Vec<f32> = w.chunks_exact(taps).flat_map(|w| w.iter().rev()).copied().collect();
    let top = g.kernel - 1 - g.pad;
    let (input, output) = (g.height * g.width, g.output_len() / g.channels);
    let part = |dx: &mut [f32], x: &[f32], dy: &[f32]| {
        let mut dw = vec![0.0; w.len()];
        let (mut x_row, mut flat_row) = (inputs.buffer(1), vec![0.0; inputs.pitch]);
        let (mut dy_row, mut out) = (gradients.buffer(1), vec![0.0; gradients.pitch]);
        let mut dx = dx.chunks_exact_mut(input);
        for (i, (x, dy)) in x.chunks_exact(input).zip(dy.chunks_exact(output)).enumerate() {
            let at = i % g.channels * taps..(i % g.channels + 1) * taps;
            inputs.pack(x, 1, [g.height, g.width], &mut x_row);
            inputs.spread(dy, 1, g.output(), [0, 1], &mut flat_row);
            let (d, b, sums) = (&flat_row[..], &x_row[..], &mut dw[at.clone()]);
            Gram {
                d,
                pitch: 0,
                rows: 1,
                b,
                offsets: &x_offsets,
                columns: inputs.columns(1),
                images: 1,
                steps: [0, 0],
                sums,
            }
            .run();
            if let Some(dx) = dx.next() {
                gradients.spread(dy, 1, g.output(), [top, g.stride], &mut dy_row);
                convolve(&mirrored[at], &dy_row, &dy_offsets, gradients.columns(1), &mut out);
                gradients.unpack(&out, 1, [g.height, g.width], dx);
            }
        }
        dw
    };
    g.in_parts(1, x, dy, wanted, part)
}

fn convolve(w: &[f32], b: &[f32], offsets: &[usize], columns: usize, out: &mut [f32]) {
    let pitch = out.len();
    Product::<1> { panels: w, b, offsets, columns, rows: 1, out, pitch, gather: false }.run();
}
