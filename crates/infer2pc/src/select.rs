//! Selections by a comparison: clamps (ReLU among them), max pool, argmax, top-k.

use copriv_model::kernel::mask;
use copriv_ot::correlation::{Correlation, Table};
use copriv_plan::Forest;
use copriv_plan::cost::tournament;
use copriv_plan::step::Window;

use crate::compare::{EQ, GT, and, drelu, grow};
use crate::convert::{self, mux_and_b2a};
use crate::error::{Error, Result};
use crate::{OtStock, Party};

/// `max(x, bound)`: `bound + b * (x - bound)` with `b = 1{x - bound >= 0}`. ReLU is
/// `bound = 0`. `x - bound` must fit the ring.
///
/// # Errors
/// The peer or the connection failed, as in every protocol below.
pub fn clamp_low(
    party: &mut Party,
    stock: &mut OtStock,
    ring: u32,
    bound: i64,
    x: &[u64],
) -> Result<Vec<u64>> {
    let above = shifted(party, x, bound, ring);
    let bits = drelu(party, stock, ring, &above)?;
    let kept = convert::select(party, stock, ring, &bits, &above)?;
    Ok(shifted(party, &kept, bound.wrapping_neg(), ring))
}

/// `min(x, bound)`, which is `-max(-x, -bound)`. `bound - x` must fit the ring.
pub fn clamp_high(
    party: &mut Party,
    stock: &mut OtStock,
    ring: u32,
    bound: i64,
    x: &[u64],
) -> Result<Vec<u64>> {
    let negated = |x: &[u64]| x.iter().map(|v| v.wrapping_neg() & mask(ring)).collect::<Vec<_>>();
    let clamped = clamp_low(party, stock, ring, bound.wrapping_neg(), &negated(x))?;
    Ok(negated(&clamped))
}

/// `max(bound, min(x, bound + 2^window - 1))`, from `Z_2^from` into `Z_2^(window+1)`, by one
/// comparison; the derivation stands at [`copriv_plan::StepKind::Saturate`].
pub fn saturate(
    party: &mut Party,
    stock: &mut OtStock,
    (from, bound, window): (u32, i64, u32),
    x: &[u64],
) -> Result<Vec<u64>> {
    let x = shifted(party, x, bound, from);
    let server = party.is_server();
    let high = from - 1 - window;
    let part = |at: u32, bits: u32| x.iter().map(move |v| v >> at & mask(bits));
    // The sum of a part overflows iff the server's is greater than the complement of the
    // client's; it is -1 iff they are equal, and 0 iff the server's is the client's negative.
    let complement = |v: u64, bits: u32| if server { v } else { mask(bits) - v };
    let lows: Vec<u64> = part(0, window).map(|v| complement(v, window)).collect();
    let highs: Vec<u64> = part(window, high).map(|v| complement(v, high)).collect();
    let negatives: Vec<u64> =
        part(window, high).map(|v| if server { v } else { v.wrapping_neg() & mask(high) }).collect();
    let forest = Forest::saturate(from, window, party.choice());
    let roots = grow(party, stock, &forest, &[&lows, &highs, &negatives])?;
    let [carries, highs, zeros] = [&roots[0], &roots[1], &roots[2]];

    let carries: Vec<u8> = carries.iter().map(|c| c & GT).collect();
    let signs = x.iter().map(|v| (v >> (from - 1)) as u8 & 1);
    let (inside, above) = where_it_lies(party, stock, &carries, (highs, zeros), signs)?;
    let ring = window + 1;
    let narrow: Vec<u64> = x.iter().map(|v| v & mask(ring)).collect();
    let (kept, above) = mux_and_b2a(party, stock, ring, (&inside, &narrow), &above)?;
    let top = |a: &u64| a.wrapping_mul(mask(window));
    let sum: Vec<u64> = kept.iter().zip(&above).map(|(k, a)| k.wrapping_add(top(a)) & mask(ring)).collect();
    Ok(shifted(party, &sum, bound.wrapping_neg(), ring))
}

