//! Snapshots of what `bolt` prints about agents: tables, summaries and errors, of a fleet of three of which one is down.
//!
//! After a change that is meant: `INSTA_UPDATE=always cargo test --workspace --test e2e texts`.

use bolt_tests::{Bolt, World, spec};
use regex_lite::Regex;

/// Replaces what differs from run to run: ids, times, durations, addresses, digests and the width of columns.
fn normalise(text: &str, world: &World) -> String {
    let mut text = text.replace(&world.path().display().to_string(), "WORLD");
    for (pattern, replacement) in [
        (r"r-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "RUN"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
        (r"\b[0-9a-f]{64}\b", "DIGEST"),
        (r"\b[0-9a-f]{12}\b", "SHORT"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r"127\.0\.0\.1:\d+", "ADDRESS"),
        (r"\b\d+(\.\d+)?(ms|s)\b", "TOOK"),
        (r"\b\d+(\.\d+)?(KiB|MiB|B)\b", "SIZE"),
        (r"  +", "  "),
        (r" +\n", "\n"),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, replacement).into_owned();
    }
    text
}

/// Prints a session: each command with its output and exit code.
fn session(bolt: &Bolt, world: &World, lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let said = bolt.run(line.split_whitespace().skip(1));
        let stdout = said.answer();
        text += &format!(
            "$ {}\n{}{}[exit {}]\n\n",
            normalise(line, world),
            normalise(&stdout, world),
            normalise(&said.stderr, world),
            said.code
        );
    }
    text
}

#[tokio::test]
async fn tables_and_summaries() {
    let world = World::with_probe();
    let (first, second) = (world.start(&spec("i-0a11")), world.start(&spec("i-0b21")));
    let mut down = world.start(&spec("i-0c31"));
    let bolt = world.bolt(&[&first, &second, &down]);
    down.terminate();
    let ran = world.operator(&first).run("probe.hello", serde_json::json!({})).await;
    let show = format!("bolt show {}", ran.id);
    let lines = [
        "bolt instances",
        "bolt actions --on i-0a11",
        "bolt actions probe.typed --on i-0a11",
        "bolt packs --on i-0a11",
        "bolt run probe.hello --on i-0a11",
        "bolt run probe.fail --on i-0a11",
        "bolt run probe.hello --on i-0c31",
        "bolt run probe.helo --on i-0a11",
        "bolt run probe.typed name=A count=x --on i-0a11",
        "bolt run probe.hello --on i-0* --batch 1",
        "bolt history --on i-0a11 --state failed",
        show.as_str(),
        "bolt kill --action probe.sleep",
        "bolt can-i run probe.hello --on i-0a11",
    ];
    insta::assert_snapshot!(session(&bolt, &world, &lines));
}
