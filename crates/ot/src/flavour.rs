//! The kinds of OT extension to choose from.

use crate::Traffic;
use crate::engine::Kind;
use crate::extension::BASE_BYTES;
use crate::ferret::params;
use crate::softspoken::Groups;

/// Which OT extension runs; both parties must name the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OtFlavour {
    /// IKNP: 128 bits an OT.
    #[default]
    Iknp,
    /// SoftSpokenOT with two bits a group: 64 bits an OT.
    SoftSpoken2,
    /// SoftSpokenOT with four bits a group: 32 bits an OT.
    SoftSpoken4,
    /// SoftSpokenOT with eight bits a group: 16 bits an OT, and much more work.
    SoftSpoken8,
    /// Ferret with its middle set: 0.4 bits an OT after a start-up of half a megabyte.
    Ferret,
    /// Ferret with a smaller set: 0.7 bits an OT, and the least memory traffic.
    FerretSmall,
    /// Ferret with a larger set: 0.2 bits an OT.
    FerretLarge,
}

impl OtFlavour {
    /// All flavours.
    pub const ALL: [Self; 7] = [
        Self::Iknp,
        Self::SoftSpoken2,
        Self::SoftSpoken4,
        Self::SoftSpoken8,
        Self::Ferret,
        Self::FerretSmall,
        Self::FerretLarge,
    ];

    /// The name used in tables and result files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iknp => "iknp",
            Self::SoftSpoken2 => "softspoken2",
            Self::SoftSpoken4 => "softspoken4",
            Self::SoftSpoken8 => "softspoken8",
            Self::Ferret => "ferret",
            Self::FerretSmall => "ferret-small",
            Self::FerretLarge => "ferret-large",
        }
    }

    /// What runs.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Iknp => Kind::SoftSpoken(Groups::of(1)),
            Self::SoftSpoken2 => Kind::SoftSpoken(Groups::of(2)),
            Self::SoftSpoken4 => Kind::SoftSpoken(Groups::of(4)),
            Self::SoftSpoken8 => Kind::SoftSpoken(Groups::of(8)),
            Self::Ferret => Kind::Ferret(params::B12),
            Self::FerretSmall => Kind::Ferret(params::B11),
            Self::FerretLarge => Kind::Ferret(params::B13),
        }
    }

    /// Traffic of [`OtExtension::setup_with`](crate::OtExtension::setup_with), the same for both parties.
    pub fn setup_traffic(self) -> Traffic {
        let trees = self.kind().tree_bytes();
        let bytes = (BASE_BYTES + trees) as u64;
        Traffic { sent: bytes, received: bytes, rounds: 1 + u64::from(trees > 0) }
    }
}
