//! What every benchmark of the project ends with: a table for people and
//! `target/bench/NAME.json` for programs, rows of `{name, params, value, unit}`.
#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use serde_json::{Map, Value};

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// On what: widths, sizes, presets.
    pub params: Map<String, Value>,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
}

/// The rows of one benchmark.
#[derive(Clone, Debug, Default)]
pub struct Results {
    rows: Vec<Row>,
}

impl Results {
    /// Adds a figure.
    pub fn push(&mut self, name: &str, params: &[(&str, Value)], value: f64, unit: &'static str) {
        let params = params.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        self.rows.push(Row { name: name.to_owned(), params, value, unit });
    }

    /// Prints the table and writes `target/bench/{name}.json`, whose path is returned.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(&self, name: &str) -> io::Result<PathBuf> {
        println!("{}", self.table());
        let folder = target().join("bench");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{name}.json"));
        std::fs::write(&path, serde_json::to_string_pretty(&self.rows)? + "\n")?;
        println!("{}", path.display());
        Ok(path)
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(["name", "parameters", "value", "unit"]);
        for row in &self.rows {
            let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            let params: Vec<String> = row.params.iter().map(|(k, v)| format!("{k} {}", text(v))).collect();
            table.add_row([row.name.clone(), params.join(", "), figure(row.value), row.unit.to_owned()]);
        }
        if let Some(column) = table.column_mut(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

/// Four significant digits or so.
fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{:.1} M", value / 1e6),
        v if v >= 100.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// Cargo's target folder: the one that the running benchmark lies in.
fn target() -> PathBuf {
    let built = std::env::current_exe().ok();
    let folder = built.as_deref().and_then(|exe| exe.ancestors().find(|p| p.join("CACHEDIR.TAG").exists()));
    folder.map_or_else(|| PathBuf::from("target"), PathBuf::from)
}
