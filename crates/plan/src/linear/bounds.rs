//! Widths of tile positions by the real weights, which makes them public: opt-in.

use copriv_model::{KernelBound, Model, ModelError, Op};

use super::Tile;

/// The same model with a public bound on each tile position's combinations, where those of the real weights
/// need fewer bits than those of any weights. A client then learns, layer by layer and position by
/// position, the least combination and how many bits all of them have.
///
/// # Errors
/// Weights that are missing.
pub fn with_tile_widths(model: Model) -> Result<Model, ModelError> {
    let Model { mut graph, weights } = model;
    for node in &mut graph.nodes {
        let Op::Conv(conv) = &mut node.op else { continue };
        let kernels = &weights.layer(&node.name)?.weight;
        let mut bounds: Vec<KernelBound> = Vec::new();
        for tile in Tile::ALL.into_iter().filter(|tile| tile.fits_kernel(conv.kernel, conv.stride)) {
            for position in tile.positions() {
                let mut bound = KernelBound { coefficients: position.coefficients(), range: (0, 0) };
                bound.range = bound.worst_case(&conv.linear);
                let known = bounds.iter().any(|other| other.coefficients == bound.coefficients);
                bounds.extend(if known { None } else { narrower(bound, kernels) });
            }
        }
        conv.kernel_bounds = bounds;
    }
    Model::new(graph, weights)
}

/// The bound that the kernels keep, with all values of its width, if that is fewer bits. Three values stay
/// three: they are one ternary digit.
fn narrower(worst: KernelBound, kernels: &[i32]) -> Option<KernelBound> {
    let values = kernels.chunks_exact(worst.coefficients.len()).map(|kernel| worst.value(kernel));
    let (lo, hi) = values.fold((i64::MAX, i64::MIN), |(lo, hi), v| (lo.min(v), hi.max(v)));
    let bits = |lo: i64, hi: i64| u64::BITS - hi.abs_diff(lo).leading_zeros();
    let real = bits(lo, hi);
    if lo > hi || real >= bits(worst.range.0, worst.range.1) {
        return None;
    }
    let last = if hi - lo == 2 { hi } else { (lo + (1 << real) - 1).min(worst.range.1) };
    Some(KernelBound { range: (lo, last), ..worst })
}
