//! `copriv prune`.

pub mod outcome;
mod select;

use std::path::Path;

use anyhow::{Result, anyhow};
use copriv_train::data::{self, Dataset};
use copriv_train::quant::QuantConfig;
use copriv_train::rewrite::{Masks, mask_rectifiers};
use copriv_train::{
    Checkpoint, Communication, Limit, PruneConfig, Pruned, Ranking, RunFolder, TrainError, evaluate,
    prune_by_masks, senet, snl,
};
use serde::{Deserialize, Serialize};

use self::outcome::{Outcome, Report};
use super::training::{Arguments, in_folder};
use crate::cli::{self, MaskBy, PruneMethod, TermsArgs};
use crate::pricing::{Pricer, Widths};
use crate::report::write_json;

/// The network that a run starts from, in its folder.
const START: &str = "start.safetensors";

/// What decides a pruning: all that `args.toml` holds of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How it is found what goes.
    pub method: PruneMethod,
    /// Most bytes an inference, in place of the share that is kept.
    pub comm_limit: Option<u64>,
    /// The network is priced in fixed point of 41 bits instead of `widths`.
    pub fixed41: bool,
    /// Training images: an even sample of so many.
    pub images: Option<usize>,
    /// Widths that the export will have.
    pub widths: QuantConfig,
    /// Under which it is priced.
    pub terms: TermsArgs,
    /// Search and finetuning.
    pub prune: PruneConfig,
}

/// A pruned network, and what it costs.
struct Selected {
    checkpoint: Checkpoint,
    report: Report,
}

impl Selected {
    fn outcome(&self, settings: &Settings, dataset: &Dataset, folder: &Path) -> Result<Outcome> {
        Ok(Outcome {
            run: folder.to_path_buf(),
            settings: settings.clone(),
            report: self.report.clone(),
            validation_accuracy: evaluate(&self.checkpoint, &dataset.validation)?.accuracy,
        })
    }
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
    let outcome = in_folder(&folder, new, args.run.max_minutes, |arguments, run| {
        let dataset = arguments.load()?;
        let start = match start {
            Some(start) => start,
            None => Checkpoint::load(&folder.join(START))?,
        };
        let selected = search(&arguments.config, &start, &dataset, run)?;
        selected.outcome(&arguments.config, &dataset, &folder)
    })?;
    outcome.draw(&folder)?;
    if args.run.json.as_deref() != Some(Path::new("-")) {
        outcome.report.describe()?;
        say!(
            "{:.1} % of the validation images; the run lies in {}",
            outcome.validation_accuracy,
            folder.display()
        );
    }
    args.run.json.as_ref().map_or(Ok(()), |path| write_json(&outcome, path))
}

/// What the command line asks for, resolved.
fn settings(args: &cli::Prune) -> Settings {
    let mut prune = PruneConfig::default();
    prune.budget = args.budget.unwrap_or(prune.budget);
    prune.lambda = args.lambda.unwrap_or(prune.lambda);
    prune.activation = !args.no_activation;
    prune.pixels = args.by == MaskBy::Pixel;
    prune.teacher.clone_from(&args.teacher);
    prune.distill.temperature = args.temperature.unwrap_or(prune.distill.temperature);
    prune.distill.mix = args.soft.unwrap_or(prune.distill.mix);
    prune.distill.features = args.features.unwrap_or(prune.distill.features);
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
        images: args.images,
        widths,
        terms: args.terms,
        prune,
    }
}

/// Prunes into a run folder, its page included.
pub fn prune(
    settings: &Settings,
    start: &Checkpoint,
    dataset: &Dataset,
    folder: &Path,
) -> Result<(Checkpoint, Outcome)> {
    let arguments = Arguments::new(&dataset.name, Path::new("data"), settings.clone())?;
    let selected = in_folder(folder, Some(arguments), None, |_, run| search(settings, start, dataset, run))?;
    let outcome = selected.outcome(settings, dataset, folder)?;
    outcome.draw(folder)?;
    Ok((selected.checkpoint, outcome))
}

/// Prunes by the planner's bytes. The folder keeps what the run starts from.
fn search(
    settings: &Settings,
    start: &Checkpoint,
    dataset: &Dataset,
    run: &mut RunFolder<'_>,
) -> Result<Selected> {
    let sampled = settings.images.map(|n| Dataset { train: dataset.train.sample(n), ..dataset.clone() });
    let dataset = sampled.as_ref().unwrap_or(dataset);
    let masked = matches!(settings.method, PruneMethod::Snl | PruneMethod::Senet);
    // A mask leaves what rectifiers it leaves; only whole blocks get one behind them.
    let activation = settings.prune.activation && !masked;
    let pricer = Pricer::new(start, settings.priced(), settings.terms.into(), activation)?;
    if let Some(limit) = settings.comm_limit
        && !masked
    {
        pricer.check_limit(limit)?;
    }
    start.save(&run.path().join(START))?;
    if masked {
        by_masks(settings, start, dataset, &pricer, run)
    } else {
        by_blocks(settings, start, dataset, &pricer, run)
    }
}

