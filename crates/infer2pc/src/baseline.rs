//! The operators of CrypTFlow2 (eprint 2020/1002) and SiRNN (eprint 2021/459), as their reference
//! implementation SCI has them; shapes and prices stand in [`copriv_plan::baseline`]. Their 1-of-N
//! OTs are made and used online, the client choosing.

use copriv_model::kernel::mask;
use copriv_ot::short::ReceivePads;
use copriv_ot::triples::BitTriples;
use copriv_ot::wire::{BitReader, BitWriter, packed_len};
use copriv_ot::{OtError, kkot, transfer};
use copriv_plan::baseline::{Comparison, Lookups, and_lookups, wrap_lookups};

use crate::compare::{EQ, GT, mask_operands, open_products, wrap};
use crate::convert::b2a;
use crate::error::{Error, Result};
use crate::party::Kkot;
use crate::{OtStock, Party};

/// `1{x > y}`, XOR-shared, for `bits`-bit integers: the server passes `x`, the client `y`.
///
/// # Errors
/// The peer or the connection failed, as in every protocol below.
pub fn greater(party: &mut Party, bits: u32, mine: &[u64]) -> Result<Vec<bool>> {
    let root = compare(party, Comparison { bits, equality: false }, mine)?;
    Ok(root.iter().map(|node| node & GT != 0).collect())
}

/// Products of shared bits, two by one OT: no triples, nothing to open.
pub fn and(party: &mut Party, a: &[bool], b: &[bool]) -> Result<Vec<bool>> {
    let n = a.len();
    let lookups = and_lookups(n as u64);
    let pair = |i: usize| (a.get(i).copied().unwrap_or_default(), b.get(i).copied().unwrap_or_default());
    let digit = |i: usize| {
        let ((a0, b0), (a1, b1)) = (pair(2 * i), pair(2 * i + 1));
        u8::from(a0) | u8::from(b0) << 1 | u8::from(a1) << 2 | u8::from(b1) << 3
    };
    let mine: Vec<u8> = (0..lookups.n as usize).map(digit).collect();
    let shares = if party.is_server() {
        let shares = party.random_bits(mine.len(), 2);
        let table = |i: usize, v: usize| {
            let both = mine[i] ^ v as u8;
            u64::from(shares[i] ^ (both & both >> 1 & 1 | both >> 1 & both >> 2 & 2))
        };
        offer(party, &[(lookups, &table)])?;
        shares
    } else {
        pick(party, vec![(lookups, mine)])?.remove(0)
    };
    Ok((0..n).map(|i| shares[i / 2] >> (i % 2) & 1 == 1).collect())
}

/// The wrap of the shares of values whose sign is known to be zero, `1{x_s + x_c >= 2^bits}`: an OR
/// of the shares' top bits.
pub fn wrap_of_non_negative(party: &mut Party, bits: u32, x: &[u64]) -> Result<Vec<bool>> {
    let top: Vec<u8> = x.iter().map(|v| (v >> (bits - 1) & 1) as u8).collect();
    let lookups = wrap_lookups(x.len() as u64);
    let shares = if party.is_server() {
        let shares = party.random_bits(x.len(), 1);
        // The client's choice is its top bit and its share of the sign, which is zero here.
        let table = |i: usize, v: usize| {
            let (theirs, sign) = (v as u8 & 1, v as u8 >> 1);
            u64::from(shares[i] ^ if sign == 0 { top[i] | theirs } else { top[i] & theirs })
        };
        offer(party, &[(lookups, &table)])?;
        shares
    } else {
        pick(party, vec![(lookups, top)])?.remove(0)
    };
    Ok(shares.iter().map(|s| s & 1 == 1).collect())
}

/// `b * x` for a shared bit and a shared value, by two chosen strings in each direction: what
/// SCI's ReLU does.
pub fn select(
    party: &mut Party,
    stock: &mut OtStock,
    ring: u32,
    bits: &[bool],
    x: &[u64],
) -> Result<Vec<u64>> {
    let n = x.len();
    let masks = party.random_ring(n, ring);
    let offer = |i: usize| {
        let string = |chosen: bool| {
            let kept = u64::from(bits[i] ^ chosen).wrapping_neg() & x[i];
            kept.wrapping_sub(masks[i]) & mask(ring)
        };
        [string(false), string(true)]
    };
    let (send, receive) = (stock.send(n, ring)?, stock.receive(n, ring)?);
    let flips = party.channel.exchange(&receive.flips_for(bits)?, packed_len(n, 1))?;
    let message = transfer::sender(send, &flips, ring, &(0..n).map(offer).collect::<Vec<_>>())?;
    let message = party.channel.exchange(&message, transfer::message_bytes(n, ring) as usize)?;
    let got = transfer::receiver(receive, bits, ring, &message)?;
    Ok(masks.iter().zip(got).map(|(m, g)| m.wrapping_add(g) & mask(ring)).collect())
}

