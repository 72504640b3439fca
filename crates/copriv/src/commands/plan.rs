//! `copriv plan`: what a model costs, layer by layer, under one preset or several.

mod measure;

use std::path::Path;

use anyhow::{Context, Result, bail};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use copriv_infer2pc::Terms;
use copriv_infer2pc::session::predict_setup;
use copriv_model::file;
use copriv_model::{Graph, Model};
use copriv_plan::architectures::{self, Bits, Numbers};
use copriv_plan::linear::{Algorithm, Method, Product, Side, Tile, with_tile_widths};
use copriv_plan::{LayerPrice, Network, Plan, StepKind, Traffic};
use serde::Serialize;

use crate::cli;
use crate::commands::serve::waited;
use crate::report::{chart, write_into, write_json};

/// A model under one preset.
#[derive(Serialize)]
struct Priced {
    preset: &'static str,
    ot: String,
    setup: Traffic,
    /// Means over a session.
    layers: Vec<Layer>,
    offline: Traffic,
    online: Traffic,
    /// What `--run` measured: seconds of set-up, offline and online of all its inferences, on loopback.
    measured_seconds: Option<[f64; 3]>,
    /// Bytes of each party's correlations that did not fit `--memory` in that run.
    spilled: u64,
    /// On the link of `--net`, messages only: once a session, then for each inference.
    setup_seconds: f64,
    offline_seconds: f64,
    online_seconds: f64,
}

#[derive(Serialize)]
struct Layer {
    #[serde(flatten)]
    price: LayerPrice,
    /// How its product is made, if it has one.
    product: Option<String>,
}

pub fn run(args: &cli::Plan) -> Result<()> {
    let graph = graph(args)?;
    let network = Network::from(args.choice.net);
    let mut all = Vec::new();
    for &preset in &args.presets {
        let plan = terms(args, preset).plan(&graph, args.inferences)?;
        all.push(price(&graph, &plan, network, args.inferences)?);
    }
    if let Some(inferences) = args.run {
        let model = model(args, &graph)?;
        for (priced, &preset) in all.iter_mut().zip(&args.presets) {
            let report = measure::measure(&model, terms(args, preset), inferences, args.memory)?;
            priced.measured_seconds = Some(report.seconds);
            priced.spilled = report.spilled;
        }
    }
    if let Some(path) = &args.json {
        write_json(&all, path)?;
    }
    if let Some(folder) = &args.svg {
        draw(&graph.name, &all, folder)?;
    }
    if args.json.as_deref() != Some(Path::new("-")) {
        say!("{}: means of {} inferences a session", graph.name, args.inferences);
        say!("{}\n{}", layers(&all), totals(&all, network));
        for priced in &all {
            let Some([setup, offline, online]) = priced.measured_seconds else { continue };
            say!(
                "{}: ran {} on loopback, outputs as the executor's, bytes and rounds as planned: \
                 {setup:.2} s set-up, {offline:.2} s offline, {online:.2} s online",
                priced.preset,
                args.run.unwrap_or_default(),
            );
            if let Some(waited) = waited(priced.spilled) {
                say!("{waited}, at the client");
            }
        }
    }
    Ok(())
}

/// The set-up is shared out to `--inferences`, also if `--run` runs fewer.
fn terms(args: &cli::Plan, preset: cli::PresetArg) -> Terms {
    Terms { shared_by: Some(args.inferences), ..args.terms(preset).into() }
}

/// One picture a preset, on a common axis.
fn draw(name: &str, all: &[Priced], folder: &Path) -> Result<()> {
    let bars = |p: &Priced| p.layers.iter().map(|l| chart::Bar::from(&l.price)).collect::<Vec<_>>();
    let axis = all.iter().flat_map(bars).map(|bar| bar.bytes()).max();
    std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    for priced in all {
        let svg = chart::stacked(&format!("{name}, {}", priced.preset), &bars(priced), axis)?;
        write_into(folder, &format!("{name}-{}.svg", priced.preset), &svg)?;
    }
    Ok(())
}

/// A model's public part, or an architecture's.
fn graph(args: &cli::Plan) -> Result<Graph> {
    let folder = Path::new(&args.model);
    match (args.tile_widths, folder.is_dir()) {
        (cli::TileWidths::WorstCase, true) => return Ok(file::load_graph(folder)?),
        (cli::TileWidths::Weights, true) => return Ok(with_tile_widths(file::load(folder)?)?.graph),
        (cli::TileWidths::Weights, false) => {
            bail!("`--tile-widths weights` needs the folder of an integer model, not `{}`", args.model)
        }
        (cli::TileWidths::WorstCase, false) => {}
    }
    let numbers = match args.bits {
        Some((weights, activations)) => Bits::new(weights, activations).into(),
        None => Numbers::FixedPoint { ring: 41, scale: 12 },
    };
    architectures::named(&args.model, numbers)
        .with_context(|| format!("`{}` is no folder of an integer model either", args.model))
}

