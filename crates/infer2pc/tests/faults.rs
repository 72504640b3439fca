//! A peer that goes away, lies about lengths or sends garbage gives an error, never a panic.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use copriv_infer2pc::{Channel, Client, Error, Server, Terms};
use copriv_model::{
    Bias, ConvSpec, GraphBuilder, LayerWeights, LinearSpec, Model, TensorType, Weights, file,
};
use copriv_plan::Preset;

/// conv, relu, requantisation, logits: every kind of message.
fn model() -> Model {
    let linear = |bits| LinearSpec {
        weight_bits: bits,
        ternary: false,
        weight_scale_log2: -3,
        channel_shifts: vec![],
        bias_bits: 4,
        acc_bound: None,
    };
    let mut b = GraphBuilder::new("faults", TensorType::unsigned([1, 4, 4], 4, -4));
    let x = b.input();
    let spec = ConvSpec { out_channels: 2, kernel: 3, stride: 1, pad: 1, groups: 1, linear: linear(3) };
    let y = b.conv("conv", x, spec).unwrap();
    let y = b.relu("relu", y).unwrap();
    let y = b.requant("requant", y, 3, 4, false, true).unwrap();
    let y = b.flatten("flatten", y).unwrap();
    let y = b.linear("logits", y, 3, linear(3)).unwrap();
    let mut weights = Weights::default();
    let layer = |n: usize, k: usize| LayerWeights {
        weight: (0..n as i32).map(|i| i % 7 - 3).collect(),
        bias: Bias::per_channel(vec![1; k]),
    };
    weights.insert("conv", layer(18, 2));
    weights.insert("logits", layer(96, 3));
    Model::new(b.finish(y).unwrap(), weights).unwrap()
}

/// What a man in the middle does to the bytes of one direction.
#[derive(Clone, Copy)]
enum Tamper {
    /// Closes both connections after so many bytes.
    Cut(usize),
    /// Inverts the byte at this offset.
    Flip(usize),
    None,
}

fn relay(mut from: TcpStream, mut to: TcpStream, tamper: Tamper) {
    let mut passed = 0;
    let mut buffer = [0; 4096];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 {
            break;
        }
        let bytes = &mut buffer[..n];
        let mut keep = n;
        match tamper {
            Tamper::Cut(at) if passed + n > at => keep = at - passed,
            Tamper::Flip(at) if (passed..passed + n).contains(&at) => bytes[at - passed] ^= 0xff,
            _ => {}
        }
        if to.write_all(&bytes[..keep]).is_err() || keep < n {
            break;
        }
        passed += n;
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// One inference through the man in the middle; `(server, client)`.
fn through(up: Tamper, down: Tamper) -> (Result<(), Error>, Result<Vec<i64>, Error>) {
    under(Terms::default(), up, down)
}

fn under(terms: Terms, up: Tamper, down: Tamper) -> (Result<(), Error>, Result<Vec<i64>, Error>) {
    let front = TcpListener::bind("127.0.0.1:0").unwrap();
    let back = TcpListener::bind("127.0.0.1:0").unwrap();
    let (to_front, to_back) = (front.local_addr().unwrap(), back.local_addr().unwrap());
    let channel = |stream| {
        let mut channel = Channel::tcp(stream).unwrap();
        channel.set_timeout(Some(Duration::from_secs(2))).unwrap();
        channel
    };
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            let (stream, _) = back.accept().unwrap();
            Server::accept(channel(stream), &model(), None)?.run().map(drop)
        });
        scope.spawn(move || {
            let (client, _) = front.accept().unwrap();
            let server = TcpStream::connect(to_back).unwrap();
            let (client2, server2) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            scope.spawn(move || relay(client, server, up));
            relay(server2, client2, down);
        });
        let client = (|| {
            let channel = channel(TcpStream::connect(to_front).unwrap());
            let mut client = Client::connect(channel, terms, 1, None)?;
            let input = vec![3; 16];
            let material = client.offline()?;
            client.online(material, &input)
        })();
        (server.join().unwrap(), client)
    })
}