/// A truncation and a saturation in one.
#[derive(Clone, Copy, Debug)]
pub struct Tap {
    /// Ring of the operand.
    pub from: u32,
    /// Bits dropped.
    pub shift: u32,
    /// Added first.
    pub bias: u64,
    /// Smallest result.
    pub bound: i64,
    /// log2 of the number of results.
    pub window: u32,
}

/// `max(bound, min(floor((x + bias) / 2^shift), bound + 2^window - 1))`, into `Z_2^(window+1)`, from one
/// comparison; see [`copriv_plan::StepKind::TruncateSaturate`].
pub fn truncate_saturate(party: &mut Party, stock: &mut OtStock, at: Tap, x: &[u64]) -> Result<Vec<u64>> {
    let Tap { from, shift, bias, bound, window } = at;
    let (server, ring) = (party.is_server(), window + 1);
    let x = shifted(party, x, (bound << shift).wrapping_sub(bias as i64), from);
    let complement = |v: u64, bits: u32| if server { v } else { mask(bits) - v };
    let high = from - shift - 1 - window;
    let part = |first: u32, bits: u32| -> Vec<u64> {
        x.iter().map(|v| complement(v >> first & mask(bits), bits)).collect()
    };
    let negative = |v: &u64| {
        let v = v >> (shift + window) & mask(high);
        if server { v } else { v.wrapping_neg() & mask(high) }
    };
    let negatives: Vec<u64> = x.iter().map(negative).collect();
    let forest = Forest::truncate_saturate(from, shift, window, party.choice());
    let operands = [&part(0, shift), &part(shift, window), &part(shift + window, high), &negatives];
    let roots = grow(party, stock, &forest, &operands.map(|v| &v[..]))?;

    let taps: Vec<u8> = roots[0].iter().map(|c| c & GT).collect();
    let all_ones: Vec<u8> = roots[1].iter().map(|m| (m & EQ) >> 1).collect();
    let passed = and(party, stock, 1, &taps, &all_ones)?;
    let carries: Vec<u8> = roots[1].iter().zip(passed).map(|(m, p)| (m & GT) ^ p).collect();
    let signs = x.iter().map(|v| (v >> (from - 1)) as u8 & 1);
    let (inside, above) = where_it_lies(party, stock, &carries, (&roots[2], &roots[3]), signs)?;
    // The tap counts where the value is kept, so it is converted only there.
    let inside_bits: Vec<u8> = inside.iter().map(|&b| u8::from(b)).collect();
    let kept_taps = and(party, stock, 1, &inside_bits, &taps)?;
    let bits: Vec<bool> = above.iter().copied().chain(kept_taps.iter().map(|t| t & 1 == 1)).collect();
    let narrow: Vec<u64> = x.iter().map(|v| v >> shift & mask(ring)).collect();
    let (kept, bits) = mux_and_b2a(party, stock, ring, (&inside, &narrow), &bits)?;
    let (above, taps) = bits.split_at(x.len());
    let sum = |((k, a), t): ((&u64, &u64), &u64)| {
        k.wrapping_add(a.wrapping_mul(mask(window))).wrapping_add(*t) & mask(ring)
    };
    let sum: Vec<u64> = kept.iter().zip(above).zip(taps).map(sum).collect();
    Ok(shifted(party, &sum, bound.wrapping_neg(), ring))
}

