//! OT extension over real channels: correctness, traffic, and what a bad peer gets.

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use copriv_ot::{Channel, ChannelError, OtError, OtExtension, OtFlavour, OtMeter, Role};
use copriv_ot::{RotReceiver, RotSender, extend_bytes, setup_traffic};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

struct Party {
    chan: Channel,
    ot: OtExtension,
    meter: OtMeter,
    rng: ChaCha20Rng,
}

impl Party {
    /// Extends with chosen or random choices, and checks traffic and shapes.
    fn extend(&mut self, send: usize, receive: usize, random: bool) -> (RotSender, RotReceiver) {
        let before = self.chan.traffic();
        self.chan.mark_phase();
        let (halves, expected) = if random {
            let halves = self.ot.extend_random(&mut self.chan, send, receive);
            (halves.unwrap(), self.meter.extend_random(send, receive))
        } else {
            let choices: Vec<bool> = (0..receive).map(|_| self.rng.random()).collect();
            let halves = self.ot.extend(&mut self.chan, send, &choices).unwrap();
            assert_eq!(halves.1.choices(), choices);
            (halves, self.meter.extend(send, receive))
        };
        assert_eq!(self.chan.traffic() - before, expected, "{send} {receive} {random}");
        assert_eq!((halves.0.len(), halves.1.len()), (send, receive));
        halves
    }
}

/// Runs both parties to the end and gives both results.
fn run<S: Send, C: Send>(
    channels: (Channel, Channel),
    flavour: OtFlavour,
    server: impl FnOnce(Party) -> S + Send,
    client: impl FnOnce(Party) -> C + Send,
) -> (S, C) {
    let party = |mut chan: Channel, role: Role| {
        let mut rng = ChaCha20Rng::seed_from_u64(role as u64);
        let ot = OtExtension::setup_with(&mut chan, role, flavour, &mut rng).unwrap();
        let meter = OtMeter::new(flavour);
        assert_eq!(ot.flavour(), flavour);
        assert_eq!(chan.traffic(), meter.setup());
        Party { chan, ot, meter, rng }
    };
    thread::scope(|scope| {
        let client = scope.spawn(|| client(party(channels.1, Role::Client)));
        let server = server(party(channels.0, Role::Server));
        (server, client.join().unwrap())
    })
}

