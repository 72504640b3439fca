//! The arguments of `copriv private-eval`, `serve` and `query`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{Data, MemoryArgs, TermsArgs, TileWidths};

#[derive(Args, Debug)]
pub struct PrivateEval {
    /// Folder of an integer model
    pub model: PathBuf,
    #[command(flatten)]
    pub data: Data,
    /// Images to evaluate: an even sample of the test split
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub images: u32,
    #[command(flatten)]
    pub terms: TermsArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Widths of Winograd's tile positions
    #[arg(long, value_enum, default_value_t)]
    pub tile_widths: TileWidths,
    /// Also write a page with a chart
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Also write the report as JSON; `-` is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Serve {
    /// Folder of an integer model
    pub model: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:7100")]
    pub listen: SocketAddr,
    /// Widths of Winograd's tile positions
    #[arg(long, value_enum, default_value_t)]
    pub tile_widths: TileWidths,
    /// End after one client
    #[arg(long)]
    pub once: bool,
    /// Folder in which set-ups are kept, so that a client sets up once
    #[arg(long, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    #[command(flatten)]
    pub memory: MemoryArgs,
}

#[derive(Args, Debug)]
pub struct Query {
    /// The server's address
    #[arg(long, default_value = "127.0.0.1:7100")]
    pub connect: SocketAddr,
    /// Image files (PNG or WebP); without any, images of a data set's test split
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub data: Data,
    /// Images of the data set
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub images: u32,
    #[command(flatten)]
    pub terms: TermsArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Folder in which the set-up is kept for later queries to this server
    #[arg(long, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    /// Write a line of JSON for each image and one for the session; `-` is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
}
