//! How the values of options are read.

use std::time::Duration;

use copriv_train::Merge;

pub fn bits(text: &str) -> Result<(u32, u32), String> {
    let widths = text.strip_prefix('W').and_then(|t| t.split_once('A'));
    let widths = widths.and_then(|(w, a)| Some((w.parse().ok()?, a.parse().ok()?)));
    widths.ok_or_else(|| "widths look like W4A6".to_owned())
}

/// A number and `GB`, `MB`, `kB`, `B` or nothing; decimal, as the papers count.
pub fn bytes(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "GB" => 1e9,
        "MB" => 1e6,
        "kB" => 1e3,
        "B" | "" => 1.0,
        _ => return Err(format!("the unit {unit} is none of GB, MB, kB and B")),
    };
    match number.trim().parse::<f64>() {
        Ok(v) if v > 0.0 && v * unit < 1e18 => Ok((v * unit) as u64),
        _ => Err("a size such as 0.9GB is expected".into()),
    }
}

pub fn merge(text: &str) -> Result<Merge, String> {
    Ok(match text {
        "all" => Merge::All,
        "none" => Merge::None,
        names => Merge::Only(names.split(',').map(str::to_owned).collect()),
    })
}

pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if (0.0..=1.0).contains(&v) => Ok(v),
        _ => Err("a share between 0 and 1 is expected".into()),
    }
}

pub fn minutes(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|v: f64| Duration::try_from_secs_f64(v * 60.0).ok())
        .ok_or_else(|| "a number of minutes is expected".into())
}
