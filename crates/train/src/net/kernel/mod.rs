//! Convolution, norm and rectifier on the CPU, with hand-written gradients.
//!
//! Burn's own operators are general; a training step is faster and smaller with kernels that keep
//! to `[n, channels, height, width]`, never transpose, and fuse a norm with its rectifier. Each of
//! the functions here takes the kernel where the tensors live on the `flex` device, on a GPU the one in
//! `gpu` if there is one, and else Burn's operators; values and gradients are the same
//! (`tests/kernels.rs`). Sums are formed in an order that depends on shapes alone, not on threads.
//!
//! # Speed
//!
//! A training step (forward, backward, update; batch 64, 32x32) on one core with AVX-512, beside PyTorch
//! 2.15 (NCHW) in the same run of `COPRIV_BENCH_THREADS=1 cargo bench -p copriv-train`, 2026-11-21, on a
//! machine that others used too:
//!
//! | network | processor time | PyTorch's | ratio | peak memory | PyTorch's |
//! |---|---|---|---|---|---|
//! | ResNet-32 | 0.388 s | 0.334 s | 0.86 | 173 MiB | 934 MiB |
//! | MobileNetV2, width 0.75 | 1.285 s | 1.718 s | 1.34 | 736 MiB | 1641 MiB |
//!
//! Dense products run at 50 to 65 billion multiplications a second, of about 80 that the core's two
//! multipliers could do; what is left on ResNet-32 is the algorithm (no Winograd transform) and a tenth
//! for copies in and out of padded planes. Depth-wise layers stay at 3 to 5 billion: they are bound by
//! memory, of which a quarter is the system's work on pages that a large tensor gives back and takes
//! again in each step.
//!
//! On a GPU convolutions and products are Burn's. It has neither automatic casts nor a scaler of losses
//! (tracel-ai/burn #5696): in mixed precision ([`crate::Precision`]) the network casts a convolution's operands itself.

mod dense;
mod depthwise;
#[cfg(feature = "gpu")]
mod gpu;
mod norm;
mod simd;
mod tracked;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::activation::relu;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, Tensor, TensorData, module};

use self::dense::Geometry;
use self::norm::{Norm, Statistics};
use self::tracked::Convolution;

/// Convolution of `[n, channels, height, width]` by `[filters, channels / groups, kernel, kernel]`.
pub fn conv2d(x: Tensor<4>, weight: Tensor<4>, stride: usize, pad: usize, groups: usize) -> Tensor<4> {
    let [n, channels, height, width] = x.dims();
    let [filters, per_group, kernel, _] = weight.dims();
    let depthwise = groups > 1 && per_group == 1 && groups == channels && filters == channels;
    if (groups == 1 || depthwise) && pad < kernel && on_flex(&x) && on_flex(&weight) {
        let geometry = Geometry { n, channels, height, width, filters, kernel, stride, pad };
        let op = Convolution { geometry, depthwise };
        return if x.is_autodiff() || weight.is_autodiff() {
            Tensor::from_primitive::<Autodiff<Flex>>(op.tracked(tracked(x), tracked(weight)))
        } else {
            Tensor::from_primitive::<Flex>(op.forward(&value(x), &value(weight)))
        };
    }
    module::conv2d(x, weight, None, ConvOptions::new([stride; 2], [pad; 2], [1, 1], groups))
}

/// Batch norm in training, and `clamp(_, 0, high)` behind it if there is a `rectifier`. Also
/// returns the batch's mean and (biased) variance, `[channels]`.
pub fn batch_norm(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    rectifier: Option<f32>,
) -> (Tensor<4>, [Tensor<1>; 2]) {
    if on_flex(&x) && on_flex(&gamma) && on_flex(&beta) {
        let channels = x.dims()[1];
        let host = |v: &Tensor<1>| floats(&value(v.clone().inner())).to_vec();
        let low = if rectifier.is_some() { 0.0 } else { f32::NEG_INFINITY };
        let high = rectifier.unwrap_or(f32::INFINITY);
        let norm = Norm { gamma: host(&gamma), beta: host(&beta), epsilon, low, high };
        let (y, Statistics { mean, variance }) =
            tracked::normalise(tracked(x), tracked(gamma), tracked(beta), norm);
        let statistics = [mean, variance].map(|v| Tensor::from_primitive::<Flex>(flex(v, [channels])));
        return (Tensor::from_primitive::<Autodiff<Flex>>(y), statistics);
    }
    #[cfg(feature = "gpu")]
    if on_gpu(&x) {
        let limits = rectifier.map_or([f32::MIN, f32::MAX], |high| [0.0, high.min(f32::MAX)]);
        return gpu::batch_norm(x, gamma, beta, epsilon, limits);
    }
    let out = module::batch_norm_train(x, gamma, beta, epsilon);
    let y = match rectifier {
        Some(high) => rectify(out.output, high),
        None => out.output,
    };
    (y, [out.mean.without_autodiff(), out.variance.without_autodiff()])
}

