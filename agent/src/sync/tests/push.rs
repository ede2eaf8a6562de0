//! Pushed versions in the store: whatever happens, none passes for a signed one, and each goes when its time is over.

use std::os::unix::fs::symlink;

use packs_schema::agent::push::{
    FORMAT, INBOX, OUTCOMES, PushOperation, PushOutcome, PushRequest, PushResult, archive_file, record_file,
};
use packs_schema::agent::rest::{Code, Pushed};
use packs_schema::agent::store::{PushOverlay, version_of};
use packs_schema::base::name::{Digest, Principal, PushId};
use sha2::Digest as _;

use super::archive::{Item, archive, file, pack, script, special};
use super::*;
use crate::sync::clock::{Clock, now_ms};
use crate::sync::store::Store;
use crate::sync::{push_overlay, pushed};

const ANN: &str = "spiffe://x/ann";

impl Bench {
    /// With demo 1.0.0 active, and pushes allowed to ann.
    fn allowing() -> Bench {
        let mut bench = Bench::active();
        let grants = bench.temp.path().join("grants.toml");
        let text =
            format!("[[grant]]\nprincipal = \"{ANN}\"\nverbs = [\"push\"]\nactions = [\"demo.*\", \"fresh.*\"]\n");
        fs::write(&grants, text).unwrap();
        bench.config.dev.push = true;
        bench.config.paths.grants = grants;
        fs::create_dir(bench.inbox()).unwrap();
        fs::set_permissions(bench.inbox(), fs::Permissions::from_mode(0o750)).unwrap();
        bench
    }

    fn inbox(&self) -> PathBuf {
        self.store().join(INBOX)
    }

    /// Leaves a request with this number in the inbox, changed by `change`.
    fn request(
        &self,
        number: u8,
        name: &str,
        version: &str,
        bytes: &[u8],
        change: impl FnOnce(&mut PushRequest),
    ) -> PushId {
        let id = PushId::new(format!("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2{number:02x}")).unwrap();
        let mut request = PushRequest {
            format: FORMAT,
            id: id.clone(),
            by: Principal::new(ANN).unwrap(),
            at_ms: now_ms(),
            pack: PackName::new(name).unwrap(),
            operation: PushOperation::Install {
                version: PackVersion::new(version).unwrap(),
                digest: digest(bytes),
                size_bytes: bytes.len() as u64,
                ttl_ms: 3_600_000,
            },
        };
        change(&mut request);
        fs::write(self.inbox().join(archive_file(&id)), bytes).unwrap();
        fs::write(self.inbox().join(record_file(&id)), serde_json::to_vec(&request).unwrap()).unwrap();
        id
    }

    fn outcome(&self, id: &PushId) -> PushResult {
        let bytes = fs::read(self.store().join(OUTCOMES).join(record_file(id))).unwrap();
        let outcome: PushOutcome = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(outcome.id, *id);
        outcome.result
    }

    /// Pushes, and expects that it worked.
    fn pushed(&self, number: u8, name: &str, version: &str, bytes: &[u8]) -> Pushed {
        let id = self.request(number, name, version, bytes, |_| {});
        self.poll().unwrap();
        match self.outcome(&id) {
            PushResult::Installed(pushed) => pushed,
            other => panic!("{other:?}"),
        }
    }

    /// Polls with this request in the inbox, and expects that it is refused and leaves no trace.
    fn expect_refusal(&self, id: &PushId, code: Code, words: &str) {
        let before = tree(&self.store().join("demo"));
        self.poll().unwrap();
        match self.outcome(id) {
            PushResult::Refused { code: said, message, .. } => {
                assert!(said == code && message.contains(words), "{said}: {message:?} does not say {words:?}");
            }
            other => panic!("{words}: {other:?}"),
        }
        assert_eq!(tree(&self.store().join("demo")), before, "{words}");
        assert_eq!(fs::read_dir(self.store().join(".staging")).unwrap().count(), 0, "staging is left");
        for file in [record_file(id), archive_file(id)] {
            fs::remove_file(self.inbox().join(file)).unwrap();
        }
    }

    fn reconcile(&self, change: impl FnOnce(&mut Clock)) {
        let mut clock = Clock::read().unwrap();
        change(&mut clock);
        push_overlay::reconcile(&Store::open(&self.store()).unwrap(), &clock, self.config.dev.push);
    }

