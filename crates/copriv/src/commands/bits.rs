//! `copriv bits`: a width for every layer under a limit of bytes.

mod curvature;
mod tables;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use copriv_infer2pc::{Reveal, Terms};
use copriv_model::Graph;
use copriv_model::file::write_whole;
use copriv_plan::{Choice, Flavour, Plan};
use copriv_train::bits::{Costs, Prices, Search, Solution, Widths};
use copriv_train::data;
use copriv_train::hessian::Trace;
use copriv_train::quant::QuantConfig;
use copriv_train::{ExportConfig, merge};
use serde::{Deserialize, Serialize};

use crate::cli::{self, BitsMethod};
use crate::report::write_json;

/// Inferences that a price is the mean of: long enough for Ferret's iterations to even out.
const SESSION: u64 = 32;
/// Inferences that share the set-up of packed VOLE.
const LONG_SESSION: u32 = 1000;
/// Points of the front.
const POINTS: u64 = 9;

/// The file that `copriv export --bits` reads.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chosen {
    /// The network it is for.
    arch: String,
    method: BitsMethod,
    /// Bytes of an inference, set-up aside.
    comm_limit: u64,
    /// The same of the exported model, before quantisation-aware training.
    planned: u64,
    /// Sum over the layers of mean trace times squared rounding error.
    sensitivity: f64,
    quant: QuantConfig,
}

/// One point of the front.
#[derive(Serialize)]
struct Point {
    /// What it was chosen by.
    method: BitsMethod,
    /// Bytes of an inference; absent for the uniform widths, all of which are shown.
    limit: Option<u64>,
    planned: u64,
    sensitivity: f64,
    /// Of each layer.
    weights: Vec<u32>,
    /// Of the rectified activations that have a width of their own, in the order of the layers that read them.
    activations: Vec<u32>,
}

/// One layer, for `--json`.
#[derive(Serialize)]
struct Layer<'a> {
    name: &'a str,
    trace: f64,
    error: f64,
    elements: usize,
    activation: Option<&'a str>,
    options: &'a [Widths],
    sensitivity: &'a [f64],
    chosen: Widths,
}

/// What `--json` holds.
#[derive(Serialize)]
struct Outcome<'a> {
    choice: &'a Chosen,
    probes: usize,
    layers: Vec<Layer<'a>>,
    front: &'a [Point],
}

/// The widths of a file that [`run`] wrote.
pub fn load(path: &Path) -> Result<QuantConfig> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let choice: Chosen = toml::from_str(&text)
        .map_err(|e| anyhow::anyhow!("{} is not a file of `copriv bits`: {}", path.display(), e.message()))?;
    Ok(choice.quant)
}

pub fn run(args: &cli::Bits) -> Result<()> {
    let dataset = data::load(&args.data.dataset, &args.data.data_dir)?;
    let merged = merge(&args.network.load(&dataset)?, &copriv_train::Merge::All)?;
    let export = ExportConfig::default();
    let mut base = export.quant.clone();
    base.act_bits = args.act_bits.unwrap_or(base.act_bits);

    let curvature = curvature::of(args, &merged, &dataset)?;
    let search = Search::new(&merged, &dataset.train.sample(export.calibration), &base, &curvature)?;

    let uniform = search.uniform();
    let middle = uniform[uniform.len() / 2].clone();
    let planner = Planner::new(Terms::from(args.terms), &search.exported(&middle)?)?;
    let price = |graph: &Graph| planner.session_bytes(graph);
    let prices = search.prices(&middle, &price)?;
    let uniform: Vec<Solution> =
        uniform.into_iter().map(|choice| search.solution(choice, &price)).collect::<Result<_>>()?;
    let by = |method, limit| choose(&search, method, &prices, &uniform, limit, &price);
    let limit = args.comm_limit.saturating_mul(SESSION);
    let Some(solution) = by(args.method, limit)? else {
        let cheapest = uniform.iter().map(|s| s.planned).min().unwrap_or(0) / SESSION;
        bail!("no widths keep within {} bytes; the narrowest uniform ones need {cheapest}", args.comm_limit);
    };

    let mut front = Vec::new();
    let (least, most) = uniform.iter().fold((u64::MAX, 0), |(a, b), s| (a.min(s.planned), b.max(s.planned)));
    for i in 0..POINTS {
        let limit = least + (most - least) * i / (POINTS - 1);
        let found = match args.method {
            BitsMethod::Hessian => search.within(&prices, limit, &price)?,
            BitsMethod::Macs => by(BitsMethod::Macs, limit)?,
            BitsMethod::Uniform => None,
        };
        front.extend(found.map(|s| point(&search, args.method, Some(limit / SESSION), &s)));
    }
    front.extend(uniform.iter().map(|s| point(&search, BitsMethod::Uniform, None, s)));

    let choice = Chosen {
        arch: merged.graph.arch.clone(),
        method: args.method,
        comm_limit: args.comm_limit,
        planned: solution.planned / SESSION,
        sensitivity: solution.sensitivity,
        quant: search.config(&solution.choice),
    };
    write_whole(&args.out, toml::to_string_pretty(&choice)?.as_bytes())
        .with_context(|| format!("{} cannot be written", args.out.display()))?;
    if args.json.as_deref() != Some(Path::new("-")) {
        let traces = &curvature.weights.layers;
        say!(
            "{} probes of the curvature\n{}",
            curvature.weights.probes,
            tables::layers(&search, traces, &solution)
        );
        say!("{}", tables::front(&front));
        say!(
            "{:.3} MB an inference of at most {:.3}; layer by layer the planner had said {:.3}. The widths lie in {}",
            mb(choice.planned),
            mb(args.comm_limit),
            prices.estimate(&solution.choice) as f64 / SESSION as f64 / 1e6,
            args.out.display()
        );
    }
    let outcome = Outcome {
        choice: &choice,
        probes: curvature.weights.probes,
        layers: described(&search, &curvature.weights.layers, &solution),
        front: &front,
    };
    args.json.as_ref().map_or(Ok(()), |path| write_json(&outcome, path))
}

