//! What a client asks for, as arguments.

use clap::{Args, ValueEnum};
use copriv_infer2pc::{Reveal, Terms};
use copriv_model::{Model, ModelError};
use copriv_plan::linear::with_tile_widths;
use copriv_plan::network::Network as Link;
use copriv_plan::{Flavour, Objective, Preset};
use serde::{Deserialize, Serialize};

/// What the client asks for.
#[derive(Args, Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermsArgs {
    /// What the client learns
    #[arg(long, value_enum, default_value_t = RevealArg::Logits)]
    pub reveal: RevealArg,
    /// Whose protocols run: ours, or those of a paper, to compare with
    #[arg(long, value_enum, default_value_t = PresetArg::CoprivNg)]
    pub preset: PresetArg,
    #[command(flatten)]
    pub choice: ChoiceArgs,
}

/// What a party may hold.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct MemoryArgs {
    /// Most memory of a party's correlations and linear layers, 512M or 2G for example; weights, activations
    /// and set-up come on top. Correlations that do not fit wait in an encrypted temporary file
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub memory: Option<u64>,
}

impl MemoryArgs {
    /// The same as arguments of another process.
    pub fn to_args(self) -> Vec<String> {
        self.memory.into_iter().flat_map(|bytes| ["--memory".to_owned(), bytes.to_string()]).collect()
    }
}

/// A number of bytes: `K`, `M` and `G` are powers of a thousand.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no number of bytes such as 512M or 2G");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 1,
        "K" | "KB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)
}

/// What a plan is chosen by, whatever the preset.
#[derive(Args, Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChoiceArgs {
    /// OT extension; the papers' presets have IKNP
    #[arg(long, value_enum, default_value_t = OtArg::Auto)]
    pub ot: OtArg,
    /// What is made small
    #[arg(long, value_enum, default_value_t = ObjectiveArg::Total)]
    pub objective: ObjectiveArg,
    /// Link that times are reckoned for
    #[arg(long, value_enum, default_value_t = NetworkArg::Wan)]
    pub net: NetworkArg,
    /// Most weight bits that share a message (2^K leaves are summed for it); 0 for fresh OTs
    /// instead [default: 8]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(0..=10))]
    pub packing: Option<u32>,
}

/// How wide the transformed weights of Winograd's tile positions are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TileWidths {
    /// As any weights of their bits may need
    #[default]
    WorstCase,
    /// As the real weights need: fewer bytes, but the client learns the least transformed weight and the
    /// bits of all of them, for each layer and tile position
    Weights,
}

impl TileWidths {
    /// The model with what becomes public.
    ///
    /// # Errors
    /// Weights that are missing.
    pub fn apply(self, model: Model) -> Result<Model, ModelError> {
        match self {
            Self::WorstCase => Ok(model),
            Self::Weights => with_tile_widths(model),
        }
    }

    /// The name that the command line knows it by.
    pub fn name(self) -> String {
        name(self)
    }
}

/// Names of [`Objective`].
#[derive(Clone, Copy, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveArg {
    /// Bytes, offline and online
    Total,
    /// Bytes online, then all
    Online,
    /// Time, offline and online, on the link of `--net`
    Latency,
}

/// Names of [`Link`].
#[derive(Clone, Copy, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkArg {
    /// 377 MB/s, 0.3 ms
    Lan,
    /// 200 Mbit/s, 13 ms
    Wan,
    /// 9 MB/s, 40 ms
    Mobile,
}

impl From<NetworkArg> for Link {
    fn from(arg: NetworkArg) -> Self {
        match arg {
            NetworkArg::Lan => Self::Lan,
            NetworkArg::Wan => Self::Wan,
            NetworkArg::Mobile => Self::Mobile,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevealArg {
    /// The model's output
    Logits,
    /// Only the predicted class
    Class,
    /// Only the five most likely classes, in order
    Top5,
}

#[derive(Clone, Copy, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PresetArg {
    /// CrypTFlow2: one ring, ReLU before truncation
    Cryptflow2,
    /// SiRNN: mixed rings
    Sirnn,
    /// CoPriv: CrypTFlow2's operators, Winograd products
    Copriv,
    /// PrivQuant: SiRNN's operators, fused
    Privquant,
    /// CoPriv without tile aggregation
    CoprivEwmm,
    /// This project's
    CoprivNg,
}

#[derive(Clone, Copy, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OtArg {
    /// Whatever sends the fewest bytes in this session
    Auto,
    /// 128 bits an OT
    Iknp,
    /// 64 bits an OT
    Softspoken2,
    /// 32 bits an OT
    Softspoken4,
    /// 16 bits an OT
    Softspoken8,
    /// Below half a bit an OT, after a start-up
    Ferret,
}

impl Default for TermsArgs {
    fn default() -> Self {
        let choice = ChoiceArgs {
            ot: OtArg::Auto,
            objective: ObjectiveArg::Total,
            net: NetworkArg::Wan,
            packing: None,
        };
        Self { reveal: RevealArg::Logits, preset: PresetArg::CoprivNg, choice }
    }
}

impl From<TermsArgs> for Terms {
    fn from(args: TermsArgs) -> Self {
        Self {
            reveal: match args.reveal {
                RevealArg::Logits => Reveal::Logits,
                RevealArg::Class => Reveal::Class,
                RevealArg::Top5 => Reveal::Top5,
            },
            flavour: match args.choice.ot {
                OtArg::Auto => None,
                OtArg::Iknp => Some(Flavour::Iknp),
                OtArg::Softspoken2 => Some(Flavour::SoftSpoken2),
                OtArg::Softspoken4 => Some(Flavour::SoftSpoken4),
                OtArg::Softspoken8 => Some(Flavour::SoftSpoken8),
                OtArg::Ferret => Some(Flavour::Ferret),
            },
            objective: match args.choice.objective {
                ObjectiveArg::Total => Objective::Total,
                ObjectiveArg::Online => Objective::Online,
                ObjectiveArg::Latency => Objective::Latency(args.choice.net.into()),
            },
            packing: args.choice.packing,
            shared_by: None,
            preset: match args.preset {
                PresetArg::Cryptflow2 => Preset::Cryptflow2,
                PresetArg::Sirnn => Preset::Sirnn,
                PresetArg::Copriv => Preset::Copriv,
                PresetArg::Privquant => Preset::Privquant,
                PresetArg::CoprivEwmm => Preset::CoprivEwmm,
                PresetArg::CoprivNg => Preset::CoprivNg,
            },
        }
    }
}

impl TermsArgs {
    /// The same as arguments of another process.
    pub fn to_args(self) -> Vec<String> {
        let args = [
            ("--reveal", name(self.reveal)),
            ("--ot", name(self.choice.ot)),
            ("--preset", name(self.preset)),
            ("--objective", name(self.choice.objective)),
            ("--net", name(self.choice.net)),
        ];
        let packing = self.choice.packing.map(|k| ("--packing", k.to_string()));
        args.into_iter().chain(packing).flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }
}

fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or(String::new(), |v| v.get_name().to_owned())
}
