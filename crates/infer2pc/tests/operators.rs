//! Every operator against its ideal functionality: all values at small widths, random and
//! boundary values at large ones, adversarial shares, and traffic equal to the plan's.

mod common;

use common::{CHOICE, SIRNN, operator, parties, same_parties, share};
use copriv_infer2pc::{baseline, compare, convert, select};
use copriv_model::kernel::mask;
use copriv_plan::step::{Step, StepKind, Window};
use copriv_plan::{Choice, cost};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// All values of a small ring (several times, to meet all kinds of shares), else random ones
/// and the boundaries.
fn values(ring: u32) -> Vec<u64> {
    if ring <= 10 {
        return (0..7 << ring).map(|i| i / 7).collect();
    }
    let mut rng = StdRng::seed_from_u64(u64::from(ring));
    let top = 1u64 << (ring - 1);
    let edges = [0, 1, 2, top - 1, top, top + 1, mask(ring) - 1, mask(ring)];
    let random = (0..300).map(|_| rng.random::<u64>() & mask(ring));
    edges.iter().flat_map(|&e| [e; 7]).chain(random).collect()
}

fn signed(v: u64, ring: u32) -> i64 {
    ((v << (64 - ring)) as i64) >> (64 - ring)
}

fn step(kind: StepKind, len: usize, ring: u32) -> Step {
    Step { layer: "test".into(), kind, inputs: vec![0], len, ring }
}

/// Ours, and the literature's: what the operators behind a step are.
const CHOICES: [Choice; 2] = [CHOICE, SIRNN];

/// Whole graphs keep to rings of at most 62 bits: the range proofs' differences and roundings then fit
/// the executor's 64-bit words. The operators themselves do not care.
const RINGS: [u32; 19] = [2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 16, 17, 32, 33, 37, 41, 62, 63, 64];

#[test]
fn relu_is_exact() {
    for (choice, ring) in CHOICES.into_iter().flat_map(|c| (1..=64).map(move |r| (c, r))) {
        let x = values(ring);
        let step = step(StepKind::ClampLow { bound: 0 }, x.len(), ring);
        let y = operator(&x, (ring, ring), (choice, &step), |p, s, x| {
            select::clamp_low(p, s, ring, 0, x).unwrap()
        });
        for (x, y) in x.iter().zip(y) {
            assert_eq!(signed(y, ring), signed(*x, ring).max(0), "ring {ring}");
        }
    }
}

#[test]
fn clamps_are_exact() {
    for (ring, bound) in [(5, 3i64), (8, -20), (12, 255), (20, -128), (41, 1 << 20)] {
        // Differences with the bound must fit the ring.
        let fits = |v: &u64| i128::from(signed(*v, ring)).abs() + i128::from(bound.abs()) < 1 << (ring - 1);
        let x: Vec<u64> = values(ring).into_iter().filter(fits).collect();
        let step = step(StepKind::ClampHigh { bound }, x.len(), ring);
        let choice = CHOICES[ring as usize % 2];
        let low = operator(&x, (ring, ring), (choice, &step), |p, s, x| {
            select::clamp_low(p, s, ring, bound, x).unwrap()
        });
        let high = operator(&x, (ring, ring), (choice, &step), |p, s, x| {
            select::clamp_high(p, s, ring, bound, x).unwrap()
        });
        for ((x, low), high) in x.iter().zip(low).zip(high) {
            assert_eq!(signed(low, ring), signed(*x, ring).max(bound), "ring {ring}");
            assert_eq!(signed(high, ring), signed(*x, ring).min(bound), "ring {ring}");
        }
    }
}

#[test]
fn saturation_is_exact() {
    for (from, window) in
        [(3, 1), (4, 1), (4, 2), (5, 1), (6, 3), (7, 2), (7, 5), (9, 4), (13, 8), (24, 8), (41, 16)]
    {
        for bound in [0, -(1i64 << (window - 1)), 3] {
            let fits = |v: &u64| {
                i128::from(signed(*v, from)) - i128::from(bound) < 1 << (from - 1)
                    && i128::from(signed(*v, from)) - i128::from(bound) >= -(1 << (from - 1))
            };
            let x: Vec<u64> = values(from).into_iter().filter(fits).collect();
            let choice = CHOICE;
            let step = step(StepKind::Saturate { from, bound, window }, x.len(), window + 1);
            let y = operator(&x, (from, window + 1), (choice, &step), |p, s, x| {
                select::saturate(p, s, (from, bound, window), x).unwrap()
            });
            for (x, y) in x.iter().zip(y) {
                let expected = signed(*x, from).clamp(bound, bound + (1 << window) - 1);
                assert_eq!(
                    y,
                    expected as u64 & mask(window + 1),
                    "{} in {from} bits to {window} from {bound}",
                    signed(*x, from)
                );
            }
        }
    }
}

