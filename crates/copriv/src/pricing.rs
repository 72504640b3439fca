//! What a network costs with some of its blocks freed of their rectifiers, by the planner.

use anyhow::{Context, Result};
use copriv_infer2pc::Terms;
use copriv_plan::{Choice, Flavour, LayerPrice, Objective, Plan, Prediction};
use copriv_train::net::{Block, Graph};
use copriv_train::prune::free_blocks;
use copriv_train::quant::QuantConfig;
use copriv_train::rewrite::{fold_graph, merge_graph, mergeable, move_padding};
use copriv_train::{Checkpoint, fixed_point, structure};
use serde::{Deserialize, Serialize};

/// Inferences of the session that a network is priced in: long enough for Ferret's iterations to
/// even out.
const SESSION: u32 = 32;

/// Which integers are priced.
#[derive(Clone, Debug)]
pub enum Widths {
    /// What an export with these widths will have.
    Export(QuantConfig),
    /// The papers' fixed point.
    Fixed {
        /// `l`.
        ring: u32,
        /// Fractional bits.
        scale: u32,
    },
}

/// What becomes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// It keeps its rectifiers.
    Kept,
    /// It has none, and keeps its convolutions.
    Linear,
    /// It is one convolution.
    Merged,
}

/// Bytes of one inference, both directions, set-up aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bytes {
    /// Before the input is known.
    pub offline: u64,
    /// Afterwards.
    pub online: u64,
}

/// One block's choice and what it rests on.
#[derive(Clone, Debug, Serialize)]
pub struct BlockPrice {
    /// Its name.
    pub name: String,
    /// The cheapest form without rectifiers.
    pub freed: Form,
    /// `Comm(1) - Comm(0)`: bytes of the whole network saved when this block alone is freed.
    pub saving: f64,
    /// Why it is not merged, if it is not.
    pub refused: Option<String>,
}

/// A selection, priced.
#[derive(Clone, Debug)]
pub struct Priced {
    /// By block.
    pub forms: Vec<Form>,
    /// Of the whole network.
    pub bytes: Bytes,
    /// Means over a session.
    pub layers: Prediction,
}

/// Prices one network in whatever form its blocks are.
pub struct Pricer<'a> {
    graph: &'a Graph,
    network: &'a Checkpoint,
    widths: Widths,
    choice: Choice,
    /// One rectifier behind each block without any inside.
    activation: bool,
    /// Whether exactly one convolution can replace a block.
    exact: Vec<bool>,
    /// The network as it is.
    pub before: Priced,
    /// Its blocks.
    pub blocks: Vec<BlockPrice>,
}

impl<'a> Pricer<'a> {
    /// Prices every block of `network` on these terms; with `activation`, one rectifier behind each block that
    /// has none inside is part of the price.
    ///
    /// # Errors
    /// A network that the integer model or the planner refuses.
    pub fn new(network: &'a Checkpoint, widths: Widths, terms: Terms, activation: bool) -> Result<Self> {
        let graph = &network.graph;
        let plan = terms.plan(&integers(graph, network, &widths)?, SESSION);
        let choice = plan.context("the network cannot be priced")?.choice;
        let kept = vec![Form::Kept; graph.blocks.len()];
        let exact = mergeable(&move_padding(graph, &vec![true; kept.len()])?)?;
        let before = Priced { forms: kept.clone(), bytes: Bytes::default(), layers: Prediction::default() };
        let mut pricer =
            Self { graph, network, widths, choice, activation, exact, before, blocks: Vec::new() };
        pricer.before = pricer.price(&kept)?;
        pricer.blocks =
            (0..kept.len()).map(|i| pricer.block(i)).collect::<Result<_>>().context("the blocks' prices")?;
        Ok(pricer)
    }

    /// What the choice's objective counts.
    pub fn counted(&self, bytes: Bytes) -> u64 {
        match self.choice.objective {
            Objective::Online => bytes.online,
            Objective::Total | Objective::Latency(_) => bytes.offline + bytes.online,
        }
    }

