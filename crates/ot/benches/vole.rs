//! `cargo bench -p copriv-ot --bench vole [-- NAME]`: sums of packed VOLE on one core, and set-up on all.
//!
//! `GB/s` counts the useful bytes of the PRG, `2^depth` leaves times `d` lanes, in the best of several
//! short runs, everything included: keys, tree, PRG, sums. `of AES` compares that with AES-128 alone, from
//! registers to registers, measured just after. Prints one table and
//! writes `target/bench/vole.json`. A name (`binary`, `ternary`, `mixed`, `share`, `set-up`) runs that part alone.

use std::hint::black_box;
use std::ops::Range;
use std::time::{Duration, Instant};
use std::{env, thread};

use copriv_bench::Results;
use copriv_ot::vole::{
    Depths, HolderTrees, Lane, PuncturedTrees, Radices, Session, Sums, Ticket, encrypt_alone, setup_holder,
    setup_puncturer, setup_traffic,
};
use copriv_ot::{Channel, OtFlavour};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde_json::Value;

/// Trees of each depth.
const GROUPS: usize = 256;
/// Groups of the set-up that is timed.
const SETUP: usize = 1 << 18;

type Params<'a> = &'a [(&'a str, Value)];

fn main() {
    let only = env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let mut table = Results::default();
    let parties = Parties::new();
    if wanted("binary") {
        for k in 1..=10 {
            let radices = Radices::binary(k).expect("up to ten");
            for d in [1, 16, 49, 196, 1024, 3136] {
                sums_rows::<u16>(&mut table, &parties, "binary", &radices, d);
                sums_rows::<u32>(&mut table, &parties, "binary", &radices, d);
            }
            sums_rows::<u64>(&mut table, &parties, "binary", &radices, 196);
        }
    }
    if wanted("ternary") {
        for m in 1..=6 {
            let radices = Radices::ternary(m).expect("up to six");
            for d in [1, 16, 49, 196, 1024] {
                sums_rows::<u16>(&mut table, &parties, "ternary", &radices, d);
                sums_rows::<u32>(&mut table, &parties, "ternary", &radices, d);
            }
        }
    }
    if wanted("mixed") {
        for radices in [&[4; 4][..], &[16, 16], &[3, 3, 5, 5], &[15, 15]] {
            let radices = Radices::new(radices).expect("less than 1024 points");
            for d in [49, 196] {
                sums_rows::<u32>(&mut table, &parties, "mixed", &radices, d);
            }
        }
    }
    if wanted("share") {
        for d in [49, 196, 1024] {
            share_rows::<u16>(&mut table, &parties, d);
            share_rows::<u32>(&mut table, &parties, d);
            share_rows::<u64>(&mut table, &parties, d);
        }
    }
    if wanted("set-up") {
        for flavour in [OtFlavour::SoftSpoken4, OtFlavour::SoftSpoken8, OtFlavour::Ferret] {
            setup_rows(&mut table, flavour);
        }
    }
    table.finish("vole").expect("the results can be written");
}

struct Parties {
    holder: HolderTrees,
    puncturer: PuncturedTrees,
}

impl Parties {
    fn new() -> Self {
        let mut depths = Depths::new();
        let mut leaves = Vec::new();
        for depth in 1..=10 {
            depths.push(GROUPS, depth).expect("a legal depth");
            leaves.extend((0..GROUPS).map(|leaf| leaf as u16 % (1 << depth)));
        }
        let (holder, puncturer, _) = set_up(OtFlavour::SoftSpoken4, &depths, &leaves);
        Self { holder, puncturer }
    }

    fn groups(radices: &Radices) -> Range<usize> {
        let depth = radices.depth() as usize;
        (depth - 1) * GROUPS..depth * GROUPS
    }
}

fn set_up(flavour: OtFlavour, depths: &Depths, leaves: &[u16]) -> (HolderTrees, PuncturedTrees, Duration) {
    let (mut server, mut client) = Channel::pair();
    let start = Instant::now();
    let (holder, puncturer) = thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let mut rng = ChaCha20Rng::seed_from_u64(1);
            setup_holder(&mut client, flavour, depths.clone(), &mut rng).expect("an honest peer")
        });
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let puncturer =
            setup_puncturer(&mut server, flavour, depths.clone(), leaves, &mut rng).expect("an honest peer");
        (holder.join().expect("the holder ends well"), puncturer)
    });
    (holder, puncturer, start.elapsed())
}

