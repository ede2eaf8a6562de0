//! NRPE, the resident program of Nagios, for its memory at rest.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running NRPE; stops when dropped.
pub(crate) struct Nrpe(Child);

impl Nrpe {
    /// Starts one in `directory`, as its package configures it but on loopback; `None` when the machine has none.
    pub(crate) fn start(directory: &Path) -> Option<Nrpe> {
        let program = Path::new("/usr/sbin/nrpe");
        if !program.exists() || !nix::unistd::geteuid().is_root() {
            return None;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let config = directory.join("nrpe.cfg");
        let text = format!(
            "server_address=127.0.0.1\nserver_port={port}\nnrpe_user=nobody\nnrpe_group=nogroup\nallowed_hosts=127.0.0.1\n\
             pid_file={}/nrpe.pid\ncommand[check]=/bin/true\n",
            directory.display()
        );
        fs::write(&config, text).expect("the configuration can be written");
        let mut command = Command::new(program);
        command.arg("-c").arg(&config).arg("-f").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = command.spawn().expect("nrpe can be started");
        for _ in 0..100 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                std::thread::sleep(std::time::Duration::from_secs(1));
                return Some(Nrpe(server));
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        drop(server.kill());
        drop(server.wait());
        None
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Nrpe {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
