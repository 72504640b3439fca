//! What the wraps of narrow shares are worth, inside the product; see [`copriv_plan::linear::Wraps`].
//!
//! Each value's wrap is found as XOR shares `b_s ^ b_c`, and `-W wrap = -b_s W + b_c (2 b_s - 1) W`; or, with a
//! known sign and the shares' top bits clear or not, `-W wrap = -W + clear_c clear_s W`. Either way the
//! client's bit is its choice in a correlated OT on all weights that the value meets.

use copriv_ot::wire::{packed_len, unpack_bits};
use copriv_ot::{OtError, cot};
use copriv_plan::linear::{Product, Site, Wraps};

use crate::compare::wrap;
use crate::error::Result;
use crate::{OtStock, Party, baseline};

/// Adds shares of `-2^a W wrap` to `y`, `[filters, pixels]`. `mine` are the server's `X` or the client's masks,
/// `[channels, height, width]`; only the server passes its `weights`.
pub(super) fn correct(
    party: &mut Party,
    layer: &Product,
    stock: &mut OtStock,
    weights: Option<&[i32]>,
    mine: &[u64],
    y: &mut [u64],
) -> Result<()> {
    let Some(wraps) = Wraps::new(layer) else { return Ok(()) };
    let area = layer.geometry.height * layer.geometry.width;
    let sites: Vec<(usize, &Site)> =
        (0..layer.geometry.channels).flat_map(|c| wraps.sites().iter().map(move |site| (c, site))).collect();
    if sites.is_empty() {
        return Ok(());
    }
    let values: Vec<u64> = sites.iter().map(|(channel, site)| mine[channel * area + site.pixel]).collect();
    let bits = bits(party, stock, &wraps, &values)?;
    let mut sums = Sums { layer, from: wraps.wrap.from, y };
    let width = [wraps.width];
    let Some(weights) = weights else {
        let mut rots = stock.receive_long(sites.len())?;
        party.channel.send(&rots.flips(&bits))?;
        for (channel, site) in sites {
            let entries = wraps.entries(site);
            let message = party.channel.recv(cot::vector_bytes(&width, entries) as usize)?;
            let add = |_: usize, shares: &[u64]| sums.add(channel, site, |i| shares[i]);
            cot::vector_receiver(rots.take(1)?, &width, entries, &message, add)?;
        }
        return Ok(());
    };
    let mut rots = stock.send_long(sites.len())?;
    let flips = party.channel.recv(packed_len(sites.len(), 1))?;
    let flips = unpack_bits(&flips, sites.len()).map_err(OtError::from)?;
    let mut met = Vec::new();
    for (((channel, site), bit), flip) in sites.into_iter().zip(bits).zip(flips) {
        let (own, chosen) = if knows_signs(party, &wraps) {
            (1u64.wrapping_neg(), u64::from(bit))
        } else {
            (u64::from(bit).wrapping_neg(), (2 * u64::from(bit)).wrapping_sub(1))
        };
        // The OT's choice is random; the client's is that, or with a flip `1 - ` that.
        let (own, chosen) =
            if flip { (own.wrapping_add(chosen), chosen.wrapping_neg()) } else { (own, chosen) };
        sums.weights_at(weights, channel, site, &mut met);
        let delta = |_: usize, out: &mut [u64]| {
            out.iter_mut().zip(&met).for_each(|(out, w)| *out = chosen.wrapping_mul(*w));
        };
        let add = |_: usize, shares: &[u64]| {
            sums.add(channel, site, |i| shares[i].wrapping_add(own.wrapping_mul(met[i])));
        };
        let message = cot::vector_sender(rots.take(1)?, &width, met.len(), delta, add)?;
        party.channel.stream(&message)?;
    }
    Ok(())
}

/// Whether top bits stand for the wrap; the baselines find it by a 1-of-4 OT first.
fn knows_signs(party: &Party, wraps: &Wraps) -> bool {
    wraps.wrap.sign_known && !party.choice().preset.is_baseline()
}

/// XOR shares of each value's wrap, or whether this party's share has a clear top bit.
fn bits(party: &mut Party, stock: &mut OtStock, wraps: &Wraps, values: &[u64]) -> Result<Vec<bool>> {
    let from = wraps.wrap.from;
    if knows_signs(party, wraps) {
        return Ok(values.iter().map(|v| v >> (from - 1) == 0).collect());
    }
    if wraps.wrap.sign_known {
        return baseline::wrap_of_non_negative(party, from, values);
    }
    wrap(party, stock, from, values)
}

/// Where products of single values with the weights that they meet go.
struct Sums<'a> {
    layer: &'a Product,
    from: u32,
    y: &'a mut [u64],
}

impl Sums<'_> {
    /// First filter of the group that reads a channel.
    fn first_filter(&self, channel: usize) -> usize {
        channel / self.layer.geometry.channels_per_group() * self.layer.filters_per_group()
    }

    /// The weights that a site meets, `[uses, filters of the group]`.
    fn weights_at(&self, weights: &[i32], channel: usize, site: &Site, met: &mut Vec<u64>) {
        let g = &self.layer.geometry;
        let (first, channels, area) =
            (self.first_filter(channel), g.channels_per_group(), g.kernel * g.kernel);
        met.clear();
        for &(position, _) in &site.uses {
            let filters = first..first + self.layer.filters_per_group();
            let row = |filter: usize| (filter * channels + channel % channels) * area + position;
            met.extend(filters.map(|filter| i64::from(weights[row(filter)]) as u64));
        }
    }

    /// Adds `2^a value(i)` for each entry `i` of a site's message.
    fn add(&mut self, channel: usize, site: &Site, value: impl Fn(usize) -> u64) {
        let (first, filters) = (self.first_filter(channel), self.layer.filters_per_group());
        let scale = self.from + self.layer.algorithm.extra_bits();
        let pixels = self.layer.geometry.pixels();
        for (i, &(_, at)) in site.uses.iter().enumerate() {
            for filter in 0..filters {
                let y = &mut self.y[(first + filter) * pixels + at];
                *y = y.wrapping_add(value(i * filters + filter) << scale);
            }
        }
    }
}
