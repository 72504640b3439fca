//! He et al., 2016.

use copriv_model::{Graph, ModelError, NodeId};

use super::stack::{Kernel, Role, Stack};

/// What stands before the first stage.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stem {
    /// 3x3 for 32x32 images, channels of the first stage.
    Small(usize),
    /// 7x7 of stride 2 and a max pool for 224x224 images.
    Large(usize),
}

/// Networks of two-convolution blocks. Without `projected`, shortcuts that change the shape are of option
/// A: subsampling and zero channels, both local.
pub(super) fn basic(
    mut net: Stack<'_>,
    first: Stem,
    stages: &[usize],
    projected: bool,
    classes: usize,
) -> Result<Graph, ModelError> {
    let (mut x, width) = stem(&mut net, first)?;
    for (stage, &blocks) in stages.iter().enumerate() {
        let channels = width << stage;
        for block in 0..blocks {
            let name = format!("stage{}-{}", stage + 1, block + 1);
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let a = net.branch(&name, x)?;
            let conv1 = Kernel::dense(channels, 3, stride);
            let y = net.conv_relu(&format!("{name}.conv1"), a, conv1, Role::Activation)?;
            let y = net.conv(&format!("{name}.conv2"), y, Kernel::dense(channels, 3, 1))?;
            let shortcut = if net.channels(x) == channels {
                x
            } else if projected {
                net.conv(&format!("{name}.shortcut"), a, Kernel::dense(channels, 1, stride))?
            } else {
                net.subsample(&format!("{name}.shortcut"), x, stride, channels)?
            };
            x = net.add(&format!("{name}.add"), y, shortcut)?;
            x = net.relu(&name, x, Role::Residual)?;
        }
    }
    net.classifier(x, classes)
}

/// Networks of 1x1, 3x3, 1x1 blocks; the stride is the 3x3's, as in torchvision.
pub(super) fn bottleneck(mut net: Stack<'_>, stages: &[usize], classes: usize) -> Result<Graph, ModelError> {
    let (mut x, width) = stem(&mut net, Stem::Large(64))?;
    for (stage, &blocks) in stages.iter().enumerate() {
        let inner = width << stage;
        for block in 0..blocks {
            let name = format!("stage{}-{}", stage + 1, block + 1);
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let a = net.branch(&name, x)?;
            let part = |i: usize| format!("{name}.conv{i}");
            let y = net.conv_relu(&part(1), a, Kernel::dense(inner, 1, 1), Role::Activation)?;
            let y = net.conv_relu(&part(2), y, Kernel::dense(inner, 3, stride), Role::Activation)?;
            let y = net.conv(&part(3), y, Kernel::dense(4 * inner, 1, 1))?;
            let shortcut = if block == 0 {
                net.conv(&format!("{name}.shortcut"), a, Kernel::dense(4 * inner, 1, stride))?
            } else {
                x
            };
            x = net.add(&format!("{name}.add"), y, shortcut)?;
            x = net.relu(&name, x, Role::Residual)?;
        }
    }
    net.classifier(x, classes)
}

/// The first stage's input and its channels.
fn stem(net: &mut Stack<'_>, first: Stem) -> Result<(NodeId, usize), ModelError> {
    let x = net.input();
    Ok(match first {
        Stem::Small(width) => (net.conv_relu("stem", x, Kernel::dense(width, 3, 1), Role::Residual)?, width),
        Stem::Large(width) => {
            let y = net.conv_relu("stem", x, Kernel::dense(width, 7, 2), Role::Residual)?;
            (net.max_pool("pool1", y, (3, 2, 1))?, width)
        }
    })
}
