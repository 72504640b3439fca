//! What a channel counts.

/// Payload bytes of either direction, and one-way flows on the critical path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Traffic {
    /// Bytes sent by this party.
    pub sent: u64,
    /// Bytes received by this party.
    pub received: u64,
    /// One-way flows: a run of sends is one, a run of receives is one, an exchange is one.
    pub rounds: u64,
}

impl Traffic {
    /// Bytes of both directions.
    pub fn total(&self) -> u64 {
        self.sent + self.received
    }

    /// The same traffic as the peer sees it.
    pub fn mirrored(&self) -> Self {
        Self { sent: self.received, received: self.sent, rounds: self.rounds }
    }
}

impl std::ops::Add for Traffic {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            received: self.received + other.received,
            rounds: self.rounds + other.rounds,
        }
    }
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::ops::Sub for Traffic {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            sent: self.sent - other.sent,
            received: self.received - other.received,
            rounds: self.rounds - other.rounds,
        }
    }
}
