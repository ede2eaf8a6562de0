//! Replaces `bolt-agent` in a fault program's agent, and executes the real one, which lies beside it, with `interpose.c`
//! preloaded.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

fn main() {
    let own = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let beside = own.parent().unwrap_or(Path::new("/"));
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let mut command = Command::new(beside.join("bolt-agent.real"));
    command.arg0("bolt-agent").env("LD_PRELOAD", beside.join("faults.so"));
    command.env("BOLT_FAULTS", beside.join("faults.page"));
    if let Some(role) = arguments.first() {
        command.env("BOLT_FAULTS_ROLE", role);
    }
    let error = command.args(arguments).exec();
    drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("bolt-agent-preloaded: {error}\n")));
    std::process::exit(127);
}
