//! Set-up of all trees over a channel, and its traffic.
//!
//! An OT extension is set up for the trees alone, so that its `Delta` has no other use, and both
//! parties compare hashes of the depths. Then, [`CHUNK`] groups at a time: the puncturer gets a
//! correlated OT a level, with the complement of its leaf's bits as choices, and the holder sends for
//! each level but the first the sum of the left nodes, masked by the OT's row.

use rand_core::CryptoRng;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};
use zeroize::Zeroizing;

use super::depths::Run;
use super::tree::{Roots, Siblings, TreeKeys, grow, grow_punctured};
use super::{Depths, HolderTrees, MAX_DEPTH, PuncturedTrees};
use crate::error::{check_argument, check_range};
use crate::simd::Level;
use crate::{Channel, OtError, OtExtension, OtFlavour, OtMeter, Role, Secret, Traffic};

/// Groups of one message: at most 10 MB of rows and 9 MB of sums.
const CHUNK: usize = 1 << 16;
/// Bytes of the hash of the depths.
const SHAPE_BYTES: usize = 32;

/// Sets up all trees as their holder, the client.
pub fn setup_holder(
    chan: &mut Channel,
    flavour: OtFlavour,
    depths: Depths,
    rng: &mut impl CryptoRng,
) -> Result<HolderTrees, OtError> {
    let (mut ot, id) = start(chan, Role::Client, flavour, &depths, rng)?;
    let keys = TreeKeys::new(&id);
    let delta = Zeroizing::new(ot.delta());
    let mut roots = Secret::with_capacity(depths.groups());
    for runs in depths.chunks(CHUNK) {
        let (rows, _) = ot.correlate(chan, levels(&runs), &Secret::default())?;
        let mut sums = vec![0; levels(&runs) - groups(&runs)];
        let (mut rows, mut rest) = (&rows[..], &mut sums[..]);
        for run in runs {
            let (mine, more) = rows.split_at(run.groups * run.depth);
            let (out, tail) = rest.split_at_mut(run.groups * (run.depth - 1));
            (rows, rest) = (more, tail);
            roots.extend(mine.iter().step_by(run.depth));
            deal(&keys, *delta, run, mine, out);
        }
        chan.send(bytemuck::cast_slice(&sums))?;
        chan.flush()?;
    }
    Ok(HolderTrees::new(depths, id, Roots { delta, roots }))
}

/// Sets up all trees as their puncturer, the server: `leaves` are the leaves it will not know, one
/// a group, in the order of `depths`.
pub fn setup_puncturer(
    chan: &mut Channel,
    flavour: OtFlavour,
    depths: Depths,
    leaves: &[u16],
    rng: &mut impl CryptoRng,
) -> Result<PuncturedTrees, OtError> {
    check_argument("punctured leaves", depths.groups(), leaves.len())?;
    for run in depths.runs() {
        for &leaf in &leaves[run.first..run.first + run.groups] {
            check_range("punctured leaf", leaf.into(), 0, (1 << run.depth) - 1)?;
        }
    }
    let (mut ot, id) = start(chan, Role::Server, flavour, &depths, rng)?;
    let keys = TreeKeys::new(&id);
    let mut siblings = Secret::with_capacity(depths.levels());
    for runs in depths.chunks(CHUNK) {
        let mut choices = Secret::with_capacity(levels(&runs));
        for run in &runs {
            for leaf in &leaves[run.first..run.first + run.groups] {
                choices.extend((0..run.depth).map(|i| (!leaf >> i & 1) as u8));
            }
        }
        let (_, mut rows) = ot.correlate(chan, 0, &choices)?;
        let message = chan.recv(16 * (levels(&runs) - groups(&runs)))?;
        let (mut rest, mut sums) = (&mut rows[..], &message[..]);
        for run in runs {
            let (mine, tail) = rest.split_at_mut(run.groups * run.depth);
            let (theirs, more) = sums.split_at(16 * run.groups * (run.depth - 1));
            (rest, sums) = (tail, more);
            open(&keys, run, &leaves[run.first..run.first + run.groups], mine, theirs);
        }
        siblings.extend_from_slice(&rows);
    }
    let part = Siblings { leaves: Secret::new(leaves.to_vec()), siblings };
    Ok(PuncturedTrees::new(depths, id, part))
}

