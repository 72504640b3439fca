//! What a long run tells its caller.

use serde::Serialize;

use crate::TrainError;
use crate::checkpoint::Checkpoint;

/// One line of `metrics.csv`.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    /// Wall time of the epoch, validation included.
    pub seconds: f64,
}

/// Receives the progress of a run. All methods default to doing nothing.
pub trait Progress {
    /// A stage of `total` units begins.
    fn start(&mut self, label: &str, total: u64) {
        let _ = (label, total);
    }

    /// So many units are done.
    fn advance(&mut self, units: u64) {
        let _ = units;
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
