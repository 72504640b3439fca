//! CoPriv's table 4: which blocks of MobileNetV2 must go for its bytes, without a search.

use anyhow::Result;
use copriv_infer2pc::Terms;
use copriv_plan::Preset;
use copriv_train::data::PixelScale;
use copriv_train::net::Weights;
use copriv_train::{Arch, Checkpoint, Stage};
use serde::Serialize;

use super::aligned;
use crate::cli;
use crate::pricing::{Bytes, Form, Pricer, Widths};
use crate::report::write_json;

/// Online and total GiB of the two selections that the paper prints (Zeng et al., NeurIPS 2023,
/// table 4).
const PRINTED: [(&str, f64, f64); 2] = [("s1", 0.331, 3.154), ("s2", 0.260, 2.213)];
const GIB: f64 = (1u64 << 30) as f64;

/// One printed pair and the selection that meets it, if one does.
#[derive(Serialize)]
struct Row {
    selection: &'static str,
    preset: &'static str,
    /// Whether freed blocks have a rectifier behind them.
    activation: bool,
    printed_online: f64,
    printed_total: f64,
    /// Whether both figures are met.
    met: bool,
    online: f64,
    total: f64,
    kept: Vec<String>,
    linear: Vec<String>,
    merged: Vec<String>,
}

pub fn run(args: &cli::Reproduce) -> Result<()> {
    let network = network()?;
    let mut rows = Vec::new();
    // The authors' code has a rectifier behind every merged block, their paper does not mention it.
    for (preset, activation) in [(Preset::Copriv, true), (Preset::Copriv, false), (Preset::CoprivNg, true)] {
        let terms = Terms { preset, ..cli::TermsArgs::default().into() };
        let pricer = Pricer::new(&network, Widths::Fixed { ring: 41, scale: 12 }, terms, activation)?;
        for (selection, online, total) in PRINTED {
            let fits = |b: Bytes| gib(b.online) <= online && gib(b.offline + b.online) <= total;
            let (found, met) = pricer.freed_until(fits)?;
            let names = |form| -> Vec<String> {
                let of_form = pricer.blocks.iter().zip(&found.forms).filter(|(_, f)| **f == form);
                of_form.map(|(b, _)| b.name.trim_start_matches("block").to_owned()).collect()
            };
            rows.push(Row {
                selection,
                preset: preset.name(),
                activation,
                printed_online: online,
                printed_total: total,
                met,
                online: gib(found.bytes.online),
                total: gib(found.bytes.offline + found.bytes.online),
                kept: names(Form::Kept),
                linear: names(Form::Linear),
                merged: names(Form::Merged),
            });
        }
        if args.json.as_deref() != Some("-".as_ref()) {
            describe(&pricer, preset, activation)?;
        }
    }
    if let Some(path) = &args.json {
        write_json(&rows, path)?;
    }
    if args.json.as_deref() != Some("-".as_ref()) {
        let header = [
            "preset",
            "ReLU behind",
            "",
            "printed online",
            "here",
            "printed total",
            "here",
            "met",
            "kept",
            "linear",
            "merged",
        ];
        let mut grid = aligned(&header, 3..7);
        for r in &rows {
            let figures = [r.printed_online, r.online, r.printed_total, r.total].map(|v| format!("{v:.3}"));
            let blocks = [&r.kept, &r.linear, &r.merged].map(|names| names.join(" "));
            let behind = if r.activation { "yes" } else { "no" };
            let row = [r.preset, behind, r.selection].map(str::to_owned).into_iter().chain(figures);
            grid.add_row(row.chain([if r.met { "yes" } else { "no" }.to_owned()]).chain(blocks));
        }
        say!(
            "GiB of MobileNetV2-w0.75 at 32x32, 100 classes, fixed point of 41 bits; blocks by number\n{grid}"
        );
    }
    Ok(())
}

/// The savings that the selections rest on.
fn describe(pricer: &Pricer<'_>, preset: Preset, activation: bool) -> Result<()> {
    let mut grid = aligned(&["block", "saves GiB", "freed it is", ""], 1..2);
    for block in &pricer.blocks {
        let freed = if block.freed == Form::Merged { "merged" } else { "linear" };
        grid.add_row([
            block.name.clone(),
            format!("{:.4}", block.saving / GIB),
            freed.to_owned(),
            block.refused.clone().unwrap_or_default(),
        ]);
    }
    let before = pricer.before.bytes;
    say!(
        "{}, {} a ReLU behind each freed block: unpruned {:.3} GiB online, {:.3} GiB total\n{grid}",
        preset.name(),
        if activation { "with" } else { "without" },
        gib(before.online),
        gib(before.offline + before.online)
    );
    Ok(())
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / GIB
}

/// Prices need no weights.
fn network() -> Result<Checkpoint> {
    let graph = Arch::parse("mbv2-w0.75")?.build([3, 32, 32], 100)?;
    Ok(Checkpoint {
        stage: Stage::Float,
        weights: Weights::default(),
        graph,
        quant: None,
        dataset: String::new(),
        classes: (0..100).map(|i| i.to_string()).collect(),
        pixels: PixelScale { offset: 128, scale_log2: -6 },
    })
}
