//! How sharply the training loss bends along each layer: traces of its Hessian's diagonal blocks.
//!
//! HAWQ (Dong et al., ICCV 2019; HAWQ-V2, NeurIPS 2020): rounding a layer's weights by `dW` raises
//! the loss at a minimum by `dW^T H dW / 2`, on average over directions `Tr(H) |dW|^2 / (2 n)` for
//! `n` weights. The trace is Hutchinson's: `E[v^T H v] = Tr(H)` for signs `v`, and the products
//! `H v` are exact: a derivative in forward mode ([`tangent`]), differentiated once in reverse mode.

mod tangent;
mod trace;

pub use tangent::{Direction, Of, product};
pub use trace::{Trace, TraceConfig, Traces, traces};
