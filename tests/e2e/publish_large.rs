//! Publishing a large pack: it is streamed from its files to the repository, and an upload that fails is sent again.

use std::fs;
use std::io::{Read as _, copy};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bolt_client::local::binary;
use bolt_tests::proxy::Fault;
use bolt_tests::{Bolt, PackSource, Proxy, World};

/// The size of the pack, which does not compress.
const PACK: u64 = 40 << 20;
/// The most that `bolt` may take for it beyond what it takes for a small pack. Held against a small one, since how much of a
/// program's own text is in memory differs between kernels.
const MORE_KB: u64 = PACK / 1024 / 2;

/// A pack with a single large file.
fn large(world: &World) -> PathBuf {
    pack_of(world, "large", PACK)
}

fn pack_of(world: &World, name: &str, bytes: u64) -> PathBuf {
    let pack = PackSource::new(name, "1.0.0").action("nothing", "bolt: {class: diagnostic}", "#!/bin/true\n");
    let directory = pack.write(&world.scratch("sources"));
    let mut noise = fs::File::open("/dev/urandom").unwrap().take(bytes);
    copy(&mut noise, &mut fs::File::create(directory.join("noise.bin")).unwrap()).unwrap();
    directory
}

/// Runs `bolt` with `TMPDIR` in `world`, and returns its peak memory in kB. Nothing may be left in that directory.
fn peak_kb(world: &World, arguments: &[&Path]) -> u64 {
    let (temp, figure) = (world.path().join("tmp"), world.path().join("peak"));
    fs::create_dir_all(&temp).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bolt-peak"));
    command.arg(&figure).arg(binary("bolt").unwrap()).arg("--config").arg(world.site.client_config()).args(arguments);
    command.envs(bolt_tests::bucket::credentials()).env("TMPDIR", &temp);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_dir(&temp).unwrap().count(), 0, "temporary files are left");
    fs::read_to_string(figure).unwrap().parse().unwrap()
}

fn publish(world: &World, pack: &Path) -> u64 {
    publish_to(world, pack, &world.repository())
}

fn publish_to(world: &World, pack: &Path, repository: &Path) -> u64 {
    let keys = world.site.keys();
    let [repo, publish, to, keys_are, channel, prod] =
        ["repo", "publish", "--repo", "--keys", "--channel", "prod"].map(Path::new);
    peak_kb(world, &[repo, publish, pack, to, repository, keys_are, &keys, channel, prod])
}

#[test]
fn a_large_pack_is_built_and_published_to_a_directory_in_little_memory() {
    let world = World::empty();
    let pack = large(&world);
    let archive = world.path().join("large.tar.gz");
    let [of_pack, build, output] = ["pack", "build", "--output"].map(Path::new);
    let built = peak_kb(&world, &[of_pack, build, &pack, output, &archive]);
    let from_directory = publish(&world, &pack);
    let from_archive = publish(&world, &archive);
    let small = publish(&world, &pack_of(&world, "small", 1 << 10));
    println!(
        "40 MiB: build {built} kB, publish {from_directory} kB, publish the archive {from_archive} kB; 1 KiB: publish {small} kB"
    );
    assert!([built, from_directory, from_archive].iter().all(|peak| *peak <= small + MORE_KB));
}

#[test]
fn a_large_pack_is_published_to_a_bucket_in_little_memory() {
    let world = World::with_bucket();
    let pack = large(&world);
    let began = world.bucket().mark();
    let first = publish(&world, &pack);
    let asked = world.bucket().since(began).requests;
    let uploads: Vec<_> =
        asked.iter().filter(|asked| asked.method == "PUT" && asked.path.contains(".tar.gz")).collect();
    let [upload] = uploads[..] else { panic!("{asked:?}") };
    assert_eq!((upload.condition.as_deref(), upload.status), (Some("*"), 200));
    let digest = upload.content_sha256.as_deref().unwrap();
    assert!(digest.len() == 64 && upload.path.contains(digest), "the signature covers the content: {upload:?}");
    // Its archive is there already, and is compared.
    let again = publish(&world, &pack);
    let small = publish(&world, &pack_of(&world, "small", 1 << 10));
    println!("40 MiB to a bucket: {first} kB, again {again} kB; 1 KiB: {small} kB");
    assert!([first, again].iter().all(|peak| *peak <= small + MORE_KB));
}

