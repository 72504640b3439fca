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
        return serve(stream, &model, nursery).map(drop).with_context(|| format!("client {peer}"));
    }
    std::thread::scope(|scope| {
        loop {
            let (stream, peer) = listener.accept().context("cannot accept a client")?;
            let model = &model;
            scope.spawn(move || log(peer, serve(stream, model, nursery)));
        }
    })
}

/// One client, from hello to end; a failure concerns that client alone.
fn serve(stream: TcpStream, model: &Model, nursery: Option<&Nursery>) -> Result<Report> {
    let mut channel = Channel::tcp(stream)?;
    channel.set_timeout(Some(TIMEOUT))?;
    Ok(Server::accept(channel, model, nursery)?.run()?)
}

fn log(peer: SocketAddr, result: Result<Report>) {
    match result {
        Ok(report) => eprintln!("client {peer}: {} inferences", report.inferences),
        Err(error) => eprintln!("client {peer}: {error:#}"),
    }
}
