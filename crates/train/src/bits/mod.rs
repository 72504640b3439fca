//! A width for every layer: the least loss of accuracy that so many bytes allow.
//!
//! HAWQ's measure of what rounding costs is `Omega_i(b) = mean trace_i * |Q_b(W_i) - W_i|^2`
//! ([`crate::hessian`]), and the same of activations; PrivQuant (ICCAD 2024) puts the planner's
//! bytes under the limit in place of model size. Here `Q` is the quantiser that training uses and
//! the bytes are those of the exported model.
//!
//! Bytes are *nearly* separable: a layer's price depends on its weights' and its input's width, but
//! where two layers meet (a residual addition, the truncation before a narrower activation) both
//! decide on the ring. So a table prices each option in an otherwise fixed network
//! ([`Search::prices`]), the knapsack is solved exactly on the table ([`knapsack`]), the chosen network
//! is planned as a whole, and while it misses the limit the limit is tightened by what it misses.

pub mod knapsack;
mod search;
mod unit;

pub use search::{Costs, Prices, Search, Solution};
pub use unit::{Curvature, Unit, WEIGHT_WIDTHS, Widths};
