//! Packages from the site's address: over https, and from a bucket by the real `aws` command.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use super::{Host, Server, Version, digest, tls_server};
use crate::driver::{action, skip};
use crate::service::script;

/// Server of files over https, each a whole response.
struct Https {
    _server: Server,
    dir: TempDir,
    port: u16,
}

impl Https {
    fn new(keys: &Path) -> Https {
        let dir = TempDir::new().unwrap();
        let (server, port) = tls_server(keys, dir.path(), &["-HTTP"]);
        Https { _server: server, dir, port }
    }

    fn answers(&self, name: &str, head: &str, body: &[u8]) {
        let response = [format!("HTTP/1.0 {head}\r\n\r\n").as_bytes(), body].concat();
        fs::write(self.dir.path().join(name), response).unwrap();
    }

    fn address(&self, name: &str) -> String {
        format!("https://127.0.0.1:{}/{name}", self.port)
    }
}

#[test]
fn a_package_comes_over_https_from_the_servers_that_the_site_trusts() {
    let Some(host) = Host::new("a_package_comes_over_https_from_the_servers_that_the_site_trusts") else { return };
    let keys = TempDir::new().unwrap();
    let https = Https::new(keys.path());
    let file = host.package("1.1", Version::Good);
    let package = fs::read(&file).unwrap();
    https.answers("package", "200 OK", &package);
    https.answers("other", "200 OK", &[&package[..], b"x"].concat());
    https.answers("plain", "302 Found\r\nLocation: http://127.0.0.1:9/package", b"");
    https.answers("local", &format!("302 Found\r\nLocation: file://{}", file.display()), b"");
    https.answers("moved", &format!("302 Found\r\nLocation: {}", https.address("package")), b"");
    https.answers("broken", "500 Oops", b"");
    let first = digest(&host.package("1.0", Version::Good));
    let upgrade = |name: &str, ca_file: Option<&str>| {
        let mut site = json!({"source": "url", "url": https.address(name), "root": host.root(), "directory": host.dir.path().join("kept")});
        if let Some(file) = ca_file {
            site["ca_file"] = json!(keys.path().join(file));
        }
        // The first version is there already, as after an upgrade.
        let parameters = json!({"version": "1.1", "sha256": digest(&file), "rollback_sha256": first, "without_rollback": true, "start_wait": 3, "settle": 0});
        action("bolt_engine.upgrade", parameters).programs(host.bin.path()).config(site).go()
    };
    let ours = Some("cert.pem");
    upgrade("package", None).refused(3, "certificate verify failed");
    upgrade("plain", ours).refused(3, "redirected to an address without https");
    upgrade("local", ours).refused(3, "is not allowed");
    upgrade("broken", ours).refused(3, "Oops");
    upgrade("other", ours).refused(1, "not the expected");
    assert_eq!(host.installed(), "1.0");
    assert_eq!(upgrade("moved", ours).well().result["outcome"], "upgraded");
    assert_eq!(host.installed(), "1.1");
}

/// A server of S3, from PyPI, as `tests/src/moto.rs` starts it.
struct Bucket {
    _server: Server,
    address: String,
}

impl Bucket {
    fn start(program: &Path) -> Bucket {
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", "0"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut server = command.spawn().unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let found = lines.find_map(|line| Some(line.unwrap().split_once("Running on http://")?.1.trim().to_owned()));
        // Drains further output, which would fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Bucket { _server: Server(server), address: found.unwrap() }
    }

    /// Puts an object, or makes a bucket: the server accepts this without a signature.
    fn put(&self, path: &str, content: &[u8]) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (address, length) = (&self.address, content.len());
        write!(
            stream,
            "PUT {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        )
        .unwrap();
        stream.write_all(content).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    }
}

#[test]
fn a_package_comes_from_a_bucket_by_the_aws_command() {
    let test = "a_package_comes_from_a_bucket_by_the_aws_command";
    let Some(moto) = std::env::var_os("BOLT_MOTO_SERVER").map(PathBuf::from).filter(|path| path.exists()) else {
        return skip(test, "BOLT_MOTO_SERVER names no server of S3");
    };
    let aws = moto.with_file_name("aws");
    if !aws.exists() {
        return skip(test, "there is no aws command beside BOLT_MOTO_SERVER");
    }
    let Some(host) = Host::new(test) else { return };
    let bucket = Bucket::start(&moto);
    // An instance has credentials and a region from its metadata service.
    let command = format!(
        "export AWS_ENDPOINT_URL=http://{} AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b AWS_REGION=us-east-1\nexec '{}' \"$@\"\n",
        bucket.address,
        aws.display()
    );
    script(host.bin.path(), "aws", &command);
    let (first, file) = (digest(&host.package("1.0", Version::Good)), host.package("1.1", Version::Good));
    bucket.put("/packages", b"");
    let name = file.file_name().unwrap().to_str().unwrap();
    bucket.put(&format!("/packages/bolt/{name}"), &fs::read(&file).unwrap());
    let upgrade = |version: &str, sha256: &str| {
        let site = json!({"source": "url", "url": "s3://packages/bolt/bolt-agent_{version}_{arch}.deb", "root": host.root(),
            "directory": host.dir.path().join("kept")});
        // The first version is there already, as after an upgrade.
        let parameters = json!({"version": version, "sha256": sha256, "rollback_sha256": first, "without_rollback": true,
            "start_wait": 3, "settle": 0});
        action("bolt_engine.upgrade", parameters).programs(host.bin.path()).config(site).go()
    };
    let missing = upgrade("1.7", &digest(&file)).refused(3, "aws s3 cp s3://packages/bolt/bolt-agent_1.7_");
    assert!(missing.stderr.contains("404"), "{}", missing.stderr);
    upgrade("1.1", &"0".repeat(64)).refused(1, "not the expected");
    assert_eq!(host.installed(), "1.0");
    assert_eq!(upgrade("1.1", &digest(&file)).well().result["outcome"], "upgraded");
    assert_eq!(host.installed(), "1.1");
}
