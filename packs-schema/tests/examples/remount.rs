//! Tests of `linux.remount_read_write` on a recorded mount and recorded block devices, with a stand-in for dmesg.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Run, action, can_be_alone};
use crate::service::{programs, script};

/// Messages of a healthy disk.
const HEALTHY: &str = "EXT4-fs (nvme0n1p1): mounted filesystem with ordered data mode. Opts: errors=remount-ro,discard\n\
    EXT4-fs (nvme0n1p1): re-mounted. Opts: errors=remount-ro\nblk_update_request: I/O error, dev nvme1n1, sector 7\n\
    EXT4-fs error (device nvme0n1p12): ext4_find_entry:1455\n";

/// Host with the disk nvme0n1, its first partition mounted read-only, and a logical volume on it.
struct Host {
    place: TempDir,
    bin: TempDir,
}

impl Host {
    fn new(log: &str) -> Host {
        let host = Host { place: TempDir::new().unwrap(), bin: programs(&[]) };
        for directory in ["mount", "number", "block/all/nvme0n1/nvme0n1p1", "block/all/dm-0/slaves/nvme0n1p1"] {
            fs::create_dir_all(host.at(directory)).unwrap();
        }
        fs::write(host.at("block/all/nvme0n1/ro"), "0\n").unwrap();
        fs::write(host.at("block/all/nvme0n1/nvme0n1p1/partition"), "1\n").unwrap();
        for path in ["nvme0n1", "nvme0n1/nvme0n1p1", "dm-0"] {
            let name = path.rsplit('/').next().unwrap();
            symlink(format!("all/{path}"), host.at("block").join(name)).unwrap();
        }
        symlink("/sys/class/block/all/nvme0n1/nvme0n1p1", host.at("number/259:1")).unwrap();
        symlink("/sys/class/block/all/dm-0", host.at("number/253:0")).unwrap();
        host.mounted("259:1", "ro");
        script(host.bin.path(), "dmesg", &format!("cat <<'END'\n{log}END\n"));
        let mount = format!(
            "[[ $* == '-o remount,rw -- {}' ]] || exit 9\ntext=$(<'{1}')\necho \"${{text//ro/rw}}\" >'{1}'\n",
            host.at("mount").display(),
            host.at("mountinfo").display()
        );
        script(host.bin.path(), "mount", &mount);
        host
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Records the mount. Ubuntu's kernel calls the device of the root file system /dev/root, which does not exist.
    fn mounted(&self, number: &str, how: &str) {
        let line = format!("30 1 {number} / {} {how} - ext4 /dev/root {how}\n", self.at("mount").display());
        fs::write(self.at("mountinfo"), line).unwrap();
    }

    fn remount(&self, more: &Value) -> Run {
        let mount = self.at("mount");
        let mut parameters = json!({"mount": mount});
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        // The shell of these commands becomes the action, so that its pid is that of the action.
        let instead = format!(
            "/bin/mount --bind '{0}/block' /sys/class/block\n/bin/mount --bind '{0}/number' /sys/dev/block\n\
             /bin/mount --bind '{0}/mountinfo' /proc/$$/mountinfo",
            self.place.path().display()
        );
        let run = action("linux.remount_read_write", parameters).config(json!({"remount_allow": [mount]}));
        run.programs(self.bin.path()).after(&instead)
    }
}

#[test]
fn a_healthy_disk_is_remounted() {
    if !can_be_alone("a_healthy_disk_is_remounted") {
        return;
    }
    let host = Host::new(HEALTHY);
    assert_eq!(host.remount(&json!({})).noop().go().well().result["outcome"], "would_remount");
    let ended = host.remount(&json!({})).go().well();
    assert_eq!((&ended.result["outcome"], &ended.result["errors"]), (&json!("writable"), &json!([])));
    assert_eq!(host.remount(&json!({})).go().well().result["outcome"], "already_writable");
}

#[test]
fn a_disk_with_errors_is_remounted_only_on_request() {
    if !can_be_alone("a_disk_with_errors_is_remounted_only_on_request") {
        return;
    }
    for (number, error) in [
        ("259:1", "EXT4-fs error (device nvme0n1p1): ext4_find_entry:1455: inode #2: reading directory lblock 0"),
        ("259:1", "EXT4-fs (nvme0n1p1): Remounting filesystem read-only"),
        // I/O errors name the disk.
        ("259:1", "blk_update_request: I/O error, dev nvme0n1, sector 1234567 op 0x0:(READ)"),
        ("253:0", "blk_update_request: I/O error, dev nvme0n1, sector 1234567 op 0x0:(READ)"),
        ("253:0", "Buffer I/O error on dev dm-0, logical block 0, lost async page write"),
    ] {
        let host = Host::new(&format!("{HEALTHY}{error}\n"));
        host.mounted(number, "ro");
        host.remount(&json!({})).noop().go().error(1, "the kernel log has errors of");
        host.remount(&json!({})).go().error(1, "check the file system first");
        let ended = host.remount(&json!({"despite_errors": true})).go().well();
        assert_eq!((&ended.result["outcome"], &ended.result["errors"]), (&json!("writable"), &json!([error])));
    }
}

#[test]
fn a_device_that_is_read_only_stays_so() {
    if !can_be_alone("a_device_that_is_read_only_stays_so") {
        return;
    }
    let host = Host::new(HEALTHY);
    fs::write(host.at("block/all/nvme0n1/ro"), "1\n").unwrap();
    host.remount(&json!({"despite_errors": true})).go().error(1, "the block device nvme0n1 itself is read-only");
}

#[test]
fn a_kernel_log_that_cannot_be_read_is_no_good_sign() {
    if !can_be_alone("a_kernel_log_that_cannot_be_read_is_no_good_sign") {
        return;
    }
    let host = Host::new("");
    script(host.bin.path(), "dmesg", "echo 'dmesg: read kernel buffer failed: Operation not permitted' >&2\nexit 1\n");
    host.remount(&json!({})).go().error(1, "the kernel log cannot be read");
    assert_eq!(host.remount(&json!({"despite_errors": true})).go().well().result["outcome"], "writable");
}

#[test]
fn a_mount_that_stays_read_only_is_a_failure() {
    if !can_be_alone("a_mount_that_stays_read_only_is_a_failure") {
        return;
    }
    let host = Host::new(HEALTHY);
    script(host.bin.path(), "mount", "true\n");
    let ended = host.remount(&json!({})).go().refused(1, "still mounted read-only");
    assert_eq!(ended.result["outcome"], "not_writable");
}
