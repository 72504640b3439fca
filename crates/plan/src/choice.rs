//! What is chosen before a graph is lowered.

use serde::{Deserialize, Serialize};

use crate::network::Objective;
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
    /// CoPriv without tile aggregation: the element-wise products that its section 4.1 starts from.
    CoprivEwmm,
    /// This project's.
    #[default]
    CoprivNg,
}

/// What both parties agree on before they plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choice {
    /// What makes the random OTs.
    pub flavour: Flavour,
    /// Whose protocols run.
    pub preset: Preset,
    /// What is made small.
    pub objective: Objective,
    /// Most weight bits of a packed VOLE's group, 1..=10; 0 for fresh OTs instead.
    pub packing: u32,
    /// Inferences that share the set-up of packed VOLE.
    pub session: u32,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            flavour: Flavour::default(),
            preset: Preset::default(),
            objective: Objective::default(),
            packing: 8,
            session: 1000,
        }
    }
}

impl Preset {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Cryptflow2, Self::Sirnn, Self::Copriv, Self::Privquant, Self::CoprivEwmm, Self::CoprivNg];

    /// The OT extensions that it may run on: the literature's presets are IKNP's.
    pub fn flavours(self) -> &'static [Flavour] {
        match self {
            Self::CoprivNg => &Flavour::ALL,
            _ => &[Flavour::Iknp],
        }
    }

    /// Whether it runs the operators of an older system ([`crate::baseline`]).
    pub fn is_baseline(self) -> bool {
        self != Self::CoprivNg
    }

    /// Whether one ring serves the whole network; else every value has its own.
    pub fn one_ring(self) -> bool {
        matches!(self, Self::Cryptflow2 | Self::Copriv | Self::CoprivEwmm)
    }

    /// Whether extensions make use of what the range proofs know of signs.
    pub fn knows_signs(self) -> bool {
        matches!(self, Self::Privquant | Self::CoprivNg)
    }

    /// The name that the command line knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cryptflow2 => "cryptflow2",
            Self::Sirnn => "sirnn",
            Self::Copriv => "copriv",
            Self::Privquant => "privquant",
            Self::CoprivEwmm => "copriv-ewmm",
            Self::CoprivNg => "copriv-ng",
        }
    }
}

impl Choice {
    /// Bytes of [`Self::to_bytes`].
    pub const BYTES: usize = 8;

    /// For the handshake.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let [a, b, c, d] = self.session.to_le_bytes();
        let objective = Objective::ALL.iter().position(|o| *o == self.objective).unwrap_or(0);
        [self.flavour as u8, self.preset as u8, objective as u8, self.packing as u8, a, b, c, d]
    }

    /// The choice of [`Self::to_bytes`]; `None` if there is none such.
    pub fn from_bytes([flavour, preset, objective, packing, a, b, c, d]: [u8; Self::BYTES]) -> Option<Self> {
        let flavour = *Flavour::ALL.get(usize::from(flavour))?;
        let preset = *Preset::ALL.get(usize::from(preset))?;
        let objective = *Objective::ALL.get(usize::from(objective))?;
        let (packing, session) = (u32::from(packing), u32::from_le_bytes([a, b, c, d]));
        let known = preset.flavours().contains(&flavour) && packing <= 10;
        known.then_some(Self { flavour, preset, objective, packing, session })
    }
}

impl From<Flavour> for Choice {
    fn from(flavour: Flavour) -> Self {
        Self { flavour, ..Self::default() }
    }
}
