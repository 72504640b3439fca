//! What `copriv bits` prints.

use comfy_table::Table;
use copriv_train::bits::{Search, Solution, Widths};
use copriv_train::hessian::Trace;

use super::{Point, described, mb};
use crate::report::table;

/// One row a layer; sensitivities of the activation's chosen width.
pub fn layers(search: &Search<'_>, traces: &[Trace], solution: &Solution) -> Table {
    let header = ["layer", "weights", "mean trace", "+-", "omega at W2", "W3", "W4", "W8", "W", "A"];
    let mut table = table(&header, 1);
    for layer in described(search, traces, solution) {
        let omega = |bits: u32| {
            let wanted = |w: &Widths| w.weights == bits && w.activation == layer.chosen.activation;
            let at = layer.options.iter().position(wanted);
            at.map_or_else(String::new, |i| format!("{:.2e}", layer.sensitivity[i]))
        };
        let n = layer.elements as f64;
        table.add_row([
            layer.name.to_owned(),
            layer.elements.to_string(),
            format!("{:.2e}", layer.trace / n),
            format!("{:.0e}", layer.error / n),
            omega(2),
            omega(3),
            omega(4),
            omega(8),
            layer.chosen.weights.to_string(),
            layer.chosen.activation.map_or_else(String::new, |bits| bits.to_string()),
        ]);
    }
    table
}

pub fn front(front: &[Point]) -> Table {
    let digits = |widths: &[u32]| widths.iter().map(u32::to_string).collect::<String>();
    let both = front.iter().any(|point| !point.activations.is_empty());
    let header = ["chosen by", "limit MB", "planned MB", "omega", "weight bits", "activation bits"];
    let columns = header.len() - usize::from(!both);
    let mut table = table(&header[..columns], 1);
    for point in front {
        let row = [
            format!("{:?}", point.method).to_lowercase(),
            point.limit.map_or_else(String::new, |limit| format!("{:.3}", mb(limit))),
            format!("{:.3}", mb(point.planned)),
            format!("{:.3e}", point.sensitivity),
            digits(&point.weights),
            digits(&point.activations),
        ];
        table.add_row(&row[..columns]);
    }
    table
}
