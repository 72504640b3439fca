//! `copriv export`.

use std::path::Path;

use anyhow::{Context, Result};
use copriv_model::file;
use copriv_train::Checkpoint;
use copriv_train::RunFolder;
use copriv_train::data::{self, Dataset};
use copriv_train::weights;
use copriv_train::{ExportConfig, Exported};
use serde::Serialize;

use crate::cli;
use crate::commands::bits;
use crate::progress::Terminal;
use crate::report::write_json;

/// What `--json` holds; accuracies in percent of the test images.
#[derive(Serialize)]
struct Outcome<'a> {
    model: &'a Path,
    float: f64,
    fake_quant: f64,
    integer: f64,
}

pub fn run(args: &cli::Export) -> Result<()> {
    let dataset = data::load(&args.data.dataset, &args.data.data_dir)?;
    let checkpoint = args.network.load(&dataset)?;
    if args.pytorch {
        weights::export(&checkpoint, &args.out)?;
        say!("the weights lie in {}", args.out.display());
        return Ok(());
    }
    let merge = args.merge.clone();
    let mut config = ExportConfig { seed: args.seed, device: args.device, merge, ..ExportConfig::default() };
    if let Some(path) = &args.bits {
        config.quant = bits::load(path)?;
    }
    config.quant.weight_bits = args.weight_bits.unwrap_or(config.quant.weight_bits);
    config.quant.act_bits = args.act_bits.unwrap_or(config.quant.act_bits);
    config.quant.tight_accumulators = args.tight_accumulators;
    config.qat.epochs = args.epochs.unwrap_or(config.qat.epochs);
    let exported = export(&config, &checkpoint, &dataset, &args.out)?;
    if args.json.as_deref() != Some(Path::new("-")) {
        say!(
            "float {:.1} %, fake-quantised {:.1} %, integer {:.1} % of the test images; the model lies in {}",
            exported.float_accuracy,
            exported.fake_quant_accuracy,
            exported.integer_accuracy,
            args.out.display()
        );
    }
    let outcome = Outcome {
        model: &args.out,
        float: exported.float_accuracy,
        fake_quant: exported.fake_quant_accuracy,
        integer: exported.integer_accuracy,
    };
    args.json.as_ref().map_or(Ok(()), |path| write_json(&outcome, path))
}

/// Merges, quantises, trains and writes the integer model.
pub fn export(
    config: &ExportConfig,
    start: &Checkpoint,
    dataset: &Dataset,
    folder: &Path,
) -> Result<Exported> {
    let mut terminal = Terminal::default();
    let mut run = RunFolder::create(folder, config, &mut terminal)?;
    let exported = copriv_train::export(config, start, dataset, &mut run)?;
    file::save(&exported.model, folder).context("the integer model cannot be written")?;
    Ok(exported)
}
