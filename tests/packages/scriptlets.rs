//! The scripts of the `.rpm` packages, run by rpm in the root file system of the booted machine: Debian's, with systemd's programs.

use std::path::{Path, PathBuf};

use crate::image_root::Root;
use crate::{build_version, built, package};

/// Calls of systemctl when the agent is removed; systemd reads its units again after every change.
const REMOVAL: [&str; 3] = [
    "stop bolt-launch.socket bolt-launch.service bolt-executions.service",
    "--no-reload disable bolt-launch.socket bolt-launch.service bolt-executions.service",
    RELOAD,
];
const RELOAD: &str = "--system daemon-reload";
const RESTART: &str = "try-restart bolt-launch.service";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn scripts_of_the_rpms_do_what_an_administrator_expects() {
    let test = "scripts_of_the_rpms_do_what_an_administrator_expects";
    let Some(root) = Root::new(test) else { return };
    let Some(built) = built(test) else { return };
    let later = build_version("9.0.0");
    let versions = |name: &str| [built.first.path(), later.path()].map(|directory| package(directory, name, "rpm"));
    agent(&root, &versions("bolt-agent"));
    client(&root, &versions("bolt-client"));
}

#[test]
fn a_purge_of_the_deb_leaves_nothing() {
    let test = "a_purge_of_the_deb_leaves_nothing";
    let Some(root) = Root::new(test) else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/packages/agent/deb/postrm");
    root.command(&["cp", text(&script), text(&root.path().join("postrm"))]);
    let ours = "/etc/bolt /opt/bolt /var/lib/bolt /var/lib/bolt-engine /run/bolt";
    let drop_in = "/etc/systemd/system/bolt-launch.service.d";
    root.sh(&format!(
        "for d in {ours} /opt/bolt/packs {drop_in}; do mkdir -p $d && touch $d/file; done; rm /opt/bolt/file"
    ));
    let listed = format!("ls -d {ours} {drop_in} 2>/dev/null || true");
    for call in ["remove", "upgrade 2"] {
        root.sh(&format!("sh /postrm {call} && test -e /var/lib/bolt/file && test -e /var/lib/bolt-engine/file"));
    }
    root.sh("sh /postrm purge");
    assert_eq!(root.sh(&listed), "");
}

/// Accounts are made, what runs is restarted by an upgrade, and disabled at the end.
fn agent(root: &Root, [first, second]: &[PathBuf; 2]) {
    let said = root.rpm(&["-i", text(first)]);
    assert!(!said.contains("can log in"), "{said}");
    assert_eq!(root.calls(), [RELOAD], "nothing is enabled or started");
    let accounts = root.sh("grep -E '^bolt(-sync)?:' /etc/passwd | sort");
    assert_eq!(accounts.lines().count(), 2, "{accounts}");
    assert!(accounts.lines().all(|line| line.ends_with("/usr/sbin/nologin")), "{accounts}");
    let owners = "stat -c '%n %U:%G %a' /etc/bolt/tls /etc/bolt/packs /opt/bolt/packs /var/lib/bolt /run/bolt";
    assert_eq!(
        root.sh(owners),
        "/etc/bolt/tls root:bolt 750\n/etc/bolt/packs root:bolt-sync 750\n/opt/bolt/packs bolt-sync:bolt-sync 755\n\
         /var/lib/bolt bolt:bolt 700\n/run/bolt root:root 711\n"
    );
    assert_eq!(root.rpm(&["-V", "bolt-agent"]).trim(), "");

    let enabled = "ls /etc/systemd/system/multi-user.target.wants | grep bolt || true";
    assert_eq!(root.sh(enabled), "");
    root.sh("systemctl enable bolt-launch bolt-executions 2>/dev/null");
    root.sh("echo '# changed' >>/etc/bolt/agent.toml && touch /var/lib/bolt/exec/kept");
    root.calls();
    root.rpm(&["-U", text(second)]);
    assert_eq!(root.calls(), [RELOAD, RESTART, RELOAD], "the old package's scripts stop and disable nothing");
    assert_eq!(root.sh(enabled), "bolt-executions.service\nbolt-launch.service\n");
    assert_eq!(root.sh("grep -E '^bolt(-sync)?:' /etc/passwd | sort"), accounts);

    // Back again, with a launcher that does not start, a unit that was installed by hand, and an account of somebody.
    let somebody = |from: &str, to: &str| root.sh(&format!("sed -i '/^bolt:/s#{from}$#{to}#' /etc/passwd"));
    somebody("/usr/sbin/nologin", "/bin/sh");
    root.sh("touch /does-not-start /etc/systemd/system/bolt-launch.service");
    let said = root.rpm(&["-U", "--oldpackage", text(first)]);
    assert!(said.contains("bolt-launch.service did not start again: see journalctl -u bolt-launch"), "{said}");
    assert!(said.contains("/etc/systemd/system/bolt-launch.service has precedence"), "{said}");
    assert!(said.contains("the account bolt can log in (/bin/sh)") && !said.contains("bolt-sync can"), "{said}");
    somebody("/bin/sh", "/usr/sbin/nologin");
    root.sh("rm /etc/systemd/system/bolt-launch.service && tail -n 1 /etc/bolt/agent.toml | grep changed");

    root.calls();
    root.rpm(&["-e", "bolt-agent"]);
    assert_eq!(root.calls(), REMOVAL);
    assert_eq!(root.sh(enabled), "");
    root.sh("tail -n 1 /etc/bolt/agent.toml.rpmsave | grep changed && test -e /var/lib/bolt/exec/kept");
    assert_eq!(root.sh("grep -E '^bolt(-sync)?:' /etc/passwd | sort"), accounts, "their ids are never given away");
    assert_eq!(root.sh("ls -d /usr/lib/bolt /usr/share/*/bolt-agent 2>/dev/null || true"), "");
}

/// The name `bolt` is offered, and withdrawn.
fn client(root: &Root, [first, second]: &[PathBuf; 2]) {
    root.rpm(&["-i", text(first)]);
    assert_eq!(root.sh("readlink -f /usr/bin/bolt"), "/usr/bin/bolt-client\n");
    root.sh("bolt --version && test -e /usr/share/bash-completion/completions/bolt");
    root.rpm(&["-U", text(second)]);
    assert_eq!(root.sh("readlink -f /usr/bin/bolt"), "/usr/bin/bolt-client\n");
    // Another program of that name, as Puppet Bolt would offer it.
    root.sh("cp /bin/true /usr/bin/other && update-alternatives --install /usr/bin/bolt bolt /usr/bin/other 90");
    assert_eq!(root.sh("readlink -f /usr/bin/bolt"), "/usr/bin/other\n");
    root.rpm(&["-e", "bolt-client"]);
    assert_eq!(root.sh("readlink -f /usr/bin/bolt"), "/usr/bin/other\n");
    assert_eq!(root.sh("find / -xdev -name 'bolt-client*' -not -path '/proc/*'"), "");
}
