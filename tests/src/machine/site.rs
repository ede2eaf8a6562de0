//! Contents of the machine: packages in two versions, certificates, the root of trust; and the pack that it runs, in a bucket.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bolt_client::local::binary;
use bolt_client::pki::Validity;
use packs_schema::base::name::InstanceId;

use super::vm::Vm;
use crate::bucket::{ACCESS_KEY, SECRET_KEY};
use crate::{Bolt, PackSource, World};

/// Id of the instance.
pub(super) const ID: &str = "i-machine";
/// Id of the second instance, where there are two.
pub(super) const SECOND: &str = "i-second";
/// Id of the instance whose power is cut, beside the others or alone.
pub(super) const THIRD: &str = "i-third";
/// Versions of the packages. The programs are the same, unless [`EARLIER`] has the first.
pub(super) const VERSIONS: [&str; 2] = ["0.1.0-1", "0.2.0-1"];
/// Environment variable: directory with the packages of an earlier build, as the first version.
const EARLIER: &str = "BOLT_TEST_MACHINE_EARLIER";
/// Version whose launcher ends at once.
pub(super) const BAD_VERSION: &str = "0.3.0-1";

/// Authority, bucket and directory of a machine.
#[derive(Debug)]
pub struct MachineSite {
    pub(super) world: World,
}

impl MachineSite {
    /// Builds the packages, publishes the pack and writes everything to the payload.
    pub fn create() -> Result<MachineSite, String> {
        let world = World::with_bucket();
        let site = MachineSite { world };
        site.world.publish(&pack());
        let payload = site.directory().join("payload");
        fs::create_dir_all(&payload).map_err(|e| e.to_string())?;
        let programs = binary("bolt").map_err(|e| e.to_string())?;
        let programs = programs.parent().map(Path::to_owned).unwrap_or_default();
        let [first, second] = VERSIONS;
        let bad = bad_programs(&programs, &site.directory().join("bad"))?;
        std::thread::scope(|scope| {
            let others = [(second, &programs), (BAD_VERSION, &bad)].map(|(version, programs)| {
                scope.spawn({
                    let payload = &payload;
                    move || build(version, programs, payload)
                })
            });
            match std::env::var_os(EARLIER) {
                None => build(first, &programs, &payload)?,
                Some(earlier) => copy_packages(first, Path::new(&earlier), &payload)?,
            }
            others.into_iter().try_for_each(|other| other.join().map_err(|_| "a build panicked".to_owned())?)
        })?;
        for id in [ID, SECOND, THIRD] {
            let instance = InstanceId::new(id).map_err(|e| e.to_string())?;
            let authority = site.world.site.authority();
            let issued = authority.issue_instance(&instance, Validity::days(30)).map_err(|e| e.to_string())?;
            issued.write(&payload, id).map_err(|e| e.to_string())?;
        }
        let copy = |from: &Path, to: &str| fs::copy(from, payload.join(to)).map(drop).map_err(|e| e.to_string());
        copy(&site.world.site.ca(), "clients.pem")?;
        copy(&site.world.site.repository().join("metadata/1.root.json"), "root.json")?;
        fs::write(payload.join("configure"), configure()).map_err(|e| e.to_string())?;
        let mut tar = Command::new("tar");
        tar.arg("-cf").arg(site.directory().join("payload.tar")).arg("-C").arg(&payload).arg(".");
        let status = tar.status().map_err(|e| e.to_string())?;
        if status.success() { Ok(site) } else { Err("tar failed".to_owned()) }
    }

    /// Directory of the payload, and of each machine's disk and logs.
    pub fn directory(&self) -> &Path {
        self.world.path()
    }

    /// Creates a machine, boots it and installs the first package.
    pub(super) fn install(&self, image: &Path, id: &str) -> Result<Vm, String> {
        let (directory, payload) = (self.directory().join("machines").join(id), self.directory().join("payload.tar"));
        let created = Vm::create(image, &directory, payload, self.world.bucket().address());
        let mut vm = created.map_err(|e| e.to_string())?;
        vm.boot()?;
        vm.ok("mkdir /root/payload && tar -C /root/payload -xf /dev/vdb")?;
        vm.ok(&dpkg(VERSIONS[0]))?;
        Ok(vm)
    }