/// Runs the same calls, server's view, on both parties and checks every OT.
fn run_calls(channels: (Channel, Channel), flavour: OtFlavour, calls: &[(usize, usize, bool)]) {
    let (server, client) = run(
        channels,
        flavour,
        |mut party| -> Vec<_> {
            let calls = calls.iter();
            calls.map(|&(s, r, random)| party.extend(s, r, random)).collect()
        },
        |mut party| -> Vec<_> {
            let calls = calls.iter();
            calls.map(|&(s, r, random)| party.extend(r, s, random)).collect()
        },
    );
    for ((s0, r0), (s1, r1)) in server.into_iter().zip(client) {
        check(s0, r1);
        check(s1, r0);
    }
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

#[test]
fn both_directions_at_all_sizes() {
    for flavour in OtFlavour::ALL {
        let calls: Vec<_> = (0..300).map(|i| (i, (i * 7 + 1) % 301, i % 3 == 0)).collect();
        run_calls(Channel::pair(), flavour, &calls);
    }
}

#[test]
fn both_directions_at_200_random_sizes_over_tcp() {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    for flavour in OtFlavour::ALL {
        let calls: Vec<_> = (0..200)
            .map(|i| {
                let largest = if i % 20 == 0 { 20_000 } else { 2_000 };
                let mut size = || rng.random_range(0..=largest);
                (size(), size(), i % 2 == 0)
            })
            .chain([(0, 16_384, true), (16_385, 0, false), (0, 0, false)])
            .collect();
        run_calls(tcp_pair(), flavour, &calls);
    }
}

#[test]
fn traffic_a_random_ot_is_within_the_issue() {
    let n = 1 << 22;
    let bits = |flavour| {
        let mut meter = OtMeter::new(flavour);
        let traffic = meter.setup() + meter.extend(0, n);
        traffic.total() as f64 * 8.0 / n as f64
    };
    assert!(bits(OtFlavour::Iknp) <= 128.1);
    assert!(bits(OtFlavour::SoftSpoken4) <= 32.1);
    assert!(bits(OtFlavour::SoftSpoken8) <= 16.1);
    // Random choices, and the bootstrap counted.
    let mut meter = OtMeter::new(OtFlavour::Ferret);
    let traffic = meter.setup() + meter.extend_random(0, n);
    assert!(traffic.total() as f64 * 8.0 / n as f64 <= 1.0);
    assert_eq!(extend_bytes(0), 0);
    assert_eq!(extend_bytes(1), 128);
    assert_eq!(extend_bytes(8), 128);
    assert_eq!(extend_bytes(9), 256);
}

#[test]
fn no_two_pads_are_equal_and_bits_are_balanced() {
    for flavour in OtFlavour::ALL {
        // 2^22 pads for the two constructions, fewer for their variants.
        let n = match flavour {
            OtFlavour::Iknp | OtFlavour::Ferret => 1 << 20,
            _ => 1 << 14,
        };
        let ((s0, r0), (s1, r1)) = run(
            Channel::pair(),
            flavour,
            |mut party| party.extend(n, n, true),
            |mut party| party.extend(n, n, true),
        );
        let coins = [r0.choices(), r1.choices()].concat();
        let ones = coins.iter().filter(|&&c| c).count() as f64;
        assert!((ones - n as f64).abs() < 3.0 * (2.0 * n as f64).sqrt());
        let mut pads = Vec::with_capacity(4 * n);
        for sender in [s0, s1] {
            sender.for_each_pad(|_, zero, one| pads.extend([zero, one]));
        }
        let ones: u64 = pads.iter().map(|pad| u64::from(pad.count_ones())).sum();
        let total = 4.0 * n as f64 * 128.0;
        assert!((ones as f64 - total / 2.0).abs() < 3.0 * total.sqrt());
        pads.sort_unstable();
        assert!(pads.windows(2).all(|pair| pair[0] != pair[1]), "{flavour:?}");
    }
}

#[test]
fn a_failed_extension_is_final_even_on_a_new_channel() {
    for flavour in OtFlavour::ALL {
        let (mut server, _) = run(Channel::pair(), flavour, |party| party, |_| ());
        // The client is gone in the middle of the session.
        let result = server.ot.extend_random(&mut server.chan, 10, 10);
        assert!(matches!(result, Err(OtError::Channel(_))), "{flavour:?}");
        let (mut fresh, _peer) = Channel::pair();
        for (send, receive) in [(0, 0), (10, 0), (0, 10)] {
            let result = server.ot.extend_random(&mut fresh, send, receive);
            assert!(matches!(result, Err(OtError::Failed)), "{flavour:?}");
        }
        assert_eq!(fresh.traffic().total(), 0);
    }
}

#[test]
fn another_flavour_is_refused() {
    let (mut a, mut b) = Channel::pair();
    let refused = |result| matches!(result, Err(OtError::Incompatible { what: "flavour" }));
    let setup = |chan: &mut Channel, role, flavour| {
        let mut rng = ChaCha20Rng::seed_from_u64(role as u64);
        OtExtension::setup_with(chan, role, flavour, &mut rng)
    };
    thread::scope(|scope| {
        let peer = scope.spawn(|| setup(&mut b, Role::Client, OtFlavour::SoftSpoken4));
        assert!(refused(setup(&mut a, Role::Server, OtFlavour::Iknp)));
        assert!(refused(peer.join().unwrap()));
    });
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
            garbage[..9].copy_from_slice(b"cpv-ot3\x01\x00");
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
