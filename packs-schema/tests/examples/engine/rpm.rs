//! Packages of rpm: the real rpm with keys and a database of its own, and the real dnf with a repository of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use super::gpg::{Gpg, stdout_of};
use super::{Host, digest, installs, scripts, tls_server};
use crate::driver::{Ended, action, have, python, skip};
use crate::service::{programs, script};

/// Builder of packages, and the keys that this host's rpm trusts, in a database of its own.
struct Rpms {
    gpg: Gpg,
    dir: TempDir,
}

impl Rpms {
    /// Returns `None` where the host lacks what the test needs.
    fn new(test: &str) -> Option<Rpms> {
        if !["python3", "rpm", "rpmbuild", "rpmsign", "gpg", "gpg-agent", "gpgconf"]
            .iter()
            .all(|program| have(test, program))
            || !installs(test)
        {
            return None;
        }
        let rpms = Rpms { gpg: Gpg::new(), dir: TempDir::new().unwrap() };
        let (keys, database) = (rpms.at("site.asc"), rpms.at("database"));
        fs::write(&keys, rpms.gpg.run(&["--armor", "--export", "site@example.com"])).unwrap();
        fs::create_dir(&database).unwrap();
        stdout_of(&Command::new("rpm").arg("--dbpath").arg(&database).arg("--import").arg(&keys).output().unwrap());
        Some(rpms)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Builds a good version of the fake agent.
    fn build(&self, version: &str, signer: Option<&str>) -> PathBuf {
        let spec = format!(
            "%global debug_package %{{nil}}\n%global __os_install_post %{{nil}}\n\
             Name: bolt-agent\nVersion: {version}\nRelease: 1\nSummary: x\nLicense: Apache-2.0\nAutoReqProv: no\n\
             %description\nx\n%install\nlib=%{{buildroot}}/usr/lib/bolt\nmkdir -p $lib\ncp /bin/sleep $lib/bolt-launch\n\
             echo good >$lib/conduct\nprintf '#!/bin/sh\\nexit 0\\n' >$lib/bolt-agent\nchmod 755 $lib/bolt-agent\n\
             %files\n/usr/lib/bolt\n"
        );
        let (top, file) = (self.at(&format!("top-{version}-{}", signer.is_some())), self.at("agent.spec"));
        fs::write(&file, spec).unwrap();
        let define = format!("_topdir {}", top.display());
        stdout_of(&Command::new("rpmbuild").args(["--quiet", "-bb", "--define", &define]).arg(&file).output().unwrap());
        let arch = stdout_of(&Command::new("rpm").args(["--eval", "%{_arch}"]).output().unwrap());
        let arch = String::from_utf8(arch).unwrap().trim().to_owned();
        let built = top.join(format!("RPMS/{arch}/bolt-agent-{version}-1.{arch}.rpm"));
        if let Some(signer) = signer {
            let (name, home) = (format!("_gpg_name {signer}"), format!("_gpg_path {}", self.gpg.home.path().display()));
            let sign = ["--addsign", "--define", "__gpg /usr/bin/gpg", "--define", &name, "--define", &home];
            stdout_of(&Command::new("rpmsign").args(sign).arg(&built).output().unwrap());
        }
        built
    }

    /// Writes an rpm that trusts the key of the site.
    fn trust(&self, bin: &Path) {
        let database = self.at("database");
        let text = format!(
            "case $1 in --checksig) set -- --dbpath '{}' \"$@\" ;; esac\nexec /usr/bin/rpm \"$@\"\n",
            database.display()
        );
        script(bin, "rpm", &text);
    }
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
    let Some(rpms) = Rpms::new("packages_of_rpm_are_described_installed_and_taken_from_trusted_signers_only") else {
        return;
    };
    let signed = |version: &str| rpms.build(version, Some("site@example.com"));
    let (old, new) = (signed("1.0"), signed("1.1"));
    let (unsigned, foreign) = (rpms.build("1.2", None), rpms.build("1.3", Some("stranger@example.com")));
    let bin = programs(&[]);
    rpms.trust(bin.path());

    let actions = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bolt_engine/actions");
    fs::create_dir(rpms.at("root")).unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.path().display());
    let mut asked = Command::new(python());
    asked.args(["-c", ASK]).arg(actions).arg(rpms.at("root")).args([&old, &new, &unsigned, &foreign]);
    let answer = String::from_utf8(stdout_of(&asked.env("PATH", path).output().unwrap())).unwrap();
    let line = answer.lines().find_map(|line| line.strip_prefix("ANSWERS ")).unwrap_or_else(|| panic!("{answer}"));
    let answers: serde_json::Value = serde_json::from_str(line).unwrap();

