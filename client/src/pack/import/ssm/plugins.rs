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
        for program in ["yum", "service"] {
            let stand_in = temp.path().join(program);
            fs::write(&stand_in, format!("#!/bin/sh\necho {program} \"$@\"\n")).unwrap();
            fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let search = format!("{}:/usr/bin:/bin", temp.path().display());
        let run = |system: &str, argument: &str| {
            fs::write(&release, system).unwrap();
            let done =
                Command::new("sh").args(["-c", &script, "script", argument]).env("PATH", &search).output().unwrap();
            (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned())
        };
        let calls = |out: &str| {
            out.lines()
                .filter(|line| line.starts_with("yum") || line.starts_with("service"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let (code, out) = run("ID=\"amzn\"\n", "Install");
        let installed = "yum install -y docker, yum update -y docker, service docker start";
        assert_eq!((code, calls(&out).as_str()), (Some(0), installed));
        let (code, out) = run("ID=\"amzn\"\n", "Uninstall");
        assert_eq!((code, calls(&out).as_str()), (Some(0), "yum remove -y docker"));
        assert_eq!(run("ID=\"amzn\"\n", "Install; id"), (Some(1), String::new()));
        assert_eq!(run("ID=debian\nNAME=Debian\n", "Install"), (Some(1), String::new()));
    }
}
