//! Time to build, plan and price each architecture: the trainer does it in its inner loop, so it
//! should stay below 100 ms.

use std::time::Instant;

use copriv_bench::Results;
use copriv_plan::architectures::{Bits, NAMES, named};
use copriv_plan::{Flavour, Plan};
use serde_json::json;

/// The least of this many runs.
const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut results = Results::default();
    for name in NAMES {
        for (weights, activations) in [(2, 4), (4, 6)] {
            let mut least = [f64::INFINITY; 2];
            let mut bytes = 0;
            for _ in 0..RUNS {
                let started = Instant::now();
                let graph = named(name, Bits::new(weights, activations))?;
                let plan = Plan::new(&graph, Flavour::Ferret.into())?;
                let planned = started.elapsed().as_secs_f64();
                bytes = plan.predict().total_bytes();
                least = [least[0].min(planned), least[1].min(started.elapsed().as_secs_f64())];
            }
            let params = [("network", json!(name)), ("w", json!(weights)), ("a", json!(activations))];
            results.push("plan", &params, least[0] * 1e3, "ms");
            results.push("plan and price", &params, least[1] * 1e3, "ms");
            results.push("total", &params, bytes as f64 / 1e9, "GB");
        }
    }
    results.finish("pricing")?;
    Ok(())
}
