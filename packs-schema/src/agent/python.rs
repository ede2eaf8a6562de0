//! Virtual environments of packs, without access to a disk: their names, the programs and arguments for the interpreter
//! and pip, and summaries of pip's output. The sync builds environments on instances, `bolt pack test` for authors;
//! both build the same.
//!
//! The name of an environment is a digest of everything that determines its content, so all packs with equal needs
//! share one. pip runs from a wheel of the interpreter and is not installed: an environment contains only what the pack
//! requires.

mod refusal;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::agent::config::PythonConfig;

pub use refusal::explain_refusal;

/// Program that prints an [`Interpreter`]; for `python3 -I -c`.
pub const PROBE: &str = include_str!("python/probe.py");
/// Program that creates an empty environment; for `python3 -I -c`, with [`venv_arguments`]. Other accounts run in it,
/// whatever the creator's umask.
pub const CREATE_VENV: &str = "import os, sys, venv; os.umask(0o022); sys.exit(venv.main(sys.argv[1:]))";
/// Program that runs pip with resource limits; for `<venv>/bin/python -I -c`, with [`install_arguments`].
pub const RUN_PIP: &str = include_str!("python/install.py");
/// Maximum private memory of pip, in bytes.
pub const INSTALL_MEMORY: u64 = 1 << 30;
/// Maximum size of the output of [`PROBE`], in bytes.
pub const MAX_PROBE: u64 = 16 << 10;
/// Path of the interpreter within an environment.
pub const VENV_PYTHON: &str = "bin/python";

/// Maximum length of the summary of a failed installation, in characters.
const MAX_WORDS: usize = 700;

/// Interpreter as described by [`PROBE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    /// Path of the program, with symbolic links resolved.
    pub executable: PathBuf,
    /// ABI of compiled modules: `cpython-311-x86_64-linux-gnu`.
    pub abi: String,
    /// Platform: `linux-x86_64`.
    pub platform: String,
    /// Version, such as `3.11.2`. A patch release runs existing environments, so the version is not part of their name.
    pub version: String,
    /// True if it can create virtual environments.
    pub venv: bool,
    /// Wheel of pip that it includes.
    pub pip: Option<PathBuf>,
}

impl Interpreter {
    /// Returns the bytes whose SHA-256 names the environment for these requirements.
    ///
    /// The package index is not part of it: an index that returns other files for one version is broken, and hashes in
    /// the requirements detect that.
    pub fn venv_key(&self, requirements: &[u8]) -> Vec<u8> {
        let Interpreter { executable, abi, platform, .. } = self;
        let head = format!("bolt venv 1\n{}\n{abi}\n{platform}\n", executable.display());
        [head.as_bytes(), requirements].concat()
    }

    /// Returns why it cannot create an environment, if it cannot.
    pub fn why_unusable(&self) -> Option<String> {
        let at = self.executable.display();
        match (self.venv, &self.pip) {
            (false, _) => Some(format!("{at} has no module venv: install it (Debian: python3-venv)")),
            (true, None) => Some(format!("{at} has no pip of its own: install ensurepip (Debian: python3-venv)")),
            (true, Some(_)) => None,
        }
    }
}

/// Returns arguments for [`CREATE_VENV`]: an empty environment at `venv`.
pub fn venv_arguments(venv: &Path) -> Vec<String> {
    ["--without-pip", "--symlinks"].into_iter().map(str::to_owned).chain([show(venv)]).collect()
}

/// Returns arguments for [`RUN_PIP`]: the site's package sources, and the file `requirements`.
///
/// They contain no secrets: credentials are in `pip_config`, which [`install_environment`] names.
pub fn install_arguments(
    config: &PythonConfig,
    pip: &Path,
    requirements: &Path,
    seconds: u64,
    hashed: bool,
) -> Vec<String> {
    let mut list = vec![seconds.to_string(), INSTALL_MEMORY.to_string(), show(pip)];
    let mut add = |words: &[&str]| list.extend(words.iter().map(|word| (*word).to_owned()));
    add(&[
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--no-cache-dir",
        "--no-color",
        "--progress-bar",
        "off",
    ]);
    add(&["--no-warn-script-location", "--quiet", "--timeout", "15", "--retries", "2"]);
    if !config.allow_source {
        add(&["--only-binary", ":all:"]);
    }
    if hashed || config.require_hashes {
        add(&["--require-hashes"]);
    }
    match &config.index {
        Some(index) => add(&["--index-url", index]),
        None if config.wheels.is_some() => add(&["--no-index"]),
        None => {}
    }
    if let Some(wheels) = &config.wheels {
        add(&["--find-links", &show(wheels)]);
    }
    add(&["--requirement", &show(requirements)]);
    list
}

