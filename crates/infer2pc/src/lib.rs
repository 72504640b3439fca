//! Private evaluation of an integer model by two parties.
//!
//! The server keeps its weights, the client its image; values are additively shared in
//! `Z_2^ring`, as a [`copriv_plan::Plan`] says. [`Server`] and [`Client`] are the two ends of
//! a session; each inference has an offline part, independent of the image, and an online
//! part. Results equal [`copriv_model::execute`] bit for bit, and the bytes equal
//! [`copriv_plan::Plan::predict`].
//!
//! | module | protocol | source |
//! |---|---|---|
//! | [`compare`] | millionaires, DReLU | CrypTFlow2, eprint 2020/1002 |
//! | [`convert`] | B2A, MUX, truncate-and-reduce, extension | SiRNN, eprint 2021/459; PrivQuant |
//! | [`baseline`] | the same, as CrypTFlow2 and SiRNN have them | SCI |
//! | [`select`] | clamp, ReLU, max pool, argmax, top-k, look-up tables | CrypTFlow2 |
//! | [`linear`] | `W * r` | Gilboa; CoPriv; packed VOLE |
//! | [`memory`] | a bound on what is held | |
//! | [`engine`] | the steps of a plan, offline and online | |
//! | [`session`] | handshake, set-up, server and client | |
//!
//! # Security
//!
//! Both parties follow the protocol (semi-honest). See SECURITY.md for what each learns.
#![forbid(unsafe_code)]

pub mod baseline;
pub mod compare;
pub mod convert;
pub mod engine;
mod error;
pub mod linear;
pub mod memory;
mod party;
pub mod select;
pub mod session;
mod stock;
pub mod trees;

pub use copriv_ot::{Channel, Role};
pub use engine::Material;
pub use error::Error;
pub use party::{Party, extension};
pub use session::{Client, Report, Reveal, Server, Terms};
pub use stock::OtStock;
pub use trees::Nursery;
