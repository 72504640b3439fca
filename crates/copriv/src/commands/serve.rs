//! `copriv serve`.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use copriv_infer2pc::{Channel, Nursery, Report, Server};
use copriv_model::{Model, file};

use crate::cli;

/// A client that is silent for longer is dropped.
pub const TIMEOUT: Duration = Duration::from_secs(120);

pub fn run(args: &cli::Serve) -> Result<()> {
    let model = args.tile_widths.apply(file::load(&args.model)?)?;
    let nursery = args.state.as_ref().map(Nursery::of_server);
    let nursery = nursery.as_ref();
    let listener =
        TcpListener::bind(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    say!("listening on {}", listener.local_addr()?);
    std::io::stdout().flush()?;
    if args.once {
        let (stream, peer) = listener.accept().context("cannot accept a client")?;
        return serve(stream, &model, nursery, args.memory)
            .map(drop)
            .with_context(|| format!("client {peer}"));
    }
    std::thread::scope(|scope| {
        loop {
            let (stream, peer) = listener.accept().context("cannot accept a client")?;
            let model = &model;
            scope.spawn(move || log(peer, serve(stream, model, nursery, args.memory)));
        }
    })
}

/// One client, from hello to end; a failure concerns that client alone.
fn serve(
    stream: TcpStream,
    model: &Model,
    nursery: Option<&Nursery>,
    memory: cli::MemoryArgs,
) -> Result<Report> {
    let mut channel = Channel::tcp(stream)?;
    channel.set_timeout(Some(TIMEOUT))?;
    let mut server = Server::accept(channel, model, nursery)?;
    if let Some(bytes) = memory.memory {
        server.limit_memory(bytes)?;
    }
    Ok(server.run()?)
}

/// What is said of correlations that did not fit `--memory`.
pub fn waited(spilled: u64) -> Option<String> {
    let megabytes = spilled as f64 / 1e6;
    (spilled > 0).then(|| format!("{megabytes:.1} MB of correlations waited in a temporary file"))
}

fn log(peer: SocketAddr, result: Result<Report>) {
    match result {
        Ok(report) => {
            let waited = waited(report.spilled).map_or(String::new(), |waited| format!("; {waited}"));
            eprintln!("client {peer}: {} inferences{waited}", report.inferences);
        }
        Err(error) => eprintln!("client {peer}: {error:#}"),
    }
}
