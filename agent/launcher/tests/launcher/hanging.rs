//! An api that hangs is replaced, and one that is slow is not.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use packs_schema::agent::rest::ApiProcess;

use crate::driver::{put, skipped, wait_for, writing};
use crate::stand_in::{Service, build_stand_in};

/// Gives one sign of life for each three questions, until a file says that it hangs.
const SLOW: &str = "#!/bin/sh
at=$(dirname \"$3\")/said
[ \"$1\" = sync ] && exit 0
echo \"$BOLT_ALIVE_FD\" >> $at/$1
n=0
while read -r question <&7; do
  n=$((n + 1))
  [ $((n % 3)) = 1 ] && printf . >&7
  echo $n >> $at/questions
  while [ -e $at/hang ]; do sleep 0.05; done
done
";

#[test]
fn an_api_that_hangs_is_replaced_and_a_slow_one_is_not() {
    let guard = writing();
    let (dir, config) = Service::place("api = \"64101\"\nsync = \"64102\"");
    if !build_stand_in(&dir.path().join("bin"), SLOW) {
        let name = "an_api_that_hangs_is_replaced_and_a_slow_one_is_not";
        return skipped(name, "no C compiler for a stand-in of bolt-agent");
    }
    let text = fs::read_to_string(&config).unwrap().replace("[api]\n", "[api]\nhang_after = \"5s\"\n");
    put(&config, text.as_bytes(), 0o644);
    let mut child = Service::command(dir.path(), &config).stderr(Stdio::piped()).spawn().unwrap();
    drop(guard);
    let mut stderr = child.stderr.take().unwrap();
    let mut service = Service { dir, launcher: child };
    let said = service.dir.path().join("said");
    // Eight questions, of which five have no answer: more than a hung api has, but not in a row.
    wait_for("questions", || (service.printed("questions").len() >= 8).then_some(()));
    assert_eq!(service.printed("api"), ["7"], "it was slow, and is the same");

    fs::write(said.join("hang"), "").unwrap();
    wait_for("another api", || (service.printed("api").len() == 2).then_some(()));
    let report: ApiProcess =
        serde_json::from_slice(&fs::read(service.dir.path().join("run/api.json")).unwrap()).unwrap();
    assert_eq!((report.failures, report.signal, report.hung), (1, Some(9), true));
    fs::remove_file(said.join("hang")).unwrap();
    let before = service.printed("questions").len();
    wait_for("questions to the second", || (service.printed("questions").len() >= before + 2).then_some(()));
    assert_eq!(service.printed("api").len(), 2);
    assert!(service.stop().success());
    let mut log = String::new();
    stderr.read_to_string(&mut log).unwrap();
    let killed: Vec<&str> = log.lines().filter(|line| line.contains("no sign of life")).collect();
    assert!(killed.len() == 1 && killed[0].starts_with("level=error"), "{log}");
}