/// Both parties' sums of one shape.
fn sums_rows<L: Lane>(table: &mut Results, parties: &Parties, name: &str, radices: &Radices, d: usize) {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let (mut session, nonce) = parties.holder.session(&mut rng);
    let mut sums = Sums::<L>::new();
    let holder = time(&mut session, radices, |ticket| {
        parties.holder.sums(ticket, radices, d, &mut sums).expect("a legal shape");
        black_box(sums.u());
    });
    let mut session = parties.puncturer.join(&nonce);
    let puncturer = time(&mut session, radices, |ticket| {
        parties.puncturer.sums(ticket, radices, d, &mut sums).expect("a legal shape");
        black_box(sums.u());
    });
    let limit = aes_rate();
    let elements = (d << radices.depth()) as f64;
    for (party, seconds) in [("holder", holder), ("puncturer", puncturer)] {
        let text = radices.radices().iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let params: Params = &[
            ("radices", text.into()),
            ("depth", radices.depth().into()),
            ("d", d.into()),
            ("lane", L::BITS.into()),
            ("party", party.into()),
        ];
        let rate = elements * f64::from(L::BITS) / 8.0 / seconds / 1e9;
        table.push(name, params, rate, "GB/s");
        table.push(name, params, rate / limit, "of AES");
        table.push(name, params, seconds / elements * 1e9, "ns/leaf-element");
        table.push(name, params, seconds * 1e6, "us/group");
    }
}

/// The puncturer's shares of eight bits, from its sums.
fn share_rows<L: Lane>(table: &mut Results, parties: &Parties, d: usize) {
    let radices = Radices::binary(8).expect("up to ten");
    let mut session = parties.puncturer.join(&[1; 16]);
    let mut sums = Sums::<L>::new();
    let ticket = session.take(Parties::groups(&radices)).tickets().next().expect("a group");
    parties.puncturer.sums(ticket, &radices, d, &mut sums).expect("a legal shape");
    let (message, mut share) = (vec![L::default(); d], vec![L::default(); d]);
    let seconds = time(&mut session, &radices, |_| {
        for i in 0..8 {
            sums.punctured_share(i, black_box(1), &message, &mut share).expect("right lengths");
            black_box(&share);
        }
    });
    let params: Params = &[("digits", 8.into()), ("d", d.into()), ("lane", L::BITS.into())];
    table.push("share", params, seconds * 1e6, "us/group");
}

/// Seconds a group, in the best of many runs of a tenth of a millisecond or a group: on a machine with
/// other work some of them are undisturbed.
fn time(session: &mut Session, radices: &Radices, mut work: impl FnMut(Ticket)) -> f64 {
    let mut best = f64::MAX;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(12) {
        let mut rest = session.take(Parties::groups(radices));
        while !rest.groups().is_empty() {
            let n = if best == f64::MAX { 1 } else { (1e-4 / best).ceil() as usize };
            let n = n.min(rest.groups().len());
            let some;
            (some, rest) = rest.split_at(n);
            let start = Instant::now();
            some.tickets().for_each(&mut work);
            best = best.min(start.elapsed().as_secs_f64() / n as f64);
        }
    }
    best
}

/// GB/s of AES-128 alone, from registers to registers where the kernel runs.
fn aes_rate() -> f64 {
    const N: usize = 4096;
    let mut best = f64::MAX;
    for _ in 0..16 {
        let start = Instant::now();
        black_box(encrypt_alone(black_box(N)));
        best = best.min(start.elapsed().as_secs_f64());
    }
    (N * 32 * 16) as f64 / best / 1e9
}

/// A set-up of depth 8 by both parties in this process, on all cores.
fn setup_rows(table: &mut Results, flavour: OtFlavour) {
    let mut depths = Depths::new();
    depths.push(SETUP, 8).expect("a legal depth");
    let leaves: Vec<u16> = (0..SETUP).map(|group| group as u16 % 256).collect();
    let seconds = set_up(flavour, &depths, &leaves).2.as_secs_f64();
    let params: Params = &[("flavour", flavour.name().into()), ("depth", 8.into()), ("groups", SETUP.into())];
    table.push("set-up", params, SETUP as f64 / seconds, "groups/s");
    let traffic = setup_traffic(flavour, &depths);
    for (what, bytes) in [("holder", traffic.sent), ("puncturer", traffic.received)] {
        let params: Params = &[
            ("flavour", flavour.name().into()),
            ("depth", 8.into()),
            ("groups", SETUP.into()),
            ("sends", what.into()),
        ];
        table.push("set-up", params, bytes as f64 / SETUP as f64, "B/group");
    }
}
