//! CoPriv's tables, at `l = 41`.

use copriv_model::kernel::Geometry;

use super::{Builder, Table, TableError};
use crate::architectures::{Numbers, geometries, named};
use crate::linear::Side;
use crate::literature::winograd::Tiled;
use crate::literature::{GIB, Matrix, uniform};

/// CoPriv's ring.
const RING: u32 = 41;
/// CoPriv's numbers.
const FIXED: Numbers = Numbers::FixedPoint { ring: RING, scale: 12 };

pub(super) fn tables() -> Result<Vec<Table>, TableError> {
    Ok(vec![table_3()?, ratios()?, table_4()?])
}

/// Both cross terms of a product of shares: twice one product.
fn table_3() -> Result<Table, TableError> {
    let mut table = Builder::new("CoPriv table 3")?;
    let tiled = Tiled::new(4, 14, 256, 256);
    let regular = 2 * uniform::product(Matrix::dense(14, 256, 256, 3), RING, Side::Client).bytes();
    let gib = |bits: u64| bits as f64 / 8.0 / GIB;
    table.row("regular", regular as f64 / GIB, None);
    let (calls, positions) = (tiled.channels * tiled.filters * tiled.tiles, tiled.positions());
    let (element_wise, batches) = (tiled.element_wise(RING), tiled.element_wise_extension(RING));
    let note = format!(
        "the padded OT batches alone: {calls} calls of {positions} x {RING} OTs, each padded to 16384 of 16 B; \
         the messages are {:.2} GiB more",
        element_wise.down as f64 / GIB,
    );
    table.row("Winograd, element-wise", batches as f64 / GIB, Some(note));
    let unpadded = 2.0 * gib(tiled.element_wise_bits(RING));
    let note = "the same without padding, as the preset copriv-ewmm runs it";
    table.row("Winograd, element-wise, unpadded", unpadded, Some(note.into()));
    let swapped = "F(4x4), 16 tiles; the paper's table 2 has this formula at the other row";
    table.row(
        "Winograd, tile aggregation",
        2.0 * gib(tiled.aggregated(RING, Side::Server)),
        Some(swapped.into()),
    );
    table.row("Winograd, sender selection", 2.0 * gib(tiled.selected(RING)), Some(swapped.into()));
    Ok(table.finish())
}

/// One product a convolution, the weights' bits as choices.
fn ratios() -> Result<Table, TableError> {
    let mut table = Builder::new("CoPriv, 2.1x")?;
    for (label, name) in [("ResNet-18", "resnet18"), ("ResNet-32", "resnet32")] {
        let graph = named(name, FIXED)?;
        let convs: Vec<Geometry> = geometries(&graph).filter(is_convolution).collect();
        let regular = convs.iter().map(|g| regular_gib(g, RING)).sum::<f64>();
        let winograd = convs.iter().map(|g| winograd_gib(g, RING)).sum::<f64>();
        table.row(&format!("{label}, CrypTFlow2"), regular, None);
        table.row(&format!("{label}, CoPriv"), winograd, None);
        table.row(&format!("{label}, ratio"), regular / winograd, None);
    }
    Ok(table.finish())
}

fn table_4() -> Result<Table, TableError> {
    let mut table = Builder::new("CoPriv table 4")?;
    let graph = named("mbv2-w0.75", FIXED)?;
    let convs: Vec<Geometry> = geometries(&graph).filter(is_convolution).collect();
    let regular: f64 = convs.iter().map(|g| regular_gib(g, RING)).sum();
    let depthwise: f64 = convs.iter().filter(|g| g.groups > 1).map(|g| regular_gib(g, RING)).sum();
    let printed =
        crate::literature::figures::table("CoPriv table 4").and_then(|t| Some(t.rows.first()?.paper));
    let note = format!(
        "{:.2} GiB below the printed total, of {:.2} GiB for {} depth-wise and {:.2} GiB for {} other convolutions: \
         the network's exact shape is not printed (this one: stem stride 1, strides 1,1,2,2,1,2,1)",
        printed.unwrap_or(regular) - regular,
        depthwise,
        convs.iter().filter(|g| g.groups > 1).count(),
        regular - depthwise,
        convs.iter().filter(|g| g.groups == 1).count(),
    );
    table.row("convolutions, CrypTFlow2", regular, Some(note));
    table.row(
        "convolutions, F(2x2) where it applies",
        convs.iter().map(|g| winograd_gib(g, RING)).sum::<f64>(),
        None,
    );
    Ok(table.finish())
}

fn is_convolution(g: &Geometry) -> bool {
    g.height > 1
}

/// CrypTFlow2's product in GiB, the weights' bits as choices.
fn regular_gib(g: &Geometry, ring: u32) -> f64 {
    uniform::product_bits(g.into(), ring, Side::Server) as f64 / 8.0 / GIB
}

/// Where Winograd applies.
pub(super) fn is_tiled(g: &Geometry) -> bool {
    (g.kernel, g.stride, g.groups) == (3, 1, 1)
}

/// CoPriv's product in GiB: `F(2x2)` with the better sender for dense 3x3 convolutions of stride 1,
/// CrypTFlow2's elsewhere.
pub(super) fn winograd_gib(g: &Geometry, ring: u32) -> f64 {
    if !is_tiled(g) {
        return regular_gib(g, ring);
    }
    let tiled = Tiled::new(2, g.height as u64, g.channels as u64, g.filters as u64);
    tiled.selected(ring) as f64 / 8.0 / GIB
}
