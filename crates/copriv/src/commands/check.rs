//! `copriv check`: float, fake-quantised, integer and private values, layer by layer.

use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use copriv_infer2pc::engine::{self, Measured};
use copriv_infer2pc::{Channel, Party, Role, Terms};
use copriv_model::kernel::mask;
use copriv_model::{Model, Weights, execute, file};
use copriv_plan::Plan;
use copriv_train::Checkpoint;
use copriv_train::compare::{Cause, Comparison, compare};
use copriv_train::data::{self, Images};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;

use super::export::{FLOAT, QUANTISED};
use crate::cli;
use crate::progress::Bar;
use crate::report::write_json;

/// Percent of the predictions, and of the activations to within one unit, on which the
/// fake-quantised network and the executor agree.
const PREDICTIONS: f64 = 99.9;
const ACTIVATIONS: f64 = 99.99;

/// What `--json` holds.
#[derive(Serialize)]
struct Outcome<'a> {
    model: &'a Path,
    /// Absent without the networks that the model was exported from.
    comparison: Option<&'a Comparison>,
    /// Images evaluated privately.
    private_images: usize,
    /// Values compared there.
    private_values: usize,
    /// The first layer whose private value is not the executor's.
    private_diverges: Option<String>,
}

pub fn run(args: &cli::Check) -> Result<()> {
    let model = file::load(&args.model)?;
    let dataset = data::load(&args.data.dataset, &args.data.data_dir)?;
    let test = dataset.test.sample(args.test_images.unwrap_or(dataset.test.len()));
    let comparison = match stages(&args.model)? {
        Some((float, quantised)) => Some(compare(&float, &quantised, &model, &test)?),
        None => None,
    };
    let images = dataset.test.sample(args.images as usize);
    let private = privately(&model, args.terms.into(), &images)?;
    if args.json.as_deref() != Some(Path::new("-")) {
        match &comparison {
            Some(comparison) => say!("{}\n{}", table(comparison), verdict(comparison)),
            None => say!(
                "the folder holds no {FLOAT} and {QUANTISED}, so the integers are not compared with the networks \
                 before them"
            ),
        }
        match &private.diverges {
            Some(layer) => say!("private and integer part at layer {layer}"),
            None => say!(
                "private and integer: all {} values of {} images are equal",
                private.values,
                images.len()
            ),
        }
    }
    let outcome = Outcome {
        model: &args.model,
        comparison: comparison.as_ref(),
        private_images: images.len(),
        private_values: private.values,
        private_diverges: private.diverges.clone(),
    };
    args.json.as_ref().map_or(Ok(()), |path| write_json(&outcome, path))?;
    if let Some(layer) = private.diverges {
        return Err(anyhow!("layer {layer}: the private value is not the integer executor's"));
    }
    comparison.as_ref().map_or(Ok(()), judge)
}

/// The networks that the model was exported from, if they lie beside it.
fn stages(folder: &Path) -> Result<Option<(Checkpoint, Checkpoint)>> {
    let [float, quantised] = [FLOAT, QUANTISED].map(|name| folder.join(name));
    if !float.exists() || !quantised.exists() {
        return Ok(None);
    }
    Ok(Some((Checkpoint::load(&float)?, Checkpoint::load(&quantised)?)))
}

/// Fails where fake quantisation and executor differ without a reason, or too much.
fn judge(comparison: &Comparison) -> Result<()> {
    let unexplained = comparison.layers.iter().find(|l| l.cause == Some(Cause::Unexplained));
    if let Some(layer) = unexplained {
        return Err(anyhow!(
            "layer {}: {} of {} integers are not the fake-quantised values, by up to {} units, and nothing explains \
             it; was the model changed after the export?",
            layer.name,
            layer.differing,
            layer.values,
            layer.largest
        ));
    }
    let (predictions, activations) = (comparison.predictions(), comparison.within_one());
    ensure!(
        predictions >= PREDICTIONS && activations >= ACTIVATIONS,
        "fake-quantised and integer network agree on {predictions:.2} % of the predictions and, to one unit, on \
         {activations:.3} % of the activations; at least {PREDICTIONS} and {ACTIVATIONS} % are expected"
    );
    Ok(())
}

fn verdict(comparison: &Comparison) -> String {
    let first = match comparison.first() {
        Some(layer) => format!("they part at layer {} ({})", layer.name, explained(layer.cause)),
        None => "no value differs".into(),
    };
    format!(
        "float and fake-quantised classify {} of {} images alike; fake-quantised and integer {} ({:.2} %), and {:.3} % of \
         the activations agree to one unit: {first}",
        comparison.float_agrees,
        comparison.images,
        comparison.integer_agrees,
        comparison.predictions(),
        comparison.within_one()
    )
}

fn explained(cause: Option<Cause>) -> &'static str {
    match cause {
        None => "",
        Some(Cause::Inherited) => "from its operand",
        Some(Cause::SinglePrecision) => "sums beyond 2^24, which single precision rounds",
        Some(Cause::Mean) => "a mean over an odd area, rounded twice in single precision",
        Some(Cause::Unexplained) => "unexplained",
    }
}

