//! Packages from the repositories that a host has: the real apt-get with lists, keys and a signed repository of its own, and the
//! real rpm with keys and a database of its own.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;
use tempfile::TempDir;

use super::{Host, Version, digest, installs};
use crate::driver::{Ended, action, have};

/// Signs with keys of its own. Dropping it stops the gpg-agent that gpg started.
struct Gpg {
    home: TempDir,
}

impl Gpg {
    fn new() -> Gpg {
        let gpg = Gpg { home: TempDir::new().unwrap() };
        for name in ["site", "stranger"] {
            gpg.run(&["--quick-generate-key", &format!("{name}@example.com"), "rsa2048", "sign", "never"]);
        }
        gpg
    }

    fn run(&self, arguments: &[&str]) -> Vec<u8> {
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
fn stdout_of(output: &Output) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.clone()
}

/// The host with an apt of its own: its one repository is a directory, whose lists the key of the site signs.
struct Apt {
    host: Host,
    gpg: Gpg,
    repository: PathBuf,
}

impl Apt {
    fn new(test: &str) -> Option<Apt> {
        if !["apt-get", "gpg", "gpg-agent", "gpgconf", "gpgv"].iter().all(|program| have(test, program)) {
            return None;
        }
        let host = Host::new(test)?;
        let gpg = Gpg::new();
        let apt = host.dir.path().join("apt");
        let repository = host.dir.path().join("repository");
        for directory in ["etc", "state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(apt.join(directory)).unwrap();
        }
        fs::create_dir(&repository).unwrap();
        let key = apt.join("etc/site.gpg");
        fs::write(&key, gpg.run(&["--export", "site@example.com"])).unwrap();
        // With `file:` the lists would be links, and no list would be of an earlier time.
        let list = format!("deb [signed-by={}] copy:{} ./\n", key.display(), repository.display());
        fs::write(apt.join("etc/sources.list"), list).unwrap();
        // Read first, so that nothing of the host's own configuration is: it may start programs after an update.
        fs::write(apt.join("conf"), "Dir::Etc::main \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n").unwrap();
        let program = format!(
            "#!/bin/sh\nexport APT_CONFIG={0}/conf\nexec /usr/bin/apt-get -o Dir::Etc::sourcelist={0}/etc/sources.list \
             -o Dir::Etc::sourceparts=/dev/null -o Dir::State={0}/state -o Dir::Cache={0}/cache \
             -o Dir::State::status={1}/var/lib/dpkg/status -o APT::Sandbox::User=root \"$@\"\n",
            apt.display(),
            host.root().display()
        );
        let path = host.bin.path().join("apt-get");
        fs::write(&path, program).unwrap();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Some(Apt { host, gpg, repository })
    }

    /// Publishes good versions, in lists that this key signs.
    fn publish(&self, versions: &[&str], signer: &str) {
        let mut packages = String::new();
        for version in versions {
            let built = self.host.package(version, Version::Good);
            let name = built.file_name().unwrap().to_str().unwrap().to_owned();
            fs::copy(&built, self.repository.join(&name)).unwrap();
            let control = stdout_of(&Command::new("dpkg-deb").arg("--field").arg(&built).output().unwrap());
            let (size, sum) = (fs::metadata(&built).unwrap().len(), digest(&built));
            packages += &String::from_utf8(control).unwrap();
            writeln!(packages, "Filename: ./{name}\nSize: {size}\nSHA256: {sum}\n").unwrap();
        }
        let list = self.repository.join("Packages");
        fs::write(&list, &packages).unwrap();
        let date = String::from_utf8(stdout_of(&Command::new("date").arg("-Ru").output().unwrap())).unwrap();
        let release = format!("Suite: stable\nDate: {date}SHA256:\n {} {} Packages\n", digest(&list), packages.len());
        let plain = self.repository.join("Release");
        fs::write(&plain, release).unwrap();
        let signed = self.repository.join("InRelease");
        let names = [&signed, &plain].map(|path| path.to_str().unwrap());
        self.gpg.run(&["--local-user", signer, "--output", names[0], "--clearsign", names[1]]);
    }

