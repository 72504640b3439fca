//! Run-time dispatch: one safe body, compiled once for each instruction set.
//!
//! The bodies are plain loops over fixed-size arrays that the compiler vectorises; nothing here
//! reads or writes memory by itself. The only `unsafe` step is calling the copy compiled for
//! instructions that [`Level::detect`] has found on this machine.

/// An instruction set for which the kernels are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Whatever the target promises.
    Portable,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same with GFNI.
    Gfni,
}

impl Level {
    /// The best level of this machine.
    pub fn detect() -> Self {
        *Self::available().last().expect("portable is always there")
    }

    /// All levels of this machine, best last.
    pub fn available() -> &'static [Self] {
        const ALL: [Level; 4] = [Level::Portable, Level::Avx2, Level::Avx512, Level::Gfni];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx2")
            {
                let gfni = is_x86_feature_detected!("gfni");
                return if gfni { &ALL } else { &ALL[..3] };
            }
            if is_x86_feature_detected!("avx2") {
                return &ALL[..2];
            }
        }
        &ALL[..1]
    }
}

/// Defines `$name(level, args..)`, which runs the `#[inline(always)]` function `$body` compiled
/// for `level`.
macro_rules! dispatched {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident;) => {
        $(#[$meta])*
        $vis fn $name(level: $crate::simd::Level, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::simd::Level;
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) {
                    $body($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2")]
                fn avx512($($arg: $ty),*) {
                    $body($($arg),*)
                }
                // A level above the detected one is lowered: a wrong argument is slow, not unsound.
                match level.min(Level::detect()) {
                    // SAFETY: AVX-512 F, BW, DQ, VL and AVX2 have been detected.
                    Level::Avx512 | Level::Gfni => return unsafe { avx512($($arg),*) },
                    // SAFETY: AVX2 has been detected.
                    Level::Avx2 => return unsafe { avx2($($arg),*) },
                    Level::Portable => {}
                }
            }
            let _ = level;
            $body($($arg),*)
        }
    };
}
pub(crate) use dispatched;
