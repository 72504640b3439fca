//! `cargo bench -p copriv-ot [-- LOG2_OTS] [FLAVOUR]`: random OTs a second, and bits on the wire for each.
//!
//! Both parties run in this process, one thread each, pinned to a core each, over loopback TCP.
//! One party is the OT sender and one the receiver; a random OT is done when its pads are
//! hashed. Prints one table and writes `target/bench/ot.json`, rows of `{name, params, value, unit}`.
//!
//! `ot/s` is wall time of the slower party; on a machine with other work `ot/cpu-s` (thread
//! time of the busier party) is the figure to compare.

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, hint, thread};

use copriv_bench::Results;
use copriv_ot::{Channel, OtExtension, OtFlavour, Role, cot, one_of_n};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// OTs of one call: what a streaming user asks for.
const BATCH: usize = 1 << 16;

fn main() {
    let log = env::args().find_map(|arg| arg.parse::<u32>().ok());
    let log = log.unwrap_or(24);
    let mut table = Results::default();
    let only = env::args().find(|arg| OtFlavour::ALL.iter().any(|f| f.name() == arg));
    for flavour in OtFlavour::ALL {
        if only.as_ref().is_some_and(|only| only != flavour.name()) {
            continue;
        }
        // The wide trees cost much more work an OT.
        let log = if flavour == OtFlavour::SoftSpoken8 { log.min(22) } else { log };
        flavour_rows(&mut table, flavour, 1 << log);
    }
    push(&mut table, "memory", "peak of both parties in one process, extensions", peak_megabytes(), "MB");
    if only.is_none() {
        correlation_rows(&mut table);
    }
    if only.as_deref().is_none_or(|only| only == "ferret") {
        thread_rows(&mut table, 1 << log);
    }
    table.finish("ot").expect("the results can be written");
}

/// One figure; `on` says on what it was measured.
fn push(table: &mut Results, name: &str, on: &str, value: f64, unit: &'static str) {
    table.push(name, &[("on", on.into())], value, unit);
}

fn flavour_rows(table: &mut Results, flavour: OtFlavour, n: usize) {
    let (server, client) = tcp_pair();
    let sender = thread::spawn(move || {
        pin(0);
        party(server, Role::Server, flavour, n, 0)
    });
    let receiver = thread::spawn(move || {
        pin(1);
        party(client, Role::Client, flavour, 0, n)
    });
    let sent = sender.join().expect("the sender's thread ends well");
    let received = receiver.join().expect("the receiver's thread ends well");
    let name = flavour.name();
    let params = format!("n = 2^{}, loopback, batches of 2^16", n.ilog2());
    let rate = |time: Duration| n as f64 / time.as_secs_f64();
    let (wall, cpu) = (sent.wall.max(received.wall), sent.cpu.max(received.cpu));
    push(table, name, &params, rate(wall), "ot/s");
    push(table, name, &params, rate(cpu), "ot/cpu-s");
    push(table, name, &format!("{params}, sender"), rate(sent.cpu), "ot/cpu-s");
    push(table, name, &format!("{params}, receiver"), rate(received.cpu), "ot/cpu-s");
    let bits = |bytes: u64| bytes as f64 * 8.0 / n as f64;
    push(table, name, &params, bits(sent.bytes), "bit/ot");
    let params = format!("{params}, set-up included");
    push(table, name, &params, bits(sent.bytes + sent.setup_bytes), "bit/ot");
}

