//! Runs the steps of a plan: the offline part makes [`Material`], the online part consumes it.

use copriv_model::{LayerWeights, Weights, kernel::mask};
use copriv_plan::step::{Step, StepKind, Window};
use copriv_plan::{Plan, Prediction, Product, StepId, Traffic};

use crate::error::{Error, Result};
use crate::linear::{self, ProductMaterial};
use crate::{OtStock, Party, baseline, convert, select};

/// What the offline part leaves for one inference. It is moved into the online part, so that
/// no correlation can be used twice.
pub struct Material {
    plan: [u8; 32],
    steps: Vec<StepMaterial>,
}

enum StepMaterial {
    Ots(OtStock),
    Product(ProductMaterial),
}

/// Traffic measured at the channel, in the planner's terms.
#[derive(Clone, Debug, Default)]
pub struct Measured(Prediction);

impl Measured {
    /// By layer; equal to [`Plan::predict`] once an inference is done.
    pub fn prediction(&self) -> Prediction {
        self.0.clone().without_silent_layers()
    }
}

/// Grows what packed products need, once a session.
///
/// # Errors
/// The peer or the connection failed, or the server has no weights for a layer.
pub fn plant(party: &mut Party, plan: &Plan, weights: Option<&Weights>) -> Result<()> {
    party.plant(layers(plan, weights)?.into_iter())
}

/// The linear layers with their weights.
pub(crate) fn layers<'p>(
    plan: &'p Plan,
    weights: Option<&'p Weights>,
) -> Result<Vec<(&'p Product, Option<&'p LayerWeights>)>> {
    let mut layers = Vec::new();
    for step in &plan.steps {
        if let StepKind::Product { product, .. } = &step.kind {
            layers.push((product, weights.map(|w| w.layer(&step.layer)).transpose()?));
        }
    }
    Ok(layers)
}

/// The offline part of one inference: nothing here depends on the client's input.
///
/// # Errors
/// The peer or the connection failed, or the server has no weights for a layer.
pub fn offline(
    party: &mut Party,
    plan: &Plan,
    weights: Option<&Weights>,
    measured: &mut Measured,
) -> Result<Material> {
    party.channel.mark_phase();
    let mut steps = Vec::with_capacity(plan.steps.len());
    let mut groups = 0..0;
    for step in &plan.steps {
        let before = traffic(party);
        steps.push(match &step.kind {
            StepKind::Product { product, .. } => {
                let layer = weights.map(|w| w.layer(&step.layer)).transpose()?;
                groups = groups.end..groups.end + product.groups();
                StepMaterial::Product(linear::offline(party, product, groups.clone(), layer)?)
            }
            _ => StepMaterial::Ots(party.stock(&step.cost(plan.choice).uses)?),
        });
        measured.0.layer_mut(&step.layer).offline += since(before, party);
    }
    party.channel.flush()?;
    Ok(Material { plan: plan.hash(), steps })
}

/// The online part of one inference. The client passes its `input` and gets the result; the
/// server passes and gets `None`. `observe` sees this party's share of every step.
///
/// # Errors
/// The peer or the connection failed, or `material` belongs to another plan.
pub fn online(
    party: &mut Party,
    plan: &Plan,
    weights: Option<&Weights>,
    material: Material,
    input: Option<&[i64]>,
    measured: &mut Measured,
    mut observe: impl FnMut(StepId, &[u64]),
) -> Result<Option<Vec<i64>>> {
    if material.plan != plan.hash() {
        return Err(Error::Usage("the offline material was made for another plan".into()));
    }
    party.channel.mark_phase();
    let mut values: Vec<Vec<u64>> = Vec::with_capacity(plan.steps.len());
    let mut last_use: Vec<StepId> = (0..plan.steps.len()).collect();
    for (id, step) in plan.steps.iter().enumerate() {
        step.inputs.iter().for_each(|&input| last_use[input] = id);
    }
    let mut result = None;
    for ((id, step), material) in plan.steps.iter().enumerate().zip(material.steps) {
        let before = traffic(party);
        let value = match material {
            StepMaterial::Product(material) => {
                let layer = weights.map(|w| w.layer(&step.layer)).transpose()?;
                let StepKind::Product { product, .. } = &step.kind else {
                    return Err(Error::Usage(format!("layer `{}` is not a product", step.layer)));
                };
                linear::online(party, product, material, layer, &values[step.inputs[0]])?
            }
            StepMaterial::Ots(mut stock) => {
                let value = match &step.kind {
                    StepKind::Input => share_input(party, step, input)?,
                    StepKind::Reveal => {
                        result = reveal(party, step, &values[step.inputs[0]])?;
                        values[step.inputs[0]].clone()
                    }
                    _ => run_step(party, &mut stock, step, &values)?,
                };
                if !stock.is_used_up() {
                    return Err(Error::Usage(format!("layer `{}` left random OTs behind", step.layer)));
                }
                value
            }
        };
        measured.0.layer_mut(&step.layer).online += since(before, party);
        observe(id, &value);
        values.push(value);
        for &input in step.inputs.iter().filter(|&&input| last_use[input] == id) {
            values[input] = Vec::new();
        }
    }
    party.channel.flush()?;
    Ok(result)
}

