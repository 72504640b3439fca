//! What can go wrong, and whose fault it is.

use crate::channel::ChannelError;
use crate::wire::WireError;

/// Why a protocol step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OtError {
    /// The channel failed: the peer went away, a time limit passed, or the transport broke.
    #[error(transparent)]
    Channel(#[from] ChannelError),

    /// The peer's message does not have the only length it can have.
    #[error("peer: {what} has {got} bytes where {expected} are due")]
    MessageLength {
        /// Which message.
        what: &'static str,
        /// Bytes that the protocol state asks for.
        expected: usize,
        /// Bytes received.
        got: usize,
    },

    /// The peer's bit string is too short, too long, or has bits set after its end.
    #[error("peer: {0}")]
    Wire(#[from] WireError),

    /// The peer sent bytes that are no group element, or the neutral one.
    #[error("peer: base OT {index} carries an invalid group element")]
    InvalidPoint {
        /// Index of the base OT.
        index: usize,
    },

    /// The peer speaks another protocol, version or flavour, or plays our own role.
    #[error("peer: incompatible hello ({what})")]
    Incompatible {
        /// What differs.
        what: &'static str,
    },

    /// Caller: an earlier extension failed, so the parties may be out of step; set up again.
    #[error("an earlier OT extension failed; a new set-up is due")]
    Failed,

    /// Caller: more correlations asked for than are left.
    #[error("{asked} random OTs asked for, {left} left")]
    Exhausted {
        /// Correlations asked for.
        asked: usize,
        /// Correlations left.
        left: usize,
    },

    /// Caller: two lengths that must agree do not.
    #[error("{what}: {got} given where {expected} are due")]
    Mismatch {
        /// Which argument.
        what: &'static str,
        /// The length that it must have.
        expected: usize,
        /// The length that it has.
        got: usize,
    },

    /// Caller: a width or count outside its range.
    #[error("{what} = {got} is outside {min}..={max}")]
    OutOfRange {
        /// Which argument.
        what: &'static str,
        /// Its value.
        got: u64,
        /// Smallest legal value.
        min: u64,
        /// Largest legal value.
        max: u64,
    },
}

/// Checks the length of a peer's message.
pub(crate) fn check_message(what: &'static str, expected: usize, got: usize) -> Result<(), OtError> {
    if expected == got { Ok(()) } else { Err(OtError::MessageLength { what, expected, got }) }
}

/// Checks the length of an argument of our own caller.
pub(crate) fn check_argument(what: &'static str, expected: usize, got: usize) -> Result<(), OtError> {
    if expected == got { Ok(()) } else { Err(OtError::Mismatch { what, expected, got }) }
}

/// Checks that an argument of our own caller lies in `min..=max`.
pub(crate) fn check_range(what: &'static str, got: u64, min: u64, max: u64) -> Result<(), OtError> {
    if (min..=max).contains(&got) { Ok(()) } else { Err(OtError::OutOfRange { what, got, min, max }) }
}
