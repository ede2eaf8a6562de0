//! The engine around one target. Arguments are libFuzzer's; variables say the rest:
//!
//! - `FUZZ_TARGET`: name of the target; without it, all are listed with their maximum lengths.
//! - `FUZZ_SEEDS`: directory to which the seeds of the target are written, and nothing else is done.

#![no_main]

use std::path::Path;
use std::sync::OnceLock;
use std::{env, fs, process};

use bolt_fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fuzz_target!(
    init: {
        let Ok(name) = env::var("FUZZ_TARGET") else {
            TARGETS.iter().for_each(|target| println!("{} {}", target.name, target.max_len));
            process::exit(0);
        };
        let target = bolt_fuzz::find(&name).unwrap_or_else(|| panic!("FUZZ_TARGET={name} is not a target"));
        if let Some(directory) = env::var_os("FUZZ_SEEDS") {
            write_seeds(target, Path::new(&directory));
            process::exit(0);
        }
        let _ = TARGET.set(target);
    },
    |data: &[u8]| (TARGET.get().expect("set at the start").run)(data)
);

fn write_seeds(target: &Target, directory: &Path) {
    fs::create_dir_all(directory).expect("a directory for the seeds");
    for (number, seed) in (target.seeds)().iter().enumerate() {
        fs::write(directory.join(format!("seed-{number}")), seed).expect("a seed is written");
    }
}
