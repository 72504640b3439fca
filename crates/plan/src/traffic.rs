//! Who sends what when.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// One message, or two that cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// Client to server, bytes.
    Up(u64),
    /// Server to client, bytes.
    Down(u64),
    /// Both parties send at once.
    Both {
        /// Client to server.
        up: u64,
        /// Server to client.
        down: u64,
    },
}

/// Payload bytes of both directions and the one-way flows on the critical path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Client to server, bytes.
    pub up: u64,
    /// Server to client, bytes.
    pub down: u64,
    /// Direction changes; two crossing messages count once.
    pub rounds: u64,
}

impl Traffic {
    /// Bytes of both directions.
    pub fn bytes(&self) -> u64 {
        self.up + self.down
    }
}

impl Add for Traffic {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { up: self.up + other.up, down: self.down + other.down, rounds: self.rounds + other.rounds }
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Traffic {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |a, b| a + b)
    }
}

/// Counts as the channel does: a message opens a round unless it continues one in the same
/// direction; crossing messages are a round of their own; empty ones do not exist.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    last: Option<Direction>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Meter {
    /// A meter at the start of a phase.
    pub fn new() -> Self {
        Self::default()
    }

    /// The traffic that these flows add.
    pub fn count(&mut self, flows: &[Flow]) -> Traffic {
        let mut total = Traffic::default();
        for flow in flows {
            total += match *flow {
                Flow::Up(0) | Flow::Down(0) | Flow::Both { up: 0, down: 0 } => Traffic::default(),
                Flow::Up(up) => Traffic { up, down: 0, rounds: self.turn(Direction::Up) },
                Flow::Down(down) => Traffic { up: 0, down, rounds: self.turn(Direction::Down) },
                Flow::Both { up, down } => {
                    self.last = None;
                    Traffic { up, down, rounds: 1 }
                }
            };
        }
        total
    }

    fn turn(&mut self, direction: Direction) -> u64 {
        let changed = self.last != Some(direction);
        self.last = Some(direction);
        u64::from(changed)
    }
}