    /// Has the time of each pushed version be over.
    fn run_out(&self) {
        for name in ["demo", "fresh"] {
            let mut overlay = self.overlay(name);
            if let Some(active) = overlay.active.as_mut() {
                active.until_boot_ms = 0;
                pushed::write(&self.store().join(name), &overlay).unwrap();
            }
        }
        self.reconcile(|_| {});
    }

    fn overlay(&self, name: &str) -> PushOverlay {
        pushed::read(&self.store().join(name)).unwrap()
    }

    fn home(&self) -> PathBuf {
        self.store().join("demo")
    }
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::new(sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>()).unwrap()
}

/// A pack that says `word`, so that no two are the same.
fn saying(name: &str, version: &str, word: &str) -> Vec<u8> {
    let mut items: Vec<Item> = pack(name, version);
    items[1] = script("actions/hello.sh", &format!("#!/bin/sh\necho {word}\n"));
    archive(&items)
}

fn directory(pushed: &Pushed) -> String {
    packs_schema::agent::store::version_directory(&pushed.version, &pushed.digest)
}

#[test]
fn a_pushed_version_covers_the_signed_one_until_its_time_the_boot_or_the_configuration_ends_it() {
    let hour = 3_600_000;
    let bench = Bench::allowing();
    let one = saying("demo", "0.9.0", "one");
    for (number, what, ends) in [
        (1_u8, "a moment", false),
        (2, "boot time", true),
        (3, "wall time", false),
        (4, "a boot", true),
        (5, "the wall set back", false),
    ] {
        let pushed = bench.pushed(number, "demo", "0.9.0", &one);
        assert_eq!(pushed.signed.map(|v| v.to_string()).as_deref(), Some("1.0.0"), "{what}");
        assert_eq!(bench.current("demo").as_deref(), Some("0.9.0"), "{what}");
        bench.reconcile(|clock| match what {
            "a moment" => clock.boot_ms += hour - 60_000,
            "boot time" => (clock.wall_ms, clock.boot_ms) = (clock.wall_ms - hour, clock.boot_ms + hour),
            "wall time" => clock.wall_ms += hour,
            "a boot" => clock.boot = "another".to_owned(),
            _ => clock.wall_ms = 0,
        });
        let wanted = if ends { "1.0.0" } else { "0.9.0" };
        assert_eq!(bench.current("demo").as_deref(), Some(wanted), "{what}");
    }
    let mut bench = bench;
    bench.config.dev.push = false;
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.0.0"));
    bench.config.dev.push = true;
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.0.0"), "it does not come back");
}

#[test]
fn nothing_starts_in_what_is_over_and_its_files_stay_until_nothing_can_run_in_them() {
    let bench = Bench::allowing();
    let pushed = bench.pushed(1, "demo", "0.9.0", &saying("demo", "0.9.0", "one"));
    let version = bench.home().join(directory(&pushed));
    bench.run_out();
    assert!(version.join("actions/hello.sh").exists() && !version.join(".bolt").exists());
    let [ended] = &bench.overlay("demo").ended[..] else { panic!("{:?}", bench.overlay("demo")) };
    // The action's time-out is five minutes.
    let left = ended.in_use_until_boot_ms - Clock::read().unwrap().boot_ms;
    assert!((300_000..400_000).contains(&left), "{left}");
    bench.reconcile(|clock| clock.boot_ms += 299_000);
    assert!(version.exists());
    bench.reconcile(|clock| clock.boot_ms += 400_000);
    assert!(!version.exists() && !bench.home().join(".dev.json").exists());
    // A boot ends whatever ran.
    let pushed = bench.pushed(2, "demo", "0.9.0", &saying("demo", "0.9.0", "two"));
    bench.reconcile(|clock| clock.boot = "another".to_owned());
    assert!(!bench.home().join(directory(&pushed)).exists());
    assert_eq!(bench.current("demo").as_deref(), Some("1.0.0"));
}

