//! The main scenario against an independent implementation of S3: moto's server, from PyPI.
//!
//! `.ci/run` installs it and sets `BOLT_MOTO_SERVER`; without it the test says that it was skipped.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bolt_tests::bucket::follow;
use bolt_tests::http::Call;
use bolt_tests::{Bolt, PackSource, World, skip, spec};
use packs_schema::agent::rest::PackList;

use crate::calls::until;

/// A server that runs. Dropping it ends it.
struct Moto {
    server: Child,
    address: String,
}

impl Moto {
    /// Starts one, when it is installed, with a bucket called `packs`.
    fn start() -> Option<Moto> {
        let program = std::env::var_os("BOLT_MOTO_SERVER").map(PathBuf::from).filter(|path| path.exists())?;
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", "0"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut server = command.spawn().unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let address = lines.by_ref().find_map(|line| {
            Some(line.ok()?.split_once("Running on http://")?.1.trim_end_matches('/').trim().to_owned())
        });
        let address = address.expect("it says where it listens");
        // The server writes a line for each request, which must be read.
        std::thread::spawn(move || lines.for_each(drop));
        let moto = Moto { server, address };
        moto.put("/packs", b"");
        Some(moto)
    }

    /// The server accepts this without a signature.
    fn put(&self, path: &str, content: &[u8]) {
        let (address, length) = (&self.address, content.len());
        let head =
            format!("PUT {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(content).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

#[tokio::test]
async fn what_is_published_is_taken_and_what_is_new_is_seen() {
    let Some(moto) = Moto::start() else {
        return skip(
            "s3_moto::what_is_published_is_taken_and_what_is_new_is_seen",
            "BOLT_MOTO_SERVER names no moto_server",
        );
    };
    let world = World::empty();
    let bolt = Bolt::new(&world.site.client_config());
    let endpoint = format!("http://{}", moto.address);
    let reach = ["--endpoint", &endpoint, "--bucket-region", "us-east-1", "--path-style"];
    let repo = |arguments: &[&str]| {
        let all: Vec<&str> = arguments.iter().chain(&reach).copied().collect();
        let said = bolt.run(all);
        assert_eq!(said.code, 0, "{said:?}");
        said
    };
    let other = world.path().join("other-keys").display().to_string();
    repo(&["repo", "init", "s3://packs/another", "--keys", &other, "--plain-keys"]);
    let (metadata, keys) = (world.site.repository().join("metadata"), world.site.keys().display().to_string());
    for name in ["1.root.json", "1.targets.json", "1.snapshot.json", "timestamp.json"] {
        moto.put(&format!("/packs/bolt/metadata/{name}"), &std::fs::read(metadata.join(name)).unwrap());
    }
    let publish = |version: &str| {
        let source = PackSource::probe().version(version).write(&world.scratch("sources")).display().to_string();
        repo(&["repo", "publish", &source, "--repo", "s3://packs/bolt", "--keys", &keys, "--channel", "prod"]);
    };
    publish("1.0.0");
    let spec = follow(spec("i-1"), "s3://packs/bolt", &endpoint).set("repository", "poll", "1s");
    let agent = world.start(&spec);
    let operator = world.operator(&agent);
    let version = async || {
        let packs: PackList = operator.send(Call::get("/v1/packs")).await.json();
        packs.items.first().and_then(|pack| Some(pack.version.as_ref()?.to_string()))
    };
    assert_eq!(version().await.as_deref(), Some("1.0.0"), "{:?}", agent.sync_status());
    publish("1.1.0");
    until("the new version", async || version().await.as_deref() == Some("1.1.0")).await;
    let polls = agent.sync_status().unwrap().polls;
    let ended = || std::fs::read(agent.directory().join("run/sync.json")).unwrap();
    let first = ended();
    until("another poll", async || ended() != first).await;
    assert_eq!(agent.sync_status().unwrap().polls, polls, "304 is understood: an idle poll says nothing");
}
