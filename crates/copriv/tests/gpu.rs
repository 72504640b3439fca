//! The GPU's kernels against the CPU's: values and gradients. On a machine without a GPU, by a software driver:
//! `VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.x86_64.json cargo test --release -p copriv --features wgpu --test gpu`.
#![cfg(feature = "wgpu")]

use std::path::Path;

use burn::tensor::{Device, Distribution, Tensor};
use copriv_train::data::{Augment, EMBEDDED, gather, load};
use copriv_train::fit::Learner;
use copriv_train::net::{Array, kernel};
use copriv_train::{Processor, Recipe, untrained};

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec().unwrap()
}

fn close<const D: usize>(what: &str, got: Tensor<D>, expected: Tensor<D>) {
    assert_eq!(got.dims(), expected.dims(), "{what}");
    let (got, expected) = (values(got), values(expected));
    let largest = expected.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
        assert!((g - e).abs() <= 1e-4 * largest, "{what}: {g} instead of {e} at {i}, largest {largest}");
    }
}

/// Output, statistics and gradients of a norm behind an affine map (away from zero mean and unit variance).
fn norm(
    device: &Device,
    [x, gamma, beta, seed]: [&[f32]; 4],
    shape: [usize; 4],
    channels_last: bool,
    rectifier: Option<f32>,
) -> (Vec<Tensor<4>>, Vec<Tensor<1>>) {
    let [n, c, h, w] = shape;
    let leaf = |v: &[f32]| Tensor::<1>::from_floats(v, &device.clone().autodiff()).require_grad();
    let (x, gamma, beta) = (leaf(x), leaf(gamma), leaf(beta));
    // The same numbers, in the two orders in memory.
    let images = if channels_last {
        x.clone().reshape([n, h, w, c]).permute([0, 3, 1, 2])
    } else {
        x.clone().reshape(shape)
    };
    let (y, [mean, variance]) =
        kernel::batch_norm(images * 3.0 + 40.0, gamma.clone(), beta.clone(), 1e-5, rectifier);
    let seed = Tensor::<1>::from_floats(seed, device).autodiff().reshape(shape);
    let grads = (y.clone() * seed).sum().backward();
    let of = |v: &Tensor<1>| v.grad(&grads).unwrap();
    (vec![y.inner()], vec![mean, variance, of(&x), of(&gamma), of(&beta)])
}

#[test]
fn norms_equal_the_cpus() {
    let gpu = Processor::Wgpu.open().unwrap();
    let cpu = Device::flex();
    cpu.seed(4);
    for (shape, rectifier) in [
        ([4, 3, 5, 5], None),
        ([4, 3, 8, 8], Some(f32::INFINITY)),
        ([9, 70, 12, 7], Some(6.0)),
        ([3, 33, 1, 1], Some(0.5)),
        ([64, 5, 32, 1], None),
    ] {
        for channels_last in [false, true] {
            let what = format!("{shape:?} {rectifier:?} channels last: {channels_last}");
            let random = |n: usize| values(Tensor::<1>::random([n], Distribution::Normal(0.0, 1.0), &cpu));
            let all = shape.iter().product();
            let [x, gamma, beta, seed] = [all, shape[1], shape[1], all].map(random);
            let inputs = [&x[..], &gamma, &beta, &seed];
            let (images, vectors) = norm(&gpu, inputs, shape, channels_last, rectifier);
            let (expected_images, expected_vectors) = norm(&cpu, inputs, shape, channels_last, rectifier);
            for (got, expected) in images.into_iter().zip(expected_images) {
                close(&what, got, expected);
            }
            for (got, expected) in vectors.into_iter().zip(expected_vectors) {
                close(&what, got, expected);
            }
        }
    }
}

/// Weights and their moving average after three steps, from the same start.
#[test]
fn steps_equal_the_cpus() {
    let data = load(EMBEDDED, Path::new("")).unwrap();
    let start = untrained("mbv2-tiny", &data, 1).unwrap();
    for (ema, clip) in [(0.0, Recipe::default().clip), (0.5, 0.0)] {
        let recipe = Recipe { ema, clip, ..Recipe::default() };
        let [got, expected] = [Processor::Wgpu, Processor::Cpu].map(|processor| {
            let mut learner = Learner::new(&start, None, &recipe, &processor.open().unwrap()).unwrap();
            for step in 0..3 {
                let indices: Vec<usize> = (16 * step..16 * (step + 1)).collect();
                let batch = gather(&data.train, &indices, data.pixels, Augment::NONE, 0).unwrap();
                learner.step(0.02, &batch);
            }
            learner.weights()
        });
        for ((name, got), (_, expected)) in got.iter().zip(expected.iter()) {
            let before = start.weights.get(name).unwrap();
            let moved = |a: &Array| {
                a.data.iter().zip(&before.data).map(|(a, b)| f64::from(a - b)).collect::<Vec<_>>()
            };
            let (got, expected) = (moved(got), moved(expected));
            let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
            let apart = norm(&mut got.iter().zip(&expected).map(|(a, b)| a - b));
            let length = norm(&mut expected.iter().copied());
            assert!(apart <= 0.02 * length + 1e-6, "{name}: {apart} apart of {length}, average {ema}");
        }
    }
}

#[test]
fn rectifiers_equal_the_cpus() {
    let devices = [Processor::Wgpu.open().unwrap(), Device::flex()];
    devices[1].seed(5);
    let shape = [3, 5, 4, 7];
    for (high, channels_last) in [(f32::INFINITY, false), (0.5, true), (6.0, true)] {
        let random =
            || values(Tensor::<1>::random([3 * 5 * 4 * 7], Distribution::Normal(0.0, 1.0), &devices[1]));
        let (x, seed) = (random(), random());
        let [got, expected] = devices.each_ref().map(|device| {
            let leaf = |v: &[f32]| Tensor::<1>::from_floats(v, &device.clone().autodiff());
            let x = leaf(&x).require_grad();
            let images = if channels_last {
                x.clone().reshape([3, 4, 7, 5]).permute([0, 3, 1, 2])
            } else {
                x.clone().reshape(shape)
            };
            let y = kernel::rectify(images.clone() * 1.0, high);
            assert_eq!(values(kernel::rectify(images.inner(), high)), values(y.clone()));
            let grads = (y.clone() * leaf(&seed).reshape(shape)).sum().backward();
            [values(y), values(x.grad(&grads).unwrap())]
        });
        assert_eq!(got, expected, "{high} {channels_last}");
    }
}