fn table(comparison: &Comparison) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "layer",
        "values",
        "fake - float, rms",
        "integer != fake",
        "by > 1 unit",
        "largest",
        "why",
    ]);
    for column in table.column_iter_mut().skip(1).take(5) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for layer in &comparison.layers {
        table.add_row([
            layer.name.clone(),
            layer.values.to_string(),
            format!("{:.1} %", 100.0 * layer.float_error),
            layer.differing.to_string(),
            layer.beyond.to_string(),
            layer.largest.to_string(),
            explained(layer.cause).to_owned(),
        ]);
    }
    table
}

/// What a private evaluation of some images found.
struct Private {
    values: usize,
    diverges: Option<String>,
}

/// Evaluates `images` by two parties in this process, puts their shares of every layer together and
/// compares; no party learns these values when they are two processes.
fn privately(model: &Model, terms: Terms, images: &Images) -> Result<Private> {
    let plan = terms.plan(&model.graph, images.len() as u32)?;
    let bar = Bar::new("private evaluation", images.len() as u64);
    let inputs: Vec<Vec<i64>> = (0..images.len())
        .map(|i| Ok(model.graph.quantise_image(&images.interleaved(i)?, images.side, images.side)?))
        .collect::<Result<_>>()?;
    let (a, b) = Channel::pair();
    let party = |channel, role, weights: Option<&Weights>| {
        let mut party = Party::connect(channel, role, plan.choice, StdRng::seed_from_u64(role as u64))?;
        engine::plant(&mut party, &plan, weights)?;
        let mut all = Vec::with_capacity(inputs.len());
        for x in &inputs {
            let mut measured = Measured::default();
            let material = engine::offline(&mut party, &plan, weights, &mut measured)?;
            let mut shares = Vec::with_capacity(plan.steps.len());
            let x = (role == Role::Client).then_some(x.as_slice());
            let keep = |_: usize, share: &[u64]| shares.push(share.to_vec());
            engine::online(&mut party, &plan, weights, material, x, &mut measured, keep)?;
            all.push(shares);
            if role == Role::Client {
                bar.advance(1);
            }
        }
        Ok::<_, copriv_infer2pc::Error>(all)
    };
    let (server, client) = thread::scope(|scope| {
        let server = scope.spawn(|| party(a, Role::Server, Some(&model.weights)));
        let client = party(b, Role::Client, None);
        (server.join(), client)
    });
    bar.finish();
    let server = server.map_err(|_| anyhow!("the server's thread panicked"))?.context("the server")?;
    let client = client.context("the client")?;
    let (mut values, mut first) = (0, None);
    for ((x, server), client) in inputs.iter().zip(&server).zip(&client) {
        let trace = execute::run(model, x)?;
        let (compared, diverges) = difference(&plan, &trace, server, client);
        values += compared;
        // Of several images, the earliest layer counts.
        first = [first, diverges].into_iter().flatten().min();
    }
    Ok(Private { values, diverges: first.map(|id: usize| model.graph.nodes[id].name.clone()) })
}

/// How many values were compared, and the first node whose shares are not of the executor's value.
fn difference(
    plan: &Plan,
    trace: &execute::Trace,
    server: &[Vec<u64>],
    client: &[Vec<u64>],
) -> (usize, Option<usize>) {
    let mut compared = 0;
    for (id, expected) in trace.values.iter().enumerate() {
        let Some(step) = plan.values[id] else { continue };
        let mask = mask(plan.steps[step].ring);
        let sums = server[step].iter().zip(&client[step]).map(|(a, b)| a.wrapping_add(*b) & mask);
        compared += expected.len();
        if !sums.eq(expected.iter().map(|&v| (v as u64) << plan.scaled[id] & mask)) {
            return (compared, Some(id));
        }
    }
    (compared, None)
}

#[cfg(test)]
mod tests {
    use copriv_model::{GraphBuilder, TensorType};

    use super::*;

    #[test]
    fn the_first_layer_whose_shares_are_off_is_named() {
        let mut b = GraphBuilder::new("two", TensorType::signed([1, 2, 2], 6, -4));
        let x = b.input();
        let y = b.relu("relu", x).unwrap();
        let y = b.requant("requant", y, 2, 3, false, true).unwrap();
        let y = b.flatten("flatten", y).unwrap();
        let model = Model::new(b.finish(y).unwrap(), Weights::default()).unwrap();
        let plan = Terms::default().plan(&model.graph, 1).unwrap();
        let trace = execute::run(&model, &[-3, 4, 31, -32]).unwrap();
        let mut shares = vec![vec![]; plan.steps.len()];
        for (id, value) in trace.values.iter().enumerate() {
            if let Some(step) = plan.values[id] {
                let mask = mask(plan.steps[step].ring);
                shares[step] =
                    value.iter().map(|&v| ((v as u64) << plan.scaled[id]).wrapping_sub(5) & mask).collect();
            }
        }
        let fives: Vec<Vec<u64>> = shares.iter().map(|s| vec![5; s.len()]).collect();
        assert_eq!(difference(&plan, &trace, &shares, &fives).1, None);
        let at = plan.values[2].unwrap();
        shares[at][1] ^= 1;
        assert_eq!(difference(&plan, &trace, &shares, &fives).1, Some(2));
    }
}