/// `floor((x + bias) / 2^shift)` of two's complement values, in the same ring (SiRNN section 3.3):
/// with `x' = x + bias + 2^(ring-1) >= 0`, the quotients of the shares, plus the carry of their
/// low bits, less the wrap of the whole.
pub fn shift_right(
    party: &mut Party,
    stock: &mut OtStock,
    (ring, shift, bias): (u32, u32, u64),
    x: &[u64],
) -> Result<Vec<u64>> {
    let (server, high) = (party.is_server(), ring - shift);
    let offset = if server { bias.wrapping_add(1 << (ring - 1)) } else { 0 };
    let x: Vec<u64> = x.iter().map(|v| v.wrapping_add(offset) & mask(ring)).collect();
    let carries = wrap(party, stock, shift, &x)?;
    let operand = |v: &u64| if server { v >> shift } else { mask(high) - (v >> shift) };
    let operands: Vec<u64> = x.iter().map(operand).collect();
    let highs = compare(party, Comparison { bits: high, equality: true }, &operands)?;
    let equal: Vec<bool> = highs.iter().map(|node| node & EQ != 0).collect();
    let both = and(party, &carries, &equal)?;
    let wraps: Vec<bool> = highs.iter().zip(both).map(|(node, b)| (node & GT != 0) ^ b).collect();
    let wraps = b2a(party, stock, shift, &wraps)?;
    let carries = b2a(party, stock, ring, &carries)?;
    let centre = if server { 1u64 << (high - 1) } else { 0 };
    let quotient = |((v, c), w): ((&u64, &u64), &u64)| {
        (v >> shift).wrapping_add(*c).wrapping_sub(w << high).wrapping_sub(centre) & mask(ring)
    };
    Ok(x.iter().zip(&carries).zip(&wraps).map(quotient).collect())
}

