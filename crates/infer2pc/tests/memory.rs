//! The bound on memory: it is kept, by a real process, and it is refused where nothing could run under it.
//! That results and messages do not depend on it is checked with every model of `models.rs`.

mod common;

use common::CHOICE;
use copriv_infer2pc::engine::{self, Measured};
use copriv_infer2pc::{Channel, Party, Role, memory};
use copriv_model::{
    Bias, ConvSpec, GraphBuilder, LayerWeights, LinearSpec, Model, TensorType, Weights, execute,
};
use copriv_plan::{Choice, Flavour, Plan};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// A convolution and 65,536 activations of it.
fn model() -> Model {
    let linear = LinearSpec {
        weight_bits: 4,
        ternary: false,
        weight_scale_log2: -3,
        channel_shifts: vec![],
        bias_bits: 4,
        acc_bound: None,
    };
    let mut b = GraphBuilder::new("wide", TensorType::unsigned([3, 64, 64], 6, -4));
    let x = b.input();
    let spec = ConvSpec { out_channels: 16, kernel: 3, stride: 1, pad: 1, groups: 1, linear };
    let y = b.conv("conv", x, spec).unwrap();
    let y = b.relu("relu", y).unwrap();
    let y = b.requant("requant", y, 6, 4, false, true).unwrap();
    let mut weights = Weights::default();
    let weight = (0..16 * 27).map(|i| i * i % 16 - 8).collect();
    weights.insert("conv", LayerWeights { weight, bias: Bias::per_channel(vec![1; 16]) });
    Model::new(b.finish(y).unwrap(), weights).unwrap()
}

#[test]
fn a_bound_under_which_no_layer_fits_is_refused_by_name() {
    let model = model();
    let plan = Plan::new(&model.graph, CHOICE).unwrap();
    let (least, layer) = memory::least(&plan);
    assert_eq!(layer, "conv");
    let (bounds, _) =
        common::parties(CHOICE, |p| [0, least - 1, least].map(|bytes| p.limit_memory(bytes, &plan)), |_| ());
    let needs = format!("layer `conv` needs {} kB", least.div_ceil(1000));
    for refused in &bounds[..2] {
        let error = refused.as_ref().unwrap_err().to_string();
        assert!(error.contains(&needs), "{error}");
    }
    assert!(bounds[2].is_ok());
}

/// Inferences whose offline part is done ahead.
const AHEAD: usize = 40;
/// Bytes beside the smallest bound.
const ROOM: u64 = 4_000_000;
/// Bytes of two parties beside what the bound counts: the program, OT extension, activations, and what the
/// allocator keeps.
const BESIDE: u64 = 40_000_000;

/// Both parties of [`AHEAD`] inferences; the peak of this process in bytes, and what went to the disk.
#[cfg(target_os = "linux")]
fn run(bound: Option<u64>) -> (u64, u64) {
    let model = model();
    let choice = Choice { flavour: Flavour::SoftSpoken4, ..CHOICE };
    let plan = Plan::new(&model.graph, choice).unwrap();
    let x: Vec<i64> = (0..3 * 64 * 64).map(|i| i % 64).collect();
    let (a, b) = Channel::pair();
    let party = |channel: Channel, role: Role| {
        let rng = StdRng::seed_from_u64(role as u64);
        let mut party = Party::connect(channel, role, choice, rng).unwrap();
        let weights = (role == Role::Server).then_some(&model.weights);
        let input = (role == Role::Client).then_some(&x[..]);
        engine::plant(&mut party, &plan, weights).unwrap();
        if let Some(bytes) = bound {
            party.limit_memory(bytes, &plan).unwrap();
        }
        let mut measured = Measured::default();
        let ahead: Vec<_> =
            (0..AHEAD).map(|_| engine::offline(&mut party, &plan, weights, &mut measured).unwrap()).collect();
        let mut result = None;
        for material in ahead {
            let done = engine::online(&mut party, &plan, weights, material, input, &mut measured, |_, _| {});
            result = done.unwrap();
        }
        (result, party.spilled())
    };
    let (result, spilled) = std::thread::scope(|scope| {
        let server = scope.spawn(|| party(a, Role::Server));
        let client = party(b, Role::Client);
        assert_eq!(server.join().unwrap().1 > 0, client.1 > 0);
        client
    });
    assert_eq!(result.unwrap(), execute::run(&model, &x).unwrap().output());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    (line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024, spilled)
}

#[cfg(target_os = "linux")]
#[test]
fn the_peak_of_a_process_stays_within_the_bound() {
    const CHILD: &str = "COPRIV_TEST_BOUND";
    if let Ok(bound) = std::env::var(CHILD) {
        let (peak, spilled) = run(bound.parse().ok());
        println!("peak {peak} {spilled}");
        return;
    }
    let child = |bound: &str| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["the_peak_of_a_process_stays_within_the_bound", "--exact", "--nocapture"]);
        let output = command.env(CHILD, bound).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|line| Some(&line[line.find("peak ")? + 5..])).unwrap();
        let (peak, spilled) = line.split_once(' ').unwrap();
        (peak.parse::<u64>().unwrap(), spilled.parse::<u64>().unwrap())
    };
    let choice = Choice { flavour: Flavour::SoftSpoken4, ..CHOICE };
    let model = model();
    let bound = memory::least(&Plan::new(&model.graph, choice).unwrap()).0 + ROOM;
    let (peak, spilled) = child(&bound.to_string());
    assert!(spilled > 0);
    assert!(peak <= 2 * bound + BESIDE, "{peak} bytes under a bound of {bound} for each of two parties");
    let (free, spilled) = child("none");
    assert_eq!(spilled, 0);
    assert!(free > 2 * bound + BESIDE, "{free} bytes without a bound: it would show nothing");
}
