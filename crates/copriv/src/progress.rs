//! Progress on the terminal: bars where a person watches, plain lines elsewhere.

use std::time::Duration;

use copriv_train::TrainError;
use copriv_train::fit::{Metrics, Progress};
use indicatif::{ProgressBar, ProgressStyle};

/// A bar for a known number of units.
pub struct Bar(ProgressBar);

impl Bar {
    /// Starts at zero.
    pub fn new(label: &str, total: u64) -> Self {
        let bar = ProgressBar::new(total).with_message(label.to_owned());
        let style =
            ProgressStyle::with_template("{msg:<34} {wide_bar:.cyan/blue} {pos:>6}/{len:<6} {eta:>4}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(500));
        if bar.is_hidden() {
            eprintln!("{label} ...");
        }
        Self(bar)
    }

    /// So many units more.
    pub fn advance(&self, units: u64) {
        self.0.inc(units);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }

    /// Prints a line above the bar.
    pub fn line(&self, text: &str) {
        self.0.suspend(|| eprintln!("{text}"));
    }
}

/// Shows the progress of training.
#[derive(Default)]
pub struct Terminal {
    bar: Option<Bar>,
}

impl Progress for Terminal {
    fn start(&mut self, label: &str, total: u64) {
        self.bar = Some(Bar::new(label, total));
    }

    fn advance(&mut self, units: u64) {
        if let Some(bar) = &self.bar {
            bar.advance(units);
        }
    }

    fn metrics(&mut self, row: &Metrics) -> Result<(), TrainError> {
        let text = format!(
            "{:>9} {:>3}   loss {:.3}   training {:>5.1} %   validation {:>5.1} %   {:.1} s",
            row.stage, row.epoch, row.loss, row.train_accuracy, row.accuracy, row.seconds
        );
        match &self.bar {
            Some(bar) => bar.line(&text),
            None => eprintln!("{text}"),
        }
        Ok(())
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish();
        }
    }
}
