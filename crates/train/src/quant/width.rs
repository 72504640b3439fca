//! Widths of weights.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Values that a layer's weights may have: `-1, 0, 1`, or two's complement of 2 to 8 bits. In files a
/// number, or "ternary".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum WeightWidth {
    /// `-1, 0, 1`.
    Ternary,
    /// So many bits.
    Bits(u32),
}

/// How a [`WeightWidth`] is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Bits(u32),
    Word(String),
}

const TERNARY: &str = "ternary";

impl WeightWidth {
    /// Bits of the two's complement numbers that hold them.
    pub fn bits(self) -> u32 {
        match self {
            Self::Ternary => 2,
            Self::Bits(bits) => bits,
        }
    }
}

impl From<u32> for WeightWidth {
    fn from(bits: u32) -> Self {
        Self::Bits(bits)
    }
}

impl FromStr for WeightWidth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            TERNARY => Ok(Self::Ternary),
            number => number
                .parse()
                .map(Self::Bits)
                .map_err(|_| format!("{number} is no width: 2 to 8, or {TERNARY}")),
        }
    }
}

impl fmt::Display for WeightWidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ternary => f.write_str(TERNARY),
            Self::Bits(bits) => bits.fmt(f),
        }
    }
}

impl TryFrom<Written> for WeightWidth {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Bits(bits) => Ok(Self::Bits(bits)),
            Written::Word(word) => word.parse(),
        }
    }
}

impl From<WeightWidth> for Written {
    fn from(width: WeightWidth) -> Self {
        match width {
            WeightWidth::Ternary => Self::Word(TERNARY.to_owned()),
            WeightWidth::Bits(bits) => Self::Bits(bits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_width_is_read_as_it_is_written() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Held {
            width: WeightWidth,
        }
        for (width, text) in [(WeightWidth::Ternary, "ternary"), (WeightWidth::Bits(3), "3")] {
            assert_eq!(text.parse(), Ok(width));
            assert_eq!(width.to_string(), text);
            let held = Held { width };
            assert_eq!(toml::from_str::<Held>(&toml::to_string(&held).unwrap()).unwrap(), held);
            assert_eq!(serde_json::from_str::<Held>(&serde_json::to_string(&held).unwrap()).unwrap(), held);
        }
        assert!("binary".parse::<WeightWidth>().unwrap_err().contains("binary"));
        assert!(WeightWidth::Ternary < WeightWidth::Bits(2) && WeightWidth::Bits(2) < WeightWidth::Bits(3));
    }
}
