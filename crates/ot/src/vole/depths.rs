//! How many trees of which depth: runs, since a layer's groups are alike.

use crate::OtError;
use crate::error::check_range;

/// The deepest tree: 1024 leaves.
pub const MAX_DEPTH: u32 = 10;

/// The depths of the trees of all groups, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Depths {
    runs: Vec<Run>,
    groups: usize,
    levels: usize,
}

/// Consecutive groups of the same depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The first group.
    pub(super) first: usize,
    /// Levels of all groups before.
    pub(super) level: usize,
    pub(super) groups: usize,
    pub(super) depth: usize,
}

impl Depths {
    /// No groups.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `groups` groups with trees of `depth` (1..=[`MAX_DEPTH`]) levels.
    pub fn push(&mut self, groups: usize, depth: u32) -> Result<(), OtError> {
        check_range("tree depth", depth.into(), 1, MAX_DEPTH.into())?;
        if groups == 0 {
            return Ok(());
        }
        let depth = depth as usize;
        match self.runs.last_mut() {
            Some(run) if run.depth == depth => run.groups += groups,
            _ => self.runs.push(Run { first: self.groups, level: self.levels, groups, depth }),
        }
        self.groups += groups;
        self.levels += groups * depth;
        Ok(())
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Levels of all trees together, each a correlated OT at set-up.
    pub fn levels(&self) -> usize {
        self.levels
    }

    /// The depth of a group's tree.
    pub fn depth(&self, group: usize) -> Result<u32, OtError> {
        Ok(self.locate(group)?.1 as u32)
    }

    /// The levels of all groups before this one, and its depth.
    pub(super) fn locate(&self, group: usize) -> Result<(usize, usize), OtError> {
        let last = self.groups.saturating_sub(1) as u64;
        if group >= self.groups {
            return Err(OtError::OutOfRange { what: "group", got: group as u64, min: 0, max: last });
        }
        let run = self.runs[self.runs.partition_point(|run| run.first <= group) - 1];
        Ok((run.level + (group - run.first) * run.depth, run.depth))
    }

    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// All runs, cut so that none crosses a multiple of `chunk` groups, and gathered by chunk.
    pub(super) fn chunks(&self, chunk: usize) -> Vec<Vec<Run>> {
        let mut chunks = vec![Vec::new(); self.groups.div_ceil(chunk)];
        for run in &self.runs {
            let mut left = *run;
            while left.groups > 0 {
                let groups = left.groups.min(chunk - left.first % chunk);
                chunks[left.first / chunk].push(Run { groups, ..left });
                left.first += groups;
                left.level += groups * left.depth;
                left.groups -= groups;
            }
        }
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_chunks_cover_every_group_once() {
        let mut depths = Depths::new();
        let mut plain = Vec::new();
        for (groups, depth) in [(3, 8), (2, 8), (0, 3), (7, 1), (20, 10), (1, 2)] {
            depths.push(groups, depth).unwrap();
            plain.extend(vec![depth as usize; groups]);
        }
        assert_eq!(depths.runs().len(), 4);
        assert_eq!((depths.groups(), depths.levels()), (plain.len(), plain.iter().sum()));
        let mut level = 0;
        for (group, &depth) in plain.iter().enumerate() {
            assert_eq!(depths.locate(group).unwrap(), (level, depth));
            level += depth;
        }
        assert!(depths.locate(plain.len()).is_err() && Depths::new().locate(0).is_err());
        for chunk in [1, 4, 5, 100] {
            let chunks = depths.chunks(chunk);
            let mut at = 0;
            for (c, run) in chunks.iter().enumerate().flat_map(|(c, runs)| runs.iter().map(move |r| (c, r))) {
                assert_eq!((run.first, run.first / chunk), (at, c));
                assert_eq!(depths.locate(at).unwrap(), (run.level, run.depth));
                at += run.groups;
                assert!((at - 1) / chunk == c);
            }
            assert_eq!(at, plain.len());
        }
        for depth in [0, 11] {
            assert!(depths.push(1, depth).is_err());
        }
    }
}