#[test]
fn an_ended_version_with_files_may_be_pushed_again_or_signed() {
    let mut bench = Bench::allowing();
    let archive = saying("demo", "1.5.0", "one");
    let pushed = bench.pushed(1, "demo", "1.5.0", &archive);
    let version = bench.home().join(directory(&pushed));
    let inode = |version: &Path| fs::metadata(version.join("actions/hello.sh")).unwrap().ino();
    let before = inode(&version);
    bench.run_out();
    bench.pushed(2, "demo", "1.5.0", &archive);
    assert_eq!(bench.current("demo").as_deref(), Some("1.5.0"));
    assert_eq!(inode(&version), before, "executions may run in it");
    assert!(bench.overlay("demo").ended.is_empty());
    bench.run_out();
    bench.offer_bytes("demo", "1.5.0", archive, "");
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!((bench.current("demo").as_deref(), inode(&version)), (Some("1.5.0"), before));
    let record: StoredPack = serde_json::from_slice(&fs::read(version.join(".bolt/pack.json")).unwrap()).unwrap();
    assert!(record.dev.is_none() && !bench.home().join(".dev.json").exists(), "{record:?}");
    bench.reconcile(|clock| (clock.wall_ms, clock.boot_ms) = (u64::MAX, u64::MAX));
    assert_eq!(bench.current("demo").as_deref(), Some("1.5.0"));
}

/// The covered signed version is withdrawn: the push remains until it ends, and no version follows.
#[test]
fn a_covered_version_that_is_withdrawn_is_not_activated_after_the_push() {
    let mut bench = Bench::allowing();
    bench.pushed(1, "demo", "2.0.0", &saying("demo", "2.0.0", "one"));
    bench.take_back("1.0.0");
    bench.poll().unwrap();
    assert_eq!((bench.current("demo").as_deref(), bench.overlay("demo").signed), (Some("2.0.0"), None));
    bench.run_out();
    assert_eq!(bench.current("demo"), None);
}

#[test]
fn signed_versions_are_kept_as_if_nothing_had_been_pushed() {
    let mut bench = Bench::allowing();
    for (number, version) in [(1, "1.1.0"), (2, "1.2.0"), (3, "1.3.0")] {
        bench.pushed(number, "demo", "9.9.9", &saying("demo", "9.9.9", version));
        bench.offer("demo", version, &pack("demo", version));
        bench.repository.publish();
        bench.poll().unwrap();
        assert_eq!(bench.current("demo").as_deref(), Some("9.9.9"));
        let covered = bench.overlay("demo").signed.and_then(|name| version_of(&name)).unwrap();
        assert_eq!(covered.to_string(), version);
    }
    // The two before the active one stay whatever their age, the third for those who may still run in it; a boot ends those.
    bench.edit_versions(|boot| boot.replace_range(.., "another"));
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("9.9.9"), "what is pushed is not old");
    let signed: Vec<String> = versions(&bench).into_iter().filter(|version| !version.starts_with("9.9.9")).collect();
    let kept: Vec<&str> = signed.iter().map(|name| name.split('-').next().unwrap()).collect();
    assert_eq!(kept, ["1.1.0", "1.2.0", "1.3.0"], "{signed:?}");
    bench.run_out();
    assert_eq!(bench.current("demo").as_deref(), Some("1.3.0"));
    bench.reconcile(|clock| clock.boot_ms += 400_000);
    assert_eq!(versions(&bench).len(), 3, "{:?}", versions(&bench));
}

impl Bench {
    /// Changes in which boot versions were replaced.
    fn edit_versions(&self, change: impl Fn(&mut String)) {
        let path = self.home().join(".versions.json");
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for replaced in record["replaced"].as_array_mut().unwrap() {
            let mut boot = replaced["boot"].as_str().unwrap().to_owned();
            change(&mut boot);
            replaced["boot"] = boot.into();
        }
        fs::write(path, serde_json::to_vec(&record).unwrap()).unwrap();
    }
}

#[test]
fn a_poll_with_nothing_new_writes_nothing_while_a_push_is_active() {
    let bench = Bench::allowing();
    let id = bench.request(1, "demo", "0.9.0", &saying("demo", "0.9.0", "one"), |_| {});
    bench.poll().unwrap();
    for file in [record_file(&id), archive_file(&id)] {
        fs::remove_file(bench.inbox().join(file)).unwrap();
    }
    bench.idle();
    assert_eq!(bench.current("demo").as_deref(), Some("0.9.0"));
    assert!(bench.status().failed.is_empty(), "{:?}", bench.status());
}

