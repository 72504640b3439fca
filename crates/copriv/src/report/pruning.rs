//! The page of one or several prunings.

use anyhow::Result;
use maud::{PreEscaped, html};

use super::page::document;
use super::pareto::{Point, pareto};
use super::selection::{Row, selection};
use crate::commands::Outcome;
use crate::pricing::figure;

/// One point an outcome.
pub fn points(outcomes: &[Outcome]) -> Vec<Point> {
    let point = |o: &Outcome| Point {
        series: o.settings.title(),
        bytes: o.report.counted(o.report.after),
        accuracy: o.validation_accuracy,
    };
    outcomes.iter().map(point).collect()
}

/// One row an outcome.
pub fn rows(outcomes: &[Outcome]) -> Vec<Row> {
    let row = |o: &Outcome| Row {
        name: format!("{}, {}", o.settings.title(), figure(o.report.counted(o.report.after))),
        cells: o.report.blocks.iter().map(|b| (b.form, b.alpha)).collect(),
    };
    outcomes.iter().map(row).collect()
}

/// Which blocks went, what each costs before and after, accuracy over bytes.
pub fn page(outcomes: &[Outcome]) -> Result<String> {
    let picture = selection("which blocks went", &rows(outcomes))?;
    let scatter = match outcomes {
        [first, _, ..] => Some(pareto("accuracy and bytes", &first.report.counts, &points(outcomes))?),
        _ => None,
    };
    let charts = outcomes.iter().map(|o| o.report.charts(&o.settings.title())).collect::<Result<Vec<_>>>()?;
    Ok(document(
        "pruning",
        html! {
            h1 { "Pruning" }
            p { "Planned bytes, both directions, of one inference; a block without ReLUs inside is one convolution "
                "where that is cheaper. Accuracy on the validation images." }
            table {
                tr { th {} th { "ReLUs" } th { "offline" } th { "online" } th { "accuracy" } }
                @for o in outcomes {
                    tr {
                        td { (o.settings.title()) }
                        td { (o.report.relus_after) " of " (o.report.relus_before) }
                        td { (figure(o.report.after.offline)) } td { (figure(o.report.after.online)) }
                        td { (format!("{:.1} %", o.validation_accuracy)) }
                    }
                }
            }
            (PreEscaped(picture))
            @if let Some(scatter) = scatter { (PreEscaped(scatter)) }
            @for (o, [before, after]) in outcomes.iter().zip(charts) {
                details open[outcomes.len() == 1] {
                    summary { (o.settings.title()) ": every block" }
                    (PreEscaped(before)) (PreEscaped(after))
                    table {
                        tr { th { "block" } th { "alpha" } th { "MB saved alone" } th { "became" } }
                        @for b in &o.report.blocks {
                            tr {
                                td { (b.name) } td { (format!("{:.2}", b.alpha)) }
                                td { (format!("{:.3}", b.saving / 1e6)) } td { (b.became()) }
                            }
                        }
                    }
                }
            }
        },
    ))
}
