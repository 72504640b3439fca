//! One self-contained page.

use anyhow::Result;
use maud::{Markup, PreEscaped, html};

use super::chart::{self, Bar};
use super::page::document;
use super::pruning::rows;
use super::selection::selection;
use super::{Summary, by_block, mb, table::ROWS};
use crate::commands::Outcome;

/// The summary as a page with a bar chart for each model, and with what a pruning did between them.
pub fn page(summary: &Summary, pruning: Option<&Outcome>) -> Result<String> {
    let blocks_gone = match pruning {
        Some(outcome) => Some(selection("which blocks went", &rows(std::slice::from_ref(outcome)))?),
        None => None,
    };
    let columns: Vec<&Summary> = summary.before.as_deref().into_iter().chain([summary]).collect();
    let blocks: Vec<Vec<Bar>> =
        columns.iter().map(|s| by_block(&s.layers).iter().map(Bar::from).collect()).collect();
    let longest = blocks.iter().flatten().map(Bar::bytes).max();
    let charts = columns
        .iter()
        .zip(&blocks)
        .map(|(s, blocks)| chart::stacked(&s.title, blocks, longest))
        .collect::<Result<Vec<_>>>()?;
    let body = html! {
        h1 { "Private evaluation: " (summary.title) }
        p {
            "The server kept its weights, the client its images. "
            (summary.images) " images were evaluated by two processes over TCP; "
            (summary.mismatched_logits) " outputs differ from the plaintext integer executor."
        }
        table {
            tr { th {} @for s in &columns { th { (s.title) } } }
            @for (name, figure) in ROWS {
                @let cells: Vec<_> = columns.iter().map(|s| figure(s)).collect();
                @if cells.iter().any(Option::is_some) {
                    tr { td { (name.trim()) } @for cell in cells { td { (cell.unwrap_or_default()) } } }
                }
            }
        }
        p { "Bytes are payload, both directions, of one inference; offline is independent of the image. "
            "A convolution costs one correlated OT for every bit of every weight offline and its masked "
            "input online; a ReLU with its requantisation costs two comparisons and a multiplexer." }
        @if let Some(picture) = &blocks_gone { (PreEscaped(picture)) }
        @for (s, chart) in columns.iter().zip(&charts) {
            (PreEscaped(chart))
            (every_layer(s))
        }
    };
    Ok(document(&summary.title, body))
}

/// The figures behind a chart, folded away.
fn every_layer(summary: &Summary) -> Markup {
    html! {
        details {
            summary { "every layer: " (summary.title) }
            table {
                tr { th {} th { "offline MB" } th { "online MB" } th { "online rounds" } }
                @for layer in &summary.layers {
                    tr {
                        td { (layer.name) }
                        td { (format!("{:.3}", mb(layer.offline))) }
                        td { (format!("{:.3}", mb(layer.online))) }
                        td { (layer.online.rounds) }
                    }
                }
            }
        }
    }
}
