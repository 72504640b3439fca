//! Pools and subsampling, by Burn's own operators.

use burn::tensor::Tensor;
use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};

use super::graph::Subsample;

pub(super) fn mean(x: Tensor<4>, kernel: usize, stride: usize) -> Tensor<4> {
    avg_pool2d(x, AvgPoolOptions::new([kernel; 2]).with_stride([stride; 2]))
}

pub(super) fn maximum(x: Tensor<4>, kernel: usize, stride: usize, pad: usize) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([kernel; 2]).with_stride([stride; 2]).with_padding([pad; 2]))
}

/// A mean over windows of one pixel keeps that pixel, and its gradient goes there.
pub(super) fn subsample(x: Tensor<4>, how: Subsample) -> Tensor<4> {
    let y = mean(x, 1, how.stride);
    let [n, _, h, w] = y.dims();
    let zeros = |channels: usize| Tensor::<4>::zeros([n, channels, h, w], &y.device());
    Tensor::cat(vec![zeros(how.before), y.clone(), zeros(how.after)], 1)
}
