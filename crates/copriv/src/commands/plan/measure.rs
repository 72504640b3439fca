//! Runs what was planned: two parties in this process, over loopback TCP, random weights and inputs.

use std::net::{TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use copriv_infer2pc::session::predict_setup;
use copriv_infer2pc::{Channel, Client, Report, Server, Terms};
use copriv_model::kernel::Geometry;
use copriv_model::{Bias, Graph, LayerWeights, Model, Weights, execute};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::cli::MemoryArgs;

/// Random weights of a graph's widths, without biases: what a protocol sends does not depend on them.
pub fn random_model(graph: Graph, seed: u64) -> Result<Model> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut weights = Weights::default();
    for node in &graph.nodes {
        let input = node.inputs.first().map(|&i| &graph.nodes[i].output);
        let (Some(linear), Some(input)) = (node.op.linear(), input) else { continue };
        let geometry = Geometry::of(node, input).context("a linear layer without a shape")?;
        let weight = (0..geometry.weights()).map(|_| rng.random_range(linear.weight_range())).collect();
        let bias = Bias { vectors: vec![vec![0; geometry.filters]], map: vec![] };
        weights.insert(&node.name, LayerWeights { weight, bias });
    }
    Ok(Model::new(graph, weights)?)
}

/// Runs `inferences` and compares every output with the executor, and every byte and round with the
/// plan; each party may hold `memory`. Gives what the client measured.
///
/// # Errors
/// A party failed, or something differs.
pub fn measure(model: &Model, terms: Terms, inferences: u32, memory: MemoryArgs) -> Result<Report> {
    let mut rng = StdRng::seed_from_u64(1);
    let input = model.graph.input_type();
    let (min, max) = (input.min() as i64, input.max() as i64);
    if let Some(bytes) = memory.memory {
        copriv_infer2pc::memory::check(bytes, &terms.plan(&model.graph, inferences)?)?;
    }
    let (server, client) = loopback()?;
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut server = Server::accept(server, model, None)?;
            memory.memory.map_or(Ok(()), |bytes| server.limit_memory(bytes))?;
            server.run()
        });
        let mut client = Client::connect(client, terms, inferences, None)?;
        memory.memory.map_or(Ok(()), |bytes| client.limit_memory(bytes))?;
        for i in 0..inferences {
            let x: Vec<i64> = (0..input.len()).map(|_| rng.random_range(min..=max)).collect();
            let material = client.offline()?;
            let output = client.online(material, &x)?;
            let expected = execute::run(model, &x)?;
            ensure!(output == expected.output(), "output {i} differs from the executor's");
        }
        let report = client.report().clone();
        let planned = client.plan().predict_session(u64::from(inferences));
        ensure!(report.total == planned, "the bytes or rounds of a layer differ from the plan's");
        let setup = predict_setup(&model.graph, client.plan(), false)?;
        ensure!(report.setup == setup, "the set-up differs from the plan's");
        drop(client);
        server.join().map_err(|_| anyhow::anyhow!("the server's thread panicked"))??;
        Ok(report)
    })
}

fn loopback() -> Result<(Channel, Channel)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    Ok((Channel::tcp(server)?, Channel::tcp(client)?))
}
