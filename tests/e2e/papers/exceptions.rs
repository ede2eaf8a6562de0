//! Commands of the papers that are not run here, with the reason, and commands that run with other names or counts.

use std::path::Path;

/// A command that is shown and not run.
#[derive(Debug)]
pub(super) struct NotRun {
    /// The paper.
    pub(super) paper: &'static str,
    /// Beginning of the command.
    pub(super) command: &'static str,
    /// Reason why it is not run.
    pub(super) why: &'static str,
}

impl NotRun {
    /// True if the entry is about this command of this paper.
    pub(super) fn covers(&self, paper: &Path, command: &str) -> bool {
        Path::new(self.paper) == paper && command.starts_with(self.command)
    }
}

const fn not_run(paper: &'static str, command: &'static str, why: &'static str) -> NotRun {
    NotRun { paper, command, why }
}

const BUILT: &str = "the programs are built already";
const THIS_RUN: &str = "it is the run of the tests that you are reading";
const MEASURES: &str = "it measures for minutes; the figures are those of the machine that they were measured on";
const MACHINE: &str = "it boots machines for minutes; tests/machine does, where `.ci/run` has made the image";
const BAKED: &str = "tests/packages bakes an image with it";
const TIMED: &str = "it measures times or growth, which fail on a busy machine; tests/reliability runs it";

/// Every command that is shown and not run. An entry that covers none is an error.
pub(super) const NOT_RUN: &[NotRun] = &[
    not_run("CONTRIBUTING.md", "cargo build --release", BUILT),
    not_run("CONTRIBUTING.md", "cargo test --workspace", THIS_RUN),
    not_run("CONTRIBUTING.md", ".ci/run", "it runs these tests"),
    not_run("CONTRIBUTING.md", "BOLT_BLESS=1 cargo test", "it writes into the checkout; a test compares the files"),
    not_run("README.md", "cargo build --release && target/release/bolt demo", "the test demo runs the demo"),
    not_run("README.md", "cargo test --workspace", THIS_RUN),
    not_run(
        "client/examples/inventory/README.md",
        "python3 -m venv moto",
        "`.ci/run` installs it, and a test of this paper links to it",
    ),
    not_run("client/README.md", "cargo build --release -p bolt-client --features kms", BUILT),
    not_run(
        "client/python/README.md",
        "pip install ./client/python",
        "`.ci/run` does it: it compiles the library again",
    ),
    not_run(
        "client/README.md",
        "bolt repo kms-key",
        "it needs AWS KMS; tests/e2e/kms.rs runs it against a service of its own",
    ),
    not_run("systemd/README.md", "systemd/packages/build packages", "tests/packages builds them from these programs"),
    not_run("systemd/README.md", "sudo apt-get install", "it would install them on the host that runs the tests"),
    not_run("systemd/README.md", "sudo cp packages/", BAKED),
    not_run("systemd/README.md", "sudo chroot image ", BAKED),
    not_run("systemd/README.md", "sudo sed -i 's/^id = .*/metadata", BAKED),
    not_run("systemd/README.md", "sudo sed -i 's/^listen = .*/listen = \"0.0.0.0:8443\"/' image", BAKED),
    not_run("systemd/README.md", "sudo sed -i 's#^url = ", BAKED),
    not_run("systemd/README.md", "sudo install -m 0644 ca/ca.pem image", BAKED),
    not_run("systemd/README.md", "sudo install -m 0644 keys/root.json image", BAKED),
    not_run("systemd/README.md", "sudo install -m 0644 grants.toml image", BAKED),
    not_run("tests/README.md", "cargo test --workspace", THIS_RUN),
    not_run("tests/README.md", "cargo bench -p bolt-tests --bench numbers", MEASURES),
    not_run("tests/README.md", "cargo bench -p bolt-tests --bench fan_out", MEASURES),
    not_run("tests/README.md", "cargo bench -p bolt-tests --bench growth", MEASURES),
    not_run("tests/README.md", "BOLT_TEST_HISTORY_ROWS=1000000 cargo bench", MEASURES),
    not_run(
        "tests/README.md",
        "cargo test -p bolt-agent --lib exec::state::model",
        "cargo would compile the workspace with other features; the suite runs this test",
    ),
    not_run("tests/README.md", "tests/fuzz/run", "it takes hours; `.ci/run` does it for seconds"),
    not_run("tests/README.md", "tests/machine/image", MACHINE),
    not_run("tests/README.md", "BOLT_TEST_MACHINE=", MACHINE),
    not_run(
        "tests/README.md",
        "BOLT_TEST_ATTACK=",
        "it needs tools of others; `e2e::under_attack` runs them where they are",
    ),
    not_run("tests/README.md", "cargo run --release -p bolt-tests --bin bolt-reliability -- follow", TIMED),
    not_run("tests/README.md", "cargo run --release -p bolt-tests --bin bolt-reliability -- soak", TIMED),
    not_run("tests/README.md", "cargo run --release -p bolt-tests --bin bolt-reliability -- crowd", TIMED),
];

/// Part of a command that is replaced when it is run.
#[derive(Debug)]
pub(super) struct Instead {
    /// The paper.
    pub(super) paper: &'static str,
    /// A part of a command as the paper shows it.
    pub(super) shown: &'static str,
    /// Replacement.
    pub(super) run: &'static str,
}

const fn instead(paper: &'static str, shown: &'static str, run: &'static str) -> Instead {
    Instead { paper, shown, run }
}

/// Parts of commands that are others here: programs that are built already, and smaller counts. One that is nowhere is an error.
pub(super) const INSTEAD: &[Instead] = &[
    instead(
        "client/examples/inventory/README.md",
        "moto/bin/moto_server -p 5000 2>moto.log &",
        "moto/bin/moto_server -p 0 2>moto.log &\nuntil grep -q 'Running on' moto.log; do sleep 0.1; done",
    ),
    instead(
        "client/examples/inventory/README.md",
        "http://127.0.0.1:5000",
        "$(grep -o 'http://127[0-9.:]*' moto.log | head -n 1)",
    ),
    instead("tests/README.md", "cargo run --release -p bolt-tests --bin bolt-reliability --", "bolt-reliability"),
    instead("tests/README.md", "--cycles 3000 --seed 1 --workers 5", "--cycles 4 --seed 1 --workers 1"),
    instead("tests/README.md", "--cycles 1000 --seed 1 --workers 3", "--cycles 4 --seed 1 --workers 2"),
    instead("tests/README.md", "--cycles 300 --seed 1 --workers 3", "--cycles 4 --seed 1 --workers 2"),
    instead("tests/README.md", "--attempts 200", "--attempts 4"),
];
