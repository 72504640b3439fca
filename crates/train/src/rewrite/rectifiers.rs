//! Rectifiers go: by the block, by the channel or by the position.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Action, rewrite};
use crate::TrainError;
use crate::net::{Block, BlockState, Graph, Mask, Node, NodeId, Op};

/// Where each rectifier keeps rectifying, by its name.
pub type Masks = BTreeMap<String, Mask>;

/// The graph without the rectifiers of the blocks that `keep` does not keep.
///
/// # Errors
/// Not one answer for every block.
pub fn drop_rectifiers(graph: &Graph, keep: &[bool]) -> Result<Graph, TrainError> {
    check(graph, keep)?;
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

/// The graph with one rectifier behind each selected block: that of a ResNet block, which then is no longer
/// the block's own, or a new one. CoPriv's code has one behind every merged block, which its paper does
/// not mention.
///
/// # Errors
/// Not one answer for every block.
pub fn rectify_behind(graph: &Graph, which: &[bool]) -> Result<Graph, TrainError> {
    check(graph, which)?;
    let mut out = graph.clone();
    let mut new: HashMap<NodeId, String> = HashMap::new();
    for i in (0..which.len()).filter(|&i| which[i]) {
        let end = end_of(graph, &graph.blocks[i])?;
        if let Some(behind) = own_rectifier_behind(graph, &graph.blocks[i], end) {
            let name = &graph.nodes[behind].name;
            out.blocks[i].relus.retain(|relu| relu != name);
            out.nodes[behind].op = Op::Relu { gate: None };
        } else {
            new.insert(end, format!("{}.relu", graph.blocks[i].name));
        }
    }
    rewrite(&out, |id, _| match new.get(&id) {
        Some(name) => {
            Action::Follow(Node { name: name.clone(), op: Op::Relu { gate: None }, inputs: vec![id] })
        }
        None => Action::Keep,
    })
}

/// Leaves the rectifiers behind blocks out of any search: they stay whatever becomes of the block.
///
/// # Errors
/// An invalid graph.
pub fn spare_outer_rectifiers(graph: &Graph) -> Result<Graph, TrainError> {
    let mut outer = vec![false; graph.blocks.len()];
    for (outer, block) in outer.iter_mut().zip(&graph.blocks) {
        *outer = own_rectifier_behind(graph, block, end_of(graph, block)?).is_some();
    }
    rectify_behind(graph, &outer)
}

/// The node that holds a block's result.
fn end_of(graph: &Graph, block: &Block) -> Result<NodeId, TrainError> {
    let last = block.add.as_ref().or(block.convs.last());
    graph.find(last.ok_or_else(|| TrainError::graph(&block.name, "the block has no convolution"))?)
}

fn own_rectifier_behind(graph: &Graph, block: &Block, end: NodeId) -> Option<NodeId> {
    graph.nodes.iter().position(|n| n.inputs == [end] && block.relus.contains(&n.name))
}

/// Moves the padding of the convolutions of the selected blocks to the first one that has a kernel: at the
/// border, later ones then see products with the zeros around the image where they saw zeros. Another
/// network, by a ring of pixels, but one whose chains of padded convolutions are exactly one convolution.
///
/// # Errors
/// Not one answer for every block, or an invalid graph.
pub fn move_padding(graph: &Graph, which: &[bool]) -> Result<Graph, TrainError> {
    check(graph, which)?;
    let mut out = graph.clone();
    for block in graph.blocks.iter().zip(which).filter(|(_, which)| **which).map(|(block, _)| block) {
        // The first convolution with a kernel, and the stride from there on.
        let mut first: Option<(NodeId, usize)> = None;
        for name in &block.convs {
            let id = graph.find(name)?;
            let Op::Conv(conv) = &graph.nodes[id].op else { continue };
            let Some((first, stride)) = &mut first else {
                first = (conv.kernel > 1 || conv.pad > 0).then_some((id, conv.stride));
                continue;
            };
            if let Op::Conv(to) = &mut out.nodes[*first].op {
                to.pad += conv.pad * *stride;
            }
            if let Op::Conv(from) = &mut out.nodes[id].op {
                from.pad = 0;
            }
            *stride *= conv.stride;
        }
    }
    out.shapes()?;
    Ok(out)
}

/// Every rectifier with a coefficient for each channel or, with `pixels`, each position: what a search of
/// masks starts from.
///
/// # Errors
/// An invalid graph.
pub fn blend_rectifiers(graph: &Graph, pixels: bool) -> Result<Graph, TrainError> {
    let shapes = graph.shapes()?;
    rewrite(graph, |id, node| match node.op {
        Op::Relu { .. } => {
            let [c, h, w] = shapes[id];
            let alpha = if pixels { [c, h, w] } else { [c, 1, 1] };
            Action::Replace(Node { op: Op::Blend { alpha }, ..node.clone() })
        }
        _ => Action::Keep,
    })
}

/// Leaves each named rectifier the positions of its mask. One that keeps all stays what it is, one that
/// keeps none goes, and a block without any is linear.
///
/// # Errors
/// A mask of the wrong length, or of something that is no rectifier.
pub fn mask_rectifiers(graph: &Graph, masks: &Masks) -> Result<Graph, TrainError> {
    let mut gone = HashSet::new();
    for (name, mask) in masks {
        if !matches!(graph.nodes[graph.find(name)?].op, Op::Relu { .. } | Op::Blend { .. }) {
            return Err(TrainError::graph(name, "no rectifier to be masked"));
        }
        if mask.count(true) == 0 {
            gone.insert(name);
        }
    }
    let mut out = rewrite(graph, |_, node| match masks.get(&node.name) {
        None => Action::Keep,
        Some(_) if gone.contains(&node.name) => Action::Bypass,
        Some(mask) if mask.count(false) == 0 => {
            Action::Replace(Node { op: Op::Relu { gate: None }, ..node.clone() })
        }
        Some(mask) => Action::Replace(Node { op: Op::PartialRelu { mask: mask.clone() }, ..node.clone() }),
    })?;
    for block in &mut out.blocks {
        block.relus.retain(|relu| !gone.contains(relu));
        if block.relus.is_empty() && block.state == BlockState::Kept {
            block.state = BlockState::Linear;
        }
    }
    Ok(out)
}

fn check(graph: &Graph, answers: &[bool]) -> Result<(), TrainError> {
    if answers.len() == graph.blocks.len() {
        return Ok(());
    }
    let reason = format!("{} answers for {} blocks", answers.len(), graph.blocks.len());
    Err(TrainError::graph(&graph.arch, reason))
}
