//! Base OT: a few hundred random OTs from public-key cryptography.
//!
//! **Endemic OT** of Masny and Rindal (eprint 2019/706, instantiated with
//! Diffie-Hellman) over Ristretto. For base OT `i` with choice `c`, `G` the generator, `H` a hash
//! to the group:
//!
//! ```text
//! receiver: a <- Z_p,  r_{1-c} <- group,  r_c = a G - H(i, r_{1-c})      sends r_0, r_1
//! sender:   b <- Z_p                                                     sends B = b G
//!           k_e = KDF(i, e, b (r_e + H(i, r_{1-e})))   for e = 0, 1
//! receiver: k_c = KDF(i, c, a B)
//! ```
//!
//! The two messages do not depend on each other, so both directions take one exchange.
//!
//! # Security
//!
//! `r_0` and `r_1` are uniform whatever the choice (it is hidden perfectly), and the other key
//! is as hard as Diffie-Hellman in the random-oracle model; the paper proves security against
//! malicious parties too. The known flaws of "simplest OT" (eprint 2015/267) are met: points are
//! decoded strictly (Ristretto has prime order and one encoding a point), the neutral element
//! is refused as `B`, every hash is separated by domain and index, and the key derivation binds
//! the whole transcript of the set-up through `session`. One `b` serves all indices of a
//! set-up; the index in the key derivation keeps them apart.

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use rand_core::CryptoRng;
use subtle::{Choice, ConditionallySelectable};
use zeroize::{Zeroize, Zeroizing};

use crate::OtError;
use crate::error::check_message;

/// Bytes of the sender's message.
pub const SENDER_BYTES: usize = POINT;
/// Bytes of the receiver's message for each base OT.
pub const RECEIVER_BYTES: usize = 2 * POINT;

const POINT: usize = 32;

/// The receiver between its message and the sender's.
pub struct BaseReceiver {
    secrets: Zeroizing<Vec<Scalar>>,
    choices: Zeroizing<Vec<u8>>,
}

impl BaseReceiver {
    /// Draws the receiver's message for these choices. `context` is public, known to both
    /// parties, and fresh (it contains the receiver's nonce).
    pub fn start(context: &[u8; 32], choices: &[bool], rng: &mut impl CryptoRng) -> (Self, Vec<u8>) {
        let mut secrets = Zeroizing::new(Vec::with_capacity(choices.len()));
        let mut message = Vec::with_capacity(RECEIVER_BYTES * choices.len());
        for (i, &choice) in choices.iter().enumerate() {
            let secret = Scalar::random(rng);
            let other = RistrettoPoint::random(rng);
            let mut chosen = RistrettoPoint::mul_base(&secret) - to_group(context, i, &other.compress());
            let choice = Choice::from(u8::from(choice));
            let zero = RistrettoPoint::conditional_select(&chosen, &other, choice);
            let one = RistrettoPoint::conditional_select(&other, &chosen, choice);
            message.extend_from_slice(zero.compress().as_bytes());
            message.extend_from_slice(one.compress().as_bytes());
            secrets.push(secret);
            chosen.zeroize();
        }
        let choices = Zeroizing::new(choices.iter().map(|&c| u8::from(c)).collect());
        (Self { secrets, choices }, message)
    }

    /// The chosen keys, from the sender's message.
    pub fn finish(self, session: &[u8; 32], message: &[u8]) -> Result<Zeroizing<Vec<u128>>, OtError> {
        check_message("base OT sender", SENDER_BYTES, message.len())?;
        let point = decode(message, 0)?;
        if point.is_identity() {
            return Err(OtError::InvalidPoint { index: 0 });
        }
        let keys = self.secrets.iter().zip(self.choices.iter()).enumerate();
        Ok(Zeroizing::new(
            keys.map(|(i, (secret, &choice))| derive(session, i, choice, secret * point)).collect(),
        ))
    }
}

/// The sender between its message and the receiver's.
pub struct BaseSender {
    secret: Zeroizing<Scalar>,
}

impl BaseSender {
    /// Draws the sender's message.
    pub fn start(rng: &mut impl CryptoRng) -> (Self, [u8; SENDER_BYTES]) {
        let secret = Zeroizing::new(Scalar::random(rng));
        let message = RistrettoPoint::mul_base(&secret).compress().to_bytes();
        (Self { secret }, message)
    }

    /// Both keys of each of `n` base OTs, from the receiver's message. `context` is the
    /// receiver's.
    pub fn finish(
        self,
        context: &[u8; 32],
        session: &[u8; 32],
        n: usize,
        message: &[u8],
    ) -> Result<Zeroizing<Vec<[u128; 2]>>, OtError> {
        check_message("base OT receiver", n.saturating_mul(RECEIVER_BYTES), message.len())?;
        let mut keys = Zeroizing::new(Vec::with_capacity(n));
        for (i, pair) in message.chunks_exact(RECEIVER_BYTES).enumerate() {
            let (zero, one) = pair.split_at(POINT);
            let points = [decode(zero, i)?, decode(one, i)?];
            let key = |e: usize| {
                let point = points[e] + to_group(context, i, &points[1 - e].compress());
                derive(session, i, e as u8, *self.secret * point)
            };
            keys.push([key(0), key(1)]);
        }
        Ok(keys)
    }
}

