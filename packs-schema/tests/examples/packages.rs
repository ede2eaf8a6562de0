//! Tests of `linux.pending_updates` and `clean_package_cache` with recorded output of dnf (Amazon Linux 2023) and yum (Amazon
//! Linux 2).

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::driver::{Ended, action, can_be_alone, skip};
use crate::service::programs;

/// Without a terminal yum wraps rows at 80 columns.
const YUM: &str = "
amazon-linux-extras.noarch            2.0.3-1.amzn2                 amzn2-core
java-1.8.0-amazon-corretto-devel.x86_64
                                      1:1.8.0_412.b08-1             amzn2extra-corretto8
kernel.x86_64                         4.14.355-276.618.amzn2        amzn2-core
python2-cryptography-and-vectors.x86_64
                                      1.7.2-2.amzn2.0.1.with.a.long.release
                                                                    amzn2-core
Obsoleting Packages
grub2.x86_64                          1:2.06-14.amzn2.0.1           amzn2-core
    grub2.x86_64                      1:2.06-2.amzn2.0.6            installed
";

const DNF: &str = "
bash.x86_64                 5.2.15-1.amzn2023.0.3                     amazonlinux
kernel6.12.x86_64           6.12.20-23.97.amzn2023                    amazonlinux
openssl-libs.x86_64         1:3.2.2-1.amzn2023.0.1                    amazonlinux
";

const REQUIRED: &str = "echo 'Core libraries or services have been updated since boot-up:'\n\
    echo 'Reboot is required to fully utilize these updates.'\nexit 1\n";

/// Creates a host whose only package manager is this one.
fn host(manager: &str, output: &str, more: &[(&str, &str)]) -> TempDir {
    let text = format!("[[ $* == '-q -C check-update' ]] || exit 9\n/bin/cat <<'END'\n{output}END\nexit 100\n");
    let mut list = vec![(manager, text.as_str())];
    list.extend(more);
    programs(&list)
}

fn rows(ended: &Ended) -> Vec<(&str, &str)> {
    let list = ended.result["packages"].as_array().unwrap();
    list.iter().map(|row| (row["name"].as_str().unwrap(), row["available"].as_str().unwrap())).collect()
}

#[test]
fn wrapped_rows_of_yum_are_read() {
    let ended = action("linux.pending_updates", json!({})).only(host("yum", YUM, &[]).path()).go().well();
    let expected = [
        ("amazon-linux-extras", "2.0.3-1.amzn2"),
        ("java-1.8.0-amazon-corretto-devel", "1:1.8.0_412.b08-1"),
        ("kernel", "4.14.355-276.618.amzn2"),
        ("python2-cryptography-and-vectors", "1.7.2-2.amzn2.0.1.with.a.long.release"),
    ];
    assert_eq!(rows(&ended), expected);
    assert_eq!((&ended.result["manager"], &ended.result["security"]), (&json!("yum"), &json!(-1)));
}

#[test]
fn updates_are_read_from_dnf() {
    let ended = action("linux.pending_updates", json!({})).only(host("dnf", DNF, &[]).path()).go().well();
    let expected = [
        ("bash", "5.2.15-1.amzn2023.0.3"),
        ("kernel6.12", "6.12.20-23.97.amzn2023"),
        ("openssl-libs", "1:3.2.2-1.amzn2023.0.1"),
    ];
    assert_eq!((rows(&ended).as_slice(), &ended.result["manager"]), (expected.as_slice(), &json!("dnf")));
}

#[test]
fn a_reboot_is_required_or_not_or_unknown() {
    if Path::new("/run/reboot-required").exists() {
        return skip("a_reboot_is_required_or_not_or_unknown", "this host itself must be rebooted");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for (program, required, known) in [
        (Some(REQUIRED), true, true),
        (Some("echo 'No core libraries or services have been updated.'\n"), false, true),
        (Some("echo 'Error: cannot open Packages database' >&2\nexit 1\n"), false, false),
        (Some("exit 3\n"), false, false),
        (Some("exec /bin/sleep 60\n"), false, false),
        (None, false, false),
    ] {
        let more: Vec<(&str, &str)> = program.iter().map(|text| ("needs-restarting", *text)).collect();
        let bin = host("dnf", DNF, &more);
        let ended = action("linux.pending_updates", json!({})).only(bin.path()).deadline(now + 5).go().well();
        assert_eq!(
            (&ended.result["reboot_required"], &ended.result["reboot_known"]),
            (&json!(required), &json!(known)),
            "{program:?}"
        );
        assert_eq!(ended.result["count"], 3, "the updates are listed in any case");
    }
}

#[test]
fn the_caches_of_dnf_and_yum_are_cleaned() {
    if !can_be_alone("the_caches_of_dnf_and_yum_are_cleaned") {
        return;
    }
    for (manager, command, removed) in [
        ("dnf", "-q clean packages", "*/packages"),
        // Without the option yum leaves the packages of repositories that are not enabled.
        ("yum", "-q --enablerepo=* clean packages", "x86_64/2/*/packages"),
    ] {
        let cache = TempDir::new().unwrap();
        let packages = cache.path().join(manager).join(removed.replace('*', "extras-0123"));
        fs::create_dir_all(&packages).unwrap();
        let package = packages.join("tool-1.0-1.x86_64.rpm");
        fs::write(&package, vec![1; 1 << 20]).unwrap();
        fs::write(packages.join("repomd.xml"), "x").unwrap();
        let clean = format!(
            "echo \"$*\" >>\"$0.calls\"\n[[ $* == '{command}' ]] && /bin/rm /var/cache/{manager}/{removed}/*.rpm\n"
        );
        let instead = format!("/bin/mount --bind '{}' /var/cache", cache.path().display());
        let run = || {
            let bin = programs(&[(manager, &clean)]);
            let run = action("linux.clean_package_cache", json!({})).only(bin.path()).after(&instead);
            (run, bin)
        };
        let (dry, bin) = run();
        let dry = dry.noop().go().well();
        assert_eq!((&dry.result["files"], package.exists()), (&json!(1), true), "{manager}");
        assert!(!bin.path().join(format!("{manager}.calls")).exists(), "a dry run starts nothing");
        let (real, bin) = run();
        let ended = real.go().well();
        assert_eq!((&ended.result["manager"], &ended.result["bytes_after"]), (&json!(manager), &json!(0)));
        assert_eq!((&ended.result["bytes_reclaimed"], package.exists()), (&json!(1 << 20), false));
        let calls = fs::read_to_string(bin.path().join(format!("{manager}.calls"))).unwrap();
        assert_eq!(calls, format!("{command}\n"));
    }
}
