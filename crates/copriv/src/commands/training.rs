//! What the training commands share: a run in a folder that can be stopped and gone on with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use copriv_train::data::{self, Dataset};
use copriv_train::run::LAST;
use copriv_train::{Metrics, RunFolder, TrainError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::interrupt;
use crate::progress::Terminal;
use crate::report::{curves, write_into};

/// A run's arguments, all resolved: what `args.toml` holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments<C> {
    pub dataset: String,
    pub data_dir: PathBuf,
    pub config: C,
}

impl<C> Arguments<C> {
    /// A run on `dataset`, which it finds again from anywhere.
    pub fn new(dataset: &str, data_dir: &Path, config: C) -> Result<Self> {
        let data_dir = std::path::absolute(data_dir).context("the data's folder")?;
        Ok(Self { dataset: dataset.to_owned(), data_dir, config })
    }

    /// Loads the data set.
    pub fn load(&self) -> Result<Dataset> {
        Ok(data::load(&self.dataset, &self.data_dir)?)
    }
}

/// A run that was stopped on request; its state is kept.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unfinished(String);

/// Runs `work` in the folder `path` for at most `limit`: a new run of `new`, or without it the one
/// that lies there. Draws the curves at the end.
pub fn in_folder<C: Serialize + DeserializeOwned, T>(
    path: &Path,
    new: Option<Arguments<C>>,
    limit: Option<Duration>,
    work: impl FnOnce(&Arguments<C>, &mut RunFolder<'_>) -> Result<T>,
) -> Result<T> {
    interrupt::watch();
    let mut terminal = Terminal::default();
    let (run, args) = match new {
        Some(args) => (RunFolder::create(path, &args, &mut terminal)?, args),
        None => RunFolder::open(path, &mut terminal)?,
    };
    let mut run = run.with_time_limit(limit);
    let outcome = work(&args, &mut run);
    let drawn = draw(path, run.rows());
    let outcome = outcome.map_err(|error| match error.downcast_ref() {
        Some(TrainError::Interrupted { .. }) => {
            anyhow!(Unfinished(format!("{error}; go on with --resume {}", path.display())))
        }
        _ if path.join(LAST).exists() => {
            anyhow!("{error:#}; {} is the last good checkpoint", path.join(LAST).display())
        }
        _ => error,
    });
    outcome.and_then(|outcome| drawn.map(|()| outcome))
}

/// Writes the curves of a run that has some.
fn draw(path: &Path, rows: &[Metrics]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let svg = curves(&path.display().to_string(), rows)?;
    write_into(path, "curves.svg", &svg)
}
