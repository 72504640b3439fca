//! Every way of a requantisation (PrivQuant algorithm 1) on every value of small types: narrower or
//! wider results, with and without a shift, a saturation, a known sign, and a consumer that asks for a
//! wider ring.

mod common;

use std::collections::BTreeSet;

use common::check;
use copriv_model::{Bias, ConvSpec, GraphBuilder, LayerWeights, LinearSpec, Model, TensorType, Weights};
use copriv_plan::{Choice, Flavour, Plan, Preset, StepKind};

/// What is asked of one requantisation.
#[derive(Clone, Copy, Debug)]
struct Case {
    bits: u32,
    signed: bool,
    relu: bool,
    shift: u32,
    out_bits: u32,
    out_signed: bool,
    clamp: bool,
    /// Whether a product follows, whose ring is wider.
    product: bool,
}

/// `None` if export would refuse it, since values could wrap.
fn model(case: Case) -> Option<Model> {
    let side = 1 << (case.bits / 2);
    let shape = [1, side, 1 << (case.bits - case.bits / 2)];
    let input = TensorType { signed: case.signed, ..TensorType::unsigned(shape, case.bits, 0) };
    let input = TensorType { known_non_negative: !case.signed, ..input };
    let mut b = GraphBuilder::new("requant", input);
    let mut x = b.input();
    if case.relu {
        x = b.relu("relu", x).ok()?;
    }
    x = b.requant("requant", x, case.shift, case.out_bits, case.out_signed, case.clamp).ok()?;
    let mut weights = Weights::default();
    if case.product {
        let linear = LinearSpec {
            weight_bits: 4,
            ternary: false,
            weight_scale_log2: 0,
            channel_shifts: vec![],
            bias_bits: 2,
            acc_bound: None,
        };
        let spec = ConvSpec { out_channels: 1, kernel: 1, stride: 1, pad: 0, groups: 1, linear };
        x = b.conv("product", x, spec).ok()?;
        weights.insert("product", LayerWeights { weight: vec![-7], bias: Bias::per_channel(vec![1]) });
    }
    Model::new(b.finish(x).ok()?, weights).ok()
}

/// The interactive steps of the requantisation, in order.
fn way(plan: &Plan) -> String {
    let name = |kind: &StepKind| match kind {
        StepKind::Extend { msb_known: true, .. } => Some("extend, sign known"),
        StepKind::Extend { .. } => Some("extend"),
        StepKind::Truncate { .. } => Some("truncate"),
        StepKind::ShiftRight { .. } => Some("shift right"),
        StepKind::Saturate { .. } => Some("saturate"),
        StepKind::TruncateSaturate { .. } => Some("truncate and saturate"),
        StepKind::ClampLow { .. } => Some("low"),
        StepKind::ClampHigh { .. } => Some("high"),
        _ => None,
    };
    let steps = plan.steps.iter().filter(|s| s.layer == "requant");
    steps.filter_map(|s| name(&s.kind)).collect::<Vec<_>>().join(", ")
}

fn cases() -> impl Iterator<Item = Case> {
    let flags = |i: u32| [0, 1, 2, 3].map(|bit| i >> bit & 1 == 1);
    [5, 10].into_iter().flat_map(move |bits| {
        [0, 2, bits - 1].into_iter().flat_map(move |shift| {
            [2, 4, bits + 1].into_iter().flat_map(move |out_bits| {
                (0..16).map(move |i| {
                    let [signed, relu, clamp, product] = flags(i);
                    Case {
                        bits,
                        signed,
                        relu,
                        shift,
                        out_bits,
                        out_signed: out_bits % 2 == 0,
                        clamp,
                        product,
                    }
                })
            })
        })
    })
}

#[test]
fn every_way_is_exact_on_every_value() {
    let mut ways = BTreeSet::new();
    for (i, case) in cases().enumerate() {
        let Some(model) = model(case) else { continue };
        let first = if case.signed { -(1i64 << (case.bits - 1)) } else { 0 };
        let x: Vec<i64> = (0..1 << case.bits).map(|v| first + v).collect();
        // All ways are planned; a part of the baselines' is run, whose operators have their own tests.
        for preset in [Preset::CoprivNg, Preset::Sirnn, Preset::Privquant, Preset::Cryptflow2] {
            let choice = Choice { preset, packing: 0, ..Flavour::Iknp.into() };
            let way = format!("{}: {}", preset.name(), way(&Plan::new(&model.graph, choice).unwrap()));
            if ways.insert(way) || preset == Preset::CoprivNg && i % 5 == 0 {
                check(&model, choice, &x);
            }
        }
    }
    for way in [
        "copriv-ng: ",
        "copriv-ng: truncate",
        "copriv-ng: extend, sign known",
        "copriv-ng: truncate, extend, sign known",
        "copriv-ng: truncate, saturate",
        "copriv-ng: truncate, saturate, extend, sign known",
        "copriv-ng: saturate, extend, sign known",
        "copriv-ng: truncate, low",
        "copriv-ng: truncate, high, extend, sign known",
        "sirnn: truncate",
        "sirnn: truncate, low, high",
        "privquant: truncate, extend, sign known",
        "privquant: truncate, extend",
        "cryptflow2: shift right",
        "cryptflow2: shift right, low, high",
    ] {
        assert!(ways.contains(way), "`{way}` is not among {ways:#?}");
    }
}
