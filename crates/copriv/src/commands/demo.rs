//! `copriv demo`: every stage on a small model, and one table at the end.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use copriv_model::file::write_whole;
use copriv_train::data::{self, Dataset};
use copriv_train::prune::PruneConfig;
use copriv_train::{ExportConfig, Exported, Merge, TrainConfig};

use crate::cli;
use crate::commands::private_eval::relus;
use crate::commands::{export, prune, train};
use crate::private::{self, Evaluation, Settings, Source};
use crate::report::{self, Summary};

pub fn run(args: &cli::Demo) -> Result<()> {
    let start = Instant::now();
    let dataset = data::load(data::EMBEDDED, Path::new("data"))?;
    let recipes = Recipes::new(args);
    let out = &args.out;

    eprintln!("1/5  train {} on {} ({} images)", recipes.train.arch, dataset.name, dataset.train.len());
    let float = train::train(&recipes.train, &dataset, &out.join("train"))?;
    eprintln!("2/5  quantise the unpruned network");
    let before = export::export(&recipes.export_before, &float, &dataset, &out.join("model-unpruned"))?;
    eprintln!("3/5  prune half of the blocks' ReLUs, finetune");
    let (pruned, outcome) = prune::prune(&recipes.prune, &float, &dataset, &out.join("prune"))?;
    outcome.report.describe()?;
    eprintln!("4/5  merge the freed blocks, quantise");
    let merge = Merge::Only(outcome.report.merged());
    let config = ExportConfig { merge, ..recipes.export };
    let after = export::export(&config, &pruned, &dataset, &out.join("model"))?;
    eprintln!("5/5  evaluate privately: a server process, a client process, TCP");
    let images = args.images as usize;
    let private_before = evaluate(&out.join("model-unpruned"), &dataset, images, "private, unpruned")?;
    let private = evaluate(&out.join("model"), &dataset, images, "private, pruned and merged")?;

    let mut summary = summarise("pruned, merged", &after, &private);
    summary.before = Some(Box::new(summarise("unpruned", &before, &private_before)));
    let page = out.join("report.html");
    write_whole(&page, report::page(&summary, Some(&outcome))?.as_bytes())
        .context("the page cannot be written")?;
    summary.write_json(&out.join("report.json"))?;
    if let Some(path) = &args.json {
        summary.write_json(path)?;
    }
    if args.json.as_deref() != Some(Path::new("-")) {
        say!("{}", report::summary_table(&summary));
        say!(
            "{} private outputs, {} differ from the integer executor; {:.0} s; report: {}",
            private.images + private_before.images,
            private.mismatched + private_before.mismatched,
            start.elapsed().as_secs_f64(),
            page.display()
        );
    }
    private_before.verify()?;
    private.verify()
}

struct Recipes {
    train: TrainConfig,
    prune: prune::Settings,
    export: ExportConfig,
    export_before: ExportConfig,
}

impl Recipes {
    /// The defaults are tuned for the demo; the quick form is only there to run every line.
    fn new(args: &cli::Demo) -> Self {
        let seed = args.seed;
        let mut recipes = Self {
            train: TrainConfig { seed, ..TrainConfig::default() },
            prune: prune::Settings {
                // README's figures are of freed blocks without a ReLU behind them.
                prune: PruneConfig { seed, activation: false, ..PruneConfig::default() },
                ..prune::Settings::default()
            },
            export: ExportConfig { seed, ..ExportConfig::default() },
            export_before: ExportConfig { seed, ..ExportConfig::default() },
        };
        if args.quick {
            recipes.train.recipe.epochs = 1;
            recipes.prune.prune.search.epochs = 1;
            recipes.prune.prune.finetune.epochs = 1;
            recipes.export.qat.epochs = 0;
            recipes.export_before.qat.epochs = 0;
        }
        recipes
    }
}

fn evaluate(model: &Path, dataset: &Dataset, images: usize, label: &str) -> Result<Evaluation> {
    let source = Source { dataset: &dataset.name, data_dir: Path::new("data") };
    let images = dataset.test.sample(images);
    private::evaluate(model, Settings::default(), &source, &images, label)
}

fn summarise(title: &str, exported: &Exported, evaluation: &Evaluation) -> Summary {
    let mut summary = Summary::new(title, evaluation, relus(&exported.model.graph));
    summary.accuracy.float = Some(exported.float_accuracy);
    summary.accuracy.fake_quant = Some(exported.fake_quant_accuracy);
    summary.accuracy.integer = Some(exported.integer_accuracy);
    summary
}