#[test]
fn a_push_that_was_broken_off_anywhere_leaves_the_signed_version() {
    let bench = Bench::allowing();
    let signed = fs::read_link(bench.home().join("current")).unwrap();
    let archive = saying("demo", "0.9.0", "one");
    let pushed = bench.pushed(1, "demo", "0.9.0", &archive);
    let name = directory(&pushed);
    let record = fs::read(bench.home().join(".dev.json")).unwrap();
    let point = |to: &Path| {
        fs::remove_file(bench.home().join("current")).unwrap();
        symlink(to, bench.home().join("current")).unwrap();
    };
    let is_over = |what: &str| {
        bench.poll().unwrap();
        assert_eq!(fs::read_link(bench.home().join("current")).unwrap(), signed, "{what}");
        assert!(!bench.home().join(&name).join(".bolt").exists(), "{what}: something could be started in it");
    };
    // Moved in and not pointed to.
    point(&signed);
    is_over("not pointed to");
    // Written down and not moved in.
    bench.reconcile(|clock| clock.boot_ms = u64::MAX);
    fs::write(bench.home().join(".dev.json"), &record).unwrap();
    is_over("not moved in");
    // Pointed back, and the record not written.
    bench.reconcile(|clock| clock.boot_ms = u64::MAX);
    bench.pushed(2, "demo", "0.9.0", &archive);
    let record = fs::read(bench.home().join(".dev.json")).unwrap();
    bench.run_out();
    fs::write(bench.home().join(".dev.json"), &record).unwrap();
    is_over("the previous record");
    // An unreadable record: the pushed version ends at once, and the channel decides which version is active.
    for (number, damage) in [(3, ""), (4, "{"), (5, "[]")] {
        bench.reconcile(|clock| clock.boot_ms = u64::MAX);
        bench.pushed(number, "demo", "0.9.0", &archive);
        fs::write(bench.home().join(".dev.json"), damage).unwrap();
        is_over("a damaged record");
    }
}

#[test]
fn a_pack_that_is_pushed_only_leaves_nothing() {
    let bench = Bench::allowing();
    let pushed = bench.pushed(1, "fresh", "0.1.0", &saying("fresh", "0.1.0", "one"));
    assert_eq!((pushed.signed, bench.current("fresh").as_deref()), (None, Some("0.1.0")));
    bench.run_out();
    assert_eq!(bench.current("fresh"), None);
    bench.reconcile(|clock| clock.boot_ms += 400_000);
    assert!(!bench.store().join("fresh").exists());
}

#[test]
fn the_sync_judges_every_request_by_itself() {
    let mut bench = Bench::allowing();
    bench.config.dev.max_packs = 1;
    let good = saying("demo", "0.9.0", "one");
    let install = |change: fn(&mut Digest, &mut u64, &mut u64)| {
        move |request: &mut PushRequest| {
            if let PushOperation::Install { digest, size_bytes, ttl_ms, .. } = &mut request.operation {
                change(digest, size_bytes, ttl_ms);
            }
        }
    };
    let refused = |number, change: &dyn Fn(&mut PushRequest), code, words| {
        let id = bench.request(number, "demo", "0.9.0", &good, change);
        bench.expect_refusal(&id, code, words);
    };
    let old = |request: &mut PushRequest| request.at_ms -= 11 * 60_000;
    refused(1, &old, Code::Unavailable, "push again");
    let eve = |request: &mut PushRequest| request.by = Principal::new("spiffe://x/eve").unwrap();
    refused(2, &eve, Code::Forbidden, "eve");
    let other = |request: &mut PushRequest| request.pack = PackName::new("other").unwrap();
    refused(3, &other, Code::Forbidden, "other.*");
    refused(4, &install(|_, _, ttl| *ttl = u64::MAX), Code::TtlTooLong, "max_ttl");
    refused(5, &install(|_, _, ttl| *ttl = 0), Code::TtlTooLong, "max_ttl");
    refused(6, &install(|_, size, _| *size = u64::MAX), Code::BodyTooLarge, "allowed");
    refused(7, &install(|_, size, _| *size += 1), Code::Internal, "came");
    refused(8, &install(|_, size, _| *size -= 1), Code::Internal, "came");
    refused(9, &install(|digest, _, _| *digest = Digest::new("a".repeat(64)).unwrap()), Code::Internal, "digest");
    let id = |request: &mut PushRequest| request.id = PushId::new("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2ff").unwrap();
    refused(10, &id, Code::Internal, "another kind");
    refused(11, &|request: &mut PushRequest| request.operation = PushOperation::Remove, Code::NotPushed, "demo");
    let twin = |digest: &mut Digest| {
        let name = fs::read_link(bench.home().join("current")).unwrap();
        let short = name.to_str().unwrap().rsplit_once('-').unwrap().1.to_owned();
        *digest = Digest::new(format!("{short:0<64}")).unwrap();
    };
    // A name has twelve digits of a digest only: one with the same must not take a signed version's place.
    let collides = |request: &mut PushRequest| {
        if let PushOperation::Install { version, digest, .. } = &mut request.operation {
            *version = PackVersion::new("1.0.0").unwrap();
            twin(digest);
        }
    };
    refused(12, &collides, Code::AlreadySigned, "like this one's");
    let link = special("actions/evil", EntryType::Symlink, Some("/etc/passwd"));
    let mut items = pack("demo", "0.9.0");
    items.push(link);
    let hostile = archive(&items);
    let id = bench.request(13, "demo", "0.9.0", &hostile, |_| {});
    bench.expect_refusal(&id, Code::InvalidPack, "actions/evil");
    bench.pushed(14, "fresh", "0.1.0", &saying("fresh", "0.1.0", "one"));
    let id = bench.request(15, "demo", "0.9.0", &good, |_| {});
    bench.expect_refusal(&id, Code::TooManyPushed, "max_packs");
    bench.config.dev.push = false;
    let id = bench.request(16, "demo", "0.9.0", &good, |_| {});
    bench.expect_refusal(&id, Code::PushNotAllowed, "[dev]");
}

