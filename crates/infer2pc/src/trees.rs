//! The trees of packed VOLE: grown once for a client and a model, used in every inference.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use copriv_model::LayerWeights;
use copriv_ot::vole::{self, Depths, FileError, HolderTrees, PuncturedTrees, Use};
use copriv_ot::{OtFlavour, Traffic};
use copriv_plan::{Plan, Product};
use zeroize::Zeroizing;

use crate::Party;
use crate::error::{Error, Result};
use crate::linear::leaves as of_layer;

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
        of_layer::depths(layer, &mut depths)?;
    }
    Ok(depths)
}

/// A folder in which trees outlive a session, so that a client sets up once for a model.
#[derive(Clone, Debug)]
pub struct Nursery {
    folder: PathBuf,
    /// What tells a client's servers apart; nothing at a server.
    peer: String,
}

/// Bytes of the identifier of a set-up.
pub(crate) const ID_BYTES: usize = 32;

impl Nursery {
    /// A client's, for the server that it knows as `peer`.
    pub fn of_client(folder: impl Into<PathBuf>, peer: &str) -> Self {
        Self { folder: folder.into(), peer: peer.to_owned() }
    }

    /// A server's, for all its clients.
    pub fn of_server(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), peer: String::new() }
    }

    /// The client's trees for a plan, if it has any.
    pub(crate) fn holder(&self, plan: &Plan) -> Option<HolderTrees> {
        HolderTrees::load(&self.client_file(plan), &shape(plan)).ok()
    }

    /// The server's trees of a set-up, if they were made for these weights.
    pub(crate) fn punctured(&self, id: &[u8; ID_BYTES], print: &[u8; 32]) -> Option<PuncturedTrees> {
        PuncturedTrees::load(&self.server_file(id), print).ok()
    }

    fn client_file(&self, plan: &Plan) -> PathBuf {
        let mut hasher = blake3::Hasher::new_derive_key("copriv client's trees v1");
        hasher.update(&shape(plan));
        hasher.update(self.peer.as_bytes());
        self.folder.join(format!("{}.trees", &hasher.finalize().to_hex()[..32]))
    }

    fn server_file(&self, id: &[u8; ID_BYTES]) -> PathBuf {
        self.folder.join(format!("{}.trees", &blake3::Hash::from(*id).to_hex()[..32]))
    }

    fn make_folder(&self) -> Result<()> {
        std::fs::create_dir_all(&self.folder).map_err(|e| FileError::from(e).into())
    }
}

/// Fingerprint of a plan's packed layers.
fn shape(plan: &Plan) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("copriv packed layers v1");
    for product in plan.products().filter(|product| product.is_packed()) {
        hasher.update(&product.fingerprint());
    }
    *hasher.finalize().as_bytes()
}

/// Fingerprint of what the server punctures: the packed layers and their weights.
pub(crate) fn fingerprint(plan: &Plan, leaves: &[u16]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("copriv punctured weights v1");
    hasher.update(&shape(plan));
    for leaf in leaves {
        hasher.update(&leaf.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// The leaves that the server punctures, of all packed layers in order.
pub(crate) fn leaves<'p>(
    layers: impl Iterator<Item = (&'p Product, Option<&'p LayerWeights>)>,
) -> Result<Zeroizing<Vec<u16>>> {
    let mut leaves = Zeroizing::new(Vec::new());
    for (layer, weights) in layers.filter(|(layer, _)| layer.is_packed()) {
        let weights = weights.ok_or_else(|| Error::Usage("the server needs its weights".into()))?;
        leaves.extend(of_layer::leaves(layer, weights)?);
    }
    Ok(leaves)
}

/// Traffic of [`Party::plant`] as the client sees it, without what finds trees of an earlier session.
///
/// # Errors
/// None for layers of a plan.
pub fn setup_traffic<'p>(layers: impl Iterator<Item = &'p Product>) -> Result<Traffic> {
    let depths = depths(layers)?;
    if depths.groups() == 0 {
        return Ok(Traffic::default());
    }
    Ok(vole::setup_traffic(flavour(&depths), &depths) + nonce_traffic())
}

/// Traffic of [`Party::adopt`] as the client sees it.
pub(crate) fn nonce_traffic() -> Traffic {
    Traffic { sent: vole::NONCE_BYTES as u64, received: 0, rounds: 1 }
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
        let layers: Vec<_> = layers.collect();
        let depths = depths(layers.iter().map(|(layer, _)| *layer))?;
        if depths.groups() == 0 {
            return Ok(());
        }
        let flavour = flavour(&depths);
        let trees = if self.is_server() {
            let leaves = leaves(layers.into_iter())?;
            let (channel, rng) = (&mut self.channel, &mut self.rng);
            Trees::Punctured(vole::setup_puncturer(channel, flavour, depths, &leaves, rng)?)
        } else {
            Trees::Holder(vole::setup_holder(&mut self.channel, flavour, depths, &mut self.rng)?)
        };
        self.adopt(trees)
    }

    /// Takes trees, new or of an earlier session: the client draws a fresh nonce, so that no use of
    /// them is ever repeated.
    ///
    /// # Errors
    /// The peer or the connection failed.
    pub(crate) fn adopt(&mut self, trees: Trees) -> Result<()> {
        let session = match &trees {
            Trees::Punctured(trees) => {
                let nonce = self.channel.exchange(&[], vole::NONCE_BYTES)?;
                let nonce = nonce.as_slice().try_into();
                trees.join(nonce.map_err(|_| Error::Usage("a nonce of another length".into()))?)
            }
            Trees::Holder(trees) => {
                let (session, nonce) = trees.session(&mut self.rng);
                self.channel.exchange(&nonce, 0)?;
                session
            }
        };
        self.garden = Some(Garden { trees: Arc::new(trees), session });
        Ok(())
    }

    /// Keeps the trees for later sessions.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn keep_trees(&self, nursery: &Nursery, plan: &Plan, print: &[u8; 32]) -> Result<()> {
        let Some(garden) = &self.garden else { return Ok(()) };
        nursery.make_folder()?;
        match &*garden.trees {
            Trees::Holder(trees) => trees.save(&nursery.client_file(plan), &shape(plan))?,
            Trees::Punctured(trees) => trees.save(&nursery.server_file(trees.id()), print)?,
        }
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
