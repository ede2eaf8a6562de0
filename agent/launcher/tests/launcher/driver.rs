//! Test driver: one launcher per test, a store for actions, and the records of executions.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use packs_schema::agent::execution::output::{Frame, HEADER, MAGIC, Stream, parse_tail_name};
use packs_schema::agent::execution::{Exit, Started};
use packs_schema::agent::launch::{Operation, Outcome, Refusal, Reply, Request, Start};
use packs_schema::agent::rest::Enforcement;
use packs_schema::base::name::{ActionName, Digest, ExecutionId, PackName, PackVersion};
use serde_json::{Map, Value, json};

/// Deadline of every wait. Only reached when a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

const PACK: &str = "demo";
const VERSION: &str = "1.0.0";

/// Serialises writes of files and starts of launchers: a script that is open for writing in any process cannot be executed
/// (ETXTBSY), and a fork copies open descriptors.
static WRITING: Mutex<()> = Mutex::new(());

pub(crate) fn writing() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// Reports that a test cannot run on this host.
pub(crate) fn skipped(test: &str, why: &str) {
    // Not by eprintln, which the test harness captures when a test succeeds.
    std::io::stderr().write_all(format!("SKIPPED {test}: {why}\n").as_bytes()).unwrap();
}

pub(crate) struct Host {
    dir: tempfile::TempDir,
    launcher: Child,
    socket: Option<UnixStream>,
    seq: u64,
}

impl Host {
    /// Starts a launcher that does not require limits.
    pub(crate) fn new() -> Host {
        Host::with("require_limits = false", "")
    }

    /// Starts a launcher with these lines under `[execution]` and `[users]`.
    pub(crate) fn with(execution: &str, users: &str) -> Host {
        let dir = base();
        // When the tests run in a v2 group themselves, their launchers cannot create groups in it.
        let own = std::env::var("BOLT_TEST_CGROUP").ok().filter(|_| !execution.contains("cgroup ="));
        let own = own.map(|parent| format!("\ncgroup = \"{parent}/{}\"", new_id())).unwrap_or_default();
        let config = write_config(dir.path(), &format!("{execution}{own}"), users, "");
        let (ours, theirs) = UnixStream::pair().unwrap();
        Host::begun(dir, launch(launcher(&config), theirs), ours)
    }

    /// Starts a launcher that logs to `launcher.log`; `prepare` prepares its directory before.
    pub(crate) fn logged(prepare: impl FnOnce(&Path)) -> Host {
        let dir = base();
        let config = write_config(dir.path(), "require_limits = false", "", "");
        prepare(dir.path());
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = launcher(&config);
        command.stderr(fs::File::create(dir.path().join("launcher.log")).unwrap());
        Host::begun(dir, launch(command, theirs), ours)
    }

    /// Starts a launcher whose instance id comes from the metadata service.
    pub(crate) fn without_instance_id() -> Host {
        let dir = base();
        let config = write_config(dir.path(), "require_limits = false", "", "");
        let text = fs::read_to_string(&config).unwrap();
        let (before, rest) = text.split_once("id = ").unwrap();
        put(&config, format!("{before}metadata = true\n{}", &rest[rest.find("[api]").unwrap()..]).as_bytes(), 0o644);
        let (ours, theirs) = UnixStream::pair().unwrap();
        Host::begun(dir, launch(launcher(&config), theirs), ours)
    }

