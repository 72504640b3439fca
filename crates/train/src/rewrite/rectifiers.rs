//! Pruned blocks lose their rectifiers.

use std::collections::HashSet;

use super::{Action, rewrite};
use crate::TrainError;
use crate::net::{BlockState, Graph};

/// The graph without the rectifiers of the blocks that `keep` does not keep.
///
/// # Errors
/// Not one answer for every block.
pub fn drop_rectifiers(graph: &Graph, keep: &[bool]) -> Result<Graph, TrainError> {
    if keep.len() != graph.blocks.len() {
        return Err(TrainError::graph(
            &graph.arch,
            format!("{} answers for {} blocks", keep.len(), graph.blocks.len()),
        ));
    }
    let pruned = graph.blocks.iter().zip(keep).filter(|(_, keep)| !**keep);
    let gone: HashSet<&String> = pruned.flat_map(|(block, _)| &block.relus).collect();
    let mut out =
        rewrite(graph, |_, node| if gone.contains(&node.name) { Action::Bypass } else { Action::Keep })?;
    for (block, _) in out.blocks.iter_mut().zip(keep).filter(|(_, keep)| !**keep) {
        block.relus.clear();
        if block.state == BlockState::Kept {
            block.state = BlockState::Linear;
        }
    }
    Ok(out)
}