#[test]
fn truncation_and_saturation_in_one_are_exact() {
    for (from, shift, window) in [
        (4, 1, 1),
        (5, 1, 1),
        (6, 2, 2),
        (7, 1, 4),
        (8, 3, 2),
        (9, 5, 1),
        (10, 2, 5),
        (22, 8, 8),
        (41, 12, 16),
    ] {
        for bound in [0, -(1i64 << (window - 1)), 1] {
            let bias = 1i64 << (shift - 1);
            // The operand less its bound must fit the ring.
            let limit = 1i128 << (from - 1);
            let fits = |v: &u64| {
                let moved = i128::from(signed(*v, from)) + i128::from(bias) - (i128::from(bound) << shift);
                (-limit..limit).contains(&moved)
            };
            let x: Vec<u64> = values(from).into_iter().filter(fits).collect();
            let kind = StepKind::TruncateSaturate { from, shift, bias: bias as u64, bound, window };
            let step = step(kind, x.len(), window + 1);
            let at = select::Tap { from, shift, bias: bias as u64, bound, window };
            let y = operator(&x, (from, window + 1), (CHOICE, &step), |p, s, x| {
                select::truncate_saturate(p, s, at, x).unwrap()
            });
            for (x, y) in x.iter().zip(y) {
                let shifted = (signed(*x, from) + bias) >> shift;
                let expected = shifted.clamp(bound, bound + (1 << window) - 1);
                assert_eq!(y, expected as u64 & mask(window + 1), "{} by {shift}", signed(*x, from));
            }
        }
    }
}

#[test]
fn truncation_is_exact() {
    for (choice, from) in CHOICES.into_iter().flat_map(|c| RINGS.map(|r| (c, r))) {
        let shifts = if from <= 10 { (1..from).collect() } else { vec![1, 3, from / 2, from - 1] };
        for shift in shifts {
            for ring in [from - shift, (from - shift).div_ceil(2)] {
                let x = values(from);
                let step = step(StepKind::Truncate { from, shift, bias: 1 << (shift - 1) }, x.len(), ring);
                let y = operator(&x, (from, ring), (choice, &step), |p, s, x| {
                    convert::truncate(p, s, (from, shift, 1 << (shift - 1), ring), x).unwrap()
                });
                for (x, y) in x.iter().zip(y) {
                    let expected = (x.wrapping_add(1 << (shift - 1)) & mask(from)) >> shift;
                    assert_eq!(y, expected & mask(ring), "{from} by {shift} into {ring}");
                }
            }
        }
    }
}

#[test]
fn shifting_right_is_exact() {
    for ring in RINGS {
        let shifts = if ring <= 10 { (1..ring).collect() } else { vec![1, 12, ring / 2, ring - 1] };
        for shift in shifts.into_iter().filter(|s| *s < ring) {
            let bias = 1 << (shift - 1);
            // The sum must fit the ring.
            let fits = |v: &u64| i128::from(signed(*v, ring)) + i128::from(bias) < 1i128 << (ring - 1);
            let x: Vec<u64> = values(ring).into_iter().filter(fits).collect();
            let (choice, step) = (SIRNN, step(StepKind::ShiftRight { shift, bias }, x.len(), ring));
            let y = operator(&x, (ring, ring), (choice, &step), |p, s, x| {
                baseline::shift_right(p, s, (ring, shift, bias), x).unwrap()
            });
            for (x, y) in x.iter().zip(y) {
                let expected = (signed(*x, ring) + bias as i64) >> shift;
                assert_eq!(signed(y, ring), expected, "{} by {shift} in {ring}", signed(*x, ring));
            }
        }
    }
}

#[test]
fn ands_of_the_baselines() {
    for n in [1, 2, 3, 64, 101] {
        let bit = |i: usize, party: usize, which: u32| (i * 7 + party * 3 + i / 5) >> which & 1 == 1;
        let operand = |party, which| (0..n).map(|i| bit(i, party, which)).collect::<Vec<_>>();
        let run = |p: &mut copriv_infer2pc::Party, party| {
            let product = baseline::and(p, &operand(party, 0), &operand(party, 1)).unwrap();
            p.channel.flush().unwrap();
            product
        };
        let (a, b) = parties(SIRNN, |p| run(p, 0), |p| run(p, 1));
        for i in 0..n {
            let both = |which| bit(i, 0, which) ^ bit(i, 1, which);
            assert_eq!(a[i] ^ b[i], both(0) & both(1));
        }
    }
}