/// Ferret on one thread and on two, one party at a time: the OT sender waits for nobody.
fn thread_rows(table: &mut Results, n: usize) {
    let mut rates = [0.0; 2];
    let mut work = [0.0; 2];
    for (i, threads) in [1, 2].into_iter().enumerate() {
        let (server, client) = Channel::pair();
        let set_up = move |mut chan: Channel, role: Role| {
            let mut rng = ChaCha20Rng::seed_from_u64(role as u64);
            let flavour = OtFlavour::Ferret;
            let mut ot =
                OtExtension::setup_with(&mut chan, role, flavour, &mut rng).expect("the peer is honest");
            ot.set_threads(threads);
            // The bootstrap takes both parties.
            let (send, receive) = if role == Role::Server { (1, 0) } else { (0, 1) };
            ot.extend_random(&mut chan, send, receive).expect("the peer is honest");
            (chan, ot)
        };
        let client = thread::spawn(move || set_up(client, Role::Client));
        let (mut chan, mut ot) = set_up(server, Role::Server);
        let client = client.join().expect("the client's thread ends well");
        let (start, cpu) = (Instant::now(), process_time());
        for _ in (0..n).step_by(4 * BATCH) {
            let rots = ot.extend_random(&mut chan, 4 * BATCH, 0).expect("nobody is waited for");
            hint::black_box(rots);
        }
        rates[i] = n as f64 / start.elapsed().as_secs_f64();
        work[i] = (process_time() - cpu).as_secs_f64();
        drop(client);
        let params = format!("correlated OTs, {threads} threads, sender alone");
        push(table, "ferret", &params, rates[i], "ot/s");
    }
    let wall = rates[1] / rates[0];
    push(table, "ferret", "two threads over one, wall", wall, "ratio");
    // What two threads can gain at most, whatever else the machine does.
    let bound = 2.0 * work[0] / work[1];
    push(table, "ferret", "two threads over one, by processor time", bound, "ratio");
}

/// Local work of the correlations, each party on its own.
fn correlation_rows(table: &mut Results) {
    const N: usize = 1 << 21;
    let (mut server, mut client) = Channel::pair();
    let setup = |chan: &mut Channel, role: Role| {
        let mut rng = ChaCha20Rng::seed_from_u64(role as u64);
        OtExtension::setup(chan, role, &mut rng).expect("the peer is honest")
    };
    let (mut server_ot, mut client_ot) = thread::scope(|scope| {
        let client = scope.spawn(|| setup(&mut client, Role::Client));
        let server = setup(&mut server, Role::Server);
        (server, client.join().expect("the client's thread ends well"))
    });
    let mut rots = || {
        thread::scope(|scope| {
            let receiver = scope.spawn(|| client_ot.extend_random(&mut client, 0, N));
            let sender = server_ot.extend_random(&mut server, N, 0);
            let receiver = receiver.join().expect("no panic");
            (sender.expect("an honest peer").0, receiver.expect("an honest peer").1)
        })
    };
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
    // One thread, whose processor time all of the work is.
    let one = pool(1);
    let mut row = |name: &str, n: usize, what: &str, work: &mut (dyn FnMut() + Send)| {
        let seconds = one.install(|| {
            let start = thread_time();
            work();
            (thread_time() - start).as_secs_f64()
        });
        push(table, name, what, n as f64 / seconds, "ot/cpu-s");
    };

    let (choices, delta) = (vec![true; N], vec![3; N]);
    let (sender, receiver) = rots();
    let flips = receiver.flips(&choices);
    let (mut sender, mut receiver, mut message) = (Some(sender), Some(receiver), Vec::new());
    row("cot", N, "32 bits, sender", &mut || {
        let rots = sender.take().expect("once");
        message = cot::sender(rots, &flips, 32, &delta).expect("right lengths").0;
    });
    row("cot", N, "32 bits, receiver", &mut || {
        let rots = receiver.take().expect("once");
        hint::black_box(cot::receiver(rots, &choices, 32, &message).expect("right lengths"));
    });

    for d in [4, 200] {
        let (sender, receiver) = rots();
        let (mut sender, mut receiver) = (Some(sender), Some(receiver));
        let (widths, mut sum) = (vec![30; N], 0_u64);
        let n = N / d;
        row("cot-vector", n, &format!("{d} values of 30 bits, sender"), &mut || {
            let rots = sender.as_mut().and_then(|rots| rots.take(n).ok()).expect("enough");
            let fill = |_: usize, out: &mut [u64]| out.fill(7);
            let sink = |_: usize, shares: &[u64]| sum ^= shares[0];
            message = cot::vector_sender(rots, &widths[..n], d, fill, sink).expect("lengths");
        });
        row("cot-vector", n, &format!("{d} values of 30 bits, receiver"), &mut || {
            let rots = receiver.as_mut().and_then(|rots| rots.take(n).ok()).expect("enough");
            let sink = |_: usize, shares: &[u64]| sum ^= shares[0];
            cot::vector_receiver(rots, &widths[..n], d, &message, sink).expect("lengths");
        });
        hint::black_box(sum);
    }

    let wall = [1, 2].map(|threads| {
        let (n, d) = (N / 200, 2000);
        let (mut sender, widths) = (rots().0, vec![30; N]);
        let rots = sender.take(n).expect("enough");
        pool(threads).install(|| {
            let start = Instant::now();
            let fill = |_: usize, out: &mut [u64]| out.fill(7);
            hint::black_box(cot::vector_sender(rots, &widths[..n], d, fill, |_, _| ()).expect("lengths"));
            start.elapsed().as_secs_f64()
        })
    });

    let digits = vec![5; N / 4];
    let (sender, receiver) = rots();
    let random = one_of_n::Receiver::cut(receiver, 4, 2).expect("right lengths");
    let flips = one_of_n::Receiver::new(4, 2, random).flips(&digits).expect("right lengths");
    let (mut sender, mut receiver) = (Some(sender), Some(rots().1));
    row("one-of-16", N / 4, "2 bits, sender", &mut || {
        let rots = sender.take().expect("once");
        let table = |i: usize, v: usize| (i ^ v) as u8;
        let strings = one_of_n::Sender::cut(rots, 4, 2).expect("right lengths");
        message = one_of_n::Sender::new(4, 2, strings).send(&flips, table).expect("right lengths").0;
    });
    row("one-of-16", N / 4, "2 bits, receiver", &mut || {
        let rots = receiver.take().expect("once");
        let strings = one_of_n::Receiver::cut(rots, 4, 2).expect("right lengths");
        let shares = one_of_n::Receiver::new(4, 2, strings).receive(&digits, &message);
        hint::black_box(shares.expect("right lengths"));
    });
    push(table, "cot-vector", "2000 values, sender, two threads over one, wall", wall[0] / wall[1], "ratio");
}

