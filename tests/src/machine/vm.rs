//! The virtual machine: a QEMU process, its disk, and the port over which the guest takes commands.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bolt_client::local::binary;

/// Time within which the guest must have booted: forty times what an idle host needs.
const BOOT_WITHIN: Duration = Duration::from_secs(240);
/// Time within which a command must end.
const COMMAND_WITHIN: Duration = Duration::from_secs(240);
/// Attempts to boot. The emulated timers of a busy host can stop a kernel before it runs a first process.
const BOOTS: u32 = 3;

/// A machine with a disk of its own, running or not. Dropping it cuts its power.
#[derive(Debug)]
pub(super) struct Vm {
    image: PathBuf,
    /// Disk, console and sockets of this machine.
    directory: PathBuf,
    /// Archive that the guest has as its second disk.
    payload: PathBuf,
    bucket: SocketAddr,
    /// Log of the disk's writes and flushes, if they are recorded.
    log: Option<PathBuf>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    qemu: Child,
    control: BufReader<UnixStream>,
    number: u64,
    address: SocketAddr,
}

/// Outcome of a command in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Exit status.
    pub(super) status: i32,
    /// Both output streams.
    pub(super) output: String,
}

impl Vm {
    /// Copies the image into `directory`, which is made. The guest reaches `bucket` as `10.0.2.100:9000`.
    pub(super) fn create(image: &Path, directory: &Path, payload: PathBuf, bucket: SocketAddr) -> io::Result<Vm> {
        fs::create_dir_all(directory)?;
        let (image, directory) = (image.to_owned(), directory.to_owned());
        let vm = Vm { image, directory, payload, bucket, log: None, running: None };
        let status =
            Command::new("cp").arg("--sparse=always").arg(vm.image.join("disk.img")).arg(vm.disk()).status()?;
        if status.success() { Ok(vm) } else { Err(io::Error::other("the image cannot be copied")) }
    }

    pub(super) fn disk(&self) -> PathBuf {
        self.directory.join("disk.img")
    }

    /// Records the disk's writes and flushes from the next boot on; returns the log's path.
    pub(super) fn record(&mut self) -> io::Result<PathBuf> {
        let log = self.directory.join("disk.log");
        // QEMU does not let the log grow beyond the end of its file.
        fs::File::create(&log)?.set_len(4 << 30)?;
        self.log = Some(log.clone());
        Ok(log)
    }

