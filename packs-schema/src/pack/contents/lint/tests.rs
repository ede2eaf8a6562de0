//! Each rule, on what it must find and on what it must not.

use crate::base::name::PackName;
use crate::pack::action::Action;

use super::*;

/// An action with `parameters` (JSON) of class `class`.
fn action(class: &str, parameters: &str) -> Action {
    let json = format!(
        "{{\"name\":\"it\",\"description\":\"x\",\"runner_type\":\"local-shell-script\",\"entry_point\":\"it.sh\",\
          \"parameters\":{parameters},\"bolt\":{{\"class\":\"{class}\"}}}}"
    );
    let file: ActionFile = serde_json::from_str(&json).unwrap();
    file.check(&PackName::new("demo").unwrap(), "it.yaml").0.unwrap()
}

const FREE: &str = r#"{"path":{"type":"string","position":0},"count":{"type":"integer"},"mode":{"type":"string","enum":["a","b"]},
    "name":{"type":"string","pattern":"^[a-z]+$","position":1},"token":{"type":"string","secret":true}}"#;

/// `code:line` of what is found, but for parameters that small scripts do not mention.
fn found(class: &str, script: &str) -> Vec<String> {
    let found = source("actions/it.yaml", &action(class, FREE), "actions/it.sh", script);
    let found = found.iter().filter(|f| f.code != "unused_parameter");
    found.map(|f| format!("{}:{}", f.code, f.at.rsplit(':').next().unwrap())).collect()
}

#[test]
fn unquoted_values_and_code_in_a_shell_are_found() {
    for (line, code) in [
        ("ls $BOLT_PARAM_PATH", "shell_unquoted"),
        ("ls -l ${BOLT_PARAM_PATH:-/}", "shell_unquoted"),
        ("ls $1", "shell_unquoted"),
        ("ls $@", "shell_unquoted"),
        ("[ $BOLT_PARAM_PATH = x ]", "shell_unquoted"),
        ("x=`ls $BOLT_PARAM_PATH`", "shell_unquoted"),
        ("x=\"$(ls $BOLT_PARAM_PATH)\"", "shell_unquoted"),
        ("p=$BOLT_PARAM_PATH; ls $p", "shell_unquoted"),
        ("echo x >$BOLT_PARAM_PATH", "shell_unquoted"),
        ("eval \"ls $BOLT_PARAM_PATH\"", "shell_code"),
        ("sh -c \"ls $BOLT_PARAM_PATH\"", "shell_code"),
        ("sudo bash -ec \"ls $1\"", "shell_code"),
        ("su - app -c \"ls $BOLT_PARAM_PATH\"", "shell_code"),
        ("ssh host \"ls $BOLT_PARAM_PATH\"", "shell_code"),
        ("python3 -c \"print('$BOLT_PARAM_PATH')\"", "shell_code"),
    ] {
        assert_eq!(found("remediation", &format!("#!/bin/sh\n{line}\n")), [format!("{code}:2")], "{line}");
    }
    for line in [
        "ls \"$BOLT_PARAM_PATH\" \"$1\" \"$@\"",
        "ls $BOLT_PARAM_COUNT $BOLT_PARAM_MODE $BOLT_PARAM_NAME $2",
        "p=$BOLT_PARAM_PATH; export q=$BOLT_PARAM_PATH",
        "case $BOLT_PARAM_PATH in x) echo x ;; esac",
        "[[ $BOLT_PARAM_PATH == x ]] && ((count = $BOLT_PARAM_COUNT))",
        "f() { ls $1; }",
        "f() {\n  ls $1\n}",
        "cat <<END\n$BOLT_PARAM_PATH\nEND",
        "sh -c 'ls \"$1\"' sh \"$BOLT_PARAM_PATH\"",
        "echo '$BOLT_PARAM_PATH' # $1",
        "for x in $BOLT_PARAM_PATH; do echo \"$x\"; done",
        "echo ${#BOLT_PARAM_PATH}",
    ] {
        assert_eq!(found("remediation", &format!("#!/bin/sh\n{line}\n")), [""; 0], "{line}");
    }
}

