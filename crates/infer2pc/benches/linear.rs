//! `cargo bench -p copriv-infer2pc --bench linear [-- quick]`: bytes and seconds of one inference's
//! linear layer, by preset and by the number `k` of weight bits that share a message, over loopback
//! TCP with one thread a party. `s` is the wall time of offline and online, without set-up; `GB/s` is
//! what the seeds were stretched to (`MB` the peak of both parties in one process, set-up included), and `of aes crate` its share of what that crate's cipher alone does on this
//! core; `cargo bench -p copriv-ot --bench vole` has the distance to AES in registers.

use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use copriv_bench::Results;
use copriv_infer2pc::{Channel, Party, Role, linear};
use copriv_model::kernel::Geometry;
use copriv_model::{Bias, LayerWeights};
use copriv_plan::linear::{Algorithm, Method, Product, Side, Tile};
use copriv_plan::{Choice, Flavour, Preset};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

fn main() {
    let quick = std::env::args().any(|arg| arg == "quick");
    let limit = aes_limit();
    let mut results = Results::default();
    results.push("aes crate", &[("block", "16 B".into())], limit, "GB/s");
    // The layers of PrivQuant's Table 9, at W2A4.
    let all = [(56, 64, 3), (28, 128, 3), (14, 256, 3), (7, 512, 3), (7, 512, 1)];
    let ks: &[u32] = if quick { &[4, 8] } else { &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10] };
    for (h, c, r) in all {
        for &k in ks {
            // All of k only where the issue has a goal for the time.
            if (h, c) == (14, 256) || [4, 8].contains(&k) {
                let layer = conv(h, c, r, 2, 4, Algorithm::Direct, Method::Packed { k });
                measure(&mut results, &layer, (h, c, r, 2, 4), k, Preset::CoprivNg, limit);
            }
        }
    }
    if !quick {
        let cot = Method::Cot { receiver: Side::Server };
        let layer = conv(14, 256, 3, 2, 4, Algorithm::Direct, cot);
        measure(&mut results, &layer, (14, 256, 3, 2, 4), 0, Preset::Privquant, limit);
        // Wide weights, where tiles pay.
        for algorithm in [Algorithm::Direct, Algorithm::Winograd(Tile::F2), Algorithm::Winograd(Tile::F4)] {
            let layer = conv(14, 64, 3, 6, 6, algorithm, Method::Packed { k: 8 });
            measure(&mut results, &layer, (14, 64, 3, 6, 6), 8, Preset::CoprivNg, limit);
        }
        // CoPriv's fixed point: 41 bits, weights are ring elements.
        let mut layer = conv(14, 256, 3, 41, 4, Algorithm::Winograd(Tile::F4), cot);
        (layer.ring, layer.method) = (41, Method::Cot { receiver: Side::Client });
        measure(&mut results, &layer, (14, 256, 3, 41, 41), 0, Preset::Copriv, limit);
    }
    results.finish("linear").expect("the results can be written");
}

/// A convolution with `c` filters, stride 1, same size, accumulators of the worst case.
fn conv(h: usize, c: usize, r: usize, w: u32, a: u32, algorithm: Algorithm, method: Method) -> Product {
    let geometry = Geometry {
        channels: c,
        height: h,
        width: h,
        filters: c,
        kernel: r,
        stride: 1,
        pad: r / 2,
        groups: 1,
    };
    let largest = geometry.fan_in() as u64 * (1 << (w - 1)) * ((1 << a) - 1);
    // Two's complement; the negative extreme may be a power of two itself.
    let ring = 1 + u64::BITS - (largest - 1).leading_zeros();
    Product {
        geometry,
        weight_bits: w,
        ternary: false,
        bounds: vec![],
        ring,
        wrap: None,
        channel_shifts: vec![],
        algorithm,
        method,
    }
}

