//! `copriv private-eval`.

use anyhow::Result;
use copriv_model::{Graph, Op, file};
use copriv_train::data;

use crate::cli;
use crate::commands::serve::waited;
use crate::private::{self, Settings, Source};
use crate::report::{self, Summary};

pub fn run(args: &cli::PrivateEval) -> Result<()> {
    let graph = file::load_graph(&args.model)?;
    let dataset = data::load(&args.data.dataset, &args.data.data_dir)?;
    let images = dataset.test.sample(args.images as usize);
    let source = Source { dataset: &args.data.dataset, data_dir: &args.data.data_dir };
    let settings = Settings { tile_widths: args.tile_widths, terms: args.terms, memory: args.memory };
    let evaluation = private::evaluate(&args.model, settings, &source, &images, "private evaluation")?;
    let title = format!("{} on {}", graph.name, dataset.name);
    let summary = Summary::new(&title, &evaluation, relus(&graph));
    if args.json.as_deref() != Some("-".as_ref()) {
        say!("{}", report::evaluation_table(&summary.layers));
        say!("{}", report::summary_table(&summary));
        if let Some(waited) = waited(evaluation.report.spilled) {
            say!("{waited}, at the client");
        }
    }
    if let Some(path) = &args.html {
        file::write_whole(path, report::page(&summary, None)?.as_bytes())?;
    }
    if let Some(path) = &args.json {
        summary.write_json(path)?;
    }
    evaluation.verify()
}

/// Number of activations of a graph.
pub fn relus(graph: &Graph) -> usize {
    let relus = |n: &copriv_model::Node| match &n.op {
        Op::Relu => n.output.len(),
        Op::PartialRelu { mask } => mask.count(true),
        _ => 0,
    };
    graph.nodes.iter().map(relus).sum()
}