struct Run {
    wall: Duration,
    cpu: Duration,
    bytes: u64,
    setup_bytes: u64,
}

/// Runs one party: `send` and `receive` are the OTs in each role, one of them zero.
fn party(mut chan: Channel, role: Role, flavour: OtFlavour, send: usize, receive: usize) -> Run {
    let mut rng = ChaCha20Rng::seed_from_u64(role as u64);
    let mut ot = OtExtension::setup_with(&mut chan, role, flavour, &mut rng).expect("the peer is honest");
    let setup_bytes = chan.traffic().total();
    // Both start together.
    chan.exchange(&[0], 1).expect("the peer is there");
    let before = chan.traffic();
    let (start, cpu) = (Instant::now(), thread_time());
    for _ in (0..send + receive).step_by(BATCH) {
        let (sent, received) =
            ot.extend_random(&mut chan, BATCH.min(send), BATCH.min(receive)).expect("the peer is honest");
        let mut sum = 0;
        sent.for_each_pad(|_, zero, one| sum ^= zero ^ one);
        received.for_each_pad(|_, choice, pad| sum ^= pad ^ u128::from(choice));
        hint::black_box(sum);
    }
    Run {
        wall: start.elapsed(),
        cpu: thread_time() - cpu,
        bytes: (chan.traffic() - before).total(),
        setup_bytes,
    }
}

fn tcp_pair() -> (Channel, Channel) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let client = TcpStream::connect(address).expect("loopback");
    let (server, _) = listener.accept().expect("loopback");
    let channel = |stream| Channel::tcp(stream).expect("a connected stream");
    (channel(server), channel(client))
}

/// Pins the calling thread to a core, where `taskset` can.
fn pin(core: usize) {
    let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
    let thread = thread.file_name().unwrap_or_default().to_owned();
    let _ = Command::new("taskset")
        .args(["-cp", &core.to_string()])
        .arg(thread)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Processor time of the calling thread; wall time where the system does not tell.
fn thread_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|n| n.parse().ok());
    nanos.map_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap_or_default(), Duration::from_nanos)
}

/// Processor time of the whole process, in user mode; zero where the system does not tell.
fn process_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the command's name in parentheses; user time is the fourteenth field, in ticks.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().nth(11).and_then(|n| n.parse().ok());
    Duration::from_millis(ticks.unwrap_or(0) * 10)
}

fn peak_megabytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes: Option<f64> =
        line.and_then(|line| line.split_whitespace().nth(1)).and_then(|n| n.parse().ok());
    kilobytes.unwrap_or(0.0) * 1024.0 / 1e6
}
