//! Linear layers: every algorithm and method against the plaintext product, bit for bit, and the
//! measured bytes and rounds against the planned ones.

mod common;

use common::{parties, share};
use copriv_infer2pc::{Party, linear};
use copriv_model::kernel::{Geometry, mask, product};
use copriv_model::{Bias, LayerWeights};
use copriv_plan::linear::{Algorithm, Method, Product, Side, Tile, Wrap};
use copriv_plan::ot::{Flavour, OtMeter};
use copriv_plan::traffic::{Meter, Traffic};
use copriv_plan::{Choice, Objective, Preset};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The operators of SiRNN and PrivQuant.
const LITERATURE: Choice = Choice {
    flavour: Flavour::Iknp,
    preset: Preset::Privquant,
    objective: Objective::Total,
    packing: 0,
    session: 1,
};

/// Random weights (the extreme ones among them) and biases of a layer.
fn weights(layer: &Product, rng: &mut StdRng) -> LayerWeights {
    let half = 1i32 << (layer.weight_bits - 1);
    let range = if layer.ternary { -1..=1 } else { -half..=half - 1 };
    let mut weight: Vec<i32> =
        (0..layer.geometry.weights()).map(|_| rng.random_range(range.clone())).collect();
    weight[0] = *range.start();
    let bias = (0..layer.geometry.filters).map(|_| rng.random_range(-99..99)).collect();
    LayerWeights { weight, bias: Bias { vectors: vec![bias], map: vec![] } }
}

/// Runs both phases; checks result and traffic.
fn check(layer: &Product, choice: Choice, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let g = &layer.geometry;
    let weights = weights(layer, &mut rng);
    // All values that the input's ring holds or, of a known sign, its lower half, the extreme ones among them.
    let (from, offset, half) =
        layer.wrap.map_or((layer.ring, 0, 0), |w| (w.from, w.offset, u32::from(w.sign_known)));
    let x: Vec<u64> = (0..g.channels * g.height * g.width)
        .map(|i| [0, u64::MAX, rng.random(), rng.random()][i % 4] & mask(from - half))
        .map(|x| x.wrapping_sub(offset))
        .collect();
    let (server, client) = share(&x, from, seed);
    let one = |party: &mut Party, weights: Option<&LayerWeights>, x: &[u64]| {
        let start = party.channel.traffic();
        party.plant(std::iter::once((layer, weights))).unwrap();
        party.channel.flush().unwrap();
        let setup = party.channel.traffic() - start;
        let start = party.channel.traffic();
        party.channel.mark_phase();
        let material = linear::offline(party, layer, 0..layer.groups(), weights).unwrap();
        party.channel.flush().unwrap();
        let offline = party.channel.traffic() - start;
        party.channel.mark_phase();
        let y = linear::online(party, layer, material, weights, x).unwrap();
        party.channel.flush().unwrap();
        (y, setup, offline, party.channel.traffic() - start - offline)
    };
    let ((a, ..), (b, setup, offline, online)) =
        parties(choice, |p| one(p, Some(&weights), &server), |p| one(p, None, &client));

    let ring = mask(layer.output_ring());
    let extra = layer.algorithm.extra_bits();
    let plain = product(g, &weights.weight, &x, layer.ring);
    for (i, plain) in plain.iter().enumerate() {
        let k = i / g.pixels();
        let shift = layer.channel_shifts.get(k).copied().unwrap_or(0);
        let expected = (plain << shift).wrapping_add(weights.bias.at(k, 0) as u64) << extra;
        assert_eq!(a[i].wrapping_add(b[i]) & ring, expected & ring, "output {i} of {layer:?}");
    }
    assert_eq!(setup, copriv_infer2pc::trees::setup_traffic(std::iter::once(layer)).unwrap(), "{layer:?}");
    let seen = |t: copriv_ot::Traffic| Traffic { up: t.sent, down: t.received, rounds: t.rounds };
    assert_eq!(
        seen(offline),
        Meter::new().count(&OtMeter::new(choice.flavour).offline(&layer.offline(choice))),
        "{layer:?}"
    );
    assert_eq!(seen(online), Meter::new().count(&layer.online(choice).online), "{layer:?}");
}

fn methods() -> impl Strategy<Value = Method> {
    prop_oneof![
        1 => Just(Method::Cot { receiver: Side::Server }),
        1 => Just(Method::Cot { receiver: Side::Client }),
        2 => (1u32..=10).prop_map(|k| Method::Packed { k }),
    ]
}

