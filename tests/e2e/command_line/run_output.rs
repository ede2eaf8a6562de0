//! Output of `bolt run`: outputs, results, secrets and versions.

use std::time::{Duration, Instant};

use bolt_tests::{PackSource, World, spec};
use serde_json::json;

use super::ended;

/// Prints nothing and gives a result; the free bytes differ between i-1 and the others.
const MEASURE: &str = "#!/bin/sh
case $BOLT_INSTANCE_ID in i-1) free=1 ;; *) free=2 ;; esac
echo \"{\\\"free\\\": $free, \\\"disks\\\": [{\\\"name\\\": \\\"a b\\\"}]}\" > \"$BOLT_RESULT\"
";

/// Prints the same lines everywhere but for one, and gives a result.
const LINES: &str = "#!/bin/sh
echo one; echo two; echo \"on $BOLT_INSTANCE_ID\"; echo four
echo '{\"done\": true}' > \"$BOLT_RESULT\"
";

#[test]
fn text_is_shown_once_and_results_as_a_table_or_on_request() {
    let world = World::empty();
    let class = "bolt: {class: diagnostic}";
    let pack = PackSource::new("probe", "1.0.0").action("measure", class, MEASURE).action("lines", class, LINES);
    world.publish(&pack);
    let agents = ["i-1", "i-2", "i-3"].map(|id| world.start(&spec(id)));
    let bolt = world.bolt(&agents.each_ref());
    let run = |action: &str, more: &[&str]| {
        let said = bolt.run(["run", action, "--everywhere", "--at-once"].iter().chain(more));
        ended(&said, 0, &[]);
        said
    };
    let lines = run("probe.lines", &[]).answer();
    let wanted = "-- 3 instances succeeded with some different lines: i-1, i-2, i-3\none\ntwo\n[i-1] on i-1\n[i-2] on i-2\n[i-3] on i-3\nfour\n-- 3 instances in ";
    assert!(lines.starts_with(wanted), "{lines}");
    assert!(!lines.contains("structured results are not shown"), "{lines}");
    assert!(!lines.contains("done"), "{lines}");
    assert!(run("probe.lines", &["--result=json"]).answer().contains("i-1, i-2, i-3\n{\"done\":true}\n-- 3 instances"));

    let table = run("probe.measure", &[]).answer();
    let wanted = "-- 3 instances succeeded: i-1, i-2, i-3\nINSTANCE  disks             free\ni-1       [{\"name\":\"a b\"}]  1\ni-2, i-3  [{\"name\":\"a b\"}]  2\n-- 3 instances in ";
    assert!(table.starts_with(wanted), "{table}");
    let select = run("probe.measure", &["--select", ".free", "--select", ".disks[0].name", "--select", ".no"]);
    let wanted = "INSTANCE  .free  .disks[0].name  .no\ni-1       1      a b             (none)\ni-2       2      a b             (none)\n";
    assert!(select.stdout.starts_with(wanted), "{select:?}");

    let quiet = run("probe.lines", &["--quiet"]);
    assert!(quiet.stderr.is_empty() && quiet.stdout.starts_with("-- 3 instances in "), "{quiet:?}");
    ended(&bolt.run(["run", "probe.lines", "--everywhere", "--select", "free"]), 2, &[".disks[0].used", "jq"]);
    ended(&bolt.run(["run", "probe.lines", "--everywhere", "--result", "--json"]), 2, &["cannot be used with"]);
}

#[test]
fn a_secret_that_comes_back_is_masked_in_all_that_is_printed() {
    const SECRET: &str = "hunter2-hunter2";
    let world = World::empty();
    // In two writes, so that the secret is cut by the edge of a chunk.
    let script = "#!/bin/sh\ntoken=$(sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/')\nprintf 'a token: hunter2'\nsleep 0.1\n\
                  printf '%s\\n' \"${token#hunter2}\"\necho \"$token\" >&2\necho \"{\\\"t\\\": \\\"$token\\\"}\" > \"$BOLT_RESULT\"\n";
    let yaml = "parameters: {token: {type: string, secret: true, required: true}}\nbolt: {class: diagnostic}";
    world.publish(&PackSource::new("probe", "1.0.0").action("leak", yaml, script));
    let agent = world.agent();
    let bolt = world.bolt(&[&agent]);
    let file = world.path().join("token");
    std::fs::write(&file, SECRET).unwrap();
    let token = format!("token=@{}", file.display());
    for more in [&[][..], &["--result"], &["--select", ".t"], &["--json"]] {
        let said = bolt.run(["run", "probe.leak", &token].iter().chain(more));
        ended(&said, 0, &[]);
        assert!(said.stdout.contains("********"), "{more:?}: {said:?}");
        assert!(!said.stdout.contains("hunter2") && !said.stderr.contains("hunter2"), "{more:?}: {said:?}");
    }
    // Only the client that gave the value knows it.
    let id = bolt.json(["ps"]).1["executions"][0]["id"].as_str().unwrap().to_owned();
    assert!(bolt.run(["logs", &id]).stdout.contains(SECRET));
    // A later command is given it again.
    let run = bolt.json(["ps"]).1["executions"][0]["run"].as_str().unwrap().to_owned();
    let mask = file.to_str().unwrap();
    for command in [&["logs", &id][..], &["logs", &id, "--raw"], &["logs", "--run", &run], &["show", &id]] {
        let said = bolt.run(command.iter().chain(&["--mask", mask]));
        ended(&said, 0, &[]);
        assert!(said.stdout.contains("********"), "{command:?}: {said:?}");
        assert!(!said.stdout.contains("hunter2") && !said.stderr.contains("hunter2"), "{command:?}: {said:?}");
    }
    assert!(!bolt.run(["show", &id, "--mask", mask, "--json"]).stdout.contains("hunter2"));
    ended(&bolt.run(["logs", &id, "--mask", mask, "--json"]), 2, &["--mask", "--json"]);
    ended(&bolt.run(["logs", &id, "--mask", "gone"]), 2, &["cannot read gone", "--mask"]);
    std::fs::write(&file, "abc\n").unwrap();
    ended(&bolt.run(["logs", &id, "--mask", mask]), 2, &["fewer than 4 bytes"]);
}

