//! Comparisons of shared or private values (CrypTFlow2, eprint 2020/1002, sections 3 and 4).

use copriv_model::kernel::mask;
use copriv_ot::wire::{BitReader, BitWriter, packed_len};
use copriv_ot::{OtError, one_of_n, triples};
use copriv_plan::Comparison;
use copriv_plan::comparison::Level;

use crate::error::Result;
use crate::{OtStock, Party};

/// `1{x > y}`, XOR-shared, for `bits`-bit integers: the server passes `x`, the client `y`.
///
/// # Errors
/// The peer or the connection failed, as in every protocol below.
pub fn greater(party: &mut Party, stock: &mut OtStock, bits: u32, mine: &[u64]) -> Result<Vec<bool>> {
    let comparison = Comparison::new(bits, party.flavour());
    if comparison.digits.is_empty() {
        return Ok(vec![false; mine.len()]);
    }
    let mut nodes = leaves(party, stock, &comparison, mine)?;
    for level in &comparison.levels {
        nodes = join(party, stock, level, nodes)?;
    }
    Ok(nodes.swap_remove(0).iter().map(|node| node & GT != 0).collect())
}

/// `1{x >= 0}`, XOR-shared, of two's complement values shared in `Z_2^ring`:
/// `msb(x) = msb(x_s) ^ msb(x_c) ^ carry` with
/// `carry = 1{low(x_s) > 2^(ring-1) - 1 - low(x_c)}`.
pub fn drelu(party: &mut Party, stock: &mut OtStock, ring: u32, x: &[u64]) -> Result<Vec<bool>> {
    let low = mask(ring - 1);
    let server = party.is_server();
    let operands: Vec<u64> = x.iter().map(|v| if server { v & low } else { low - (v & low) }).collect();
    let carry = greater(party, stock, ring - 1, &operands)?;
    Ok(x.iter().zip(carry).map(|(v, carry)| (v >> (ring - 1) & 1 == 1) ^ carry ^ server).collect())
}

/// `1{low(x_s) + low(x_c) >= 2^bits}`, XOR-shared: the wrap of the shares' low bits.
pub fn wrap(party: &mut Party, stock: &mut OtStock, bits: u32, x: &[u64]) -> Result<Vec<bool>> {
    let low = mask(bits);
    let server = party.is_server();
    let operands: Vec<u64> = x.iter().map(|v| if server { v & low } else { low - (v & low) }).collect();
    greater(party, stock, bits, &operands)
}

/// A node's shares: bit 0 is `gt`, bit 1 is `eq` (absent in the least significant node).
type Node = Vec<u8>;
const GT: u8 = 1;
const EQ: u8 = 2;

/// Digits by 1-of-2^m OT, the server offering the tables.
fn leaves(
    party: &mut Party,
    stock: &mut OtStock,
    comparison: &Comparison,
    mine: &[u64],
) -> Result<Vec<Node>> {
    let n = mine.len();
    let digit = |value: u64, at: u32, width: u32| (value >> at & mask(width)) as u8;
    let shape = digits(comparison);
    let mut nodes = Vec::with_capacity(shape.len());
    if party.is_server() {
        let mut flips = Vec::new();
        for &(_, width, _) in &shape {
            flips.push(party.channel.recv(packed_len(n, width))?);
        }
        for ((at, width, entry), flips) in shape.into_iter().zip(flips) {
            let rots = stock.send(n * width as usize)?;
            let table = |i: usize, v: usize| {
                let x = usize::from(digit(mine[i], at, width));
                (u8::from(x > v) * GT) | (u8::from(x == v) * EQ)
            };
            let (message, shares) = one_of_n::sender(rots, width, entry, &flips, table)?;
            party.channel.send(&message)?;
            nodes.push(shares);
        }
    } else {
        let mut waiting = Vec::new();
        for (at, width, entry) in shape {
            let rots = stock.receive(n * width as usize)?;
            let digits: Vec<u8> = mine.iter().map(|&y| digit(y, at, width)).collect();
            party.channel.send(&one_of_n::flips(&rots, width, &digits)?)?;
            waiting.push((rots, width, entry, digits));
        }
        for (rots, width, entry, digits) in waiting {
            let message = party.channel.recv(one_of_n::message_bytes(n, width, entry) as usize)?;
            nodes.push(one_of_n::receiver(rots, width, entry, &digits, &message)?);
        }
    }
    Ok(nodes)
}

/// `(first bit, width, bits of a table entry)` of each digit, least significant first.
fn digits(comparison: &Comparison) -> Vec<(u32, u32, u32)> {
    let mut at = 0;
    let digit = |(i, &width): (usize, &u32)| {
        let first = at;
        at += width;
        (first, width, comparison.entry_bits(i))
    };
    comparison.digits.iter().enumerate().map(digit).collect()
}

/// One level of the tree: `gt = gt_hi ^ (eq_hi & gt_lo)`, `eq = eq_hi & eq_lo`. Each AND uses
/// a triple (Beaver); the two ANDs of a pair share `eq_hi` and so its opened bit.
fn join(party: &mut Party, stock: &mut OtStock, level: &Level, mut nodes: Vec<Node>) -> Result<Vec<Node>> {
    let n = nodes[0].len();
    let opened_bits: u32 = level.ands.iter().map(|k| 1 + k).sum();
    let mut opened = BitWriter::with_capacity(packed_len(n, opened_bits));
    let mut pairs = Vec::with_capacity(level.ands.len());
    for (pair, &k) in level.ands.iter().enumerate() {
        let triple = triples::generate(stock.send(n)?, stock.receive(n)?, k)?;
        let (lo, hi) = (&nodes[2 * pair], &nodes[2 * pair + 1]);
        let masked: Vec<u8> =
            (0..n).map(|i| (hi[i] >> 1 ^ triple.a[i]) & 1 | ((lo[i] ^ triple.b[i]) & low(k)) << 1).collect();
        for &bits in &masked {
            opened.write(u64::from(bits), 1 + k);
        }
        pairs.push((triple, masked));
    }
    let theirs = party.channel.exchange(&opened.finish(), packed_len(n, opened_bits))?;
    let mut theirs = BitReader::new(&theirs);
    let first = party.is_server();
    let mut joined = Vec::with_capacity(nodes.len().div_ceil(2));
    for (pair, &k) in level.ands.iter().enumerate() {
        let (triple, masked) = &pairs[pair];
        let hi = &nodes[2 * pair + 1];
        let mut node = Vec::with_capacity(n);
        for i in 0..n {
            let both = masked[i] ^ theirs.read(1 + k).map_err(OtError::from)? as u8;
            let (d, e) = ((both & 1).wrapping_neg(), both >> 1);
            let a = triple.a[i].wrapping_neg();
            let product = triple.c[i] ^ (d & triple.b[i]) ^ (a & e) ^ if first { d & e } else { 0 };
            node.push((hi[i] & GT) ^ (product & low(k)));
        }
        joined.push(node);
    }
    theirs.finish().map_err(OtError::from)?;
    if level.odd {
        joined.extend(nodes.pop());
    }
    Ok(joined)
}

fn low(k: u32) -> u8 {
    (1 << k) - 1
}