#[test]
fn extension_is_exact() {
    for (from, to) in [(2, 3), (3, 8), (5, 6), (7, 20), (9, 24), (16, 32), (32, 62), (40, 41), (63, 64)] {
        for offset in [0, 1 << (from - 2), 1 << (from - 1)] {
            let x: Vec<u64> = values(from);
            let offset_value = |v: &u64| v.wrapping_add(offset) & mask(from);
            for (msb_known, choice) in [(false, CHOICE), (true, CHOICE), (false, SIRNN), (true, SIRNN)] {
                let x: Vec<u64> =
                    x.iter().copied().filter(|v| !msb_known || offset_value(v) >> (from - 1) == 0).collect();
                let step = step(StepKind::Extend { from, offset, msb_known }, x.len(), to);
                let y = operator(&x, (from, to), (choice, &step), |p, s, x| {
                    convert::extend(p, s, (from, to, offset, msb_known), x).unwrap()
                });
                for (x, y) in x.iter().zip(y) {
                    assert_eq!(
                        y,
                        offset_value(x).wrapping_sub(offset) & mask(to),
                        "{from} to {to}, {offset}"
                    );
                }
            }
        }
    }
}

#[test]
fn max_pool_is_exact() {
    for (kernel, stride, pad) in [(3, 2, 0), (3, 2, 1), (2, 1, 1), (4, 3, 3), (5, 5, 4), (1, 2, 0)] {
        for choice in CHOICES {
            check_max_pool(choice, Window { input: [3, 5, 6], kernel, stride, pad });
        }
    }
}

fn check_max_pool(choice: Choice, window: Window) {
    let ring = 9;
    let mut rng = StdRng::seed_from_u64(4);
    let x: Vec<u64> = (0..90).map(|_| rng.random_range(0..256u64).wrapping_sub(128) & mask(ring)).collect();
    let (rows, cols) = window.output_size();
    let step = step(StepKind::MaxPool(window), 3 * rows * cols, ring);
    let y = operator(&x, (ring, ring), (choice, &step), |p, s, x| {
        select::max_pool(p, s, ring, &window, x).unwrap()
    });
    let mut y = y.iter();
    let inside = |at: usize, offset: usize, size: usize| {
        (at * window.stride + offset).checked_sub(window.pad).filter(|&v| v < size)
    };
    for plane in x.chunks_exact(30) {
        for (row, col) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
            let mut best = i64::MIN;
            for (i, j) in (0..window.kernel).flat_map(|i| (0..window.kernel).map(move |j| (i, j))) {
                if let (Some(r), Some(c)) = (inside(row, i, 5), inside(col, j, 6)) {
                    best = best.max(signed(plane[r * 6 + c], ring));
                }
            }
            assert_eq!(signed(*y.next().unwrap(), ring), best, "{window:?}");
        }
    }
}

#[test]
fn argmax_is_exact_and_the_first_wins_a_tie() {
    let ring = 8;
    let mut rng = StdRng::seed_from_u64(5);
    for n in 1..12usize {
        for choice in [CHOICE, CHOICE, SIRNN] {
            let x: Vec<u64> =
                (0..n).map(|_| rng.random_range(0..6u64).wrapping_sub(3) & mask(ring)).collect();
            let step = step(StepKind::Argmax { candidates: n, from: ring }, 1, 5);
            let y = operator(&x, (ring, 5), (choice, &step), |p, s, x| {
                select::argmax(p, s, (ring, 5), x).unwrap()
            });
            let expected =
                copriv_model::execute::argmax(&x.iter().map(|v| signed(*v, ring)).collect::<Vec<_>>());
            assert_eq!(y, [expected as u64], "{x:?}");
        }
    }
}

#[test]
fn the_k_largest_in_order_and_the_first_of_equals_first() {
    let (ring, index_ring) = (8, 5);
    let mut rng = StdRng::seed_from_u64(8);
    for n in [1usize, 2, 3, 5, 8, 13] {
        for (choice, k) in [(CHOICE, 1), (CHOICE, n), (CHOICE, n.min(5)), (SIRNN, n.min(3))] {
            let x: Vec<u64> =
                (0..n).map(|_| rng.random_range(0..6u64).wrapping_sub(3) & mask(ring)).collect();
            let step = step(StepKind::TopK { candidates: n, from: ring }, k, index_ring);
            let y = operator(&x, (ring, index_ring), (choice, &step), |p, s, x| {
                select::top_k(p, s, (ring, index_ring), k, x).unwrap()
            });
            let values: Vec<i64> = x.iter().map(|v| signed(*v, ring)).collect();
            let expected: Vec<u64> =
                copriv_model::execute::top_k(&values, k).into_iter().map(|i| i as u64).collect();
            assert_eq!(y, expected, "{values:?}");
        }
    }
}

