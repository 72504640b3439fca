//! Bit triples from one random OT in each direction, without a message.
//!
//! Ideal functionality: XOR shares of uniform `a` (one bit), `b` (`k` bits) and `c`, where each
//! bit of `c` is `a AND` that bit of `b`. `k = 2` is the triple for two ANDs with a common operand.
//!
//! In each direction the OT receiver's choice `r` is its share of `a`, and `p_0 ^ p_1`, cut to
//! `k` bits, is the OT sender's share of `b`. As `p_r = p_0 ^ r (p_0 ^ p_1)`, the cross term
//! `r * b` is shared as `p_r` and `p_0` (Asharov, Lindell, Schneider, Zohner, eprint 2016/602).
//!
//! # Security
//! The random OTs must come from **random choices**: the choice bits are the shares of `a`.

use crate::OtError;
use crate::error::check_range;
use crate::rot::check_count;
use crate::short::{ReceivePads, SendPads};
use crate::wire::mask;

use zeroize::ZeroizeOnDrop;

/// One party's shares of bit triples.
#[derive(Clone, Debug, Default, ZeroizeOnDrop)]
pub struct BitTriples {
    /// Shares of the left operands, one bit each.
    pub a: Vec<u8>,
    /// Shares of the right operands, `k` bits each.
    pub b: Vec<u8>,
    /// Shares of the products, `k` bits each.
    pub c: Vec<u8>,
}

/// Shares of as many triples as there are random OTs in each direction.
pub fn generate(send: impl SendPads, recv: impl ReceivePads, k: u32) -> Result<BitTriples, OtError> {
    check_range("right operand bits of a triple", u64::from(k), 1, 8)?;
    check_count("random OTs to receive", send.count(), recv.count())?;
    let low = mask(k) as u8;
    let mut triples = BitTriples {
        a: Vec::with_capacity(recv.count()),
        b: Vec::with_capacity(send.count()),
        c: Vec::with_capacity(send.count()),
    };
    send.each(k, |_, zero, one| {
        triples.b.push((zero ^ one) as u8 & low);
        triples.c.push(zero as u8 & low);
    })?;
    recv.each(k, |i, choice, pad| {
        triples.a.push(choice);
        triples.c[i] ^= (pad as u8 & low) ^ (triples.b[i] & choice.wrapping_neg());
    })?;
    Ok(triples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dealer::Dealer;

    #[test]
    fn matches_the_ideal_functionality_at_all_sizes() {
        let mut dealer = Dealer::new(31);
        let mut ones = [0_usize; 3];
        let mut total = 0;
        for n in 0..300 {
            for k in [1, 2, 8] {
                let (s0, r1) = dealer.rots(n);
                let (s1, r0) = dealer.rots(n);
                let x = generate(s0, r0, k).unwrap();
                let y = generate(s1, r1, k).unwrap();
                for i in 0..n {
                    let (a, b) = (x.a[i] ^ y.a[i], x.b[i] ^ y.b[i]);
                    assert_eq!(x.c[i] ^ y.c[i], if a == 1 { b } else { 0 });
                    assert!(a <= 1 && u64::from(x.b[i] | x.c[i]) <= mask(k));
                    for (one, bit) in ones.iter_mut().zip([x.a[i], x.b[i], x.c[i]]) {
                        *one += usize::from(bit & 1);
                    }
                    total += 1;
                }
            }
        }
        // Each share on its own is a fair coin: six standard deviations.
        for one in ones {
            let off = (one as f64 - total as f64 / 2.0).abs();
            assert!(off < 3.0 * (total as f64).sqrt(), "{one} of {total}");
        }
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let mut dealer = Dealer::new(32);
        let (s, r) = dealer.rots(3);
        assert!(generate(s, r, 0).is_err());
        let (s, r) = dealer.rots(3);
        assert!(generate(s, r, 9).is_err());
        let (s, _) = dealer.rots(3);
        let (_, r) = dealer.rots(4);
        assert!(generate(s, r, 1).is_err());
    }
}