#[test]
fn an_honest_relay_changes_nothing() {
    let (server, client) = through(Tamper::None, Tamper::None);
    server.unwrap();
    let expected = copriv_model::execute::run(&model(), &[3; 16]).unwrap();
    assert_eq!(client.unwrap(), expected.output());
}

#[test]
fn a_connection_cut_anywhere_is_an_error_on_both_sides() {
    // Hello, graph, base OTs, offline, online: some point in each.
    for at in [0, 5, 13, 14, 30, 60, 500, 3000, 4300, 5000] {
        let (server, client) = through(Tamper::Cut(at), Tamper::None);
        assert!(server.is_err() && client.is_err(), "upstream cut at {at}");
        let (server, client) = through(Tamper::None, Tamper::Cut(at));
        assert!(client.is_err(), "downstream cut at {at}");
        assert!(server.is_err(), "downstream cut at {at}");
    }
}

#[test]
fn a_flipped_byte_never_panics() {
    // In the handshake and the base OTs it is noticed; later it may only spoil the result, as
    // the parties are semi-honest.
    for at in (0..46).chain((46..6000).step_by(397)) {
        let (server, client) = through(Tamper::Flip(at), Tamper::None);
        if at < 9 || (13..46).contains(&at) {
            assert!(server.is_err() || client.is_err(), "upstream byte {at}");
        }
        let _ = through(Tamper::None, Tamper::Flip(at));
    }
}

/// SiRNN's operators, and its products of narrow shares.
#[test]
fn a_flipped_byte_never_panics_in_the_literatures_protocols() {
    let terms = Terms { preset: Preset::Sirnn, ..Terms::default() };
    let (server, client) = under(terms, Tamper::None, Tamper::None);
    server.unwrap();
    assert_eq!(client.unwrap(), copriv_model::execute::run(&model(), &[3; 16]).unwrap().output());
    for at in (5000..60_000).step_by(4999) {
        let _ = under(terms, Tamper::Flip(at), Tamper::None);
        let _ = under(terms, Tamper::None, Tamper::Flip(at));
        let (server, client) = under(terms, Tamper::Cut(at), Tamper::None);
        assert_eq!(server.is_err(), client.is_err(), "upstream cut at {at}");
    }
}

#[test]
fn a_graph_of_absurd_length_is_refused_before_it_is_read() {
    let (client, mut server) = Channel::pair();
    server.send(&u32::MAX.to_le_bytes()).unwrap();
    server.flush().unwrap();
    let Err(error) = Client::connect(client, Terms::default(), 1, None) else { panic!("accepted") };
    assert!(error.to_string().contains("4294967295 bytes"), "{error}");
}

#[test]
fn graphs_that_do_not_validate_are_refused() {
    let text = file::graph_to_json(&model().graph).unwrap();
    for (from, to) in
        [("\"out_channels\": 2", "\"out_channels\": 3"), ("\"copriv_model\": 1", "\"copriv_model\": 9")]
    {
        assert!(text.contains(from));
        let (client, mut server) = Channel::pair();
        let text = text.replace(from, to);
        server.send(&(text.len() as u32).to_le_bytes()).unwrap();
        server.send(text.as_bytes()).unwrap();
        server.flush().unwrap();
        assert!(Client::connect(client, Terms::default(), 1, None).is_err());
    }
}

#[test]
fn a_stranger_is_turned_away() {
    let (server, mut client) = Channel::pair();
    client.send(b"GET / HTTP/1.1\r\n").unwrap();
    client.flush().unwrap();
    let model = model();
    let Err(error) = Server::accept(server, &model, None) else { panic!("accepted") };
    assert!(matches!(error, Error::PeerIncompatible(_)), "{error}");
}
