//! `copriv export`, also called `copriv quantize`.

mod proofs;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use copriv_infer2pc::Terms;
use copriv_model::file;
use copriv_train::data::{self, Dataset};
use copriv_train::weights;
use copriv_train::{Checkpoint, ExportConfig, Exported, RunFolder};
use serde::Serialize;

use self::proofs::{Proof, proofs, proofs_table};
use super::training::{Arguments, in_folder};
use crate::cli;
use crate::commands::bits;
use crate::report::write_json;

/// The network before quantisation, folded and merged, in the model's folder.
pub const FLOAT: &str = "float.safetensors";
/// The fake-quantised network that the integers are of.
pub const QUANTISED: &str = "quantised.safetensors";
/// The network that a run starts from.
const START: &str = "start.safetensors";

/// What `--json` holds; accuracies in percent of the test images.
#[derive(Serialize)]
struct Outcome<'a> {
    model: &'a Path,
    float: f64,
    fake_quant: f64,
    integer: f64,
    requantisations: &'a [Proof],
}

pub fn run(args: &cli::Export) -> Result<()> {
    let (folder, new, start) = match &args.run.resume {
        Some(folder) => (folder.clone(), None, Checkpoint::load(&folder.join(START))?),
        None => {
            let dataset = data::load(&args.data.dataset, &args.data.data_dir)?;
            let start = args.network.load(&dataset)?;
            if let (true, Some(out)) = (args.pytorch, &args.run.out) {
                weights::export(&start, out)?;
                say!("the weights lie in {}", out.display());
                return Ok(());
            }
            let folder = args.run.folder("export", &start.graph.arch, &args.data.dataset);
            let arguments = Arguments::new(&args.data.dataset, &args.data.data_dir, config(args)?)?;
            (folder, Some(arguments), start)
        }
    };
    let exported = in_folder(&folder, new, args.run.max_minutes, |arguments, run| {
        into_folder(&arguments.config, &start, &arguments.load()?, run)
    })?;
    let proofs = proofs(&exported.model.graph, &Terms::default())?;
    if args.run.json.as_deref() != Some(Path::new("-")) {
        say!("{}", proofs_table(&proofs));
        say!(
            "float {:.1} %, fake-quantised {:.1} %, integer {:.1} % of the test images; the model lies in {}",
            exported.float_accuracy,
            exported.fake_quant_accuracy,
            exported.integer_accuracy,
            folder.display()
        );
    }
    let outcome = Outcome {
        model: &folder,
        float: exported.float_accuracy,
        fake_quant: exported.fake_quant_accuracy,
        integer: exported.integer_accuracy,
        requantisations: &proofs,
    };
    args.run.json.as_ref().map_or(Ok(()), |path| write_json(&outcome, path))
}

/// What the command line asks for, resolved.
fn config(args: &cli::Export) -> Result<ExportConfig> {
    let mut config = match &args.recipe {
        Some(path) => {
            let text =
                fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
            toml::from_str(&text)
                .map_err(|e| anyhow!("{} is no recipe of quantisation: {}", path.display(), e.message()))?
        }
        None => ExportConfig::default(),
    };
    if let Some(path) = &args.bits {
        config.quant = bits::load(path)?;
    }
    let quant = &mut config.quant;
    quant.weight_bits = args.weight_bits.unwrap_or(quant.weight_bits);
    quant.act_bits = args.act_bits.unwrap_or(quant.act_bits);
    quant.residual_bits = args.residual_bits.unwrap_or(quant.residual_bits);
    quant.tight_accumulators |= args.tight_accumulators;
    quant.check()?;
    config.qat.epochs = if args.ptq { 0 } else { args.epochs.unwrap_or(config.qat.epochs) };
    config.merge = args.merge.clone();
    config.device = args.run.device;
    config.seed = args.run.seed.unwrap_or(config.seed);
    if config.qat.epochs == 0 && !config.stages.is_empty() {
        bail!("--epochs 0 leaves the last stage of the recipe without training; --ptq is without any");
    }
    Ok(config)
}

/// Merges, quantises, trains and writes the integer model.
pub fn export(
    config: &ExportConfig,
    start: &Checkpoint,
    dataset: &Dataset,
    folder: &Path,
) -> Result<Exported> {
    let arguments = Arguments::new(&dataset.name, Path::new("data"), config.clone())?;
    in_folder(folder, Some(arguments), None, |_, run| into_folder(config, start, dataset, run))
}

fn into_folder(
    config: &ExportConfig,
    start: &Checkpoint,
    dataset: &Dataset,
    run: &mut RunFolder<'_>,
) -> Result<Exported> {
    let folder = run.path().to_owned();
    start.save(&folder.join(START))?;
    let exported = copriv_train::export(config, start, dataset, run)?;
    exported.float.save(&folder.join(FLOAT))?;
    exported.checkpoint.save(&folder.join(QUANTISED))?;
    file::save(&exported.model, &folder).context("the integer model cannot be written")?;
    Ok(exported)
}
