//! A folder per run, in the manner of timm: `args.json`, `metrics.csv`, `last.safetensors`,
//! `best.safetensors`.

use std::fs;
use std::path::{Path, PathBuf};

use copriv_model::file::write_whole;
use serde::Serialize;

use crate::TrainError;
use crate::checkpoint::Checkpoint;
use crate::fit::{Metrics, Progress};

/// Writes a run's files and passes everything on to another receiver.
pub struct RunFolder<'a> {
    path: PathBuf,
    rows: Vec<Metrics>,
    inner: &'a mut dyn Progress,
}

impl<'a> RunFolder<'a> {
    /// Creates the folder and writes the resolved arguments.
    ///
    /// # Errors
    /// The disk's, here and below.
    pub fn create(
        path: &Path,
        args: &impl Serialize,
        inner: &'a mut dyn Progress,
    ) -> Result<Self, TrainError> {
        fs::create_dir_all(path).map_err(TrainError::io(path))?;
        let file = path.join("args.json");
        let json = serde_json::to_vec_pretty(args).map_err(|e| TrainError::format(&file, e.to_string()))?;
        write_whole(&file, &json)?;
        Ok(Self { path: path.to_owned(), rows: Vec::new(), inner })
    }

    /// Where the run lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Progress for RunFolder<'_> {
    fn start(&mut self, label: &str, total: u64) {
        self.inner.start(label, total);
    }

    fn advance(&mut self, units: u64) {
        self.inner.advance(units);
    }

    fn metrics(&mut self, row: &Metrics) -> Result<(), TrainError> {
        self.rows.push(row.clone());
        let file = self.path.join("metrics.csv");
        let mut table = csv::Writer::from_writer(Vec::new());
        let written = self.rows.iter().try_for_each(|row| table.serialize(row));
        written.map_err(|e| TrainError::format(&file, e.to_string()))?;
        let bytes = table.into_inner().map_err(|e| TrainError::format(&file, e.to_string()))?;
        write_whole(&file, &bytes)?;
        self.inner.metrics(row)
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint, best: bool) -> Result<(), TrainError> {
        checkpoint.save(&self.path.join("last.safetensors"))?;
        if best {
            checkpoint.save(&self.path.join("best.safetensors"))?;
        }
        self.inner.checkpoint(checkpoint, best)
    }

    fn finish(&mut self) {
        self.inner.finish();
    }
}