/// Returns all environment variables of pip except proxies: home and temporary files in `home`, and no configuration
/// except the site's.
pub fn install_environment(config: &PythonConfig, home: &Path) -> Vec<(&'static str, String)> {
    let pip_config = config.pip_config.as_deref().unwrap_or(Path::new("/dev/null"));
    vec![
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("HOME", show(home)),
        ("TMPDIR", show(home)),
        ("LANG", "C.UTF-8".to_owned()),
        ("PIP_CONFIG_FILE", show(pip_config)),
        ("PYTHONNOUSERSITE", "1".to_owned()),
    ]
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// Summarises why pip failed: its errors, or its last lines. The result is one line of bounded length, without control
/// characters and without passwords in URLs.
pub fn summarize_pip_output(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if let Some(fault) = lines.iter().rev().find_map(|line| network_fault(line)) {
        let fault: String = without_password(&fault).chars().take(MAX_WORDS / 2).collect();
        let fault: String = fault.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        return format!(
            "the package index cannot be reached: {fault}; check the network, the proxy, and the address in agent.toml"
        );
    }
    let mut said: Vec<String> = Vec::new();
    let mut open = false;
    for line in &lines {
        // Indented lines after an error belong to it.
        if line.starts_with("ERROR: ") {
            open = true;
            said.push((*line).trim().to_owned());
        } else if let Some(last) = said.last_mut().filter(|_| open && line.starts_with(char::is_whitespace)) {
            *last = format!("{last} {}", line.trim());
        } else {
            open = false;
        }
    }
    if said.is_empty() {
        said = lines[lines.len().saturating_sub(3)..].iter().map(|line| line.trim().to_owned()).collect();
    }
    said.dedup();
    // The last error ended pip; earlier ones explain the cause, if there is room.
    let mut words = String::new();
    for line in said.iter().rev() {
        let line = without_password(line.strip_prefix("ERROR: ").unwrap_or(line.as_str()));
        if !words.is_empty() && words.len() + line.len() > MAX_WORDS {
            break;
        }
        words = if words.is_empty() { line } else { format!("{line}; {words}") };
    }
    words.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(MAX_WORDS).collect()
}

/// Returns the error of a connection that pip gave up on. pip then continues as if the index were empty, and reports
/// missing versions.
fn network_fault(line: &str) -> Option<String> {
    if line.contains("There was a problem confirming the ssl certificate") {
        return Some(line.trim_start_matches("WARNING: ").trim_end_matches(" - skipping").to_owned());
    }
    // The warning before the last attempt.
    let (_, said) = line.split_once("Retry(total=0,")?.1.split_once("after connection broken by ")?;
    let (fault, path) = said.rsplit_once(": ").unwrap_or((said, ""));
    // urllib3 includes memory addresses of its objects.
    let fault = fault.rsplit_once(">: ").map_or(fault, |(_, fault)| fault);
    let fault = fault.trim_matches(['\'', '"', '(', ')']);
    Some(if path.is_empty() { fault.to_owned() } else { format!("{fault} ({path})") })
}

/// Masks credentials in URLs: `https://user:secret@host/` becomes `https://****@host/`.
fn without_password(line: &str) -> String {
    let mut shown = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let host = after.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(after.len());
        rest = match after[..host].rfind('@') {
            Some(at) => {
                shown.push_str("****");
                &after[at..]
            }
            None => after,
        };
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interpreter() -> Interpreter {
        Interpreter {
            executable: "/usr/bin/python3.11".into(),
            abi: "cpython-311-x86_64-linux-gnu".to_owned(),
            platform: "linux-x86_64".to_owned(),
            version: "3.11.2".to_owned(),
            venv: true,
            pip: Some("/usr/share/python-wheels/pip.whl".into()),
        }
    }

    #[test]
    fn the_name_of_an_environment_depends_on_what_determines_its_content() {
        let (plain, patch) = (interpreter(), Interpreter { version: "3.11.9".to_owned(), ..interpreter() });
        assert_eq!(plain.venv_key(b"six\n"), patch.venv_key(b"six\n"));
        let others = [
            Interpreter { abi: "cpython-312-x86_64-linux-gnu".to_owned(), ..interpreter() },
            Interpreter { platform: "linux-aarch64".to_owned(), ..interpreter() },
            Interpreter { executable: "/opt/python/bin/python3.11".into(), ..interpreter() },
        ];
        assert!(others.iter().all(|other| other.venv_key(b"six\n") != plain.venv_key(b"six\n")));
        assert_ne!(plain.venv_key(b"six\n"), plain.venv_key(b"six \n"));
    }

    #[test]
    fn an_unusable_interpreter_is_reported_with_the_missing_module() {
        assert_eq!(interpreter().why_unusable(), None);
        assert!(Interpreter { pip: None, ..interpreter() }.why_unusable().unwrap().contains("ensurepip"));
        assert!(Interpreter { venv: false, ..interpreter() }.why_unusable().unwrap().contains("module venv"));
    }

    #[test]
    fn source_is_built_only_if_allowed_and_local_wheels_need_no_network() {
        let say = |config: &PythonConfig, hashed| {
            install_arguments(config, Path::new("/pip.whl"), Path::new("/r.txt"), 60, hashed).join(" ")
        };
        let strict = PythonConfig::default();
        assert!(say(&strict, false).contains("--require-hashes"), "hashes are required unless the site says otherwise");
        let plain = PythonConfig { require_hashes: false, ..strict };
        assert!(say(&plain, false).contains("--only-binary :all:") && !say(&plain, false).contains("index"));
        assert!(say(&plain, true).contains("--require-hashes") && !say(&plain, false).contains("hashes"));
        assert!(!say(&PythonConfig { allow_source: true, ..plain.clone() }, false).contains("only-binary"));
        let wheels = PythonConfig { wheels: Some("/w".into()), ..plain };
        assert!(say(&wheels, false).contains("--no-index --find-links /w --requirement /r.txt"));
        let both = PythonConfig { index: Some("https://i.example/simple".to_owned()), ..wheels };
        assert!(say(&both, false).contains("--index-url https://i.example/simple --find-links /w"));
    }

    #[test]
    fn a_summary_of_pip_is_short_and_without_passwords_or_control_characters() {
        let output = "Looking in indexes: https://me:canary@index.example/simple\nWARNING: x\n\
                      ERROR: Could not find a version \x1b[31mof nosuch (from https://me:canary@index.example/simple)\n\
                      ERROR: No matching distribution found for nosuch==1\n";
        let said = summarize_pip_output(output.as_bytes());
        assert_eq!(
            said,
            "Could not find a version \u{fffd}[31mof nosuch (from https://****@index.example/simple); \
             No matching distribution found for nosuch==1"
        );
        let retry = |left: u8| {
            format!(
                "WARNING: Retrying (Retry(total={left}, connect=None)) after connection broken by 'NewConnectionError('<pip.Conn \
                 object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused')': /simple/greet/\n"
            )
        };
        let end = "ERROR: No matching distribution found for greet==1\n";
        assert_eq!(
            summarize_pip_output(format!("{}{}{end}", retry(1), retry(0)).as_bytes()),
            "the package index cannot be reached: Failed to establish a new connection: [Errno 111] Connection refused \
             (/simple/greet/); check the network, the proxy, and the address in agent.toml"
        );
        assert_eq!(
            summarize_pip_output(format!("{}{end}", retry(1)).as_bytes()),
            "No matching distribution found for greet==1"
        );
        assert_eq!(summarize_pip_output(b"a\nb\n\nc\nd"), "b; c; d");
        assert_eq!(
            summarize_pip_output(b"ERROR: no match:\n  six==1\n    Got x\nhint\n  more\n"),
            "no match: six==1 Got x"
        );
        assert_eq!(summarize_pip_output(b""), "");
        assert!(summarize_pip_output("ERROR: \u{e9}".repeat(5000).as_bytes()).chars().count() <= 700);
    }
}
