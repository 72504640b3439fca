//! Progress on the terminal: bars where a person watches, plain lines elsewhere.

use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use copriv_train::TrainError;
use copriv_train::fit::{Advance, Metrics, Progress, StageView};
use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};

use crate::interrupt;

/// A bar for a known number of units.
pub struct Bar(ProgressBar);

impl Bar {
    /// Starts at zero.
    pub fn new(label: &str, total: u64) -> Self {
        let bar = Self::styled(
            total,
            "{msg:<34} {wide_bar:.cyan/blue} {pos:>6}/{len:<6} {eta:>4}",
            label.to_owned(),
        );
        if bar.0.is_hidden() {
            eprintln!("{label} ...");
        }
        bar
    }

    fn styled(total: u64, template: &str, message: String) -> Self {
        let bar = ProgressBar::new(total).with_message(message);
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
        bar.enable_steady_tick(Duration::from_millis(500));
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

/// Shows the progress of training: a bar an epoch with the running loss, accuracy, images a second
/// and the time left of the stage, the course of the stage below it, and a line for each epoch
/// that is over.
#[derive(Default)]
pub struct Terminal {
    stage: Option<Stage>,
}

/// The stage that runs.
struct Stage {
    bar: Bar,
    epochs: usize,
    /// Steps an epoch.
    steps: usize,
    /// Steps that are over, here and before an interruption.
    done: usize,
    /// Steps and images since it began here.
    here: (usize, usize),
    began: Instant,
    /// Averaged over the last steps.
    loss: Option<f64>,
    /// Loss and validation accuracy of each epoch.
    course: [Vec<f64>; 2],
    /// How they went, for the bar.
    drawn: Arc<Mutex<String>>,
}

/// Weight of the last loss in the average that is shown.
const FRESHNESS: f64 = 0.05;

impl Stage {
    fn new(view: &StageView<'_>) -> Self {
        let template = "{prefix:<22} {wide_bar:.cyan/blue} {percent:>3} %  {msg}\n{course:.dim}";
        let bar = Bar::styled(view.steps as u64, template, String::new());
        let drawn = Arc::<Mutex<String>>::default();
        let shown = Arc::clone(&drawn);
        let course = move |_: &ProgressState, out: &mut dyn Write| {
            let _ = out.write_str(&shown.lock().unwrap_or_else(|e| e.into_inner()));
        };
        bar.0.set_style(bar.0.style().with_key("course", course));
        if bar.0.is_hidden() {
            let from = if view.done > 0 {
                format!(", from epoch {}", view.done / view.steps.max(1) + 1)
            } else {
                String::new()
            };
            eprintln!("{}: {} epochs of {} steps{from}", view.label, view.epochs, view.steps);
        }
        let stage = Self {
            bar,
            epochs: view.epochs,
            steps: view.steps,
            done: view.done,
            here: (0, 0),
            began: Instant::now(),
            loss: None,
            course: Default::default(),
            drawn,
        };
        stage.bar.0.set_position((view.done % view.steps.max(1)) as u64);
        stage.show_epoch(view.label, view.done / view.steps.max(1));
        stage
    }

    fn show_epoch(&self, label: &str, epoch: usize) {
        self.bar.0.set_prefix(format!("{label} {:>3}/{}", (epoch + 1).min(self.epochs), self.epochs));
    }

    /// Images a second since the stage began here, validation included.
    fn speed(&self) -> f64 {
        self.here.1 as f64 / self.began.elapsed().as_secs_f64().max(1e-9)
    }

    /// Time that the rest of the stage takes at the pace so far.
    fn left(&self) -> Duration {
        let rest = (self.epochs * self.steps).saturating_sub(self.done) as f64;
        let pace = self.began.elapsed().as_secs_f64() / self.here.0.max(1) as f64;
        Duration::try_from_secs_f64(rest * pace).unwrap_or_default()
    }
}

/// The last values between their extremes, by eighths of a line.
fn sparkline(values: &[f64]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const WIDTH: usize = 32;
    let values = &values[values.len().saturating_sub(WIDTH)..];
    let (low, high) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    let level = |v: &f64| if high > low { ((v - low) / (high - low) * 7.0).round() as usize } else { 0 };
    values.iter().map(|v| LEVELS[level(v).min(7)]).collect()
}

impl Progress for Terminal {
    fn start(&mut self, view: &StageView<'_>) {
        self.stage = Some(Stage::new(view));
    }

    fn advance(&mut self, step: &Advance) {
        let Some(stage) = &mut self.stage else { return };
        stage.done += 1;
        stage.here = (stage.here.0 + 1, stage.here.1 + step.images);
        let loss = stage.loss.map_or(step.loss, |old| old + FRESHNESS * (step.loss - old));
        stage.loss = Some(loss);
        let bar = &stage.bar.0;
        bar.set_position(((stage.done - 1) % stage.steps.max(1) + 1) as u64);
        bar.set_message(format!(
            "loss {loss:.3}  {:>5.1} %  {:>5.0} images/s  {} left",
            100.0 * step.right as f64 / step.seen.max(1) as f64,
            stage.speed(),
            HumanDuration(stage.left()),
        ));
    }

    fn interrupted(&self) -> bool {
        interrupt::asked()
    }

    fn metrics(&mut self, row: &Metrics) -> Result<(), TrainError> {
        let text = format!(
            "{:>9} {:>3}   loss {:.3}   training {:>5.1} %   validation {:>5.1} %   {:.1} s",
            row.stage, row.epoch, row.loss, row.train_accuracy, row.accuracy, row.seconds
        );
        match &mut self.stage {
            Some(stage) => {
                stage.course[0].push(row.loss);
                stage.course[1].push(row.accuracy);
                let [loss, accuracy] = [0, 1].map(|i| sparkline(&stage.course[i]));
                *stage.drawn.lock().unwrap_or_else(|e| e.into_inner()) =
                    format!("  loss {loss}   validation {accuracy}");
                if stage.bar.0.is_hidden() && row.epoch < stage.epochs {
                    let left = HumanDuration(stage.left());
                    eprintln!("{text}   {:.0} images/s   {left} left", stage.speed());
                } else {
                    stage.bar.line(&text);
                }
                stage.show_epoch(&row.stage, row.epoch);
            }
            None => eprintln!("{text}"),
        }
        Ok(())
    }

    fn finish(&mut self) {
        if let Some(stage) = self.stage.take() {
            stage.bar.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sparkline;

    #[test]
    fn a_sparkline_spans_the_last_values() {
        assert_eq!(sparkline(&[]), "");
        assert_eq!(sparkline(&[3.0, 3.0]), "▁▁");
        assert_eq!(sparkline(&[8.0, 1.0, 4.5, 2.0]), "█▁▅▂");
        let rising: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(sparkline(&rising).chars().count(), 32);
    }
}