fn decode(bytes: &[u8], index: usize) -> Result<RistrettoPoint, OtError> {
    CompressedRistretto::from_slice(bytes)
        .ok()
        .and_then(|point| point.decompress())
        .ok_or(OtError::InvalidPoint { index })
}

/// The random oracle into the group; the discrete logarithm of its output is unknown.
fn to_group(context: &[u8; 32], index: usize, point: &CompressedRistretto) -> RistrettoPoint {
    let mut hasher = blake3::Hasher::new_derive_key("copriv-ot v1 base ot hash to group");
    hasher.update(context);
    hasher.update(&(index as u64).to_le_bytes());
    hasher.update(point.as_bytes());
    let mut wide = [0; 64];
    hasher.finalize_xof().fill(&mut wide);
    RistrettoPoint::from_uniform_bytes(&wide)
}

fn derive(session: &[u8; 32], index: usize, choice: u8, mut shared: RistrettoPoint) -> u128 {
    let mut hasher = blake3::Hasher::new_derive_key("copriv-ot v1 base ot key");
    hasher.update(session);
    hasher.update(&(index as u64).to_le_bytes());
    hasher.update(&[choice]);
    let mut encoded = shared.compress();
    hasher.update(encoded.as_bytes());
    encoded.zeroize();
    shared.zeroize();
    let mut key = [0; 16];
    hasher.finalize_xof().fill(&mut key);
    hasher.zeroize();
    u128::from_le_bytes(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    const CONTEXT: [u8; 32] = [1; 32];
    const SESSION: [u8; 32] = [2; 32];

    #[test]
    fn matches_the_ideal_functionality() {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        for n in [0, 1, 2, 17] {
            let choices: Vec<bool> = (0..n).map(|_| rng.next_u32() & 1 == 1).collect();
            let (receiver, points) = BaseReceiver::start(&CONTEXT, &choices, &mut rng);
            let (sender, point) = BaseSender::start(&mut rng);
            assert_eq!(points.len(), n * RECEIVER_BYTES);
            let pairs = sender.finish(&CONTEXT, &SESSION, n, &points).unwrap();
            let chosen = receiver.finish(&SESSION, &point).unwrap();
            for i in 0..n {
                let c = usize::from(choices[i]);
                assert_eq!(pairs[i][c], chosen[i]);
                assert_ne!(pairs[i][1 - c], chosen[i]);
            }
        }
    }

    #[test]
    fn keys_bind_the_context_and_the_session() {
        let mut rng = ChaCha20Rng::seed_from_u64(4);
        let run = |context: &[u8; 32], session: &[u8; 32], rng: &mut ChaCha20Rng| {
            let (receiver, points) = BaseReceiver::start(&CONTEXT, &[true], rng);
            let (sender, point) = BaseSender::start(rng);
            let pairs = sender.finish(context, session, 1, &points).unwrap();
            pairs[0][1] == receiver.finish(&SESSION, &point).unwrap()[0]
        };
        assert!(run(&CONTEXT, &SESSION, &mut rng));
        assert!(!run(&[9; 32], &SESSION, &mut rng));
        assert!(!run(&CONTEXT, &[9; 32], &mut rng));
    }

    #[test]
    fn bad_messages_are_errors() {
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        let receiver = |rng: &mut ChaCha20Rng| BaseReceiver::start(&CONTEXT, &[true; 3], rng);
        let (_, points) = receiver(&mut rng);
        let finish = |message: &[u8], rng: &mut ChaCha20Rng| {
            let (sender, _) = BaseSender::start(rng);
            sender.finish(&CONTEXT, &SESSION, 3, message)
        };
        for len in [0, 1, points.len() - 1] {
            let result = finish(&points[..len], &mut rng);
            assert!(matches!(result, Err(OtError::MessageLength { .. })));
        }
        let mut bad = points.clone();
        bad[RECEIVER_BYTES..RECEIVER_BYTES + POINT].fill(0xff);
        let result = finish(&bad, &mut rng);
        assert!(matches!(result, Err(OtError::InvalidPoint { index: 1 })));
        // The neutral element as the sender's point would make the keys public.
        for point in [[0; 32], [0xff; 32]] {
            let result = receiver(&mut rng).0.finish(&SESSION, &point);
            assert!(matches!(result, Err(OtError::InvalidPoint { .. })));
        }
        let result = receiver(&mut rng).0.finish(&SESSION, &[0; 31]);
        assert!(matches!(result, Err(OtError::MessageLength { .. })));
    }
}
