//! Which blocks went: a row a pruning, a cell a block.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::COLOURS;
use crate::pricing::Form;

const CELL: i32 = 26;
const ROW: i32 = 30;
const TOP: i32 = 78;

/// One pruning: by block its form and the share of its ReLUs that is left.
pub struct Row {
    /// The pruning.
    pub name: String,
    /// By block.
    pub cells: Vec<(Form, f64)>,
}

/// An SVG with the blocks from left to right, in the network's order.
pub fn selection(title: &str, rows: &[Row]) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, title, rows).map_err(|e| anyhow!("the picture `{title}` cannot be drawn: {e}"))?;
    Ok(svg)
}

fn draw(svg: &mut String, title: &str, rows: &[Row]) -> Result<(), Box<dyn std::error::Error>> {
    let blocks = rows.iter().map(|r| r.cells.len()).max().unwrap_or(0) as i32;
    let names = rows.iter().map(|r| r.name.chars().count()).max().unwrap_or(0) as i32 * 8 + 24;
    let size = (names + blocks * CELL + 24, TOP + rows.len() as i32 * ROW + 12);
    let area = SVGBackend::with_string(svg, (size.0.max(420) as u32, size.1 as u32)).into_drawing_area();
    let font = |size: i32| TextStyle::from(("sans-serif", size).into_font());
    let centred = font(12).pos(Pos::new(HPos::Center, VPos::Center));
    area.draw(&Text::new(title.to_owned(), (12, 8), font(17)))?;
    let mut x = 12;
    for (form, name) in [(Form::Kept, "ReLUs left"), (Form::Linear, "linear"), (Form::Merged, "merged")] {
        area.draw(&Rectangle::new([(x, 36), (x + 14, 48)], colour(form).filled()))?;
        area.draw(&Text::new(name, (x + 20, 36), font(13)))?;
        x += 46 + 7 * name.len() as i32;
    }
    for block in 0..blocks {
        let at = (names + block * CELL + CELL / 2, TOP - 12);
        area.draw(&Text::new((block + 1).to_string(), at, centred.clone()))?;
    }
    for (i, row) in rows.iter().enumerate() {
        let y = TOP + i as i32 * ROW;
        area.draw(&Text::new(row.name.clone(), (12, y + 6), font(13)))?;
        for (block, (form, left)) in row.cells.iter().enumerate() {
            let x = names + block as i32 * CELL;
            let (right, bottom) = (x + CELL - 3, y + ROW - 5);
            area.draw(&Rectangle::new([(x, y), (right, bottom)], RGBColor(0xee, 0xee, 0xee).filled()))?;
            // A cell is filled as far as ReLUs are left; a freed one wholly.
            let share = if *form == Form::Kept { left.clamp(0.0, 1.0) } else { 1.0 };
            let top = bottom - (f64::from(bottom - y) * share).round() as i32;
            area.draw(&Rectangle::new([(x, top), (right, bottom)], colour(*form).filled()))?;
        }
    }
    area.present()?;
    Ok(())
}

fn colour(form: Form) -> RGBColor {
    match form {
        Form::Kept => COLOURS[0],
        Form::Linear => COLOURS[1],
        Form::Merged => COLOURS[2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pruning_is_a_row_of_cells() {
        let row = |name: &str, cells: &[(Form, f64)]| Row { name: name.into(), cells: cells.to_vec() };
        let rows = [
            row("with L_comm", &[(Form::Kept, 1.0), (Form::Linear, 0.0), (Form::Merged, 0.0)]),
            row("SNL", &[(Form::Kept, 0.5), (Form::Kept, 0.1), (Form::Linear, 0.0)]),
        ];
        let svg = selection("which blocks went", &rows).unwrap();
        for text in ["with L_comm", "SNL", "1", "3"] {
            assert_eq!(svg.matches(&format!("\n{text}\n")).count(), 1, "{text}");
        }
        // Three keys, and for each cell its background and its filling.
        assert_eq!(svg.matches("<rect").count(), 3 + 2 * 6);
        assert!(selection("none", &[]).unwrap().starts_with("<svg"));
    }
}
