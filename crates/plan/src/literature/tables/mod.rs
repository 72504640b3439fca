//! The papers' tables again: each printed figure beside what this project's formulas and plans give,
//! with the arithmetic of every disagreement.

mod copriv;
mod networks;
mod privquant;

use serde::Serialize;

use super::figures::{self, Printed};
use crate::PlanError;
use crate::architectures::ArchitectureError;

/// Printed and computed figures that differ by more need an explanation.
pub const AGREE_WITHIN: f64 = 0.01;

/// A table, reproduced.
#[derive(Clone, Debug)]
pub struct Table {
    /// Which.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// Where the printed figures are from.
    pub source: String,
    /// In order.
    pub rows: Vec<Row>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its table.
    pub table: String,
    /// What it says.
    pub row: String,
    /// As printed or measured by others; absent where nothing is known.
    pub paper: Option<f64>,
    /// As computed here; absent where nothing can be.
    pub ours: Option<f64>,
    /// Of both.
    pub unit: String,
    /// Why they differ, or what the figure is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Why an architecture of the tables cannot be priced.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It cannot be built.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// It cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// `figures.toml` has no such table.
    #[error("figures.toml has no table `{0}`")]
    Missing(String),
}

/// Every table.
///
/// # Errors
/// An architecture that cannot be built or planned: a bug.
pub fn all() -> Result<Vec<Table>, TableError> {
    let mut tables = copriv::tables()?;
    tables.extend(privquant::tables()?);
    tables.push(networks::literature()?);
    Ok(tables)
}

impl Row {
    /// `ours / paper - 1`.
    pub fn deviation(&self) -> Option<f64> {
        Some(self.ours? / self.paper? - 1.0)
    }
}

/// Puts computed figures beside the printed ones of one table.
struct Builder {
    printed: &'static Printed,
    rows: Vec<Row>,
}

impl Builder {
    fn new(name: &str) -> Result<Self, TableError> {
        let printed = figures::table(name).ok_or_else(|| TableError::Missing(name.to_owned()))?;
        Ok(Self { printed, rows: Vec::new() })
    }

    /// A row that the paper has, or none of that name.
    fn row(&mut self, row: &str, ours: impl Into<Option<f64>>, note: Option<String>) -> &mut Self {
        let printed = self.printed.rows.iter().find(|p| p.row == row);
        let unit = printed.and_then(|p| p.unit.clone()).unwrap_or_else(|| self.printed.unit.clone());
        self.push(row, printed.map(|p| p.paper), ours.into(), unit, note)
    }

    /// A row of ours beside the figure of another.
    fn beside(&mut self, other: &str, row: &str, ours: f64, note: Option<String>) -> &mut Self {
        let paper = self.printed.rows.iter().find(|p| p.row == other).map(|p| p.paper);
        self.push(row, paper, Some(ours), self.printed.unit.clone(), note)
    }

    /// A printed figure that nothing here computes; ignored if the table has none of that name.
    fn printed_only(&mut self, row: &str, why: &str) {
        if self.printed.rows.iter().any(|p| p.row == row) {
            self.row(row, None, Some(why.to_owned()));
        }
    }

    fn push(
        &mut self,
        row: &str,
        paper: Option<f64>,
        ours: Option<f64>,
        unit: String,
        note: Option<String>,
    ) -> &mut Self {
        self.rows.push(Row {
            table: self.printed.name.clone(),
            row: row.to_owned(),
            paper,
            ours,
            unit,
            note,
        });
        self
    }

    fn finish(self) -> Table {
        Table {
            name: self.printed.name.clone(),
            about: self.printed.about.clone(),
            source: self.printed.source.clone(),
            rows: self.rows,
        }
    }
}
