//! The fleet simulator, and the measuring ends of the benchmark `fan_out`:
//!
//! ```text
//! cargo run -p bolt-tests --bin bolt-fleet-sim -- serve --directory /tmp/fleet --instances 1000 --faulty 30 --seed 7
//! bolt --config /tmp/fleet/client.toml run sim.report --everywhere --at-once
//! ```
//!
//! `serve` writes certificates, `client.toml` and an inventory into the directory, and prints `ready`. It then answers each
//! line of standard input with the sums of its ledger as JSON, and ends with standard input. `handshakes` only connects to
//! every instance, as the floor of a run. `measure` runs a command and writes its cost to a file. `bench` is the benchmark
//! `fan_out` with the programs that are built.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bolt_tests::fleet::{Fleet, Latency, Setup, cost, handshakes};

const HELP: &str = "\
usage: bolt-fleet-sim serve      --directory DIR [--instances N] [--faulty PERCENT] [--patient true]
                                 [--distinct true]
                                 [--seed N] [--median-ms N] [--tail-percent N] [--tail-ms N]
       bolt-fleet-sim handshakes --directory DIR [--parallel N]
       bolt-fleet-sim measure    FILE COMMAND [ARGUMENT ...]
       bolt-fleet-sim bench      [SIZE ... | agents [N]]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.split_first() {
        Some((&"serve", options)) => serve(options),
        Some((&"handshakes", ["--directory", directory, options @ ..])) => connect(Path::new(directory), options),
        Some((&"measure", [file, command @ ..])) if !command.is_empty() => {
            Some(cost::measure(Path::new(file), command))
        }
        Some((&"bench", _)) => bolt_tests::fan_out::run(&arguments[1..]).then_some(ExitCode::SUCCESS),
        _ => None,
    };
    done.unwrap_or_else(|| {
        eprintln!("{HELP}");
        ExitCode::from(2)
    })
}

fn serve(mut options: &[&str]) -> Option<ExitCode> {
    let (mut setup, mut directory) = (Setup::healthy(100), None);
    let mut latency = Latency { median_ms: 5, tail_percent: 0, tail_ms: 0 };
    while let [option, value, rest @ ..] = options {
        match *option {
            "--directory" => directory = Some(PathBuf::from(value)),
            "--instances" => setup.instances = value.parse().ok()?,
            "--faulty" => setup.faulty_percent = value.parse().ok().filter(|percent| *percent <= 100)?,
            "--patient" => setup.patient = value.parse().ok()?,
            "--distinct" => setup.distinct = value.parse().ok()?,
            "--seed" => setup.seed = value.parse().ok()?,
            "--median-ms" => latency.median_ms = value.parse().ok()?,
            "--tail-percent" => latency.tail_percent = value.parse().ok()?,
            "--tail-ms" => latency.tail_ms = value.parse().ok()?,
            _ => return None,
        }
        options = rest;
    }
    let directory = directory.filter(|_| options.is_empty())?;
    if let Err(error) = std::fs::create_dir_all(&directory) {
        eprintln!("bolt-fleet-sim: cannot make {}: {error}", directory.display());
        return Some(ExitCode::FAILURE);
    }
    let fleet = Fleet::start(Setup { latency, ..setup }, &directory);
    fleet.make_certificates();
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        if line.is_err() {
            break;
        }
        println!("{}", serde_json::json!(fleet.ledger().totals()));
    }
    Some(ExitCode::SUCCESS)
}

fn connect(directory: &Path, options: &[&str]) -> Option<ExitCode> {
    let parallel = match options {
        [] => 64,
        ["--parallel", parallel] => parallel.parse().ok()?,
        _ => return None,
    };
    let failed = handshakes::connect_to_all(directory, parallel);
    if failed > 0 {
        eprintln!("bolt-fleet-sim: {failed} handshakes failed");
    }
    Some(ExitCode::from(u8::from(failed > 0)))
}
