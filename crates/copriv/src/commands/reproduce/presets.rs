//! Every architecture under every preset.

use anyhow::Result;
use comfy_table::Table as Grid;
use copriv_infer2pc::session::predict_setup;
use copriv_plan::architectures::{self, Bits, Numbers};
use copriv_plan::literature::tables::Row;
use copriv_plan::literature::{GIB, figures};
use copriv_plan::{Choice, Flavour, Network, Plan, Prediction, Preset, Traffic};

use super::{aligned, figure_of};

/// Inferences of a session, whose means are shown.
const INFERENCES: u32 = 100;

/// What [`grid`] shows.
pub const ABOUT: &str = "presets: every architecture under every executable preset, means of 100 inferences a session, \
     GiB (printed: as others give it for this system); set-up is once a session; seconds are those of the messages, \
     without computation";

/// The architectures whose figures the literature's comparisons print, by label there.
const PRINTED: [(&str, &str); 3] =
    [("minionn", "MiniONN"), ("resnet32", "ResNet-32"), ("resnet50", "ResNet-50")];

/// A network under a preset: means of a session's inferences.
pub struct Priced {
    network: &'static str,
    numbers: String,
    preset: Preset,
    setup: Traffic,
    inference: Prediction,
    /// GiB, offline and online, as others print it for this system and network.
    printed: Option<f64>,
}

/// Every architecture under every preset: CrypTFlow2's and CoPriv's in fixed point, the others quantised.
pub fn all() -> Result<Vec<Priced>> {
    let mut all = Vec::new();
    for network in architectures::NAMES {
        for preset in Preset::ALL {
            all.push(price(network, preset)?);
        }
    }
    Ok(all)
}

fn price(network: &'static str, preset: Preset) -> Result<Priced> {
    let (numbers, label) = numbers(network, preset);
    // IKNP's inferences are all alike; Ferret's alternate.
    let (flavour, inferences) = match preset {
        Preset::CoprivNg => (Flavour::Ferret, INFERENCES),
        _ => (Flavour::Iknp, 1),
    };
    let graph = architectures::named(network, numbers)?;
    let plan = Plan::new(&graph, Choice { preset, flavour, session: INFERENCES, ..Choice::default() })?;
    let inferences = u64::from(inferences);
    Ok(Priced {
        network,
        numbers: label,
        preset,
        setup: predict_setup(&graph, &plan, false)?,
        inference: plan.predict_session(inferences).mean(inferences),
        printed: printed(network, preset),
    })
}

/// Fixed point for CrypTFlow2 and CoPriv, in the rings of SCI's networks; widths of PrivQuant for the
/// others.
fn numbers(network: &str, preset: Preset) -> (Numbers, String) {
    if preset.one_ring() {
        let imagenet = network.contains("224") || ["resnet50", "mbv3-small"].contains(&network);
        let ring = if imagenet { 37 } else { 41 };
        return (Numbers::FixedPoint { ring, scale: 12 }, format!("l = {ring}"));
    }
    let (weights, activations) = if network == "minionn" { (2, 4) } else { (4, 6) };
    (Bits::new(weights, activations).into(), format!("W{weights}A{activations}"))
}

/// What others print for this network and system, at about these numbers (SiRNN's are wider).
fn printed(network: &str, preset: Preset) -> Option<f64> {
    let label = PRINTED.iter().find(|(name, _)| *name == network)?.1;
    let system = match preset {
        Preset::Cryptflow2 => "CrypTFlow2",
        Preset::Copriv => "CoPriv",
        Preset::Privquant => "PrivQuant",
        Preset::Sirnn | Preset::CoprivEwmm | Preset::CoprivNg => return None,
    };
    let rows = &figures::table("networks")?.rows;
    Some(rows.iter().find(|r| r.row == format!("{label}, {system}"))?.paper)
}

impl Priced {
    fn total(&self) -> Traffic {
        self.inference.offline() + self.inference.online()
    }

    /// Seconds that the messages of an inference take.
    fn seconds(&self) -> [f64; Network::ALL.len()] {
        Network::ALL
            .map(|link| link.seconds(self.inference.offline()) + link.seconds(self.inference.online()))
    }

    /// One row a figure.
    pub fn rows(&self) -> Vec<Row> {
        let row = |what: &str, paper: Option<f64>, ours: f64, unit: &str| Row {
            table: "presets".into(),
            row: format!("{}, {}, {what}", self.network, self.preset.name()),
            paper,
            ours: Some(ours),
            unit: unit.into(),
            note: Some(format!(
                "{}, as executed here: without taps on padding and padded OT batches; \
                 table `networks` has the formulas with them",
                self.numbers
            )),
        };
        let gib = |t: Traffic| t.bytes() as f64 / GIB;
        let (offline, online) = (self.inference.offline(), self.inference.online());
        let mut rows = vec![
            row("set-up", None, gib(self.setup), "GiB"),
            row("offline", None, gib(offline), "GiB"),
            row("online", None, gib(online), "GiB"),
            row("offline and online", self.printed, gib(self.total()), "GiB"),
            row("offline rounds", None, offline.rounds as f64, "rounds"),
            row("online rounds", None, online.rounds as f64, "rounds"),
        ];
        for (link, seconds) in Network::ALL.into_iter().zip(self.seconds()) {
            rows.push(row(&format!("messages on {}", link.name()), None, seconds, "s"));
        }
        rows
    }
}

/// One line a network and preset.
pub fn grid(all: &[Priced]) -> Grid {
    let mut header =
        ["network", "preset", "numbers", "set-up", "offline", "online", "total", "printed", "rounds"]
            .map(str::to_owned)
            .to_vec();
    header.extend(Network::ALL.map(|link| format!("s on {}", link.name())));
    let gib = |t: Traffic| figure_of(t.bytes() as f64 / GIB);
    let mut grid = aligned(&header, 3..header.len());
    for p in all {
        let total = p.total();
        let mut line = vec![
            p.network.to_owned(),
            p.preset.name().to_owned(),
            p.numbers.clone(),
            gib(p.setup),
            gib(p.inference.offline()),
            gib(p.inference.online()),
            gib(total),
            p.printed.map_or(String::new(), figure_of),
            total.rounds.to_string(),
        ];
        line.extend(p.seconds().map(figure_of));
        grid.add_row(line);
    }
    grid
}
