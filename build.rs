//! Builds the follower: a freestanding program that the library carries in its own image (see `src/shim/follower/main.rs`).
//! It is compiled by the same compiler for the same target, without the standard library and without start-up files, so no
//! other target has to be installed.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

const FLAGS: [&str; 19] = [
    "--crate-type=bin",
    "--crate-name=follower",
    "--edition=2024",
    "-Copt-level=s",
    "-Cpanic=abort",
    "-Ccodegen-units=1",
    "-Crelocation-model=static",
    "-Ctarget-feature=+crt-static",
    "-Cstrip=symbols",
    "-Cdebuginfo=0",
    "-Coverflow-checks=off",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-no-pie",
    "-Clink-arg=-Wl,--gc-sections,--build-id=none",
    // One page less each for headers, read-only data and relocations: the follower is smaller than a page of padding.
    "-Clink-arg=-Wl,-z,noseparate-code,-z,norelro,-z,max-page-size=4096",
    // Named by the tables of the core library for unwinding, which a program that aborts never does.
    "-Clink-arg=-Wl,--defsym=rust_eh_personality=0",
    // What only the library uses of the files that both share.
    "-Adead_code",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=src/shim/follower");
    for file in ["logs/entry", "logs/lines", "shim/supervise"] {
        println!("cargo::rerun-if-changed=src/{file}.rs");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?).join("follower");
    let status = Command::new(env::var("RUSTC")?)
        .args(FLAGS)
        .args(["--target", &env::var("TARGET")?, "-o"])
        .arg(&out)
        .arg("src/shim/follower/main.rs")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .status()?;
    if !status.success() {
        return Err(format!("the follower did not build: {status}").into());
    }
    println!("cargo::rustc-env=LONGSHORE_FOLLOWER={}", fs::canonicalize(&out)?.display());
    Ok(())
}
