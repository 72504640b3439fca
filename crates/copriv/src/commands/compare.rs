//! `copriv compare`: several prunings of one network side by side.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::prune::outcome::Outcome;
use crate::cli;
use crate::pricing::figure;
use crate::report::{pareto::pareto, selection::selection};
use crate::report::{pruning_page, pruning_points, pruning_rows, table, write_into};

pub fn run(args: &cli::Compare) -> Result<()> {
    let outcomes = args.outcomes.iter().map(|path| read(path)).collect::<Result<Vec<Outcome>>>()?;
    let names = |o: &Outcome| o.report.blocks.iter().map(|b| b.name.clone()).collect::<Vec<_>>();
    let first = &outcomes[0];
    for (outcome, path) in outcomes.iter().zip(&args.outcomes) {
        ensure!(
            names(outcome) == names(first)
                && outcome.report.counts == first.report.counts
                && outcome.report.before == first.report.before,
            "{} is of another network, or priced otherwise, than {}",
            path.display(),
            args.outcomes[0].display()
        );
    }
    fs::create_dir_all(&args.out).with_context(|| format!("{}", args.out.display()))?;
    let write = |name: &str, text: &str| write_into(&args.out, name, text);
    write("blocks.svg", &selection("which blocks went", &pruning_rows(&outcomes))?)?;
    write("pareto.svg", &pareto("accuracy and bytes", &first.report.counts, &pruning_points(&outcomes))?)?;
    write("report.html", &pruning_page(&outcomes)?)?;
    let header = ["", "ReLUs", "offline MB", "online MB", "accuracy %"];
    let mut grid = table(&header, 1);
    let mut csv = header.join(",") + "\n";
    for o in &outcomes {
        let megabytes = |bytes: u64| format!("{:.3}", bytes as f64 / 1e6);
        let row = [
            o.settings.title(),
            o.report.relus_after.to_string(),
            megabytes(o.report.after.offline),
            megabytes(o.report.after.online),
            format!("{:.2}", o.validation_accuracy),
        ];
        csv += &(row.join(",") + "\n");
        grid.add_row(row);
    }
    write("results.csv", &csv)?;
    let before = first.report.before;
    say!("{grid}\nunpruned: {} ReLUs, {}", first.report.relus_before, figure(before.offline + before.online));
    say!("pictures and the page lie in {}", args.out.display());
    Ok(())
}

fn read(path: &Path) -> Result<Outcome> {
    let file = File::open(path).with_context(|| format!("{}", path.display()))?;
    serde_json::from_reader(BufReader::new(file))
        .with_context(|| format!("{} is not what copriv prune --json writes", path.display()))
}
