//! Keys that sign packages and lists of packages.

use std::process::{Command, Output};

use tempfile::TempDir;

/// Signs with keys of its own. Dropping it stops the gpg-agent that gpg started.
pub(super) struct Gpg {
    pub(super) home: TempDir,
}

impl Gpg {
    pub(super) fn new() -> Gpg {
        let gpg = Gpg { home: TempDir::new().unwrap() };
        for name in ["site", "stranger"] {
            gpg.run(&["--quick-generate-key", &format!("{name}@example.com"), "rsa2048", "sign", "never"]);
        }
        gpg
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(self.home.path()).args([
            "--batch",
            "--yes",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ]);
        stdout_of(&gpg.args(arguments).output().unwrap())
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.home.path()).args(["--kill", "gpg-agent"]).status();
    }
}

/// Returns standard output; panics with standard error if the command failed.
pub(super) fn stdout_of(output: &Output) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.clone()
}
