//! Public facts about a convolution's weights beyond their width.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::graph::{Conv, Linear};

/// Coefficients are small integers.
const MAX_COEFFICIENT: i32 = 1 << 10;
/// A graph comes from a peer: what it says stays small.
const MAX_BOUNDS: usize = 256;

/// `sum of coefficients[i] * w[i]` lies in `range` for the kernel of every filter and channel. Protocols that
/// multiply such combinations instead of the weights need only the range's bits.
///
/// As text, in the file: `1 0 -1 0 0 0 0 0 0: -7..=8`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KernelBound {
    /// `[kernel, kernel]`.
    pub coefficients: Vec<i32>,
    /// Smallest and largest value.
    pub range: (i64, i64),
}

impl KernelBound {
    /// The combination of one kernel's weights.
    pub fn value(&self, kernel: &[i32]) -> i64 {
        let products = self.coefficients.iter().zip(kernel);
        products.map(|(&c, &w)| i64::from(c) * i64::from(w)).sum()
    }

    /// What the weights' width alone says of the combination.
    pub fn worst_case(&self, linear: &Linear) -> (i64, i64) {
        let (lo, hi) = (*linear.weight_range().start(), *linear.weight_range().end());
        let ends = |&c: &i32| {
            let [a, b] = [lo, hi].map(|w| i64::from(c) * i64::from(w));
            (a.min(b), a.max(b))
        };
        self.coefficients.iter().map(ends).fold((0, 0), |sum, end| (sum.0 + end.0, sum.1 + end.1))
    }

    fn is_sound(&self, conv: &Conv) -> bool {
        let small = |c: &i32| (-MAX_COEFFICIENT..=MAX_COEFFICIENT).contains(c);
        if self.coefficients.len() != conv.kernel * conv.kernel || !self.coefficients.iter().all(small) {
            return false;
        }
        let (lo, hi) = self.worst_case(&conv.linear);
        lo <= self.range.0 && self.range.0 <= self.range.1 && self.range.1 <= hi
    }
}

/// Why the bounds of a convolution cannot be right, if they cannot.
pub(crate) fn check(conv: &Conv) -> Result<(), String> {
    let bounds = &conv.kernel_bounds;
    if bounds.len() > MAX_BOUNDS {
        return Err(format!("{} bounds on its kernels; at most {MAX_BOUNDS}", bounds.len()));
    }
    match bounds.iter().find(|bound| !bound.is_sound(conv)) {
        Some(bound) => Err(format!("no kernel of its weights can be bounded by `{bound}`")),
        None => Ok(()),
    }
}

impl fmt::Display for KernelBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coefficients: Vec<String> = self.coefficients.iter().map(i32::to_string).collect();
        write!(f, "{}: {}..={}", coefficients.join(" "), self.range.0, self.range.1)
    }
}

impl FromStr for KernelBound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (coefficients, range) = text.split_once(": ")?;
            let (lo, hi) = range.split_once("..=")?;
            let coefficients = coefficients.split(' ').map(|c| c.parse().ok()).collect::<Option<_>>()?;
            Some(Self { coefficients, range: (lo.parse().ok()?, hi.parse().ok()?) })
        };
        parse().ok_or_else(|| format!("`{text}` is no bound on kernels"))
    }
}

impl TryFrom<String> for KernelBound {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<KernelBound> for String {
    fn from(bound: KernelBound) -> Self {
        bound.to_string()
    }
}
