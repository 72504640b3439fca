//! Printed figures with their sources (`figures.toml`).

use std::sync::LazyLock;

use serde::Deserialize;

/// One table of a paper.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Printed {
    /// Which.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// Where the figures are from.
    pub source: String,
    /// Unit of its rows.
    pub unit: String,
    /// Its figures.
    pub rows: Vec<PrintedRow>,
}

/// One figure.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrintedRow {
    /// What it says.
    pub row: String,
    /// As printed.
    pub paper: f64,
    /// If not the table's.
    pub unit: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    table: Vec<Printed>,
}

static TABLES: LazyLock<Vec<Printed>> = LazyLock::new(|| {
    let file: File =
        toml::from_str(include_str!("figures.toml")).expect("figures.toml is part of the program");
    file.table
});

/// All tables.
pub fn tables() -> &'static [Printed] {
    &TABLES
}

/// The table called `name`.
pub fn table(name: &str) -> Option<&'static Printed> {
    TABLES.iter().find(|t| t.name == name)
}
