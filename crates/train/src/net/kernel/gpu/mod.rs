//! Batch norm with its rectifier, and the optimiser's step, as few kernels: on a GPU a training step of small images
//! is bound by the number of launches.
//!
//! Burn's batch norm and rectifier are some thirty launches forward and backward, these six; a step of momentum with
//! clipped gradients is twelve a parameter, this two. Convolutions and products stay Burn's, which tries its variants
//! on the device. Both are compared with the CPU's in `crates/copriv/tests/gpu.rs`.

mod kernels;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use burn_cubecl::Cube;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::ops::permute_nhwc_to_nchw;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use self::kernels::{PIECE, UNITS};

type Tracked = FloatTensor<Autodiff<Cube>>;

/// Most parts of the rows whose sums are formed apart.
const PARTS: usize = 64;
/// Fewest rows of a part.
const ROWS: usize = 64;
/// Most channels whose sums a cube forms beside each other.
const LANES: usize = 32;

/// The normalised and rectified `x`, and the batch's mean and (biased) variance.
pub(super) fn batch_norm(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    limits: [f32; 2],
) -> (Tensor<4>, [Tensor<1>; 2]) {
    let (x, x_node) = tracked(x).into_parts();
    let (gamma, gamma_node) = tracked(gamma).into_parts();
    let (beta, beta_node) = tracked(beta).into_parts();
    let norm = Norm { layout: Layout::of(&x), limits };
    let (affine, statistics) = norm.statistics(&x, gamma, beta, epsilon as f32);
    let y = norm.forward(&x, &affine);
    let y = match Normalise
        .prepare::<NoCheckpointing>([x_node, gamma_node, beta_node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(op) => op.finish((x, affine, norm), y),
        OpsKind::UnTracked(op) => op.finish(y),
    };
    (Tensor::from_primitive::<Autodiff<Cube>>(y), statistics.map(Tensor::from_primitive::<Cube>))
}

/// `clamp(x, 0, high)`.
pub(super) fn rectify(x: Tensor<4>, high: f32) -> Tensor<4> {
    let high = high.min(f32::MAX);
    let forward = |x: CubeTensor| {
        let layout = Layout::of(&x);
        let y = layout.empty(&x);
        let (count, dim) = grid(&x, layout.values());
        let (client, to) = (x.client.clone(), y.clone().into_tensor_arg());
        kernels::rectify::launch(&client, count, dim, x.into_tensor_arg(), to, high, layout.channels_last);
        y
    };
    if !x.is_autodiff() {
        let x = x.try_into_primitive::<Cube>().expect("a tensor on a GPU");
        return Tensor::from_primitive::<Cube>(forward(x));
    }
    let (x, node) = tracked(x).into_parts();
    let y = forward(x);
    let y = match (Rectify { high }).prepare::<NoCheckpointing>([node]).compute_bound().stateful() {
        OpsKind::Tracked(op) => op.finish(y.clone(), y),
        OpsKind::UnTracked(op) => op.finish(y),
    };
    Tensor::from_primitive::<Autodiff<Cube>>(y)
}

/// The sum of the squares of all values.
pub(super) fn sum_of_squares(tensors: &[Tensor<1>]) -> Tensor<1> {
    let tensors: Vec<CubeTensor> = tensors.iter().cloned().map(value).collect();
    let pieces = |x: &CubeTensor| x.meta.num_elements().div_ceil(PIECE as usize);
    let slots = empty(&tensors[0], [tensors.iter().map(pieces).sum()]);
    let mut slot = 0;
    for x in tensors {
        let (n, client) = (pieces(&x) as u32, x.client.clone());
        let (count, dim) = (CubeCount::Static(n, 1, 1), CubeDim::new_1d(UNITS));
        let to = slots.clone().into_tensor_arg();
        kernels::squares::launch(&client, count, dim, x.into_tensor_arg(), to, slot);
        slot += n;
    }
    Tensor::<1>::from_primitive::<Cube>(slots).sum()
}

/// See [`super::descend`].
pub(super) fn descend(
    [parameter, velocity, gradient]: [Tensor<1>; 3],
    factor: Option<Tensor<1>>,
    [rate, momentum, decay]: [f64; 3],
    nesterov: bool,
) -> [Tensor<1>; 2] {
    let clipped = factor.is_some();
    // Any tensor will do where it is not read.
    let factor = factor.unwrap_or_else(|| gradient.clone());
    let [parameter, velocity, gradient, factor] = [parameter, velocity, gradient, factor].map(value);
    let new = [like(&parameter), like(&parameter)];
    let (count, dim) = grid(&parameter, parameter.meta.num_elements());
    let [new_parameter, new_velocity] = new.clone().map(CubeTensor::into_tensor_arg);
    kernels::descend::launch(
        &parameter.client.clone(),
        count,
        dim,
        parameter.into_tensor_arg(),
        velocity.into_tensor_arg(),
        gradient.into_tensor_arg(),
        factor.into_tensor_arg(),
        new_parameter,
        new_velocity,
        rate as f32,
        momentum as f32,
        decay as f32,
        clipped,
        nesterov,
    );
    new.map(Tensor::from_primitive::<Cube>)
}

/// `keep own + (1 - keep) other`.
pub(super) fn average(own: Tensor<1>, other: Tensor<1>, keep: f64) -> Tensor<1> {
    let [own, other] = [own, other].map(value);
    let out = like(&own);
    let (count, dim) = grid(&own, own.meta.num_elements());
    kernels::average::launch(
        &own.client.clone(),
        count,
        dim,
        own.into_tensor_arg(),
        other.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        keep as f32,
    );
    Tensor::from_primitive::<Cube>(out)
}

/// How `[n, channels, height, width]` lies in memory.
#[derive(Clone, Copy, Debug)]
struct Layout {
    shape: [usize; 4],
    channels_last: bool,
}

impl Layout {
    fn of(x: &CubeTensor) -> Self {
        let (shape, strides) = (x.meta.shape(), x.meta.strides());
        Self { shape: [shape[0], shape[1], shape[2], shape[3]], channels_last: strides[1] < strides[3] }
    }

    fn empty(&self, like: &CubeTensor) -> CubeTensor {
        let [n, c, h, w] = self.shape;
        if self.channels_last {
            permute_nhwc_to_nchw(empty(like, [n, h, w, c]))
        } else {
            empty(like, [n, c, h, w])
        }
    }

    fn values(&self) -> usize {
        self.shape.iter().product()
    }

    fn rows(&self) -> usize {
        self.values() / self.shape[1]
    }

    fn rows_a_part(&self) -> usize {
        self.rows().div_ceil(PARTS).max(ROWS)
    }

    fn parts(&self) -> usize {
        self.rows().div_ceil(self.rows_a_part())
    }

    /// Channels of a cube that forms sums.
    fn lanes(&self) -> usize {
        if self.channels_last { self.shape[1].next_power_of_two().min(LANES) } else { 1 }
    }

    /// The cubes of a sum over rows: a part of the rows and some channels each.
    fn sums(&self) -> (CubeCount, CubeDim) {
        let channels = self.shape[1].div_ceil(self.lanes());
        (CubeCount::Static(self.parts() as u32, channels as u32, 1), CubeDim::new_1d(UNITS))
    }
}

/// Batch norm in training, of inputs of one layout.
#[derive(Clone, Copy, Debug)]
struct Norm {
    layout: Layout,
    /// Outputs are cut off below and above.
    limits: [f32; 2],
}

impl Norm {
    /// What makes an output of an input, see [`kernels::statistics`]; mean and variance.
    fn statistics(
        &self,
        x: &CubeTensor,
        gamma: CubeTensor,
        beta: CubeTensor,
        epsilon: f32,
    ) -> (CubeTensor, [CubeTensor; 2]) {
        let channels = self.layout.shape[1];
        let sums = empty(x, [2, self.layout.parts(), channels]);
        let (count, dim) = self.layout.sums();
        kernels::moments::launch(
            &x.client,
            count,
            dim,
            x.clone().into_tensor_arg(),
            sums.clone().into_tensor_arg(),
            self.layout.rows_a_part() as u32,
            self.layout.lanes() as u32,
        );
        let [mean, variance] = [(), ()].map(|()| empty(x, [channels]));
        let affine = empty(x, [4, channels]);
        let (count, dim) = grid(x, channels);
        kernels::statistics::launch(
            &x.client,
            count,
            dim,
            x.clone().into_tensor_arg(),
            sums.into_tensor_arg(),
            gamma.into_tensor_arg(),
            beta.into_tensor_arg(),
            mean.clone().into_tensor_arg(),
            variance.clone().into_tensor_arg(),
            affine.clone().into_tensor_arg(),
            epsilon,
        );
        (affine, [mean, variance])
    }

    fn forward(&self, x: &CubeTensor, affine: &CubeTensor) -> CubeTensor {
        let y = self.layout.empty(x);
        let (count, dim) = grid(x, self.layout.values());
        let [low, high] = self.limits;
        kernels::normalise::launch(
            &x.client,
            count,
            dim,
            x.clone().into_tensor_arg(),
            affine.clone().into_tensor_arg(),
            y.clone().into_tensor_arg(),
            low,
            high,
            self.layout.channels_last,
        );
        y
    }

    /// The gradients of `x`, `gamma` and `beta`.
    fn backward(&self, x: &CubeTensor, affine: &CubeTensor, dy: CubeTensor) -> [CubeTensor; 3] {
        let channels = self.layout.shape[1];
        let [low, high] = self.limits;
        let sums = empty(x, [2, self.layout.parts(), channels]);
        let (count, dim) = self.layout.sums();
        kernels::slopes::launch(
            &x.client,
            count,
            dim,
            x.clone().into_tensor_arg(),
            affine.clone().into_tensor_arg(),
            dy.clone().into_tensor_arg(),
            sums.clone().into_tensor_arg(),
            self.layout.rows_a_part() as u32,
            low,
            high,
            self.layout.lanes() as u32,
        );
        let [beta, gamma] = [(), ()].map(|()| empty(x, [channels]));
        let (count, dim) = grid(x, channels);
        let [to_beta, to_gamma] = [&beta, &gamma].map(|v| v.clone().into_tensor_arg());
        kernels::totals::launch(&x.client, count, dim, sums.into_tensor_arg(), to_beta, to_gamma);
        let dx = self.layout.empty(x);
        let (count, dim) = grid(x, self.layout.values());
        kernels::differentiate::launch(
            &x.client,
            count,
            dim,
            x.clone().into_tensor_arg(),
            affine.clone().into_tensor_arg(),
            dy.into_tensor_arg(),
            beta.clone().into_tensor_arg(),
            gamma.clone().into_tensor_arg(),
            dx.clone().into_tensor_arg(),
            low,
            high,
            self.layout.channels_last,
        );
        [dx, gamma, beta]
    }
}

#[derive(Debug)]
struct Normalise;

impl Backward<Cube, 3> for Normalise {
    type State = (CubeTensor, CubeTensor, Norm);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Cube>(&ops.node);
        let (x, affine, norm) = ops.state;
        for (node, gradient) in ops.parents.into_iter().zip(norm.backward(&x, &affine, dy)) {
            if let Some(node) = node {
                grads.register::<Cube>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct Rectify {
    high: f32,
}

impl Backward<Cube, 1> for Rectify {
    type State = CubeTensor;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Cube>(&ops.node);
        let y = ops.state;
        let layout = Layout::of(&y);
        let dx = layout.empty(&y);
        let (count, dim) = grid(&y, layout.values());
        let (client, to) = (y.client.clone(), dx.clone().into_tensor_arg());
        let [y, dy] = [y, dy].map(CubeTensor::into_tensor_arg);
        kernels::rectify_backward::launch(&client, count, dim, y, dy, to, self.high, layout.channels_last);
        let [node] = ops.parents;
        if let Some(node) = node {
            grads.register::<Cube>(node.id, dx);
        }
    }
}

fn tracked<const D: usize>(x: Tensor<D>) -> Tracked {
    x.autodiff().try_into_primitive::<Autodiff<Cube>>().expect("a tensor on a GPU")
}

fn value(x: Tensor<1>) -> CubeTensor {
    into_contiguous(x.try_into_primitive::<Cube>().expect("a tensor on a GPU, without autodiff"))
}

/// Room for a tensor, beside another.
fn empty<const D: usize>(beside: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    empty_device_contiguous_dtype(beside.client.clone(), beside.device.clone(), shape.into(), beside.dtype)
}

fn like(x: &CubeTensor) -> CubeTensor {
    empty(x, [x.meta.num_elements()])
}

/// A unit for each of `n` values.
fn grid(x: &CubeTensor, n: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(UNITS);
    (calculate_cube_count_elemwise(&x.client, n, dim), dim)
}