fn measure(
    results: &mut Results,
    layer: &Product,
    (h, c, r, w, a): (usize, usize, usize, u32, u32),
    k: u32,
    preset: Preset,
    limit: f64,
) {
    let choice = Choice { flavour: Flavour::SoftSpoken4, preset, ..Choice::default() };
    let (server, client) = tcp_pair();
    // Begins a new peak, where the system has one.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let one = |role, channel| {
        let threads = (std::thread::available_parallelism().map_or(2, usize::from) / 2).max(1);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| party(role, channel, choice, layer))
    };
    let (setup, bytes, seconds) = std::thread::scope(|scope| {
        let server = scope.spawn(|| one(Role::Server, server));
        let client = one(Role::Client, client);
        server.join().expect("no panic");
        client
    });
    let algorithm = match layer.algorithm {
        Algorithm::Direct => "direct",
        Algorithm::Winograd(Tile::F2) => "F2",
        Algorithm::Winograd(Tile::F4) => "F4",
        Algorithm::Winograd(Tile::F2Stride2) => "F2 stride 2",
        Algorithm::ElementWise(_) => "element-wise",
    };
    let params: Vec<(&str, Value)> = vec![
        ("h", h.into()),
        ("c", c.into()),
        ("r", r.into()),
        ("w", w.into()),
        ("a", a.into()),
        ("k", k.into()),
        ("preset", preset.name().into()),
        ("algorithm", algorithm.into()),
    ];
    results.push("conv", &params, bytes as f64 / 1e9, "GB");
    results.push("conv set-up", &params, setup as f64 / 1e9, "GB");
    results.push("conv", &params, seconds, "s");
    results.push("conv memory, both parties", &params, peak_megabytes(), "MB");
    if layer.is_packed() {
        let stretched = layer.cost(choice).blocks * 16.0 / 1e9 / seconds;
        results.push("conv PRG", &params, stretched, "GB/s");
        results.push("conv PRG", &params, stretched / limit, "of aes crate");
    }
}

/// Set-up bytes, bytes of an inference, its seconds.
fn party(role: Role, channel: Channel, choice: Choice, layer: &Product) -> (u64, u64, f64) {
    let mut rng = StdRng::seed_from_u64(role as u64);
    let half = 1i64 << (layer.weight_bits.min(16) - 1);
    let weights = (role == Role::Server).then(|| LayerWeights {
        weight: (0..layer.geometry.weights()).map(|_| rng.random_range(-half..half) as i32).collect(),
        bias: Bias { vectors: vec![vec![0; layer.geometry.filters]], map: vec![] },
    });
    let weights = weights.as_ref();
    let x = vec![1u64; layer.geometry.channels * layer.geometry.height * layer.geometry.width];
    let mut party = Party::connect(channel, role, choice, rng).expect("an honest peer");
    party.plant(std::iter::once((layer, weights))).expect("an honest peer");
    // Both parties stand at the start.
    party.channel.exchange(&[0], 1).expect("a peer");
    let setup = party.channel.traffic().total();
    let start = Instant::now();
    let material = linear::offline(&mut party, layer, 0..layer.groups(), weights).expect("an honest peer");
    linear::online(&mut party, layer, material, weights, &x).expect("an honest peer");
    party.channel.flush().expect("a peer");
    party.channel.exchange(&[0], 1).expect("a peer");
    (setup, party.channel.traffic().total() - setup - 2, start.elapsed().as_secs_f64())
}

/// GB/s of the cipher alone, many blocks at a time.
fn aes_limit() -> f64 {
    let cipher = Aes128::new(&[7; 16].into());
    let mut blocks = vec![aes::Block::default(); 1024];
    const ROUNDS: usize = 1 << 14;
    let mut run = || {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            cipher.encrypt_blocks(std::hint::black_box(&mut blocks));
        }
        (ROUNDS * 1024 * 16) as f64 / 1e9 / start.elapsed().as_secs_f64()
    };
    // The core takes its time to reach its speed.
    (0..5).map(|_| run()).fold(0.0, f64::max)
}

fn tcp_pair() -> (Channel, Channel) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let client = std::thread::spawn(move || TcpStream::connect(address).expect("a connection"));
    let (server, _) = listener.accept().expect("a connection");
    let client = client.join().expect("no panic");
    (Channel::tcp(server).expect("a channel"), Channel::tcp(client).expect("a channel"))
}

fn peak_megabytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kilobytes.map_or(f64::NAN, |kb| kb * 1024.0 / 1e6)
}
