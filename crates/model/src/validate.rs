//! The rules of the format that concern the graph as a whole.

use std::collections::HashSet;

use crate::graph::{Graph, Node, NodeId, Op};
use crate::types::infer;
use crate::{ModelError, range};

impl Graph {
    /// Checks every rule of the format: topological order, unique names, shapes, widths,
    /// the type of every edge, and that no value can leave its ring ([`crate::range`]).
    ///
    /// # Errors
    /// [`ModelError::Graph`] naming the first offending node.
    pub fn validate(&self) -> Result<(), ModelError> {
        check(self)?;
        range::of_graph(self).map(drop)
    }

    /// The same graph with an [`Op::Argmax`] behind its output, for `--reveal class`.
    ///
    /// # Errors
    /// The output is not a vector.
    pub fn with_argmax(&self) -> Result<Self, ModelError> {
        append(self.clone(), "argmax", Op::Argmax)
    }

    /// The same graph with an [`Op::TopK`] behind its output, for `--reveal top5`.
    ///
    /// # Errors
    /// The output is not a vector of at least `k` entries.
    pub fn with_top_k(&self, k: usize) -> Result<Self, ModelError> {
        append(self.clone(), "top-k", Op::TopK { k })
    }
}

/// Structure and types; ranges are checked by [`range::of_graph`].
fn check(graph: &Graph) -> Result<(), ModelError> {
    let Some(first) = graph.nodes.first() else {
        return Err(ModelError::graph(&graph.name, "the graph is empty"));
    };
    if !matches!(first.op, Op::Input) {
        return Err(ModelError::graph(&first.name, "the first node must be the input"));
    }
    let channels = first.output.shape[0];
    if graph.preprocess.mean.len() != channels || graph.preprocess.std.len() != channels {
        return Err(ModelError::graph(
            &first.name,
            format!("preprocess needs {channels} means and deviations"),
        ));
    }
    if graph.output >= graph.nodes.len() {
        return Err(ModelError::graph(&graph.name, "the output names no node"));
    }
    let mut names = HashSet::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        if !names.insert(node.name.as_str()) {
            return Err(ModelError::graph(&node.name, "the name is used twice"));
        }
        if node.inputs.iter().any(|&i| i >= id) {
            return Err(ModelError::graph(&node.name, "an operand stands behind its user"));
        }
        if matches!(node.op, Op::Input) && id != 0 {
            return Err(ModelError::graph(&node.name, "a second input"));
        }
        let operands: Vec<_> = node.inputs.iter().map(|&i| &graph.nodes[i].output).collect();
        let derived = infer(&node.name, &node.op, &operands, Some(&node.output))?;
        if derived != node.output {
            return Err(ModelError::graph(
                &node.name,
                format!("declares {:?} but its operands give {derived:?}", node.output),
            ));
        }
    }
    let read: HashSet<NodeId> = graph.nodes.iter().flat_map(|n| n.inputs.iter().copied()).collect();
    let unread = |(id, _): &(NodeId, &Node)| *id != graph.output && !read.contains(id);
    match graph.nodes.iter().enumerate().find(unread) {
        Some((_, node)) => Err(ModelError::graph(&node.name, "nothing reads its value")),
        None => Ok(()),
    }
}

fn append(mut graph: Graph, name: &str, op: Op) -> Result<Graph, ModelError> {
    let x = graph.output;
    let output = infer(name, &op, &[&graph.nodes[x].output], None)?;
    graph.nodes.push(Node { name: name.into(), op, inputs: vec![x], output });
    graph.output = graph.nodes.len() - 1;
    graph.validate()?;
    Ok(graph)
}
