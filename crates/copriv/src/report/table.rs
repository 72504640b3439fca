use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use copriv_plan::LayerPrice;

use super::{Summary, by_block, mb};

/// One row a figure, one column a model.
pub fn summary_table(summary: &Summary) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let columns: Vec<&Summary> = summary.before.as_deref().into_iter().chain([summary]).collect();
    let header = |s: &Summary| s.title.clone();
    table.set_header(std::iter::once(String::new()).chain(columns.iter().map(|s| header(s))));
    for (name, figure) in ROWS {
        let cells: Vec<Option<String>> = columns.iter().map(|s| figure(s)).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(Option::unwrap_or_default);
            table.add_row(std::iter::once((*name).to_owned()).chain(cells));
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Bytes by block.
pub fn evaluation_table(layers: &[LayerPrice]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["layer", "offline MB", "online MB", "offline rounds", "online rounds"]);
    for block in by_block(layers) {
        table.add_row([
            block.name.clone(),
            format!("{:.3}", mb(block.offline)),
            format!("{:.3}", mb(block.online)),
            block.offline.rounds.to_string(),
            block.online.rounds.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A table whose columns from `right` on hold figures.
pub fn figures(header: &[&str], right: usize) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header.to_vec());
    for column in table.column_iter_mut().skip(right) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

type Figure = fn(&Summary) -> Option<String>;

/// The rows of the summary, for the table and the page.
pub const ROWS: &[(&str, Figure)] = &[
    ("float accuracy", |s| s.accuracy.float.map(percent)),
    ("fake-quantised accuracy", |s| s.accuracy.fake_quant.map(percent)),
    ("integer accuracy", |s| s.accuracy.integer.map(percent)),
    ("private accuracy", |s| Some(format!("{} of {} images", percent(s.accuracy.private), s.images))),
    ("  integer, same images", |s| Some(percent(s.accuracy.integer_same_images))),
    ("outputs that differ", |s| Some(format!("{} of {}", s.mismatched_logits, s.images))),
    ("bytes as planned", |s| Some(if s.as_planned { "yes" } else { "NO" }.to_owned())),
    ("ReLUs", |s| Some(s.relus.to_string())),
    ("preset", |s| Some(s.preset.name().to_owned())),
    ("OT extension", |s| Some(format!("{:?}", s.ot).to_lowercase())),
    ("setup MB (once)", |s| Some(megabytes(s.bytes.setup))),
    ("offline MB", |s| Some(megabytes(s.bytes.offline))),
    ("online MB", |s| Some(megabytes(s.bytes.online))),
    ("total GB", |s| Some(format!("{:.4}", (s.bytes.offline + s.bytes.online) as f64 / 1e9))),
    ("offline rounds", |s| Some(s.rounds.offline.to_string())),
    ("online rounds", |s| Some(s.rounds.online.to_string())),
    ("offline seconds", |s| Some(format!("{:.2}", s.seconds.offline))),
    ("online seconds", |s| Some(format!("{:.2}", s.seconds.online))),
];

fn percent(v: f64) -> String {
    format!("{v:.1} %")
}

fn megabytes(bytes: u64) -> String {
    format!("{:.3}", bytes as f64 / 1e6)
}
