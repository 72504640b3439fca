//! Ctrl-C: the first one asks a run to keep its state and stop, a second one ends the program.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Exit status of a program that a signal ended, as shells give it.
const STATUS: i32 = 130;

/// From now on Ctrl-C is a request.
pub fn watch() {
    // A second call finds the handler in place, and that is all it could want.
    let _ = ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::Relaxed) {
            process::exit(STATUS);
        }
        eprintln!("stopping after this step; once more ends at once");
    });
}

/// Whether someone asked to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
