//! Power-of-two quantisation: scales, fake quantisation for training, observers.

mod fake;
mod observe;
mod spec;

pub use fake::Fake;
pub use observe::{Calibration, calibrate, nominal};
pub use spec::{ActScale, LayerScale, QuantConfig, QuantSpec, requantised, round_half_up, scales};
