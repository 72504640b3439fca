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
//! | [`cot`], [`one_of_n`], [`triples`] | correlations, derandomised online | |
//! | [`store`] | offline material, each item once | |
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
pub mod cot;
mod engine;
mod error;
pub mod extension;
mod ferret;
mod flavour;
mod ggm;
pub mod hash;
mod meter;
pub mod one_of_n;
pub mod rot;
mod secret;
mod simd;
pub mod softspoken;
pub mod store;
mod traffic;
mod transpose;
pub mod triples;
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
