//! Private evaluation by two processes: a server that holds the weights and a client that
//! holds the images, over loopback TCP. The caller, who has both, compares with the executor.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use copriv_infer2pc::session::predict_setup;
use copriv_infer2pc::{Report, Reveal, Terms};
use copriv_model::{Model, execute, file};
use copriv_plan::Choice;
use copriv_train::data::Images;
use serde::{Deserialize, Serialize};

use crate::cli::{MemoryArgs, TermsArgs, TileWidths};
use crate::progress::Bar;

/// What `copriv query --json -` prints: a line an image, then one for the session.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum QueryLine {
    /// One result.
    Image {
        /// Logits, or one class index.
        output: Vec<i64>,
    },
    /// Traffic and time of the session.
    Session(Report),
}

/// What a private evaluation found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evaluation {
    /// Images evaluated.
    pub images: usize,
    /// Percent classified correctly by the private evaluation.
    pub accuracy: f64,
    /// Percent classified correctly by the plaintext integer executor, on the same images.
    pub integer_accuracy: f64,
    /// Images whose private output is not bit for bit the executor's.
    pub mismatched: usize,
    /// Whether bytes and rounds, layer by layer, equal the plan's.
    pub as_planned: bool,
    /// Which protocols ran, and what made the random OTs.
    pub choice: Choice,
    /// Measured traffic and time.
    pub report: Report,
}

/// Where the images of a client process come from.
pub struct Source<'a> {
    /// Data set name.
    pub dataset: &'a str,
    /// Folder of the data sets that are not embedded.
    pub data_dir: &'a Path,
}

/// What is asked of both processes.
#[derive(Clone, Copy, Default)]
pub struct Settings {
    /// Widths of Winograd's tile positions.
    pub tile_widths: TileWidths,
    /// What the client asks for.
    pub terms: TermsArgs,
    /// What either may hold.
    pub memory: MemoryArgs,
}

/// Evaluates the first `images` of an even sample of the test split.
pub fn evaluate(
    folder: &Path,
    settings: Settings,
    source: &Source,
    images: &Images,
    label: &str,
) -> Result<Evaluation> {
    let model = settings.tile_widths.apply(file::load(folder)?)?;
    // Images that do not fit are said here, before two processes fail over them.
    model.graph.quantise_image(&images.interleaved(0)?, images.side, images.side)?;
    let server = ServerProcess::start(folder, settings)?;
    let mut client = query(&server.address, source, images.len(), settings)?;
    let bar = Bar::new(label, images.len() as u64);
    let mut outputs = Vec::new();
    let mut report = None;
    let stdout = client.0.stdout.take().context("the client process has no output")?;
    for line in BufReader::new(stdout).lines() {
        match serde_json::from_str(&line?)
            .context("the client process printed something else than a result")?
        {
            QueryLine::Image { output } => {
                outputs.push(output);
                bar.advance(1);
            }
            QueryLine::Session(session) => report = Some(session),
        }
    }
    bar.finish();
    ensure!(client.0.wait()?.success(), "the client process failed");
    server.finish()?;
    let report = report.context("the client process ended early")?;
    ensure!(outputs.len() == images.len(), "{} results for {} images", outputs.len(), images.len());
    compare(&model, images, settings.terms.into(), &outputs, report)
}

fn compare(
    model: &Model,
    images: &Images,
    terms: Terms,
    outputs: &[Vec<i64>],
    report: Report,
) -> Result<Evaluation> {
    let plan = terms.plan(&model.graph, outputs.len() as u32)?;
    let (mut correct, mut integer_correct, mut mismatched) = (0, 0, 0);
    for (i, output) in outputs.iter().enumerate() {
        let input = model.graph.quantise_image(&images.interleaved(i)?, images.side, images.side)?;
        let trace = execute::run(model, &input)?;
        let class = execute::argmax(trace.output());
        let (expected, predicted) = match terms.reveal {
            Reveal::Logits => (trace.output().to_vec(), execute::argmax(output)),
            Reveal::Class => (vec![class as i64], output.first().map_or(0, |&v| v as usize)),
            Reveal::Top5 => {
                let best = execute::top_k(trace.output(), 5);
                (best.into_iter().map(|i| i as i64).collect(), output.first().map_or(0, |&v| v as usize))
            }
        };
        let label = usize::from(images.labels[i]);
        mismatched += usize::from(*output != expected);
        correct += usize::from(predicted == label);
        integer_correct += usize::from(class == label);
    }
    let percent = |n: usize| 100.0 * n as f64 / outputs.len().max(1) as f64;
    Ok(Evaluation {
        images: outputs.len(),
        accuracy: percent(correct),
        integer_accuracy: percent(integer_correct),
        mismatched,
        choice: plan.choice,
        as_planned: report.total == plan.predict_session(outputs.len() as u64)
            && report.setup == predict_setup(&model.graph, &plan, report.reused)?,
        report,
    })
}

