//! Comparisons of shared or private values (CrypTFlow2, eprint 2020/1002, sections 3 and 4).

use copriv_model::kernel::mask;
use copriv_ot::triples::BitTriples;
use copriv_ot::wire::{BitReader, BitWriter, packed_len};
use copriv_ot::{OtError, one_of_n, triples};
use copriv_plan::Forest;
use copriv_plan::comparison::{Finds, Level, Tree};

use crate::error::Result;
use crate::{OtStock, Party, baseline};

/// `1{x > y}`, XOR-shared, for `bits`-bit integers: the server passes `x`, the client `y`.
///
/// # Errors
/// The peer or the connection failed, as in every protocol below.
pub fn greater(party: &mut Party, stock: &mut OtStock, bits: u32, mine: &[u64]) -> Result<Vec<bool>> {
    if bits == 0 {
        return Ok(vec![false; mine.len()]);
    }
    if party.choice().preset.is_baseline() {
        return baseline::greater(party, bits, mine);
    }
    let forest = Forest::greater(bits, party.choice());
    let roots = grow(party, stock, &forest, &[mine])?;
    Ok(roots[0].iter().map(|node| node & GT != 0).collect())
}

/// Runs the trees of `forest` side by side; `mine[t]` are this party's operands of tree `t`.
/// Gives each tree's root.
pub(crate) fn grow(
    party: &mut Party,
    stock: &mut OtStock,
    forest: &Forest,
    mine: &[&[u64]],
) -> Result<Vec<Node>> {
    let mut trees = leaves(party, stock, forest, mine)?;
    let levels: Vec<Vec<Level>> = forest.0.iter().map(Tree::levels).collect();
    for (depth, opened) in forest.opened().into_iter().enumerate() {
        let level: Vec<Option<&Level>> = levels.iter().map(|l| l.get(depth)).collect();
        trees = join(party, stock, forest, &level, opened, trees)?;
    }
    Ok(trees.into_iter().map(|mut nodes| nodes.swap_remove(0)).collect())
}

/// `1{x >= 0}`, XOR-shared, of two's complement values shared in `Z_2^ring`:
/// `msb(x) = msb(x_s) ^ msb(x_c) ^ carry` with
/// `carry = 1{low(x_s) > 2^(ring-1) - 1 - low(x_c)}`.
pub fn drelu(party: &mut Party, stock: &mut OtStock, ring: u32, x: &[u64]) -> Result<Vec<bool>> {
    let server = party.is_server();
    let carry = wrap(party, stock, ring - 1, x)?;
    Ok(x.iter().zip(carry).map(|(v, carry)| (v >> (ring - 1) & 1 == 1) ^ carry ^ server).collect())
}

/// `1{low(x_s) + low(x_c) >= 2^bits}`, XOR-shared: the wrap of the shares' low bits.
pub fn wrap(party: &mut Party, stock: &mut OtStock, bits: u32, x: &[u64]) -> Result<Vec<bool>> {
    let low = mask(bits);
    let server = party.is_server();
    let operands: Vec<u64> = x.iter().map(|v| if server { v & low } else { low - (v & low) }).collect();
    greater(party, stock, bits, &operands)
}

/// Shares of `a & b` for one bit `a` and `k` bits `b`, by triples (Beaver).
pub(crate) fn and(party: &mut Party, stock: &mut OtStock, k: u32, a: &[u8], b: &[u8]) -> Result<Vec<u8>> {
    let n = a.len();
    let triple = triples::generate(stock.send(n, k)?, stock.receive(n, k)?, k)?;
    let mut opened = BitWriter::with_capacity(packed_len(n, 1 + k));
    let masked = mask_operands(&triple, k, a.iter().copied(), b, &mut opened);
    let theirs = party.channel.exchange(&opened.finish(), packed_len(n, 1 + k))?;
    let mut theirs = BitReader::new(&theirs);
    let products = open_products(party, &triple, k, &masked, &mut theirs)?;
    theirs.finish().map_err(OtError::from)?;
    Ok(products)
}

/// A node's shares: bit 0 is `gt`, bit 1 is `eq`, as far as the tree has them.
pub(crate) type Node = Vec<u8>;
pub(crate) const GT: u8 = 1;
pub(crate) const EQ: u8 = 2;

/// One digit of one tree.
struct Digit {
    tree: usize,
    /// Lowest bit and width.
    at: u32,
    width: u32,
    /// Bits of a table entry, and which bit of a node the first of them is.
    entry: u32,
    first: u32,
}

impl Digit {
    fn of(&self, value: u64) -> u8 {
        (value >> self.at & mask(self.width)) as u8
    }
}

fn digits(forest: &Forest) -> Vec<Digit> {
    let mut digits = Vec::new();
    for (tree, t) in forest.0.iter().enumerate() {
        let mut at = 0;
        for (i, &width) in t.digits.iter().enumerate() {
            let first = u32::from(t.finds == Finds::Equal);
            digits.push(Digit { tree, at, width, entry: t.entry_bits(i), first });
            at += width;
        }
    }
    digits
}

