//! Accuracy over bytes, a point a network; a line joins those of a method that no other of its points beats in
//! both (CoPriv's figure 10).

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::chart::COLOURS;

/// One network.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The method.
    pub series: String,
    /// Bytes of an inference.
    pub bytes: u64,
    /// Percent.
    pub accuracy: f64,
}

/// An SVG of all points; series in the order of their first point.
pub fn pareto(title: &str, counts: &str, points: &[Point]) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, title, counts, points).map_err(|e| anyhow!("the chart `{title}` cannot be drawn: {e}"))?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    title: &str,
    counts: &str,
    points: &[Point],
) -> Result<(), Box<dyn std::error::Error>> {
    let megabytes = |p: &Point| p.bytes as f64 / 1e6;
    let (left, right) = limits(points.iter().map(megabytes));
    let (below, above) = limits(points.iter().map(|p| p.accuracy));
    // Room for the legend.
    let above = above + 0.35 * (above - below);
    let area =
        SVGBackend::with_string(svg, (760, 460)).into_drawing_area().titled(title, ("sans-serif", 18))?;
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(left..right, below..above)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(format!("MB of one inference, {counts}"))
        .y_desc("accuracy, %")
        .label_style(("sans-serif", 13))
        .draw()?;
    let mut series: Vec<&str> = Vec::new();
    for point in points {
        if !series.contains(&point.series.as_str()) {
            series.push(&point.series);
        }
    }
    for (name, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let mut line: Vec<(f64, f64)> =
            points.iter().filter(|p| p.series == *name).map(|p| (megabytes(p), p.accuracy)).collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        chart.draw_series(line.iter().map(|point| Circle::new(*point, 4, colour.filled())))?;
        chart
            .draw_series([PathElement::new(front(&line), colour.stroke_width(2))])?
            .label(*name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2)));
    }
    if !series.is_empty() {
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(("sans-serif", 13))
            .draw()?;
    }
    area.present()?;
    Ok(())
}

/// Of points by bytes, those that are more accurate than all before.
fn front(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut best = f64::NEG_INFINITY;
    let better = |point: &&(f64, f64)| {
        let better = point.1 > best;
        best = best.max(point.1);
        better
    };
    points.iter().filter(better).copied().collect()
}

/// A little more than the values span.
fn limits(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return (0.0, 1.0);
    }
    let margin = (0.08 * (high - low)).max(0.01 * high.abs()).max(1e-3);
    ((low - margin).max(0.0), high + margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_that_another_beats_in_both_is_not_joined() {
        let points = [(1.0, 60.0), (1.5, 59.0), (2.0, 70.0), (2.0, 65.0), (3.0, 70.0), (4.0, 71.0)];
        assert_eq!(front(&points), [(1.0, 60.0), (2.0, 70.0), (4.0, 71.0)]);
        assert_eq!(front(&[]), []);
    }

    #[test]
    fn every_series_is_named_once_and_nothing_is_a_picture_too() {
        let point = |series: &str, bytes, accuracy| Point { series: series.into(), bytes, accuracy };
        let points = [
            point("SNL", 3_000_000, 70.0),
            point("with L_comm", 2_000_000, 71.0),
            point("SNL", 1_000_000, 60.0),
        ];
        let svg = pareto("which", "offline and online", &points).unwrap();
        for text in ["SNL", "with L_comm", "MB of one inference, offline and online", "which"] {
            assert_eq!(svg.matches(&format!("\n{text}\n")).count(), 1, "{text}");
        }
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(pareto("none", "online", &[]).unwrap().starts_with("<svg"));
        assert!(pareto("one", "online", &points[..1]).unwrap().contains("<circle"));
    }
}
