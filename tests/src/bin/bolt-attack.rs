//! Runs the attacks with any count; `BOLT_TEST_ATTACK` is the directory of the tools:
//!
//! ```text
//! cargo run --release -p bolt-tests --bin bolt-attack -- schemathesis --cases 100000 --seed 1
//! cargo run --release -p bolt-tests --bin bolt-attack -- slow --connections 1000 --rate 200 --seconds 5
//! cargo run --release -p bolt-tests --bin bolt-attack -- tls
//! ```
//!
//! Each prints its figures and ends with 1 when an expectation was not met.

use std::process::ExitCode;

use bolt_tests::attack::{Tools, schemathesis, slow, tls};

const HELP: &str = "\
usage: bolt-attack schemathesis [--cases N] [--seed N] [--workers N]
       bolt-attack slow         [--connections N] [--rate N] [--seconds N]
       bolt-attack tls";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(tools) = Tools::find() else {
        eprintln!("BOLT_TEST_ATTACK names no directory with schemathesis, sslyze and slowhttptest; .ci/run makes one");
        return ExitCode::from(2);
    };
    let broken = match arguments.split_first().map(|(program, options)| (program.as_str(), options)) {
        Some(("schemathesis", options)) => {
            let Some([cases, seed, workers]) = read(options, [("--cases", 1000), ("--seed", 1), ("--workers", 2)])
            else {
                return wrong();
            };
            let figures = schemathesis::run(&tools, schemathesis::Plan { cases, seed, workers });
            println!("schemathesis, seed {seed}: {figures}");
            !figures.unexplained.is_empty()
        }
        Some(("slow", options)) => {
            let Some([connections, rate, seconds]) =
                read(options, [("--connections", 1000), ("--rate", 200), ("--seconds", 5)])
            else {
                return wrong();
            };
            let figures = slow::run(&tools, slow::Plan { connections, rate, millis: seconds * 1000 });
            println!("slowhttptest: {figures}");
            figures.broken().is_some()
        }
        Some(("tls", [])) => {
            let figures = tls::run(&tools);
            println!("sslyze:\n{figures}");
            figures.broken().is_some()
        }
        _ => return wrong(),
    };
    ExitCode::from(u8::from(broken))
}

/// Returns the numbers behind the options, or their defaults; `None` for anything else.
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