#[test]
fn unset_variables_and_exposed_secrets_are_found() {
    let shell = |line: &str| found("remediation", &format!("#!/bin/sh\n{line}\n"));
    assert_eq!(shell("x=\"$BOLT_PARAM_TOKEN\""), ["secret_variable:2"]);
    assert_eq!(shell("x=\"$BOLT_PARAM_PTAH\""), ["undeclared_parameter:2"]);
    assert_eq!(shell("token=$(jq -r .token)\ncurl -H \"Authorization: $token\" https://x"), ["secret_argument:3"]);
    assert_eq!(shell("token=$(jq -r .token)\nprintf '%s' \"$token\" | login --stdin; [ -n \"$token\" ]"), [""; 0]);
    let python = |line: &str| found("remediation", &format!("#!/usr/bin/env python3\n{line}\n"));
    assert_eq!(python("subprocess.run(['login', given['token']])"), ["secret_argument:2"]);
    assert_eq!(python("subprocess.run(['login', '-p', token])"), ["secret_argument:2"]);
    assert_eq!(python("subprocess.run(['login', '--token=-'], input=token)"), [""; 0]);
    assert_eq!(python("os.environ['BOLT_PARAM_TOKEN']"), ["secret_variable:2"]);
}

#[test]
fn shells_and_eval_in_python_are_found() {
    let python = |line: &str| found("remediation", &format!("#!/usr/bin/env python3\n{line}\n"));
    for line in ["os.system('ls ' + path)", "os.popen(f'ls {path}')", "subprocess.run('ls ' + path, shell=True)"] {
        assert_eq!(python(line), ["python_shell:2"], "{line}");
    }
    assert_eq!(python("x = eval(path)"), ["python_eval:2"]);
    for line in [
        "os.system('sync')",
        "subprocess.run(['ls', path])",
        "# os.system(x)",
        "'''\nos.system(x)\n'''",
        "re.compile(x); model.eval(x)",
    ] {
        assert_eq!(python(line), [""; 0], "{line}");
    }
}

#[test]
fn changes_by_a_diagnostic_are_found() {
    for line in [
        "rm -rf \"$1\"",
        "if true; then sudo rm /x; fi",
        "mv a b",
        "systemctl restart nginx",
        "service nginx stop",
        "kill \"$pid\"",
        "echo x > /etc/x",
        "echo x >>/var/log/x",
        "df | tee /etc/x",
        "sed -i s/a/b/ /etc/x",
        "x=$(rm /x)",
        "/bin/rm /x",
        "mkfs.ext4 /dev/sdb",
    ] {
        assert_eq!(found("diagnostic", &format!("#!/bin/sh\n{line}\n")), ["diagnostic_writes:2"], "{line}");
        assert_eq!(found("remediation", &format!("#!/bin/sh\n{line}\n")), [""; 0], "{line}");
    }
    for line in [
        "t=$(mktemp)\necho x >\"$t\"\nrm -f \"$t\"",
        "rm -f /tmp/x",
        "echo x >/tmp/x 2>/dev/null",
        "printf x >\"$BOLT_RESULT\"",
        "systemctl status nginx",
        "kill -0 \"$pid\"",
        "trap 'rm -f x' EXIT",
        "echo rm -rf x",
        "case $x in kill) echo y ;; esac",
        "sed -n p /etc/x",
        "mount",
        "crontab -l",
        "tee \"$BOLT_RESULT\"",
    ] {
        assert_eq!(found("diagnostic", &format!("#!/bin/sh\n{line}\n")), [""; 0], "{line}");
    }
    let python = |line: &str| found("diagnostic", &format!("#!/usr/bin/env python3\n{line}\n"));
    for line in [
        "os.remove(path)",
        "shutil.rmtree(path)",
        "os.kill(pid, 9)",
        "open(path, 'w').write(x)",
        "with open(path, mode=\"ab\") as f:",
        "pathlib.Path(path).write_text(x)",
        "subprocess.run(['systemctl', 'restart', x])",
        "subprocess.run(['/bin/rm', x])",
    ] {
        assert_eq!(python(line), ["diagnostic_writes:2"], "{line}");
    }
    for line in [
        "open(path).read()",
        "open(path, 'rb')",
        "open(os.environ['BOLT_RESULT'], 'w')",
        "os.kill(pid, 0)",
        "x.replace('a', 'b')",
    ] {
        assert_eq!(python(line), [""; 0], "{line}");
    }
}

