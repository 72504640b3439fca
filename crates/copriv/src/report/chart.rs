//! Bytes by layer as stacked bars, after CoPriv's figure 9: one bar a layer, one colour a kind of
//! traffic.

use anyhow::{Result, anyhow};
use copriv_plan::LayerPrice;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Colours that people who see red and green alike tell apart (Okabe and Ito, 2008).
pub(super) const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x88, 0x88, 0x88),
];

const WIDTH: u32 = 800;
const TITLE: u32 = 34;
const AXIS: u32 = 48;
/// Room for the sum behind a bar, as a share of the axis.
const HEADROOM: f64 = 1.12;

/// One bar: a layer's bytes by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// The layer.
    pub name: String,
    /// Kind and bytes, from the axis outwards; equal kinds have equal colours in all bars.
    pub parts: Vec<(String, u64)>,
}

impl Bar {
    /// Length of the bar.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl From<&LayerPrice> for Bar {
    fn from(layer: &LayerPrice) -> Self {
        let part = |kind: &str, bytes| (kind.to_owned(), bytes);
        let parts = vec![part("offline", layer.offline.bytes()), part("online", layer.online.bytes())];
        Self { name: layer.name.clone(), parts }
    }
}

/// An SVG with the first bar on top; charts that are compared share `axis_bytes`, the length of the
/// axis (the longest bar if there is none).
pub fn stacked(title: &str, bars: &[Bar], axis_bytes: Option<u64>) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, title, bars, axis_bytes)
        .map_err(|e| anyhow!("the chart `{title}` cannot be drawn: {e}"))?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    title: &str,
    bars: &[Bar],
    axis_bytes: Option<u64>,
) -> Result<(), Box<dyn std::error::Error>> {
    let row = if bars.len() > 24 { 16 } else { 24 };
    let font = ("sans-serif", if bars.len() > 24 { 11 } else { 13 });
    let longest = axis_bytes.or_else(|| bars.iter().map(Bar::bytes).max()).unwrap_or(0).max(1);
    let unit = Unit::of(longest);
    let kinds = kinds(bars);
    let name_chars = bars.iter().map(|b| b.name.chars().count()).max().unwrap_or(0) as u32;
    let names = (name_chars * font.1 * 5 / 8 + 24).clamp(60, 260);
    let legend = 22;
    let height = TITLE + legend + AXIS + 16 + row * bars.len().max(1) as u32;
    let area = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    let area = area.titled(title, ("sans-serif", 18))?;
    let (top, area) = area.split_vertically(legend);
    let mut x = names as i32 + 8;
    for (kind, colour) in kinds.iter().zip(COLOURS.iter().cycle()) {
        top.draw(&Rectangle::new([(x, 5), (x + 14, 17)], colour.filled()))?;
        top.draw(&Text::new((*kind).to_owned(), (x + 19, 5), ("sans-serif", 13)))?;
        x += 19 + 7 * kind.chars().count() as i32 + 20;
    }
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .x_label_area_size(AXIS)
        .y_label_area_size(names)
        .build_cartesian_2d(
            0.0..unit.value(longest) * HEADROOM,
            (0..bars.len().saturating_sub(1)).into_segmented(),
        )?;
    let name = |v: &SegmentValue<usize>| match v {
        SegmentValue::CenterOf(i) if *i < bars.len() => bars[bars.len() - 1 - i].name.clone(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(bars.len().max(1) + 1)
        .y_label_formatter(&name)
        .x_desc(format!("{} of one inference, both directions", unit.name))
        .label_style(font)
        .draw()?;
    for (i, bar) in bars.iter().rev().enumerate() {
        let mut from = 0;
        for (kind, bytes) in &bar.parts {
            let colour = kinds.iter().position(|k| k == kind).map_or(BLACK, |k| COLOURS[k % COLOURS.len()]);
            let ends = [from, from + bytes].map(|b| unit.value(b));
            let mut part = Rectangle::new(
                [(ends[0], SegmentValue::Exact(i)), (ends[1], SegmentValue::Exact(i + 1))],
                colour.filled(),
            );
            part.set_margin(row / 8, row / 8, 0, 0);
            chart.draw_series([part])?;
            from += bytes;
        }
        let sum = format!("{:.*}", unit.digits(longest), unit.value(from));
        let style = TextStyle::from(font.into_font()).pos(Pos::new(HPos::Left, VPos::Center));
        let end = (unit.value(from), SegmentValue::CenterOf(i));
        chart.draw_series([EmptyElement::at(end) + Text::new(sum, (5, 0), style)])?;
    }
    area.present()?;
    Ok(())
}

/// In the order in which they appear.
fn kinds(bars: &[Bar]) -> Vec<&str> {
    let mut kinds: Vec<&str> = Vec::new();
    for (kind, _) in bars.iter().flat_map(|b| &b.parts) {
        if !kinds.contains(&kind.as_str()) {
            kinds.push(kind);
        }
    }
    kinds
}

/// A power of 1000 that makes the longest bar a handy number.
struct Unit {
    name: &'static str,
    bytes: f64,
}

impl Unit {
    fn of(longest: u64) -> Self {
        let (name, bytes) = match longest {
            1_000_000_000.. => ("GB", 1e9),
            1_000_000.. => ("MB", 1e6),
            1_000.. => ("kB", 1e3),
            _ => ("B", 1.0),
        };
        Self { name, bytes }
    }

    fn value(&self, bytes: u64) -> f64 {
        bytes as f64 / self.bytes
    }

    /// Decimals that show three digits of the longest.
    fn digits(&self, longest: u64) -> usize {
        match self.value(longest) {
            100.0.. => 0,
            10.0.. => 1,
            _ => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(i: u64) -> Bar {
        let part = |kind: &str, bytes| (kind.to_owned(), bytes);
        Bar {
            name: format!("stage{i}.conv"),
            parts: vec![part("product", 3_000_000 + i), part("ReLU", i * 40_000)],
        }
    }

    #[test]
    fn every_layer_and_kind_is_named_once_and_bars_add_up() {
        let bars: Vec<Bar> = (0..54).map(bar).collect();
        let svg = stacked("ResNet-50, W4A6", &bars, None).unwrap();
        for bar in &bars {
            assert_eq!(svg.matches(&format!("\n{}\n", bar.name)).count(), 1, "{}", bar.name);
        }
        for text in ["ResNet-50, W4A6", "product", "ReLU", "MB of one inference, both directions"] {
            assert_eq!(svg.matches(&format!("\n{text}\n")).count(), 1, "{text}");
        }
        // The last bar's sum stands behind it: 3.000053 + 2.12 MB.
        assert!(svg.contains("\n5.12\n"), "{svg}");
    }

    #[test]
    fn charts_that_share_an_axis_have_bars_of_one_scale() {
        let lone = stacked("a", &[bar(0)], Some(6_000_000)).unwrap();
        let width = |svg: &str| {
            let rectangle = svg
                .lines()
                .find(|l| l.contains("<rect") && l.contains("#0072B2") && !l.contains("height=\"12\""))
                .unwrap();
            let width = rectangle.split("width=\"").nth(1).unwrap();
            width.split('"').next().unwrap().parse::<f64>().unwrap()
        };
        let full = stacked("b", &[bar(0)], Some(3_000_000)).unwrap();
        let ratio = width(&full) / width(&lone);
        assert!((ratio - 2.0).abs() < 0.02, "{ratio}");
    }

    #[test]
    fn no_layer_and_no_byte_still_make_a_picture() {
        for bars in [vec![], vec![Bar { name: "conv".into(), parts: vec![("offline".into(), 0)] }]] {
            assert!(stacked("empty", &bars, None).unwrap().starts_with("<svg"));
        }
    }
}