/// Digits by 1-of-16 OT, joined by ANDs with triples made on the way; the root's bits.
fn compare(party: &mut Party, shape: Comparison, mine: &[u64]) -> Result<Vec<u8>> {
    let n = mine.len();
    let tree = shape.tree();
    let leaves = shape.leaves(n as u64);
    let mut at = 0;
    let digits: Vec<Vec<u8>> = tree
        .digits
        .iter()
        .map(|&width| {
            let digit = mine.iter().map(|v| (v >> at & mask(width)) as u8).collect();
            at += width;
            digit
        })
        .collect();
    let drafts = Drafts::draw(party, shape, n);
    let (mut nodes, triples) = if party.is_server() {
        let shares: Vec<Vec<u8>> = leaves.iter().map(|l| party.random_bits(n, l.t)).collect();
        let table = |d: usize, i: usize, v: usize| {
            let x = usize::from(digits[d][i]);
            let entry = (u8::from(x > v) * GT) | (u8::from(x == v) * EQ);
            u64::from(entry ^ shares[d][i])
        };
        let tables: Vec<_> = (0..leaves.len()).map(|d| move |i: usize, v: usize| table(d, i, v)).collect();
        let products = party.random_bits(drafts.lookups.n as usize, 2);
        let triple_table = |i: usize, v: usize| u64::from(drafts.product(i, v as u8) ^ products[i]);
        let mut offers: Vec<(Lookups, &Table<'_>)> = Vec::with_capacity(leaves.len() + 1);
        offers.extend(leaves.iter().zip(&tables).map(|(l, table)| (*l, table as &Table<'_>)));
        offers.push((drafts.lookups, &triple_table));
        offer(party, &offers)?;
        (shares, drafts.finish(&products))
    } else {
        let mut picks: Vec<(Lookups, Vec<u8>)> = leaves.into_iter().zip(digits).collect();
        picks.push((drafts.lookups, drafts.mine.clone()));
        let mut entries = pick(party, picks)?;
        let products = entries.pop().unwrap_or_default();
        (entries, drafts.finish(&products))
    };
    let mut triples = triples.into_iter();
    for (level, bits) in tree.levels().iter().zip(shape.opened()) {
        nodes = join(party, shape, (&level.ands, level.odd, bits), nodes, &mut triples)?;
    }
    Ok(nodes.swap_remove(0))
}

/// One level: `gt = gt_hi ^ (eq_hi & gt_lo)`, `eq = eq_hi & eq_lo`.
fn join(
    party: &mut Party,
    shape: Comparison,
    (ands, odd, bits): (&[u32], bool, u32),
    mut nodes: Vec<Vec<u8>>,
    triples: &mut impl Iterator<Item = BitTriples>,
) -> Result<Vec<Vec<u8>>> {
    let n = nodes[0].len();
    let mut opened = BitWriter::with_capacity(packed_len(n, bits));
    let mut open = Vec::new();
    for (pair, &k) in ands.iter().enumerate() {
        let (low, high) = (&nodes[2 * pair], &nodes[2 * pair + 1]);
        let steps: &[(u32, u32)] = match (shape.equality, k) {
            (true, _) => &[(0, 2)],
            (false, 1) => &[(0, 1)],
            (false, _) => &[(0, 1), (1, 1)],
        };
        for &(first, width) in steps {
            let triple = triples.next().ok_or_else(|| Error::Usage("a triple is missing".into()))?;
            let right: Vec<u8> = low.iter().map(|v| v >> first).collect();
            let masked = mask_operands(&triple, width, high.iter().map(|v| v >> 1), &right, &mut opened);
            open.push((pair, first, width, triple, masked));
        }
    }
    let theirs = party.channel.exchange(&opened.finish(), packed_len(n, bits))?;
    let mut theirs = BitReader::new(&theirs);
    let mut joined: Vec<Vec<u8>> =
        (0..ands.len()).map(|pair| nodes[2 * pair + 1].iter().map(|v| v & GT).collect()).collect();
    for (pair, first, width, triple, masked) in open {
        let products = open_products(party, &triple, width, &masked, &mut theirs)?;
        joined[pair].iter_mut().zip(products).for_each(|(node, p)| *node ^= p << first);
    }
    theirs.finish().map_err(OtError::from)?;
    joined.extend(odd.then(|| nodes.pop()).flatten());
    Ok(joined)
}

/// Bit triples under way: an OT on both parties' random operands gives shares of the products.
struct Drafts {
    lookups: Lookups,
    shape: Comparison,
    n: usize,
    /// Operands of each OT: `a`, `b` and another `a`, `b`; or `a` and two bits `b`.
    mine: Vec<u8>,
}

impl Drafts {
    fn draw(party: &mut Party, shape: Comparison, n: usize) -> Self {
        let lookups = shape.triple_lookups(n as u64);
        Self { lookups, shape, n, mine: party.random_bits(lookups.n as usize, lookups.m) }
    }

    /// Products of OT `i` when the peer's operands are `theirs`.
    fn product(&self, i: usize, theirs: u8) -> u8 {
        let both = self.mine[i] ^ theirs;
        if self.shape.equality {
            return (both & 1).wrapping_neg() & both >> 1;
        }
        both & both >> 1 & 1 | both >> 1 & both >> 2 & 2
    }

    /// The triples, `n` at a time, from the shares of the products.
    fn finish(&self, products: &[u8]) -> Vec<BitTriples> {
        let block = |start: usize| {
            let each = |f: fn(u8, u8, usize) -> u8| -> Vec<u8> {
                let triple = |i: usize| {
                    if self.shape.equality {
                        return f(self.mine[i], products[i], 2);
                    }
                    let half = i % 2;
                    f(self.mine[i / 2] >> (2 * half), products[i / 2] >> half, 1)
                };
                (start..start + self.n).map(triple).collect()
            };
            BitTriples {
                a: each(|operands, _, _| operands & 1),
                b: each(|operands, _, k| operands >> 1 & ((1 << k) - 1)),
                c: each(|_, product, k| product & ((1 << k) - 1)),
            }
        };
        (0..self.shape.triples() as usize).map(|b| block(b * self.n)).collect()
    }
}

type Table<'a> = dyn Fn(usize, usize) -> u64 + 'a;

/// The server's side of several batches in one exchange: all columns come first.
fn offer(party: &mut Party, batches: &[(Lookups, &Table<'_>)]) -> Result<()> {
    let (channel, Kkot::Sender(sender)) = party.kkot()? else {
        return Err(Error::Usage("only the server offers tables".into()));
    };
    let mut columns = Vec::with_capacity(batches.len());
    for (lookups, _) in batches {
        columns.push(channel.recv(kkot::columns_bytes(lookups.n as usize) as usize)?);
    }
    for ((lookups, table), columns) in batches.iter().zip(columns) {
        let message = sender.send(lookups.n as usize, &columns, (lookups.m, lookups.t), table)?;
        channel.send(&message)?;
    }
    Ok(())
}

/// The client's side: its entries, batch by batch.
fn pick(party: &mut Party, batches: Vec<(Lookups, Vec<u8>)>) -> Result<Vec<Vec<u8>>> {
    let (channel, Kkot::Receiver(receiver)) = party.kkot()? else {
        return Err(Error::Usage("only the client chooses".into()));
    };
    let mut waiting = Vec::with_capacity(batches.len());
    for (lookups, digits) in batches {
        let (columns, chosen) = receiver.choose(&digits);
        channel.send(&columns)?;
        waiting.push((lookups, chosen));
    }
    let mut entries = Vec::with_capacity(waiting.len());
    for (lookups, chosen) in waiting {
        let Lookups { n, m, t } = lookups;
        let message = channel.recv(kkot::message_bytes(n as usize, m, t) as usize)?;
        entries.push(chosen.receive((m, t), &message)?.into_iter().map(|e| e as u8).collect());
    }
    Ok(entries)
}
