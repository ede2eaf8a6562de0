//! Moto's server, from PyPI: an independent implementation of S3, EC2 and STS.
//!
//! `.ci/run` installs it and sets `BOLT_MOTO_SERVER`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::bucket::ACCESS_KEY;

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct Moto {
    server: Child,
    address: String,
}

impl Moto {
    /// Starts a server, if it is installed.
    pub fn start() -> Option<Moto> {
        let program = std::env::var_os("BOLT_MOTO_SERVER").map(PathBuf::from).filter(|path| path.exists())?;
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", "0"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut server = command.spawn().expect("moto_server can be run");
        let mut lines = BufReader::new(server.stderr.take().expect("it is piped")).lines();
        let address = lines.by_ref().find_map(|line| {
            Some(line.ok()?.split_once("Running on http://")?.1.trim_end_matches('/').trim().to_owned())
        });
        let address = address.expect("it prints its address");
        // The server writes a line for each request, which must be read.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Moto { server, address })
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address.parse().expect("an IP address and a port")
    }

    /// Returns `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts an object, or makes a bucket: the server accepts this without a signature.
    pub fn put(&self, path: &str, content: &[u8]) {
        let said = self.send(&format!("PUT {path}"), "", content);
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    }

    /// Starts an instance in the account of an access key, with tags; returns its id.
    pub fn run_instance(&self, key: &str, region: &str, tags: &[(&str, &str)]) -> String {
        let mut form = "Action=RunInstances&ImageId=ami-12c6146b&MinCount=1&MaxCount=1".to_owned();
        form += "&TagSpecification.1.ResourceType=instance";
        for (number, (name, value)) in (1..).zip(tags) {
            let prefix = format!("&TagSpecification.1.Tag.{number}");
            form += &format!("{prefix}.Key={name}{prefix}.Value={value}");
        }
        element(&self.query(key, region, "ec2", &form), "instanceId")
    }

    /// Stops or terminates an instance.
    pub fn end_instance(&self, region: &str, action: &str, id: &str) {
        self.query(ACCESS_KEY, region, "ec2", &format!("Action={action}&InstanceId.1={id}"));
    }

    /// Returns an access key in another account.
    pub fn key_of_role(&self, arn: &str) -> String {
        let form = format!("Action=AssumeRole&RoleArn={arn}&RoleSessionName=tests");
        element(&self.query(ACCESS_KEY, "us-east-1", "sts", &form), "AccessKeyId")
    }

    /// Sends a request of the query protocol. The server looks only at account and region of the signature.
    fn query(&self, key: &str, region: &str, service: &str, form: &str) -> String {
        let headers = format!(
            "authorization: AWS4-HMAC-SHA256 Credential={key}/20260101/{region}/{service}/aws4_request, \
             SignedHeaders=host, Signature=none\r\ncontent-type: application/x-www-form-urlencoded\r\n"
        );
        let version = if service == "sts" { "2011-06-15" } else { "2016-11-15" };
        let said = self.send("POST /", &headers, format!("{form}&Version={version}").as_bytes());
        assert!(said.starts_with("HTTP/1.1 200"), "{form}: {said}");
        said
    }

    fn send(&self, line: &str, headers: &str, content: &[u8]) -> String {
        let (address, length) = (&self.address, content.len());
        let head = format!(
            "{line} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(head.as_bytes()).expect("it reads");
        stream.write_all(content).expect("it reads");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("it answers");
        said
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// Returns the text of the first element with this name.
fn element(xml: &str, name: &str) -> String {
    let (_, rest) = xml.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name} in {xml}"));
    rest.split_once('<').expect("the element ends").0.to_owned()
}
