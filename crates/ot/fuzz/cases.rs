//! What is fuzzed, shared by the `cargo fuzz` targets and by a short deterministic run in the
//! tests. Each case takes arbitrary bytes, and must neither panic nor hang.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::thread;

use copriv_ot::wire::{BitReader, packed_len, unpack, unpack_bits};
use copriv_ot::{Channel, OtError, OtExtension, OtFlavour, Role, RotReceiver, RotSender};
use copriv_ot::{cot, one_of_n};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// Unpacking of bit strings.
pub fn wire(data: &[u8]) {
    let Some((&[bits, n], rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let (bits, n) = (u32::from(bits) % 65, usize::from(n));
    if let Ok(values) = unpack(rest, bits, n) {
        assert_eq!(copriv_ot::wire::pack(&values, bits), rest);
    }
    if let Ok(values) = unpack_bits(rest, n) {
        assert_eq!(copriv_ot::wire::pack_bits(&values), rest);
    }
    let mut reader = BitReader::new(rest);
    for &bits in data {
        if reader.read(u32::from(bits) % 65).is_err() {
            break;
        }
    }
    let _ = reader.finish();
}

/// Stored random OTs, and the messages of the correlations made of them.
pub fn messages(data: &[u8]) {
    let _ = RotSender::from_bytes(data);
    let _ = RotReceiver::from_bytes(data);
    let Some((&[n, l, m, which], message)) = data.split_first_chunk::<4>() else {
        return;
    };
    let (n, l, m) = (usize::from(n) % 40, u32::from(l) % 70, u32::from(m) % 6);
    let (sender, receiver) = stored(n);
    let right = |right: usize, result: bool| {
        // No other length can be accepted.
        assert!(!result || message.len() == right);
    };
    match which % 6 {
        0 => right(packed_len(n, 1), cot::sender(sender, message, l, &vec![1; n]).is_ok()),
        1 => {
            let result = cot::receiver(receiver, &vec![true; n], l, message);
            right(packed_len(n, l), result.is_ok());
        }
        2 => {
            let widths: Vec<u32> = (0..n as u32).map(|i| (i + l) % 70).collect();
            let bytes = cot::vector_bytes(&widths, 3) as usize;
            let result = cot::vector_receiver(receiver, &widths, 3, message, |_, _| {});
            right(bytes, result.is_ok());
        }
        3 => {
            let strings = one_of_n::Sender::cut(sender, m, l);
            let result = strings.map(|s| one_of_n::Sender::new(m, l, s).send(message, |i, v| (i + v) as u8));
            let result = result.and_then(|sent| sent);
            right(packed_len(n, 1), result.is_ok());
        }
        4 => {
            let digits = vec![0; n.checked_div(m as usize).unwrap_or(0)];
            let strings = one_of_n::Receiver::cut(receiver, m, l);
            let result = strings.and_then(|s| one_of_n::Receiver::new(m, l, s).receive(&digits, message));
            if result.is_ok() {
                let bytes = one_of_n::message_bytes(digits.len(), m, l) as usize;
                right(bytes, true);
            }
        }
        _ => right(packed_len(n, l), cot::receiver_chosen(receiver, l, message).is_ok()),
    }
}

/// A whole session with a peer that sends an honest transcript, changed: `data` is the flavour,
/// how much is cut off, and edits of four bytes (offset, and what is XORed there).
/// Gives what the session ended with.
pub fn peer(data: &[u8]) -> Result<(), OtError> {
    let (head, edits) = data.split_at(data.len().min(4));
    let head: [u8; 4] = std::array::from_fn(|i| head.get(i).copied().unwrap_or(0));
    let flavour = usize::from(head[0]) % OtFlavour::ALL.len();
    let mut bytes = transcript(flavour).to_vec();
    let cut = u32::from_le_bytes([head[1], head[2], head[3], 0]) as usize;
    for edit in edits.chunks_exact(4) {
        let at = u32::from_le_bytes([edit[0], edit[1], edit[2], 0]) as usize % bytes.len();
        bytes[at] ^= edit[3];
    }
    bytes.truncate(bytes.len().saturating_sub(cut));
    let (mine, mut theirs) = Channel::pair();
    theirs.send(&bytes)?;
    theirs.close_sending()?;
    party(mine, Role::Server, OtFlavour::ALL[flavour])
}

/// Bytes of the honest peer in a session of this flavour.
pub fn transcript(flavour: usize) -> &'static [u8] {
    static TRANSCRIPTS: [OnceLock<Vec<u8>>; OtFlavour::ALL.len()] =
        [const { OnceLock::new() }; OtFlavour::ALL.len()];
    TRANSCRIPTS[flavour].get_or_init(|| record(OtFlavour::ALL[flavour]))
}

/// Runs a session and notes what the client sends.
fn record(flavour: OtFlavour) -> Vec<u8> {
    let (server, to_server) = connection();
    let (client, to_client) = connection();
    let server = thread::spawn(move || party(server, Role::Server, flavour));
    let client = thread::spawn(move || party(client, Role::Client, flavour));
    let (from_client, from_server) = (clone(&to_client), clone(&to_server));
    let back = thread::spawn(move || relay(from_server, to_client));
    let bytes = relay(from_client, to_server);
    back.join().expect("the relay ends");
    server.join().expect("no panic").expect("an honest session");
    client.join().expect("no panic").expect("an honest session");
    bytes
}

/// One party's whole session; both run the same steps.
fn party(mut chan: Channel, role: Role, flavour: OtFlavour) -> Result<(), OtError> {
    const N: usize = 60;
    let mut rng = ChaCha20Rng::seed_from_u64(role as u64);
    let mut ot = OtExtension::setup_with(&mut chan, role, flavour, &mut rng)?;
    let choices = [true; N];
    let (send, receive) = ot.extend(&mut chan, N, &choices)?;
    let (message, _) = cot::sender_chosen(send, 13, &[5; N])?;
    let theirs = chan.exchange(&message, packed_len(N, 13))?;
    cot::receiver_chosen(receive, 13, &theirs)?;

    let (mut send, mut receive) = ot.extend_random(&mut chan, 2 * N, 2 * N)?;
    let (send_first, receive_first) = (send.take(N)?, receive.take(N)?);
    let theirs = chan.exchange(&receive_first.flips(&choices), packed_len(N, 1))?;
    let (message, _) = cot::sender(send_first, &theirs, 7, &[9; N])?;
    let theirs = chan.exchange(&message, packed_len(N, 7))?;
    cot::receiver(receive_first, &choices, 7, &theirs)?;

    let digits = [3; N / 2];
    let receive = one_of_n::Receiver::new(2, 3, one_of_n::Receiver::cut(receive, 2, 3)?);
    let flips = receive.flips(&digits)?;
    let theirs = chan.exchange(&flips, packed_len(N, 1))?;
    let (message, _) = one_of_n::Sender::new(2, 3, one_of_n::Sender::cut(send, 2, 3)?)
        .send(&theirs, |i, v| (i ^ v) as u8)?;
    let theirs = chan.exchange(&message, message.len())?;
    receive.receive(&digits, &theirs)?;
    Ok(())
}

/// Random OTs of nobody in particular.
fn stored(n: usize) -> (RotSender, RotReceiver) {
    let header = |kind: &[u8; 8]| {
        let mut bytes = kind.to_vec();
        bytes.resize(8 + 17 + 8, 0);
        bytes.extend_from_slice(&(n as u64).to_le_bytes());
        bytes.resize(bytes.len() + 16 * n, 3);
        bytes
    };
    let mut sender = header(b"cpvrotS1");
    sender.resize(sender.len() + 16, 9);
    let mut receiver = header(b"cpvrotR1");
    receiver.resize(receiver.len() + n.div_ceil(8), 0);
    (
        RotSender::from_bytes(&sender).expect("well formed"),
        RotReceiver::from_bytes(&receiver).expect("well formed"),
    )
}

fn connection() -> (Channel, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let outside = TcpStream::connect(address).expect("loopback");
    let (inside, _) = listener.accept().expect("loopback");
    (Channel::tcp(inside).expect("a connected stream"), outside)
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a connected stream")
}

/// Passes bytes on until the end, and keeps them.
fn relay(mut from: TcpStream, mut to: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = from.read(&mut buffer).unwrap_or(0);
        if n == 0 || to.write_all(&buffer[..n]).is_err() {
            let _ = to.shutdown(Shutdown::Write);
            return all;
        }
        all.extend_from_slice(&buffer[..n]);
    }
}
