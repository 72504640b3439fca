//! What is chosen before a graph is lowered.

use serde::{Deserialize, Serialize};

use crate::ot::Flavour;

/// Whose protocols run. Every one is executable and gives the same results bit for bit; they
/// differ in bytes and rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// CrypTFlow2 (eprint 2020/1002): one ring for the whole network, ReLU before truncation.
    Cryptflow2,
    /// SiRNN (eprint 2021/459): mixed rings, truncate-and-reduce, extension.
    Sirnn,
    /// CoPriv (NeurIPS 2023): CrypTFlow2's operators, Winograd products.
    Copriv,
    /// PrivQuant (ICCAD 2024): SiRNN's operators, fused, with known signs.
    Privquant,
    /// This project's.
    #[default]
    CoprivNg,
}

/// What both parties agree on before they plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choice {
    /// What makes the random OTs.
    pub flavour: Flavour,
    /// Whose protocols run.
    pub preset: Preset,
}

impl Preset {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Cryptflow2, Self::Sirnn, Self::Copriv, Self::Privquant, Self::CoprivNg];

    /// The OT extensions that it may run on: the literature's presets are IKNP's.
    pub fn flavours(self) -> &'static [Flavour] {
        match self {
            Self::CoprivNg => &Flavour::ALL,
            _ => &[Flavour::Iknp],
        }
    }

    /// The name that the command line knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cryptflow2 => "cryptflow2",
            Self::Sirnn => "sirnn",
            Self::Copriv => "copriv",
            Self::Privquant => "privquant",
            Self::CoprivNg => "copriv-ng",
        }
    }
}

impl Choice {
    /// Bytes of [`Self::to_bytes`].
    pub const BYTES: usize = 2;

    /// For the handshake.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        [self.flavour as u8, self.preset as u8]
    }

    /// The choice of [`Self::to_bytes`]; `None` if there is none such.
    pub fn from_bytes([flavour, preset]: [u8; Self::BYTES]) -> Option<Self> {
        let flavour = *Flavour::ALL.get(usize::from(flavour))?;
        let preset = *Preset::ALL.get(usize::from(preset))?;
        preset.flavours().contains(&flavour).then_some(Self { flavour, preset })
    }
}

impl From<Flavour> for Choice {
    fn from(flavour: Flavour) -> Self {
        Self { flavour, ..Self::default() }
    }
}
