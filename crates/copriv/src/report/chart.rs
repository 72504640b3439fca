//! Bytes by block as stacked bars.

use anyhow::{Result, anyhow};
use copriv_plan::LayerPrice;
use plotters::prelude::*;

use super::mb;

const OFFLINE: RGBColor = RGBColor(0x4c, 0x78, 0xa8);
const ONLINE: RGBColor = RGBColor(0xf5, 0x85, 0x18);

/// An SVG with one horizontal bar a block: offline, then online megabytes, up to `max_mb`.
pub fn bars(title: &str, blocks: &[LayerPrice], max_mb: f64) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, title, blocks, max_mb).map_err(|e| anyhow!("the chart `{title}` cannot be drawn: {e}"))?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    title: &str,
    blocks: &[LayerPrice],
    max_mb: f64,
) -> Result<(), Box<dyn std::error::Error>> {
    let height = 110 + 24 * blocks.len() as u32;
    let area = SVGBackend::with_string(svg, (760, height)).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(8)
        .x_label_area_size(44)
        .y_label_area_size(130)
        .build_cartesian_2d(0.0..max_mb * 1.05, (0..blocks.len()).into_segmented())?;
    let name = |v: &SegmentValue<usize>| match v {
        SegmentValue::CenterOf(row) if *row < blocks.len() => blocks[blocks.len() - 1 - row].name.clone(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(blocks.len())
        .y_label_formatter(&name)
        .x_desc("MB of one inference, both directions")
        .label_style(("sans-serif", 13))
        .draw()?;
    let bar = |row: usize, from: f64, to: f64, colour: RGBColor| {
        let mut bar = Rectangle::new(
            [(from, SegmentValue::Exact(row)), (to, SegmentValue::Exact(row + 1))],
            colour.filled(),
        );
        bar.set_margin(4, 4, 0, 0);
        bar
    };
    let rows = || blocks.iter().rev().enumerate();
    chart
        .draw_series(rows().map(|(row, b)| bar(row, 0.0, mb(b.offline), OFFLINE)))?
        .label("offline")
        .legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], OFFLINE.filled()));
    chart
        .draw_series(rows().map(|(row, b)| bar(row, mb(b.offline), mb(b.offline) + mb(b.online), ONLINE)))?
        .label("online")
        .legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], ONLINE.filled()));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(("sans-serif", 13))
        .background_style(WHITE.mix(0.8))
        .draw()?;
    area.present()?;
    Ok(())
}
