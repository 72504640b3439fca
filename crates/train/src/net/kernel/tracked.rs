//! The kernels as operators of Burn's automatic differentiation.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};

use super::dense::Geometry;
use super::norm::{Norm, Statistics};
use super::{dense, depthwise, flex, floats, norm, own};

type Value = FloatTensor<Flex>;
type Tracked = FloatTensor<Autodiff<Flex>>;

/// A convolution, dense or depth-wise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Convolution {
    pub geometry: Geometry,
    pub depthwise: bool,
}

impl Convolution {
    pub(super) fn forward(&self, x: &Value, w: &Value) -> Value {
        let g = &self.geometry;
        let (x, w) = (own(x.clone()), own(w.clone()));
        let forward = if self.depthwise { depthwise::forward } else { dense::forward };
        let [height, width] = g.output();
        flex(forward(g, floats(&x), floats(&w)), [g.n, g.filters, height, width])
    }

    pub(super) fn tracked(self, x: Tracked, w: Tracked) -> Tracked {
        let ((x, x_node), (w, w_node)) = (x.into_parts(), w.into_parts());
        let (x, w) = (own(x), own(w));
        let y = self.forward(&x, &w);
        match self.prepare::<NoCheckpointing>([x_node, w_node]).compute_bound().stateful() {
            OpsKind::Tracked(op) => op.finish((x, w), y),
            OpsKind::UnTracked(op) => op.finish(y),
        }
    }
}

impl Backward<Flex, 2> for Convolution {
    type State = (Value, Value);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = &self.geometry;
        let dy = own(grads.consume::<Flex>(&ops.node));
        let (x, w) = ops.state;
        let [x_node, w_node] = ops.parents;
        let backward = if self.depthwise { depthwise::backward } else { dense::backward };
        let (dw, dx) = backward(g, floats(&x), floats(&w), floats(&dy), x_node.is_some());
        if let Some(node) = x_node {
            grads.register::<Flex>(node.id, flex(dx, [g.n, g.channels, g.height, g.width]));
        }
        if let Some(node) = w_node {
            let per_group = if self.depthwise { 1 } else { g.channels };
            grads.register::<Flex>(node.id, flex(dw, [g.filters, per_group, g.kernel, g.kernel]));
        }
    }
}

/// The norm of `x` and the batch's statistics; `norm` holds the values of `gamma` and `beta`.
pub(super) fn normalise(x: Tracked, gamma: Tracked, beta: Tracked, norm: Norm) -> (Tracked, Statistics) {
    let (x, x_node) = x.into_parts();
    let x = own(x);
    let [n, channels, height, width] = x.layout().shape().dims();
    let statistics = Statistics::of(floats(&x), channels, height * width);
    let y = norm.forward(floats(&x), height * width, &statistics);
    let y = flex(y, [n, channels, height, width]);
    let nodes = [x_node, gamma.node(), beta.node()];
    let y = match Normalise.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(op) => op.finish((x, norm, statistics.clone()), y),
        OpsKind::UnTracked(op) => op.finish(y),
    };
    (y, statistics)
}

#[derive(Debug)]
struct Normalise;

impl Backward<Flex, 3> for Normalise {
    type State = (Value, Norm, Statistics);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let mut d = own(grads.consume::<Flex>(&ops.node));
        let (x, norm, statistics) = ops.state;
        let [_, channels, height, width] = x.layout().shape().dims();
        let [gamma, beta] = norm.backward(floats(&x), height * width, &statistics, d.storage_mut());
        let [x_node, gamma_node, beta_node] = ops.parents;
        for (node, gradient) in
            [(x_node, d), (gamma_node, flex(gamma, [channels])), (beta_node, flex(beta, [channels]))]
        {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}

/// `clamp(x, 0, high)`, in the buffer of `x` if nobody else holds it.
pub(super) fn rectify(x: Tracked, high: f32) -> Tracked {
    let (x, node) = x.into_parts();
    let mut y = own(x);
    norm::rectify(y.storage_mut(), high);
    match (Rectify { high }).prepare::<NoCheckpointing>([node]).compute_bound().stateful() {
        OpsKind::Tracked(op) => op.finish(y.clone(), y),
        OpsKind::UnTracked(op) => op.finish(y),
    }
}

#[derive(Debug)]
struct Rectify {
    high: f32,
}

impl Backward<Flex, 1> for Rectify {
    type State = Value;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let mut d = own(grads.consume::<Flex>(&ops.node));
        norm::rectify_backward(d.storage_mut(), floats(&ops.state), self.high);
        let [node] = ops.parents;
        if let Some(node) = node {
            grads.register::<Flex>(node.id, d);
        }
    }
}
