//! Completions of the client's command, under its own name and under `bolt`, which the packages offer as an alternative.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::process::Command;

use tempfile::TempDir;

use crate::{built, deb, package, rpm};

/// Files of a shell: name of the command, and its place in the `.deb` and in the `.rpm`.
type Place = (&'static str, &'static str, &'static str);

const BASH: [Place; 2] = [
    (
        "bolt-client",
        "/usr/share/bash-completion/completions/bolt-client",
        "/usr/share/bash-completion/completions/bolt-client",
    ),
    ("bolt", "/usr/share/bolt-client/completions/bolt.bash", "/usr/share/bolt-client/completions/bolt.bash"),
];
const ZSH: [Place; 2] = [
    ("bolt-client", "/usr/share/zsh/vendor-completions/_bolt-client", "/usr/share/zsh/site-functions/_bolt-client"),
    ("bolt", "/usr/share/bolt-client/completions/_bolt", "/usr/share/bolt-client/completions/_bolt"),
];
const FISH: [Place; 2] = [
    (
        "bolt-client",
        "/usr/share/fish/vendor_completions.d/bolt-client.fish",
        "/usr/share/fish/vendor_completions.d/bolt-client.fish",
    ),
    ("bolt", "/usr/share/bolt-client/completions/bolt.fish", "/usr/share/bolt-client/completions/bolt.fish"),
];

/// Completes `<name> can-` as bash does when the key is pressed, after it has read the file `$1` for the command `$2`.
const COMPLETE: &str = r#"source "$1"
complete -p "$2"
function=$(complete -p "$2" | sed 's/.* -F \([^ ]*\) .*/\1/')
COMP_WORDS=("$2" can-) COMP_CWORD=1 COMP_TYPE=9
"$function" "$2" can- "$2"
printf '%s\n' "${COMPREPLY[@]}"
"#;

#[test]
fn both_packages_have_completions_of_each_shell_for_both_names() {
    let Some(built) = built("both_packages_have_completions_of_each_shell_for_both_names") else { return };
    let (_, texts) = deb(&package(built.first.path(), "bolt-client", "deb"));
    let path = package(built.first.path(), "bolt-client", "rpm");
    let in_rpm = rpm(&[OsStr::new("-qlp"), path.as_os_str()]);
    let in_rpm: BTreeSet<&str> = in_rpm.lines().collect();
    // A completion is for one command, and asks that command for its answers.
    let is_for = |shell: &str, text: &str, name: &str| match shell {
        "bash" => text.contains(&format!("\"{name}\" -- ")),
        "zsh" => text.starts_with(&format!("#compdef {name}\n")) && text.contains(&format!(" {name} -- ")),
        _ => text.contains(&format!(" --command {name} ")) && text.contains(&format!("BOLT_COMPLETE=fish {name} -- ")),
    };
    for (shell, places) in [("bash", BASH), ("zsh", ZSH), ("fish", FISH)] {
        for (name, of_deb, of_rpm) in places {
            let text = texts.get(of_deb).unwrap_or_else(|| panic!("{of_deb} is not in the .deb"));
            assert!(is_for(shell, text, name), "{of_deb}: {text}");
            assert!(in_rpm.contains(of_rpm), "{of_rpm} is not in the .rpm");
        }
    }
}

#[test]
fn bash_completes_both_names_with_the_packaged_files() {
    let Some(built) = built("bash_completes_both_names_with_the_packaged_files") else { return };
    let tree = TempDir::new().unwrap();
    let package = package(built.first.path(), "bolt-client", "deb");
    assert!(Command::new("dpkg-deb").arg("--extract").arg(package).arg(tree.path()).status().unwrap().success());
    // By update-alternatives.
    symlink("bolt-client", tree.path().join("usr/bin/bolt")).unwrap();
    let path = format!("{}:{}", tree.path().join("usr/bin").display(), std::env::var("PATH").unwrap());
    for (name, file, _) in BASH {
        let mut bash = Command::new("bash");
        bash.args(["--noprofile", "--norc", "-euc", COMPLETE, "bash"]);
        bash.arg(tree.path().join(file.trim_start_matches('/'))).arg(name);
        let output = bash.env("PATH", &path).env("HOME", tree.path()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let (registered, answers) = said.split_once('\n').unwrap_or_default();
        assert!(
            output.status.success() && registered.ends_with(&format!(" {name}")),
            "{file}: {said} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(answers, "can-i\n", "{file}");
    }
}