/// What `--run` runs: the model's own weights, or random ones.
fn model(args: &cli::Plan, graph: &Graph) -> Result<Model> {
    let folder = Path::new(&args.model);
    if !folder.is_dir() {
        return measure::random_model(graph.clone(), 1);
    }
    Ok(args.tile_widths.apply(file::load(folder)?)?)
}

fn price(graph: &Graph, plan: &Plan, network: Network, inferences: u32) -> Result<Priced> {
    let setup = predict_setup(graph, plan, false)?;
    let mean = plan.predict_session(u64::from(inferences)).mean(u64::from(inferences));
    let products = plan.steps.iter().filter_map(|step| match &step.kind {
        StepKind::Product { product, .. } => Some((step.layer.as_str(), describe(product))),
        _ => None,
    });
    let products: std::collections::HashMap<_, _> = products.collect();
    let (offline, online) = (mean.offline(), mean.online());
    let layer = |price: LayerPrice| Layer { product: products.get(price.name.as_str()).cloned(), price };
    Ok(Priced {
        preset: plan.choice.preset.name(),
        ot: format!("{:?}", plan.choice.flavour).to_lowercase(),
        setup,
        layers: mean.layers.into_iter().map(layer).collect(),
        offline,
        online,
        measured_seconds: None,
        spilled: 0,
        setup_seconds: network.seconds(setup),
        offline_seconds: network.seconds(offline),
        online_seconds: network.seconds(online),
    })
}

/// How a product is made, in a few words.
pub fn describe(product: &Product) -> String {
    let name = |tile: Tile| match tile {
        Tile::F2 => "F(2x2) ",
        Tile::F4 => "F(4x4) ",
        Tile::F2Stride2 => "F(2x2)/2 ",
    };
    let algorithm = match product.algorithm {
        Algorithm::Direct => String::new(),
        Algorithm::Winograd(tile) => name(tile).into(),
        Algorithm::ElementWise(tile) => format!("element-wise {}", name(tile)),
    };
    let method = match product.method {
        Method::Cot { receiver: Side::Server } => "COT, weights choose".into(),
        Method::Cot { receiver: Side::Client } => "COT, masks choose".into(),
        Method::Packed { k } => format!("packed, k={k}"),
    };
    let wrap = product.wrap.map_or(String::new(), |wrap| format!(", from {} bits", wrap.from));
    format!("{algorithm}{method}{wrap}")
}

fn mb(bytes: u64) -> String {
    format!("{:.3}", bytes as f64 / 1e6)
}

fn layers(all: &[Priced]) -> Table {
    let mut header = vec!["layer".to_owned()];
    for priced in all {
        header.extend([format!("{}: product", priced.preset), "offline MB".into(), "online MB".into()]);
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    let mut names: Vec<&str> = Vec::new();
    for layer in all.iter().flat_map(|priced| &priced.layers) {
        if !names.contains(&layer.price.name.as_str()) {
            names.push(&layer.price.name);
        }
    }
    for name in names {
        let mut row = vec![name.to_owned()];
        for priced in all {
            row.extend(match priced.layers.iter().find(|l| l.price.name == name) {
                Some(l) => [
                    l.product.clone().unwrap_or_default(),
                    mb(l.price.offline.bytes()),
                    mb(l.price.online.bytes()),
                ],
                None => Default::default(),
            });
        }
        table.add_row(row);
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        if i > 0 && i % 3 != 1 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn totals(all: &[Priced], network: Network) -> Table {
    let mut table = Table::new();
    let time = format!("seconds on {}", network.name());
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_header(["preset", "OT", "", "up MB", "down MB", "GB", "GiB", "rounds", &time]);
    for p in all {
        let phases = [
            ("set-up (once)", p.setup, p.setup_seconds),
            ("offline", p.offline, p.offline_seconds),
            ("online", p.online, p.online_seconds),
            ("offline + online", p.offline + p.online, p.offline_seconds + p.online_seconds),
        ];
        for (phase, traffic, seconds) in phases {
            let bytes = traffic.bytes() as f64;
            table.add_row([
                p.preset.to_owned(),
                p.ot.clone(),
                phase.to_owned(),
                mb(traffic.up),
                mb(traffic.down),
                format!("{:.4}", bytes / 1e9),
                format!("{:.4}", bytes / (1u64 << 30) as f64),
                traffic.rounds.to_string(),
                format!("{seconds:.2}"),
            ]);
        }
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