prop_compose! {
    fn layers()(
        (height, width, pad) in (1usize..9, 1usize..9, 0usize..3),
        (kernel, stride) in (1usize..5, 1usize..4),
        (groups, per_group, filters) in (1usize..4, 1usize..4, 1usize..4),
        (weight_bits, ternary, ring, method) in (2u32..=8, any::<bool>(), 3u32..=41, methods()),
        (winograd, shifted, narrow, seed) in (any::<bool>(), any::<bool>(), any::<bool>(), any::<u64>()),
    ) -> (Product, u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let (kernel, stride) = if winograd { (3, stride.min(2)) } else { (kernel, stride) };
        let pad = pad.min(kernel - 1);
        let geometry = Geometry {
            channels: groups * per_group,
            height: height.max(kernel.saturating_sub(2 * pad)),
            width: width.max(kernel.saturating_sub(2 * pad)),
            filters: groups * filters, kernel, stride, pad, groups,
        };
        let candidates = [Algorithm::candidates(&geometry), Algorithm::element_wise(&geometry)].concat();
        let algorithm = candidates[rng.random_range(0..candidates.len())];
        let channel_shifts =
            if shifted { (0..groups * filters).map(|_| rng.random_range(0..4)).collect() } else { vec![] };
        let wrap = (narrow && ring > 3).then(|| {
            let from = rng.random_range(2..ring);
            Wrap { from, offset: rng.random::<u64>() & mask(from), sign_known: rng.random() }
        });
        (Product { geometry, weight_bits, ternary, bounds: vec![], ring, wrap, channel_shifts, algorithm, method }, seed)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]
    #[test]
    fn every_method_and_algorithm_is_exact_and_priced((layer, seed) in layers()) {
        let choices = [Flavour::Iknp.into(), Flavour::SoftSpoken4.into(), LITERATURE];
        check(&layer, choices[seed as usize % 3], seed);
    }
}

/// CoPriv, table 2: `n C K T b(1)` for element-wise products, `n C K b(T)` with tile aggregation, where
/// `b(d)` are the OTs of a weight and messages for `d` values: the OTs of `T` tiles instead of those of one.
#[test]
fn element_wise_products_cost_what_tile_aggregation_saves() {
    let geometry =
        Geometry { channels: 2, height: 8, width: 8, filters: 3, kernel: 3, stride: 1, pad: 1, groups: 1 };
    let choice = Choice { preset: Preset::CoprivEwmm, ..Flavour::Iknp.into() };
    for (tile, n, tiles) in [(Tile::F2, 16, 16), (Tile::F4, 36, 4)] {
        let bits = |algorithm| {
            let layer = Product {
                geometry,
                weight_bits: 41,
                ternary: false,
                bounds: vec![],
                ring: 41,
                wrap: None,
                channel_shifts: vec![],
                algorithm,
                method: Method::Cot { receiver: Side::Server },
            };
            let form = layer.form();
            let ots: u64 =
                form.taps.iter().map(|t| u64::from(t.bits().min(layer.output_ring() - t.zeros()))).sum();
            assert_eq!(
                form.taps.len(),
                if matches!(algorithm, Algorithm::Winograd(_)) { n } else { n * tiles }
            );
            (layer.cost(choice).offline * 8.0, ots * 2 * 3)
        };
        let (together, few) = bits(Algorithm::Winograd(tile));
        let (apart, many) = bits(Algorithm::ElementWise(tile));
        assert_eq!(many, few * tiles as u64, "a set of OTs for each tile");
        // The messages are the same but for padding; the rest are OTs.
        let messages = |all: f64, ots: u64| all - (ots * Flavour::Iknp.millibits()) as f64 / 1000.0;
        let (a, b) = (messages(together, few), messages(apart, many));
        assert!((a / b - 1.0).abs() < 1e-3, "{tile:?}: {a} and {b} bits");
    }
}

/// CoPriv's fixed point: 41 bits, weights of 12 fractional bits, on partial tiles.
#[test]
fn the_fixed_point_setting_of_copriv() {
    let geometry =
        Geometry { channels: 2, height: 7, width: 9, filters: 3, kernel: 3, stride: 1, pad: 1, groups: 1 };
    for stride in [1, 2] {
        let geometry = Geometry { stride, ..geometry };
        for algorithm in Algorithm::candidates(&geometry) {
            let [server, client] = [Side::Server, Side::Client].map(|receiver| Method::Cot { receiver });
            for method in [server, client, Method::Packed { k: 8 }] {
                let layer = Product {
                    geometry,
                    weight_bits: 14,
                    ternary: false,
                    bounds: vec![],
                    ring: 41,
                    wrap: None,
                    channel_shifts: vec![],
                    algorithm,
                    method,
                };
                check(&layer, Flavour::Iknp.into(), 7);
            }
        }
    }
}

#[test]
fn tiles_have_the_widths_of_the_design() {
    let geometry =
        Geometry { channels: 1, height: 8, width: 8, filters: 1, kernel: 3, stride: 1, pad: 1, groups: 1 };
    for bits in 2..=8 {
        let layer = Product {
            geometry,
            weight_bits: bits,
            ternary: false,
            bounds: vec![],
            ring: 20,
            wrap: None,
            channel_shifts: vec![],
            algorithm: Algorithm::Winograd(Tile::F2),
            method: Method::Cot { receiver: Side::Server },
        };
        let form = layer.form();
        for (position, tap) in form.taps.iter().enumerate() {
            let edges = [position / 4, position % 4].iter().filter(|i| [0, 3].contains(*i)).count();
            // Corners are 4w, edges 2(w0 + w1 + w2), the others sums of nine.
            let (factor, most) = [(1, bits + 4), (2, bits + 2), (4, bits)][edges];
            assert_eq!(tap.factor, factor);
            assert!(tap.bits() <= most, "position {position}: {} bits", tap.bits());
        }
        let extra: u32 = form.taps.iter().map(|tap| tap.bits() - bits).sum();
        assert!(extra <= 32, "two bits on average, {extra} / 16 here");
    }
}
