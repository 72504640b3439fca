//! Closed formulas for the traffic: what a session will send, without running it.

use crate::softspoken::Choices;
use crate::{OtFlavour, Traffic};

/// Predicts, call by call, the traffic of one party's [`OtExtension`](crate::OtExtension). The
/// prediction is exact to the byte and to the round.
///
/// ```
/// use copriv_ot::{OtFlavour, OtMeter};
/// let mut meter = OtMeter::new(OtFlavour::SoftSpoken4);
/// // 1000 random OTs as their receiver: 32 columns of 125 bytes.
/// assert_eq!(meter.extend(0, 1000).sent, 4000);
/// assert_eq!(meter.extend_random(0, 1000).sent, 3875);
/// ```
#[derive(Debug, Clone)]
pub struct OtMeter {
    flavour: OtFlavour,
}

impl OtMeter {
    /// A session that has not run anything but its set-up.
    pub fn new(flavour: OtFlavour) -> Self {
        Self { flavour }
    }

    /// The set-up's traffic.
    pub fn setup(&self) -> Traffic {
        self.flavour.setup_traffic()
    }

    /// Traffic of the next call of [`OtExtension::extend`](crate::OtExtension::extend).
    pub fn extend(&mut self, n_send: usize, n_receive: usize) -> Traffic {
        self.next(n_send, n_receive, Choices::Chosen)
    }

    /// Traffic of the next call of
    /// [`OtExtension::extend_random`](crate::OtExtension::extend_random).
    pub fn extend_random(&mut self, n_send: usize, n_receive: usize) -> Traffic {
        self.next(n_send, n_receive, Choices::Random)
    }

    fn next(&mut self, n_send: usize, n_receive: usize, mode: Choices) -> Traffic {
        let columns = |n| self.flavour.groups().message_bytes(n, mode);
        Traffic {
            sent: columns(n_receive),
            received: columns(n_send),
            rounds: u64::from(n_send + n_receive > 0),
        }
    }
}
