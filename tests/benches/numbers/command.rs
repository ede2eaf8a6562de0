//! The whole command `bolt run` on one instance, beside `true` and `bolt --version`: process, configuration, run record, handshake,
//! execution, output.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use bolt_client::local::binary;
use bolt_tests::{World, place};

use crate::row;

/// Prints the rows, and returns the median of `bolt run`.
pub(super) fn print(world: &World) -> Duration {
    let bolt = binary("bolt").expect("bolt is built");
    let run = |command: &mut Command| {
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?}: {status}"))) }
    };
    row("true", 200, || run(&mut Command::new("true")));
    row("bolt --version", 200, || run(Command::new(&bolt).arg("--version")));
    let mut command = Command::new(&bolt);
    command.arg("--config").arg(world.site.client_config()).args(["run", "bench.nothing", "--on", "i-1"]);
    place::set_state(&mut command, world.path());
    row("bolt run on one instance, whole command", 100, || run(&mut command))
}
