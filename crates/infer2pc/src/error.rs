use copriv_model::ModelError;
use copriv_ot::{ChannelError, OtError};
use copriv_plan::PlanError;

/// Why a private evaluation failed, by who is at fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// An oblivious transfer failed.
    #[error(transparent)]
    Ot(#[from] OtError),
    /// Set-up material cannot be kept.
    #[error(transparent)]
    File(#[from] copriv_ot::vole::FileError),
    /// Correlations that do not fit the memory cannot be kept.
    #[error("correlations cannot be kept in a temporary file (TMPDIR): {0}")]
    Spill(std::io::Error),
    /// Our own model is at fault.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Our own model cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The peer does not follow the protocol.
    #[error("the peer misbehaved: {0}")]
    PeerMisbehaved(String),
    /// The peer speaks another version, or planned otherwise.
    #[error("the peer is incompatible: {0}")]
    PeerIncompatible(String),
    /// A caller's mistake: material of another plan, an input of the wrong length.
    #[error("{0}")]
    Usage(String),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;
