//! `cargo bench -p copriv-infer2pc --bench operators`: bytes an element of each operator, offline
//! and online, beside what was measured of the reference implementations; and the time of 2^20
//! ReLUs. Both parties run in this process over an in-memory channel.

use std::time::Instant;

use copriv_bench::Results;
use copriv_infer2pc::{Channel, OtStock, Party, Role, convert, select};
use copriv_model::kernel::mask;
use copriv_plan::step::{Step, StepKind};
use copriv_plan::{Choice, Flavour, Preset};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Elements a call.
const N: usize = 1 << 16;
const CHOICE: Choice =
    Choice { flavour: Flavour::Ferret, preset: Preset::CoprivNg, packing: 8, session: 1000 };

/// An operator as a sequence of steps on `ring`-bit values.
struct Operator {
    name: &'static str,
    params: Vec<(&'static str, u32)>,
    steps: Vec<Step>,
    ring: u32,
    /// Bytes an element of SCI (IKNP) and of Cheetah (silent OT), where they were measured.
    sci: Option<f64>,
    cheetah: Option<f64>,
}

fn main() -> std::io::Result<()> {
    let mut results = Results::default();
    for (l, sci, cheetah) in [
        (41, Some(671.5), Some(67.5)),
        (37, Some(596.5), Some(60.0)),
        (32, Some(539.5), Some(52.4)),
        (16, Some(258.0), None),
        (8, Some(126.5), None),
    ] {
        let steps = vec![step(StepKind::ClampLow { bound: 0 }, l)];
        report(
            &mut results,
            &Operator { name: "relu", params: vec![("l", l)], steps, ring: l, sci, cheetah },
        );
    }
    for (l, sci, cheetah) in [(41, 722.0, Some(63.4)), (37, 650.0, Some(57.3)), (32, 524.5, None)] {
        let shift = 12;
        let steps = vec![truncate(l, shift), extend(l - shift, l)];
        let params = vec![("l", l), ("shift", shift)];
        report(&mut results, &Operator { name: "trunc", params, steps, ring: l, sci: Some(sci), cheetah });
    }
    for (from, to, sci) in [(41, 29, 164.6), (32, 16, 236.0), (16, 10, 107.8)] {
        let steps = vec![truncate(from, from - to)];
        let params = vec![("from", from), ("to", to)];
        report(
            &mut results,
            &Operator { name: "tr", params, steps, ring: from, sci: Some(sci), cheetah: None },
        );
    }
    for (from, to) in [(16, 8), (22, 8)] {
        let steps = vec![truncate(from, from - to), step(StepKind::ClampLow { bound: 0 }, to)];
        let params = vec![("from", from), ("to", to)];
        report(
            &mut results,
            &Operator { name: "relu_requant", params, steps, ring: from, sci: None, cheetah: None },
        );
    }
    for (from, to, sci) in [(16, 32, 236.0), (6, 16, 107.8)] {
        let params = vec![("from", from), ("to", to)];
        let steps = vec![extend(from, to)];
        report(
            &mut results,
            &Operator { name: "ext", params, steps, ring: from, sci: Some(sci), cheetah: None },
        );
    }
    // A residual connection as in a bottleneck block: 8-bit values behind a saturation (9 bits)
    // into a 22-bit accumulator, added there, requantised to 8 bits once.
    let params = vec![("acc", 22), ("bits", 8)];
    let widen = step(StepKind::Extend { from: 9, offset: 128, msb_known: true }, 22);
    let steps =
        vec![widen, truncate(22, 8), step(StepKind::Saturate { from: 14, bound: -128, window: 8 }, 9)];
    report(&mut results, &Operator { name: "residual", params, steps, ring: 9, sci: None, cheetah: None });
    for (from, to) in [(14, 8), (12, 6)] {
        let saturate = step(StepKind::Saturate { from, bound: 0, window: to }, to + 1);
        let params = vec![("from", from), ("to", to)];
        report(
            &mut results,
            &Operator {
                name: "saturate",
                params,
                steps: vec![saturate],
                ring: from,
                sci: None,
                cheetah: None,
            },
        );
    }
    million_relus(&mut results);
    results.finish("operators").map(drop)
}

fn step(kind: StepKind, ring: u32) -> Step {
    Step { layer: "bench".into(), kind, inputs: vec![0], len: N, ring }
}

fn truncate(from: u32, shift: u32) -> Step {
    step(StepKind::Truncate { from, shift, bias: 1 << (shift - 1) }, from - shift)
}

/// Of arbitrary two's complement values: nothing is known of the sign.
fn extend(from: u32, to: u32) -> Step {
    step(StepKind::Extend { from, offset: 1 << (from - 1), msb_known: false }, to)
}

fn report(results: &mut Results, operator: &Operator) {
    let online = run(operator);
    let ots: u64 =
        operator.steps.iter().map(|s| s.ots(CHOICE)).map(|o| o.server_sends + o.client_sends).sum();
    let online = online as f64 / N as f64;
    // Ferret's iterations outlast an operator: its price in the long run.
    let offline = ots as f64 / N as f64 * CHOICE.flavour.millibits() as f64 / 8000.0;
    let mut params: Vec<(&str, serde_json::Value)> =
        operator.params.iter().map(|(k, v)| (*k, (*v).into())).collect();
    params.push(("preset", "copriv-ng".into()));
    results.push(operator.name, &params, online + offline, "B/element");
    params.push(("part", "online".into()));
    results.push(operator.name, &params, online, "B/element");
    params.pop();
    for (preset, value) in [("sci (measured)", operator.sci), ("cheetah (measured)", operator.cheetah)] {
        if let Some(value) = value {
            params.pop();
            params.push(("preset", preset.into()));
            results.push(operator.name, &params, value, "B/element");
        }
    }
}

/// Runs the steps on random shares; the online bytes of both directions.
fn run(operator: &Operator) -> u64 {
    let (a, b) = Channel::pair();
    let one = |role: Role, channel: Channel| {
        let mut rng = StdRng::seed_from_u64(role as u64);
        let mut party = connect(role, channel);
        let mut x: Vec<u64> = (0..N).map(|_| rng.random::<u64>() & mask(operator.ring)).collect();
        let mut online = 0;
        for step in &operator.steps {
            let mut stock = party.stock(step.ots(CHOICE)).expect("an honest peer");
            let before = party.channel.traffic();
            x = apply(&mut party, &mut stock, step, &x);
            online += (party.channel.traffic() - before).total();
        }
        online
    };
    std::thread::scope(|scope| {
        let server = scope.spawn(|| one(Role::Server, a));
        let client = one(Role::Client, b);
        assert_eq!(server.join().expect("no panic"), client);
        client
    })
}

fn connect(role: Role, channel: Channel) -> Party {
    Party::connect(channel, role, CHOICE, StdRng::seed_from_u64(7)).expect("an honest peer")
}

fn apply(party: &mut Party, stock: &mut OtStock, step: &Step, x: &[u64]) -> Vec<u64> {
    let ring = step.ring;
    let y = match step.kind {
        StepKind::ClampLow { bound } => select::clamp_low(party, stock, ring, bound, x),
        StepKind::Truncate { from, shift, bias } => {
            convert::truncate(party, stock, (from, shift, bias, ring), x)
        }
        StepKind::Extend { from, offset, msb_known } => {
            convert::extend(party, stock, (from, ring, offset, msb_known), x)
        }
        StepKind::Saturate { from, bound, window } => {
            select::saturate(party, stock, (from, bound, window), x)
        }
        _ => unreachable!("no such operator here"),
    };
    party.channel.flush().expect("an honest peer");
    y.expect("an honest peer")
}

/// 2^20 ReLUs of 32 bits, [`N`] at a time.
fn million_relus(results: &mut Results) {
    let relu = step(StepKind::ClampLow { bound: 0 }, 32);
    let (a, b) = Channel::pair();
    let one = |role: Role, channel: Channel| {
        let mut party = connect(role, channel);
        let x: Vec<u64> = (0..N as u64).map(|v| v.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).collect();
        let (mut offline, mut online) = (0.0, 0.0);
        for _ in 0..(1 << 20) / N {
            let start = Instant::now();
            let mut stock = party.stock(relu.ots(CHOICE)).expect("an honest peer");
            offline += start.elapsed().as_secs_f64();
            let start = Instant::now();
            apply(&mut party, &mut stock, &relu, &x);
            online += start.elapsed().as_secs_f64();
        }
        (offline, online)
    };
    let (offline, online) = std::thread::scope(|scope| {
        let server = scope.spawn(|| one(Role::Server, a));
        let client = one(Role::Client, b);
        server.join().expect("no panic");
        client
    });
    let params =
        |part: &str| [("l", 32.into()), ("n", (1u32 << 20).into()), ("part", part.to_owned().into())];
    results.push("relu time", &params("offline"), offline, "s");
    results.push("relu time", &params("online"), online, "s");
    results.push("relu time", &params("all"), offline + online, "s");
}
