//! `copriv data`.

use std::path::Path;

use anyhow::Result;
use copriv_train::data::{self, Images, Source};

use crate::cli::DataVerb;

pub fn run(what: &DataVerb) -> Result<()> {
    match what {
        DataVerb::List(dir) => list(&dir.data_dir),
        DataVerb::Check { name, dir } => check(name, &dir.data_dir),
        DataVerb::Fetch { name, from, dir } => {
            let source = Source::named(name)?;
            eprintln!("fetching {name} from {}", from.as_deref().unwrap_or(&source.base));
            source.fetch(&dir.data_dir, from.as_deref())?;
            check(name, &dir.data_dir)
        }
    }
}

fn list(dir: &Path) -> Result<()> {
    say!("{:<14}  embedded", data::EMBEDDED);
    for source in data::sources() {
        let folder = dir.join(source.folder);
        let there = if folder.is_dir() { "there" } else { "not there; `copriv data fetch` brings it" };
        say!("{:<14}  {}: {there}", source.name, folder.display());
    }
    say!("{:<14}  any images: train/CLASS/* and val/CLASS/* in {}", "folder-SIDE", dir.display());
    Ok(())
}

fn check(name: &str, dir: &Path) -> Result<()> {
    let sums = match Source::named(name) {
        Ok(source) => data::check_sums(name, &dir.join(source.folder))?,
        Err(_) => None,
    };
    let set = data::load(name, dir)?;
    let [channels, height, width] = set.shape();
    say!("{name}: {} classes of {height}x{width}x{channels}", set.classes.len());
    for (split, images) in [("train", &set.train), ("validation", &set.validation), ("test", &set.test)] {
        let (least, most) = balance(images, set.classes.len());
        say!("{split:>12}: {} images, {least} to {most} a class", images.len());
    }
    match sums {
        Some(files) => say!("checksums of {files} files are right"),
        None => say!("layout and labels are right; there are no checksums to compare with"),
    }
    Ok(())
}

/// Fewest and most images of a class.
fn balance(images: &Images, classes: usize) -> (usize, usize) {
    let mut counts = vec![0; classes];
    images.labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
    (counts.iter().copied().min().unwrap_or(0), counts.iter().copied().max().unwrap_or(0))
}
