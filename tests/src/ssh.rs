//! The rival of the benchmarks: an `sshd` of our own on loopback, stock and tuned, and a client with a key. `SHLVL=2` keeps
//! the account's shell from reading its start-up files, which can take longer than all the rest.

use std::fs;
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running `sshd`, and how to reach it; stops when dropped.
#[derive(Debug)]
pub struct Sshd {
    server: Child,
    directory: PathBuf,
    port: u16,
    tuned: bool,
}

impl Sshd {
    /// Starts one in `directory`; `None` when the machine has none, or its keys cannot be made.
    pub fn start(directory: &Path, tuned: bool) -> io::Result<Option<Sshd>> {
        let program = Path::new("/usr/sbin/sshd");
        if !program.exists() || !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        fs::create_dir_all("/run/sshd")?;
        for name in ["host", "user"] {
            let path = directory.join(name);
            let status =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status()?;
            assert!(status.success(), "ssh-keygen failed");
        }
        fs::copy(directory.join("user.pub"), directory.join("authorized_keys"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let shown = directory.display();
        let mut config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {shown}/host\nAuthorizedKeysFile {shown}/authorized_keys\n\
             PidFile none\nSetEnv SHLVL=2\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nMaxSessions 100\n"
        );
        config += if tuned {
            "UsePAM no\nUseDNS no\nPrintMotd no\nKexAlgorithms curve25519-sha256\n"
        } else {
            "UsePAM yes\n"
        };
        let path = directory.join("sshd_config");
        fs::write(&path, config)?;
        let server = Command::new(program).args(["-D", "-e", "-f"]).arg(&path).stderr(Stdio::null()).spawn()?;
        let sshd = Sshd { server, directory: directory.to_owned(), port, tuned };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "sshd did not listen within 10 s");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(sshd))
    }

    /// Returns the process id of the server.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Runs `program` over a new connection.
    pub fn run_new(&self, program: &Path) -> io::Result<()> {
        self.run(self.client().arg("localhost").arg(program))
    }

    /// Opens a master connection; it ends when the returned guard is dropped.
    pub fn master(&self) -> io::Result<Master<'_>> {
        let mut command = self.client();
        command.args(["-M", "-N", "-f", "-o", "ControlPersist=yes"]).arg(self.control()).arg("localhost");
        self.run(&mut command)?;
        Ok(Master { sshd: self })
    }

    /// Opens master connections as to `count` hosts; they end when the returned guard is dropped.
    pub fn masters(&self, count: u32) -> io::Result<Masters<'_>> {
        let masters = Masters { sshd: self, count };
        for number in 0..count {
            let mut command = self.client();
            command
                .args(["-M", "-N", "-f", "-o", "ControlPersist=yes", "-S"])
                .arg(self.control_of(&number.to_string()));
            self.run(command.arg("localhost"))?;
        }
        Ok(masters)
    }

    fn control_of(&self, host: &str) -> PathBuf {
        self.directory.join(format!("c{host}"))
    }

    fn client(&self) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-p", &self.port.to_string(), "-i"]).arg(self.directory.join("user"));
        command.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]);
        command.args(["-o", "HostName=127.0.0.1", "-o", "IdentitiesOnly=yes", "-l", "root"]);
        if self.tuned {
            command.args(["-o", "KexAlgorithms=curve25519-sha256", "-o", "HostKeyAlgorithms=ssh-ed25519"]);
            command.args(["-o", "GSSAPIAuthentication=no", "-o", "PreferredAuthentications=publickey"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn control(&self) -> String {
        format!("-oControlPath={}/control", self.directory.display())
    }

    fn run(&self, command: &mut Command) -> io::Result<()> {
        let status = command.status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("ssh ended with {status}"))) }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// A warm master connection.
#[derive(Debug)]
pub struct Master<'a> {
    sshd: &'a Sshd,
}

impl Master<'_> {
    /// Runs `program` over it.
    pub fn run(&self, program: &Path) -> io::Result<()> {
        self.sshd.run(self.sshd.client().arg(self.sshd.control()).arg("localhost").arg(program))
    }
}

impl Drop for Master<'_> {
    fn drop(&mut self) {
        let mut command = self.sshd.client();
        drop(command.args(["-O", "exit"]).arg(self.sshd.control()).arg("localhost").status());
    }
}

/// Warm master connections, as to many hosts.
#[derive(Debug)]
pub struct Masters<'a> {
    sshd: &'a Sshd,
    count: u32,
}

impl Masters<'_> {
    /// Runs `program` over each, with `xargs -P`.
    pub fn run_everywhere(&self, parallel: u32, program: &Path) -> io::Result<()> {
        let ssh = self.sshd.client();
        let mut command = Command::new("xargs");
        command.args(["-P", &parallel.to_string(), "-I", "{}"]).arg(ssh.get_program()).args(ssh.get_args());
        command.arg("-S").arg(self.sshd.control_of("{}")).arg("localhost").arg(program);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let hosts: String = (0..self.count).map(|number| format!("{number}\n")).collect();
        // Dropping standard input ends the list.
        child.stdin.take().expect("it is piped").write_all(hosts.as_bytes())?;
        let status = child.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("xargs ended with {status}"))) }
    }
}

impl Drop for Masters<'_> {
    fn drop(&mut self) {
        for number in 0..self.count {
            let mut command = self.sshd.client();
            drop(
                command
                    .args(["-O", "exit", "-S"])
                    .arg(self.sshd.control_of(&number.to_string()))
                    .arg("localhost")
                    .status(),
            );
        }
    }
}
