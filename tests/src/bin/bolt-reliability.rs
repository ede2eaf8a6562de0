//! Runs the reliability programs with any count:
//!
//! ```text
//! cargo run --release -p bolt-tests --bin bolt-reliability -- faults --cycles 3000 --seed 1
//! cargo run --release -p bolt-tests --bin bolt-reliability -- escapes --attempts 200
//! cargo run --release -p bolt-tests --bin bolt-reliability -- soak --executions 30000
//! cargo run --release -p bolt-tests --bin bolt-reliability -- follow
//! cargo run --release -p bolt-tests --bin bolt-reliability -- resume --cycles 1000 --seed 1
//! cargo run --release -p bolt-tests --bin bolt-reliability -- resume --store s3 --cycles 300 --seed 1
//! cargo run --release -p bolt-tests --bin bolt-reliability -- crowd --sockets 6000 --rate 1000 --seconds 20
//! ```
//!
//! Each prints its figures and ends with 1 when a promise was broken.

use std::process::ExitCode;

use bolt_tests::reliability::{crowd, escapes, faults, follow, resume, soak};

const HELP: &str = "\
usage: bolt-reliability faults  [--cycles N] [--seed N] [--workers N]
       bolt-reliability escapes [--attempts N]
       bolt-reliability soak    [--executions N]
       bolt-reliability follow
       bolt-reliability resume  [--store directory|s3] [--cycles N] [--seed N] [--workers N]
       bolt-reliability crowd   [--sockets N] [--addresses N] [--rate N] [--seconds N] [--seed N]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let broken = match arguments.split_first().map(|(program, options)| (program.as_str(), options)) {
        Some(("faults", options)) => {
            let Some([cycles, seed, workers]) = read(options, [("--cycles", 200), ("--seed", 1), ("--workers", 4)])
            else {
                return wrong();
            };
            let figures = faults::run(faults::Plan { cycles, seed, workers });
            println!("faults, seed {seed}: {figures}");
            figures.broken.is_some()
        }
        Some(("escapes", options)) => {
            let Some([attempts]) = read(options, [("--attempts", 200)]) else { return wrong() };
            let figures = escapes::run(attempts);
            println!("escapes: {figures}");
            figures.broken.is_some()
        }
        Some(("resume", options)) => {
            let (store, options) = match options {
                [flag, store, options @ ..] if flag == "--store" => match store.as_str() {
                    "directory" => (resume::Store::Directory, options),
                    "s3" => (resume::Store::Bucket, options),
                    _ => return wrong(),
                },
                options => (resume::Store::Directory, options),
            };
            let Some([cycles, seed, workers]) = read(options, [("--cycles", 100), ("--seed", 1), ("--workers", 2)])
            else {
                return wrong();
            };
            let figures = resume::run(resume::Plan { cycles, seed, workers, store });
            let place = if store == resume::Store::Bucket { ", record in a bucket" } else { "" };
            println!("resume{place}, seed {seed}: {figures}");
            figures.broken.is_some()
        }
        Some(("soak", options)) => {
            let Some([executions]) = read(options, [("--executions", 30_000)]) else { return wrong() };
            let figures = soak::run(executions);
            println!("soak: {figures}");
            figures.grown().is_some()
        }
        Some(("follow", [])) => {
            for row in follow::run(&[(1, 0), (10, 0), (50, 0), (50, 10)]) {
                println!("follow: {row}");
            }
            false
        }
        Some(("crowd", options)) => {
            let defaults =
                [("--sockets", 6000), ("--addresses", 6000), ("--rate", 1000), ("--seconds", 20), ("--seed", 1)];
            let Some([sockets, addresses, rate, seconds, seed]) = read(options, defaults) else { return wrong() };
            let figures = crowd::run(crowd::Plan { sockets, addresses, rate, millis: seconds * 1000, seed });
            println!("crowd, seed {seed}: {figures}");
            figures.broken().is_some()
        }
        _ => return wrong(),
    };
    ExitCode::from(u8::from(broken))
}

/// The numbers behind the options, or their defaults; `None` for anything else.
fn read<const N: usize>(mut words: &[String], options: [(&str, u64); N]) -> Option<[u64; N]> {
    let mut values = options.map(|(_, default)| default);
    while let [option, value, rest @ ..] = words {
        let at = options.iter().position(|(name, _)| name == option)?;
        values[at] = value.parse().ok()?;
        words = rest;
    }
    words.is_empty().then_some(values)
}

fn wrong() -> ExitCode {
    eprintln!("{HELP}");
    ExitCode::from(2)
}