/// Digits by 1-of-2^m OT, the server offering the tables. By tree, least significant first.
fn leaves(
    party: &mut Party,
    stock: &mut OtStock,
    forest: &Forest,
    mine: &[&[u64]],
) -> Result<Vec<Vec<Node>>> {
    let n = mine[0].len();
    let mut trees: Vec<Vec<Node>> = vec![Vec::new(); forest.0.len()];
    let mut keep = |digit: &Digit, entries: Vec<u8>| {
        trees[digit.tree].push(entries.into_iter().map(|e| e << digit.first).collect());
    };
    let shape = digits(forest);
    if party.is_server() {
        let mut flips = Vec::new();
        for digit in &shape {
            flips.push(party.channel.recv(packed_len(n, digit.width))?);
        }
        for (digit, flips) in shape.iter().zip(flips) {
            let table = |i: usize, v: usize| {
                let x = usize::from(digit.of(mine[digit.tree][i]));
                ((u8::from(x > v) * GT) | (u8::from(x == v) * EQ)) >> digit.first
            };
            let (message, shares) = stock.offer(n, digit.width, digit.entry)?.send(&flips, table)?;
            party.channel.send(&message)?;
            keep(digit, shares);
        }
    } else {
        let mut waiting = Vec::new();
        for digit in &shape {
            let rots = stock.choose(n, digit.width, digit.entry)?;
            let values: Vec<u8> = mine[digit.tree].iter().map(|&y| digit.of(y)).collect();
            party.channel.send(&rots.flips(&values)?)?;
            waiting.push((digit, rots, values));
        }
        for (digit, rots, values) in waiting {
            let message = party.channel.recv(one_of_n::message_bytes(n, digit.width, digit.entry) as usize)?;
            keep(digit, rots.receive(&values, &message)?);
        }
    }
    Ok(trees)
}

/// One level of every tree that has it: `gt = gt_hi ^ (eq_hi & gt_lo)`, `eq = eq_hi & eq_lo`.
/// The two ANDs of a pair share `eq_hi` and so its opened bit.
fn join(
    party: &mut Party,
    stock: &mut OtStock,
    forest: &Forest,
    levels: &[Option<&Level>],
    opened_bits: u32,
    mut trees: Vec<Vec<Node>>,
) -> Result<Vec<Vec<Node>>> {
    let n = trees[0][0].len();
    let mut opened = BitWriter::with_capacity(packed_len(n, opened_bits));
    let mut pairs = Vec::new();
    for (t, level) in levels.iter().enumerate() {
        let Some(level) = level else { continue };
        let first = u32::from(forest.0[t].finds == Finds::Equal);
        for (pair, &k) in level.ands.iter().enumerate() {
            let triple = triples::generate(stock.send(n, k)?, stock.receive(n, k)?, k)?;
            let (lo, hi) = (&trees[t][2 * pair], &trees[t][2 * pair + 1]);
            let right: Vec<u8> = lo.iter().map(|v| v >> first).collect();
            let masked = mask_operands(&triple, k, hi.iter().map(|v| v >> 1), &right, &mut opened);
            pairs.push((triple, masked, k, first, t, pair));
        }
    }
    let theirs = party.channel.exchange(&opened.finish(), packed_len(n, opened_bits))?;
    let mut theirs = BitReader::new(&theirs);
    let mut joined: Vec<Vec<Node>> = vec![Vec::new(); trees.len()];
    for (triple, masked, k, first, t, pair) in pairs {
        let products = open_products(party, &triple, k, &masked, &mut theirs)?;
        // An equality tree has no `gt` bit to carry on.
        let hi = &trees[t][2 * pair + 1];
        joined[t].push(hi.iter().zip(products).map(|(hi, p)| (hi & GT) ^ (p << first)).collect());
    }
    theirs.finish().map_err(OtError::from)?;
    for (t, level) in levels.iter().enumerate() {
        match level {
            Some(level) if level.odd => joined[t].extend(trees[t].pop()),
            Some(_) => {}
            None => joined[t] = std::mem::take(&mut trees[t]),
        }
    }
    Ok(joined)
}

/// `(a ^ triple.a, b ^ triple.b)`, kept and written to the message.
pub(crate) fn mask_operands(
    triple: &BitTriples,
    k: u32,
    a: impl Iterator<Item = u8>,
    b: &[u8],
    opened: &mut BitWriter,
) -> Vec<u8> {
    let masked = |(i, a): (usize, u8)| ((a ^ triple.a[i]) & 1) | (((b[i] ^ triple.b[i]) & low(k)) << 1);
    let masked: Vec<u8> = a.enumerate().map(masked).collect();
    for &bits in &masked {
        opened.write(u64::from(bits), 1 + k);
    }
    masked
}

/// The products' shares, once the peer's masked operands are there.
pub(crate) fn open_products(
    party: &Party,
    triple: &BitTriples,
    k: u32,
    masked: &[u8],
    theirs: &mut BitReader<'_>,
) -> Result<Vec<u8>> {
    let both_open = if party.is_server() { low(k) } else { 0 };
    let mut products = Vec::with_capacity(masked.len());
    for (i, mine) in masked.iter().enumerate() {
        let both = mine ^ theirs.read(1 + k).map_err(OtError::from)? as u8;
        let (d, e) = ((both & 1).wrapping_neg(), both >> 1);
        let a = triple.a[i].wrapping_neg();
        products.push((triple.c[i] ^ (d & triple.b[i]) ^ (a & e) ^ (d & e & both_open)) & low(k));
    }
    Ok(products)
}

fn low(k: u32) -> u8 {
    (1 << k) - 1
}
