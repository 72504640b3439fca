//! All that a stage of training needs to go on exactly where it stopped, in one file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::checkpoint::{read_tensors, write_tensors};
use crate::net::Weights;
use crate::search::Search;

/// Key of the position in the file's metadata.
const KEY: &str = "copriv-state";
/// Changes whenever an older program could misread a file.
const VERSION: u32 = 2;
/// Names of [`State::scales`] in the file.
const SCALES: [&str; 3] = ["scales", "scales-first", "scales-second"];

/// The state of a stage between two steps. The order of the images and their augmentation follow
/// from the seed, the epoch and the position, so nothing random is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Where it is.
    pub position: Position,
    /// The network; when the stage is done, its result.
    pub weights: Weights,
    /// Averages of the optimiser.
    pub moments: [Weights; 2],
    /// Moving average of the weights, empty without one.
    pub average: Weights,
    /// The best weights so far, empty where the last ones are the result.
    pub kept: Weights,
    /// Learned scales and their averages, empty where none are learned; when the stage is done, the
    /// result's.
    pub scales: [Weights; 3],
    /// The scales of the best weights.
    pub kept_scales: Weights,
}

/// How far a stage is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    pub(super) version: u32,
    /// Name of the stage.
    pub stage: String,
    /// Whether it is over.
    pub done: bool,
    /// Epochs that are over.
    pub epoch: usize,
    /// Steps of the current epoch that are over.
    pub step: usize,
    /// Images of the training split, which order and position refer to.
    pub images: usize,
    /// Sum of the losses in this epoch.
    pub loss: f64,
    /// Images classified correctly in this epoch.
    pub right: u64,
    /// Wall time of this epoch.
    pub seconds: f64,
    /// Best validation accuracy so far.
    pub best: Option<f64>,
    /// Steps of the optimiser.
    pub optimizer_steps: u64,
    /// What a pruning searches for.
    pub(crate) search: Option<Search>,
}

impl Position {
    pub(super) fn new(stage: &str, images: usize) -> Self {
        Self {
            version: VERSION,
            stage: stage.to_owned(),
            done: false,
            epoch: 0,
            step: 0,
            images,
            loss: 0.0,
            right: 0,
            seconds: 0.0,
            best: None,
            optimizer_steps: 0,
            search: None,
        }
    }
}

impl State {
    pub(super) fn new(position: Position) -> Self {
        let [weights, first, second, average, kept, kept_scales] = Default::default();
        Self {
            position,
            weights,
            moments: [first, second],
            average,
            kept,
            scales: Default::default(),
            kept_scales,
        }
    }

    /// Writes the whole file or none.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        // TOML, unlike JSON, keeps every bit of a number and knows infinity.
        let header = toml::to_string(&self.position).map_err(|e| TrainError::format(path, e.to_string()))?;
        let parts = self.parts();
        let named = parts.iter().flat_map(|(part, weights)| {
            weights.iter().map(move |(name, array)| (format!("{part}/{name}"), array))
        });
        write_tensors(path, KEY, header, named)
    }

    /// Reads a file that [`State::save`] wrote.
    ///
    /// # Errors
    /// An absent, truncated or foreign file.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let (header, tensors) = read_tensors(path, KEY, "a training state")?;
        let foreign = |reason: &str| {
            TrainError::format(path, format!("not a training state of this version ({reason})"))
        };
        let position: Position = toml::from_str(&header).map_err(|e| foreign(e.message()))?;
        if position.version != VERSION {
            return Err(foreign(&format!("format {}, this program reads {VERSION}", position.version)));
        }
        let mut parts: BTreeMap<String, Weights> = BTreeMap::new();
        for (name, array) in tensors {
            let (part, name) = name.split_once('/').ok_or_else(|| foreign("an unnamed part"))?;
            parts.entry(part.to_owned()).or_default().insert(name, array);
        }
        let mut take = |part: &str| parts.remove(part).unwrap_or_default();
        let state = Self {
            position,
            weights: take("weights"),
            moments: [take("first"), take("second")],
            average: take("average"),
            kept: take("kept"),
            scales: SCALES.map(&mut take),
            kept_scales: take("kept-scales"),
        };
        if parts.is_empty() { Ok(state) } else { Err(foreign("an unknown part")) }
    }

    fn parts(&self) -> [(&'static str, &Weights); 9] {
        let [first, second] = &self.moments;
        let Self { weights, average, kept, scales: [scales, mean, square], kept_scales, .. } = self;
        let [scales_part, mean_part, square_part] = SCALES;
        [
            ("weights", weights),
            ("first", first),
            ("second", second),
            ("average", average),
            ("kept", kept),
            (scales_part, scales),
            (mean_part, mean),
            (square_part, square),
            ("kept-scales", kept_scales),
        ]
    }
}
