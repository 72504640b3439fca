//! The channel's contract: lengths, errors, and the traffic counter, on both transports.

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use copriv_ot::{Channel, ChannelError, Traffic};

fn tcp_pair() -> (Channel, Channel) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (Channel::tcp(server).unwrap(), Channel::tcp(client).unwrap())
}

fn on_both(test: impl Fn(Channel, Channel)) {
    let (a, b) = Channel::pair();
    test(a, b);
    let (a, b) = tcp_pair();
    test(a, b);
}

fn traffic(sent: u64, received: u64, rounds: u64) -> Traffic {
    Traffic { sent, received, rounds }
}

#[test]
fn bytes_arrive_in_order_whatever_their_cuts() {
    on_both(|mut a, mut b| {
        let bytes: Vec<u8> = (0..200_000_u64).map(|i| ((i * i) >> 7) as u8).collect();
        let expected = bytes.clone();
        let sender = thread::spawn(move || {
            let mut rest = &bytes[..];
            for cut in [1, 5, 0, 65_535, 65_536, 65_537] {
                a.send(&rest[..cut]).unwrap();
                rest = &rest[cut..];
            }
            a.send(rest).unwrap();
            a.flush().unwrap();
            a
        });
        let mut received = Vec::new();
        for cut in [3, 70_000, 0, 1, 100_000] {
            received.extend(b.recv(cut).unwrap());
        }
        received.extend(b.recv(expected.len() - received.len()).unwrap());
        assert!(received == expected);
        let a = sender.join().unwrap();
        assert_eq!(a.traffic(), traffic(200_000, 0, 1));
        assert_eq!(b.traffic(), a.traffic().mirrored());
    });
}

#[test]
fn both_may_send_much_at_once() {
    on_both(|mut a, mut b| {
        let n = 30 << 20;
        let peer = thread::spawn(move || {
            let got = b.exchange(&vec![2; n], n + 1).unwrap();
            assert!(got.len() == n + 1 && got.iter().all(|&x| x == 1));
            b.traffic()
        });
        let got = a.exchange(&vec![1; n + 1], n).unwrap();
        assert!(got.len() == n && got.iter().all(|&x| x == 2));
        assert_eq!(a.traffic(), traffic(n as u64 + 1, n as u64, 1));
        assert_eq!(peer.join().unwrap(), a.traffic().mirrored());
    });
}

#[test]
fn rounds_are_flows_and_both_parties_agree() {
    on_both(|mut a, mut b| {
        let expect = |a: &Channel, b: &Channel, rounds| {
            assert_eq!(a.traffic().rounds, rounds);
            assert_eq!(b.traffic(), a.traffic().mirrored());
        };
        a.send(&[1, 2]).unwrap();
        a.send(&[3]).unwrap();
        a.send(&[]).unwrap();
        assert_eq!(a.traffic(), traffic(3, 0, 1));
        a.flush().unwrap();
        assert_eq!(b.recv(3).unwrap(), [1, 2, 3]);
        assert_eq!(b.recv(0).unwrap(), []);
        expect(&a, &b, 1);
        b.send(&[4]).unwrap();
        b.flush().unwrap();
        assert_eq!(a.recv(1).unwrap(), [4]);
        expect(&a, &b, 2);
        for rounds in [3, 4] {
            let peer = thread::spawn(move || {
                assert_eq!(b.exchange(&[5], 2).unwrap(), [6, 6]);
                b
            });
            assert_eq!(a.exchange(&[6, 6], 1).unwrap(), [5]);
            b = peer.join().unwrap();
            expect(&a, &b, rounds);
        }
        assert_eq!(a.exchange(&[], 0).unwrap(), []);
        assert_eq!(b.exchange(&[], 0).unwrap(), []);
        expect(&a, &b, 4);
        for rounds in [5, 6] {
            a.send(&[7]).unwrap();
            a.flush().unwrap();
            b.recv(1).unwrap();
            expect(&a, &b, rounds);
            a.mark_phase();
            b.mark_phase();
        }
    });
}

#[test]
fn traffic_adds_up() {
    let (x, y) = (traffic(5, 7, 2), traffic(1, 2, 1));
    assert_eq!(x + y, traffic(6, 9, 3));
    assert_eq!(x - y, traffic(4, 5, 1));
    assert_eq!((x + y).total(), 15);
    let mut z = x;
    z += y;
    assert_eq!(z, x + y);
}

#[test]
fn a_small_send_leaves_when_the_channel_is_dropped() {
    on_both(|mut a, mut b| {
        a.send(&[9; 10]).unwrap();
        drop(a);
        assert_eq!(b.recv(10).unwrap(), [9; 10]);
    });
}

#[test]
fn a_closed_peer_is_an_error_and_final() {
    on_both(|mut a, b| {
        drop(b);
        assert!(matches!(a.recv(1), Err(ChannelError::PeerClosed)));
        assert!(matches!(a.recv(1), Err(ChannelError::Failed)));
        assert!(matches!(a.send(&[1]), Err(ChannelError::Failed)));
    });
    // A message cut short.
    on_both(|mut a, mut b| {
        b.send(&[1; 99]).unwrap();
        drop(b);
        assert!(matches!(a.recv(100), Err(ChannelError::PeerClosed)));
    });
}

#[test]
fn half_a_channel_can_be_closed() {
    on_both(|mut a, mut b| {
        b.send(&[5; 10]).unwrap();
        b.close_sending().unwrap();
        a.send(&[6; 100_000]).unwrap();
        assert_eq!(a.recv(10).unwrap(), [5; 10]);
        assert_eq!(b.recv(100_000).unwrap(), [6; 100_000]);
        assert!(matches!(a.recv(1), Err(ChannelError::PeerClosed)));
        assert!(matches!(b.send(&[0; 1 << 16]), Err(ChannelError::Failed)));
    });
}

#[test]
fn a_dead_peer_surfaces_on_sending_too() {
    on_both(|mut a, b| {
        drop(b);
        let failure = (0..1000).find_map(|_| {
            thread::sleep(Duration::from_millis(1));
            a.send(&[0; 1 << 16]).err()
        });
        assert!(matches!(failure, Some(ChannelError::PeerClosed)));
    });
}

#[test]
fn a_silent_peer_times_out() {
    on_both(|mut a, b| {
        a.set_timeout(Some(Duration::from_millis(20))).unwrap();
        assert!(matches!(a.recv(1), Err(ChannelError::Timeout)));
        drop(b);
    });
}

#[test]
fn a_huge_length_is_not_allocated_before_it_arrives() {
    on_both(|mut a, mut b| {
        b.send(&[0; 10]).unwrap();
        drop(b);
        assert!(matches!(a.recv(usize::MAX / 2), Err(ChannelError::PeerClosed)));
    });
}

#[test]
fn a_stream_runs_ahead_of_its_reader_by_its_backlog_only() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    const PIECE: usize = 1 << 20;
    let (mut a, mut b) = Channel::pair();
    let streamed = AtomicUsize::new(0);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for _ in 0..40 {
                a.stream(&[7; PIECE])?;
                streamed.fetch_add(1, Ordering::SeqCst);
            }
            Ok::<(), ChannelError>(())
        });
        for read in 1..=30 {
            assert!(b.recv(PIECE).unwrap() == [7; PIECE]);
            let ahead = streamed.load(Ordering::SeqCst).saturating_sub(read);
            assert!(ahead <= copriv_ot::channel::BACKLOG / PIECE + 1, "{ahead} pieces");
        }
        // A reader that goes ends the wait.
        drop(b);
        assert!(matches!(sender.join().unwrap(), Err(ChannelError::PeerClosed)));
    });
}
