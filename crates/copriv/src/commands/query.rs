//! `copriv query`.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use copriv_infer2pc::{Channel, Client, Nursery, Reveal, Terms};
use copriv_model::{Graph, execute};
use copriv_train::data;

use crate::cli;
use crate::commands::serve::{TIMEOUT, waited};
use crate::private::QueryLine;
use crate::progress::Bar;
use crate::report::mb;

/// Inferences that a kept set-up is expected to serve.
const MANY: u32 = 1000;

pub fn run(args: &cli::Query) -> Result<()> {
    // Images first: a client that cannot read them need not bother the server.
    let images = Images::load(args)?;
    let stream = TcpStream::connect_timeout(&args.connect, TIMEOUT)
        .with_context(|| format!("no server answers at {}", args.connect))?;
    let mut channel = Channel::tcp(stream)?;
    channel.set_timeout(Some(TIMEOUT))?;
    let nursery = args.state.as_ref().map(|folder| Nursery::of_client(folder, &args.connect.to_string()));
    // A set-up that is kept is shared out to many sessions.
    let shared_by = nursery.is_some().then_some(MANY);
    let terms = Terms { shared_by, ..args.terms.into() };
    let mut client = Client::connect(channel, terms, images.len() as u32, nursery.as_ref())?;
    if let Some(bytes) = args.memory.memory {
        client.limit_memory(bytes)?;
    }
    let mut lines = args.json.as_deref().map(lines_to).transpose()?;
    let bar =
        (images.len() > 2 && lines.is_none()).then(|| Bar::new("private inferences", images.len() as u64));
    for i in 0..images.len() {
        let input = images.input(i, client.graph())?;
        let material = client.offline()?;
        let output = client.online(material, &input)?;
        if let Some(bar) = &bar {
            bar.advance(1);
        }
        match &mut lines {
            Some(lines) => write_line(lines, &QueryLine::Image { output })?,
            None => say!("{}: {}", images.name(i), describe(client.graph(), terms.reveal, &output)),
        }
    }
    if let Some(bar) = &bar {
        bar.finish();
    }
    let report = client.report();
    let inference = report.total.mean(report.inferences);
    match &mut lines {
        Some(lines) => write_line(lines, &QueryLine::Session(report.clone()))?,
        None => say!(
            "{:.3} MB set-up{}, then {:.3} MB offline and {:.3} MB online an image",
            mb(report.setup),
            if report.reused { " (with what an earlier session kept)" } else { "" },
            mb(inference.offline()),
            mb(inference.online())
        ),
    }
    if let Some(waited) = waited(report.spilled).filter(|_| lines.is_none()) {
        say!("{waited}");
    }
    Ok(())
}

/// The client's images.
enum Images {
    Files(Vec<(PathBuf, image::DynamicImage)>),
    Split(data::Images),
}

impl Images {
    fn load(args: &cli::Query) -> Result<Self> {
        if args.files.is_empty() {
            let dataset = data::load(&args.data.dataset, &args.data.data_dir)?;
            return Ok(Self::Split(dataset.test.sample(args.images as usize)));
        }
        let open = |path: &PathBuf| {
            let image =
                image::open(path).with_context(|| format!("{} is no readable image", path.display()))?;
            Ok((path.clone(), image))
        };
        args.files.iter().map(open).collect::<Result<_>>().map(Self::Files)
    }

    fn len(&self) -> usize {
        match self {
            Self::Files(files) => files.len(),
            Self::Split(images) => images.len(),
        }
    }

    fn name(&self, i: usize) -> String {
        match self {
            Self::Files(files) => files[i].0.display().to_string(),
            Self::Split(images) => format!("image {i} (label {})", images.labels[i]),
        }
    }

    /// Image `i` as the model's input integers.
    fn input(&self, i: usize, graph: &Graph) -> Result<Vec<i64>> {
        let channels = graph.input_type().shape[0];
        Ok(match self {
            Self::Split(images) => graph.quantise_image(&images.interleaved(i)?, images.side, images.side)?,
            Self::Files(files) => {
                let (path, image) = &files[i];
                let (width, height) = (image.width() as usize, image.height() as usize);
                let pixels = match channels {
                    1 => image.to_luma8().into_raw(),
                    3 => image.to_rgb8().into_raw(),
                    n => {
                        ensure!(n == 1, "the model takes {n} channels; an image file gives 1 or 3");
                        Vec::new()
                    }
                };
                graph.quantise_image(&pixels, height, width).with_context(|| path.display().to_string())?
            }
        })
    }
}

fn describe(graph: &Graph, reveal: Reveal, output: &[i64]) -> String {
    let name = |class: usize| graph.classes.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
    match reveal {
        Reveal::Logits => name(execute::argmax(output)),
        Reveal::Class | Reveal::Top5 => {
            output.iter().map(|&v| name(v as usize)).collect::<Vec<_>>().join(", ")
        }
    }
}

fn lines_to(path: &Path) -> Result<Box<dyn Write>> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdout()));
    }
    let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
    Ok(Box::new(file))
}

fn write_line(out: &mut dyn Write, line: &QueryLine) -> Result<()> {
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}
