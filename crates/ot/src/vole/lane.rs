//! The integers that a vector is made of.

use bytemuck::Pod;

use crate::simd::{Level, dispatched};

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
    /// `share <- digit (message + u) - z`.
    #[doc(hidden)]
    fn punctured_share(digit: u16, message: &[Self], u: &[Self], z: &[Self], share: &mut [Self]);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! lanes {
    ($($lane:ty: $punctured_share:ident),*) => {$(
        dispatched! {
            fn $punctured_share(
                digit: u16,
                message: &[$lane],
                u: &[$lane],
                z: &[$lane],
                share: &mut [$lane],
            ) = punctured_share;
        }

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
            fn punctured_share(digit: u16, message: &[Self], u: &[Self], z: &[Self], share: &mut [Self]) {
                $punctured_share(Level::detect(), digit, message, u, z, share);
            }
        }
    )*};
}
lanes!(u16: share_16, u32: share_32, u64: share_64);

#[inline(always)]
fn punctured_share<L: Lane>(digit: u16, message: &[L], u: &[L], z: &[L], share: &mut [L]) {
    for (((q, &c), &u), &z) in share.iter_mut().zip(message).zip(u).zip(z) {
        *q = c.plus(u).times(digit).minus(z);
    }
}
