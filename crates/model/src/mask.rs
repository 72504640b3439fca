//! Public sets of positions: where a partial rectifier rectifies.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A set of a tensor's positions, row-major `[c, h, w]`. It is part of the public graph, so both parties
/// know it and what is computed on it alone costs nothing elsewhere.
///
/// Stored as hexadecimal digits of four positions each, the first one in the lowest bit.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Mask {
    inside: Vec<bool>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    len: usize,
    digits: String,
}

impl Mask {
    /// The positions where `inside` is true.
    pub fn new(inside: Vec<bool>) -> Self {
        Self { inside }
    }

    /// Number of positions, inside or not.
    pub fn len(&self) -> usize {
        self.inside.len()
    }

    /// Whether there is no position at all.
    pub fn is_empty(&self) -> bool {
        self.inside.is_empty()
    }

    /// Whether each position belongs to the set.
    pub fn inside(&self) -> &[bool] {
        &self.inside
    }

    /// Number of positions in the set, or outside.
    pub fn count(&self, inside: bool) -> usize {
        self.inside.iter().filter(|i| **i == inside).count()
    }

    /// The elements of `x` in the set, or outside, in order.
    pub fn pick<T: Copy>(&self, inside: bool, x: &[T]) -> Vec<T> {
        x.iter().zip(&self.inside).filter(|(_, i)| **i == inside).map(|(v, _)| *v).collect()
    }

    /// The inverse of the two [`Mask::pick`]s: as many elements as `inside` and `outside` have together.
    pub fn join<T: Copy>(&self, inside: &[T], outside: &[T]) -> Vec<T> {
        let (mut inside, mut outside) = (inside.iter(), outside.iter());
        self.inside.iter().filter_map(|i| if *i { inside.next() } else { outside.next() }.copied()).collect()
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stored { len, digits } = self.clone().into();
        write!(f, "Mask({len}, {digits})")
    }
}

impl From<Mask> for Stored {
    fn from(mask: Mask) -> Self {
        let digit = |four: &[bool]| four.iter().rev().fold(0, |d, &bit| 2 * d + u32::from(bit));
        let digits = mask.inside.chunks(4).filter_map(|four| char::from_digit(digit(four), 16)).collect();
        Self { len: mask.len(), digits }
    }
}

impl TryFrom<Stored> for Mask {
    type Error = String;

    fn try_from(Stored { len, digits }: Stored) -> Result<Self, String> {
        if digits.len() != len.div_ceil(4) {
            return Err(format!("a mask of {len} positions in {} digits", digits.len()));
        }
        let mut inside = Vec::with_capacity(4 * digits.len());
        for digit in digits.chars() {
            let digit = digit.to_digit(16).ok_or_else(|| format!("`{digit}` in a mask"))?;
            inside.extend((0..4).map(|bit| digit >> bit & 1 == 1));
        }
        if inside[len..].contains(&true) {
            return Err("a mask has positions behind its end".into());
        }
        inside.truncate(len);
        Ok(Self { inside })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_survives_json_and_a_damaged_one_is_refused() {
        for len in [0, 1, 3, 4, 5, 64, 77] {
            let mask = Mask::new((0..len).map(|i| i % 3 == 1 || i % 7 == 0).collect());
            let text = serde_json::to_string(&mask).unwrap();
            assert_eq!(serde_json::from_str::<Mask>(&text).unwrap(), mask, "{text}");
            let x: Vec<usize> = (0..len).collect();
            assert_eq!(mask.join(&mask.pick(true, &x), &mask.pick(false, &x)), x);
            assert_eq!(mask.count(true) + mask.count(false), len);
        }
        for text in [
            r#"{"len":5,"digits":"f"}"#,
            r#"{"len":5,"digits":"f2"}"#,
            r#"{"len":4,"digits":"g"}"#,
            r#"{"len":18446744073709551615,"digits":""}"#,
        ] {
            assert!(serde_json::from_str::<Mask>(text).is_err(), "{text}");
        }
    }
}