impl Evaluation {
    /// Fails unless every output equals the executor's and every byte the plan's.
    pub fn verify(&self) -> Result<()> {
        if self.mismatched > 0 {
            bail!(
                "{} of {} private outputs differ from the integer executor's",
                self.mismatched,
                self.images
            );
        }
        ensure!(self.as_planned, "the measured bytes differ from the planned ones; see the JSON report");
        Ok(())
    }
}

/// A process that is ended when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone after a regular end; nobody else to tell.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `copriv serve FOLDER --once` on a free port.
struct ServerProcess {
    process: Process,
    address: String,
}

impl ServerProcess {
    fn start(folder: &Path, settings: Settings) -> Result<Self> {
        let mut child = this_program()?
            .arg("serve")
            .arg(folder)
            .args(["--listen", "127.0.0.1:0", "--once", "--tile-widths", &settings.tile_widths.name()])
            .args(settings.memory.to_args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the server process cannot be started")?;
        let stdout = child.stdout.take();
        let process = Process(child);
        let mut line = String::new();
        BufReader::new(stdout.context("the server process has no output")?).read_line(&mut line)?;
        let Some(address) = line.trim().strip_prefix("listening on ") else {
            bail!("the server process did not start");
        };
        Ok(Self { address: address.to_owned(), process })
    }

    fn finish(mut self) -> Result<()> {
        ensure!(self.process.0.wait()?.success(), "the server process failed");
        Ok(())
    }
}

fn query(address: &str, source: &Source, images: usize, settings: Settings) -> Result<Process> {
    let child = this_program()?
        .args(["query", "--connect", address, "--dataset", source.dataset, "--data-dir"])
        .arg(source.data_dir)
        .args(["--images", &images.to_string(), "--json", "-"])
        .args(settings.terms.to_args())
        .args(settings.memory.to_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("the client process cannot be started")?;
    Ok(Process(child))
}

fn this_program() -> Result<Command> {
    Ok(Command::new(std::env::current_exe().context("the path of this program is unknown")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_in_any_output_or_byte_is_a_failure() {
        let evaluation = |mismatched, as_planned| Evaluation {
            images: 20,
            accuracy: 90.0,
            integer_accuracy: 90.0,
            mismatched,
            as_planned,
            choice: Choice::default(),
            report: Report::default(),
        };
        assert!(evaluation(0, true).verify().is_ok());
        assert!(evaluation(1, true).verify().unwrap_err().to_string().contains("1 of 20"));
        assert!(evaluation(0, false).verify().is_err());
    }

    #[test]
    fn outputs_are_compared_bit_for_bit() {
        use copriv_model::{GraphBuilder, TensorType, Weights};
        let mut b = GraphBuilder::new("identity", TensorType::unsigned([1, 2, 2], 8, -8));
        let x = b.input();
        let y = b.relu("relu", x).unwrap();
        let y = b.flatten("flatten", y).unwrap();
        let mut graph = b.finish(y).unwrap();
        // A pixel is its own integer.
        graph.preprocess.std = vec![256.0 / 255.0];
        let model = Model::new(graph, Weights::default()).unwrap();
        let images = Images { channels: 1, side: 2, pixels: vec![1, 9, 3, 4].into(), labels: vec![1] };
        let terms = Terms { flavour: Some(copriv_plan::Flavour::Iknp), ..Terms::default() };
        let compared =
            |output: &[i64]| compare(&model, &images, terms, &[output.to_vec()], Report::default()).unwrap();
        let right = compared(&[1, 9, 3, 4]);
        assert_eq!((right.mismatched, right.accuracy, right.integer_accuracy), (0, 100.0, 100.0));
        // The same class from other logits is still a difference.
        assert_eq!(compared(&[1, 9, 3, 5]).mismatched, 1);
        assert!(!right.as_planned, "an empty report is not what was planned");
    }
}
