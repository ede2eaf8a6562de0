//! Scaffold, lint and build on real directories.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use packs_schema::base::name::PackName;

use super::*;

fn pack(at: &Path) -> PathBuf {
    let directory = at.join("demo");
    scaffold(&PackName::new("demo").unwrap(), Template::Script, &directory).unwrap();
    directory
}

fn codes(directory: &Path) -> Vec<String> {
    lint(directory).unwrap().findings.iter().map(|f| f.code.clone()).collect()
}

#[test]
fn a_new_pack_has_no_findings_and_is_never_written_over() {
    let temp = tempfile::tempdir().unwrap();
    let directory = pack(temp.path());
    assert_eq!(codes(&directory), [""; 0]);
    let again = scaffold(&PackName::new("demo").unwrap(), Template::Script, &directory).unwrap_err();
    assert!(matches!(again, PackError::Exists(_)), "{again}");
}

/// The hashes of its requirements are in the file, or agents would refuse to install them.
#[test]
fn a_new_pack_with_a_playbook_has_no_findings() {
    let temp = tempfile::tempdir().unwrap();
    let directory = temp.path().join("web");
    scaffold(&PackName::new("web").unwrap(), Template::Ansible, &directory).unwrap();
    assert_eq!(codes(&directory), [""; 0]);
    let built = build(&directory).unwrap();
    assert_eq!(built.pack.name.as_str(), "web");
    let action = fs::read_to_string(directory.join("actions/apply.yaml")).unwrap();
    assert!(action.contains("group: web}") && !action.contains("{name}"), "{action}");
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let first = pack(temp.path());
    fs::write(first.join("z.txt"), "z").unwrap();
    fs::write(first.join("a.txt"), "a").unwrap();
    // The same files, made in another order, at another time, with other permissions and what tools leave behind.
    let second = temp.path().join("other");
    fs::create_dir(&second).unwrap();
    for name in ["a.txt", "z.txt", "pack.yaml"] {
        fs::copy(first.join(name), second.join(name)).unwrap();
        let file = fs::File::options().write(true).open(second.join(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)).unwrap();
        fs::set_permissions(second.join(name), Permissions::from_mode(0o600)).unwrap();
    }
    fs::create_dir(second.join("actions")).unwrap();
    for name in ["uptime.yaml", "uptime.sh"] {
        fs::copy(first.join("actions").join(name), second.join("actions").join(name)).unwrap();
    }
    fs::set_permissions(second.join("actions/uptime.sh"), Permissions::from_mode(0o700)).unwrap();
    for clutter in [".git", "__pycache__"] {
        fs::create_dir(second.join(clutter)).unwrap();
    }
    for clutter in [".git/config", "actions/uptime.sh~", "x.pyc", ".gitignore"] {
        fs::write(second.join(clutter), "clutter").unwrap();
    }
    let (first, second) = (build(&first).unwrap(), build(&second).unwrap());
    assert_eq!(first.archive.to_vec().unwrap(), second.archive.to_vec().unwrap());
    assert_eq!(first.digest, second.digest);
}

/// Builds of every version give these bytes: a published version can be built again from its commit and compared.
#[test]
fn the_archive_of_a_pack_does_not_change_with_the_builder() {
    let temp = tempfile::tempdir().unwrap();
    let directory = pack(temp.path());
    let pack = "name: demo\nref: demo\nversion: 1.0.0\ndescription: d\nauthor: a\nemail: a@example.com\n";
    let action = "name: uptime\ndescription: d\nrunner_type: local-shell-script\nentry_point: uptime.sh\nbolt: {class: diagnostic}\n";
    fs::write(directory.join("pack.yaml"), pack).unwrap();
    fs::write(directory.join("actions/uptime.yaml"), action).unwrap();
    fs::write(directory.join("actions/uptime.sh"), "#!/bin/sh\nuptime\n").unwrap();
    fs::create_dir(directory.join("data")).unwrap();
    // Noise, text and a mixture, larger than any buffer on the way, and of lengths that need padding and not.
    let mut seed = 1_u64;
    let mut noise = std::iter::repeat_with(move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed.to_le_bytes()[7]
    });
    let random: Vec<u8> = noise.by_ref().take(700_001).collect();
    let text: Vec<u8> = (0..120_000_u32).flat_map(|n| format!("line {} of {n}\n", n % 977).into_bytes()).collect();
    let mixed: Vec<u8> = random.chunks(3_000).zip(text.chunks(5_000)).flat_map(|(a, b)| [a, b].concat()).collect();
    for (name, bytes) in [("a", &random[..]), ("b", &text), ("c", &mixed), ("d", b""), ("e", &random[..1024])] {
        fs::write(directory.join("data").join(name), bytes).unwrap();
    }
    let built = build(&directory).unwrap();
    assert_eq!(built.digest.as_str(), "112e4c13e9ba25fac7d1368dae39b93de1e59912a6646e3a59db94b6032b29af");
    assert_eq!(build(&directory).unwrap().digest, built.digest);
}

