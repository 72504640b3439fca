//! Loss and accuracy over the epochs of a run.

use anyhow::{Result, anyhow};
use copriv_train::Metrics;
use plotters::coord::Shift;
use plotters::prelude::*;

const TRAINING: RGBColor = RGBColor(0x4c, 0x78, 0xa8);
const VALIDATION: RGBColor = RGBColor(0xf5, 0x85, 0x18);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// An SVG with the loss above and the accuracies below; stages follow one another.
pub fn curves(title: &str, rows: &[Metrics]) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, title, rows).map_err(|e| anyhow!("the curves of {title} cannot be drawn: {e}"))?;
    Ok(svg)
}

fn draw(svg: &mut String, title: &str, rows: &[Metrics]) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, (760, 560)).into_drawing_area();
    let (above, below) = area.titled(title, ("sans-serif", 18))?.split_vertically(250);
    let column = |of: fn(&Metrics) -> f64| rows.iter().map(of).collect::<Vec<_>>();
    panel(&above, "training loss", rows, &[("training", TRAINING, column(|r| r.loss))])?;
    let accuracies = [
        ("training", TRAINING, column(|r| r.train_accuracy)),
        ("validation", VALIDATION, column(|r| r.accuracy)),
    ];
    panel(&below, "accuracy, %", rows, &accuracies)?;
    area.present()?;
    Ok(())
}

fn panel(
    area: &Area<'_>,
    name: &str,
    rows: &[Metrics],
    lines: &[(&str, RGBColor, Vec<f64>)],
) -> Result<(), Box<dyn std::error::Error>> {
    let values = || lines.iter().flat_map(|(_, _, values)| values).copied().filter(|v| v.is_finite());
    let (low, high) = values().fold((f64::INFINITY, 0f64), |(low, high), v| (low.min(v), high.max(v)));
    let (low, high) = if low < high { (low, high) } else { (high - 1.0, high + 1.0) };
    let margin = 0.05 * (high - low);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(56)
        .build_cartesian_2d(0.5..rows.len() as f64 + 0.5, low - margin..high + margin)?;
    // Epochs are counted within their stage.
    let epoch = |x: &f64| match rows.get((x.round() as usize).wrapping_sub(1)) {
        Some(row) if (x - x.round()).abs() < 1e-6 => format!("{} {}", row.stage, row.epoch),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .x_labels(rows.len().min(10))
        .x_label_formatter(&epoch)
        .y_desc(name)
        .label_style(("sans-serif", 13))
        .draw()?;
    for (label, colour, values) in lines {
        let points: Vec<_> = values.iter().enumerate().map(|(i, v)| (i as f64 + 1.0, *v)).collect();
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        chart
            .draw_series([PathElement::new(points, colour.stroke_width(2))])?
            .label(*label)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2)));
    }
    if lines.len() > 1 {
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .position(SeriesLabelPosition::LowerRight)
            .label_font(("sans-serif", 13))
            .draw()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_has_curves() {
        let row = |stage: &str, epoch, loss| Metrics {
            stage: stage.into(),
            epoch,
            loss,
            train_accuracy: 40.0 + epoch as f64,
            accuracy: 50.0,
            rate: 0.1,
            seconds: 1.0,
        };
        for rows in [vec![], vec![row("train", 1, 1.0)], vec![row("search", 1, 2.0), row("finetune", 1, 1.5)]]
        {
            let svg = curves("run", &rows).unwrap();
            assert!(svg.starts_with("<svg") && svg.contains("training loss") && svg.contains("validation"));
        }
    }
}
