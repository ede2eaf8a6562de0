//! The commands by which the operators' paper bakes an image, run on the root file system of the booted machine.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use bolt_tests::World;
use tempfile::TempDir;

use crate::image_root::Root;
use crate::{built, root};

/// Heading of the section with the commands.
const SECTION: &str = "### Bake an image\n";

#[test]
fn an_image_is_baked_by_the_commands_of_the_paper() {
    let test = "an_image_is_baked_by_the_commands_of_the_paper";
    let (Some(image), Some(built)) = (Root::new(test), built(test)) else { return };
    let paper = fs::read_to_string(root().join("systemd/README.md")).unwrap();
    let (_, section) = paper.split_once(SECTION).unwrap();
    let (_, block) = section.split_once("```console\n").unwrap();
    let (block, _) = block.split_once("```\n").unwrap();
    let commands: Vec<&str> = block.lines().map(|line| line.strip_prefix("$ ").unwrap()).collect();
    assert!(commands.len() > 5, "{commands:?}");

    let here = TempDir::new().unwrap();
    for directory in ["bin", "ca", "keys"] {
        fs::create_dir(here.path().join(directory)).unwrap();
    }
    let world = World::empty();
    fs::copy(world.site.ca(), here.path().join("ca/ca.pem")).unwrap();
    fs::copy(world.site.repository().join("metadata/1.root.json"), here.path().join("keys/root.json")).unwrap();
    let grant = "[[grant]]\nprincipal = \"spiffe://example/oncall\"\nverbs = [\"read\"]\nactions = [\"*\"]\n";
    fs::write(here.path().join("grants.toml"), grant).unwrap();
    fs::write(here.path().join("bin/sudo"), "#!/bin/sh\nexec \"$@\"\n").unwrap();
    fs::set_permissions(here.path().join("bin/sudo"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink(built.first.path(), here.path().join("packages")).unwrap();
    symlink(image.path(), here.path().join("image")).unwrap();
    for command in commands {
        let script = format!("cd {0}; PATH={0}/bin:$PATH; {command}", here.path().display());
        let output = image.command(&["sh", "-ec", &script]);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    let config = image.sh("cat /etc/bolt/agent.toml");
    for line in ["metadata = true", "listen = \"0.0.0.0:8443\"", "url = \"s3://example-packs/bolt\""] {
        assert!(config.lines().any(|found| found == line), "{line}: {config}");
    }
    assert!(!config.lines().any(|line| line.starts_with("id = ")), "{config}");
    assert_eq!(
        image.sh("cd /etc/systemd/system/multi-user.target.wants && ls -d bolt*"),
        "bolt-executions.service\nbolt-launch.service\n"
    );
    assert_eq!(image.calls(), ["--system daemon-reload", "enable bolt-executions bolt-launch"], "nothing is started");
    let checked = image.sh("/usr/lib/bolt/bolt-agent check-config 2>&1; true");
    let problems = checked.lines().filter(|line| !line.starts_with("/etc/bolt/tls/instance."));
    assert_eq!(problems.collect::<Vec<_>>(), ["/etc/bolt/agent.toml: 2 errors, 0 warnings"], "{checked}");
    assert_eq!(
        image.sh("ls /var/lib/bolt/exec /opt/bolt/packs /tmp"),
        "/opt/bolt/packs:\n\n/tmp:\n\n/var/lib/bolt/exec:\n"
    );
}
