//! Selections that need no search, to compare with.

use anyhow::{Result, bail, ensure};
use copriv_train::net::Graph;
use copriv_train::rewrite::drop_rectifiers;
use copriv_train::{Checkpoint, Dataset, Stage, evaluate};

use super::Settings;
use crate::cli::PruneMethod;

/// The blocks in the order in which they are freed; those of one entry together.
pub type Order = Vec<Vec<usize>>;

/// The order of a method.
///
/// * `uniform`: in the order of bit-reversed indices, so that any number of freed blocks lies evenly
///   over the depth.
/// * `deepreduce`: whole stages (blocks whose outputs have one shape), the least critical first (Jha
///   et al., ICML 2021, section 3.1, "culling"). A stage's criticality here is the validation accuracy that
///   the trained network loses with it, where the paper trains a network for each; its thinning and
///   reshaping are left out.
pub fn order(method: PruneMethod, start: &Checkpoint, dataset: &Dataset) -> Result<Order> {
    let n = start.graph.blocks.len();
    match method {
        PruneMethod::Comm | PruneMethod::Snl | PruneMethod::Senet => {
            bail!("{method:?} frees no blocks in order")
        }
        PruneMethod::Uniform => {
            let bits = n.next_power_of_two().trailing_zeros();
            let reversed = |i: usize| if bits == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - bits) };
            Ok((0..n.next_power_of_two()).map(reversed).filter(|&i| i < n).map(|i| vec![i]).collect())
        }
        PruneMethod::Deepreduce => {
            let mut stages = Vec::new();
            for stage in stages_of(&start.graph)? {
                let keep: Vec<bool> = (0..n).map(|i| !stage.contains(&i)).collect();
                let culled = Checkpoint {
                    stage: Stage::Pruned,
                    graph: drop_rectifiers(&start.graph, &keep)?,
                    ..start.clone()
                };
                stages.push((evaluate(&culled, &dataset.validation)?.accuracy, stage));
            }
            stages.sort_by(|a, b| b.0.total_cmp(&a.0));
            Ok(stages.into_iter().map(|(_, stage)| stage).collect())
        }
    }
}

/// Frees blocks in this order until the share or the limit is met.
pub fn keep(
    order: &Order,
    settings: &Settings,
    within: &dyn Fn(&[bool]) -> Result<bool>,
) -> Result<Vec<bool>> {
    let n: usize = order.iter().map(Vec::len).sum();
    let kept = (settings.prune.budget * n as f64).round() as usize;
    let done = |keep: &[bool]| match settings.comm_limit {
        Some(_) => within(keep),
        None => Ok(keep.iter().filter(|k| **k).count() <= kept),
    };
    let mut keep = vec![true; n];
    for group in order {
        if done(&keep)? {
            return Ok(keep);
        }
        group.iter().for_each(|&i| keep[i] = false);
    }
    ensure!(
        done(&keep)?,
        "this method does not reach the limit: it frees blocks that are dearer without ReLUs"
    );
    Ok(keep)
}

/// Runs of blocks whose outputs have one shape.
fn stages_of(graph: &Graph) -> Result<Vec<Vec<usize>>> {
    let shapes = graph.shapes()?;
    let mut stages: Vec<([usize; 3], Vec<usize>)> = Vec::new();
    for (i, block) in graph.blocks.iter().enumerate() {
        let Some(last) = block.convs.last() else { continue };
        let shape = shapes[graph.find(last)?];
        match stages.last_mut() {
            Some((known, stage)) if *known == shape => stage.push(i),
            _ => stages.push((shape, vec![i])),
        }
    }
    Ok(stages.into_iter().map(|(_, stage)| stage).collect())
}

/// The largest share of 0 to 1 that `fits`, to a thousandth.
///
/// # Errors
/// Not even none fits.
pub fn largest_share(fits: impl Fn(f64) -> Result<bool>) -> Result<f64> {
    ensure!(fits(0.0)?, "the limit cannot be met: even without any ReLU the network costs more");
    if fits(1.0)? {
        return Ok(1.0);
    }
    let (mut fitting, mut beyond) = (0, 1000);
    while beyond - fitting > 1 {
        let middle = (fitting + beyond) / 2;
        if fits(f64::from(middle) / 1000.0)? { fitting = middle } else { beyond = middle }
    }
    Ok(f64::from(fitting) / 1000.0)
}