#[test]
fn look_ups_are_exact() {
    for (bits, ring) in [(1, 1), (2, 8), (3, 5), (5, 32), (8, 9), (8, 62)] {
        let mut rng = StdRng::seed_from_u64(u64::from(bits));
        let table: Vec<u64> = (0..1 << bits).map(|_| rng.random::<u64>() & mask(ring)).collect();
        let x = values(bits);
        let (a, b) = share(&x, bits, 3);
        let cost = cost::look_up(x.len() as u64, bits, ring);
        let run = |p: &mut copriv_infer2pc::Party, mine: &[u64]| {
            let mut stock = p.stock(&cost.uses).unwrap();
            let before = p.channel.traffic();
            p.channel.mark_phase();
            let y = select::look_up(p, &mut stock, (bits, ring), &table, mine).unwrap();
            p.channel.flush().unwrap();
            assert!(stock.is_used_up());
            (y, p.channel.traffic() - before)
        };
        let ((ya, _), (yb, seen)) = same_parties(CHOICE, |p| run(p, &a), |p| run(p, &b));
        for (i, x) in x.iter().enumerate() {
            assert_eq!(ya[i].wrapping_add(yb[i]) & mask(ring), table[*x as usize], "{bits} bits");
        }
        let planned = copriv_plan::traffic::Meter::new().count(&cost.online);
        assert_eq!((seen.sent, seen.received, seen.rounds), (planned.up, planned.down, planned.rounds));
    }
}

#[test]
fn comparisons_of_private_integers() {
    for bits in 1..=64 {
        let (x, y): (Vec<u64>, Vec<u64>) = if bits <= 5 {
            (0..1u64 << (2 * bits)).map(|pair| (pair >> bits, pair & mask(bits))).unzip()
        } else {
            let x = values(bits);
            let mut y = x.clone();
            y.rotate_left(3);
            x.into_iter().zip(y).unzip()
        };
        let n = x.len() as u64;
        let run = |p: &mut copriv_infer2pc::Party, mine: &[u64]| {
            let mut stock = p.stock(&cost::greater(n, bits, p.choice()).uses).unwrap();
            let result = compare::greater(p, &mut stock, bits, mine).unwrap();
            p.channel.flush().unwrap();
            result
        };
        for choice in CHOICES {
            let (a, b) = parties(choice, |p| run(p, &x), |p| run(p, &y));
            for i in 0..x.len() {
                assert_eq!(a[i] ^ b[i], x[i] > y[i], "{} > {} at {bits} bits", x[i], y[i]);
            }
        }
    }
}

#[test]
fn shares_of_a_comparison_are_balanced() {
    // Each party's share alone must say nothing: the same comparison, many times.
    let n = 4000;
    let comparison = copriv_plan::Forest::greater(8, CHOICE);
    let (x, y) = share(&vec![5; n], 8, 1);
    let run = |p: &mut copriv_infer2pc::Party, v: &[u64]| {
        let mut stock = p.stock(&comparison.uses(n as u64)).unwrap();
        let bits = compare::greater(p, &mut stock, 8, v).unwrap();
        p.channel.flush().unwrap();
        bits.iter().filter(|b| **b).count()
    };
    let (a, b) = parties(CHOICE, |p| run(p, &x), |p| run(p, &y));
    // Six standard deviations.
    for ones in [a, b] {
        assert!((ones as f64 - n as f64 / 2.0).abs() < 3.0 * (n as f64).sqrt(), "{ones} of {n}");
    }
}

#[test]
fn the_plan_knows_the_sizes_of_oblivious_transfers() {
    use copriv_plan::ot::{Choices, OtMeter, Ots};
    use copriv_plan::traffic::{Meter, Traffic};
    let mut rng = StdRng::seed_from_u64(6);
    for flavour in copriv_plan::Flavour::ALL {
        let mut theirs = copriv_ot::OtMeter::new(copriv_infer2pc::extension(flavour));
        let mut ours = OtMeter::new(flavour);
        for call in 0..500u64 {
            let limit = 10u64.pow(rng.random_range(0..8));
            let (s, c) =
                (rng.random_range(0..=limit), if call % 3 == 0 { 0 } else { rng.random_range(0..=limit) });
            let choices = if call % 2 == 0 { Choices::Random } else { Choices::Chosen };
            let ots = Ots { server_sends: s, client_sends: c };
            // The client's view: it receives what the server sends.
            let expected = match choices {
                Choices::Random => theirs.extend_random(c as usize, s as usize),
                Choices::Chosen => theirs.extend(c as usize, s as usize),
            };
            let expected = Traffic { up: expected.sent, down: expected.received, rounds: expected.rounds };
            let got = Meter::new().count(&ours.extend(ots, choices));
            assert_eq!(got, expected, "{flavour:?}, call {call}: {ots:?} {choices:?}");
        }
    }
}