#[test]
fn archives_in_a_bucket_are_compared_whatever_their_size() {
    let world = World::with_bucket();
    let (repository, keys) = (world.repository().display().to_string(), world.site.keys().display().to_string());
    // Of these, the library would read no archive; the first is retired by the second.
    for version in ["1.0.0", "1.1.0"] {
        let pack = PackSource::new("large", version).action("nothing", "bolt: {class: diagnostic}", "#!/bin/true\n");
        let directory = pack.write(&world.scratch("sources"));
        let mut noise = fs::File::open("/dev/urandom").unwrap().take(3 << 20);
        copy(&mut noise, &mut fs::File::create(directory.join("noise.bin")).unwrap()).unwrap();
        publish(&world, &directory);
    }
    let diff = ["pack", "diff", "large", "1.0.0", "1.1.0", "--stat", "--repo", &repository, "--keys", &keys];
    let said = world.bolt(&[]).run(diff);
    assert!(said.code == 0 && said.stdout.contains("noise.bin changed"), "{said:?}");
    let archives = world.bucket().keys("bolt/targets/").into_iter().filter(|key| key.ends_with("large/1.1.0.tar.gz"));
    archives.for_each(|key| world.bucket().put(&key, vec![7; 100]));
    let said = world.bolt(&[]).run(diff);
    assert!(said.code != 0 && said.stderr.contains("its bytes are not those that were signed"), "{said:?}");
}

#[test]
fn an_upload_that_fails_is_sent_again_from_its_start() {
    let world = World::with_bucket();
    let proxy = Proxy::before(world.bucket().address());
    // The first upload is refused after all of it was received; of the next one only the answer is lost.
    let faults = [Fault::Status(503, "SlowDown"), Fault::Length(100)];
    for fault in faults.clone() {
        proxy.fail(".tar.gz", 1, fault);
    }
    let pack = large(&world);
    let at = bolt_tests::bucket::location(&world.bucket().url("bolt"), &proxy.endpoint());
    publish_to(&world, &pack, Path::new(&at));
    let met: Vec<Fault> = proxy.passed().into_iter().filter_map(|passed| passed.fault).collect();
    assert_eq!(met, faults);
    let keys = world.bucket().keys("bolt/targets/");
    let key = keys.iter().find(|key| key.ends_with(".tar.gz")).unwrap();
    let mut stored = world.bucket().content(key).unwrap();
    let built = bolt_client::pack::build(&pack).unwrap();
    assert!(stored == built.archive.to_vec().unwrap(), "it is another archive");

    // An object of the same length that differs near its end is not taken for the same.
    let near_end = stored.len() - 10;
    stored[near_end] ^= 1;
    world.bucket().put(key, stored);
    let (repository, keys) = (world.repository().display().to_string(), world.site.keys().display().to_string());
    let pack = pack.display().to_string();
    let command = ["repo", "publish", &pack, "--repo", &repository, "--keys", &keys, "--channel", "prod"];
    let refused = Bolt::new(&world.site.client_config()).run(command);
    assert!(refused.code == 5 && refused.stderr.contains("it is damaged"), "{refused:?}");
}

#[test]
fn a_publisher_that_is_killed_leaves_nothing_behind() {
    let world = World::with_bucket();
    let proxy = Proxy::before(world.bucket().address());
    proxy.fail(".tar.gz", 1, Fault::Hold);
    let at = bolt_tests::bucket::location(&world.bucket().url("bolt"), &proxy.endpoint());
    let (pack, keys, temp) = (large(&world), world.site.keys(), world.scratch("tmp"));
    let before = world.bucket().keys("bolt/");
    let mut command = Bolt::new(&world.site.client_config()).command(["repo", "publish"]);
    command.arg(pack).args(["--repo", &at, "--channel", "prod", "--keys"]).arg(keys).env("TMPDIR", &temp);
    let mut publisher = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !proxy.passed().iter().any(|passed| passed.fault == Some(Fault::Hold)) {
        assert!(Instant::now() < deadline, "the publisher did not come to its archive");
        std::thread::yield_now();
    }
    publisher.kill().unwrap();
    publisher.wait().unwrap();
    // The TUF library keeps a directory for metadata, which a kill leaves.
    let files = fs::read_dir(&temp).unwrap().map(|entry| entry.unwrap()).filter(|e| e.file_type().unwrap().is_file());
    let files: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
    assert!(files.is_empty(), "a temporary file is left: {files:?}");
    let left = world.bucket().keys("bolt/");
    // Targets have their digests in their names, and no metadata name them.
    let metadata = |keys: &[String]| keys.iter().filter(|key| key.starts_with("bolt/metadata/")).count();
    assert_eq!(metadata(&left), metadata(&before), "{left:?}");
    assert!(!left.iter().any(|key| key.ends_with(".tar.gz")), "{left:?}");
}

#[test]
fn a_directory_for_temporary_files_that_cannot_be_written_is_named() {
    let world = World::empty();
    let pack = PackSource::probe().write(&world.scratch("sources"));
    let mut command = Bolt::new(&world.site.client_config()).command(["pack", "build"]);
    let output = command.arg(pack).env("TMPDIR", "/nonexistent").current_dir(world.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("/nonexistent") && said.contains("TMPDIR"), "{said}");
}
