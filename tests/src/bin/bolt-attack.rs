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
            let read = read(options, [("--cases", 1000), ("--seed", 1), ("--workers", 2)]);
            let [cases, seed, workers] = match read {
                Ok(numbers) => numbers,
                Err(message) => return wrong(&message),
            };
            let figures = schemathesis::run(&tools, schemathesis::Plan { cases, seed, workers });
            println!("schemathesis, seed {seed}: {figures}");
            !figures.unexplained.is_empty()
        }
        Some(("slow", options)) => {
            let read = read(options, [("--connections", 1000), ("--rate", 200), ("--seconds", 5)]);
            let [connections, rate, seconds] = match read {
                Ok(numbers) => numbers,
                Err(message) => return wrong(&message),
            };
            let figures = slow::run(&tools, slow::Plan { connections, rate, millis: seconds.saturating_mul(1000) });
            println!("slowhttptest: {figures}");
            figures.broken().is_some()
        }
        Some(("tls", [])) => {
            let figures = tls::run(&tools);
            println!("sslyze:\n{figures}");
            figures.broken().is_some()
        }
        _ => return wrong("name one of the attacks"),
    };
    ExitCode::from(u8::from(broken))
}

/// Returns the numbers behind the options, or their defaults. None may be 0, with which nothing would be tried.
fn read<const N: usize>(mut words: &[String], options: [(&str, u64); N]) -> Result<[u64; N], String> {
    let mut values = options.map(|(_, default)| default);
    while let [option, rest @ ..] = words {
        let at = options.iter().position(|(name, _)| name == option).ok_or(format!("unknown option {option}"))?;
        let (value, rest) = rest.split_first().ok_or(format!("{option} needs a number"))?;
        let number = value.parse().ok().filter(|number| *number > 0);
        values[at] = number.ok_or(format!("{option} {value}: not a number from 1 on"))?;
        words = rest;
    }
    Ok(values)
}

fn wrong(message: &str) -> ExitCode {
    eprintln!("bolt-attack: {message}\n{HELP}");
    ExitCode::from(2)
}
