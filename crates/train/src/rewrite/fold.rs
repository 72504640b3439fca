//! Batch norm folded into the convolution before it:
//! `gamma (W x - mean) / sqrt(var + eps) + beta = W' x + b'` with
//! `W'_k = s_k W_k`, `b'_k = beta_k - s_k mean_k + s_k b_k`, `s_k = gamma_k / sqrt(var_k + eps)`.

use crate::TrainError;
use crate::net::{Bias, Graph, NORM_EPSILON, Op, Weights};

/// The graph after folding.
pub fn fold_graph(graph: &Graph) -> Graph {
    let mut out = graph.clone();
    for node in &mut out.nodes {
        if let Op::Conv(conv) = &mut node.op
            && conv.norm
        {
            conv.norm = false;
            if conv.bias == Bias::None {
                conv.bias = Bias::Channel;
            }
        }
    }
    out
}

/// Graph and parameters after folding, in double precision inside.
///
/// # Errors
/// Parameters that do not fit the graph.
pub fn fold_norms(graph: &Graph, weights: &Weights) -> Result<(Graph, Weights), TrainError> {
    weights.check(graph)?;
    let mut out = weights.clone();
    for node in &graph.nodes {
        let Op::Conv(conv) = &node.op else { continue };
        if !conv.norm {
            continue;
        }
        let channels = conv.out_channels;
        let part = |part: &str| Ok::<_, TrainError>(weights.of(&node.name, part)?.data.clone());
        let (gamma, beta, mean, var) = (part("gamma")?, part("beta")?, part("mean")?, part("var")?);
        let scale: Vec<f64> = gamma
            .iter()
            .zip(&var)
            .map(|(&g, &v)| f64::from(g) / (f64::from(v) + NORM_EPSILON).sqrt())
            .collect();
        let mut weight = weights.of(&node.name, "weight")?.clone();
        let fan_in = weight.data.len() / channels;
        for (row, s) in weight.data.chunks_exact_mut(fan_in).zip(&scale) {
            row.iter_mut().for_each(|w| *w = (f64::from(*w) * s) as f32);
        }
        let mut bias = match conv.bias {
            Bias::None => crate::net::Array::full([channels], 0.0),
            _ => weights.of(&node.name, "bias")?.clone(),
        };
        for row in bias.data.chunks_exact_mut(channels) {
            for (k, b) in row.iter_mut().enumerate() {
                let folded = f64::from(beta[k]) + scale[k] * (f64::from(*b) - f64::from(mean[k]));
                *b = folded as f32;
            }
        }
        for part in ["gamma", "beta", "mean", "var"] {
            out.remove(&format!("{}.{part}", node.name));
        }
        out.insert(&format!("{}.weight", node.name), weight);
        out.insert(&format!("{}.bias", node.name), bias);
    }
    Ok((fold_graph(graph), out))
}