/// `clamp(x, 0, high)`; an infinite `high` makes it the plain rectifier.
pub fn rectify(x: Tensor<4>, high: f32) -> Tensor<4> {
    if on_flex(&x) {
        return if x.is_autodiff() {
            Tensor::from_primitive::<Autodiff<Flex>>(tracked::rectify(tracked(x), high))
        } else {
            let mut x = own(value(x));
            norm::rectify(x.storage_mut(), high);
            Tensor::from_primitive::<Flex>(x)
        };
    }
    #[cfg(feature = "gpu")]
    if on_gpu(&x) {
        return gpu::rectify(x, high);
    }
    let y = relu(x);
    if high.is_finite() { y.clamp_max(high) } else { y }
}

/// The sum of the squares of all values of some tensors; nothing of none.
pub(crate) fn sum_of_squares(tensors: &[Tensor<1>]) -> Option<Tensor<1>> {
    #[cfg(feature = "gpu")]
    if tensors.first().is_some_and(on_gpu) {
        return Some(gpu::sum_of_squares(tensors));
    }
    tensors.iter().map(|x| (x.clone() * x.clone()).sum()).reduce(|a, b| a + b)
}

/// Parameter and velocity after a step of gradient descent as PyTorch's: `v <- momentum v + g`, then
/// `p <- p - rate (g + momentum v)` with Nesterov and `p - rate v` without; `g` is `factor` times the gradient, and
/// `decay p`.
pub(crate) fn descend(
    [parameter, velocity, gradient]: [Tensor<1>; 3],
    factor: Option<Tensor<1>>,
    [rate, momentum, decay]: [f64; 3],
    nesterov: bool,
) -> [Tensor<1>; 2] {
    #[cfg(feature = "gpu")]
    if on_gpu(&parameter) {
        return gpu::descend([parameter, velocity, gradient], factor, [rate, momentum, decay], nesterov);
    }
    let g = match factor {
        Some(factor) => gradient * factor,
        None => gradient,
    };
    let g = if decay > 0.0 { g + parameter.clone() * decay } else { g };
    let v = velocity * momentum + g.clone();
    [parameter - if nesterov { g + v.clone() * momentum } else { v.clone() } * rate, v]
}

/// `keep own + (1 - keep) other`.
pub(crate) fn average(own: Tensor<1>, other: Tensor<1>, keep: f64) -> Tensor<1> {
    #[cfg(feature = "gpu")]
    if on_gpu(&own) {
        return gpu::average(own, other, keep);
    }
    own * keep + other * (1.0 - keep)
}

#[cfg(feature = "gpu")]
fn on_gpu<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.device().without_autodiff() != Device::flex()
}

fn on_flex<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.device().without_autodiff() == Device::flex()
}

fn tracked<const D: usize>(x: Tensor<D>) -> FloatTensor<Autodiff<Flex>> {
    x.autodiff().try_into_primitive::<Autodiff<Flex>>().expect("a tensor on the flex device")
}

fn value<const D: usize>(x: Tensor<D>) -> FloatTensor<Flex> {
    x.try_into_primitive::<Flex>().expect("a tensor on the flex device, without autodiff")
}

fn flex<const D: usize>(data: Vec<f32>, shape: [usize; D]) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::new(data, shape))
}

/// The same values in a buffer of their own, row-major from its start.
fn own(x: FloatTensor<Flex>) -> FloatTensor<Flex> {
    let whole = x.layout().contiguous_offsets() == Some((0, x.storage::<f32>().len()));
    if whole { x } else { x.to_contiguous() }
}

/// The values of `x`, which [`own`] has made row-major.
fn floats(x: &FloatTensor<Flex>) -> &[f32] {
    x.as_slice().expect("row-major")
}