    /// The same in words.
    pub fn counts(&self) -> &'static str {
        match self.choice.objective {
            Objective::Online => "online",
            Objective::Total | Objective::Latency(_) => "offline and online",
        }
    }

    /// `Comm(1) - Comm(0)` of every block.
    pub fn savings(&self) -> Vec<f64> {
        self.blocks.iter().map(|b| b.saving).collect()
    }

    /// The network that keeps these blocks' rectifiers, each other block in its cheapest form:
    /// alone first, then beside its neighbours.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn selection(&self, keep: &[bool]) -> Result<Priced> {
        let alone = |(keep, block): (&bool, &BlockPrice)| if *keep { Form::Kept } else { block.freed };
        let mut best = self.price(&keep.iter().zip(&self.blocks).map(alone).collect::<Vec<_>>())?;
        for i in (0..keep.len()).filter(|&i| !keep[i] && self.exact[i]) {
            let mut forms = best.forms.clone();
            forms[i] = if forms[i] == Form::Merged { Form::Linear } else { Form::Merged };
            let other = self.price(&forms)?;
            if self.value(other.bytes) < self.value(best.bytes) {
                best = other;
            }
        }
        Ok(best)
    }

    /// Frees blocks, those first that save most, until the whole network's bytes are enough for
    /// `fits`, and says whether they came to be.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn freed_until(&self, fits: impl Fn(Bytes) -> bool) -> Result<(Priced, bool)> {
        let mut order: Vec<usize> = (0..self.blocks.len()).filter(|&i| self.blocks[i].saving > 0.0).collect();
        order.sort_by(|&a, &b| self.blocks[b].saving.total_cmp(&self.blocks[a].saving));
        let mut keep = vec![true; self.blocks.len()];
        let mut priced = self.before.clone();
        for i in order {
            if fits(priced.bytes) {
                break;
            }
            keep[i] = false;
            priced = self.selection(&keep)?;
        }
        let met = fits(priced.bytes);
        Ok((priced, met))
    }

    /// Whether any selection of blocks meets `limit`.
    ///
    /// # Errors
    /// None does; the message has the smallest reachable figure.
    pub fn check_limit(&self, limit: u64) -> Result<()> {
        let (least, met) = self.freed_until(|bytes| self.counted(bytes) <= limit)?;
        anyhow::ensure!(
            met,
            "a limit of {} cannot be met: with every block freed that is cheaper without its ReLUs the network \
             still costs {} {}; allow that much, or choose smaller widths or another preset",
            figure(limit),
            figure(self.counted(least.bytes)),
            self.counts()
        );
        Ok(())
    }

    /// Bytes by block: a layer's belong to the block whose name its own begins with.
    pub fn by_block(&self, priced: &Priced) -> Vec<LayerPrice> {
        let mut blocks = Prediction::default();
        for layer in &priced.layers.layers {
            let inside =
                |block: &&Block| layer.name.strip_prefix(&block.name).is_some_and(|n| n.starts_with('.'));
            let outside = layer.name.split('.').next().unwrap_or(&layer.name);
            let name = self.graph.blocks.iter().find(inside).map_or(outside, |block| &block.name);
            let price = blocks.layer_mut(name);
            price.offline += layer.offline;
            price.online += layer.online;
        }
        blocks.layers
    }

    /// The network in these forms, as it is to be finetuned: nothing is merged yet, but merging will change
    /// nothing.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn freed(&self, forms: &[Form]) -> Result<Graph> {
        let is = |form| forms.iter().map(|f| *f == form).collect::<Vec<bool>>();
        let freed = free_blocks(self.graph, &is(Form::Kept), self.activation)?;
        Ok(move_padding(&freed, &is(Form::Merged))?)
    }

    /// The network in these forms.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn price(&self, forms: &[Form]) -> Result<Priced> {
        let merged: Vec<bool> = forms.iter().map(|f| *f == Form::Merged).collect();
        let graph = merge_graph(&fold_graph(&self.freed(forms)?), &merged)?;
        let layers = self.bytes_of(&graph)?;
        let bytes = Bytes { offline: layers.offline().bytes(), online: layers.online().bytes() };
        Ok(Priced { forms: forms.to_vec(), bytes, layers })
    }

    /// What the choice's objective counts of any other network for the same images.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn other(&self, graph: &Graph) -> Result<u64> {
        let layers = self.bytes_of(graph)?;
        Ok(self.counted(Bytes { offline: layers.offline().bytes(), online: layers.online().bytes() }))
    }

    fn bytes_of(&self, graph: &Graph) -> Result<Prediction> {
        let plan = Plan::new(&integers(graph, self.network, &self.widths)?, self.choice)?;
        // Only Ferret's inferences differ.
        let inferences = if self.choice.flavour == Flavour::Ferret { u64::from(SESSION) } else { 1 };
        Ok(plan.predict_session(inferences).mean(inferences))
    }

    fn block(&self, i: usize) -> Result<BlockPrice> {
        let block = &self.graph.blocks[i];
        let with = |form| {
            let mut forms = vec![Form::Kept; self.graph.blocks.len()];
            forms[i] = form;
            Ok::<_, anyhow::Error>(self.price(&forms)?.bytes)
        };
        let linear = with(Form::Linear)?;
        let (freed, bytes, refused) = if self.exact[i] {
            let merged = with(Form::Merged)?;
            if self.value(merged) < self.value(linear) {
                (Form::Merged, merged, None)
            } else {
                let more = self.counted(merged).saturating_sub(self.counted(linear));
                (Form::Linear, linear, Some(format!("merged it would cost {} more", figure(more))))
            }
        } else {
            (Form::Linear, linear, Some("no one convolution computes the same".to_owned()))
        };
        let saving = self.counted(self.before.bytes) as f64 - self.counted(bytes) as f64;
        Ok(BlockPrice { name: block.name.clone(), freed, saving, refused })
    }

    /// What is to be small; of equals, the other phase.
    fn value(&self, bytes: Bytes) -> (u64, u64) {
        (self.counted(bytes), bytes.offline + bytes.online)
    }
}

