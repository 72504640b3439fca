//! OT extension over real channels: correctness, traffic, and what a bad peer gets.

use std::collections::HashSet;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use copriv_ot::{Channel, OtError, OtExtension, Role, RotReceiver, RotSender, extend_bytes};
use copriv_ot::{ChannelError, setup_traffic};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

type Party = (Channel, OtExtension, ChaCha20Rng);

/// Runs both parties to the end and gives both results.
fn run<S: Send, C: Send>(
    channels: (Channel, Channel),
    server: impl FnOnce(Party) -> S + Send,
    client: impl FnOnce(Party) -> C + Send,
) -> (S, C) {
    let party = |mut chan: Channel, role: Role| {
        let mut rng = ChaCha20Rng::seed_from_u64(role as u64);
        let ot = OtExtension::setup(&mut chan, role, &mut rng).unwrap();
        assert_eq!(chan.traffic(), setup_traffic());
        chan.mark_phase();
        (chan, ot, rng)
    };
    thread::scope(|scope| {
        let client = scope.spawn(|| client(party(channels.1, Role::Client)));
        let server = server(party(channels.0, Role::Server));
        (server, client.join().unwrap())
    })
}

fn tcp_pair() -> (Channel, Channel) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (Channel::tcp(server).unwrap(), Channel::tcp(client).unwrap())
}

fn check(sender: RotSender, receiver: RotReceiver) {
    let choices = receiver.choices();
    let (pairs, pads) = (sender.into_pads(), receiver.into_pads());
    assert_eq!(pairs.len(), pads.len());
    for ((pair, pad), c) in pairs.iter().zip(pads.iter()).zip(choices) {
        assert_eq!(pair[usize::from(c)], *pad);
        assert_ne!(pair[usize::from(!c)], *pad);
    }
}

fn bits(rng: &mut ChaCha20Rng, n: usize) -> Vec<bool> {
    (0..n).map(|_| rng.random()).collect()
}

#[test]
fn both_directions_from_one_setup() {
    let sizes: Vec<(usize, usize)> =
        (0..60).map(|i| (i * 7 % 300, i * 11 % 300)).chain([(0, 5000), (5000, 0), (4096, 4097)]).collect();
    for channels in [Channel::pair(), tcp_pair()] {
        let side = |flip: bool| {
            let sizes = &sizes;
            move |(mut chan, mut ot, mut rng): Party| {
                let mut out = Vec::new();
                for &(a, b) in sizes {
                    let (send, receive) = if flip { (b, a) } else { (a, b) };
                    let before = chan.traffic();
                    let choices = bits(&mut rng, receive);
                    let halves = ot.extend(&mut chan, send, &choices).unwrap();
                    assert_eq!(halves.1.choices(), choices);
                    let used = chan.traffic() - before;
                    assert_eq!(used.sent, extend_bytes(receive));
                    assert_eq!(used.received, extend_bytes(send));
                    assert_eq!(used.rounds, u64::from(send + receive > 0));
                    out.push(halves);
                }
                out
            }
        };
        let (server, client) = run(channels, side(false), side(true));
        for ((s0, r0), (s1, r1)) in server.into_iter().zip(client) {
            check(s0, r1);
            check(s1, r0);
        }
    }
}

#[test]
fn traffic_equals_the_closed_formula() {
    assert_eq!(extend_bytes(0), 0);
    assert_eq!(extend_bytes(1), 128);
    assert_eq!(extend_bytes(8), 128);
    assert_eq!(extend_bytes(9), 256);
    // 128.1 bits an OT at most at 2^22.
    assert!(extend_bytes(1 << 22) * 8 <= (1 << 22) * 128);
}

#[test]
fn no_two_pads_are_equal_and_bits_are_balanced() {
    let n = 1 << 16;
    let ((s0, r0), (s1, r1)) = run(
        Channel::pair(),
        |(mut chan, mut ot, mut rng)| {
            let choices = bits(&mut rng, n);
            ot.extend(&mut chan, n, &choices).unwrap()
        },
        |(mut chan, mut ot, mut rng)| {
            let choices = bits(&mut rng, n);
            ot.extend(&mut chan, n, &choices).unwrap()
        },
    );
    drop((r0, r1));
    let mut seen = HashSet::new();
    let mut ones = 0_u64;
    for pair in s0.into_pads().iter().chain(s1.into_pads().iter()) {
        for pad in pair {
            assert!(seen.insert(*pad));
            ones += u64::from(pad.count_ones());
        }
    }
    let total = 4.0 * n as f64 * 128.0;
    assert!((ones as f64 - total / 2.0).abs() < 3.0 * total.sqrt());
}

#[test]
fn the_same_role_twice_is_refused() {
    let (mut a, mut b) = Channel::pair();
    let setup = |chan: &mut Channel, seed| {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        OtExtension::setup(chan, Role::Client, &mut rng)
    };
    let refused = |result| matches!(result, Err(OtError::Incompatible { what: "role" }));
    thread::scope(|scope| {
        let peer = scope.spawn(move || {
            let mut rng = ChaCha20Rng::seed_from_u64(1);
            OtExtension::setup(&mut b, Role::Client, &mut rng)
        });
        assert!(refused(setup(&mut a, 0)));
        assert!(refused(peer.join().unwrap()));
    });
}

#[test]
fn garbage_from_the_peer_is_an_error() {
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let bytes = setup_traffic().received as usize;
    for round in 0..40 {
        let (mut a, mut b) = Channel::pair();
        a.set_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut garbage = vec![0; if round % 4 == 0 { bytes - 1 } else { bytes }];
        rng.fill_bytes(&mut garbage);
        if round % 2 == 1 {
            // A right hello, so that the points are reached.
            garbage[..8].copy_from_slice(b"cpv-ot1\x01");
        }
        b.send(&garbage).unwrap();
        b.flush().unwrap();
        // A short message must end with the channel; the others must not.
        let peer = (round % 4 != 0).then_some(b);
        let result = OtExtension::setup(&mut a, Role::Server, &mut rng);
        drop(peer);
        match (round % 4, result) {
            (0, Err(OtError::Channel(ChannelError::PeerClosed))) => {}
            (2, Err(OtError::Incompatible { what: "protocol" })) => {}
            (1 | 3, Err(OtError::InvalidPoint { .. })) => {}
            (_, result) => panic!("round {round}: {result:?}"),
        }
    }
}