/// One step on shares, the operands among `values`; `stock` holds [`Step::ots`].
///
/// # Errors
/// The peer or the connection failed, or it is the input, a product or the end, which need more.
pub fn run_step(
    party: &mut Party,
    stock: &mut OtStock,
    step: &Step,
    values: &[Vec<u64>],
) -> Result<Vec<u64>> {
    let x = &values[step.inputs[0]];
    let ring = step.ring;
    match &step.kind {
        StepKind::Reduce => Ok(x.iter().map(|v| v & mask(ring)).collect()),
        StepKind::Add { shifts } => {
            let pairs = x.iter().zip(&values[step.inputs[1]]);
            Ok(pairs.map(|(x, y)| (x << shifts[0]).wrapping_add(y << shifts[1]) & mask(ring)).collect())
        }
        StepKind::SumPool(window) => Ok(sum_pool(window, ring, x)),
        StepKind::Subsample { input, how } => Ok(how.apply(*input, x)),
        StepKind::Pick { mask, inside } => Ok(mask.pick(*inside, x)),
        StepKind::Join { mask } => Ok(mask.join(x, &values[step.inputs[1]])),
        StepKind::Extend { from, offset, msb_known } => {
            convert::extend(party, stock, (*from, ring, *offset, *msb_known), x)
        }
        StepKind::Truncate { from, shift, bias } => {
            convert::truncate(party, stock, (*from, *shift, *bias, ring), x)
        }
        StepKind::ShiftRight { shift, bias } => baseline::shift_right(party, stock, (ring, *shift, *bias), x),
        StepKind::Affine { factor, addend } => {
            let addend = if party.is_server() { *addend as u64 } else { 0 };
            Ok(x.iter().map(|v| v.wrapping_mul(*factor).wrapping_add(addend) & mask(ring)).collect())
        }
        StepKind::ClampLow { bound } => select::clamp_low(party, stock, ring, *bound, x),
        StepKind::ClampHigh { bound } => select::clamp_high(party, stock, ring, *bound, x),
        StepKind::Saturate { from, bound, window } => {
            select::saturate(party, stock, (*from, *bound, *window), x)
        }
        StepKind::TruncateSaturate { from, shift, bias, bound, window } => {
            let at = select::Tap { from: *from, shift: *shift, bias: *bias, bound: *bound, window: *window };
            select::truncate_saturate(party, stock, at, x)
        }
        StepKind::MaxPool(window) => select::max_pool(party, stock, ring, window, x),
        StepKind::Argmax { from, .. } => select::argmax(party, stock, (*from, ring), x),
        StepKind::TopK { from, .. } => select::top_k(party, stock, (*from, ring), step.len, x),
        StepKind::Input | StepKind::Product { .. } | StepKind::Reveal => {
            Err(Error::Usage(format!("layer `{}` is not run here", step.layer)))
        }
    }
}

fn share_input(party: &Party, step: &Step, input: Option<&[i64]>) -> Result<Vec<u64>> {
    if party.is_server() {
        return Ok(vec![0; step.len]);
    }
    match input {
        Some(x) if x.len() == step.len => Ok(x.iter().map(|&v| v as u64 & mask(step.ring)).collect()),
        Some(x) => Err(Error::Usage(format!("an input of {} values, {} expected", x.len(), step.len))),
        None => Err(Error::Usage("the client needs an input".into())),
    }
}

/// The server sends its share; the client adds its own and reads the sum as two's complement.
fn reveal(party: &mut Party, step: &Step, share: &[u64]) -> Result<Option<Vec<i64>>> {
    use copriv_ot::wire::{pack, packed_len, unpack};
    if party.is_server() {
        party.channel.send(&pack(share, step.ring))?;
        return Ok(None);
    }
    let message = party.channel.recv(packed_len(step.len, step.ring))?;
    let theirs = unpack(&message, step.ring, step.len).map_err(copriv_ot::OtError::from)?;
    let unused = 64 - step.ring;
    let signed = |(a, b): (&u64, u64)| (a.wrapping_add(b) << unused) as i64 >> unused;
    Ok(Some(share.iter().zip(theirs).map(signed).collect()))
}

fn sum_pool(window: &Window, ring: u32, x: &[u64]) -> Vec<u64> {
    let candidates = window.candidates();
    let mut sums = vec![0u64; candidates[0].len()];
    for candidate in &candidates {
        for (sum, &i) in sums.iter_mut().zip(candidate) {
            *sum = sum.wrapping_add(x[i]) & mask(ring);
        }
    }
    sums
}

fn traffic(party: &Party) -> Traffic {
    to_plan(party, party.channel.traffic())
}

fn since(before: Traffic, party: &Party) -> Traffic {
    let now = traffic(party);
    Traffic { up: now.up - before.up, down: now.down - before.down, rounds: now.rounds - before.rounds }
}

/// The channel counts sent and received; the planner client to server and server to client.
pub(crate) fn to_plan(party: &Party, t: copriv_ot::Traffic) -> Traffic {
    let (up, down) = if party.is_server() { (t.received, t.sent) } else { (t.sent, t.received) };
    Traffic { up, down, rounds: t.rounds }
}
