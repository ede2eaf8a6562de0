//! The root file system of the booted machine, Debian's with systemd's programs, in which packages are installed.
//!
//! The image is mounted read-only below an overlay, in a mount namespace of its own. A script in place of `systemctl` records its
//! calls, and enables and disables units as the real one does.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use bolt_tests::{is_root, machine, skip};
use tempfile::TempDir;

/// Mounts the image `$1` below `$2`, and holds the namespace until its standard input ends.
const HOLD: &str = r#"set -e
cd "$2"
mkdir lower upper work root
mount -o loop,ro "$1/disk.img" lower
mount -t overlay overlay -o "lowerdir=$2/lower,upperdir=$2/upper,workdir=$2/work" root
mount -t proc proc root/proc
mkdir -p root/run/systemd/system
mv root/usr/bin/systemctl root/usr/bin/systemctl.real
cat >root/usr/bin/systemctl <<'END'
#!/bin/sh
echo "$*" >>/calls
case $1 in
enable | --no-reload) exec systemctl.real --root=/ "$@" ;;
try-restart) test ! -e /does-not-start ;;
esac
END
chmod 755 root/usr/bin/systemctl
echo mounted
exec cat
"#;

/// A root file system that is mounted as long as the value lives.
pub(crate) struct Root {
    directory: TempDir,
    holder: Child,
}

impl Root {
    /// Mounts it. `None`, with the reason in the output, where the host cannot.
    pub(crate) fn new(test: &str) -> Option<Root> {
        let image = match machine::image() {
            Ok(image) if is_root() => image,
            Ok(_) => return none(test, "it mounts an image, which takes root"),
            Err(why) => return none(test, &why),
        };
        let directory = TempDir::new().unwrap();
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", HOLD, "sh"]).arg(image).arg(directory.path());
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = unshare.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line != "mounted\n" {
            let mut why = String::new();
            holder.stderr.take().unwrap().read_to_string(&mut why).unwrap();
            holder.wait().unwrap();
            return none(test, &format!("the image cannot be mounted: {why}"));
        }
        Some(Root { directory, holder })
    }

    /// Path at which the root is mounted, for [`command`](Self::command) alone.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// Runs a command of the host where the root is mounted.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).args(arguments);
        nsenter.output().unwrap()
    }

    /// Runs a script inside the root; returns its output.
    pub(crate) fn sh(&self, script: &str) -> String {
        let root = self.path();
        let output = self.command(&["chroot", root.to_str().unwrap(), "sh", "-c", script]);
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs rpm with its scripts, which must succeed; returns what they wrote to standard error.
    pub(crate) fn rpm(&self, arguments: &[&str]) -> String {
        let root = format!("--root={}", self.path().display());
        // Debian's packages are not in the database of rpm.
        let output = self.command(&[&["rpm", &root, "--nodeps"], arguments].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !said.contains("scriptlet failed"), "rpm {arguments:?}: {said}");
        said
    }

    /// Calls of systemctl since the last time.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.sh("touch /calls; cat /calls; rm /calls").lines().map(str::to_owned).collect()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn none(test: &str, why: &str) -> Option<Root> {
    skip(test, why);
    None
}