fn integers(graph: &Graph, network: &Checkpoint, widths: &Widths) -> Result<copriv_model::Graph> {
    Ok(match widths {
        Widths::Export(quant) => structure(graph, &network.classes, network.pixels, quant)?,
        Widths::Fixed { ring, scale } => fixed_point(graph, *ring, *scale)?,
    })
}

/// Bytes for people.
pub fn figure(bytes: u64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.3} GB", bytes as f64 / 1e9),
        1_000_000.. => format!("{:.3} MB", bytes as f64 / 1e6),
        _ => format!("{:.3} kB", bytes as f64 / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use copriv_plan::Preset;
    use copriv_plan::architectures::{Numbers, named};
    use copriv_train::data::{self, EMBEDDED};
    use copriv_train::untrained;

    use super::*;

    fn tiny() -> Checkpoint {
        untrained("mbv2-tiny", &data::load(EMBEDDED, "data".as_ref()).unwrap(), 0).unwrap()
    }

    /// The papers' networks are built twice, here from the one that is trained.
    #[test]
    fn fixed_point_prices_are_those_of_the_named_architecture() {
        let graph = copriv_train::Arch::parse("mbv2-w0.75").unwrap().build([3, 32, 32], 100).unwrap();
        let choice = Choice { preset: Preset::Cryptflow2, flavour: Flavour::Iknp, ..Choice::default() };
        let bytes = |graph: &copriv_model::Graph| Plan::new(graph, choice).unwrap().predict().total_bytes();
        let known = named("mbv2-w0.75", Numbers::FixedPoint { ring: 41, scale: 12 }).unwrap();
        assert_eq!(bytes(&fixed_point(&graph, 41, 12).unwrap()), bytes(&known));
    }

    /// The rectifier behind freed blocks has its price, and two padded convolutions may be one.
    #[test]
    fn activations_behind_blocks_are_priced_and_resnet_blocks_have_all_three_forms() {
        let data = data::load(EMBEDDED, "data".as_ref()).unwrap();
        let network = untrained("resnet20", &data, 0).unwrap();
        let terms = Terms { preset: Preset::Cryptflow2, ..crate::cli::TermsArgs::default().into() };
        let [with, without] = [true, false]
            .map(|on| Pricer::new(&network, Widths::Fixed { ring: 41, scale: 12 }, terms, on).unwrap());
        let before = with.before.bytes.online;
        for forms in [vec![Form::Linear; 9], vec![Form::Merged; 9]] {
            let [with, without] = [&with, &without].map(|p| p.price(&forms).unwrap().bytes);
            assert!(with.online > without.online, "{forms:?}");
            assert!(with.online < before, "{forms:?}");
        }
        let freed = with.freed(&[Form::Merged; 9]).unwrap();
        assert!(mergeable(&freed).unwrap().iter().all(|m| *m), "what is finetuned can be merged");
    }

    #[test]
    fn a_limit_is_met_by_the_whole_network_or_refused_with_the_least_there_is() {
        let network = tiny();
        let terms = Terms { flavour: Some(Flavour::SoftSpoken8), ..crate::cli::TermsArgs::default().into() };
        let pricer = Pricer::new(&network, Widths::Export(QuantConfig::default()), terms, true).unwrap();
        let before = pricer.counted(pricer.before.bytes);
        let (free, met) = pricer.freed_until(|_| false).unwrap();
        let least = pricer.counted(free.bytes);
        assert!(!met && least < before);
        let limit = (before + least) / 2;
        let (priced, met) = pricer.freed_until(|b| pricer.counted(b) <= limit).unwrap();
        assert!(met && pricer.counted(priced.bytes) <= limit);
        assert!(priced.forms.contains(&Form::Kept));
        // Each block that is not merged has a reason, each form is the cheaper one where it stands.
        assert!(pricer.blocks.iter().all(|b| (b.freed == Form::Merged) == b.refused.is_none()));
        for other in [Form::Linear, Form::Merged] {
            let all = vec![other; free.forms.len()];
            assert!(least <= pricer.counted(pricer.price(&all).unwrap().bytes), "{other:?}");
        }
        let message = pricer.check_limit(least - 1).unwrap_err().to_string();
        assert!(message.contains(&figure(least)), "{message}");
        // A block's bytes, and those outside, are all of them.
        let sum: u64 = pricer.by_block(&free).iter().map(|l| (l.offline + l.online).bytes()).sum();
        assert_eq!(sum, free.bytes.offline + free.bytes.online);
    }
}
