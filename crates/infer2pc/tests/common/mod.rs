//! Two parties in one process, over an in-memory channel.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::cell::RefCell;
use std::thread;

use copriv_infer2pc::engine::{self, Measured};
use copriv_infer2pc::{Channel, OtStock, Party, Role, memory};
use copriv_model::kernel::mask;
use copriv_model::{Model, Weights, execute};
use copriv_plan::ot::{Choices, Flavour, OtMeter};
use copriv_plan::traffic::{Meter, Traffic};
use copriv_plan::{Choice, Objective, Plan, Preset, Step};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The choice of operator tests: its set-up is the quickest.
pub const CHOICE: Choice = Choice {
    flavour: Flavour::Iknp,
    preset: Preset::CoprivNg,
    objective: Objective::Total,
    packing: 8,
    session: 1000,
};

/// The operators of the literature.
pub const SIRNN: Choice = Choice { preset: Preset::Sirnn, ..CHOICE };

/// Runs both closures as server and client of one connection; server's result first.
pub fn parties<S: Send, C: Send>(
    choice: Choice,
    server: impl FnOnce(&mut Party) -> S + Send,
    client: impl FnOnce(&mut Party) -> C + Send,
) -> (S, C) {
    run(&mut connect(choice), server, client)
}

/// The same on a connection that the calling test keeps for its next call: base OTs take longer
/// than most operators.
pub fn same_parties<S: Send, C: Send>(
    choice: Choice,
    server: impl FnOnce(&mut Party) -> S + Send,
    client: impl FnOnce(&mut Party) -> C + Send,
) -> (S, C) {
    thread_local! {
        static KEPT: RefCell<Vec<(Choice, [Party; 2])>> = const { RefCell::new(Vec::new()) };
    }
    let kept = |(c, _): &(Choice, _)| *c == choice;
    let pair = KEPT.with_borrow_mut(|all| all.iter().position(kept).map(|at| all.swap_remove(at).1));
    let mut pair = pair.unwrap_or_else(|| connect(choice));
    let results = run(&mut pair, server, client);
    KEPT.with_borrow_mut(|all| all.push((choice, pair)));
    results
}

fn connect(choice: Choice) -> [Party; 2] {
    let (a, b) = Channel::pair();
    let one = move |channel: Channel, role: Role, seed: u64| {
        Party::connect(channel, role, choice, StdRng::seed_from_u64(seed)).unwrap()
    };
    let server = thread::spawn(move || one(a, Role::Server, 1));
    let client = one(b, Role::Client, 2);
    [server.join().unwrap(), client]
}

fn run<S: Send, C: Send>(
    [a, b]: &mut [Party; 2],
    server: impl FnOnce(&mut Party) -> S + Send,
    client: impl FnOnce(&mut Party) -> C + Send,
) -> (S, C) {
    thread::scope(|scope| {
        let server = scope.spawn(move || server(a));
        let client = client(b);
        (server.join().unwrap(), client)
    })
}

/// Additive shares in `Z_2^ring`, the server's first: random ones, and adversarial ones whose
/// server part is all ones, zero, or on either side of `2^(ring-1)`.
pub fn share(x: &[u64], ring: u32, seed: u64) -> (Vec<u64>, Vec<u64>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let top = 1u64 << (ring - 1);
    let server: Vec<u64> = x
        .iter()
        .enumerate()
        .map(|(i, _)| match i % 7 {
            0 => mask(ring),
            1 => top,
            2 => top - 1,
            3 => 0,
            _ => rng.random::<u64>() & mask(ring),
        })
        .collect();
    let client = x.iter().zip(&server).map(|(x, s)| x.wrapping_sub(*s) & mask(ring)).collect();
    (server, client)
}

/// One operator on shares of `x`: gives the reconstructed result, and checks that the
/// measured traffic of both phases is the step's price, and that no OT is left over.
pub fn operator(
    x: &[u64],
    (from, to): (u32, u32),
    (choice, step): (Choice, &Step),
    run: impl Fn(&mut Party, &mut OtStock, &[u64]) -> Vec<u64> + Sync,
) -> Vec<u64> {
    let (server, client) = share(x, from, 7);
    let cost = step.cost(choice);
    let one = |party: &mut Party, share: &[u64]| {
        let start = party.channel.traffic();
        party.channel.mark_phase();
        let mut stock = party.stock(&cost.uses).unwrap();
        let offline = party.channel.traffic() - start;
        party.channel.mark_phase();
        let result = run(party, &mut stock, share);
        party.channel.flush().unwrap();
        assert!(stock.is_used_up(), "random OTs left over");
        (result, offline, party.channel.traffic() - start - offline)
    };
    let ((a, ..), (b, offline, online)) = same_parties(choice, |p| one(p, &server), |p| one(p, &client));
    let measured = |t: copriv_ot::Traffic| Traffic { up: t.sent, down: t.received, rounds: t.rounds };
    assert_eq!(
        measured(offline),
        Meter::new().count(&OtMeter::new(choice.flavour).extend(cost.ots(), Choices::Random)),
        "offline"
    );
    assert_eq!(measured(online), Meter::new().count(&cost.online), "online");
    a.iter().zip(&b).map(|(a, b)| a.wrapping_add(*b) & mask(to)).collect()
}

/// Runs `model` privately and compares every value, and the traffic of every layer. The parties' memories are
/// bounded, each by its own bound or none, which changes nothing.
pub fn check(model: &Model, choice: Choice, x: &[i64]) {
    let plan = Plan::new(&model.graph, choice).unwrap();
    let run = |party: &mut Party, weights: Option<&Weights>, x: Option<&[i64]>| {
        let mut measured = Measured::default();
        engine::plant(party, &plan, weights).unwrap();
        let bounds = [None, Some(0), Some(100), Some(10_000)];
        let bound = bounds[usize::from(plan.hash()[usize::from(party.is_server())] % 4)];
        if let Some(room) = bound {
            party.limit_memory(memory::least(&plan).0 + room, &plan).unwrap();
        }
        let material = engine::offline(party, &plan, weights, &mut measured).unwrap();
        let mut shares = Vec::new();
        let keep = |_: usize, share: &[u64]| shares.push(share.to_vec());
        let result = engine::online(party, &plan, weights, material, x, &mut measured, keep).unwrap();
        (result, shares, measured.prediction())
    };
    let (server, client) =
        (|p: &mut Party| run(p, Some(&model.weights), None), |p: &mut Party| run(p, None, Some(x)));
    // Trees and Ferret need a session of their own.
    let ((_, server, seen_by_server), (result, client, seen_by_client)) = if choice.preset.is_baseline() {
        same_parties(choice, server, client)
    } else {
        parties(choice, server, client)
    };
    let trace = execute::run(model, x).unwrap();
    for (id, node) in model.graph.nodes.iter().enumerate() {
        let Some(step) = plan.values[id] else { continue };
        let ring = plan.steps[step].ring;
        let sum = |(a, b): (&u64, &u64)| a.wrapping_add(*b) & mask(ring);
        let got: Vec<u64> = server[step].iter().zip(&client[step]).map(sum).collect();
        let scaled = |&v: &i64| (v as u64) << plan.scaled[id] & mask(ring);
        let expected: Vec<u64> = trace.values[id].iter().map(scaled).collect();
        assert_eq!(got, expected, "layer {}", node.name);
    }
    assert_eq!(result.unwrap(), trace.output());
    assert_eq!(seen_by_server, seen_by_client);
    assert_eq!(seen_by_client, plan.predict());
}
