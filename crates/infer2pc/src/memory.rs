//! A bound on what a party holds at a time: `--memory`.
//!
//! It counts the correlations that wait from the offline part to the online part, and the working set of the
//! linear layer under way ([`linear::working_set`]). Correlations that do not fit beside the largest layer go
//! to a temporary file, encrypted ([`copriv_ot::spill`]); a layer takes as many workers as fit. Neither changes
//! a message, so each party has a bound of its own. Not counted are weights, activations and seed trees, which
//! a party holds in any case.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use copriv_ot::Secret;
use copriv_ot::spill::{Spill, Spilled};
use copriv_plan::{Plan, Product, StepKind};
use rand::rngs::StdRng;

use crate::error::{Error, Result};
use crate::linear;

/// A party's bound, and what it holds under it.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    limit: Option<Limit>,
    kept: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Limit {
    bytes: u64,
    /// Of these, for correlations.
    correlations: u64,
    spill: Spill,
}

/// The smallest bound that a plan can run under, and the layer that needs it.
pub fn least(plan: &Plan) -> (u64, &str) {
    let layers = plan.steps.iter().filter_map(|step| match &step.kind {
        StepKind::Product { product, .. } => Some((linear::working_set(product, 1), step.layer.as_str())),
        _ => None,
    });
    layers.max().unwrap_or((0, "none"))
}

/// The smallest bound that a plan can run under.
///
/// # Errors
/// It is more than `bytes`.
pub fn check(bytes: u64, plan: &Plan) -> Result<u64> {
    let (least, layer) = least(plan);
    if bytes >= least {
        return Ok(least);
    }
    let (given, least) = (bytes / 1000, least.div_ceil(1000));
    Err(Error::Usage(format!("a memory of {given} kB is too small: layer `{layer}` needs {least} kB")))
}

impl Memory {
    /// At most `bytes`.
    ///
    /// # Errors
    /// Some layer needs more, or there is no temporary file.
    pub(crate) fn limited(bytes: u64, plan: &Plan, rng: &mut StdRng) -> Result<Self> {
        let least = check(bytes, plan)?;
        let spill = Spill::new(rng).map_err(Error::Spill)?;
        let limit = Limit { bytes, correlations: bytes - least, spill };
        Ok(Self { limit: Some(limit), ..Self::default() })
    }

    /// Keeps a secret, in memory if there is room.
    pub(crate) fn keep(&self, secret: Secret<u8>) -> Result<Kept> {
        let len = secret.len() as u64;
        if let Some(limit) = &self.limit
            && self.kept.load(Ordering::Relaxed) + len > limit.correlations
        {
            return Ok(Kept::Disk(limit.spill.write(&secret).map_err(Error::Spill)?));
        }
        self.kept.fetch_add(len, Ordering::Relaxed);
        Ok(Kept::Memory(Held { secret, kept: Arc::clone(&self.kept) }))
    }

    /// Workers of a layer, at most `most`.
    pub(crate) fn workers(&self, layer: &Product, most: usize) -> usize {
        let fits = |workers: &usize| {
            self.limit.as_ref().is_none_or(|limit| linear::working_set(layer, *workers) <= limit.bytes)
        };
        (1..=most).rev().find(fits).unwrap_or(1)
    }

    /// Bytes of correlations that went to the disk.
    pub(crate) fn spilled(&self) -> u64 {
        self.limit.as_ref().map_or(0, |limit| limit.spill.bytes())
    }
}

/// A secret that waits for its use.
#[derive(Debug)]
pub(crate) enum Kept {
    Memory(Held),
    Disk(Spilled),
}

/// A secret in memory, counted until it goes.
#[derive(Debug)]
pub(crate) struct Held {
    secret: Secret<u8>,
    kept: Arc<AtomicU64>,
}

impl Kept {
    /// The secret.
    pub(crate) fn load(self) -> Result<Secret<u8>> {
        match self {
            Self::Memory(mut held) => {
                held.uncount();
                Ok(std::mem::take(&mut held.secret))
            }
            Self::Disk(spilled) => spilled.read().map_err(Error::Spill),
        }
    }
}

impl Held {
    fn uncount(&mut self) {
        self.kept.fetch_sub(self.secret.len() as u64, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.uncount();
    }
}
