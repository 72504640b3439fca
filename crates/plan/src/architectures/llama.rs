use copriv_model::{Graph, ModelError};

use super::stack::{Kernel, Role, Stack};

/// The query, key, value and output projections of one attention block (Touvron et al., 2023:
/// 4096 features).
pub(super) fn projections(mut net: Stack<'_>) -> Result<Graph, ModelError> {
    let x = net.input();
    let square = Kernel::dense(net.channels(x), 1, 1);
    let q = net.conv("query", x, square)?;
    let k = net.conv("key", x, square)?;
    let v = net.conv("value", x, square)?;
    let qk = net.add("attention.qk", q, k)?;
    let attended = net.add("attention", qk, v)?;
    let attended = net.signed("attention", attended, Role::Activation)?;
    let output = net.conv("output", attended, square)?;
    net.finish(output)
}
