//! The trees of packed VOLE: grown once for a client and a model, used in every inference.

use std::ops::Range;
use std::sync::Arc;

use copriv_model::LayerWeights;
use copriv_ot::vole::{self, Depths, HolderTrees, PuncturedTrees, Use};
use copriv_ot::{OtFlavour, Traffic};
use copriv_plan::Product;

use crate::Party;
use crate::error::{Error, Result};
use crate::linear::packed;

/// One party's trees.
pub(crate) enum Trees {
    /// The client's: all leaves.
    Holder(HolderTrees),
    /// The server's: all leaves but those of its weights.
    Punctured(PuncturedTrees),
}

/// Trees, and what tells their uses apart.
pub(crate) struct Garden {
    trees: Arc<Trees>,
    session: vole::Session,
}

/// What makes the correlated OTs of the set-up with the fewest bytes.
fn flavour(depths: &Depths) -> OtFlavour {
    let candidates = [OtFlavour::SoftSpoken4, OtFlavour::SoftSpoken8, OtFlavour::Ferret];
    let bytes = |flavour: &OtFlavour| vole::setup_traffic(*flavour, depths).total();
    candidates.into_iter().min_by_key(bytes).unwrap_or_default()
}

/// The depths of all trees of these layers.
fn depths<'p>(layers: impl Iterator<Item = &'p Product>) -> Result<Depths> {
    let mut depths = Depths::new();
    for layer in layers.filter(|layer| layer.is_packed()) {
        packed::depths(layer, &mut depths)?;
    }
    Ok(depths)
}

/// Traffic of [`Party::plant`] as the client sees it.
///
/// # Errors
/// None for layers of a plan.
pub fn setup_traffic<'p>(layers: impl Iterator<Item = &'p Product>) -> Result<Traffic> {
    let depths = depths(layers)?;
    if depths.groups() == 0 {
        return Ok(Traffic::default());
    }
    let nonce = Traffic { sent: vole::NONCE_BYTES as u64, received: 0, rounds: 1 };
    Ok(vole::setup_traffic(flavour(&depths), &depths) + nonce)
}

impl Party {
    /// Grows the trees of the layers that are packed, in order; the server passes their weights. Part
    /// of the set-up.
    ///
    /// # Errors
    /// The peer or the connection failed, or the server has no weights.
    pub fn plant<'p>(
        &mut self,
        layers: impl Iterator<Item = (&'p Product, Option<&'p LayerWeights>)>,
    ) -> Result<()> {
        let layers: Vec<_> = layers.filter(|(layer, _)| layer.is_packed()).collect();
        let depths = depths(layers.iter().map(|(layer, _)| *layer))?;
        if depths.groups() == 0 {
            return Ok(());
        }
        let flavour = flavour(&depths);
        self.garden = Some(if self.is_server() {
            let mut leaves = Vec::with_capacity(depths.groups());
            for (layer, weights) in layers {
                let weights = weights.ok_or_else(|| Error::Usage("the server needs its weights".into()))?;
                leaves.extend(packed::leaves(layer, weights)?);
            }
            let trees = vole::setup_puncturer(&mut self.channel, flavour, depths, &leaves, &mut self.rng)?;
            let nonce = self.channel.exchange(&[], vole::NONCE_BYTES)?;
            let nonce = nonce.as_slice().try_into().map_err(|_| Error::Usage("a nonce".into()))?;
            let session = trees.join(&nonce);
            Garden { trees: Arc::new(Trees::Punctured(trees)), session }
        } else {
            let trees = vole::setup_holder(&mut self.channel, flavour, depths, &mut self.rng)?;
            let (session, nonce) = trees.session(&mut self.rng);
            self.channel.exchange(&nonce, 0)?;
            Garden { trees: Arc::new(Trees::Holder(trees)), session }
        });
        Ok(())
    }

    /// The trees, and the next use of these.
    pub(crate) fn trees_for(&mut self, groups: Range<usize>) -> Result<(Arc<Trees>, Use)> {
        let garden = self
            .garden
            .as_mut()
            .ok_or_else(|| Error::Usage("trees were not planted before the offline part".into()))?;
        Ok((Arc::clone(&garden.trees), garden.session.take(groups)))
    }
}