/// Traffic of the set-up as the holder sees it; the puncturer sees it mirrored.
///
/// Beyond the OT extension's own set-up and its correlated OTs, one a level, these are
/// `16 (depth - 1)` bytes a group, and 32 bytes each way.
pub fn setup_traffic(flavour: OtFlavour, depths: &Depths) -> Traffic {
    let shape = SHAPE_BYTES as u64;
    let mut meter = OtMeter::new(flavour);
    let mut all = meter.setup() + Traffic { sent: shape, received: shape, rounds: 1 };
    for runs in depths.chunks(CHUNK) {
        let sums = levels(&runs) - groups(&runs);
        all += meter.extend(levels(&runs), 0);
        all += Traffic { sent: 16 * sums as u64, received: 0, rounds: u64::from(sums > 0) };
    }
    all
}

/// The extension, and the set-up's identifier: a hash of its transcript and of the depths.
fn start(
    chan: &mut Channel,
    role: Role,
    flavour: OtFlavour,
    depths: &Depths,
    rng: &mut impl CryptoRng,
) -> Result<(OtExtension, [u8; 32]), OtError> {
    let ot = OtExtension::setup_with(chan, role, flavour, rng)?;
    let mut shape = blake3::Hasher::new_derive_key("copriv-ot v1 vole depths");
    for run in depths.runs() {
        shape.update(&(run.groups as u64).to_le_bytes());
        shape.update(&(run.depth as u64).to_le_bytes());
    }
    let shape: [u8; SHAPE_BYTES] = shape.finalize().into();
    if chan.exchange(&shape, SHAPE_BYTES)? != shape {
        return Err(OtError::Incompatible { what: "depths of the packed VOLE trees" });
    }
    let mut id = blake3::Hasher::new_derive_key("copriv-ot v1 vole set-up");
    id.update(&ot.session_key());
    id.update(&shape);
    Ok((ot, id.finalize().into()))
}

fn groups(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.groups).sum()
}

fn levels(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.groups * run.depth).sum()
}

/// The holder's masked sums of a run, `q ^ K` for each level but the first.
fn deal(keys: &TreeKeys, delta: u128, run: Run, rows: &[u128], sums: &mut [u128]) {
    if run.depth == 1 {
        return;
    }
    let trees = rows.par_chunks_exact(run.depth).zip(sums.par_chunks_exact_mut(run.depth - 1));
    trees.enumerate().for_each_init(nodes, |nodes, (i, (rows, sums))| {
        let cipher = keys.cipher(run.first + i);
        let mut sums = sums.iter_mut().zip(&rows[1..]);
        grow(&cipher, delta, rows[0], &mut nodes[..1 << run.depth], |left| {
            let (sum, row) = sums.next().expect("a sum for each level but the first");
            *sum = row ^ left;
        });
    });
}

/// The puncturer's siblings of a run, in the place of its rows.
fn open(keys: &TreeKeys, run: Run, leaves: &[u16], rows: &mut [u128], message: &[u8]) {
    let level = Level::detect();
    let sum =
        |i: usize| u128::from_le_bytes(message[16 * i..16 * (i + 1)].try_into().expect("sixteen bytes"));
    let trees = leaves.par_iter().zip(rows.par_chunks_exact_mut(run.depth));
    trees.enumerate().for_each_init(nodes, |nodes, (tree, (&leaf, rows))| {
        let cipher = keys.cipher(run.first + tree);
        grow_punctured(&cipher, level, leaf, &mut nodes[..1 << run.depth], |i, known| {
            if i > 0 {
                rows[i] ^= sum(tree * (run.depth - 1) + i - 1) ^ known;
            }
            rows[i]
        });
    });
}

/// A thread's nodes.
fn nodes() -> Secret<u128> {
    Secret::zeros(1 << MAX_DEPTH)
}
