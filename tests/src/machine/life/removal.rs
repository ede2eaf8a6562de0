//! The removal of the package, while an execution runs, and its purge.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use packs_schema::agent::execution::file::{EXIT, OUTPUT};
use packs_schema::agent::execution::output::{Frame, MAGIC, Stream};
use packs_schema::agent::execution::{Exit, State, read_record};
use serde_json::json;

use super::super::load::{self, Api};
use super::super::site::{self, SECOND, VERSIONS};
use super::super::vm::Vm;
use super::{installed_and_asleep, started};

/// Lines of the execution that runs while the package is removed.
const LINES: u64 = 20;

/// Removes the package while an execution runs, which must go on to its end: nothing of ours is left but its shim.
pub(super) async fn removed(api: &Api, vm: &mut Vm) -> Result<(), String> {
    let parameters = json!({"count": LINES, "pause": "0.3"});
    let execution = api.order_until("machine.lines", &parameters, "removed").await?;
    let id = execution.id.as_str();
    started(vm, std::slice::from_ref(&execution))?;
    // Frozen until the removal is over, however long that takes. A signal that ends it is delivered all the same.
    let group = format!("\"$(find /sys/fs/cgroup -type d -name 'bolt-{id}')\"");
    vm.ok(&format!("test -d {group} && echo 1 >{group}/cgroup.freeze"))?;
    vm.within_a_minute(&format!("grep -q 'frozen 1' {group}/cgroup.events"))?;
    vm.ok("dpkg --remove bolt-agent")?;
    vm.ok("test ! -e /usr/lib/bolt/bolt-launch && ! pgrep -x 'bolt-launch|bolt-agent' && pgrep -x bolt-shim")?;
    let directory = format!("/var/lib/bolt/exec/{id}");
    vm.ok(&format!("test ! -e {directory}/{EXIT} && echo 0 >{group}/cgroup.freeze"))?;
    vm.within_a_minute(&format!("test -e {directory}/{EXIT}"))?;
    let mut file = |name: &str| -> Result<Vec<u8>, String> {
        let text = vm.ok(&format!("base64 -w0 {directory}/{name}"))?;
        BASE64_STANDARD.decode(text.trim()).map_err(|error| format!("{name} of {id}: {error}"))
    };
    let exit: Exit = read_record(&file(EXIT)?).map_err(|error| error.to_string())?;
    let output = stdout_of(&file(OUTPUT)?)?;
    let is_whole = output == load::lines(id, LINES).as_bytes();
    if (exit.state, exit.exit_status, exit.leftovers.is_none(), is_whole) != (State::Succeeded, Some(0), true, true) {
        return Err(format!("running at the removal: {exit:?} with {:?}", String::from_utf8_lossy(&output)));
    }
    Ok(())
}

/// Installs the removed package again, and purges it.
pub(super) fn installed_and_purged(vm: &mut Vm) -> Result<(), String> {
    vm.ok("test -e /etc/bolt/agent.toml && test -e /etc/bolt/tls/instance.key && ls /var/lib/bolt/exec | grep -q .")?;
    vm.ok(&site::dpkg(VERSIONS[0]))?;
    installed_and_asleep(vm)?;
    vm.ok(&format!("grep -q {SECOND} /etc/bolt/agent.toml"))?;
    // The pack `bolt_engine` has kept files of the package.
    vm.ok("ls /var/lib/bolt-engine | grep -q .")?;
    vm.ok("dpkg --purge bolt-agent")?;
    let directories = "/etc/bolt /opt/bolt /var/lib/bolt /var/lib/bolt-engine /usr/lib/bolt";
    let units = "/etc/systemd/system/bolt* /etc/systemd/system/*.wants/bolt* /usr/lib/systemd/system/bolt*";
    // A shim or a unit that is still ending may write until it has ended.
    vm.within_a_minute(&format!("! ls -d {directories} {units} 2>/dev/null | grep -q ."))
}

/// Returns standard output of the first segment of an output log.
fn stdout_of(segment: &[u8]) -> Result<Vec<u8>, String> {
    let mut rest = segment.strip_prefix(&MAGIC).ok_or("the output log has another format")?;
    let mut output = Vec::new();
    while let Some((header, after)) = rest.split_first_chunk() {
        let frame = Frame::decode(header).map_err(|error| error.to_string())?;
        let (data, after) = after.split_at_checked(frame.length as usize).ok_or("the output log ends in a frame")?;
        if frame.stream == Stream::Stdout {
            output.extend_from_slice(data);
        }
        rest = after;
    }
    if rest.is_empty() { Ok(output) } else { Err("the output log ends in a header".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_output_is_read_from_frames() {
        let frame = |stream, data: &str| {
            let header = Frame { stream, length: u32::try_from(data.len()).unwrap(), at_us: 1, offset: 0 };
            [&header.encode()[..], data.as_bytes()].concat()
        };
        let (first, error, second) =
            (frame(Stream::Stdout, "a\n"), frame(Stream::Stderr, "x"), frame(Stream::Stdout, "b\n"));
        let log = [&MAGIC[..], &first, &error, &second].concat();
        assert_eq!(stdout_of(&log), Ok(b"a\nb\n".to_vec()));
        stdout_of(&log[..log.len() - 1]).unwrap_err();
        stdout_of(b"").unwrap_err();
    }
}
