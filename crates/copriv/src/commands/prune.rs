//! `copriv prune`.

mod select;

use std::path::Path;

use anyhow::{Context, Result};
use copriv_model::file::write_whole;
use copriv_plan::LayerPrice;
use copriv_train::data::{self, Dataset};
use copriv_train::quant::QuantConfig;
use copriv_train::{Checkpoint, Communication, Limit, PruneConfig, Pruned, RunFolder, TrainError, evaluate};
use serde::{Deserialize, Serialize};

use super::training::{Arguments, in_folder};
use crate::cli::{self, PruneMethod, TermsArgs};
use crate::pricing::{Bytes, Form, Priced, Pricer, Widths, figure};
use crate::report::{chart, write_json};

/// The network that a run starts from, in its folder.
const START: &str = "start.safetensors";

/// What decides a pruning: all that `args.toml` holds of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How blocks are found.
    pub method: PruneMethod,
    /// Most bytes an inference, in place of the share of blocks.
    pub comm_limit: Option<u64>,
    /// The network is priced in fixed point of 41 bits instead of `widths`.
    pub fixed41: bool,
    /// Widths that the export will have.
    pub widths: QuantConfig,
    /// Under which it is priced.
    pub terms: TermsArgs,
    /// Search and finetuning.
    pub prune: PruneConfig,
}

/// A block and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Block {
    pub name: String,
    pub form: Form,
    /// Its gate after the search.
    pub alpha: f64,
    /// Bytes saved if it alone is freed.
    pub saving: f64,
    /// Why it is not merged when freed, if it is not.
    pub refused: Option<String>,
}

/// A pruned network, and what it costs.
pub struct Selected {
    pub pruned: Pruned,
    pub report: Report,
}

/// Of a selection.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub blocks: Vec<Block>,
    /// The unpruned network, planned on the same terms.
    pub before: Bytes,
    /// With the freed blocks in their cheapest form.
    pub after: Bytes,
    /// What the limit counts.
    counts: &'static str,
    /// Bytes of each block, and of the layers outside blocks.
    pub blocks_before: Vec<LayerPrice>,
    pub blocks_after: Vec<LayerPrice>,
}

/// What `--json` holds.
#[derive(Serialize)]
struct Outcome<'a> {
    run: &'a Path,
    settings: &'a Settings,
    #[serde(flatten)]
    report: &'a Report,
    /// Percent of the validation split.
    validation_accuracy: f64,
}

pub fn run(args: &cli::Prune) -> Result<()> {
    let (folder, new, start) = match &args.run.resume {
        Some(folder) => (folder.clone(), None, None),
        None => {
            let start = args.network.load(&data::load(&args.data.dataset, &args.data.data_dir)?)?;
            let folder = args.run.folder("prune", &start.graph.arch, &args.data.dataset);
            let arguments = Arguments::new(&args.data.dataset, &args.data.data_dir, settings(args))?;
            (folder, Some(arguments), Some(start))
        }
    };
    let (settings, report, accuracy) = in_folder(&folder, new, args.run.max_minutes, |arguments, run| {
        let dataset = arguments.load()?;
        let start = match start {
            Some(start) => start,
            None => Checkpoint::load(&folder.join(START))?,
        };
        let selected = search(&arguments.config, &start, &dataset, run)?;
        let accuracy = evaluate(&selected.pruned.checkpoint, &dataset.validation)?.accuracy;
        Ok((arguments.config.clone(), selected.report, accuracy))
    })?;
    if args.run.json.as_deref() != Some(Path::new("-")) {
        report.describe()?;
        say!("{accuracy:.1} % of the validation images; the run lies in {}", folder.display());
    }
    let outcome =
        Outcome { run: &folder, settings: &settings, report: &report, validation_accuracy: accuracy };
    args.run.json.as_ref().map_or(Ok(()), |path| write_json(&outcome, path))
}

/// What the command line asks for, resolved.
fn settings(args: &cli::Prune) -> Settings {
    let mut prune = PruneConfig::default();
    prune.budget = args.budget.unwrap_or(prune.budget);
    prune.device = args.run.device;
    prune.seed = args.run.seed.unwrap_or(prune.seed);
    prune.search.epochs = args.search_epochs.unwrap_or(prune.search.epochs);
    prune.finetune.epochs = args.epochs.unwrap_or(prune.finetune.epochs);
    let mut widths = QuantConfig::default();
    widths.weight_bits = args.weight_bits.unwrap_or(widths.weight_bits);
    widths.act_bits = args.act_bits.unwrap_or(widths.act_bits);
    Settings {
        method: args.method,
        comm_limit: args.comm_limit,
        fixed41: args.fixed41,
        widths,
        terms: args.terms,
        prune,
    }
}

/// Prunes into a run folder.
pub fn prune(settings: &Settings, start: &Checkpoint, dataset: &Dataset, folder: &Path) -> Result<Selected> {
    let arguments = Arguments::new(&dataset.name, Path::new("data"), settings.clone())?;
    in_folder(folder, Some(arguments), None, |_, run| search(settings, start, dataset, run))
}

