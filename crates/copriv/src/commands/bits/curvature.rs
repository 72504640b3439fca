//! The curvature that widths are chosen by: measured, or kept from before.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use copriv_model::file::write_whole;
use copriv_train::Checkpoint;
use copriv_train::bits::Curvature;
use copriv_train::data::Dataset;
use copriv_train::hessian::{Of, TraceConfig, Traces, traces};
use serde::{Deserialize, Serialize};

use crate::cli::{Bits, BitsOf};
use crate::progress::Bar;

/// The file of `--curvature`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Of what.
    measured: Measured,
    curvature: Curvature,
}

/// All that a measurement depends on.
#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Measured {
    /// Digest of the merged checkpoint.
    network: String,
    dataset: String,
    images: usize,
    probes: usize,
    seed: u64,
}

/// The curvature of `merged`: what the file of `--curvature` lacks is measured, and written to it.
pub fn of(args: &Bits, merged: &Checkpoint, dataset: &Dataset) -> Result<Curvature> {
    let measured = Measured {
        network: merged.digest()?,
        dataset: dataset.name.clone(),
        images: args.images,
        probes: args.probes,
        seed: args.seed,
    };
    let path = args.curvature.as_deref();
    let kept = path.filter(|path| path.exists()).map(|path| load(path, &measured)).transpose()?;
    let (weights, values) = kept.map_or((None, None), |kept| (Some(kept.weights), kept.values));
    let wanted = args.layers == BitsOf::WeightsAndActivations;
    let complete = weights.is_some() && (values.is_some() || !wanted);
    let measure = |of, label| measure(args, merged, dataset, of, label);
    let weights = weights.map_or_else(|| measure(Of::Weights, "curvature along weights"), Ok)?;
    let values = match values {
        None if wanted => Some(measure(Of::Values, "curvature along activations")?),
        values => values,
    };
    let kept = Kept { measured, curvature: Curvature { weights, values } };
    if let Some(path) = path.filter(|_| !complete) {
        let json = serde_json::to_vec_pretty(&kept)?;
        write_whole(path, &json).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let Curvature { weights, values } = kept.curvature;
    Ok(Curvature { weights, values: values.filter(|_| wanted) })
}

fn load(path: &Path, measured: &Measured) -> Result<Curvature> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let kept: Kept = serde_json::from_str(&text)
        .map_err(|e| anyhow::anyhow!("{} is not a file of `copriv bits --curvature`: {e}", path.display()))?;
    let Measured { network, dataset, images, probes, seed } = &kept.measured;
    if *network != measured.network || *dataset != measured.dataset {
        bail!(
            "{} holds the curvature of another network or data set ({dataset}): name another file",
            path.display()
        );
    }
    if kept.measured != *measured {
        bail!(
            "{} was measured with --images {images} --probes {probes} --seed {seed}: ask for those, or name another file",
            path.display()
        );
    }
    Ok(kept.curvature)
}

fn measure(args: &Bits, merged: &Checkpoint, dataset: &Dataset, of: Of, label: &str) -> Result<Traces> {
    let config = TraceConfig {
        probes: args.probes,
        images: args.images,
        device: args.device,
        seed: args.seed,
        ..TraceConfig::default()
    };
    let bar = Bar::new(label, config.probes as u64);
    let found = traces(merged, &dataset.train, of, &config, || bar.advance(1));
    bar.finish();
    Ok(found?)
}