#[test]
fn a_file_that_grows_or_shrinks_while_it_is_read_stops_the_build() {
    let temp = tempfile::tempdir().unwrap();
    let directory = pack(temp.path());
    let file = directory.join("data");
    for length in [99_999, 100_001, 0] {
        fs::write(&file, vec![1; 100_000]).unwrap();
        let listing = listing::list(&directory).unwrap();
        fs::write(&file, vec![1; length]).unwrap();
        let error = archive::write(&listing).unwrap_err();
        let PackError::File { what: "read", path, source } = &error else { panic!("{length}: {error:?}") };
        assert!(*path == file && source.to_string().contains("it changed while it was read"), "{length}: {error:?}");
    }
}

#[test]
fn a_change_of_content_or_run_bit_changes_the_digest() {
    let temp = tempfile::tempdir().unwrap();
    let directory = pack(temp.path());
    let before = build(&directory).unwrap().digest;
    fs::set_permissions(directory.join("pack.yaml"), Permissions::from_mode(0o755)).unwrap();
    let run_bit = build(&directory).unwrap().digest;
    fs::write(directory.join("new.txt"), "").unwrap();
    let file = build(&directory).unwrap().digest;
    assert!(before != run_bit && run_bit != file);
}

#[test]
fn what_may_not_be_in_a_pack_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let directory = pack(temp.path());
    symlink("/etc/passwd", directory.join("link")).unwrap();
    fs::write(directory.join(".hidden"), "").unwrap();
    fs::write(directory.join("white space"), "").unwrap();
    fs::write(directory.join("PACK.yaml"), "").unwrap();
    let pipe = directory.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    fs::set_permissions(directory.join("actions/uptime.sh"), Permissions::from_mode(0o4755)).unwrap();
    let found = codes(&directory);
    assert_eq!(found.iter().filter(|c| *c == "special_file").count(), 2, "{found:?}");
    assert_eq!(found.iter().filter(|c| *c == "bad_path").count(), 2, "{found:?}");
    assert!(found.contains(&"case_twin".to_owned()) && found.contains(&"set_id".to_owned()), "{found:?}");
    let error = build(&directory).unwrap_err();
    assert!(error.to_string().contains("special_file"), "{error}");
}

#[test]
fn a_yaml_error_names_its_file_and_line() {
    let temp = tempfile::tempdir().unwrap();
    let directory = pack(temp.path());
    let file = directory.join("actions/uptime.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text + "name: twice\n").unwrap();
    let said = build(&directory).unwrap_err().to_string();
    assert!(said.contains("actions/uptime.yaml: line 14"), "{said}");
}

#[test]
fn an_archive_loads_as_its_directory_does_and_others_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let built = build(&pack(temp.path())).unwrap();
    let file = temp.path().join("demo.tar.gz");
    let archive = built.archive.to_vec().unwrap();
    fs::write(&file, &archive).unwrap();
    assert_eq!(load(&file).unwrap().digest, built.digest);
    fs::write(&file, &archive[..archive.len() / 2]).unwrap();
    assert!(matches!(load(&file).unwrap_err(), PackError::Archive { .. }));
    fs::write(&file, "no archive").unwrap();
    assert!(matches!(load(&file).unwrap_err(), PackError::Archive { .. }));
}

#[test]
fn what_is_all_repetition_is_refused_where_it_is_built() {
    let temp = tempfile::tempdir().unwrap();
    let directory = pack(temp.path());
    fs::write(directory.join("zeros"), vec![0; 8 << 20]).unwrap();
    assert!(matches!(build(&directory).unwrap_err(), PackError::TooLarge(_)));
}

#[test]
fn what_a_script_does_wrong_is_named_by_file_and_line() {
    let temp = tempfile::tempdir().unwrap();
    let directory = pack(temp.path());
    let script =
        "#!/bin/sh\nset -eu\nls \"$BOLT_PARAM_PROCESSES\"\nrm -rf /var/cache/x\nsh -c \"ls $BOLT_PARAM_PTAH\"\n";
    fs::write(directory.join("actions/uptime.sh"), script).unwrap();
    let report = lint(&directory).unwrap();
    let found: Vec<(&str, &str)> = report.findings.iter().map(|f| (f.code.as_str(), f.at.as_str())).collect();
    assert_eq!(
        found,
        [("undeclared_parameter", "actions/uptime.sh:5"), ("diagnostic_writes", "actions/uptime.sh:4")],
        "{:?}",
        report.findings
    );
    assert!(report.builds(), "advice is no error");
    let allowed =
        script.replace("cache/x", "cache/x # bolt-lint: allow diagnostic_writes only what this action put there");
    fs::write(directory.join("actions/uptime.sh"), allowed).unwrap();
    assert_eq!(codes(&directory), ["undeclared_parameter"]);
}

/// StackStorm's own pack, of which the corpus has the definitions and not the scripts.
#[test]
fn what_is_found_in_the_pack_of_another_system() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packs-schema/tests/corpus/stackstorm-linux");
    let mut found = std::collections::BTreeMap::new();
    for code in codes(&corpus) {
        *found.entry(code).or_insert(0) += 1;
    }
    let found: Vec<(&str, i32)> = found.iter().map(|(code, count)| (code.as_str(), *count)).collect();
    assert_eq!(
        found,
        [
            ("entry_point_missing", 6),
            ("no_class", 19),
            ("python_class", 2),
            ("remote_runner", 4),
            ("runner_not_supported", 1),
            ("runner_parameter", 18),
            ("secret_unmarked", 1),
            ("shell_template", 12),
            ("template_default", 5),
        ]
    );
}
