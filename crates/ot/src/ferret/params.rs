//! LPN parameter sets, and the schedule that both parties follow.

use crate::softspoken::{Choices, Groups};

/// Regular-noise LPN: `t` blocks of `2^depth` samples with one error each, a secret of
/// `2^log_k` bits, and a code with ten random positions a row (module `lpn`).
///
/// # Estimate
/// The sets are those of emp-ot 1.0 (July 2026), stated there to reach 128 bits against the
/// attacks published since Ferret (eprint 2020/924), whose own sets they replace: Liu, Wang, Yang,
/// Yu (eprint 2022/712), Briaud and Oygarden (eprint 2023/176), Esser and Santini
/// (eprint 2023/1568). **They have not been re-estimated here** beyond the test below, which
/// evaluates the simplest attack in closed form: guessing `k` error-free samples, `k / t` from each
/// block, succeeds with probability `(1 - k / (t 2^depth))^t`, about `2^-95` for every set, and each
/// guess costs at least `k^2` bit operations, `2^32` or more: `2^127` to `2^133`, without the
/// cost of solving a dense system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Params {
    pub(crate) t: usize,
    pub(crate) log_k: u32,
    pub(crate) depth: u32,
}

pub(crate) const B10: Params = Params::new(850, 16, 10);
pub(crate) const B11: Params = Params::new(1170, 17, 11);
pub(crate) const B12: Params = Params::new(1520, 18, 12);
pub(crate) const B13: Params = Params::new(1900, 19, 13);

/// The set of the first iteration, small because the bootstrap pays for its input.
pub(crate) const FIRST: Params = B10;

/// SoftSpoken for the bootstrap: wide groups, since there is little of it.
pub(crate) const BOOT: Groups = Groups::of(12);

impl Params {
    const fn new(t: usize, log_k: u32, depth: u32) -> Self {
        Self { t, log_k, depth }
    }

    /// Bits of the LPN secret.
    pub(crate) const fn k(self) -> usize {
        1 << self.log_k
    }

    /// Leaves of a tree.
    pub(crate) const fn leaves(self) -> usize {
        1 << self.depth
    }

    /// Correlated OTs that an iteration makes.
    pub(crate) const fn output(self) -> usize {
        self.t << self.depth
    }

    /// Correlated OTs that an iteration uses up: the secret, and one a tree level.
    pub(crate) const fn input(self) -> usize {
        self.k() + self.t * self.depth as usize
    }

    /// Bytes from sender to receiver: a block a tree level, the topmost free.
    pub(crate) const fn message_bytes(self) -> usize {
        self.t * (self.depth as usize - 1) * 16
    }
}

/// Bytes from receiver to sender that bootstrap one direction.
pub(crate) fn boot_bytes() -> usize {
    BOOT.setup_bytes() + BOOT.message_bytes(FIRST.input(), Choices::Random) as usize
}

/// What both parties count alike in one direction: which iterations have been started, and how
/// many correlated OTs are left in them.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    main: Params,
    started: u64,
    left: usize,
}

impl Schedule {
    pub(crate) fn new(main: Params) -> Self {
        Self { main, started: 0, left: 0 }
    }

    /// The set of iteration `i`.
    pub(crate) fn params(&self, i: u64) -> Params {
        if i == 0 { FIRST } else { self.main }
    }

    /// Iterations started so far.
    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    /// Takes `n` correlated OTs; gives the iterations to be started for them.
    pub(crate) fn take(&mut self, n: usize) -> std::ops::Range<u64> {
        let first = self.started;
        while self.left < n {
            // Each iteration keeps the input of the next.
            self.left += self.params(self.started).output() - self.main.input();
            self.started += 1;
        }
        self.left -= n;
        first..self.started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Params; 4] = [B10, B11, B12, B13];

    #[test]
    fn the_sets_feed_themselves() {
        for set in ALL {
            assert!(set.output() > 4 * set.input(), "{set:?}");
            assert!(FIRST.output() > set.input(), "{set:?}");
        }
    }

    #[test]
    fn guessing_error_free_samples_costs_127_bits() {
        for set in ALL {
            let (k, t) = (set.k() as f64, set.t as f64);
            let hit = t * (1.0 - k / (t * set.leaves() as f64)).log2();
            let bits = -hit + 2.0 * k.log2();
            assert!((127.0..135.0).contains(&bits), "{set:?}: {bits}");
        }
    }

    #[test]
    fn the_schedule_starts_what_is_needed_and_no_more() {
        let mut schedule = Schedule::new(B11);
        let first = B10.output() - B11.input();
        let later = B11.output() - B11.input();
        assert_eq!(schedule.take(0), 0..0);
        assert_eq!(schedule.take(1), 0..1);
        assert_eq!(schedule.take(first - 1), 1..1);
        assert_eq!(schedule.take(1), 1..2);
        assert_eq!(schedule.take(2 * later), 2..4);
        assert_eq!(schedule.started(), 4);
    }
}
