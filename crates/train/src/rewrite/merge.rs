//! A freed block, `1x1 -> k x k depth-wise -> 1x1` or any other chain of convolutions without rectifiers
//! in between, as one dense convolution with a position-dependent bias. A skip over it is folded in, too:
//! as identity taps, or as those of its own 1x1 convolution or subsampling.

use super::chain::{Classes, Dense, check_skip, compose_shape};
use super::{Action, drop_rectifiers, fold_graph, rewrite};
use crate::TrainError;
use crate::net::{Array, Bias, Block, BlockState, Conv, Graph, Node, NodeId, Op, Subsample, Weights};

/// One block's place in the graph.
struct Site {
    block: usize,
    /// Its convolutions in order.
    convs: Vec<NodeId>,
    /// Its residual addition.
    add: Option<NodeId>,
    /// What is added, with the node that computes it, if any.
    skip: Skip,
    /// What its first convolution takes.
    input: NodeId,
}

/// What a residual addition adds to a chain.
#[derive(Clone, Copy)]
enum Skip {
    /// The chain's input, or nothing.
    Plain,
    /// Pixels of it.
    Subsample(NodeId, Subsample),
    /// Its product with a 1x1 kernel.
    Conv(NodeId),
}

/// Merges the linear blocks among those that `which` selects; others stay as they are.
///
/// # Errors
/// A network whose norms are not folded, or a block that is not [`mergeable`].
pub fn merge_graph(graph: &Graph, which: &[bool]) -> Result<Graph, TrainError> {
    let sites = sites(graph, which)?;
    let shapes = graph.shapes()?;
    let convs = sites.iter().map(|site| merged_shape(graph, site, &shapes)).collect::<Result<Vec<_>, _>>()?;
    replace(graph, &sites, convs)
}

/// The same with parameters, in double precision inside.
///
/// # Errors
/// As [`merge_graph`], or parameters that do not fit.
pub fn merge_blocks(
    graph: &Graph,
    weights: &Weights,
    which: &[bool],
) -> Result<(Graph, Weights), TrainError> {
    weights.check(graph)?;
    let sites = sites(graph, which)?;
    let shapes = graph.shapes()?;
    let mut out = weights.clone();
    let mut convs = Vec::with_capacity(sites.len());
    for site in &sites {
        let dense = merged_weights(graph, weights, site, &shapes)?;
        let (conv, weight, bias) = dense.finish();
        for &id in site.convs.iter().chain(site.skip.node().as_ref()) {
            out.remove(&format!("{}.weight", graph.nodes[id].name));
            out.remove(&format!("{}.bias", graph.nodes[id].name));
        }
        let name = merged_name(&graph.blocks[site.block]);
        out.insert(&format!("{name}.weight"), weight);
        out.insert(&format!("{name}.bias"), bias);
        convs.push(conv);
    }
    let graph = replace(graph, &sites, convs)?;
    out.check(&graph)?;
    Ok((graph, out))
}

fn merged_name(block: &Block) -> String {
    format!("{}.merged", block.name)
}

fn sites(graph: &Graph, which: &[bool]) -> Result<Vec<Site>, TrainError> {
    let selected =
        |i: &usize| graph.blocks[*i].state == BlockState::Linear && which.get(*i).is_some_and(|&w| w);
    (0..graph.blocks.len()).filter(selected).map(|i| site(graph, i)).collect()
}

fn site(graph: &Graph, block: usize) -> Result<Site, TrainError> {
    let Block { name, convs, add, .. } = &graph.blocks[block];
    let uses = graph.uses();
    let convs = convs.iter().map(|name| graph.find(name)).collect::<Result<Vec<_>, _>>()?;
    let add = add.as_deref().map(|name| graph.find(name)).transpose()?;
    let (Some(&first), Some(&last)) = (convs.first(), convs.last()) else {
        return Err(TrainError::graph(name, "the block has no convolution"));
    };
    let input = graph.nodes[first].inputs[0];
    let chain = convs.windows(2).all(|w| graph.nodes[w[1]].inputs == [w[0]] && uses[w[0]] == 1);
    let skip = match add.map(|add| graph.nodes[add].inputs.as_slice()) {
        None => Some(Skip::Plain),
        Some(&[x, y]) if uses[last] == 1 && (x == last || y == last) => {
            skip_of(graph, if x == last { y } else { x }, input)
                .filter(|s| s.node().is_none_or(|n| uses[n] == 1))
        }
        Some(_) => None,
    };
    match skip {
        Some(skip) if chain => Ok(Site { block, convs, add, skip, input }),
        _ => Err(TrainError::graph(name, "the block is not a plain chain with a skip over it")),
    }
}

fn skip_of(graph: &Graph, operand: NodeId, input: NodeId) -> Option<Skip> {
    let node = &graph.nodes[operand];
    match &node.op {
        _ if operand == input => Some(Skip::Plain),
        Op::Subsample(how) if node.inputs == [input] => Some(Skip::Subsample(operand, *how)),
        Op::Conv(conv) if node.inputs == [input] && conv.kernel == 1 && conv.pad == 0 && conv.groups == 1 => {
            Some(Skip::Conv(operand))
        }
        _ => None,
    }
}

impl Skip {
    fn node(&self) -> Option<NodeId> {
        match self {
            Self::Plain => None,
            Self::Subsample(id, _) | Self::Conv(id) => Some(*id),
        }
    }

    fn stride(&self, graph: &Graph) -> usize {
        match self {
            Self::Plain => 1,
            Self::Subsample(_, how) => how.stride,
            Self::Conv(id) => conv_at(graph, *id).map_or(1, |conv| conv.stride),
        }
    }

