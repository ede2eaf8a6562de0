//! Packages from the repositories of apt: the real apt-get with lists, keys and a signed repository of its own.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::gpg::{Gpg, stdout_of};
use super::{Host, Version, digest};
use crate::driver::{Ended, action, have};
use crate::service::script;

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
            "export APT_CONFIG={0}/conf\nexec /usr/bin/apt-get -o Dir::Etc::sourcelist={0}/etc/sources.list \
             -o Dir::Etc::sourceparts=/dev/null -o Dir::State={0}/state -o Dir::Cache={0}/cache \
             -o Dir::State::status={1}/var/lib/dpkg/status -o APT::Sandbox::User=root \"$@\"\n",
            apt.display(),
            host.root().display()
        );
        script(host.bin.path(), "apt-get", &program);
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
        let release = format!(
            "Label: Example-Security\nSuite: stable\nDate: {date}SHA256:\n {} {} Packages\n",
            digest(&list),
            packages.len()
        );
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

#[test]
fn pending_updates_are_those_that_the_lists_of_apt_have() {
    let Some(apt) = Apt::new("pending_updates_are_those_that_the_lists_of_apt_have") else { return };
    let pending = || action("linux.pending_updates", json!({})).programs(apt.host.bin.path()).go().well().result;
    assert_eq!((&pending()["manager"], &pending()["count"]), (&json!("apt"), &json!(0)));
    apt.publish(&["1.0", "1.1", "1.2"], "site@example.com");
    stdout_of(&Command::new(apt.host.bin.path().join("apt-get")).arg("update").output().unwrap());
    let found = pending();
    let newest = json!([{"name": "bolt-agent", "installed": "1.0", "available": "1.2", "security": true}]);
    assert_eq!((&found["count"], &found["security"], &found["packages"]), (&json!(1), &json!(1), &newest));
    assert_eq!(apt.host.installed(), "1.0");
}
