//! The crash rule: a process is killed between any two steps of the store, and no item is ever
//! used twice.
//!
//! The test runs itself as a child that fills a store and uses its items; "using" prints the
//! item, as sending would. The child aborts at the `n`-th step; a second child goes on with what
//! is left; then the same with `n + 1`, until a child lives to its end. (An abort does not lose
//! what the kernel has buffered; that `sync` is called before the item is returned is seen from
//! the order of the steps.)

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use copriv_ot::Secret;
use copriv_ot::store::{Step, Store};

const ITEMS: u64 = 4;
const ENV: &str = "COPRIV_STORE_CRASH";

fn main() {
    match std::env::var(ENV) {
        Ok(args) => child(&args),
        Err(_) => parent(),
    }
}

/// `args` is `STEP FOLDER`: where to die, and the store.
fn child(args: &str) {
    let (fatal, folder) = args.split_once(' ').expect("two arguments");
    let fatal: usize = fatal.parse().expect("a number");
    let mut store = Store::open(Path::new(folder), &[1; 32], 0).expect("the store opens");
    static STEPS: AtomicUsize = AtomicUsize::new(0);
    static MARKED: AtomicUsize = AtomicUsize::new(0);
    store.observe(move |step| {
        if step == Step::MarkDurable {
            MARKED.fetch_add(1, Ordering::SeqCst);
        }
        if STEPS.fetch_add(1, Ordering::SeqCst) == fatal {
            std::process::abort();
        }
    });
    let first = store.available().last().map_or(store.next(), |last| last + 1);
    for i in first..ITEMS {
        store.put(i, Secret::new(i.to_le_bytes().repeat(100))).expect("the disk has room");
    }
    let mut used = 0;
    while let Some(i) = { store.available().next() } {
        let bytes = store.take(i).expect("the item is there");
        assert_eq!(**bytes, i.to_le_bytes().repeat(100));
        used += 1;
        // The mark came before the item.
        assert!(MARKED.load(Ordering::SeqCst) >= used);
        println!("used {i}");
        std::io::stdout().flush().expect("a pipe");
    }
    println!("done");
}

fn parent() {
    let mut lost = 0;
    for fatal in 0.. {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let killed = run(fatal, folder.path());
        let survivor = run(usize::MAX, folder.path());
        assert!(survivor.contains(&"done".to_owned()), "step {fatal}");
        let all: Vec<_> = killed.iter().chain(&survivor).filter(|line| *line != "done").collect();
        let different: HashSet<_> = all.iter().collect();
        assert_eq!(all.len(), different.len(), "an item was used twice: step {fatal}, {all:?}");
        // At most the one under way is lost.
        assert!(all.len() as u64 + 1 >= ITEMS, "step {fatal}: {all:?}");
        lost += ITEMS as usize - all.len();
        if killed.contains(&"done".to_owned()) {
            // Five steps a put and five a take.
            assert_eq!(fatal as u64, 10 * ITEMS);
            break;
        }
    }
    assert!(lost > 0, "no crash fell between mark and use");
    println!("store_crash: no item used twice in {} crashes, {lost} lost", 10 * ITEMS);
}

/// The lines that a child printed before it ended.
fn run(fatal: usize, folder: &Path) -> Vec<String> {
    let output = Command::new(std::env::current_exe().expect("our own path"))
        .env(ENV, format!("{fatal} {}", folder.display()))
        .output()
        .expect("the child starts");
    let text = String::from_utf8(output.stdout).expect("plain text");
    text.lines().map(str::to_owned).collect()
}