    assert_eq!((&answers["before"], &answers["not a package"]), (&json!(""), &json!(null)));
    assert_eq!(answers["described"][0], "bolt-agent", "{answers}");
    assert_eq!(answers["described"][1], "1.1-1", "{answers}");
    assert_eq!(answers["newer"], json!([true, false, false]));
    let installed = |version: &str| json!([null, version, "Rpm"]);
    assert_eq!(answers["installed"], json!([installed("1.0-1"), installed("1.1-1"), installed("1.0-1")]), "{answers}");
    assert_eq!(fs::read_to_string(rpms.at("root/usr/lib/bolt/conduct")).unwrap(), "good\n");
    let signatures = &answers["signatures"];
    assert_eq!(signatures[0], "accepted", "{answers}");
    for refused in [&signatures[1], &signatures[2]] {
        assert!(refused.as_str().unwrap().contains("not signed by a key that rpm trusts"), "{answers}");
    }
}

/// The host with a dnf of its own, whose one repository is a directory, and the first version installed by rpm.
struct Dnf {
    host: Host,
    rpms: Rpms,
    repository: PathBuf,
}

impl Dnf {
    fn new(test: &str) -> Option<Dnf> {
        if !["dnf", "createrepo_c", "openssl"].iter().all(|program| have(test, program)) {
            return None;
        }
        if !Path::new("/usr/lib/python3/dist-packages/dnf-plugins/download.py").exists() {
            skip(test, "dnf-plugins-core is not installed");
            return None;
        }
        let rpms = Rpms::new(test)?;
        let dir = TempDir::new().unwrap();
        let (root, repository, dnf) = (dir.path().join("root"), dir.path().join("repository"), dir.path().join("dnf"));
        for directory in [&root.join("etc/bolt"), &root.join("run/bolt"), &repository, &dnf.join("repos")] {
            fs::create_dir_all(directory).unwrap();
        }
        let (server, port) = tls_server(dir.path(), dir.path(), &[]);
        fs::write(root.join("etc/bolt/agent.toml"), format!("[api]\nlisten = \"127.0.0.1:{port}\"\n")).unwrap();
        let host = Host { bin: programs(&scripts(&root)), dir, _server: server };
        rpms.trust(host.bin.path());
        let at = dnf.display();
        let config = format!(
            "[main]\nreposdir={at}/repos\ncachedir={at}/cache\npersistdir={at}/persist\nlogdir={at}\nreleasever=1\n"
        );
        fs::write(dnf.join("dnf.conf"), config).unwrap();
        let site = format!("[site]\nname=site\nbaseurl=file://{}\ngpgcheck=1\n", repository.display());
        fs::write(dnf.join("repos/site.repo"), site).unwrap();
        // Debian's rpm has its database in the home directory.
        let program = format!(
            "HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin exec /usr/bin/dnf --config '{at}/dnf.conf' --installroot '{}' \"$@\"\n",
            root.display()
        );
        script(host.bin.path(), "dnf", &program);
        let first = rpms.build("1.0", Some("site@example.com"));
        let mut install = Command::new("rpm");
        install.env("HOME", "/root").arg("--root").arg(host.root()).arg("-U").arg(first);
        stdout_of(&install.output().unwrap());
        host.systemctl("restart");
        Some(Dnf { host, rpms, repository })
    }