/// Shares of whether each value lies inside its window, and of whether above, from the carries out of
/// the window and what is known of the bits between it and the sign.
fn where_it_lies(
    party: &mut Party,
    stock: &mut OtStock,
    carries: &[u8],
    (highs, zeros): (&[u8], &[u8]),
    signs: impl Iterator<Item = u8>,
) -> Result<(Vec<bool>, Vec<bool>)> {
    // carry & (E1, E0 ^ E1)
    let operands: Vec<u8> =
        highs.iter().zip(zeros).map(|(h, z)| (h & EQ) >> 1 | (((z & EQ) ^ (h & EQ)) & EQ)).collect();
    let products = and(party, stock, 2, carries, &operands)?;
    let one = u8::from(party.is_server());
    let (mut positive, mut clear) = (Vec::with_capacity(highs.len()), Vec::with_capacity(highs.len()));
    for (i, sign) in signs.enumerate() {
        let into_sign = (highs[i] & GT) ^ (products[i] & 1);
        positive.push(sign ^ into_sign ^ one);
        clear.push((zeros[i] & EQ) >> 1 ^ products[i] >> 1);
    }
    let inside = and(party, stock, 1, &positive, &clear)?;
    let above = inside.iter().zip(&positive).map(|(i, p)| (i ^ p) & 1 == 1).collect();
    Ok((inside.iter().map(|i| i & 1 == 1).collect(), above))
}

/// `table[x]` for values shared in `Z_2^bits`, `bits` at most 8, into `Z_2^ring` (SiRNN section 3.1.2):
/// the server turns the public table by its share, the client looks its own up.
pub fn look_up(
    party: &mut Party,
    stock: &mut OtStock,
    (bits, ring): (u32, u32),
    table: &[u64],
    x: &[u64],
) -> Result<Vec<u64>> {
    if table.len() != 1 << bits {
        return Err(Error::Usage(format!("a table of {} entries for {bits} bits", table.len())));
    }
    let kind = Table { digit_bits: bits, width: ring };
    let rots = x.len() * kind.rots();
    Ok(if party.is_server() {
        let flips = party.channel.recv(kind.flips_bytes(x.len()) as usize)?;
        let turned = |i: usize, v: usize| table[((x[i] + v as u64) & mask(bits)) as usize];
        let (message, shares) =
            copriv_ot::table::sender(stock.send_long(rots)?, (bits, ring), &flips, turned)?;
        party.channel.send(&message)?;
        shares
    } else {
        let digits: Vec<u8> = x.iter().map(|v| (v & mask(bits)) as u8).collect();
        kind.receive_over(&mut party.channel, stock.receive_long(rots)?, &digits)?
    })
}

/// Maximum of each window. Differences of two elements must fit the ring.
pub fn max_pool(
    party: &mut Party,
    stock: &mut OtStock,
    ring: u32,
    window: &Window,
    x: &[u64],
) -> Result<Vec<u64>> {
    let candidates = window.candidates().iter().map(|at| at.iter().map(|&i| x[i]).collect()).collect();
    let (best, _) = play(party, stock, ring, 0, candidates)?;
    Ok(best)
}

/// Index of the largest of `x` in `Z_2^index_ring`; the smallest index wins a tie.
pub fn argmax(
    party: &mut Party,
    stock: &mut OtStock,
    (ring, index_ring): (u32, u32),
    x: &[u64],
) -> Result<Vec<u64>> {
    let candidates = x.iter().map(|&v| vec![v]).collect();
    let (_, index) = play(party, stock, ring, index_ring, candidates)?;
    Ok(index)
}

/// Indices in `Z_2^index_ring` of the `k` largest of `x`, largest first; the smaller index first of
/// equals. See [`copriv_plan::StepKind::TopK`].
pub fn top_k(
    party: &mut Party,
    stock: &mut OtStock,
    (ring, index_ring): (u32, u32),
    k: usize,
    x: &[u64],
) -> Result<Vec<u64>> {
    let (wide, last) = (ring + index_ring, x.len() as u64 - 1);
    let tagged = |(i, v): (usize, &u64)| {
        let tag = if party.is_server() { last - i as u64 } else { 0 };
        (v << index_ring).wrapping_add(tag) & mask(wide)
    };
    let mut left: Vec<u64> = x.iter().enumerate().map(tagged).collect();
    let mut indices = Vec::with_capacity(k);
    for _ in 0..k {
        let (best, others) = take_largest(party, stock, wide, left)?;
        let tag = if party.is_server() { last.wrapping_sub(best) } else { best.wrapping_neg() };
        indices.push(tag & mask(index_ring));
        left = others;
    }
    Ok(indices)
}

