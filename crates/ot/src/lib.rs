//! Oblivious transfer for two-party computation: channels that count every byte, base OT,
//! OT extension in both directions from one set-up, and the correlations built from it.
//!
//! The layers, from the wire upwards:
//!
//! | module | what | protocol |
//! |---|---|---|
//! | [`channel`] | duplex byte channel with a traffic counter | |
//! | [`wire`] | packing to the bit | |
//! | [`base_ot`] | public-key OT on Ristretto | endemic OT, eprint 2019/706 |
//! | [`hash`] | tweakable correlation-robust hash | TMMO, eprint 2019/074 |
//! | [`softspoken`] | OT extension, sans-IO | IKNP, CRYPTO 2003; SoftSpokenOT, eprint 2022/192 |
//! | `ferret` | silent OT extension, sans-IO | Ferret, eprint 2020/924; Half-Tree, eprint 2022/1431 |
//! | [`extension`] | both directions over a channel | |
//! | [`rot`] | random OTs, each usable once | |
//! | [`short`] | the same, cut to the bits that will be read | |
//! | [`correlation`] | one interface for what follows | |
//! | [`cot`], [`transfer`], [`one_of_n`], [`table`], [`triples`] | correlations, derandomised online | |
//! | [`vole`] | packed VOLE: fixed small numbers times vectors | SoftSpokenOT, eprint 2022/192; Half-Tree, eprint 2022/1431 |
//! | [`kkot`] | 1-of-N OT extension, sans-IO | KK13, CRYPTO 2013 |
//! | [`store`] | offline material, each item once | |
//! | [`spill`] | offline material beyond the memory meant for it | |
//!
//! # Example
//!
//! A correlated OT: the client learns shares of `choice * delta`, the server the other shares.
//!
//! ```
//! use copriv_ot::{Channel, OtError, OtExtension, OtFlavour, Role, cot};
//! # use rand::SeedableRng;
//!
//! let (mut server, mut client) = Channel::pair();
//! let choices = [true, false, true];
//! let client = std::thread::spawn(move || -> Result<Vec<u64>, OtError> {
//!     let mut rng = rand_chacha::ChaCha20Rng::from_rng(&mut rand::rng());
//!     let mut ot = OtExtension::setup_with(&mut client, Role::Client, OtFlavour::SoftSpoken4, &mut rng)?;
//!     let (_, rots) = ot.extend_random(&mut client, 0, 3)?;
//!     client.send(&rots.flips(&choices))?;
//!     let message = client.recv(cot::message_bytes(3, 16) as usize)?;
//!     cot::receiver(rots, &choices, 16, &message)
//! });
//!
//! let mut rng = rand_chacha::ChaCha20Rng::from_rng(&mut rand::rng());
//! let mut ot = OtExtension::setup_with(&mut server, Role::Server, OtFlavour::SoftSpoken4, &mut rng)?;
//! let (rots, _) = ot.extend_random(&mut server, 3, 0)?;
//! let flips = server.recv(1)?;
//! let (message, mine) = cot::sender(rots, &flips, 16, &[10, 20, 30])?;
//! server.send(&message)?;
//! server.flush()?;
//! let theirs = client.join().unwrap()?;
//! let sum = |i: usize| (mine[i] + theirs[i]) % (1 << 16);
//! assert_eq!([sum(0), sum(1), sum(2)], [10, 0, 30]);
//! # Ok::<(), OtError>(())
//! ```
//!
//! # Security
//!
//! Everything here is for **honest-but-curious** parties with 128 bits of computational
//! security. Malformed messages give an error and never a panic, but a party that deviates from
//! the protocol in well-formed messages is not caught. Secrets are zeroised on drop and no
//! branch or address depends on them, except where a doc comment says so.
#![warn(missing_docs)]

#[cfg(not(target_endian = "little"))]
compile_error!("copriv-ot lays blocks out in memory as they travel: little-endian targets only");

pub mod base_ot;
pub mod channel;
mod cipher;
pub mod correlation;
pub mod cot;
mod engine;
mod error;
pub mod extension;
mod ferret;
mod flavour;
mod ggm;
pub mod hash;
pub mod kkot;
mod meter;
pub mod one_of_n;
pub mod rot;
mod secret;
pub mod short;
mod simd;
pub mod softspoken;
pub mod spill;
pub mod store;
pub mod table;
mod traffic;
pub mod transfer;
mod transpose;
pub mod triples;
pub mod vole;
pub mod wire;

pub use channel::{Channel, ChannelError, Traffic};
pub use error::OtError;
pub use extension::{OtExtension, Role, extend_bytes, setup_traffic};
pub use flavour::OtFlavour;
pub use meter::OtMeter;
pub use rot::{RotReceiver, RotSender};
pub use secret::Secret;

#[cfg(test)]
mod dealer;
