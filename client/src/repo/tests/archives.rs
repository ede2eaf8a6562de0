//! Archives that are missing or damaged: seen by `status`, and never given to instances.

use packs_schema::base::name::PackVersion;

use super::rollouts::{demo, name};
use super::*;

/// Damage of an archive.
const DAMAGES: [(&str, &str); 4] = [
    ("removed", "it is missing"),
    ("cut", "instead of the"),
    ("longer", "instead of the"),
    ("changed", "its bytes are not those that were signed"),
];

impl Bench {
    fn archive(&self, version: &str) -> PathBuf {
        let file = format!("{version}.tar.gz");
        let mut all = snapshot(&self.at("repo/targets")).into_iter().map(|(path, _)| path);
        all.rfind(|path| path.ends_with(&file)).unwrap()
    }

    fn problems(&self) -> Vec<(String, String)> {
        let versions = self.status().versions.into_iter();
        versions.filter_map(|v| Some((v.version.to_string(), v.problem?))).collect()
    }
}

fn damage(archive: &Path, how: &str) {
    let mut bytes = fs::read(archive).unwrap();
    match how {
        "removed" => return fs::remove_file(archive).unwrap(),
        "cut" => bytes.truncate(10),
        "longer" => bytes.push(0),
        _ => bytes[20] ^= 1,
    }
    fs::write(archive, bytes).unwrap();
}

#[test]
fn a_damaged_archive_is_seen_by_status_and_goes_to_no_further_instance() {
    for (how, said) in DAMAGES {
        let bench = Bench::new();
        publish(&PublishOptions { percent: Some(10), ..bench.options("test") }).unwrap();
        let version = bench.status().versions[0].version.clone();
        assert_eq!(bench.problems(), [], "{how}");
        damage(&bench.archive(&version.to_string()), how);
        let problems = bench.problems();
        assert!(problems.len() == 1 && problems[0].1.contains(said), "{how}: {problems:?}");

        let access = bench.access();
        let promotion = |percent| Promotion {
            pack: demo(),
            version: Some(version.clone()),
            from: None,
            to: name(if percent == 10 { "test" } else { "prod" }),
            new_channel: true,
            percent,
            filter: None,
            everywhere: false,
            again: false,
        };
        // A rollout that goes nowhere can still be stopped.
        pause(&access, &demo(), &name("test"), true).unwrap();
        let before = bench.status().channels;
        for refused in [
            promote(&access, &promotion(100)),
            promote(&access, &promotion(10)),
            widen(&access, &demo(), &name("test"), 50),
            pause(&access, &demo(), &name("test"), false),
        ] {
            let error = refused.unwrap_err();
            assert!(matches!(error, RepoError::Release(ReleaseError::BadArchive { .. })), "{how}: {error}");
            let error = error.to_string();
            assert!(
                error.contains(said) || how == "longer" && error.contains("it has more than the"),
                "{how}: {error}"
            );
            assert!(error.contains("publish the same pack again"), "{how}: {error}");
        }
        assert_eq!(bench.status().channels, before, "{how}");
        assert!(!publish(&bench.options("prod")).unwrap().new, "{how}");
        assert_eq!(bench.problems(), [], "{how}: it is there again");
        promote(&access, &promotion(10)).unwrap();
    }
}

/// A rollback to a version that instances could not take would leave them with nothing.
#[test]
fn a_rollback_to_a_missing_archive_is_refused() {
    let bench = Bench::new();
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        bench.version(version);
        publish(&bench.options("prod")).unwrap();
    }
    damage(&bench.archive("1.1.0"), "removed");
    assert_eq!(bench.problems(), [("1.1.0".to_owned(), "it is missing".to_owned())]);
    let error = rollback(&bench.access(), &demo(), &name("prod"), None).unwrap_err();
    assert!(matches!(error, RepoError::Release(ReleaseError::BadArchive { .. })), "{error}");
    let back = rollback(&bench.access(), &demo(), &name("prod"), Some(&PackVersion::new("1.0.0").unwrap())).unwrap();
    assert_eq!(back.after.newest().version.to_string(), "1.0.0");
}

#[test]
fn publish_checks_its_destination_before_it_builds() {
    let bench = Bench::new();
    // A pack that cannot be built: whoever reads it says so.
    fs::write(bench.at("demo/pack.yaml"), "name: [").unwrap();
    let good = bench.options("prod");
    let refused = |options: &PublishOptions| publish(options).unwrap_err();
    assert!(matches!(refused(&good), RepoError::Pack(_)));
    let nowhere = PublishOptions { repository: bench.at("nowhere"), ..good.clone() };
    assert!(matches!(refused(&nowhere), RepoError::NoRepository(_)));
    assert!(matches!(
        refused(&PublishOptions { percent: Some(101), ..good.clone() }),
        RepoError::Release(ReleaseError::Percent(101))
    ));
    fs::rename(bench.at("keys/snapshot.pem"), bench.at("snapshot.pem")).unwrap();
    assert!(matches!(refused(&good), RepoError::Keys(KeyError::TooFewKeys { .. })));
    fs::rename(bench.at("snapshot.pem"), bench.at("keys/snapshot.pem")).unwrap();
    fs::rename(bench.at("keys/root.json"), bench.at("root.json")).unwrap();
    assert!(matches!(refused(&good), RepoError::Trust(PinError::NotPinned { .. })));
}

/// Whoever owns the storage puts a FIFO in the place of each file in turn: nothing waits for it.
#[test]
fn a_fifo_in_the_repository_blocks_no_command() {
    let bench = Bench::new();
    publish(&bench.options("prod")).unwrap();
    let files: Vec<PathBuf> = snapshot(&bench.at("repo")).into_iter().map(|(path, _)| path).collect();
    let mut seen = 0;
    for file in files.iter().filter(|file| !file.ends_with(".lock")) {
        let aside = bench.at("aside");
        fs::rename(file, &aside).unwrap();
        nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        let view = View::pinned(bench.at("repo"), bench.at("keys"));
        std::thread::spawn(move || {
            send.send(status(&view).map(|status| format!("{status:?}")).map_err(|e| format!("{e:?}")))
        });
        let told = receive.recv_timeout(std::time::Duration::from_secs(30));
        let told = told.unwrap_or_else(|_| panic!("{} is waited for", file.display()));
        if told.unwrap_or_else(|error| error).contains("not a regular file") {
            seen += 1;
        }
        fs::remove_file(file).unwrap();
        fs::rename(&aside, file).unwrap();
    }
    assert!(seen >= 4, "metadata, channel and archive: {seen} of {files:?}");
}
