//! Sessions of the real `bolt`: commands, output and exit codes as text.

use std::path::Path;
use std::process::{Command, Stdio};

/// Prints a session in `directory`: each command, what it printed, and its exit code.
pub(crate) fn session(directory: &Path, lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let arguments: Vec<&str> = line.split_whitespace().skip(1).collect();
        let output = Command::new(env!("CARGO_BIN_EXE_bolt"))
            .args(&arguments)
            .current_dir(directory)
            .env_clear()
            .env("HOME", directory)
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let printed = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).replace(&directory.display().to_string(), "HOME");
            text.lines().map(|line| squeeze(line) + "\n").collect::<String>()
        };
        text += &format!("$ {line}\n{}{}", printed(&output.stdout), printed(&output.stderr));
        text += &format!("[exit {}]\n\n", output.status.code().unwrap_or(-1));
    }
    text
}

/// Reduces the gaps between columns, whose width depends on the length of the home directory, to two spaces.
fn squeeze(line: &str) -> String {
    let words = line.trim_start();
    let mut text = line[..line.len() - words.len()].to_owned();
    let gaps = words.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect::<Vec<_>>();
    text += &gaps.join("  ");
    text
}
