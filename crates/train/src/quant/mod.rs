//! Power-of-two quantisation: scales, fake quantisation for training, observers.

mod fake;
mod learn;
mod observe;
mod spec;
mod width;

pub use fake::Fake;
pub use learn::{ScaleLearning, Scales};
pub use observe::{Calibration, calibrate, nominal};
pub use spec::{ActScale, LayerScale, QuantConfig, QuantSpec, requantised, round_half_up, scales};
pub use width::WeightWidth;
