//! Plugins of Systems Manager other than `aws:runShellScript`: a script that does the same, or why there is none.

/// Plugin that installs Docker.
pub(super) const CONFIGURE_DOCKER: &str = "aws:configureDocker";
/// Script that does the same as the agent of Systems Manager; its argument is the plugin's `action`.
pub(super) const DOCKER_SCRIPT: &str = include_str!("configure_docker.sh");

/// Says why a step of the plugin `action` is not run, and what a person would have to do.
pub(super) fn refusal(step: &str, action: &str) -> String {
    match action {
        "aws:downloadContent" => format!(
            "the step {step} downloads what later steps run (aws:downloadContent), which is not signed and a caller may choose; \
             put the files into the pack, and write an action that runs them"
        ),
        "aws:runDocument" => format!(
            "the step {step} runs another document (aws:runDocument); import that document, and let an orchestrator call its action"
        ),
        "aws:configurePackage" => format!(
            "the step {step} installs a package of Distributor (aws:configurePackage), which only the agent of Systems Manager \
             can; install a package of the system"
        ),
        _ => format!("the step {step} is of {action}, which Bolt does not run; write a script that does its work"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn docker_is_configured_as_by_the_agent_of_systems_manager() {
        let temp = tempfile::tempdir().unwrap();
        let release = temp.path().join("os-release");
        let path = release.to_str().unwrap();
        let script = DOCKER_SCRIPT.replace("/etc/os-release", path);
        assert_ne!(script, DOCKER_SCRIPT);
        let search = format!("{}:/usr/bin:/bin", temp.path().display());
        // Status and output of the script, and the calls of programs, of which `yum` ends with a status.
        let run = |system: &str, argument: &str, yum: i32| {
            let calls = temp.path().join("calls");
            fs::write(&calls, "").unwrap();
            for (program, status) in [("yum", yum), ("service", 0)] {
                let stand_in = temp.path().join(program);
                let text = format!(
                    "#!/bin/sh\necho {program} \"$@\" >>{}\necho from {program}\nexit {status}\n",
                    calls.display()
                );
                fs::write(&stand_in, text).unwrap();
                fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).unwrap();
            }
            fs::write(&release, system).unwrap();
            let done =
                Command::new("sh").args(["-c", &script, "script", argument]).env("PATH", &search).output().unwrap();
            let lines = |text: &str| text.lines().collect::<Vec<_>>().join(", ");
            let out = String::from_utf8_lossy(&done.stdout);
            (done.status.code(), lines(&out), lines(&fs::read_to_string(calls).unwrap()))
        };
        let is = |code: i32, out: &str, calls: &str| (Some(code), out.to_owned(), calls.to_owned());
        let amazon = "ID=\"amzn\"\n";
        let told = "Installing docker through yum, Updating docker through yum, Starting docker service, \
                    Installation complete";
        let calls = "yum install -y docker, yum update -y docker, service docker start";
        assert_eq!(run(amazon, "Install", 0), is(0, told, calls));
        assert_eq!(run(amazon, "Install", 3), is(1, "Installing docker through yum", "yum install -y docker"));
        let told = "Removing docker through yum, Uninstall complete";
        assert_eq!(run(amazon, "Uninstall", 0), is(0, told, "yum remove -y docker"));
        assert_eq!(run(amazon, "Install; id", 0), is(1, "", ""));
        assert_eq!(run("ID=debian\nNAME=Debian\n", "Install", 0), is(1, "", ""));
    }
}
