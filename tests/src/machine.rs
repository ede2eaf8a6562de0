//! A booted machine: Debian with systemd and cgroup v2 in QEMU, on which the packages are installed and whose power is cut.
//!
//! ```text
//!  tests/machine/image ──▶ disk.img, vmlinuz, initrd.img
//!                              └──▶ Vm (QEMU) ◀── commands over a virtio port ── life (install … purge), limits, power cuts
//!  Bucket (S3) ◀── 10.0.2.100:9000 ──┘  └── 7443 ◀── 127.0.0.1:<port> ── `bolt` and the ledger, on this host
//! ```
//!
//! The guest reaches the bucket only, and this host reaches the agent only. The environment variable `BOLT_TEST_MACHINE` names
//! the directory of the image.

mod audit_log;
mod disk_log;
mod engine;
mod life;
mod limits;
mod load;
mod numbers;
mod power;
mod rollout;
mod services;
mod site;
mod socket;
mod states;
mod steps;
mod vm;
mod way_back;

pub use life::run as life;
pub use numbers::run as numbers;
pub use power::{Figures, Plan, run as power};
pub use rollout::run as rollout;
pub use services::run as services;
pub use site::MachineSite;
pub use states::{DiskStates, run as states};
pub use vm::forward;
pub use way_back::run as way_back;

use std::path::PathBuf;

use tokio::runtime::Runtime;

/// Returns a runtime for the requests to one machine.
fn runtime() -> Result<Runtime, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|e| e.to_string())
}

/// Returns the directory of the image, or why there is none.
pub fn image() -> Result<PathBuf, String> {
    let directory = std::env::var_os("BOLT_TEST_MACHINE").map(PathBuf::from).ok_or(
        "BOLT_TEST_MACHINE is not set: make an image with `tests/machine/image DIRECTORY`, and set it to that directory",
    )?;
    match directory.join("complete").exists() {
        true => Ok(directory),
        false => Err(format!("there is no image in {}: run tests/machine/image", directory.display())),
    }
}
