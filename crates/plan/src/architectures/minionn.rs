use copriv_model::{Graph, ModelError};

use super::stack::{Kernel, Role, Stack};

/// Liu et al., CCS 2017, figure 13.
pub(super) fn build(mut net: Stack<'_>) -> Result<Graph, ModelError> {
    let mut x = net.input();
    for (i, (filters, side)) in
        [(64, 3), (64, 3), (64, 3), (64, 3), (64, 3), (64, 1), (16, 1)].into_iter().enumerate()
    {
        x = net.conv_relu(&format!("conv{}", i + 1), x, Kernel::dense(filters, side, 1), Role::Activation)?;
        if i == 1 || i == 3 {
            x = net.avg_pool(&format!("pool{}", i / 2 + 1), x, 2, 2)?;
        }
    }
    net.flat_classifier(x, 10)
}
