//! `copriv reproduce`: what papers print, and what comes out here.

mod presets;
mod pruning;

use std::ops::Range;

use anyhow::Result;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table as Grid};
use copriv_plan::literature::tables::{self, Row, Table};

use crate::cli::{self, Reproduction};
use crate::report::write_json;

pub fn run(args: &cli::Reproduce) -> Result<()> {
    match args.what {
        Reproduction::Tables => tables(args),
        Reproduction::Pruning => pruning::run(args),
    }
}

fn tables(args: &cli::Reproduce) -> Result<()> {
    let tables = tables::all()?;
    let presets = presets::all()?;
    if let Some(path) = &args.json {
        let rows = tables.iter().flat_map(|t| t.rows.clone());
        let rows: Vec<Row> = rows.chain(presets.iter().flat_map(presets::Priced::rows)).collect();
        write_json(&rows, path)?;
    }
    if args.json.as_deref() != Some("-".as_ref()) {
        for table in &tables {
            say!("{}: {}\n{}", table.name, table.about, grid(table));
            for row in &table.rows {
                if let Some(note) = &row.note {
                    say!("  {}: {note}", row.row);
                }
            }
            say!("  Source: {}\n", table.source);
        }
        say!("{}\n{}", presets::ABOUT, presets::grid(&presets));
    }
    Ok(())
}

fn grid(table: &Table) -> Grid {
    let mut grid = aligned(&["", "printed", "here", "unit", "difference"], 1..5);
    let cell = |figure: Option<f64>| figure.map_or(String::new(), figure_of);
    for row in &table.rows {
        let difference = row.deviation().map_or(String::new(), |d| format!("{:+.1} %", 100.0 * d));
        grid.add_row([row.row.clone(), cell(row.paper), cell(row.ours), row.unit.clone(), difference]);
    }
    grid
}

/// An empty table with some columns of figures.
fn aligned(header: &[impl ToString], figures: Range<usize>) -> Grid {
    let mut grid = Grid::new();
    grid.load_style(UTF8_FULL_CONDENSED).set_header(header.iter().map(ToString::to_string));
    for column in figures {
        if let Some(column) = grid.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    grid
}

/// Four significant digits.
fn figure_of(value: f64) -> String {
    let digits = 3 - (value.abs().max(1e-3).log10().floor() as i32);
    format!("{value:.*}", digits.clamp(0, 4) as usize)
}
