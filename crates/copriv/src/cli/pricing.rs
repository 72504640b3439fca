//! The arguments of `copriv plan`, `explain` and `reproduce`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values::bits;
use super::{ChoiceArgs, MemoryArgs, PresetArg, TermsArgs, TileWidths};

#[derive(Args, Debug)]
pub struct Plan {
    /// Folder of an integer model, or the name of an architecture (resnet32, mbv2-w0.75, ...)
    pub model: String,
    /// Weight and activation bits of an architecture, W4A6 for example; without them CoPriv's fixed
    /// point of 41 bits
    #[arg(long, value_parser = bits)]
    pub bits: Option<(u32, u32)>,
    /// Whose protocols to price
    #[arg(long = "preset", value_enum, value_delimiter = ',', default_value = "copriv-ng")]
    pub presets: Vec<PresetArg>,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Widths of Winograd's tile positions
    #[arg(long, value_enum, default_value_t)]
    pub tile_widths: TileWidths,
    /// Inferences of a session: they share its set-up, and with Ferret its iterations
    #[arg(long, default_value_t = 32)]
    pub inferences: u32,
    /// Also write the tables as JSON; `-` is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Also run so many inferences, both parties in this process, with random inputs (and random
    /// weights for an architecture), and compare outputs, bytes and rounds
    #[arg(long, value_name = "N")]
    pub run: Option<u32>,
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Also draw the bytes of every layer into this folder, one SVG a preset
    #[arg(long, value_name = "FOLDER")]
    pub svg: Option<PathBuf>,
}

impl Plan {
    /// The terms under which a preset is priced.
    pub fn terms(&self, preset: PresetArg) -> TermsArgs {
        TermsArgs { preset, choice: self.choice, ..TermsArgs::default() }
    }
}

#[derive(Args, Debug)]
pub struct Explain {
    /// Folder of an integer model; its weights are not needed
    pub model: PathBuf,
    #[command(flatten)]
    pub terms: TermsArgs,
    /// Also write the steps as JSON; `-` is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Reproduce {
    /// What to reproduce
    pub what: Reproduction,
    /// Also write the rows as JSON; `-` is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// What can be reproduced without training.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Reproduction {
    /// Bytes of CoPriv's and PrivQuant's tables
    Tables,
    /// CoPriv's table 4: blocks of MobileNetV2 that bring its bytes below the printed ones
    Pruning,
}
