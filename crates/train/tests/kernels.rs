//! The CPU kernels against Burn's own operators: values and gradients.

use burn::tensor::activation::relu;
use burn::tensor::module;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor};
use copriv_train::net::kernel;

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex().autodiff()).require_grad()
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec().unwrap()
}

/// Equal up to `1e-5` of the largest value, times the root of the number of terms in a sum.
fn close<const D: usize>(what: &str, got: Tensor<D>, expected: Tensor<D>, terms: usize) {
    assert_eq!(got.dims(), expected.dims(), "{what}");
    let (got, expected) = (values(got), values(expected));
    let largest = expected.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    let limit = 1e-5 * largest * (terms as f32).sqrt();
    for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
        assert!((g - e).abs() <= limit, "{what}: {g} instead of {e} at {i}, limit {limit}");
    }
}

/// Convolutions as `[n, channels, side, filters, kernel, stride, pad, groups]`.
const CASES: [[usize; 8]; 18] = [
    [3, 5, 9, 7, 3, 1, 1, 1],
    [2, 16, 32, 16, 3, 1, 1, 1],
    [19, 6, 8, 10, 3, 1, 1, 1],
    [5, 4, 9, 6, 3, 2, 1, 1],
    [3, 3, 8, 8, 3, 2, 1, 1],
    [2, 3, 13, 4, 7, 2, 3, 1],
    [2, 3, 12, 4, 5, 3, 0, 1],
    [2, 3, 6, 4, 3, 1, 0, 1],
    [3, 6, 16, 10, 1, 1, 0, 1],
    [33, 12, 4, 20, 1, 1, 0, 1],
    [3, 5, 7, 9, 1, 1, 0, 1],
    [3, 6, 8, 4, 1, 2, 0, 1],
    [3, 6, 9, 6, 3, 1, 1, 6],
    [5, 9, 8, 9, 3, 2, 1, 9],
    [2, 4, 11, 4, 5, 1, 2, 4],
    [2, 3, 4, 3, 3, 1, 1, 3],
    // No kernel for these: other groups, more padding than kernel.
    [2, 6, 8, 4, 3, 1, 1, 2],
    [2, 3, 5, 4, 1, 1, 1, 1],
];

#[test]
fn convolutions_equal_burns() {
    Device::flex().seed(1);
    for case in CASES {
        let [n, c, side, filters, k, stride, pad, groups] = case;
        let what = format!("{case:?}");
        let (x, w) = (random([n, c, side, side]), random([filters, c / groups, k, k]));
        let y = kernel::conv2d(x.clone(), w.clone(), stride, pad, groups);
        let options = ConvOptions::new([stride; 2], [pad; 2], [1, 1], groups);
        let expected = module::conv2d(x.clone(), w.clone(), None, options);
        let seed = random(expected.dims()).detach();
        let [a, b] = [y.clone(), expected.clone()].map(|y| (y * seed.clone()).sum().backward());
        close(&what, y.clone(), expected, c * k * k);
        close(&what, x.grad(&a).unwrap(), x.grad(&b).unwrap(), filters * k * k);
        close(&what, w.grad(&a).unwrap(), w.grad(&b).unwrap(), n * side * side);
        let plain = kernel::conv2d(x.inner(), w.inner(), stride, pad, groups);
        assert_eq!(values(plain), values(y), "{what}: with and without gradients");
    }
}

#[test]
fn norms_equal_burns() {
    Device::flex().seed(2);
    for (shape, rectifier) in [
        ([4, 3, 5, 5], None),
        ([4, 3, 8, 8], Some(f32::INFINITY)),
        ([3, 7, 16, 16], Some(f32::INFINITY)),
        ([5, 2, 3, 3], Some(1.0)),
    ] {
        let what = format!("{shape:?} {rectifier:?}");
        let x = random(shape);
        let (gamma, beta) = (random([shape[1]]), random([shape[1]]));
        // Away from zero mean and unit variance.
        let (y, [mean, variance]) =
            kernel::batch_norm(x.clone() * 3.0 + 40.0, gamma.clone(), beta.clone(), 1e-5, rectifier);
        let out = module::batch_norm_train(x.clone() * 3.0 + 40.0, gamma.clone(), beta.clone(), 1e-5);
        let expected = match rectifier {
            None => out.output,
            Some(high) if high.is_finite() => relu(out.output).clamp_max(high),
            Some(_) => relu(out.output),
        };
        let seed = random(shape).detach();
        let [a, b] = [y.clone(), expected.clone()].map(|y| (y * seed.clone()).sum().backward());
        close(&what, y, expected, 10);
        close(&what, mean, out.mean.inner(), 10);
        close(&what, variance, out.variance.inner(), 10);
        close(&what, x.grad(&a).unwrap(), x.grad(&b).unwrap(), 100);
        close(&what, gamma.grad(&a).unwrap(), gamma.grad(&b).unwrap(), 100);
        close(&what, beta.grad(&a).unwrap(), beta.grad(&b).unwrap(), 100);
    }
}

#[test]
fn the_rectifier_equals_burns_and_spares_its_operand() {
    Device::flex().seed(3);
    let x = random([2, 3, 5, 7]);
    let before = values(x.clone());
    for high in [f32::INFINITY, 0.5] {
        let y = kernel::rectify(x.clone(), high);
        let expected = if high.is_finite() { relu(x.clone()).clamp_max(high) } else { relu(x.clone()) };
        let [a, b] = [y.clone(), expected.clone()].map(|y| (y.clone() * y).sum().backward());
        assert_eq!(values(y), values(expected));
        assert_eq!(values(x.grad(&a).unwrap()), values(x.grad(&b).unwrap()));
        assert_eq!(values(x.clone()), before);
        assert_eq!(
            values(kernel::rectify(x.clone().inner(), high)),
            values(kernel::rectify(x.clone(), high))
        );
    }
}
