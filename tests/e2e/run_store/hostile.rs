//! Records that are damaged, of a later version, copied from another run, or in the hands of another user: each gives an error
//! that names the part, and hides no other run.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::PathBuf;

use bolt_client::runs::{RunStore, StoreError};
use bolt_tests::{is_root, skip};
use packs_schema::base::name::RunId;

use super::{Place, create, ended, error, run, starting, with_credentials};

/// Change of the content of a part.
type Change = fn(&str) -> String;

fn truncated(text: &str) -> String {
    text[..text.len() / 2].to_owned()
}

fn later(text: &str) -> String {
    text.replacen("\"format\":1", "\"format\":9", 1)
}

fn of_another_run(text: &str) -> String {
    text.replace("\"r-1\"", "\"r-2\"")
}

fn without_format(text: &str) -> String {
    text.replacen("\"format\":1,", "", 1)
}

fn huge(text: &str) -> String {
    let mut text = text.to_owned();
    text.push_str(&" ".repeat(70 << 10));
    text
}

/// Quoted by the parser as it is.
fn with_control_characters(text: &str) -> String {
    text.replacen("\"diagnostic\"", "\"\\u001b[2J\\u0007\"", 1)
}

fn garbage(_: &str) -> String {
    "\u{1b}[2J\u{7} not JSON".to_owned()
}

/// Records `r-1`, and `r-good` beside it.
async fn record(place: &Place) {
    for id in ["r-1", "r-good"] {
        let mut lease = create(&*place.store(), &run(id, 2), 7).await.unwrap();
        lease.append(&[starting(0), ended(0)]).await.unwrap();
        lease.append(&[starting(1)]).await.unwrap();
        lease.release().await.unwrap();
    }
}

/// Returns the error of loading `r-1`, and checks that it is safe for a terminal and that the other run is there.
async fn refused(store: &dyn RunStore, name: &str) -> StoreError {
    let refused = error(store.load(&RunId::new("r-1").unwrap()).await);
    let text = refused.to_string();
    assert!(!text.contains(|c: char| c.is_control()) && text.len() < 700, "{name}: {text:?}");
    let listing = store.list(usize::MAX).await.unwrap();
    assert!(listing.heads.iter().any(|head| head.run.as_str() == "r-good"), "{name}");
    assert_eq!(store.load(&RunId::new("r-good").unwrap()).await.unwrap().entries.len(), 3, "{name}");
    refused
}

/// A name that XML cannot hold must not hide the other runs from everyone.
#[tokio::test]
async fn a_name_with_control_characters_hides_no_run() {
    const TEST: &str = "run_store::hostile::a_name_with_control_characters_hides_no_run";
    if !with_credentials(TEST) {
        return;
    }
    let Some(moto) = bolt_tests::Moto::start() else { return skip(TEST, "BOLT_MOTO_SERVER names no moto_server") };
    moto.put("/packs", b"");
    let place = Place::Moto(moto);
    record(&place).await;
    let Place::Moto(moto) = &place else { unreachable!() };
    moto.put("/packs/ops/runs/heads/%1b%5b2J.json", b"{}");
    let listing = place.store().list(usize::MAX).await.unwrap();
    assert_eq!(listing.heads.len(), 2, "{listing:?}");
}

/// Error of the parser for [`garbage`].
const GARBAGE: &str = "is damaged: expected value at line 1 column 1";

const DAMAGES: [(&str, Change, &str); 15] = [
    ("head", truncated, "is damaged"),
    ("head", garbage, GARBAGE),
    ("head", later, "has format 9, and this version of bolt reads formats 1 to 1"),
    ("head", without_format, "it has no format"),
    ("head", of_another_run, "it is of run r-2, not of r-1"),
    ("head", huge, "is damaged: it is larger than 65536 bytes"),
    ("head", with_control_characters, "is damaged"),
    ("plan", truncated, "is damaged"),
    ("plan", garbage, GARBAGE),
    ("plan", later, "has format 9"),
    ("plan", without_format, "it has no format"),
    ("progress", garbage, GARBAGE),
    ("progress", truncated, "is damaged"),
    ("progress", later, "has format 9"),
    ("progress", of_another_run, "it is of run r-2, not of r-1"),
];

