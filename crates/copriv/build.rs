//! A program with a GPU's kernels holds thousands of functions of the same code. Where Rust links with its own
//! LLD (by default on this target), those are folded into one: some 3 MB.

use std::env;
use std::path::Path;
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let gpu = ["WGPU", "VULKAN", "CUDA"].iter().any(|f| env::var_os(format!("CARGO_FEATURE_{f}")).is_some());
    if gpu && env::var("TARGET").is_ok_and(|t| t == TARGET) && links_with_lld() {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}

/// Whether this toolchain brings LLD: distributions may build theirs without.
fn links_with_lld() -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let Ok(found) = Command::new(rustc).args(["--print", "sysroot"]).output() else { return false };
    let sysroot = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    Path::new(&sysroot).join("lib/rustlib").join(TARGET).join("bin/gcc-ld/ld.lld").exists()
}
