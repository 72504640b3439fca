//! MiniONN's CIFAR-10 network (Liu et al., CCS 2017, figure 13): seven convolutions, mean pools,
//! one fully connected layer. Norms stand behind the convolutions while training; folded, the
//! network is that of the paper.

use super::builder::Builder;
use crate::net::graph::Op;

const CHANNELS: usize = 64;

pub(super) fn build(b: &mut Builder) {
    for (i, (channels, kernel)) in
        [(CHANNELS, 3), (CHANNELS, 3), (CHANNELS, 3), (CHANNELS, 3), (CHANNELS, 3), (CHANNELS, 1), (16, 1)]
            .into_iter()
            .enumerate()
    {
        b.conv_relu(&format!("conv{}", i + 1), channels, kernel, 1, None);
        if i == 1 || i == 3 {
            b.push(&format!("pool{}", i / 2 + 1), Op::AvgPool { kernel: 2, stride: 2 }, vec![b.top]);
        }
    }
}
