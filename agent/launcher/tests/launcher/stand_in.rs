//! A launcher that starts stand-ins for `bolt-agent` and `bolt-sync`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::driver::{base, put, write_config};

/// A launcher with stand-ins for `bolt-agent` and `bolt-sync`.
pub(crate) struct Service {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) launcher: Child,
}

/// Prints its account, arguments and environment; the sync exits, the api reads its socket until it is told to exit.
pub(crate) const AGENT: &str = "#!/bin/sh
[ \"$1\" = api ] || set -- sync \"$@\"
at=$(dirname \"$3\")/said
echo \"$1 $(id -u) $(id -g) $(id -G) $* $(env | sort | tr '\\n' ' ')\" >> $at/$1
ls -l /proc/$$/fd > $at/$1.fds
[ \"$1\" = sync ] && exit 0
while [ ! -e $at/die ]; do sleep 0.02; done
mv $at/die $at/died
exit 3
";

impl Service {
    pub(crate) fn place(users: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = base();
        for name in ["state/exec", "state", "packs/demo", "packs"] {
            fs::remove_dir(dir.path().join(name)).unwrap();
        }
        let config = write_config(dir.path(), "require_limits = false", users, "");
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::create_dir(dir.path().join("said")).unwrap();
        fs::set_permissions(dir.path().join("said"), fs::Permissions::from_mode(0o777)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_bolt-launch"), bin.join("bolt-launch")).unwrap();
        (dir, config)
    }

    pub(crate) fn command(dir: &Path, config: &Path) -> Command {
        let mut command = Command::new(dir.join("bin/bolt-launch"));
        command.args(["serve", "--config"]).arg(config).env_clear().env("BOLT_LOG", "debug").env("OTHER", "1");
        command
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("HTTPS_PROXY", "http://127.0.0.1:1")
            .env("AWS_ENDPOINT_URL", "x");
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Returns the lines that a role has printed.
    pub(crate) fn printed(&self, role: &str) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("said").join(role)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        kill(Pid::from_raw(self.launcher.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.launcher.wait().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.launcher.try_wait().unwrap().is_none() {
            self.stop();
        }
    }
}

/// Builds a stand-in. It must be a program: the interpreter of a script would be given `/dev/fd/N`, which is closed by then.
pub(crate) fn build_stand_in(bin: &Path, text: &str) -> bool {
    let source = bin.join("agent.c");
    let script = bin.join("agent.sh");
    put(&script, text.as_bytes(), 0o755);
    let code = format!(
        "#include <unistd.h>\nint main(int c, char **v) {{ v[0] = \"{0}\"; execv(\"{0}\", v); return 9; }}\n",
        script.display()
    );
    put(&source, code.as_bytes(), 0o644);
    let built =
        Command::new("cc").arg("-o").arg(bin.join("bolt-agent")).arg(&source).status().is_ok_and(|s| s.success());
    built && fs::copy(bin.join("bolt-agent"), bin.join("bolt-sync")).is_ok()
}