    /// Configures and starts the agent, as the operator's paper says.
    pub(super) fn start(&self, vm: &mut Vm, id: &str) -> Result<(), String> {
        vm.ok(&format!("sh /root/payload/configure {id}"))?;
        vm.ok("/usr/lib/bolt/bolt-agent check-config")?;
        vm.ok("systemctl enable --now bolt-executions bolt-launch")?;
        Ok(())
    }

    /// Returns the digest of the agent's package in this version.
    pub(super) fn digest(&self, version: &str) -> Result<String, String> {
        let payload = self.directory().join("payload");
        let is_meant = |name: &str| name.starts_with(&format!("bolt-agent_{version}_"));
        let mut names = fs::read_dir(&payload).map_err(|e| e.to_string())?.flatten().map(|entry| entry.path());
        let path = names.find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_meant));
        let output = Command::new("sha256sum").arg(path.ok_or("there is no such package")?).output();
        let sums = String::from_utf8_lossy(&output.map_err(|e| e.to_string())?.stdout).into_owned();
        sums.split(' ').next().map(str::to_owned).ok_or_else(|| "sha256sum prints nothing".to_owned())
    }

    /// The operator's command on this host, with these machines in its inventory.
    pub(super) fn bolt(&self, machines: &[(&str, &Vm)]) -> Result<Bolt, String> {
        let entry = |(id, vm): &(&str, &Vm)| format!("[[instances]]\nid = \"{id}\"\naddress = \"{}\"\n", vm.address());
        let inventory: String = machines.iter().map(entry).collect();
        let config = self.world.site.write_client([]).map_err(|e| e.to_string())?;
        fs::write(config.with_file_name("inventory.toml"), inventory).map_err(|e| e.to_string())?;
        Ok(Bolt::new(&config))
    }
}

/// The command that installs a version of the agent's package.
pub(super) fn dpkg(version: &str) -> String {
    format!("dpkg -i /root/payload/bolt-agent_{version}_*.deb")
}

