//! Which leaf of which tree stands for the weights of a packed layer.
//!
//! A group of weights is one number, each weight a digit; its tree has a leaf for every such number, and
//! the server's is the one that is punctured.

use copriv_model::LayerWeights;
use copriv_ot::vole::{Depths, Radices};
use copriv_plan::linear::{Digit, Form, Group, PlaneGroups, Product};
use zeroize::Zeroizing;

use super::Operand;
use crate::error::{Error, Result};

/// The leaves that the server punctures, one a group, in the order in which groups are used.
pub(crate) fn leaves(layer: &Product, weights: &LayerWeights) -> Result<Vec<u16>> {
    let form = layer.form();
    let Operand::Weights(weights) = Operand::weights(layer, &form, weights) else {
        return Err(Error::Usage("the server needs its weights".into()));
    };
    let mut leaves = Vec::new();
    let mut digits = Zeroizing::new(Vec::new());
    each_plane(layer, &form, |channel, plane| {
        for group in &plane.groups {
            digits.clear();
            let mine = &plane.digits[group.digits.clone()];
            digits.extend(mine.iter().map(|digit| value(layer, &form, (plane, channel), digit, &weights)));
            leaves.push(radices(plane, group)?.leaf(&digits)?);
        }
        Ok(())
    })?;
    Ok(leaves)
}

/// The depths of the trees of a layer, one a group.
pub(crate) fn depths(layer: &Product, depths: &mut Depths) -> Result<()> {
    let form = layer.form();
    let per_group = layer.geometry.channels_per_group();
    for part in 0..layer.geometry.groups {
        // The same for each of its channels.
        let mut sizes: Vec<(usize, u32)> = Vec::new();
        for plane in (0..form.planes.len()).map(|p| PlaneGroups::new(layer, &form, p, part)) {
            for group in &plane.groups {
                let depth = plane.depth(group);
                match sizes.last_mut() {
                    Some((n, same)) if *same == depth => *n += 1,
                    _ => sizes.push((1, depth)),
                }
            }
        }
        for _ in 0..per_group {
            for &(n, depth) in &sizes {
                depths.push(n, depth)?;
            }
        }
    }
    Ok(())
}

/// Calls `f(channel, plane)` in the order in which groups are used.
fn each_plane(
    layer: &Product,
    form: &Form,
    mut f: impl FnMut(usize, &PlaneGroups) -> Result<()>,
) -> Result<()> {
    let per_group = layer.geometry.channels_per_group();
    for part in 0..layer.geometry.groups {
        let planes: Vec<_> = (0..form.planes.len()).map(|p| PlaneGroups::new(layer, form, p, part)).collect();
        for channel in part * per_group..(part + 1) * per_group {
            planes.iter().try_for_each(|plane| f(channel, plane))?;
        }
    }
    Ok(())
}

/// The digit of a weight.
pub(super) fn value(
    layer: &Product,
    form: &Form,
    (plane, channel): (&PlaneGroups, usize),
    digit: &Digit,
    weights: &[i64],
) -> u16 {
    let channels = layer.geometry.channels_per_group();
    let (part, channel) = (channel / channels, channel % channels);
    let filter = part * layer.filters_per_group() + digit.filter;
    let v = weights[(filter * channels + channel) * form.taps.len() + digit.tap];
    plane.value(&form.taps[digit.tap], digit, v)
}

/// Of the digits of a group.
pub(super) fn radices(plane: &PlaneGroups, group: &Group) -> Result<Radices> {
    let radices = [plane.radix; 10];
    Ok(Radices::new(&radices[..group.digits.len()])?)
}
