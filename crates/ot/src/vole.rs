//! Packed VOLE: one message multiplies a secret vector by a whole group of fixed small numbers.
//!
//! Adapts the small-field VOLE of Roy, *SoftSpokenOT* (eprint 2022/192, section 3), from fields of
//! two elements to the ring modulo `2^l` and from random to chosen, fixed coefficients. A *group* is
//! a list of digits `w = (w_1 .. w_m)`, digit `i` in `0..radix_i` ([`Radices`]), owned by the
//! *puncturer* (the server: a group of weights). The leaves of a puncturable PRF stand for all points
//! `p`; the *holder* (the client) knows all seeds `s_p`, the puncturer all but `s_w`. Set up once,
//! a group is used any number of times: with `G_p = PRG(s_p, t)` a vector of `d` lanes for use `t`,
//!
//! ```text
//! both:       u = sum_p G_p       z_i = sum_p p_i G_p      (the puncturer with any G_w it likes)
//! holder:     sends c = r - u     v_i = -z_i
//! puncturer:                      q_i = w_i (c + u) - z_i            =>  q_i - v_i = w_i r
//! ```
//!
//! for every `i`, from one message. It works because the coefficient of `G_w` in
//! `q_i = w_i c + sum_p (w_i - p_i) G_p` is zero: whatever the puncturer puts in the place of the
//! seed that it lacks cancels, so it runs the very same code as the holder, without a branch or an
//! address that depends on `w`. With the holder's `u` and `z`, the puncturer's are `u - G_w + D` and
//! `z_i - w_i (G_w - D)`, with `D` the dummy's vector.
//!
//! | module | what |
//! |---|---|
//! | `radices` | alphabets, and which leaf stands for which point |
//! | `depths` | how many trees of which depth |
//! | `setup` | half-tree set-up of all trees, and its traffic |
//! | `tree` | leaves from a root, or from siblings |
//! | `session` | fresh nonces and uses that cannot repeat |
//! | `sums` | `u` and `z_i` |
//! | `fold`, `kernel` | PRG and sums: portable, and in AVX-512 registers |
//! | `file` | set-up material on the disk |
//!
//! # Trees
//! Half-tree (Guo et al., eprint 2022/1431): parent `x` has the children `H(x)` and `x ^ H(x)`, and
//! the two nodes of the first level differ by `Delta`, so every level of every tree adds up to the
//! one `Delta` of the set-up. A correlated OT `(q, t = q ^ b Delta)` then opens one of the two sums of
//! a level: the holder sends `q ^ K` with `K` the sum of the left nodes. That is 16 bytes a
//! level, none for the first one (its correlated OT *is* the pair of nodes), and a choice bit.
//!
//! # PRG
//! Block `j` of `G_p` for use `t` of group `g` is
//!
//! ```text
//! G_p[j] = pi_K(s_p ^ j) ^ s_p        K = AES_S(t, g)        S = BLAKE3(set-up id, nonce)
//! ```
//!
//! with `pi` AES-128 and `nonce` 128 bits that the holder draws for every session. It is a single-key
//! Even-Mansour cipher in counter mode, or, up to the public `j`, the hash `pi_K(x) ^ x` at `x = s_p ^ j`.
//! `K` is public and differs for each (session, use, group): the map from `(t, g)` is a permutation.
//! Leaves are expanded anew for each use; a party stores 16 bytes (holder) or 16 a level a group.
//!
//! # Security
//! Honest-but-curious, in the ideal-cipher model, 128 bits.
//!
//! *Against the puncturer.* Its view is all seeds but one of each tree, and the messages `c_t`. By the
//! all-but-one OT of half-tree (proved there in the random-permutation model; each tree has its own AES
//! key here, derived from the set-up's identifier and the group) the missing seed is `Delta ^ a`, with
//! `a` known and `Delta` uniform. The PRG is `x -> pi_K(x) ^ x` at `Delta ^ (a ^ j)`, and the offsets
//! `a ^ j` under one `K` are distinct: this is the correlation-robust hash MMO of Guo, Katz, Wang, Yu
//! (eprint 2019/074). So the `G_w` of all uses are pseudorandom, and the messages, each of which
//! contains `-G_w`, are simulated by random vectors. An attacker who evaluates the cipher `T` times
//! wins with about `T Q / 2^128`, where `Q` is the number of blocks *under one key*: those of one
//! vector, or the levels of one tree, however many groups, uses and sessions there are.
//!
//! *Against the holder.* The puncturer sends nothing but the messages of the OT receiver, at set-up:
//! the digits are as well hidden as the choice bits there.
//!
//! *Outputs.* The points contain zero and all unit vectors, so the map from the `G_p` to
//! `(u, z_1 .. z_m)` is onto: to whom does not know the seeds, shares and message are jointly uniform.
//! Where `w_i = 0` the puncturer knows `v_i = q_i`, which is inherent in the equation.
//!
//! *Not covered:* parties that deviate. A holder can send different `c` where the same `r` is
//! expected, and wrong sums at set-up, whose effect then depends on the digits.
//!
//! What keeps this true over many uses, and where it is enforced:
//!
//! 1. *A tree is punctured once.* Two punctures of one tree would give away every past `r`.
//!    [`setup_puncturer`] makes fresh trees from a fresh `Delta`; nothing can move a puncture, and a file
//!    for another fingerprint does not load ([`FileError::Fingerprint`]).
//! 2. *A use is never repeated.* The holder cannot name a nonce, only draw one
//!    ([`HolderTrees::session`]); uses of a session are counted, and a [`Ticket`] is moved into the only
//!    call that it is good for.
//! 3. *No key serves two uses or two groups*: see above.
//! 4. *Seeds are never used bare* nor `Delta` elsewhere: the OT extension of a set-up lives and dies
//!    within it.
//! 5. *Every leaf is a legal point.* Leaves beyond the last point stand for the first points again,
//!    so there is no seed whose puncture would open all used ones.
//! 6. *Time and addresses do not depend on `w`*: the puncturer stores one sibling a level and
//!    expands its tree around a hole that it never looks for.

mod depths;
mod file;
mod fold;
#[cfg(target_arch = "x86_64")]
mod kernel;
mod lane;
mod radices;
mod session;
mod setup;
mod sums;
mod tree;

pub use depths::{Depths, MAX_DEPTH};
pub use file::FileError;
pub use lane::Lane;
pub use radices::Radices;
pub use session::{NONCE_BYTES, Session, Ticket, Use};
pub use setup::{setup_holder, setup_puncturer, setup_traffic};
pub use sums::Sums;
pub use tree::{HolderTrees, PuncturedTrees, Roots, Siblings, Trees};

/// Encrypts `32 n` blocks with AES-128 and does nothing else, for benchmarks to compare with.
#[doc(hidden)]
pub fn encrypt_alone(n: usize) -> u128 {
    #[cfg(target_arch = "x86_64")]
    if let Some(detected) = kernel::Detected::get() {
        return detected.encrypt_alone(n);
    }
    let mut blocks = [1; 32];
    let cipher = crate::cipher::Cipher::new(7);
    (0..n).for_each(|_| cipher.encrypt(&mut blocks));
    blocks[0]
}