    /// Adds a version to the repository; returns its file.
    fn publish(&self, version: &str, signer: Option<&str>) -> PathBuf {
        let built = self.rpms.build(version, signer);
        fs::copy(&built, self.repository.join(built.file_name().unwrap())).unwrap();
        stdout_of(&Command::new("createrepo_c").arg("--quiet").arg(&self.repository).output().unwrap());
        built
    }

    fn upgrade(&self, version: &str, sha256: Option<&str>) -> Ended {
        let site = json!({"root": self.host.root(), "directory": self.host.dir.path().join("kept")});
        let mut parameters = json!({"version": version, "start_wait": 3, "settle": 0});
        if let Some(sha256) = sha256 {
            parameters["sha256"] = json!(sha256);
        }
        action("bolt_engine.upgrade", parameters).programs(self.host.bin.path()).config(site).go()
    }

    fn installed(&self) -> String {
        let mut asked = Command::new("rpm");
        asked.env("HOME", "/root").arg("--root").arg(self.host.root()).args([
            "-q",
            "--qf",
            "%{VERSION}-%{RELEASE}",
            "bolt-agent",
        ]);
        String::from_utf8(stdout_of(&asked.output().unwrap())).unwrap()
    }
}

#[test]
fn a_package_comes_from_a_repository_of_dnf_and_from_a_signer_that_rpm_trusts() {
    let Some(dnf) = Dnf::new("a_package_comes_from_a_repository_of_dnf_and_from_a_signer_that_rpm_trusts") else {
        return;
    };
    let site = Some("site@example.com");
    dnf.publish("1.0", site);
    dnf.publish("1.1", site);
    let ended = dnf.upgrade("1.1-1", None).well();
    assert_eq!((&ended.result["outcome"], dnf.installed().as_str()), (&json!("upgraded"), "1.1-1"));
    assert_eq!(dnf.host.kept(), ["current.rpm", "lock", "previous.rpm"]);
    dnf.upgrade("9.9-1", None).refused(3, "dnf cannot obtain bolt-agent-9.9-1");

    // Published after dnf has read the lists, which it keeps for two days by itself.
    let file = dnf.publish("1.2", site);
    dnf.upgrade("1.2-1", Some(&"0".repeat(64))).refused(1, "not the expected");
    assert_eq!(dnf.upgrade("1.2-1", Some(&digest(&file))).well().result["outcome"], "upgraded");

    dnf.publish("1.3", None);
    dnf.upgrade("1.3-1", None).refused(1, "not signed by a key that rpm trusts");
    dnf.publish("1.4", Some("stranger@example.com"));
    dnf.upgrade("1.4-1", None).refused(1, "not signed by a key that rpm trusts");
    assert_eq!(dnf.installed(), "1.2-1");

    // Without its repository, the version that is installed stays, and the message names the cause.
    fs::rename(&dnf.repository, dnf.repository.with_extension("away")).unwrap();
    let refused = dnf.upgrade("1.5-1", None);
    assert!(refused.stdout.contains("dnf makecache failed"), "{}", refused.stdout);
    refused.refused(3, "dnf cannot obtain bolt-agent-1.5-1");
    assert_eq!(dnf.installed(), "1.2-1");
}

#[test]
fn pending_updates_are_those_that_the_lists_of_dnf_have() {
    let Some(dnf) = Dnf::new("pending_updates_are_those_that_the_lists_of_dnf_have") else { return };
    dnf.publish("1.0", None);
    dnf.publish("1.2", None);
    let bin = dnf.host.bin.path();
    stdout_of(&Command::new(bin.join("dnf")).args(["-q", "makecache"]).output().unwrap());
    // A host without apt-get.
    let found = action("linux.pending_updates", json!({})).only(bin).go().well().result;
    let newest = json!([{"name": "bolt-agent", "installed": "", "available": "1.2-1", "security": false}]);
    assert_eq!((&found["manager"], &found["count"], &found["packages"]), (&json!("dnf"), &json!(1), &newest));
}
