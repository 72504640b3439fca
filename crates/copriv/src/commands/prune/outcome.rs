//! What a pruning found, as figures, pictures and a page.

use std::path::{Path, PathBuf};

use anyhow::Result;
use copriv_plan::LayerPrice;
use copriv_train::Checkpoint;
use copriv_train::net::Graph;
use copriv_train::rewrite::Masks;
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::pricing::{Bytes, Form, Priced, Pricer, figure};
use crate::report::{chart, pruning_page, write_into};

/// A block and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Block {
    pub name: String,
    pub form: Form,
    /// Its gate after the search; with masks, the share of its ReLUs that is left.
    pub alpha: f64,
    /// Bytes saved if it alone is freed.
    pub saving: f64,
    /// Why it is not merged when freed, if it is not.
    pub refused: Option<String>,
}

/// Of a selection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub blocks: Vec<Block>,
    /// The unpruned network, planned on the same terms.
    pub before: Bytes,
    /// With the freed blocks in their cheapest form.
    pub after: Bytes,
    /// Single ReLUs.
    pub relus_before: usize,
    pub relus_after: usize,
    /// What the limit counts.
    pub counts: String,
    /// Bytes of each block, and of the layers outside blocks.
    pub blocks_before: Vec<LayerPrice>,
    pub blocks_after: Vec<LayerPrice>,
}

/// What `--json` holds, and `copriv compare` reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub run: PathBuf,
    pub settings: Settings,
    #[serde(flatten)]
    pub report: Report,
    /// Percent of the validation split.
    pub validation_accuracy: f64,
}

impl Report {
    /// `after` was planned from the network that lost its rectifiers, `before` from the one that has all.
    pub fn new(
        start: &Checkpoint,
        (whole, before): (&Pricer<'_>, &Priced),
        (pruned, after): (&Pricer<'_>, &Priced),
        checkpoint: &Checkpoint,
        alpha: &[f64],
    ) -> Result<Self> {
        let states = checkpoint.kept_blocks();
        let block = |i: usize| Block {
            name: whole.blocks[i].name.clone(),
            // A block that masks have freed is in its linear form when it is left as it is.
            form: if after.forms[i] == Form::Kept && !states[i] { Form::Linear } else { after.forms[i] },
            alpha: alpha[i],
            saving: whole.blocks[i].saving,
            refused: whole.blocks[i].refused.clone(),
        };
        Ok(Self {
            blocks: (0..whole.blocks.len()).map(block).collect(),
            before: before.bytes,
            after: after.bytes,
            relus_before: start.graph.relu_count()?,
            relus_after: checkpoint.graph.relu_count()?,
            counts: whole.counts().to_owned(),
            blocks_before: whole.by_block(before),
            blocks_after: pruned.by_block(after),
        })
    }

    /// Names of the blocks that are cheaper as one convolution.
    pub fn merged(&self) -> Vec<String> {
        self.blocks.iter().filter(|b| b.form == Form::Merged).map(|b| b.name.clone()).collect()
    }

    /// Bytes that the limit counts.
    pub fn counted(&self, bytes: Bytes) -> u64 {
        if self.counts == "online" { bytes.online } else { bytes.offline + bytes.online }
    }

    /// Prints what became of each block, and the bytes.
    pub fn describe(&self) -> Result<()> {
        for block in &self.blocks {
            let (name, alpha, saving) = (&block.name, block.alpha, block.saving / 1e6);
            say!(
                "{name:>10}  alpha {alpha:.2}  {saving:>9.3} MB {} less without ReLUs  {}",
                self.counts,
                block.became()
            );
        }
        for (when, bytes, relus) in
            [("unpruned", self.before, self.relus_before), ("pruned", self.after, self.relus_after)]
        {
            let total = figure(bytes.offline + bytes.online);
            let (offline, online) = (figure(bytes.offline), figure(bytes.online));
            say!(
                "{when:>10}  planned {offline} offline + {online} online = {total} an inference, {relus} ReLUs"
            );
        }
        if !self.merged().is_empty() {
            say!("            to be exported with --merge {}", self.merged().join(","));
        }
        Ok(())
    }

    /// Bytes by block, before and after, on one axis (CoPriv's figure 9).
    pub fn charts(&self, name: &str) -> Result<[String; 2]> {
        let bars = |of: &[LayerPrice]| of.iter().map(chart::Bar::from).collect::<Vec<_>>();
        let all = [("unpruned", bars(&self.blocks_before)), ("pruned", bars(&self.blocks_after))];
        let axis = all.iter().flat_map(|(_, bars)| bars).map(chart::Bar::bytes).max();
        let draw = |(when, bars): &(&str, Vec<chart::Bar>)| {
            chart::stacked(&format!("{name}, {when}: bytes by block"), bars, axis)
        };
        Ok([draw(&all[0])?, draw(&all[1])?])
    }
}

impl Block {
    /// In words.
    pub fn became(&self) -> String {
        match self.form {
            Form::Kept => "keeps its ReLUs".to_owned(),
            Form::Merged => "merged".to_owned(),
            Form::Linear => format!(
                "linear, not merged: {}",
                self.refused.as_deref().unwrap_or("that costs more beside its neighbours")
            ),
        }
    }
}

impl Outcome {
    /// Writes the charts and the page into the run's folder.
    pub fn draw(&self, folder: &Path) -> Result<()> {
        let [before, after] = self.report.charts(&self.settings.title())?;
        write_into(folder, "blocks-unpruned.svg", &before)?;
        write_into(folder, "blocks-pruned.svg", &after)?;
        write_into(folder, "report.html", &pruning_page(std::slice::from_ref(self))?)
    }
}

/// By block of `start`, the share of its ReLUs that masks leave.
pub fn kept_share(start: &Checkpoint, masks: &Masks) -> Vec<f64> {
    let of_block = |relus: &[String]| {
        let (mut kept, mut all) = (0, 0);
        for mask in relus.iter().filter_map(|relu| masks.get(relu)) {
            (kept, all) = (kept + mask.count(true), all + mask.len());
        }
        if all > 0 { kept as f64 / all as f64 } else { 1.0 }
    };
    let graph: &Graph = &start.graph;
    graph.blocks.iter().map(|block| of_block(&block.relus)).collect()
}
