//! infer2pc