#[test]
fn a_finding_can_be_accepted_with_a_reason() {
    let shell = |text: &str| found("diagnostic", &format!("#!/bin/sh\n{text}\n"));
    let why = "# bolt-lint: allow diagnostic_writes its own cache, which it creates again";
    assert_eq!(shell(&format!("rm /x {why}")), [""; 0]);
    assert_eq!(shell(&format!("{why}\nrm /x\nrm /y")), ["diagnostic_writes:4"]);
    assert_eq!(shell("rm /x # bolt-lint: allow shell_unquoted its own cache, created again"), ["diagnostic_writes:2"]);
    assert_eq!(shell("rm /x # bolt-lint: allow diagnostic_writes"), ["lint_reason:2", "diagnostic_writes:2"]);

    let lint = |allow: &str| {
        let json = format!(
            "{{\"name\":\"it\",\"runner_type\":\"local-shell-script\",\"entry_point\":\"it.sh\",\
              \"bolt\":{{\"class\":\"remediation\",\"timeout\":\"1m\",\"lint\":{{\"allow\":{allow}}}}}}}"
        );
        let file: ActionFile = serde_json::from_str(&json).unwrap();
        let action = file.check(&PackName::new("demo").unwrap(), "it.yaml").0.unwrap();
        let found = without_allowed("it.yaml", &file, definition("it.yaml", &file, &action));
        found.into_iter().map(|f| f.code).collect::<Vec<_>>()
    };
    assert_eq!(lint("{}"), ["no_description", "no_noop"]);
    assert_eq!(lint("{\"no_noop\":\"it only ever adds\"}"), ["no_description"]);
    assert_eq!(lint("{\"no_noop\":\"\"}"), ["no_description", "no_noop", "lint_reason"]);
    assert_eq!(
        lint("{\"no_noop\":\"it only ever adds\",\"shell_code\":\"checked by hand\"}"),
        ["no_description", "lint_needless"]
    );
}

#[test]
fn a_process_left_behind_is_found() {
    for line in [
        "nohup java -jar x.jar",
        "nohup setsid sh -c 'exec sleep 60' </dev/null >/dev/null 2>&1 &",
        "/opt/kafka/bin/kafka-server-start.sh -daemon server.properties",
        "cassandra --daemon",
        "sleep 60 &",
        "( sleep 60 & )",
        "/etc/init.d/cassandra start",
        "service cassandra restart",
        "sudo /sbin/service cassandra start",
    ] {
        assert_eq!(found("remediation", &format!("#!/bin/sh\n{line}\n")), ["leaves_process:2"], "{line}");
        let mut keeps = action("remediation", FREE);
        keeps.leftovers = crate::pack::action::LeftoverPolicy::Keep;
        let kept = source("actions/it.yaml", &keeps, "actions/it.sh", &format!("#!/bin/sh\n{line}\n"));
        assert!(kept.iter().all(|f| f.code != "leaves_process"), "{kept:?}");
    }
    for line in [
        "true && false",
        "make -j2 & wait",
        "sleep 60 & pid=$!; kill \"$pid\"",
        "ls >x 2>&1",
        "ls &>/dev/null",
        "systemctl restart cassandra",
        "service cassandra status",
        "setsid --wait ls",
        "echo 'nohup x &'",
    ] {
        assert_eq!(found("remediation", &format!("#!/bin/sh\n{line}\n")), [""; 0], "{line}");
    }
    for (line, leaves) in [
        ("subprocess.Popen(['x'], start_new_session=True)", true),
        ("subprocess.run(['nohup', 'x'])", true),
        ("subprocess.run(['service', name, 'restart'])", true),
        ("subprocess.run(['systemctl', 'restart', 'x'])", false),
    ] {
        let said = found("remediation", &format!("#!/usr/bin/env python3\n{line}\n"));
        assert_eq!(said.contains(&"leaves_process:2".to_owned()), leaves, "{line}: {said:?}");
    }
}