/// Whole blocks.
fn by_blocks(
    settings: &Settings,
    start: &Checkpoint,
    dataset: &Dataset,
    pricer: &Pricer<'_>,
    run: &mut RunFolder<'_>,
) -> Result<Selected> {
    let saving = pricer.savings();
    let within = |keep: &[bool]| -> Result<bool> {
        let bytes = pricer.counted(pricer.selection(keep)?.bytes);
        Ok(settings.comm_limit.is_none_or(|limit| bytes <= limit))
    };
    let refused = |e: anyhow::Error| TrainError::Config { setting: "price", reason: format!("{e:#}") };
    let meets = |keep: &[bool]| within(keep).map_err(refused);
    let free = |keep: &[bool]| pricer.selection(keep).and_then(|s| pricer.freed(&s.forms)).map_err(refused);
    let limit = settings.comm_limit.map(|limit| Limit {
        excess: pricer.counted(pricer.before.bytes).saturating_sub(limit) as f64,
        meets: &meets,
    });
    let comm = Communication { saving: &saving, limit, free: Some(&free) };
    let config = &settings.prune;
    let Pruned { checkpoint, blocks } = match settings.method {
        PruneMethod::Comm => copriv_train::prune(config, start, dataset, comm, run)?,
        method => {
            let order = select::order(method, start, dataset)?;
            let keep = select::keep(&order, settings, &within)?;
            copriv_train::prune_to(config, start, dataset, &keep, comm, run)?
        }
    };
    let keep: Vec<bool> = blocks.iter().map(|b| b.keep).collect();
    let alpha: Vec<f64> = blocks.iter().map(|b| b.alpha).collect();
    let after = pricer.selection(&keep)?;
    let report = Report::new(start, (pricer, &pricer.before), (pricer, &after), &checkpoint, &alpha)?;
    Ok(Selected { checkpoint, report })
}

/// Single rectifiers, or channels of them.
fn by_masks(
    settings: &Settings,
    start: &Checkpoint,
    dataset: &Dataset,
    pricer: &Pricer<'_>,
    run: &mut RunFolder<'_>,
) -> Result<Selected> {
    let mut config = settings.prune.clone();
    // The largest share whose network meets the limit.
    let share = |ranking: &Ranking| -> Result<f64> {
        let Some(limit) = settings.comm_limit else { return Ok(settings.prune.budget) };
        select::largest_share(|share| {
            let graph = mask_rectifiers(&start.graph, &ranking.masks(share))?;
            Ok(pricer.other(&graph)? <= limit)
        })
    };
    // What the search steers for; its own ranking decides afterwards.
    config.budget = share(&Ranking::even(&start.graph, config.pixels)?)?;
    let (searched, ranking) = match settings.method {
        PruneMethod::Snl => snl(&config, start, dataset, run)?,
        PruneMethod::Senet => (start.clone(), senet(&config, start, dataset)?),
        other => return Err(anyhow!("{other:?} makes no masks")),
    };
    let masks = ranking.masks(share(&ranking)?);
    let masked = Checkpoint { graph: mask_rectifiers(&start.graph, &masks)?, ..start.clone() };
    let after = Pricer::new(&masked, settings.priced(), settings.terms.into(), false)?;
    let selection = after.selection(&masked.kept_blocks())?;
    let shaped = Checkpoint { graph: after.freed(&selection.forms)?, ..searched };
    let checkpoint = prune_by_masks(&config, start, &shaped, dataset, &Masks::new(), run)?;
    let kept = outcome::kept_share(start, &masks);
    let report = Report::new(start, (pricer, &pricer.before), (&after, &selection), &checkpoint, &kept)?;
    Ok(Selected { checkpoint, report })
}

impl Settings {
    fn priced(&self) -> Widths {
        if self.fixed41 {
            return Widths::Fixed { ring: 41, scale: 12 };
        }
        Widths::Export(self.widths.clone())
    }

    /// The method for people.
    pub fn title(&self) -> String {
        let by = if self.prune.pixels { "pixel" } else { "channel" };
        match self.method {
            PruneMethod::Comm if self.prune.lambda == 0.0 => "without L_comm".into(),
            PruneMethod::Comm if self.prune.lambda == PruneConfig::default().lambda => "with L_comm".into(),
            PruneMethod::Comm => format!("with L_comm (lambda {})", self.prune.lambda),
            PruneMethod::Uniform => "uniform".into(),
            PruneMethod::Deepreduce => "DeepReDuce".into(),
            PruneMethod::Snl => format!("SNL by {by}"),
            PruneMethod::Senet => format!("SENet by {by}"),
        }
    }
}
