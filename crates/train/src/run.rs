//! A folder per run, in the manner of timm: `args.toml`, `metrics.csv`, `last.safetensors`,
//! `best.safetensors`, and the state of each stage, from which a run goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use copriv_model::file::write_whole;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::TrainError;
use crate::checkpoint::Checkpoint;
use crate::fit::{Advance, Metrics, Progress, StageView, State};

const ARGS: &str = "args.toml";
const METRICS: &str = "metrics.csv";
/// The network after the last epoch.
pub const LAST: &str = "last.safetensors";
/// The network after the epoch that validated best.
pub const BEST: &str = "best.safetensors";
const STATE: &str = "state-";
const EXTENSION: &str = ".safetensors";

/// Writes a run's files and passes everything on to another receiver.
pub struct RunFolder<'a> {
    path: PathBuf,
    rows: Vec<Metrics>,
    inner: &'a mut dyn Progress,
    deadline: Option<Instant>,
}

impl<'a> RunFolder<'a> {
    /// Creates the folder and writes the resolved arguments. A run that lies there is replaced.
    ///
    /// # Errors
    /// The disk's, here and below.
    pub fn create(
        path: &Path,
        args: &impl Serialize,
        inner: &'a mut dyn Progress,
    ) -> Result<Self, TrainError> {
        fs::create_dir_all(path).map_err(TrainError::io(path))?;
        for entry in fs::read_dir(path).map_err(TrainError::io(path))? {
            let file = entry.map_err(TrainError::io(path))?.path();
            let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if name == METRICS || name.starts_with(STATE) && name.ends_with(EXTENSION) {
                fs::remove_file(&file).map_err(TrainError::io(&file))?;
            }
        }
        let file = path.join(ARGS);
        let text = toml::to_string(args).map_err(|e| TrainError::format(&file, e.to_string()))?;
        write_whole(&file, text.as_bytes())?;
        Ok(Self { path: path.to_owned(), rows: Vec::new(), inner, deadline: None })
    }

    /// The run that lies in `path`, to go on with, and its arguments.
    ///
    /// # Errors
    /// There is none, or a file of it cannot be read.
    pub fn open<T: DeserializeOwned>(
        path: &Path,
        inner: &'a mut dyn Progress,
    ) -> Result<(Self, T), TrainError> {
        let file = path.join(ARGS);
        let text = fs::read_to_string(&file).map_err(TrainError::io(&file))?;
        let args = toml::from_str(&text).map_err(|e| {
            TrainError::format(&file, format!("not the arguments of such a run ({})", e.message()))
        })?;
        let file = path.join(METRICS);
        let mut rows = Vec::new();
        if file.exists() {
            let mut table =
                csv::Reader::from_path(&file).map_err(|e| TrainError::format(&file, e.to_string()))?;
            for row in table.deserialize() {
                rows.push(row.map_err(|e| TrainError::format(&file, e.to_string()))?);
            }
        }
        Ok((Self { path: path.to_owned(), rows, inner, deadline: None }, args))
    }

    /// Stops the run after so much time, as an interruption would.
    #[must_use]
    pub fn with_time_limit(mut self, limit: Option<Duration>) -> Self {
        self.deadline = limit.map(|limit| Instant::now() + limit);
        self
    }

    /// Where the run lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `metrics.csv` holds.
    pub fn rows(&self) -> &[Metrics] {
        &self.rows
    }

    fn state_file(&self, stage: &str) -> PathBuf {
        self.path.join(format!("{STATE}{stage}{EXTENSION}"))
    }

    fn write_metrics(&self) -> Result<(), TrainError> {
        let file = self.path.join(METRICS);
        let mut table = csv::Writer::from_writer(Vec::new());
        let written = self.rows.iter().try_for_each(|row| table.serialize(row));
        written.map_err(|e| TrainError::format(&file, e.to_string()))?;
        let bytes = table.into_inner().map_err(|e| TrainError::format(&file, e.to_string()))?;
        Ok(write_whole(&file, &bytes)?)
    }
}

impl Progress for RunFolder<'_> {
    fn start(&mut self, stage: &StageView<'_>) {
        self.inner.start(stage);
    }

    fn advance(&mut self, step: &Advance) {
        self.inner.advance(step);
    }

    fn interrupted(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline) || self.inner.interrupted()
    }

    fn resume(&mut self, stage: &str) -> Result<Option<State>, TrainError> {
        let file = self.state_file(stage);
        let state = if file.exists() { Some(State::load(&file)?) } else { None };
        // Epochs that were reported but whose state was lost are done again.
        let over = state.as_ref().map_or(0, |s| s.position.epoch);
        self.rows.retain(|row| row.stage != stage || row.epoch <= over);
        Ok(state)
    }

    fn keep(&mut self, state: &State) -> Result<(), TrainError> {
        state.save(&self.state_file(&state.position.stage))
    }

    fn metrics(&mut self, row: &Metrics) -> Result<(), TrainError> {
        self.rows.push(row.clone());
        self.write_metrics()?;
        self.inner.metrics(row)
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint, best: bool) -> Result<(), TrainError> {
        checkpoint.save(&self.path.join(LAST))?;
        if best {
            checkpoint.save(&self.path.join(BEST))?;
        }
        self.inner.checkpoint(checkpoint, best)
    }

    fn finish(&mut self) {
        self.inner.finish();
    }
}
