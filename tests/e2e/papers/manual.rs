//! The manual page of the agent's programs (`systemd/man`): what their help names, nothing else, and no warning of troff.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use bolt_client::local::binary;
use bolt_tests::{binaries, skip};

use super::root;

/// Page of all programs; those of the others refer to it.
const PAGE: &str = "systemd/man/bolt-agent.8";

/// Calls of each program that print its help.
const HELP: &[(&str, &[&[&str]])] = &[
    ("bolt-agent", &[&["--help"], &["api", "--help"], &["check-config", "--help"]]),
    ("bolt-launch", &[&["--help"], &["serve", "--help"]]),
    ("bolt-sync", &[&["--help"]]),
];

/// Options of other programs, in examples.
const OF_OTHERS: &[&str] = &["--now"];

/// Runs a program; returns its exit status and what it printed to standard output.
fn run(program: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary(program).unwrap()).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// Returns the text of the page, without the notation of troff.
fn plain(page: &str) -> String {
    let mut text = page.replace("\\-", "-").replace("\\(bu", "");
    for font in ["\\fB", "\\fI", "\\fR"] {
        text = text.replace(font, "");
    }
    text
}

/// Words of a help or page: options, variables of the environment, and other names.
fn words(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_*".contains(c);
    text.split(|c| !is_part(c)).filter(|word| !word.is_empty()).collect()
}

fn is_option(word: &str) -> bool {
    word.starts_with('-') && word.trim_start_matches('-').starts_with(|c: char| c.is_ascii_alphabetic())
}

/// True for `BOLT_LOG` and `AWS_*`.
fn is_variable(word: &str) -> bool {
    word.contains('_') && word.chars().all(|c| c.is_ascii_uppercase() || "_*".contains(c))
}

/// Commands in the lines of usage of a program's help, and the options, variables and exit statuses that it names.
fn named_in_help(program: &str, help: &str) -> BTreeSet<String> {
    let words = words(help);
    let mut named: BTreeSet<String> =
        words.into_iter().filter(|word| is_option(word) || is_variable(word)).map(str::to_owned).collect();
    let usage = help.lines().filter_map(|line| line.split_once(&format!("{program} "))).map(|(_, rest)| rest);
    let commands = usage.filter_map(|rest| rest.split_whitespace().next());
    named.extend(commands.filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase())).map(str::to_owned));
    named
}

#[test]
fn the_manual_page_has_each_command_option_and_exit_status_of_the_agents_programs() {
    binaries();
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let text = plain(&page);
    let in_page = words(&text);
    let mut in_help = BTreeSet::new();
    for (program, calls) in HELP {
        for call in *calls {
            let (code, help) = run(program, call);
            assert_eq!(code, Some(0), "{program} {call:?}");
            let named = named_in_help(program, &help);
            assert!(named.contains("--config") && named.contains("BOLT_LOG"), "{program}: {named:?}");
            for word in &named {
                assert!(in_page.contains(word.as_str()), "{PAGE} lacks {word} of {program} {}", call.join(" "));
            }
            in_help.extend(named);
        }
        assert!(text.contains(&format!("/usr/lib/bolt/{program}")), "{program}");
        // Statuses as the programs end: success, a configuration that cannot be read, a wrong command line.
        for (code, call) in [(0, &["--version"][..]), (2, &["--nonsense"])] {
            assert_eq!(run(program, call).0, Some(code), "{program} {call:?}");
        }
    }
    for (code, call) in [(1, "/nonexistent.toml"), (2, "--json")] {
        let arguments = if code == 1 { vec!["check-config", "--config", call] } else { vec!["api", call] };
        assert_eq!(run("bolt-agent", &arguments).0, Some(code), "{arguments:?}");
    }
    for status in 0..=2 {
        assert!(page.contains(&format!(".TP\n.B {status}\n")), "exit status {status}");
    }
    for word in in_page.into_iter().filter(|word| word.starts_with("--") && is_option(word)) {
        assert!(in_help.contains(word) || OF_OTHERS.contains(&word), "no program has {word}, which {PAGE} names");
    }
    let name = text.split(".SH NAME\n").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    for (program, _) in HELP {
        assert!(name.contains(program), "{name}");
        let own = fs::read_to_string(root().join(format!("systemd/man/{program}.8"))).unwrap();
        assert!(own == page || own == ".so man8/bolt-agent.8\n", "{program}");
    }
}

#[test]
fn the_manual_page_has_no_warning() {
    const TEST: &str = "the_manual_page_has_no_warning";
    let mut checked = 0;
    for (program, arguments) in [
        ("groff", &["-man", "-ww", "-z", "-Tutf8", "-rLL=80n"][..]),
        ("mandoc", &["-T", "lint", "-W", "warning"]),
        ("man", &["--warnings", "--encoding=UTF-8", "-l"]),
    ] {
        match Command::new(program).args(arguments).arg(root().join(PAGE)).env("MANWIDTH", "80").output() {
            Err(_) => skip(TEST, &format!("{program} is not installed")),
            Ok(output) => {
                let said = if program == "mandoc" { [output.stdout, output.stderr].concat() } else { output.stderr };
                assert!(output.status.success() && said.is_empty(), "{program}: {}", String::from_utf8_lossy(&said));
                checked += 1;
            }
        }
    }
    println!("{checked} programs read {PAGE}");
}
