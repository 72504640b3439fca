//! PrivQuant's tables.

use copriv_model::{ConvSpec, GraphBuilder, LinearSpec, TensorType};

use super::networks::ours;
use super::{Builder, Table, TableError, networks};
use crate::architectures::{Bits, named};
use crate::linear::{Algorithm, Product, Side};
use crate::literature::{Extended, GIB, Matrix, Mixed, figures, residual};
use crate::ot::OtMeter;
use crate::traffic::Meter;
use crate::{Choice, Flavour, Plan, PlanError, Preset, StepKind};

/// Side, channels (and filters) and kernel of table 9's convolutions.
const CONVOLUTIONS: [(usize, usize, usize); 5] =
    [(56, 64, 3), (28, 128, 3), (14, 256, 3), (7, 512, 3), (7, 512, 1)];
const WEIGHT_BITS: u32 = 2;
const ACTIVATION_BITS: u32 = 4;

pub(super) fn tables() -> Result<Vec<Table>, TableError> {
    Ok(vec![table_4()?, table_9()?, table_10()?, table_12()?])
}

fn matrix((side, channels, kernel): (usize, usize, usize)) -> Matrix {
    Matrix::dense(side as u64, channels as u64, channels as u64, kernel as u64)
}

fn label((side, channels, kernel): (usize, usize, usize)) -> String {
    format!("({side},{channels},{kernel})")
}

fn mixed_bytes(way: Mixed, conv: (usize, usize, usize)) -> u64 {
    way.parts(matrix(conv), WEIGHT_BITS, ACTIVATION_BITS).bytes()
}

/// The four rows, as SCI sends them.
fn table_4() -> Result<Table, TableError> {
    let mut table = Builder::new("SCI, W2A4")?;
    for conv in CONVOLUTIONS {
        for way in Mixed::ROWS {
            let receiver = if way.receiver == Side::Client { "client" } else { "server" };
            let extended = if way.extended == Extended::Weights { "weights" } else { "activations" };
            let row = format!("{} {receiver} receives, {extended} extended", label(conv));
            table.row(&row, mixed_bytes(way, conv) as f64 / 1e9, None);
        }
    }
    Ok(table.finish())
}

fn table_9() -> Result<Table, TableError> {
    let mut table = Builder::new("PrivQuant table 9")?;
    for conv in CONVOLUTIONS {
        let gib = |bytes: u64| bytes as f64 / GIB;
        let name = |system: &str| format!("{} {system}", label(conv));
        let printed = |system: &str| {
            let rows = &figures::table("PrivQuant table 9")?.rows;
            rows.iter().find(|r| r.row == name(system)).map(|r| r.paper)
        };
        let sirnn = gib(mixed_bytes(Mixed::SIRNN, conv));
        let narrow = gib(mixed_bytes(Mixed { narrower: 1, ..Mixed::SIRNN }, conv));
        let ring = Mixed::SIRNN.ring(matrix(conv), WEIGHT_BITS, ACTIVATION_BITS);
        let note = printed("SiRNN").map(|paper| {
            format!(
                "as measured on SCI, with l = {ring}; with l = {} it is {narrow:.3}, {:+.1} % of the printed figure",
                ring - 1,
                100.0 * (narrow / paper - 1.0),
            )
        });
        table.row(&name("SiRNN"), sirnn, note);
        let way = Mixed::cheapest(matrix(conv), WEIGHT_BITS, ACTIVATION_BITS, false);
        let parts = way.parts(matrix(conv), WEIGHT_BITS, ACTIVATION_BITS);
        let note = printed("PrivQuant").map(|_| {
            format!(
                "the cheapest row of table 4, as SCI sends it: OTs {:.3}, wraps {:.3}, MUX {:.3}, extension {:.3}, \
                 truncation {:.3}",
                gib(parts.ots.bytes()),
                gib(parts.wraps),
                gib(parts.multiplexers),
                gib(parts.extension),
                gib(parts.reduction),
            )
        });
        table.row(&name("PrivQuant"), gib(parts.bytes()), note);
        let known = Mixed::cheapest(matrix(conv), WEIGHT_BITS, ACTIVATION_BITS, true);
        table.row(&name("PrivQuant, sign known"), gib(mixed_bytes(known, conv)), None);
        for k in [4, 8, 10] {
            let choice = ours(k);
            let product = packed(conv, choice)?;
            let note = format!(
                "{}-bit ring, {}; set-up once a client and model {:.1} MB",
                product.ring,
                algorithm(product.algorithm),
                product.cost(choice).setup / 1e6,
            );
            let ours = gib(product_bytes(&product, choice));
            table.beside(&name("PrivQuant"), &name(&format!("copriv-ng, k = {k}")), ours, Some(note));
        }
    }
    Ok(table.finish())
}

/// Residual connections. The paper's figures could not be reached.
fn table_10() -> Result<Table, TableError> {
    let mut table = Builder::new("PrivQuant table 10")?;
    for block in residual::BLOCKS {
        let bytes = |preset: Preset| {
            let flavour = if preset.is_baseline() { Flavour::Iknp } else { Flavour::Ferret };
            residual::bytes(block, Choice { preset, ..flavour.into() })
        };
        let sirnn = bytes(Preset::Sirnn)?;
        for preset in [Preset::Sirnn, Preset::Privquant, Preset::CoprivNg] {
            let bytes = bytes(preset)?;
            let per_element = bytes / (block.0 * block.0 * block.1) as f64;
            let mut note = format!("{per_element:.1} B an element");
            note += &match preset {
                Preset::Sirnn => "; what the paper prints could not be read here".into(),
                _ => format!(", {:.1} times less than sirnn", sirnn / bytes),
            };
            let row = format!("({},{}) {}", block.0, block.1, preset.name());
            table.row(&row, bytes / 1e6, Some(note));
        }
    }
    Ok(table.finish())
}