#[test]
fn an_inbox_entry_that_is_no_regular_file_of_its_owner_is_not_read() {
    let bench = Bench::allowing();
    let good = saying("demo", "0.9.0", "one");
    let elsewhere = bench.temp.path().join("elsewhere");
    for (number, what) in [(1, "link"), (2, "name"), (3, "fifo"), (4, "directory"), (5, "owner")] {
        for record in [true, false] {
            let number = if record { number } else { number + 16 };
            let id = bench.request(number, "demo", "0.9.0", &good, |_| {});
            let file = bench.inbox().join(if record { record_file(&id) } else { archive_file(&id) });
            fs::rename(&file, &elsewhere).unwrap();
            match what {
                "link" => symlink(&elsewhere, &file).unwrap(),
                "name" => fs::hard_link(&elsewhere, &file).unwrap(),
                "fifo" => nix::unistd::mkfifo(&file, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap(),
                "directory" => fs::create_dir(&file).unwrap(),
                _ => {
                    fs::copy(&elsewhere, &file).unwrap();
                    if std::os::unix::fs::chown(&file, Some(12345), None).is_err() {
                        drop(std::io::Write::write_all(
                            &mut std::io::stderr(),
                            b"SKIPPED an owner of its own in the inbox: it takes root\n",
                        ));
                        fs::remove_file(&file).unwrap();
                        continue;
                    }
                }
            }
            bench.poll().unwrap();
            match bench.outcome(&id) {
                PushResult::Refused { code: Code::Internal, message, .. } => assert!(!message.contains("passwd")),
                other => panic!("{what}: {other:?}"),
            }
            assert_eq!(bench.current("demo").as_deref(), Some("1.0.0"), "{what}");
            let removed = if file.is_dir() { fs::remove_dir(&file) } else { fs::remove_file(&file) };
            removed.unwrap();
            fs::remove_file(&elsewhere).unwrap();
        }
    }
    // An inbox that others may write is not read at all.
    let id = bench.request(30, "demo", "0.9.0", &good, |_| {});
    fs::set_permissions(bench.inbox(), fs::Permissions::from_mode(0o770)).unwrap();
    bench.poll().unwrap();
    assert!(!bench.store().join(OUTCOMES).join(record_file(&id)).exists());
}

#[test]
fn a_push_whose_site_configuration_does_not_fit_is_refused() {
    let bench = Bench::allowing();
    let schema = file("config.schema.yaml", "data: {type: string, required: true}\n");
    let archive = archive(&[pack("demo", "2.0.0"), vec![schema]].concat());
    let id = bench.request(1, "demo", "2.0.0", &archive, |_| {});
    bench.expect_refusal(&id, Code::InvalidPack, "demo.yaml: data must be given");
}

#[test]
fn a_push_on_which_the_sync_ended_is_refused_and_may_be_repeated() {
    let bench = Bench::allowing();
    let bytes = archive(&pack("demo", "2.0.0"));
    let id = bench.request(1, "demo", "2.0.0", &bytes, |_| {});
    let file = bench.ended_on(&format!("push {id}"), 1);
    bench.expect_refusal(&id, Code::InvalidPack, "the sync ended in the middle of installing this version");
    assert!(!file.exists());
    bench.pushed(2, "demo", "2.0.0", &bytes);
}
