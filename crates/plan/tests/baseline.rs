//! The presets of the literature send what SCI was measured to send, within 3 %.

use copriv_plan::baseline::{and_lookups, exchange};
use copriv_plan::traffic::Meter;
use copriv_plan::{Choice, Cost, Flavour, Flow, Preset, Step, StepKind, cost};

const N: u64 = 1 << 16;

/// Bytes an element, offline and online.
fn bytes(cost: &Cost) -> f64 {
    let ots = cost.ots();
    let ots = ots.server_sends + ots.client_sends;
    online(&cost.online) + (ots * Flavour::Iknp.millibits()) as f64 / 8000.0 / N as f64
}

fn online(flows: &[Flow]) -> f64 {
    Meter::new().count(flows).bytes() as f64 / N as f64
}

/// Measured on SCI: design, section 6.
#[test]
fn the_presets_send_what_sci_was_measured_to_send() {
    let choice = |preset| Choice { preset, ..Flavour::Iknp.into() };
    let step = |preset, kind, ring| {
        Step { layer: String::new(), kind, inputs: vec![0], len: N as usize, ring }.cost(choice(preset))
    };
    let relu = |l| step(Preset::Cryptflow2, StepKind::ClampLow { bound: 0 }, l);
    let trunc = |l| step(Preset::Cryptflow2, StepKind::ShiftRight { shift: 12, bias: 0 }, l);
    let tr = |from, to| step(Preset::Sirnn, StepKind::Truncate { from, shift: from - to, bias: 0 }, to);
    let ext = |preset, from, to, msb_known| step(preset, StepKind::Extend { from, offset: 0, msb_known }, to);
    let figures = [
        ("ReLU 41", bytes(&relu(41)), 671.5),
        ("ReLU 37", bytes(&relu(37)), 596.5),
        ("ReLU 32", bytes(&relu(32)), 539.5),
        ("ReLU 16", bytes(&relu(16)), 258.0),
        ("ReLU 8", bytes(&relu(8)), 126.5),
        ("trunc 41", bytes(&trunc(41)), 722.0),
        ("trunc 37", bytes(&trunc(37)), 650.0),
        ("trunc 32", bytes(&trunc(32)), 524.5),
        ("TR 41 29", bytes(&tr(41, 29)), 164.6),
        ("TR 32 16", bytes(&tr(32, 16)), 236.0),
        ("TR 16 10", bytes(&tr(16, 10)), 107.8),
        ("ext 16 32", bytes(&ext(Preset::Sirnn, 16, 32, false)), 236.0),
        ("ext 6 16", bytes(&ext(Preset::Sirnn, 6, 16, false)), 107.8),
        ("ext 4 14", bytes(&ext(Preset::Sirnn, 4, 14, false)), 51.3),
        ("ext 16 32, sign known", bytes(&ext(Preset::Privquant, 16, 32, true)), 50.5),
        ("MUX 41", bytes(&cost::mux(N, 41)), 42.3),
        ("B2A 41", bytes(&cost::b2a(N, 41)), 21.1),
        ("AND", online(&exchange(&[and_lookups(N)])), 18.0),
    ];
    for (name, ours, sci) in figures {
        assert!((ours / sci - 1.0).abs() < 0.03, "{name}: {ours:.1} B, SCI {sci} B");
    }
}
