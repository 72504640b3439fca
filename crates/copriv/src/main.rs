//! The `copriv` command. `copriv --help` lists what it does.

/// Prints a line to standard output; a closed pipe is an error like any other.
macro_rules! say {
    ($($text:tt)*) => {
        std::io::Write::write_fmt(&mut std::io::stdout().lock(), format_args!("{}\n", format_args!($($text)*)))?
    };
}

mod cli;
mod commands;
mod interrupt;
mod pricing;
mod private;
mod progress;
mod report;

use std::process::ExitCode;

use clap::Parser;

/// Exit status of a run that stopped on request and can go on.
const UNFINISHED: u8 = 3;

fn main() -> ExitCode {
    match commands::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<commands::Unfinished>() => {
            eprintln!("{error}");
            ExitCode::from(UNFINISHED)
        }
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The chain of causes on one line, without repeating what an outer message already says.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if !line.contains(&text) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&text);
        }
    }
    line.replace('\n', " ")
}