    /// Weight and bias of the 1x1 convolution that the skip is.
    fn taps(
        &self,
        graph: &Graph,
        weights: &Weights,
        channels: usize,
    ) -> Result<(Vec<f64>, Option<Vec<f64>>), TrainError> {
        let double = |array: &Array| array.data.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (inputs, before) = match self {
            Self::Conv(id) => {
                let (conv, name) = (conv_at(graph, *id)?, &graph.nodes[*id].name);
                let bias = (conv.bias != Bias::None).then(|| weights.of(name, "bias")).transpose()?;
                return Ok((double(weights.of(name, "weight")?), bias.map(double)));
            }
            Self::Plain => (channels, 0),
            Self::Subsample(_, how) => (channels - how.before - how.after, how.before),
        };
        let mut taps = vec![0.0; channels * inputs];
        (0..inputs).for_each(|c| taps[(before + c) * inputs + c] = 1.0);
        Ok((taps, None))
    }
}

/// Whether each block, once freed of its rectifiers, is exactly one convolution: an inverted
/// residual or a bottleneck is, two padded 3x3 convolutions are not until their padding is moved
/// ([`super::move_padding`]).
///
/// # Errors
/// An invalid graph.
pub fn mergeable(graph: &Graph) -> Result<Vec<bool>, TrainError> {
    let free = drop_rectifiers(&fold_graph(graph), &vec![false; graph.blocks.len()])?;
    let shapes = free.shapes()?;
    let merges = |i| site(&free, i).and_then(|site| merged_shape(&free, &site, &shapes)).is_ok();
    Ok((0..free.blocks.len()).map(merges).collect())
}

/// The convolution at `id`; its norm must be folded.
fn conv_at(graph: &Graph, id: NodeId) -> Result<&Conv, TrainError> {
    match &graph.nodes[id].op {
        Op::Conv(conv) if conv.norm => {
            Err(TrainError::graph(&graph.nodes[id].name, "its norm must be folded before merging"))
        }
        Op::Conv(conv) if matches!(conv.bias, Bias::Position(_)) => {
            Err(TrainError::graph(&graph.nodes[id].name, "it is merged already"))
        }
        Op::Conv(conv) => Ok(conv),
        _ => Err(TrainError::graph(&graph.nodes[id].name, "not a convolution")),
    }
}

fn merged_shape(graph: &Graph, site: &Site, shapes: &[[usize; 3]]) -> Result<Conv, TrainError> {
    let refuse = |reason: String| TrainError::graph(&graph.blocks[site.block].name, reason);
    let mut convs = site.convs.iter().map(|&id| conv_at(graph, id));
    let first = convs.next().ok_or_else(|| refuse("the block has no convolution".into()))??;
    let mut whole = Conv { groups: 1, bias: Bias::None, ..first.clone() };
    let mut classes = Classes::uniform(shapes[site.convs[0]]);
    for conv in convs {
        let conv = conv?;
        whole = compose_shape(&whole, conv).map_err(refuse)?;
        classes = classes.through(conv).0;
    }
    if site.add.is_some() {
        check_skip(&whole, site.skip.stride(graph)).map_err(refuse)?;
        if let Skip::Conv(id) = site.skip {
            conv_at(graph, id)?;
        }
    }
    whole.bias = classes.bias();
    Ok(whole)
}

fn merged_weights(
    graph: &Graph,
    weights: &Weights,
    site: &Site,
    shapes: &[[usize; 3]],
) -> Result<Dense, TrainError> {
    let refuse = |reason: String| TrainError::graph(&graph.blocks[site.block].name, reason);
    let mut whole: Option<Dense> = None;
    for &id in &site.convs {
        let conv = conv_at(graph, id)?;
        let name = &graph.nodes[id].name;
        let weight = weights.of(name, "weight")?;
        let bias = if conv.bias == Bias::None { None } else { Some(weights.of(name, "bias")?) };
        whole = Some(match whole {
            None => Dense::new(conv, weight, bias, shapes[site.input]),
            Some(before) => before.then(conv, weight, bias).map_err(refuse)?,
        });
    }
    let whole = whole.ok_or_else(|| refuse("the block has no convolution".into()))?;
    if site.add.is_none() {
        return Ok(whole);
    }
    let (taps, bias) = site.skip.taps(graph, weights, whole.conv.out_channels)?;
    whole.plus_skip(site.skip.stride(graph), &taps, bias.as_deref()).map_err(refuse)
}

/// Puts `convs[i]` in the place of the block at `sites[i]`.
fn replace(graph: &Graph, sites: &[Site], convs: Vec<Conv>) -> Result<Graph, TrainError> {
    let end = |site: &Site| site.add.unwrap_or(site.convs[site.convs.len() - 1]);
    let mut out = rewrite(graph, |id, _| {
        if let Some(i) = sites.iter().position(|site| end(site) == id) {
            let name = merged_name(&graph.blocks[sites[i].block]);
            let node = Node { name, op: Op::Conv(convs[i].clone()), inputs: vec![sites[i].input] };
            return Action::Replace(node);
        }
        if sites.iter().any(|site| site.convs.contains(&id) || site.skip.node() == Some(id)) {
            Action::Drop
        } else {
            Action::Keep
        }
    })?;
    for site in sites {
        let block = &mut out.blocks[site.block];
        block.convs = vec![merged_name(block)];
        block.add = None;
        block.state = BlockState::Merged;
    }
    Ok(out)
}