#[test]
fn a_secret_of_short_lines_or_at_the_end_of_a_long_line_is_masked_in_the_logs_of_a_run() {
    let world = World::empty();
    // A line of more than 64 KiB is printed in pieces.
    let script = "#!/bin/sh\nprintf 'pin\\nab cd\\nef gh\\nend\\n'\nprintf '%065530d' 0\necho hunter2-hunter2\n";
    world.publish(&PackSource::new("probe", "1.0.0").action("leak", "bolt: {class: diagnostic}", script));
    let agent = world.agent();
    let bolt = world.bolt(&[&agent]);
    let (_, report) = bolt.json(["run", "probe.leak"]);
    let run = report["run"].as_str().unwrap();
    let files = [("pin", "ab cd\nef gh\n"), ("token", "hunter2-hunter2")].map(|(name, text)| {
        let path = world.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let masks = files.iter().flat_map(|file| ["--mask", file]);
    let said = bolt.run(["logs", "--run", run].into_iter().chain(masks));
    ended(&said, 0, &[]);
    assert_eq!(
        said.stdout.matches('*').count(),
        16,
        "two masks, of which the second is cut: {} bytes",
        said.stdout.len()
    );
    for part in ["ab cd", "ef gh", "hunter", "er2"] {
        assert!(!said.stdout.contains(part), "{part}");
    }
    assert!(
        said.stdout.contains("pin\n") && said.stdout.contains("********end\n"),
        "the mask takes a final line break"
    );
}

#[test]
fn a_version_that_is_not_active_starts_nothing_and_different_versions_are_said() {
    let world = World::with_probe();
    let agents = ["i-1", "i-2"].map(|id| world.start(&spec(id).set("repository", "poll", "1s")));
    let bolt = world.bolt(&agents.each_ref());
    let run = |action: &str, more: &[&str]| bolt.json(["run", action, "--everywhere", "--at-once"].iter().chain(more));
    let (code, same) = run("probe.hello@1.0.0", &[]);
    assert_eq!((code, &same["version"], &same["versions"]), (0, &json!("1.0.0"), &json!({"1.0.0": 2})), "{same}");
    let (code, none) = run("probe.hello@9.9.9", &[]);
    let of = |run: &serde_json::Value, at: usize| {
        let one = &run["instances"][at];
        (one["state"].as_str().unwrap().to_owned(), one["error"]["code"].as_str().map(str::to_owned))
    };
    let mismatch = ("version_mismatch".to_owned(), Some("version_mismatch".to_owned()));
    assert_eq!((code, of(&none, 0), of(&none, 1)), (4, mismatch.clone(), mismatch.clone()), "{none}");
    let message = none["instances"][0]["error"]["message"].as_str().unwrap();
    assert!(message.contains("version 1.0.0 of probe.hello is active here, not 9.9.9"), "{message}");
    ended(&bolt.run(["run", "probe.hello@x", "--everywhere"]), 2, &["x", "version"]);
    assert_eq!(bolt.json(["ps"]).1["executions"].as_array().unwrap().len(), 2, "no other version ran");

    let newer = PackSource::probe().version("1.1.0").write(&world.scratch("newer")).display().to_string();
    let (repository, keys) = (world.repository().display().to_string(), world.site.keys().display().to_string());
    let publish = ["repo", "publish", &newer, "--channel", "prod", "--where", "id == \"i-2\"", "--repo", &repository];
    ended(&bolt.run(publish.iter().chain(&["--keys", keys.as_str()])), 0, &[]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while run("probe.hello", &[]).1["versions"].as_object().unwrap().len() < 2 {
        assert!(Instant::now() < deadline, "1.1.0 does not become active");
    }
    let (code, mixed) = run("probe.hello@1.1.0", &["--max-failures", "1"]);
    assert_eq!((code, of(&mixed, 0), of(&mixed, 1).0.as_str()), (1, mismatch, "succeeded"), "{mixed}");
    let text = bolt.run(["run", "probe.hello", "--everywhere", "--at-once"]).stdout;
    assert!(
        text.contains("-- different versions of pack probe ran: 1.0.0 on 1 instance (i-1), 1.1.0 on 1 instance (i-2)"),
        "{text}"
    );
}
