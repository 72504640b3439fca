//! `copriv explain`: a model before and after the planner, with the bytes of each step.

use anyhow::Result;
use comfy_table::Table;
use copriv_infer2pc::Terms;
use copriv_model::{Graph, Linear, Op, file};
use copriv_plan::ot::OtMeter;
use copriv_plan::traffic::Meter;
use copriv_plan::{Plan, Step, StepKind};
use serde::Serialize;

use crate::cli;
use crate::report::{table, write_json};

/// One step, for `--json`.
#[derive(Serialize)]
struct Line {
    layer: String,
    protocol: String,
    elements: usize,
    ring: u32,
    random_ots: u64,
    offline_bytes: u64,
    online_bytes: u64,
    online_rounds: u64,
}

pub fn run(args: &cli::Explain) -> Result<()> {
    let graph = file::load_graph(&args.model)?;
    let plan = Terms::from(args.terms).plan(&graph, 1)?;
    let lines = lines(&plan);
    if let Some(path) = &args.json {
        write_json(&lines, path)?;
    }
    if args.json.as_deref() != Some("-".as_ref()) {
        say!("{}: {} nodes\n{}", graph.name, graph.nodes.len(), nodes(&graph));
        say!(
            "{} steps, preset {}, OT extension {:?}, first inference of a session\n{}",
            lines.len(),
            plan.choice.preset.name(),
            plan.choice.flavour,
            steps(&lines)
        );
    }
    Ok(())
}

fn lines(plan: &Plan) -> Vec<Line> {
    let mut ots = OtMeter::new(plan.choice.flavour);
    let (mut offline, mut online) = (Meter::new(), Meter::new());
    let line = |step: &Step| {
        let random = step.ots(plan.choice);
        let online = online.count(&step.online(plan.choice));
        Line {
            layer: step.layer.clone(),
            protocol: describe(&step.kind),
            elements: step.len,
            ring: step.ring,
            random_ots: random.server_sends + random.client_sends,
            offline_bytes: offline.count(&ots.offline(&step.offline(plan.choice))).bytes(),
            online_bytes: online.bytes(),
            online_rounds: online.rounds,
        }
    };
    plan.steps.iter().map(line).collect()
}

fn describe(kind: &StepKind) -> String {
    match kind {
        StepKind::Input => "the client's input".into(),
        StepKind::Product { product, .. } if product.ternary => "product with ternary weights".into(),
        StepKind::Product { product, .. } => format!("product with {}-bit weights", product.weight_bits),
        StepKind::Reduce => "reduce (local)".into(),
        StepKind::Extend { from, msb_known: true, .. } => format!("extend from {from} bits, sign known"),
        StepKind::Extend { from, .. } => format!("extend from {from} bits"),
        StepKind::Truncate { from, shift, .. } => format!("truncate {from} bits by {shift}"),
        StepKind::ShiftRight { shift, .. } => format!("shift right by {shift}, in the same ring"),
        StepKind::Affine { factor, addend } => format!("times {factor} plus {addend} (local)"),
        StepKind::ClampLow { bound: 0 } => "ReLU".into(),
        StepKind::ClampLow { bound } => format!("max with {bound}"),
        StepKind::ClampHigh { bound } => format!("min with {bound}"),
        StepKind::Saturate { bound, window, .. } => {
            format!("saturate to {bound}..={}", bound + (1i64 << window) - 1)
        }
        StepKind::TruncateSaturate { from, shift, bound, window, .. } => {
            format!("truncate {from} bits by {shift}, saturate to {bound}..={}", bound + (1i64 << window) - 1)
        }
        StepKind::Add { shifts } => format!("add, shifted by {} and {} (local)", shifts[0], shifts[1]),
        StepKind::Subsample { .. } => "subsample (local)".into(),
        StepKind::Pick { inside, .. } => {
            format!("the elements {} the mask (local)", if *inside { "in" } else { "outside" })
        }
        StepKind::Join { .. } => "both parts of a mask (local)".into(),
        StepKind::SumPool(w) => format!("sum over {}x{} (local)", w.kernel, w.kernel),
        StepKind::MaxPool(w) => format!("maximum over {}x{}", w.kernel, w.kernel),
        StepKind::Argmax { candidates, .. } => format!("argmax of {candidates}"),
        StepKind::TopK { candidates, .. } => format!("largest of {candidates}"),
        StepKind::Reveal => "reveal to the client".into(),
    }
}

fn nodes(graph: &Graph) -> Table {
    let mut table = table(&["node", "operator", "operands", "shape", "bits", "scale"], 3);
    for node in &graph.nodes {
        let operands: Vec<&str> = node.inputs.iter().map(|&i| graph.nodes[i].name.as_str()).collect();
        let [c, h, w] = node.output.shape;
        table.add_row([
            node.name.clone(),
            operator(&node.op),
            operands.join(", "),
            format!("{c}x{h}x{w}"),
            format!("{}{}", if node.output.signed { 's' } else { 'u' }, node.output.bits),
            format!("2^{}", node.output.scale_log2),
        ]);
    }
    table
}

fn weights(linear: &Linear) -> String {
    if linear.ternary { "ternary".into() } else { format!("W{}", linear.weight_bits) }
}

fn operator(op: &Op) -> String {
    match op {
        Op::Input => "input".into(),
        Op::Conv(c) => {
            let groups = if c.groups > 1 { format!(", {} groups", c.groups) } else { String::new() };
            format!("conv {0}x{0} stride {1}{groups}, {2}", c.kernel, c.stride, weights(&c.linear))
        }
        Op::Linear(l) => format!("linear, {}", weights(l)),
        Op::Relu => "ReLU".into(),
        Op::PartialRelu { mask } => format!("ReLU of {} of {}", mask.count(true), mask.len()),
        Op::Requant { shift, clamp } => {
            format!("requantise by {shift}{}", if *clamp { ", saturating" } else { "" })
        }
        Op::Add { .. } => "add".into(),
        Op::AvgPool { kernel, .. } => format!("mean {kernel}x{kernel}"),
        Op::MaxPool { kernel, stride, pad } => format!("maximum {kernel}x{kernel} stride {stride} pad {pad}"),
        Op::Subsample(how) => {
            format!("subsample by {}, {} zero channels", how.stride, how.before + how.after)
        }
        Op::Flatten => "flatten".into(),
        Op::Argmax => "argmax".into(),
        Op::TopK { k } => format!("{k} largest"),
    }
}

fn steps(lines: &[Line]) -> Table {
    let header = ["layer", "protocol", "elements", "ring", "random OTs", "offline B", "online B", "rounds"];
    let mut table = table(&header, 2);
    for l in lines {
        let figures = [
            l.elements as u64,
            u64::from(l.ring),
            l.random_ots,
            l.offline_bytes,
            l.online_bytes,
            l.online_rounds,
        ];
        let figures = figures.iter().map(u64::to_string);
        table.add_row([l.layer.clone(), l.protocol.clone()].into_iter().chain(figures));
    }
    table
}
