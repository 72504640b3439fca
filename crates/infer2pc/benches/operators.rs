//! `cargo bench -p copriv-infer2pc --bench operators`: bytes an element of each operator in each
//! preset, offline and online, beside what was measured of SCI and Cheetah (design, section 6); the
//! residual connections of ResNet-18; and time and memory of 2^20 ReLUs, streamed. Both parties run
//! in this process over an in-memory channel.

use std::time::Instant;

use copriv_bench::Results;
use copriv_infer2pc::engine::run_step;
use copriv_infer2pc::{Channel, OtStock, Party, Role, baseline, convert};
use copriv_model::kernel::mask;
use copriv_plan::literature::residual;
use copriv_plan::step::{Step, StepKind};
use copriv_plan::{Choice, Cost, Flavour, PlanError, Preset, cost};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Elements a call.
const N: usize = 1 << 16;

/// What is measured: steps one after the other on `ring`-bit values, or what is no step by itself.
enum Work {
    Steps(u32, Vec<Step>),
    Mux(u32),
    B2a(u32),
    /// By itself only the baselines have it; ours is part of trees.
    And,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut results = Results::default();
    for (l, sci, cheetah) in [
        (41, 671.5, Some(67.5)),
        (37, 596.5, Some(60.0)),
        (32, 539.5, Some(52.4)),
        (16, 258.0, None),
        (8, 126.5, None),
    ] {
        let relu = || Work::Steps(l, vec![step(StepKind::ClampLow { bound: 0 }, l)]);
        for preset in [Preset::Cryptflow2, Preset::Sirnn, Preset::CoprivNg] {
            measure(&mut results, "relu", &[("l", l)], preset, &relu());
        }
        published(&mut results, "relu", &[("l", l)], Some(sci), cheetah);
    }
    for (l, sci, cheetah) in [(41, 722.0, Some(63.4)), (37, 650.0, Some(57.3)), (32, 524.5, None)] {
        let (shift, params) = (12, [("l", l), ("shift", 12)]);
        let whole = step(StepKind::ShiftRight { shift, bias: 0 }, l);
        for preset in [Preset::Cryptflow2, Preset::Sirnn] {
            measure(&mut results, "trunc", &params, preset, &Work::Steps(l, vec![whole.clone()]));
        }
        // PrivQuant proposition 4.1: truncate-and-reduce, then extend.
        let two = vec![truncate(l, shift), extend(l - shift, l, false)];
        measure(&mut results, "trunc", &params, Preset::CoprivNg, &Work::Steps(l, two));
        published(&mut results, "trunc", &params, Some(sci), cheetah);
    }
    for (from, to, sci) in [(41, 29, 164.6), (32, 16, 236.0), (16, 10, 107.8)] {
        let params = [("from", from), ("to", to)];
        for preset in [Preset::Sirnn, Preset::CoprivNg] {
            let work = Work::Steps(from, vec![truncate(from, from - to)]);
            measure(&mut results, "tr", &params, preset, &work);
        }
        published(&mut results, "tr", &params, Some(sci), None);
    }
    for (from, to, known, sci) in
        [(16, 32, false, 236.0), (6, 16, false, 107.8), (4, 14, false, 51.3), (16, 32, true, 50.5)]
    {
        let params = [("from", from), ("to", to), ("sign known", u32::from(known))];
        let literature = if known { Preset::Privquant } else { Preset::Sirnn };
        for preset in [literature, Preset::CoprivNg] {
            measure(&mut results, "ext", &params, preset, &Work::Steps(from, vec![extend(from, to, known)]));
        }
        published(&mut results, "ext", &params, Some(sci), None);
    }
    for (name, work, sci) in [("mux", Work::Mux(41), 42.3), ("b2a", Work::B2a(41), 21.1)] {
        for preset in [Preset::Sirnn, Preset::CoprivNg] {
            measure(&mut results, name, &[("l", 41)], preset, &work);
        }
        published(&mut results, name, &[("l", 41)], Some(sci), None);
    }
    measure(&mut results, "and", &[], Preset::Sirnn, &Work::And);
    published(&mut results, "and", &[], Some(18.0), None);
    for (from, to) in [(16, 8), (22, 8)] {
        let relu = |ring| step(StepKind::ClampLow { bound: 0 }, ring);
        let params = [("from", from), ("to", to)];
        let theirs = Work::Steps(from, vec![relu(from), truncate(from, from - to)]);
        measure(&mut results, "relu_requant", &params, Preset::Sirnn, &theirs);
        let ours = Work::Steps(from, vec![truncate(from, from - to), relu(to)]);
        measure(&mut results, "relu_requant", &params, Preset::CoprivNg, &ours);
    }
    for (from, to) in [(14, 8), (12, 6)] {
        let saturate = step(StepKind::Saturate { from, bound: 0, window: to }, to + 1);
        let work = Work::Steps(from, vec![saturate]);
        measure(&mut results, "saturate", &[("from", from), ("to", to)], Preset::CoprivNg, &work);
    }
    for (side, channels) in residual::BLOCKS {
        residual(&mut results, side, channels)?;
    }
    million_relus(&mut results);
    results.finish("operators")?;
    Ok(())
}

fn choice(preset: Preset) -> Choice {
    let flavour = if preset.is_baseline() { Flavour::Iknp } else { Flavour::Ferret };
    Choice { preset, ..flavour.into() }
}

fn step(kind: StepKind, ring: u32) -> Step {
    Step { layer: "bench".into(), kind, inputs: vec![0], len: N, ring }
}

fn truncate(from: u32, shift: u32) -> Step {
    step(StepKind::Truncate { from, shift, bias: 1 << (shift - 1) }, from - shift)
}