    /// Starts a launcher that sees no v2 hierarchy; `None` on a host with only one hierarchy or without mount namespaces.
    pub(crate) fn without_v2() -> Option<Host> {
        let v2 = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let v2 = v2.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?.to_owned();
        let hide = format!("umount {v2} && exec \"$0\" \"$@\"");
        let probe = Command::new("unshare").args(["-m", "sh", "-c", &hide, "true"]).output();
        if v2 == "/sys/fs/cgroup" || !probe.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let dir = base();
        let config = write_config(dir.path(), "require_limits = false", "", "");
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &hide, env!("CARGO_BIN_EXE_bolt-launch"), "serve", "--config"]).arg(&config);
        Some(Host::begun(dir, launch(command, theirs), ours))
    }

    fn begun(dir: tempfile::TempDir, launcher: Child, ours: UnixStream) -> Host {
        let host = Host { dir, launcher, socket: Some(ours), seq: 0 };
        wait_for("enforcement.json", || host.path("run/enforcement.json").exists().then_some(()));
        host
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub(crate) fn launcher_pid(&self) -> u32 {
        self.launcher.id()
    }

    /// Returns the shims of this launcher, busy and idle ones.
    pub(crate) fn shims(&self) -> Vec<i32> {
        let launcher = self.launcher_pid();
        let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap_or_default();
        let is_shim =
            |pid: &&str| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "bolt-shim\n");
        children.split_whitespace().filter(is_shim).map(|pid| pid.parse().unwrap()).collect()
    }

    pub(crate) fn enforcement(&self) -> Enforcement {
        serde_json::from_slice(&fs::read(self.path("run/enforcement.json")).unwrap()).unwrap()
    }

    /// Returns the directory of the pack's version.
    pub(crate) fn version(&self) -> PathBuf {
        self.path(&format!("packs/{PACK}/{VERSION}-{}", digest().short()))
    }

    /// Adds an action to the store, with `script` as its entry point and `changes` applied to the default definition.
    pub(crate) fn action(&self, name: &str, script: &str, changes: Value) {
        let _guard = writing();
        let (version, file) = (self.version(), format!("{name}.sh"));
        for dir in [version.join("actions"), version.join(".bolt/actions")] {
            fs::create_dir_all(&dir).unwrap();
        }
        let current = self.path(&format!("packs/{PACK}/current"));
        if !current.is_symlink() {
            std::os::unix::fs::symlink(version.file_name().unwrap(), current).unwrap();
        }
        let stored = json!({"format": 1, "digest": digest(), "pack": {"name": PACK, "version": VERSION, "description": "",
            "author": "", "email": "", "keywords": []}});
        put(&version.join(".bolt/pack.json"), stored.to_string().as_bytes(), 0o644);
        let mut action = json!({"pack": PACK, "name": name, "description": "", "runner_type": "local-shell-script",
            "entry_point": file, "enabled": true, "parameters": {}, "tags": [], "class": "diagnostic", "timeout": "30s",
            "grace": "5s", "start_within": "1m", "output_max": "1MiB", "noop": false, "new_privileges": false,
            "limits": {"memory": "256MiB", "cpu": "100%", "pids": 64, "open_files": 256}});
        for (key, value) in changes.as_object().unwrap() {
            action[key] = value.clone();
        }
        put(&version.join(format!(".bolt/actions/{name}.json")), action.to_string().as_bytes(), 0o644);
        put(&version.join(format!("actions/{file}")), script.as_bytes(), 0o755);
    }

    /// Creates the directory of a new execution and returns the request that starts it.
    pub(crate) fn request(&self, action: &str, parameters: Value) -> Start {
        let execution = new_id();
        DirBuilder::new().mode(0o700).create(self.path(&format!("state/exec/{execution}"))).unwrap();
        let Value::Object(parameters) = parameters else { panic!("parameters are an object") };
        Start {
            execution,
            pack: PackName::new(PACK).unwrap(),
            version: PackVersion::new(VERSION).unwrap(),
            digest: digest(),
            action: ActionName::new(action).unwrap(),
            parameters,
            noop: false,
            timeout_ms: None,
            run: None,
            traceparent: None,
        }
    }

    pub(crate) fn ask(&mut self, ask: Operation) -> Outcome {
        let seq = self.tell(ask);
        let reply = self.receive().expect("a reply");
        assert_eq!(reply.seq, seq);
        reply.outcome
    }

    /// Sends a request, and returns its number.
    pub(crate) fn tell(&mut self, ask: Operation) -> u64 {
        self.seq += 1;
        let request = serde_json::to_vec(&Request::new(self.seq, ask)).unwrap();
        self.send_frame(&request);
        self.seq
    }

    /// Sends a frame. If the launcher disconnects meanwhile, the next `receive` returns `None`.
    pub(crate) fn send_frame(&mut self, json: &[u8]) {
        let socket = self.socket.as_mut().unwrap();
        socket.write_all(&u32::try_from(json.len()).unwrap().to_le_bytes()).unwrap();
        match socket.write_all(json) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
            sent => sent.unwrap(),
        }
    }

    pub(crate) fn receive(&mut self) -> Option<Reply> {
        let socket = self.socket.as_mut().unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut length = [0; 4];
        socket.read_exact(&mut length).ok()?;
        let mut json = vec![0; u32::from_le_bytes(length) as usize];
        socket.read_exact(&mut json).ok()?;
        Some(serde_json::from_slice(&json).unwrap())
    }

    pub(crate) fn start(&mut self, start: &Start) -> Outcome {
        self.ask(Operation::Start(Box::new(start.clone())))
    }

    /// Starts an action; panics if it is refused.
    pub(crate) fn started(&mut self, start: &Start) -> Execution {
        assert_eq!(self.start(start), Outcome::Done);
        self.execution(&start.execution)
    }

    pub(crate) fn execution(&self, id: &ExecutionId) -> Execution {
        Execution { id: id.clone(), dir: self.path(&format!("state/exec/{id}")) }
    }

    /// Runs a script as an action without parameters and waits for its end.
    pub(crate) fn run(&mut self, script: &str, changes: Value) -> Finished {
        self.action("it", script, changes);
        let request = self.request("it", json!({}));
        self.started(&request).finished()
    }

    /// Requests an action that must be refused; returns code and message.
    pub(crate) fn refused(&mut self, start: &Start) -> (Refusal, String) {
        match self.start(start) {
            Outcome::Refused { code, message } => (code, message),
            Outcome::Done => panic!("it was started"),
        }
    }

    /// Closes the socket and waits for the launcher to end.
    pub(crate) fn disconnect(&mut self) -> std::process::ExitStatus {
        self.socket = None;
        self.launcher.wait().unwrap()
    }

    pub(crate) fn kill_launcher(&mut self) {
        self.launcher.kill().unwrap();
        self.launcher.wait().unwrap();
    }

    /// Starts a new launcher after the previous one was killed.
    pub(crate) fn restart_launcher(&mut self) {
        fs::remove_file(self.path("run/enforcement.json")).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.launcher = launch(launcher(&self.path("agent.toml")), theirs);
        (self.socket, self.seq) = (Some(ours), 0);
        wait_for("enforcement.json", || self.path("run/enforcement.json").exists().then_some(()));
    }

    pub(crate) fn wait_launcher(&mut self) -> std::process::ExitStatus {
        self.launcher.wait().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.socket = None;
        let _ = self.launcher.wait();
        // An execution left by a failed test.
        for entry in fs::read_dir(self.path("state/exec")).into_iter().flatten().flatten() {
            let (lock, exit) = (entry.path().join("lock"), entry.path().join("exit"));
            if lock.exists() && !exit.exists() {
                let _ = fs::write(entry.path().join("kill"), "");
                let until = Instant::now() + Duration::from_secs(20);
                while !exit.exists() && Instant::now() < until && std::thread::panicking() {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
}

pub(crate) struct Execution {
    pub(crate) id: ExecutionId,
    pub(crate) dir: PathBuf,
}

impl Execution {
    /// Waits for the exit record, and until the shim has cleaned up and released the lock.
    pub(crate) fn finished(self) -> Finished {
        let exit = wait_for("exit", || fs::read(self.dir.join("exit")).ok());
        wait_for("the clean-up", || match fs::File::open(self.dir.join("lock")) {
            Ok(lock) => lock.try_lock_shared().ok(),
            Err(_) => Some(()),
        });
        let exit: Exit = serde_json::from_slice(&exit).unwrap();
        let started = fs::read(self.dir.join("started")).ok().map(|s| serde_json::from_slice(&s).unwrap());
        Finished { exit, started, output: Output::read(&self.dir), dir: self.dir }
    }

    /// Waits until standard output contains `text`.
    pub(crate) fn wait_for_stdout(&self, text: &str) -> String {
        wait_for(text, || {
            let said = String::from_utf8_lossy(&Output::read(&self.dir).text(Stream::Stdout)).into_owned();
            said.contains(text).then_some(said)
        })
    }
}

pub(crate) struct Finished {
    pub(crate) exit: Exit,
    pub(crate) started: Option<Started>,
    pub(crate) output: Output,
    pub(crate) dir: PathBuf,
}

impl Finished {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.text(Stream::Stdout)).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.text(Stream::Stderr)).into_owned()
    }
}

