//! Boots a machine in QEMU and tries the packages, the limits and power cuts on it, or two and a rollout over them:
//!
//! ```text
//! tests/machine/image /var/tmp/bolt-machine
//! export BOLT_TEST_MACHINE=/var/tmp/bolt-machine
//! cargo run --release -p bolt-tests --bin bolt-machine -- life
//! cargo run --release -p bolt-tests --bin bolt-machine -- services
//! cargo run --release -p bolt-tests --bin bolt-machine -- rollout
//! cargo run --release -p bolt-tests --bin bolt-machine -- way-back
//! cargo run --release -p bolt-tests --bin bolt-machine -- power --cuts 200 --seed 1
//! cargo run --release -p bolt-tests --bin bolt-machine -- states --count 50 --seed 1
//! ```
//!
//! Each prints its figures and ends with 1 when a promise was broken. `forward` connects the guest with a port of this host.

use std::path::PathBuf;
use std::process::ExitCode;

use bolt_tests::machine::{self, MachineSite};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["forward", port] => match port.parse() {
            Ok(port) => machine::forward(port).map(|()| true).map_err(|e| e.to_string()),
            Err(_) => return wrong(),
        },
        ["life"] => create_site().and_then(|(image, site)| machine::life(&image, &site)).map(|_| true),
        ["services"] => create_site().and_then(|(image, site)| machine::services(&image, &site)).map(|_| true),
        ["rollout"] => machine::image().and_then(|image| machine::rollout(&image)).map(|_| true),
        ["way-back"] => machine::image().and_then(|image| machine::way_back(&image)).map(|_| true),
        ["power", "--cuts", cuts, "--seed", seed] => {
            let (Ok(cuts), Ok(seed)) = (cuts.parse(), seed.parse()) else { return wrong() };
            let run = |(image, site): (PathBuf, _)| machine::power(&image, &site, machine::Plan { cuts, seed });
            create_site().and_then(run).map(|figures| {
                println!("power, seed {seed}: {figures}");
                figures.violations.is_empty()
            })
        }
        ["states", "--count", count, "--seed", seed] => {
            let (Ok(count), Ok(seed)) = (count.parse(), seed.parse()) else { return wrong() };
            machine::image().and_then(|image| machine::states(&image, count, seed)).map(|figures| {
                println!("states, seed {seed}: {figures}");
                figures.violations.is_empty()
            })
        }
        _ => return wrong(),
    };
    match result {
        Ok(kept) => ExitCode::from(u8::from(!kept)),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(1)
        }
    }
}

/// Returns the image, and a site whose packages are built.
fn create_site() -> Result<(PathBuf, MachineSite), String> {
    Ok((machine::image()?, MachineSite::create()?))
}

fn wrong() -> ExitCode {
    eprintln!(
        "usage: bolt-machine life\n       bolt-machine services\n       bolt-machine rollout\n       bolt-machine way-back\n       bolt-machine power --cuts N --seed N\n       bolt-machine states --count N --seed N\n       bolt-machine forward PORT"
    );
    ExitCode::from(2)
}
