//! Conversions between shares of bits and of ring elements, and between rings.

use copriv_model::kernel::mask;

use crate::baseline;
use crate::compare::{greater, wrap};
use crate::error::Result;
use crate::party::{Cot, cross_cot, cross_cot_with, server_cot};
use crate::{OtStock, Party};

/// XOR shares of bits to additive shares in `Z_2^ring` (CrypTFlow2 section 4.1.1):
/// `b = b_s + b_c - 2 b_s b_c`, so the product is needed modulo `2^(ring-1)` only.
///
/// # Errors
/// The peer or the connection failed, as in every protocol below.
pub fn b2a(party: &mut Party, stock: &mut OtStock, ring: u32, bits: &[bool]) -> Result<Vec<u64>> {
    if ring <= 1 {
        return Ok(bits.iter().map(|&b| u64::from(b) & mask(ring)).collect());
    }
    let products = if party.is_server() {
        let deltas: Vec<u64> = bits.iter().map(|&b| u64::from(b)).collect();
        server_cot(party, stock, ring - 1, Cot::Deltas(&deltas))?
    } else {
        server_cot(party, stock, ring - 1, Cot::Choices(bits))?
    };
    Ok(b2a_shares(ring, bits, &products))
}

fn b2a_shares(ring: u32, bits: &[bool], products: &[u64]) -> Vec<u64> {
    let arithmetic = |(&b, c): (&bool, &u64)| u64::from(b).wrapping_sub(c << 1) & mask(ring);
    bits.iter().zip(products).map(arithmetic).collect()
}

/// `b * x` for a shared bit and a shared value (CrypTFlow2 section 4.1.2), by a correlated OT
/// in each direction: `b x = (b_s ^ b_c) x_s + (b_s ^ b_c) x_c`.
pub fn mux(party: &mut Party, stock: &mut OtStock, ring: u32, bits: &[bool], x: &[u64]) -> Result<Vec<u64>> {
    let deltas = mux_deltas(ring, bits, x);
    let cross = cross_cot(party, stock, ring, &deltas, bits)?;
    Ok(mux_shares(ring, bits, x, cross))
}

/// The [`mux`] behind a comparison, which the baselines have otherwise.
pub(crate) fn select(
    party: &mut Party,
    stock: &mut OtStock,
    ring: u32,
    bits: &[bool],
    x: &[u64],
) -> Result<Vec<u64>> {
    if party.choice().preset.is_baseline() {
        return baseline::select(party, stock, ring, bits, x);
    }
    mux(party, stock, ring, bits, x)
}

/// `(b_mine ^ b_theirs) x_mine = b_mine x_mine + b_theirs (1 - 2 b_mine) x_mine`.
fn mux_deltas(ring: u32, bits: &[bool], x: &[u64]) -> Vec<u64> {
    let sign = |b: bool| u64::from(b).wrapping_neg() | 1;
    bits.iter().zip(x).map(|(&b, &x)| sign(b).wrapping_mul(x) & mask(ring)).collect()
}

fn mux_shares(ring: u32, bits: &[bool], x: &[u64], cross: Vec<u64>) -> Vec<u64> {
    let own = |(&b, &x): (&bool, &u64)| u64::from(b).wrapping_neg() & x;
    bits.iter().zip(x).map(own).zip(cross).map(|(own, cross)| own.wrapping_add(cross) & mask(ring)).collect()
}

/// [`mux`] and [`b2a`] side by side, in the messages of the MUX: shares of `bits * x` and of
/// `others`, both in `Z_2^ring`, `ring > 1`.
pub fn mux_and_b2a(
    party: &mut Party,
    stock: &mut OtStock,
    ring: u32,
    (bits, x): (&[bool], &[u64]),
    others: &[bool],
) -> Result<(Vec<u64>, Vec<u64>)> {
    let deltas = mux_deltas(ring, bits, x);
    let other_deltas: Vec<u64> = others.iter().map(|&b| u64::from(b)).collect();
    let rider = if party.is_server() { Cot::Deltas(&other_deltas) } else { Cot::Choices(others) };
    let (cross, products) = cross_cot_with(party, stock, ring, &deltas, bits, Some((ring - 1, rider)))?;
    Ok((mux_shares(ring, bits, x, cross), b2a_shares(ring, others, &products)))
}

/// `floor((x + bias) / 2^shift)`, from `Z_2^from` into `Z_2^ring`, `ring <= from - shift`
/// (SiRNN's truncate-and-reduce, eprint 2021/459 section 3.3): the quotients of the shares,
/// plus the carry of their low bits.
pub fn truncate(
    party: &mut Party,
    stock: &mut OtStock,
    (from, shift, bias, ring): (u32, u32, u64, u32),
    x: &[u64],
) -> Result<Vec<u64>> {
    let bias = if party.is_server() { bias } else { 0 };
    let x: Vec<u64> = x.iter().map(|v| v.wrapping_add(bias) & mask(from)).collect();
    let carry = wrap(party, stock, shift, &x)?;
    let carry = b2a(party, stock, ring, &carry)?;
    Ok(x.iter().zip(carry).map(|(v, c)| (v >> shift).wrapping_add(c) & mask(ring)).collect())
}

/// Values in `[-offset, ..)`, from `Z_2^from` into the wider `Z_2^to`: with
/// `x' = x + offset >= 0`, `x' = x'_s + x'_c - wrap * 2^from`.
///
/// If `x' < 2^(from-1)` is known (`msb_known`), `wrap = msb(x'_s) | msb(x'_c)`, and
/// `1 - wrap = (1 - msb_s)(1 - msb_c)` is one correlated OT (PrivQuant section 4.2.1);
/// otherwise a comparison finds it.
pub fn extend(
    party: &mut Party,
    stock: &mut OtStock,
    (from, to, offset, msb_known): (u32, u32, u64, bool),
    x: &[u64],
) -> Result<Vec<u64>> {
    let offset = if party.is_server() { offset } else { 0 };
    let x: Vec<u64> = x.iter().map(|v| v.wrapping_add(offset) & mask(from)).collect();
    let width = to - from;
    // Shares of -wrap modulo 2^width.
    let minus_wrap: Vec<u64> = if msb_known && party.choice().preset.is_baseline() {
        let wraps = baseline::wrap_of_non_negative(party, from, &x)?;
        b2a(party, stock, width, &wraps)?.into_iter().map(u64::wrapping_neg).collect()
    } else if msb_known {
        let clear: Vec<bool> = x.iter().map(|v| v >> (from - 1) == 0).collect();
        if party.is_server() {
            let deltas: Vec<u64> = clear.iter().map(|&c| u64::from(c)).collect();
            let shares = server_cot(party, stock, width, Cot::Deltas(&deltas))?;
            shares.into_iter().map(|s| s.wrapping_sub(1)).collect()
        } else {
            server_cot(party, stock, width, Cot::Choices(&clear))?
        }
    } else {
        let server = party.is_server();
        let operands: Vec<u64> = x.iter().map(|&v| if server { v } else { mask(from) - v }).collect();
        let wraps = greater(party, stock, from, &operands)?;
        b2a(party, stock, width, &wraps)?.into_iter().map(u64::wrapping_neg).collect()
    };
    let widened = |(v, w): (&u64, &u64)| v.wrapping_add(w << from).wrapping_sub(offset) & mask(to);
    Ok(x.iter().zip(&minus_wrap).map(widened).collect())
}