/// Frames of all segments, by stream and offset.
pub(crate) struct Output {
    pub(crate) frames: BTreeMap<(Stream, u64), Vec<u8>>,
}

impl Output {
    fn read(dir: &Path) -> Output {
        let mut frames = BTreeMap::new();
        let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        for name in names.filter(|n| n == "output.log" || parse_tail_name(n).is_some()) {
            let bytes = fs::read(dir.join(name)).unwrap_or_default();
            let mut rest = bytes.strip_prefix(&MAGIC).unwrap_or_default();
            while let Some(header) = rest.first_chunk::<HEADER>() {
                let frame = Frame::decode(header).unwrap();
                let Some(data) = rest[HEADER..].get(..frame.length as usize) else { break };
                frames.insert((frame.stream, frame.offset), data.to_vec());
                rest = &rest[HEADER + data.len()..];
            }
        }
        Output { frames }
    }

    pub(crate) fn text(&self, stream: Stream) -> Vec<u8> {
        self.frames.iter().filter(|((of, _), _)| *of == stream).flat_map(|(_, data)| data.clone()).collect()
    }
}

/// Retries until `probe` returns a value; panics at the deadline.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Returns true if a process with this id is alive.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

pub(crate) fn new_id() -> ExecutionId {
    let random = RandomState::new();
    let (a, b) = (random.hash_one(0), random.hash_one(1));
    let id = format!("{:08x}-{:04x}-7{:03x}-8{:03x}-{:012x}", a >> 32, a >> 16 & 0xffff, a & 0xfff, b & 0xfff, b >> 16);
    ExecutionId::new(id).unwrap()
}