fn table_12() -> Result<Table, TableError> {
    let mut table = Builder::new("PrivQuant table 12")?;
    for tokens in [1u64, 32, 128] {
        let matrix = Matrix { groups: 1, filters: 4096, fan_in: 4096, pixels: tokens };
        let mb = |way: Mixed| 4.0 * way.parts(matrix, WEIGHT_BITS, ACTIVATION_BITS).bytes() as f64 / 1e6;
        let row = |system: &str| format!("{tokens} token{}, {system}", if tokens == 1 { "" } else { "s" });
        let ring = Mixed::SIRNN.ring(matrix, WEIGHT_BITS, ACTIVATION_BITS);
        let products = 4 * tokens * matrix.filters * matrix.fan_in;
        // The cheapest order: a message of each weight bit for each product.
        let least = products * u64::from(2 * ring - 1) / 8;
        let note = format!(
            "W{WEIGHT_BITS}A{ACTIVATION_BITS}: {products} products x ({ring} + {}) bits of messages are {:.0} MB by \
             themselves, so the printed figure is not that of these four products",
            ring - 1,
            least as f64 / 1e6,
        );
        let sirnn = format!("{note}; {}", quadratic());
        table.row(&row("SiRNN"), mb(Mixed::SIRNN), Some(sirnn));
        let way = Mixed::cheapest(matrix, WEIGHT_BITS, ACTIVATION_BITS, true);
        table.row(&row("PrivQuant"), mb(way), Some(note));
        let graph = named(&format!("llama7b-{tokens}"), Bits::new(WEIGHT_BITS, ACTIVATION_BITS))?;
        for k in [4, 8] {
            let (bytes, setup) = networks::planned(&graph, k)?;
            let note = format!(
                "W{WEIGHT_BITS}A{ACTIVATION_BITS}, beside PrivQuant's; set-up once a client and model {:.0} MB",
                setup / 1e6
            );
            let name = format!("copriv-ng, k = {k}");
            table.beside(&row("PrivQuant"), &row(&name), bytes as f64 / 1e6, Some(note));
        }
    }
    Ok(table.finish())
}

/// How SiRNN's printed figures grow: `a t^2 + b t` through those of 1 and 32 tokens, against that of 128.
fn quadratic() -> String {
    let printed = |row: &str| {
        let rows = &figures::table("PrivQuant table 12")?.rows;
        Some(rows.iter().find(|r| r.row == row)?.paper)
    };
    let figures = (printed("1 token, SiRNN"), printed("32 tokens, SiRNN"), printed("128 tokens, SiRNN"));
    let (Some(one), Some(some), Some(many)) = figures else { return String::new() };
    let a = (some - 32.0 * one) / (32.0 * 32.0 - 32.0);
    let b = one - a;
    let deviation = (a * 128.0 * 128.0 + b * 128.0) / many - 1.0;
    format!(
        "through 1 and 32 tokens, {a:.3} t^2 + {b:.2} t MB gives that of 128 within {:.1} %: it holds what grows with \
         the square of the tokens, as attention does and projections do not",
        100.0 * deviation.abs(),
    )
}

/// One convolution as this project plans it, with groups of up to `k` bits.
fn packed((side, channels, kernel): (usize, usize, usize), choice: Choice) -> Result<Product, PlanError> {
    let linear = LinearSpec {
        weight_bits: WEIGHT_BITS,
        ternary: false,
        weight_scale_log2: 0,
        channel_shifts: vec![],
        bias_bits: 0,
        acc_bound: None,
    };
    let input = TensorType::unsigned([channels, side, side], ACTIVATION_BITS, 0);
    let mut b = GraphBuilder::new("convolution", input);
    let spec = ConvSpec { out_channels: channels, kernel, stride: 1, pad: kernel / 2, groups: 1, linear };
    let y = b.conv("conv", b.input(), spec)?;
    let y = b.requant("requant", y, ACTIVATION_BITS, ACTIVATION_BITS, true, true)?;
    let plan = Plan::new(&b.finish(y)?, choice)?;
    let products = plan.steps.into_iter().find_map(|step| match step.kind {
        StepKind::Product { product, .. } => Some(product),
        _ => None,
    });
    products.ok_or_else(|| PlanError::Unsupported {
        node: "conv".into(),
        reason: "the plan has no product".into(),
    })
}

fn algorithm(algorithm: Algorithm) -> String {
    match algorithm {
        Algorithm::Direct => "direct".into(),
        Algorithm::Winograd(tile) => format!("Winograd {tile:?}"),
        Algorithm::ElementWise(tile) => format!("element-wise {tile:?}"),
    }
}

/// Offline and online.
fn product_bytes(product: &Product, choice: Choice) -> u64 {
    let mut flows = OtMeter::new(choice.flavour).offline(&product.offline(choice));
    flows.extend(product.online(choice).online);
    Meter::new().count(&flows).bytes()
}
