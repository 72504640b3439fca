//! What the exporter proved of every requantisation, and what it costs.

use anyhow::Result;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use copriv_infer2pc::Terms;
use copriv_model::{Graph, Op, range};
use serde::Serialize;

/// Inferences of the session that a price is the mean of.
const SESSION: u32 = 32;

/// Of one requantisation.
#[derive(Debug, PartialEq, Serialize)]
pub struct Proof {
    pub layer: String,
    pub shift: u32,
    /// Interval of the values once shifted, by public facts.
    pub values: (i128, i128),
    /// What the result's type holds.
    pub holds: (i128, i128),
    /// Whether it saturates, since the values may leave the type; else it is proven that none does.
    pub saturates: bool,
    /// Bytes an inference, mean over a session: shift, saturation and rectifier.
    pub bytes: u64,
}

/// Every requantisation of `graph`, priced on `terms`.
///
/// # Errors
/// A graph that the planner refuses.
pub fn proofs(graph: &Graph, terms: &Terms) -> Result<Vec<Proof>> {
    let ranges = range::of_graph(graph)?;
    let session = u64::from(SESSION);
    let price = terms.plan(graph, SESSION)?.predict_session(session).mean(session);
    let bytes = |name: &str| -> u64 {
        let of = price.layers.iter().filter(|layer| layer.name == name);
        of.map(|layer| (layer.offline + layer.online).bytes()).sum()
    };
    let mut proofs = Vec::new();
    for node in &graph.nodes {
        let Op::Requant { shift, clamp } = node.op else { continue };
        let operand = &graph.nodes[node.inputs[0]];
        let (lo, hi) = ranges[node.inputs[0]];
        let rectifier = if operand.op == Op::Relu { bytes(&operand.name) } else { 0 };
        proofs.push(Proof {
            layer: node.name.clone(),
            shift,
            values: (range::round_shift(lo, shift), range::round_shift(hi, shift)),
            holds: (node.output.min(), node.output.max()),
            saturates: clamp,
            bytes: bytes(&node.name) + rectifier,
        });
    }
    Ok(proofs)
}

/// One row a requantisation.
pub fn proofs_table(proofs: &[Proof]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "requantisation",
        "shift",
        "values once shifted",
        "type",
        "so it",
        "bytes",
    ]);
    for column in [1, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let interval = |(lo, hi): (i128, i128)| format!("{lo}..={hi}");
    for proof in proofs {
        table.add_row([
            proof.layer.clone(),
            proof.shift.to_string(),
            interval(proof.values),
            interval(proof.holds),
            if proof.saturates { "saturates" } else { "wraps: never, proven" }.to_owned(),
            proof.bytes.to_string(),
        ]);
    }
    table
}
