//! Whole networks beside the literature's.

use copriv_model::kernel::Geometry;
use copriv_model::{Graph, Node, Op};

use super::copriv::{is_tiled, winograd_gib};
use super::{Builder, Table, TableError};
use crate::architectures::{Bits, Numbers, geometries, named};
use crate::linear::Side;
use crate::literature::{GIB, Mixed, sci, uniform};
use crate::{Choice, Flavour, Plan, StepKind};

/// A network of the literature's comparisons.
struct Network {
    label: &'static str,
    name: &'static str,
    /// SCI's ring for it (`networks/main_*.cpp`), CoPriv's for the last.
    ring: u32,
    /// Widths of the quantised systems.
    widths: (u32, u32),
}

const NETWORKS: [Network; 4] = [
    Network { label: "MiniONN", name: "minionn", ring: 41, widths: (2, 4) },
    Network { label: "ResNet-32", name: "resnet32", ring: 41, widths: (4, 6) },
    Network { label: "MobileNetV2-w0.75", name: "mbv2-w0.75", ring: 41, widths: (4, 6) },
    Network { label: "ResNet-50", name: "resnet50", ring: 37, widths: (4, 6) },
];

/// SiRNN's widths are not printed: with 16 bits two of its three figures come out within a tenth.
const SIRNN_BITS: u32 = 16;

pub(super) fn literature() -> Result<Table, TableError> {
    let mut table = Builder::new("networks")?;
    for network in NETWORKS {
        uniform_rows(&mut table, &network)?;
        mixed_rows(&mut table, &network)?;
        for (system, why) in [
            ("COINN", "its factored multiplications are not modelled"),
            (
                "CoPriv, first selection",
                "which blocks lose their ReLUs is not printed; `copriv reproduce pruning` looks for blocks that meet it",
            ),
            ("CoPriv, second selection", "as the first"),
        ] {
            table.printed_only(&format!("{}, {system}", network.label), why);
        }
    }
    Ok(table.finish())
}

/// CrypTFlow2 and CoPriv.
fn uniform_rows(table: &mut Builder, network: &Network) -> Result<(), TableError> {
    let Network { label, name, ring, .. } = *network;
    let graph = named(name, Numbers::FixedPoint { ring, scale: 12 })?;
    let (relus, outputs, matches) = elements(&graph);
    let regular: u64 =
        geometries(&graph).map(|g| uniform::product((&g).into(), ring, Side::Client).bytes()).sum();
    let regular = regular as f64 / GIB;
    let tiled: f64 = geometries(&graph).map(|g| winograd_gib(&g, ring)).sum();
    let relu = (relus + matches) as f64 * sci::relu(ring) as f64 / 8.0 / GIB;
    let truncation = outputs as f64 * sci::faithful_truncation(ring, 12) as f64 / 8.0 / GIB;
    let note = |products: f64, how: &str| {
        format!(
            "l = {ring}: {products:.2} products, {how}; {:.2} ReLUs ({relus}) and pooling; {truncation:.2} \
             truncations ({outputs})",
            relu,
        )
    };
    let all = |products: f64| products + relu + truncation;
    let how = "activations' bits as choices, as in SCI";
    table.row(&format!("{label}, CrypTFlow2"), all(regular), Some(note(regular, how)));
    let untiled: f64 = geometries(&graph).filter(|g| !is_tiled(g)).map(|g| winograd_gib(&g, ring)).sum();
    let how = format!(
        "weights' bits as choices, dense 3x3 of stride 1 in F(2x2) with the better sender, the others {untiled:.2} of \
         it; unpruned"
    );
    table.row(&format!("{label}, CoPriv"), all(tiled), Some(note(tiled, &how)));
    Ok(())
}

/// SiRNN, PrivQuant and this project's.
fn mixed_rows(table: &mut Builder, network: &Network) -> Result<(), TableError> {
    let Network { label, name, widths: (weights, activations), .. } = *network;
    let graph = named(name, Bits::new(weights, activations))?;
    let (relus, _, matches) = elements(&graph);
    let gib = |bytes: u64| bytes as f64 / GIB;
    let relu = |bits: u32| gib((relus + matches) as u64 * sci::relu(bits) / 8);
    let bits = SIRNN_BITS;
    let sirnn = geometries(&graph).map(|g| Mixed::SIRNN.parts((&g).into(), bits, bits).bytes());
    let (sirnn, relu_sirnn) = (gib(sirnn.sum()), relu(bits));
    let note = format!(
        "W{bits}A{bits}, which is not printed but fits MiniONN and ResNet-32: {sirnn:.2} products, {relu_sirnn:.2} ReLUs; residual \
         additions and pools left out"
    );
    table.row(&format!("{label}, SiRNN"), sirnn + relu_sirnn, Some(note));
    let cheapest = |g: Geometry| {
        let way = Mixed::cheapest((&g).into(), weights, activations, true);
        way.parts((&g).into(), weights, activations).bytes()
    };
    let (privquant, relu) = (gib(geometries(&graph).map(cheapest).sum()), relu(activations));
    let note = format!(
        "W{weights}A{activations}, signs known: {privquant:.2} products, {relu:.2} ReLUs; residual additions and pools \
         left out"
    );
    table.row(&format!("{label}, PrivQuant"), privquant + relu, Some(note));
    for k in [4, 8] {
        let (bytes, setup) = planned(&graph, k)?;
        let note = format!(
            "{:.4} GB at W{weights}A{activations}, offline and online, Ferret, beside PrivQuant's; set-up once a client \
             and model {:.1} MB",
            bytes as f64 / 1e9,
            setup / 1e6
        );
        let row = format!("{label}, copriv-ng, k = {k}");
        table.beside(&format!("{label}, PrivQuant"), &row, gib(bytes), Some(note));
    }
    Ok(())
}

/// ReLUs, outputs of products, and comparisons of max pools.
fn elements(graph: &Graph) -> (usize, usize, usize) {
    let sum = |count: fn(&Node) -> usize| graph.nodes.iter().map(count).sum();
    (
        sum(|n| if matches!(n.op, Op::Relu) { n.output.len() } else { 0 }),
        sum(|n| n.op.linear().map_or(0, |_| n.output.len())),
        sum(|n| match n.op {
            Op::MaxPool { kernel, .. } => (kernel * kernel - 1) * n.output.len(),
            _ => 0,
        }),
    )
}

/// This project's protocols with groups of up to `k` weight bits.
pub(super) fn ours(k: u32) -> Choice {
    Choice { flavour: Flavour::Ferret, packing: k, ..Choice::default() }
}

/// Bytes of an inference, and of the trees that all of a session share.
pub(super) fn planned(graph: &Graph, k: u32) -> Result<(u64, f64), TableError> {
    let plan = Plan::new(graph, ours(k))?;
    let setup = plan.steps.iter().map(|step| match &step.kind {
        StepKind::Product { product, .. } => product.cost(ours(k)).setup,
        _ => 0.0,
    });
    Ok((plan.predict().total_bytes(), setup.sum()))
}