pub(crate) fn digest() -> Digest {
    Digest::new("ab".repeat(32)).unwrap()
}

/// Writes a file. A new one each time: the script of an action that still runs cannot be written to (ETXTBSY).
pub(crate) fn put(path: &Path, content: &[u8], mode: u32) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", path.display()),
        _ => fs::write(path, content).unwrap(),
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Creates a temporary directory that other accounts can read.
pub(crate) fn base() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("bolt-launch-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    for (name, mode) in [("packs", 0o755), ("packs/demo", 0o755), ("state", 0o700), ("state/exec", 0o700)] {
        DirBuilder::new().mode(mode).create(dir.path().join(name)).unwrap();
    }
    dir
}

pub(crate) fn write_config(base: &Path, execution: &str, users: &str, more_paths: &str) -> PathBuf {
    let at = base.display();
    let text = format!(
        "[instance]\nid = \"i-test\"\nregion = \"us-east-1\"\nzone = \"us-east-1a\"\n\
         [api]\nlisten = \"127.0.0.1:0\"\n\
         [tls]\ncertificate = \"{at}/c\"\nkey = \"{at}/k\"\nclient_ca = \"{at}/a\"\n\
         [paths]\nstate = \"{at}/state\"\npacks = \"{at}/packs\"\nruntime = \"{at}/run\"\n{more_paths}\n\
         [repository]\nurl = \"file://{at}/repo\"\nroot = \"{at}/root.json\"\nchannel = \"test\"\n\
         [execution]\n{execution}\n[users]\n{users}\n",
    );
    let path = base.join("agent.toml");
    put(&path, text.as_bytes(), 0o644);
    path
}

pub(crate) fn launcher(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bolt-launch"));
    command.args(["serve", "--config"]).arg(config).env_clear().env("SECRET_OF_THE_LAUNCHER", "must not be seen");
    command
}

fn launch(mut command: Command, socket: UnixStream) -> Child {
    let _guard = writing();
    command.arg("--attach").stdin(Stdio::from(OwnedFd::from(socket))).spawn().unwrap()
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("an object") };
    map
}
