//! Closed formulas for the traffic: what a session will send, without running it.

use crate::engine::Kind;
use crate::ferret::params::{self, Schedule};
use crate::softspoken::Choices;
use crate::wire::packed_len;
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
    /// Of our OTs as the sender, and as the receiver.
    schedules: [Schedule; 2],
}

impl OtMeter {
    /// A session that has not run anything but its set-up.
    pub fn new(flavour: OtFlavour) -> Self {
        let main = match flavour.kind() {
            Kind::Ferret(main) => main,
            Kind::SoftSpoken(_) => params::FIRST,
        };
        Self { flavour, schedules: [Schedule::new(main), Schedule::new(main)] }
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
        if n_send + n_receive == 0 {
            return Traffic::default();
        }
        match self.flavour.kind() {
            Kind::SoftSpoken(groups) => Traffic {
                sent: groups.message_bytes(n_receive, mode),
                received: groups.message_bytes(n_send, mode),
                rounds: 1,
            },
            Kind::Ferret(_) => self.next_ferret(n_send, n_receive, mode),
        }
    }

    fn next_ferret(&mut self, n_send: usize, n_receive: usize, mode: Choices) -> Traffic {
        let mut boot = [0; 2];
        let mut trees = [0; 2];
        let mut flips = [0; 2];
        for (side, n) in [n_send, n_receive].into_iter().enumerate() {
            let schedule = &mut self.schedules[side];
            if n > 0 && schedule.started() == 0 {
                boot[side] = params::boot_bytes() as u64;
            }
            trees[side] = schedule.take(n).map(|i| schedule.params(i).message_bytes() as u64).sum();
            if mode == Choices::Chosen {
                flips[side] = packed_len(n, 1) as u64;
            }
        }
        // Trees travel with the OTs, bootstrap and flips against them.
        let flows = [boot, trees, flips];
        let rounds = flows.iter().filter(|both| both[0] + both[1] > 0);
        Traffic {
            sent: trees[0] + boot[1] + flips[1],
            received: trees[1] + boot[0] + flips[0],
            rounds: rounds.count() as u64,
        }
    }
}
