//! PyTorch's names of our tensors: torchvision's for MobileNetV2, and for ResNets both
//! torchvision's and akamaster/pytorch_resnet_cifar10's.

use crate::net::{Bias, Graph, Op};

/// A name as torchvision has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Torch(pub String);

/// Other conventions in torchvision's words.
pub(super) fn canonical(name: &str) -> Torch {
    let name = name.replace(".shortcut.", ".downsample.");
    let head = |old: &str| name.strip_prefix(old).map(|rest| format!("fc.{rest}"));
    Torch(head("linear.").or_else(|| head("classifier.1.")).unwrap_or(name))
}

/// The parts of a norm: PyTorch's name and ours.
const NORM: [(&str, &str); 4] =
    [("weight", "gamma"), ("bias", "beta"), ("running_mean", "mean"), ("running_var", "var")];

/// Every tensor of `graph`: PyTorch's name and ours.
pub(super) fn torch_names(graph: &Graph) -> Vec<(Torch, String)> {
    let mut names = Vec::new();
    let mobile = graph.arch.starts_with("mbv2");
    for node in &graph.nodes {
        let name = node.name.as_str();
        let (conv, norm) = if mobile { mobilenet(name, graph) } else { resnet(name) };
        let mut push = |torch: String, part: &str| names.push((Torch(torch), format!("{name}.{part}")));
        match &node.op {
            Op::Conv(shape) => {
                push(format!("{conv}.weight"), "weight");
                if shape.bias != Bias::None {
                    push(format!("{conv}.bias"), "bias");
                }
                if shape.norm {
                    NORM.into_iter().for_each(|(torch, part)| push(format!("{norm}.{torch}"), part));
                }
            }
            Op::Linear { .. } => {
                push("fc.weight".into(), "weight");
                push("fc.bias".into(), "bias");
            }
            _ => {}
        }
    }
    names
}

/// Prefixes of a convolution and its norm.
fn resnet(node: &str) -> (String, String) {
    if node == "stem" {
        return ("conv1".into(), "bn1".into());
    }
    if node.ends_with(".downsample") {
        return (format!("{node}.0"), format!("{node}.1"));
    }
    (node.to_owned(), node.replace("conv", "bn"))
}

/// `features.0` is the stem; block `i` is `features.i.conv`, a list of (convolution, norm, ReLU)
/// triples but for the last convolution and norm, which lie in the list themselves.
fn mobilenet(node: &str, graph: &Graph) -> (String, String) {
    let pair = |prefix: String| (format!("{prefix}.0"), format!("{prefix}.1"));
    let Some((block, part)) = node.strip_prefix("block").and_then(|rest| rest.split_once('.')) else {
        let last = graph.blocks.len() + 1;
        return pair(format!("features.{}", if node == "stem" { 0 } else { last }));
    };
    let expanded = graph.find(&format!("block{block}.expand")).is_ok();
    let list = format!("features.{block}.conv");
    match part {
        "expand" => pair(format!("{list}.0")),
        "depthwise" => pair(format!("{list}.{}", usize::from(expanded))),
        _ => {
            let at = 1 + usize::from(expanded);
            (format!("{list}.{at}"), format!("{list}.{}", at + 1))
        }
    }
}
