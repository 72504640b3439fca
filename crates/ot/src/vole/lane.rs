//! The integers that a vector is made of.

use bytemuck::Pod;

/// An unsigned integer of 16, 32 or 64 bits; arithmetic wraps. A caller whose ring is narrower masks
/// its results.
pub trait Lane: Pod + Default + Eq + std::fmt::Debug + Send + Sync + sealed::Sealed {
    /// Width of the lane.
    const BITS: u32;
    /// `self + other`.
    fn plus(self, other: Self) -> Self;
    /// `self - other`.
    fn minus(self, other: Self) -> Self;
    /// `self * digit`.
    fn times(self, digit: u16) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! lanes {
    ($($lane:ty),*) => {$(
        impl sealed::Sealed for $lane {}
        impl Lane for $lane {
            const BITS: u32 = <$lane>::BITS;
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn times(self, digit: u16) -> Self {
                self.wrapping_mul(<$lane>::from(digit))
            }
        }
    )*};
}
lanes!(u16, u32, u64);
