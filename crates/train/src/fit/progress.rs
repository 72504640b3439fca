//! What a long run tells its caller.

use serde::{Deserialize, Serialize};

use super::State;
use crate::TrainError;
use crate::checkpoint::Checkpoint;

/// One line of `metrics.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Part of the recipe: `train`, `search`, `finetune`, `qat`.
    pub stage: String,
    /// Counted from 1 within the stage.
    pub epoch: usize,
    /// Mean training loss of an image.
    pub loss: f64,
    /// Share of training images classified correctly, percent, with augmentation.
    pub train_accuracy: f64,
    /// Share of validation images classified correctly, percent.
    pub accuracy: f64,
    /// Learning rate of the last step.
    pub rate: f64,
    /// Wall time of the epoch, validation included.
    pub seconds: f64,
}

/// A stage that begins, or goes on.
#[derive(Clone, Copy, Debug)]
pub struct StageView<'a> {
    /// Its name.
    pub label: &'a str,
    /// Its epochs.
    pub epochs: usize,
    /// Steps an epoch.
    pub steps: usize,
    /// Steps that are over.
    pub done: usize,
}

/// One step.
#[derive(Clone, Copy, Debug)]
pub struct Advance {
    /// The current epoch, counted from 0.
    pub epoch: usize,
    /// Images in the step.
    pub images: usize,
    /// Their mean loss.
    pub loss: f64,
    /// Images of this epoch so far.
    pub seen: usize,
    /// Those of them that were classified correctly.
    pub right: usize,
}

/// Receives the progress of a run. All methods default to doing nothing.
pub trait Progress {
    /// A stage begins.
    fn start(&mut self, stage: &StageView<'_>) {
        let _ = stage;
    }

    /// A step is done.
    fn advance(&mut self, step: &Advance) {
        let _ = step;
    }

    /// Whether the run is to stop at the next step; it keeps its state then.
    fn interrupted(&self) -> bool {
        false
    }

    /// The state that was kept of a stage.
    ///
    /// # Errors
    /// There is one that cannot be read.
    fn resume(&mut self, stage: &str) -> Result<Option<State>, TrainError> {
        let _ = stage;
        Ok(None)
    }

    /// Keeps what [`Progress::resume`] is to return later on.
    ///
    /// # Errors
    /// It cannot be kept; the run ends.
    fn keep(&mut self, state: &State) -> Result<(), TrainError> {
        let _ = state;
        Ok(())
    }

    /// An epoch is over.
    ///
    /// # Errors
    /// The receiver cannot keep what it got; the run ends.
    fn metrics(&mut self, row: &Metrics) -> Result<(), TrainError> {
        let _ = row;
        Ok(())
    }

    /// The state after an epoch; `best` says that no earlier epoch of the stage validated
    /// better.
    ///
    /// # Errors
    /// As above.
    fn checkpoint(&mut self, checkpoint: &Checkpoint, best: bool) -> Result<(), TrainError> {
        let _ = (checkpoint, best);
        Ok(())
    }

    /// The stage is over.
    fn finish(&mut self) {}
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
