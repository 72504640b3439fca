//! Passes that turn one network into another that computes the same, or less.
//!
//! Each has a form for the graph alone, so that a network can be priced before it is trained.

mod chain;
mod fold;
mod input;
mod merge;
mod rectifiers;

pub use fold::{fold_graph, fold_norms};
pub use input::fold_input;
pub use merge::{merge_blocks, merge_graph, mergeable};
pub use rectifiers::{
    Masks, blend_rectifiers, drop_rectifiers, mask_rectifiers, move_padding, rectify_behind,
    spare_outer_rectifiers,
};

use crate::TrainError;
use crate::net::{Graph, Node};

/// What becomes of a node.
enum Action {
    Keep,
    /// Users take its first operand instead.
    Bypass,
    /// Nobody uses it any more.
    Drop,
    /// Another node in its place, whose operands are named in the old numbering.
    Replace(Node),
    /// Another node behind it, which takes over its users.
    Follow(Node),
}

/// A graph with `action` applied to every node; names of blocks' nodes are the caller's care.
fn rewrite(graph: &Graph, mut action: impl FnMut(usize, &Node) -> Action) -> Result<Graph, TrainError> {
    let mut place: Vec<Option<usize>> = Vec::with_capacity(graph.nodes.len());
    let mut nodes = Vec::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        let mut behind = None;
        let kept = match action(id, node) {
            Action::Keep => node.clone(),
            Action::Replace(other) => other,
            Action::Follow(other) => {
                behind = Some(other);
                node.clone()
            }
            Action::Bypass => {
                place.push(node.inputs.first().and_then(|&i| place[i]));
                continue;
            }
            Action::Drop => {
                place.push(None);
                continue;
            }
        };
        let inputs = kept.inputs.iter().map(|&i| place[i]).collect::<Option<Vec<_>>>();
        let inputs =
            inputs.ok_or_else(|| TrainError::graph(&node.name, "uses a node that a rewrite removed"))?;
        nodes.push(Node { inputs, ..kept });
        nodes.extend(behind.map(|other| Node { inputs: vec![nodes.len() - 1], ..other }));
        place.push(Some(nodes.len() - 1));
    }
    let out = Graph { nodes, arch: graph.arch.clone(), blocks: graph.blocks.clone() };
    out.shapes()?;
    Ok(out)
}
