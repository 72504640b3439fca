//! Layers on top of each other.

use crate::TrainError;
use crate::net::graph::{Bias, Block, BlockState, Conv, Graph, Node, NodeId, Op};

pub(super) struct Builder {
    pub graph: Graph,
    /// The node that the next one takes.
    pub top: NodeId,
    pub channels: usize,
}

impl Builder {
    pub fn new(arch: String, shape: [usize; 3]) -> Self {
        let input = Node { name: "input".into(), op: Op::Input { shape }, inputs: vec![] };
        Self { graph: Graph { arch, nodes: vec![input], blocks: vec![] }, top: 0, channels: shape[0] }
    }

    pub fn push(&mut self, name: &str, op: Op, inputs: Vec<NodeId>) -> NodeId {
        self.graph.nodes.push(Node { name: name.to_owned(), op, inputs });
        self.top = self.graph.nodes.len() - 1;
        self.top
    }

    /// Convolution with batch norm, "same" padding.
    pub fn conv(&mut self, name: &str, out_channels: usize, kernel: usize, stride: usize, depthwise: bool) {
        let conv = Conv {
            in_channels: self.channels,
            out_channels,
            kernel,
            stride,
            pad: kernel / 2,
            groups: if depthwise { self.channels } else { 1 },
            norm: true,
            bias: Bias::None,
        };
        self.push(name, Op::Conv(conv), vec![self.top]);
        self.channels = out_channels;
    }

    pub fn relu(&mut self, name: &str, gate: Option<usize>) -> String {
        self.push(name, Op::Relu { gate }, vec![self.top]);
        name.to_owned()
    }

    pub fn conv_relu(
        &mut self,
        name: &str,
        channels: usize,
        kernel: usize,
        stride: usize,
        gate: Option<usize>,
    ) {
        self.conv(name, channels, kernel, stride, false);
        self.relu(&format!("{name}.relu"), gate);
    }

    /// A block without nodes, and its index, which is its rectifiers' gate.
    pub fn block(&self, name: &str) -> (usize, Block) {
        let block = Block {
            name: name.to_owned(),
            convs: Vec::new(),
            relus: Vec::new(),
            add: None,
            state: BlockState::Kept,
        };
        (self.graph.blocks.len(), block)
    }

    /// Mean over the map and a fully connected layer.
    pub fn classifier(mut self, classes: usize) -> Result<Graph, TrainError> {
        self.push("pool", Op::GlobalAvgPool, vec![self.top]);
        self.flat_classifier(classes)
    }

    /// A fully connected layer on everything.
    pub fn flat_classifier(mut self, classes: usize) -> Result<Graph, TrainError> {
        let in_features = self.graph.values()?.last().map_or(0, |s| s.iter().product());
        self.push("classifier", Op::Linear { in_features, out_features: classes }, vec![self.top]);
        self.graph.shapes()?;
        Ok(self.graph)
    }
}