/// Of two's complement values of which nothing is known, or of non-negative ones.
fn extend(from: u32, to: u32, msb_known: bool) -> Step {
    let offset = if msb_known { 0 } else { 1 << (from - 1) };
    step(StepKind::Extend { from, offset, msb_known }, to)
}

fn measure(results: &mut Results, name: &str, params: &[(&str, u32)], preset: Preset, work: &Work) {
    let choice = choice(preset);
    let ots = costs(work, choice).ots();
    let online = run(work, choice) as f64 / N as f64;
    // Ferret's iterations outlast an operator: its price in the long run.
    let ots = (ots.server_sends + ots.client_sends) as f64 / N as f64;
    let offline = ots * choice.flavour.millibits() as f64 / 8000.0;
    let mut row = row(params, preset.name());
    results.push(name, &row, online + offline, "B/element");
    if preset == Preset::CoprivNg {
        row.push(("part", "online".into()));
        results.push(name, &row, online, "B/element");
    }
}

fn published(
    results: &mut Results,
    name: &str,
    params: &[(&str, u32)],
    sci: Option<f64>,
    cheetah: Option<f64>,
) {
    for (system, value) in [("sci (measured)", sci), ("cheetah (measured)", cheetah)] {
        if let Some(value) = value {
            results.push(name, &row(params, system), value, "B/element");
        }
    }
}

fn row<'a>(params: &[(&'a str, u32)], preset: &str) -> Vec<(&'a str, serde_json::Value)> {
    let mut row: Vec<(&str, serde_json::Value)> = params.iter().map(|(k, v)| (*k, (*v).into())).collect();
    row.push(("preset", preset.into()));
    row
}

fn costs(work: &Work, choice: Choice) -> Cost {
    let n = N as u64;
    match work {
        Work::Steps(_, steps) => steps.iter().map(|s| s.cost(choice)).collect(),
        Work::Mux(l) => cost::mux(n, *l),
        Work::B2a(l) => cost::b2a(n, *l),
        Work::And => Cost::default(),
    }
}

/// Runs it on random shares; the online bytes of both directions.
fn run(work: &Work, choice: Choice) -> u64 {
    let (a, b) = Channel::pair();
    let one = |role: Role, channel: Channel| {
        let mut rng = StdRng::seed_from_u64(role as u64);
        let mut party = connect(role, channel, choice);
        let mut stock = party.stock(&costs(work, choice).uses).expect("an honest peer");
        let before = party.channel.traffic();
        let bits: Vec<bool> = (0..N).map(|_| rng.random()).collect();
        let mut values =
            |ring: u32| -> Vec<u64> { (0..N).map(|_| rng.random::<u64>() & mask(ring)).collect() };
        let (party_ref, stock_ref) = (&mut party, &mut stock);
        match work {
            Work::Steps(ring, steps) => {
                let mut x = values(*ring);
                for step in steps {
                    x = run_step(party_ref, stock_ref, step, &[x]).expect("an honest peer");
                }
            }
            Work::Mux(l) => {
                convert::mux(party_ref, stock_ref, *l, &bits, &values(*l)).expect("an honest peer");
            }
            Work::B2a(l) => {
                convert::b2a(party_ref, stock_ref, *l, &bits).expect("an honest peer");
            }
            Work::And => {
                baseline::and(party_ref, &bits, &bits).expect("an honest peer");
            }
        }
        party.channel.flush().expect("an honest peer");
        (party.channel.traffic() - before).total()
    };
    std::thread::scope(|scope| {
        let server = scope.spawn(|| one(Role::Server, a));
        let client = one(Role::Client, b);
        assert_eq!(server.join().expect("no panic"), client);
        client
    })
}

fn connect(role: Role, channel: Channel, choice: Choice) -> Party {
    Party::connect(channel, role, choice, StdRng::seed_from_u64(7)).expect("an honest peer")
}

/// The residual connection of a ResNet-18 block. As planned, which the tests hold to be what is sent.
fn residual(results: &mut Results, side: usize, channels: usize) -> Result<(), PlanError> {
    for preset in [Preset::Sirnn, Preset::Privquant, Preset::CoprivNg] {
        let bytes = residual::bytes((side, channels), choice(preset))?;
        let block = format!("({side},{channels})");
        let params = [("block", block.into()), ("preset", preset.name().into())];
        results.push("residual", &params, bytes / (side * side * channels) as f64, "B/element");
        results.push("residual of the block", &params, bytes / 1e6, "MB");
    }
    Ok(())
}

/// 2^20 ReLUs of 32 bits, [`N`] at a time, so that memory does not grow with their number.
fn million_relus(results: &mut Results) {
    let relu = step(StepKind::ClampLow { bound: 0 }, 32);
    let choice = choice(Preset::CoprivNg);
    let (a, b) = Channel::pair();
    let one = |role: Role, channel: Channel| {
        let mut party = connect(role, channel, choice);
        let x: Vec<u64> = (0..N as u64).map(|v| v.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).collect();
        let values = [x];
        let (mut offline, mut online) = (0.0, 0.0);
        for _ in 0..(1 << 20) / N {
            let start = Instant::now();
            let mut stock: OtStock = party.stock(&relu.cost(choice).uses).expect("an honest peer");
            offline += start.elapsed().as_secs_f64();
            let start = Instant::now();
            run_step(&mut party, &mut stock, &relu, &values).expect("an honest peer");
            party.channel.flush().expect("an honest peer");
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
    if let Some(peak) = peak_memory() {
        results.push("relu memory", &params("both parties, whole benchmark"), peak, "MB");
    }
}

/// Peak resident memory of this process, where the system says.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok().map(|kb| kb / 1e3)
}