#[tokio::test]
async fn a_damaged_part_in_a_directory_is_named() {
    let place = Place::directory();
    record(&place).await;
    let Place::Directory(directory) = &place else { unreachable!() };
    for (part, change, words) in DAMAGES {
        let file = match part {
            "head" => "head.json",
            "plan" => "plan.json",
            // A line holds no format, and a last one that is cut short is ignored.
            _ if words != GARBAGE => continue,
            _ => "progress.ndjson",
        };
        let path = directory.path().join("runs/r-1").join(file);
        let before = fs::read_to_string(&path).unwrap();
        let mut after = change(&before);
        if part == "progress" {
            after.push('\n');
        }
        fs::write(&path, after).unwrap();
        let text = refused(&*place.store(), words).await.to_string();
        assert!(text.contains(&path.display().to_string()) && text.contains(words), "{part}, {words}: {text}");
        if part == "head" {
            assert_eq!(place.store().list(10).await.unwrap().problems.len(), 1, "{words}");
        }
        fs::write(&path, before).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_object_in_a_bucket_is_named() {
    if !with_credentials("run_store::hostile::a_damaged_object_in_a_bucket_is_named") {
        return;
    }
    let place = Place::bucket();
    record(&place).await;
    let Place::Bucket(bucket) = &place else { unreachable!() };
    let key = |part: &str| {
        let wanted = if part == "head" { "/heads/r-1.json".to_owned() } else { format!("/runs/r-1/{part}") };
        bucket.keys("").into_iter().find(|key| key.contains(&wanted)).unwrap()
    };
    for (part, change, words) in DAMAGES {
        let key = key(part);
        let before = String::from_utf8(bucket.content(&key).unwrap()).unwrap();
        bucket.put(&key, change(&before));
        let text = refused(&*place.store(), words).await.to_string();
        // Whatever was done to a plan, its digest shows it.
        let words = if part == "plan" { "its content is not the one that its name says" } else { words };
        assert!(text.contains(&format!("s3://{}", key.replacen("ops", "packs/ops", 1))), "{part}, {words}: {text}");
        assert!(text.contains(words), "{part}, {words}: {text}");
        bucket.put(&key, before);
    }
    // The newest group is what the list of runs reads; the lease is what a client that resumes reads.
    let id = RunId::new("r-1").unwrap();
    let lease = key("lease.json");
    let before = String::from_utf8(bucket.content(&lease).unwrap()).unwrap();
    for (change, words) in [
        (truncated as Change, "is damaged"),
        (later, "has format 9"),
        (of_another_run, "of run r-2"),
        (huge, "larger than 4096"),
    ] {
        bucket.put(&lease, change(&before));
        for refused in [error(place.store().acquire(&id).await), error(place.store().status(&id).await)] {
            let text = refused.to_string();
            assert!(text.contains("runs/r-1/lease.json") && text.contains(words), "{words}: {text}");
        }
    }
    bucket.put(&lease, before);
    // A group that is missing, one under the number of another, and names that are no groups.
    let newest = key("progress/");
    let (content, number) = (bucket.content(&newest).unwrap(), newest.clone());
    let older = bucket.keys("").into_iter().rfind(|key| key.contains("/runs/r-1/progress/")).unwrap();
    let kept = bucket.content(&older).unwrap();
    bucket.remove(&older);
    let text = refused(&*place.store(), "missing").await.to_string();
    assert!(text.contains("it has 1 groups up to 2"), "{text}");
    bucket.put(&older, content);
    let text = refused(&*place.store(), "another number").await.to_string();
    assert!(text.contains("it is group 2, not 1"), "{text}");
    bucket.put(&older, kept);
    for name in ["00000000.json", "0.json", "\u{1b}[2J"] {
        let junk = number.replace(number.rsplit('/').next().unwrap(), name);
        bucket.put(&junk, "{}");
        let refused = [error(place.store().load(&id).await), error(place.store().acquire(&id).await)];
        for text in refused.map(|error| error.to_string()) {
            // The bucket cannot put such a name into an answer.
            let words = if name.contains('\u{1b}') { "cannot list s3://packs/ops/runs" } else { "is damaged" };
            assert!(text.contains(words) && !text.contains('\u{1b}'), "{name:?}: {text}");
        }
        bucket.remove(&junk);
    }
    place.store().acquire(&id).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_record_that_another_user_can_change_is_not_used() {
    let place = Place::directory();
    record(&place).await;
    let Place::Directory(directory) = &place else { unreachable!() };
    let of_run = directory.path().join("runs/r-1");
    let id = RunId::new("r-1").unwrap();
    let check = async |path: &PathBuf, words: &str| {
        let store = place.store();
        let mut refused = vec![error(store.load(&id).await)];
        if path.is_dir() {
            refused.push(error(store.acquire(&id).await));
        }
        for refused in refused {
            let text = refused.to_string();
            let is_named = matches!(refused, StoreError::Insecure { .. }) && text.contains(words);
            assert!(is_named && text.contains(&path.display().to_string()), "{text}");
        }
    };
    for file in ["", "head.json", "plan.json", "progress.ndjson"] {
        let path = if file.is_empty() { of_run.clone() } else { of_run.join(file) };
        let mode = path.metadata().unwrap().permissions();
        for wrong in [0o777, 0o720] {
            fs::set_permissions(&path, fs::Permissions::from_mode(wrong)).unwrap();
            check(&path, &format!("other users can change it (mode 0{wrong:o})")).await;
        }
        fs::set_permissions(&path, mode).unwrap();
        if is_root() {
            chown(&path, Some(12_345), None).unwrap();
            check(&path, "it belongs to user 12345").await;
            chown(&path, Some(0), None).unwrap();
        } else {
            skip("run_store::hostile::a_record_that_another_user_can_change_is_not_used", "another owner needs root");
        }
    }
    // A link, and a pipe that nothing writes to.
    let (plan, aside) = (of_run.join("plan.json"), of_run.join("aside"));
    fs::rename(&plan, &aside).unwrap();
    symlink(&aside, &plan).unwrap();
    check(&plan, "it is not a regular file").await;
    fs::remove_file(&plan).unwrap();
    nix::unistd::mkfifo(&plan, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let text = error(place.store().load(&id).await).to_string();
    assert!(text.contains("plan.json is not used: it is not a regular file"), "{text}");
    fs::remove_file(&plan).unwrap();
    fs::rename(&aside, &plan).unwrap();
    assert_eq!(place.store().load(&id).await.unwrap().entries.len(), 3);
}
