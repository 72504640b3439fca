//! `cargo bench -p copriv-train --bench bits`: time of an exact allocation, 53 layers with 4 widths of
//! weights times 8 of activations, under limits from tight to loose; target: below 1 s.

use std::time::Instant;

use copriv_bench::Results;
use copriv_train::bits::knapsack::{Item, solve};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const LAYERS: usize = 53;
const INSTANCES: u64 = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut results = Results::default();
    for (kind, layer) in [("curvature", curvature as fn(&mut ChaCha8Rng) -> Vec<Item>), ("random", random)] {
        for share in [0.1, 0.3, 0.5, 0.8] {
            let (mut total, mut worst) = (0.0, 0.0f64);
            for seed in 0..INSTANCES {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let layers: Vec<Vec<Item>> = (0..LAYERS).map(|_| layer(&mut rng)).collect();
                let extreme = |f: fn(i64, i64) -> i64| -> i64 {
                    layers.iter().filter_map(|l| l.iter().map(|i| i.cost).reduce(f)).sum()
                };
                let (least, most) = (extreme(i64::min), extreme(i64::max));
                let budget = least + ((most - least) as f64 * share) as i64;
                let started = Instant::now();
                let chosen = solve(&layers, budget).ok_or("no solution")?;
                let seconds = started.elapsed().as_secs_f64();
                let cost: i64 = layers.iter().zip(chosen).map(|(l, i)| l[i].cost).sum();
                assert!(cost <= budget);
                total += seconds;
                worst = worst.max(seconds);
            }
            let params = [("instances", json!(kind)), ("limit", json!(share))];
            results.push("mean", &params, total / INSTANCES as f64 * 1e3, "ms");
            results.push("longest", &params, worst * 1e3, "ms");
        }
    }
    results.finish("bits")?;
    Ok(())
}

/// A layer as networks have them: loss falls by four a bit, bytes grow with both widths.
fn curvature(rng: &mut ChaCha8Rng) -> Vec<Item> {
    let scale = |rng: &mut ChaCha8Rng| 10f64.powf(rng.random_range(-2.0..2.0));
    let (weights, values, size) = (scale(rng), scale(rng), 1e6 * scale(rng));
    let pairs = [2, 3, 4, 8].into_iter().flat_map(|w| (1..=8).map(move |a| (w, a)));
    pairs
        .map(|(w, a)| Item {
            cost: (size * f64::from(w * (a + w + 9)) * rng.random_range(0.95..1.05)) as i64,
            loss: weights * 4f64.powi(-w) + values * 4f64.powi(-a),
        })
        .collect()
}

/// Figures without any order.
fn random(rng: &mut ChaCha8Rng) -> Vec<Item> {
    (0..32).map(|_| Item { cost: rng.random_range(0..1_000_000), loss: rng.random() }).collect()
}