/// Prunes by the planner's bytes. The folder keeps what the run starts from.
fn search(
    settings: &Settings,
    start: &Checkpoint,
    dataset: &Dataset,
    run: &mut RunFolder<'_>,
) -> Result<Selected> {
    let pricer = Pricer::new(start, settings.priced(), settings.terms.into())?;
    let saving = pricer.savings();
    if let Some(limit) = settings.comm_limit {
        pricer.check_limit(limit)?;
    }
    start.save(&run.path().join(START))?;
    let within = |keep: &[bool]| -> Result<bool> {
        let bytes = pricer.counted(pricer.selection(keep)?.bytes);
        Ok(settings.comm_limit.is_none_or(|limit| bytes <= limit))
    };
    let meets = |keep: &[bool]| {
        let refused = |e: anyhow::Error| TrainError::Config { setting: "price", reason: format!("{e:#}") };
        within(keep).map_err(refused)
    };
    let limit = settings.comm_limit.map(|limit| Limit {
        excess: pricer.counted(pricer.before.bytes).saturating_sub(limit) as f64,
        meets: &meets,
    });
    let config = &settings.prune;
    let pruned = match settings.method {
        PruneMethod::Comm => {
            copriv_train::prune(config, start, dataset, Communication { saving: &saving, limit }, run)?
        }
        method => {
            let order = select::order(method, start, dataset)?;
            let keep = select::keep(&order, settings, &within)?;
            copriv_train::prune_to(config, start, dataset, &keep, &saving, run)?
        }
    };
    let keep: Vec<bool> = pruned.blocks.iter().map(|b| b.keep).collect();
    let report = Report::new(&pricer, &pricer.selection(&keep)?, &pruned);
    report.draw(&start.graph.arch, run.path())?;
    Ok(Selected { pruned, report })
}

impl Settings {
    fn priced(&self) -> Widths {
        if self.fixed41 {
            return Widths::Fixed { ring: 41, scale: 12 };
        }
        Widths::Export(self.widths.clone())
    }
}

impl Report {
    fn new(pricer: &Pricer<'_>, after: &Priced, pruned: &Pruned) -> Self {
        let priced = pricer.blocks.iter().zip(&after.forms).zip(&pruned.blocks);
        let block = |((price, form), found): ((&crate::pricing::BlockPrice, &Form), _)| {
            let found: &copriv_train::PrunedBlock = found;
            Block {
                name: price.name.clone(),
                form: *form,
                alpha: found.alpha,
                saving: price.saving,
                refused: price.refused.clone(),
            }
        };
        Self {
            blocks: priced.map(block).collect(),
            before: pricer.before.bytes,
            after: after.bytes,
            counts: pricer.counts(),
            blocks_before: pricer.by_block(&pricer.before),
            blocks_after: pricer.by_block(after),
        }
    }

    /// Names of the blocks that are cheaper as one convolution.
    pub fn merged(&self) -> Vec<String> {
        self.blocks.iter().filter(|b| b.form == Form::Merged).map(|b| b.name.clone()).collect()
    }

    /// Prints what became of each block, and the bytes.
    pub fn describe(&self) -> Result<()> {
        for block in &self.blocks {
            let became = match block.form {
                Form::Kept => "keeps its ReLUs".to_owned(),
                Form::Merged => "merged".to_owned(),
                Form::Linear => format!(
                    "linear, not merged: {}",
                    block.refused.as_deref().unwrap_or("that costs more beside its neighbours")
                ),
            };
            let (name, alpha, saving) = (&block.name, block.alpha, block.saving / 1e6);
            say!(
                "{name:>10}  alpha {alpha:.2}  {saving:>9.3} MB {} less without ReLUs  {became}",
                self.counts
            );
        }
        for (when, bytes) in [("unpruned", self.before), ("pruned", self.after)] {
            let total = figure(bytes.offline + bytes.online);
            let (offline, online) = (figure(bytes.offline), figure(bytes.online));
            say!("{when:>10}  planned {offline} offline + {online} online = {total} an inference");
        }
        if !self.merged().is_empty() {
            say!("            to be exported with --merge {}", self.merged().join(","));
        }
        Ok(())
    }

    /// Bytes by block, before and after, on one axis.
    fn draw(&self, name: &str, folder: &Path) -> Result<()> {
        let bars = |of: &[LayerPrice]| of.iter().map(chart::Bar::from).collect::<Vec<_>>();
        let all = [("unpruned", bars(&self.blocks_before)), ("pruned", bars(&self.blocks_after))];
        let axis = all.iter().flat_map(|(_, bars)| bars).map(chart::Bar::bytes).max();
        for (when, bars) in &all {
            let svg = chart::stacked(&format!("{name}, {when}: bytes by block"), bars, axis)?;
            let path = folder.join(format!("blocks-{when}.svg"));
            write_whole(&path, svg.as_bytes()).with_context(|| format!("{}", path.display()))?;
        }
        Ok(())
    }
}