    fn upgrade(&self, version: &str, sha256: Option<&str>) -> Ended {
        let site = json!({"source": "apt", "root": self.host.root(), "directory": self.host.dir.path().join("kept")});
        let mut parameters = json!({"version": version, "start_wait": 3, "settle": 0});
        if let Some(sha256) = sha256 {
            parameters["sha256"] = json!(sha256);
        }
        action("bolt_engine.upgrade", parameters).programs(self.host.bin.path()).config(site).go()
    }

    fn file(&self, version: &str) -> PathBuf {
        let mut names = fs::read_dir(&self.repository).unwrap().map(|entry| entry.unwrap().path());
        names.find(|path| path.to_string_lossy().contains(&format!("_{version}_"))).unwrap()
    }
}

#[test]
fn a_package_comes_from_a_repository_of_apt_whose_signature_and_digests_hold() {
    let Some(apt) = Apt::new("a_package_comes_from_a_repository_of_apt_whose_signature_and_digests_hold") else {
        return;
    };
    apt.publish(&["1.0", "1.1", "1.2"], "site@example.com");
    let ended = apt.upgrade("1.1", None).well();
    assert_eq!((&ended.result["outcome"], apt.host.installed().as_str()), (&json!("upgraded"), "1.1"));
    assert_eq!(apt.host.kept(), ["current.deb", "lock", "previous.deb"]);
    apt.upgrade("9.9", None).refused(3, "apt-get cannot obtain bolt-agent=9.9");
    apt.upgrade("1.2", Some(&"0".repeat(64))).refused(1, "not the expected");

    // Another file under the name that the signed lists have.
    let mut changed = fs::read(apt.file("1.2")).unwrap();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    fs::write(apt.file("1.2"), changed).unwrap();
    apt.upgrade("1.2", None).refused(3, "apt-get cannot obtain bolt-agent=1.2");

    // Lists of somebody else are not used: the version that only they have is not found.
    apt.publish(&["1.0", "1.1", "1.3"], "stranger@example.com");
    let refused = apt.upgrade("1.3", None);
    assert!(refused.stdout.contains("apt-get update failed"), "{}", refused.stdout);
    refused.refused(3, "apt-get cannot obtain bolt-agent=1.3");
    assert_eq!(apt.host.installed(), "1.1");
    apt.publish(&["1.0", "1.1", "1.3"], "site@example.com");
    apt.upgrade("1.3", Some(&digest(&apt.file("1.3")))).well();
    assert_eq!(apt.host.installed(), "1.3");
}

/// Asks the pack's library about packages of rpm, and prints one line: `ANSWERS` and a JSON object.
const ASK: &str = r#"
import json, os, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from lib.bolt_action import Stop
from lib.packages import Rpm, install, manager
from lib.source import require_signature
root, old, new, unsigned, foreign = sys.argv[2:]
def judged(path):
    try:
        require_signature(path)
        return "accepted"
    except Stop as stop:
        return str(stop.args[-1])
rpm = Rpm(root)
answers = {
    "before": rpm.installed(),
    "described": rpm.describe(new),
    "not a package": rpm.describe(os.path.join(sys.argv[1], "upgrade.py")),
    "newer": [rpm.is_newer("1.10-1", "1.9-1"), rpm.is_newer("1.9-1", "1.10-1"), rpm.is_newer("1.9-1", "1.9-1")],
    "installed": [],
    "signatures": [judged(new), judged(unsigned), judged(foreign)],
}
for path in (old, new, old):
    problem = install(rpm, path)
    answers["installed"].append([problem, rpm.installed(), type(manager(root)).__name__])
print("ANSWERS " + json.dumps(answers))
"#;

#[test]
fn packages_of_rpm_are_described_installed_and_taken_from_trusted_signers_only() {
    let test = "packages_of_rpm_are_described_installed_and_taken_from_trusted_signers_only";
    if !["python3", "rpm", "rpmbuild", "rpmsign", "gpg", "gpg-agent", "gpgconf"]
        .iter()
        .all(|program| have(test, program))
        || !installs(test)
    {
        return;
    }
    let (dir, gpg) = (TempDir::new().unwrap(), Gpg::new());
    let at = |name: &str| dir.path().join(name);
    let build = |version: &str, signer: Option<&str>| {
        let spec = format!(
            "Name: bolt-agent\nVersion: {version}\nRelease: 1\nSummary: x\nLicense: Apache-2.0\nBuildArch: noarch\n\
             %description\nx\n%install\nmkdir -p %{{buildroot}}/usr/lib/bolt\necho {version} >%{{buildroot}}/usr/lib/bolt/conduct\n\
             %files\n/usr/lib/bolt/conduct\n"
        );
        let (top, file) = (at(&format!("top-{version}-{}", signer.is_some())), at("agent.spec"));
        fs::write(&file, spec).unwrap();
        let define = format!("_topdir {}", top.display());
        stdout_of(&Command::new("rpmbuild").args(["--quiet", "-bb", "--define", &define]).arg(&file).output().unwrap());
        let built = top.join(format!("RPMS/noarch/bolt-agent-{version}-1.noarch.rpm"));
        if let Some(signer) = signer {
            let (name, home) = (format!("_gpg_name {signer}"), format!("_gpg_path {}", gpg.home.path().display()));
            let sign = ["--addsign", "--define", "__gpg /usr/bin/gpg", "--define", &name, "--define", &home];
            stdout_of(&Command::new("rpmsign").args(sign).arg(&built).output().unwrap());
        }
        built
    };
    let old = build("1.0", Some("site@example.com"));
    let new = build("1.1", Some("site@example.com"));
    let (unsigned, foreign) = (build("1.2", None), build("1.3", Some("stranger@example.com")));

    // The keys that this host's rpm trusts are in a database of their own.
    let (keys, database) = (at("site.asc"), at("database"));
    fs::write(&keys, gpg.run(&["--armor", "--export", "site@example.com"])).unwrap();
    fs::create_dir(&database).unwrap();
    stdout_of(&Command::new("rpm").arg("--dbpath").arg(&database).arg("--import").arg(&keys).output().unwrap());
    let script = format!(
        "case $1 in --checksig) set -- --dbpath '{}' \"$@\" ;; esac\nexec /usr/bin/rpm \"$@\"\n",
        database.display()
    );
    let bin = crate::service::programs(&[("rpm", &script)]);

    let actions = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bolt_engine/actions");
    fs::create_dir(at("root")).unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.path().display());
    let mut asked = Command::new("python3");
    asked.args(["-c", ASK]).arg(actions).arg(at("root")).args([&old, &new, &unsigned, &foreign]);
    let answer = String::from_utf8(stdout_of(&asked.env("PATH", path).output().unwrap())).unwrap();
    let line = answer.lines().find_map(|line| line.strip_prefix("ANSWERS ")).unwrap_or_else(|| panic!("{answer}"));
    let answers: serde_json::Value = serde_json::from_str(line).unwrap();

    assert_eq!((&answers["before"], &answers["not a package"]), (&json!(""), &json!(null)));
    assert_eq!(answers["described"], json!(["bolt-agent", "1.1-1", "noarch"]));
    assert_eq!(answers["newer"], json!([true, false, false]));
    let installed = |version: &str| json!([null, version, "Rpm"]);
    assert_eq!(answers["installed"], json!([installed("1.0-1"), installed("1.1-1"), installed("1.0-1")]), "{answers}");
    assert_eq!(fs::read_to_string(at("root/usr/lib/bolt/conduct")).unwrap(), "1.0\n");
    let signatures = &answers["signatures"];
    assert_eq!(signatures[0], "accepted", "{answers}");
    for refused in [&signatures[1], &signatures[2]] {
        assert!(refused.as_str().unwrap().contains("not signed by a key that rpm trusts"), "{answers}");
    }
}