    /// Turns the machine on and waits until the guest takes commands.
    pub(super) fn boot(&mut self) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..BOOTS {
            self.power_on().map_err(|e| format!("cannot start QEMU: {e}"))?;
            match self.wait_booted() {
                Ok(()) => return Ok(()),
                Err(why) => last = why,
            }
            self.cut();
        }
        Err(format!("the machine does not boot: {last}\n{}", self.console()))
    }

    /// Turns the machine on; [`wait_booted`](Self::wait_booted) waits for it.
    pub(super) fn power_on(&mut self) -> io::Result<()> {
        self.cut();
        let control = self.directory.join("control");
        drop(fs::remove_file(&control));
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let forward = binary("bolt-machine").map_err(io::Error::other)?;
        let network = format!(
            "user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:7443,guestfwd=tcp:10.0.2.100:9000-cmd:{} forward {}",
            forward.display(),
            self.bucket.port()
        );
        let drive = |file: &Path, options: &str| format!("file={},format=raw,if=virtio{options}", file.display());
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=multi", "-m", "512", "-smp", "2", "-M", "q35", "-no-reboot"]);
        qemu.arg("-kernel").arg(self.image.join("vmlinuz")).arg("-initrd").arg(self.image.join("initrd.img"));
        // Without no_timer_check, a kernel that starts on a busy host takes its timer for broken.
        qemu.arg("-append").arg(
            "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 net.ifnames=0 mitigations=off no_timer_check panic=-1",
        );
        match &self.log {
            None => {
                qemu.arg("-drive").arg(drive(&self.disk(), ""));
                qemu.arg("-drive").arg(drive(&self.payload, ",readonly=on"));
            }
            Some(log) => {
                for (node, file) in [("data", &self.disk()), ("log", log)] {
                    qemu.arg("-blockdev").arg(format!("driver=file,node-name={node},filename={}", file.display()));
                }
                qemu.args(["-blockdev", "driver=blklogwrites,node-name=disk,file=data,log=log"]);
                qemu.args(["-device", "virtio-blk-pci,drive=disk"]);
            }
        }
        qemu.arg("-netdev").arg(network).args(["-device", "virtio-net-pci,netdev=n", "-device", "virtio-serial-pci"]);
        qemu.arg("-chardev").arg(format!("socket,id=c,path={},server=on,wait=off", control.display()));
        qemu.args(["-device", "virtserialport,chardev=c,name=control", "-monitor", "none", "-display", "none"]);
        qemu.arg("-serial").arg(format!("file:{}", self.directory.join("console.log").display()));
        let log = fs::File::options().create(true).append(true).open(self.directory.join("qemu.log"))?;
        qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut qemu = qemu.spawn()?;
        let until = Instant::now() + Duration::from_secs(20);
        let stream = loop {
            match UnixStream::connect(&control) {
                Ok(stream) => break stream,
                Err(e) if Instant::now() > until || qemu.try_wait()?.is_some() => {
                    drop(qemu.kill());
                    drop(qemu.wait());
                    return Err(e);
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        self.running = Some(Running { qemu, control: BufReader::new(stream), number: 0, address });
        Ok(())
    }

    /// Waits until the guest takes commands.
    fn wait_booted(&mut self) -> Result<(), String> {
        let running = self.running.as_mut().ok_or("the machine is off")?;
        read(&mut running.control, BOOT_WITHIN).map(drop)
    }

    /// Runs a command in the guest.
    pub(super) fn run(&mut self, command: &str) -> Result<Outcome, String> {
        let running = self.running.as_mut().ok_or("the machine is off")?;
        running.number += 1;
        let line = format!("{} {}\n", running.number, BASE64_STANDARD.encode(command));
        running.control.get_mut().write_all(line.as_bytes()).map_err(|e| e.to_string())?;
        loop {
            let (number, outcome) =
                read(&mut running.control, COMMAND_WITHIN).map_err(|e| format!("{command}: {e}"))?;
            if number == running.number {
                return Ok(outcome);
            }
        }
    }

    /// Runs a command in the guest that must succeed; returns its output.
    pub(super) fn ok(&mut self, command: &str) -> Result<String, String> {
        let Outcome { status, output } = self.run(command)?;
        if status == 0 { Ok(output) } else { Err(format!("{command}: exit status {status}: {output}")) }
    }

    /// Waits until a command succeeds, for sixty seconds of the guest.
    pub(super) fn within_a_minute(&mut self, command: &str) -> Result<(), String> {
        self.ok(&format!("n=0; until {{ {command}; }}; do n=$((n+1)); test $n -lt 60 || exit 1; sleep 1; done"))
            .map(drop)
    }

    /// Address of the agent on this host.
    pub(super) fn address(&self) -> SocketAddr {
        self.running.as_ref().expect("the machine is on").address
    }

    /// Cuts the power: the guest's memory is lost, and what its disk was given is kept.
    pub(super) fn cut(&mut self) {
        if let Some(mut running) = self.running.take() {
            drop(running.qemu.kill());
            drop(running.qemu.wait());
        }
    }

    /// Shuts the guest down in an orderly way, and waits for it.
    pub(super) fn shut_down(&mut self) -> Result<(), String> {
        // The guest may be down before it answers.
        drop(self.run("systemctl --no-block reboot"));
        let mut running = self.running.take().ok_or("the machine is off")?;
        let until = Instant::now() + BOOT_WITHIN;
        // QEMU ends where the guest restarts (-no-reboot).
        while running.qemu.try_wait().map_err(|e| e.to_string())?.is_none() {
            if Instant::now() > until {
                drop(running.qemu.kill());
                drop(running.qemu.wait());
                return Err("the machine does not shut down".to_owned());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Last lines of the console.
    fn console(&self) -> String {
        let text = fs::read(self.directory.join("console.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Reads an answer: number, exit status, output in base64.
fn read(control: &mut BufReader<UnixStream>, within: Duration) -> Result<(u64, Outcome), String> {
    control.get_ref().set_read_timeout(Some(within)).map_err(|e| e.to_string())?;
    let mut line = String::new();
    let length = control.read_line(&mut line).map_err(|e| format!("no answer of the guest: {e}"))?;
    if length == 0 {
        return Err("QEMU has ended".to_owned());
    }
    let mut words = line.trim_end_matches('\n').splitn(3, ' ');
    let (number, status, output) = (words.next(), words.next(), words.next().unwrap_or_default());
    let parsed = (|| {
        let output = String::from_utf8_lossy(&BASE64_STANDARD.decode(output).ok()?).into_owned();
        Some((number?.parse().ok()?, Outcome { status: status?.parse().ok()?, output }))
    })();
    parsed.ok_or_else(|| format!("not an answer: {line:?}"))
}

/// Connects standard input and output with a port of this host: one connection of the guest to the bucket.
pub fn forward(port: u16) -> io::Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    let mut inward = stream.try_clone()?;
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut buffer = [0; 16 << 10];
        while let Ok(length @ 1..) = input.read(&mut buffer) {
            if inward.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        drop(inward.shutdown(std::net::Shutdown::Write));
    });
    let (mut outward, mut output) = (stream, io::stdout().lock());
    let mut buffer = [0; 16 << 10];
    loop {
        match outward.read(&mut buffer)? {
            0 => return Ok(()),
            length => {
                output.write_all(&buffer[..length])?;
                output.flush()?;
            }
        }
    }
}