/// Prices networks of one session on the same terms.
struct Planner {
    reveal: Reveal,
    choice: Choice,
}

impl Planner {
    /// Settles on the OT extension that is best for `graph`, if the terms leave it open: prices of
    /// different extensions would not add up.
    fn new(terms: Terms, graph: &Graph) -> Result<Self> {
        Ok(Self { reveal: terms.reveal, choice: terms.plan(graph, LONG_SESSION)?.choice })
    }

    fn session_bytes(&self, graph: &Graph) -> Result<u64> {
        let plan = match self.reveal {
            Reveal::Logits => Plan::new(graph, self.choice)?,
            Reveal::Class => Plan::new(&graph.with_argmax()?, self.choice)?,
            Reveal::Top5 => Plan::new(&graph.with_top_k(5)?, self.choice)?,
        };
        // Only Ferret's inferences differ.
        Ok(match self.choice.flavour {
            Flavour::Ferret => plan.predict_session(SESSION).total_bytes(),
            _ => SESSION * plan.predict().total_bytes(),
        })
    }
}

fn choose<P>(
    search: &Search<'_>,
    method: BitsMethod,
    prices: &Prices,
    uniform: &[Solution],
    limit: u64,
    price: &P,
) -> Result<Option<Solution>>
where
    P: Fn(&Graph) -> Result<u64> + Sync,
{
    match method {
        BitsMethod::Hessian => search.solve(Costs::Planned, prices, limit, price),
        BitsMethod::Macs => search.solve(Costs::Macs, prices, limit, price),
        BitsMethod::Uniform => {
            let within = uniform.iter().filter(|s| s.planned <= limit);
            Ok(within.min_by(|a, b| a.sensitivity.total_cmp(&b.sensitivity)).cloned())
        }
    }
}

fn point(search: &Search<'_>, method: BitsMethod, limit: Option<u64>, solution: &Solution) -> Point {
    let chosen = || search.units().iter().zip(&solution.choice).map(|(unit, &option)| unit.options[option]);
    Point {
        method,
        limit,
        planned: solution.planned / SESSION,
        sensitivity: solution.sensitivity,
        weights: chosen().map(|widths| widths.weights).collect(),
        activations: chosen().filter_map(|widths| widths.activation).collect(),
    }
}

fn described<'a>(search: &'a Search<'_>, traces: &[Trace], solution: &Solution) -> Vec<Layer<'a>> {
    let units = search.units().iter().zip(traces).zip(&solution.choice);
    units
        .map(|((unit, trace), &option)| Layer {
            name: &unit.layer,
            trace: trace.trace,
            error: trace.error,
            elements: trace.elements,
            activation: unit.activation.as_deref(),
            options: &unit.options,
            sensitivity: &unit.sensitivity,
            chosen: unit.options[option],
        })
        .collect()
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