fn copy_packages(version: &str, from: &Path, payload: &Path) -> Result<(), String> {
    for package in ["bolt-agent", "bolt-client"] {
        let is_meant = |name: &str| name.starts_with(&format!("{package}_{version}_")) && name.ends_with(".deb");
        let files = fs::read_dir(from).map_err(|e| format!("{}: {e}", from.display()))?.flatten();
        let mut names = files.filter_map(|file| file.file_name().into_string().ok());
        let name = names.find(|name| is_meant(name));
        let name = name.ok_or_else(|| format!("{} has no {package}_{version}_*.deb", from.display()))?;
        fs::copy(from.join(&name), payload.join(&name)).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

/// Makes a directory of programs of which the launcher fails.
fn bad_programs(programs: &Path, directory: &Path) -> Result<PathBuf, String> {
    fs::create_dir_all(directory).map_err(|e| e.to_string())?;
    for name in ["bolt-agent", "bolt-sync", "bolt"] {
        std::os::unix::fs::symlink(programs.join(name), directory.join(name)).map_err(|e| e.to_string())?;
    }
    fs::copy("/bin/false", directory.join("bolt-launch")).map_err(|e| e.to_string())?;
    Ok(directory.to_owned())
}

fn build(version: &str, programs: &Path, payload: &Path) -> Result<(), String> {
    let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/packages/build");
    let mut command = Command::new(script);
    command.args(["--fast", "--gzip", "--deb", "--version", version, "--binaries"]).arg(programs).arg(payload);
    // A checkout without history has packages too.
    let output = command.env("SOURCE_DATE_EPOCH", "1700000000").output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("cannot build the packages: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

fn configure() -> String {
    format!(
        r##"set -e
cd /root/payload
install -m 0644 clients.pem /etc/bolt/tls
install -m 0644 "$1.pem" /etc/bolt/tls/instance.pem
install -m 0640 -g bolt "$1.key" /etc/bolt/tls/instance.key
install -m 0644 root.json /etc/bolt/root.json
sed -i "s/^id = .*/id = \"$1\"/" /etc/bolt/agent.toml
sed -i 's/^listen = .*/listen = "0.0.0.0:7443"/' /etc/bolt/agent.toml
sed -i 's#^url = .*#url = "s3://packs/bolt"\nendpoint = "http://10.0.2.100:9000"\nallow_http = true\npath_style = true\nregion = "us-east-1"#' /etc/bolt/agent.toml
cat >>/etc/bolt/grants.toml <<'END'
[[grant]]
principal = "spiffe://bolt.local/operator"
verbs = ["read", "run", "kill", "sync"]
actions = ["*"]
END
mkdir -p /etc/systemd/system/bolt-launch.service.d
cat >/etc/systemd/system/bolt-launch.service.d/bucket.conf <<'END'
[Service]
Environment=AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY} AWS_EC2_METADATA_DISABLED=true
END
systemctl daemon-reload
mkdir -p -m 1777 /var/tmp/ledger
mkdir -p /etc/bolt/packs
printf 'source: url\nurl: file:///root/payload/bolt-agent_{{version}}_{{arch}}.deb\n' >/etc/bolt/packs/bolt_engine.yaml
printf 'restart_allow: ["machine-*.service"]\n' >/etc/bolt/packs/linux.yaml
sync
"##
    )
}

/// The pack. Each action that a power cut may meet first writes a line to a file of its own and syncs it: a second line would
/// be a second start.
fn pack() -> PackSource {
    let begin = "#!/bin/sh\nset -e\nfile=/var/tmp/ledger/$BOLT_EXECUTION_ID\necho started >>\"$file\"\nsync \"$file\" /var/tmp/ledger\n";
    let lines = "n=0\nwhile [ \"$n\" -lt \"$BOLT_PARAM_COUNT\" ]; do echo \"line $n of $BOLT_EXECUTION_ID\"; n=$((n+1)); \
                 sleep \"$BOLT_PARAM_PAUSE\"; done\n";
    let count = "parameters: {count: {type: integer, default: 4}, pause: {type: string, default: '0.2', pattern: '^[0-9.]+$'}}\n\
                 bolt: {class: diagnostic, timeout: 10m}";
    let hang = "parameters: {mark: {type: string, pattern: '^[0-9.]+$', required: true}}\n\
                bolt: {class: diagnostic, timeout: 10m, grace: 200ms}";
    let hanging = "#!/bin/sh\ntrap '' TERM\nsetsid sleep \"$BOLT_PARAM_MARK\" &\n( setsid sleep \"$BOLT_PARAM_MARK\" & )\necho hanging\n\
                   while :; do sleep \"$BOLT_PARAM_MARK\"; done\n";
    // The limit may be on a group above that of the process.
    let throttled = "#!/bin/sh\nn=0; while [ $n -lt 60000 ]; do n=$((n+1)); done\ngroup=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)\n\
                     while [ \"$group\" != /sys/fs/cgroup ]; do case $(cat \"$group/cpu.max\") in max*) ;; *) \
                     echo \"cpu.max $(cat \"$group/cpu.max\")\"; grep nr_throttled \"$group/cpu.stat\"; break ;; esac; group=${group%/*}; done\n";
    // Whichever policy of the device has weights shows its own.
    let weighted = "#!/bin/sh\ngroup=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)\n\
                    while [ \"$group\" != /sys/fs/cgroup ]; do case $group in */bolt-\"$BOLT_EXECUTION_ID\") \
                    for file in io.weight io.bfq.weight; do echo \"$file $(head -n 1 \"$group/$file\")\"; done ;; esac; \
                    group=${group%/*}; done\nfile=/var/tmp/io-$BOLT_EXECUTION_ID\n\
                    dd if=/dev/zero of=\"$file\" bs=1M count=8 oflag=direct 2>/dev/null && rm \"$file\"\n";
    let limited = |limit: &str| format!("bolt: {{class: diagnostic, timeout: 5m, limits: {{{limit}}}}}");
    PackSource::new("machine", "1.0.0")
        .action("lines", count, &format!("{begin}{lines}"))
        .action("hang", hang, hanging)
        .action("memory", &limited("memory: 32MiB"), "#!/bin/sh\nhead -c 200M /dev/zero | tail -c 150M | wc -c\n")
        .action("greedy", &limited("memory: 400MiB"), "#!/bin/sh\nhead -c 350M /dev/zero | tail -c 300M | wc -c\n")
        .action("cpu", &limited("cpu: 20%"), throttled)
        .action("io", &limited("io_weight: 1000"), weighted)
        .action(
            "pids",
            &limited("pids: 8"),
            "#!/bin/sh\nfor n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 2 & done\nwait\n",
        )
}