/// The largest, and the others in an order that is public and says nothing of them.
fn take_largest(
    party: &mut Party,
    stock: &mut OtStock,
    ring: u32,
    mut left: Vec<u64>,
) -> Result<(u64, Vec<u64>)> {
    let mut others = Vec::with_capacity(left.len());
    for _ in tournament(left.len()) {
        let odd = (left.len() % 2 == 1).then(|| left.pop()).flatten();
        let (a, b): (Vec<u64>, Vec<u64>) = left.as_chunks().0.iter().map(|&[a, b]| (a, b)).unzip();
        let lead = differences(&a, &b, ring);
        let wins = drelu(party, stock, ring, &lead)?;
        let kept = convert::select(party, stock, ring, &wins, &lead)?;
        others.extend(differences(&a, &kept, ring));
        left = sums(&b, &kept, ring);
        left.extend(odd);
    }
    Ok((left.pop().unwrap_or_default(), others))
}

/// A tournament of candidates, each a vector of independent matches; pairs keep their order
/// and a candidate without opponent moves on, so that the earlier one wins a tie. Carries the
/// candidate's number if `index_ring > 0`.
fn play(
    party: &mut Party,
    stock: &mut OtStock,
    ring: u32,
    index_ring: u32,
    candidates: Vec<Vec<u64>>,
) -> Result<(Vec<u64>, Vec<u64>)> {
    let number = |i: usize| if party.is_server() { i as u64 } else { 0 };
    let mut left: Vec<(Vec<u64>, Vec<u64>)> =
        candidates.into_iter().enumerate().map(|(i, c)| (c.clone(), vec![number(i); c.len()])).collect();
    for matches in tournament(left.len()) {
        let odd = (left.len() % 2 == 1).then(|| left.pop()).flatten();
        let (first, second): (Vec<_>, Vec<_>) =
            left.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).unzip();
        let (values_a, indices_a) = concat(first);
        let (values_b, indices_b) = concat(second);
        let lead = differences(&values_a, &values_b, ring);
        let wins = drelu(party, stock, ring, &lead)?;
        let kept = convert::select(party, stock, ring, &wins, &lead)?;
        let values = sums(&values_b, &kept, ring);
        let indices = if index_ring > 0 {
            let lead = differences(&indices_a, &indices_b, index_ring);
            let kept = convert::select(party, stock, index_ring, &wins, &lead)?;
            sums(&indices_b, &kept, index_ring)
        } else {
            indices_b
        };
        let width = values.len() / matches;
        let winners = values.chunks_exact(width).zip(indices.chunks_exact(width));
        left = winners.map(|(v, i)| (v.to_vec(), i.to_vec())).chain(odd).collect();
    }
    Ok(left.pop().unwrap_or_default())
}

fn concat(parts: Vec<(Vec<u64>, Vec<u64>)>) -> (Vec<u64>, Vec<u64>) {
    let (values, indices): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    (values.concat(), indices.concat())
}

fn differences(a: &[u64], b: &[u64], ring: u32) -> Vec<u64> {
    a.iter().zip(b).map(|(a, b)| a.wrapping_sub(*b) & mask(ring)).collect()
}

fn sums(a: &[u64], b: &[u64], ring: u32) -> Vec<u64> {
    a.iter().zip(b).map(|(a, b)| a.wrapping_add(*b) & mask(ring)).collect()
}

/// Subtracts a public constant: the server does.
fn shifted(party: &Party, x: &[u64], by: i64, ring: u32) -> Vec<u64> {
    let by = if party.is_server() { by as u64 } else { 0 };
    x.iter().map(|v| v.wrapping_sub(by) & mask(ring)).collect()
}
