//! `copriv devices`.

use anyhow::Result;
use copriv_train::Processor;

/// Lists every kind of device, and whether a computation on it succeeds.
pub fn run() -> Result<()> {
    for processor in Processor::ALL {
        match processor.open() {
            Ok(_) => say!("{:<8} works", processor.name()),
            Err(error) => say!("{:<8} {error}", processor.name()),
        }
    }
    Ok(())
}
