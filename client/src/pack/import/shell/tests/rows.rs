//! Rows of the tables of programs, each with a script that is read otherwise without it.

use super::*;

/// Scripts in which a value is a part of code.
const CODE: &[&str] = &[
    "ash -c 'ls {{a}}'",
    "php -B 'print({{a}});' f",
    "lua -e 'print({{a}})'",
    "sed f -e 's/{{a}}/b/'",
    "cqlsh -e 'select {{a}}'",
    "ruby -r {{a}} x.rb",
    "lftp -c 'get {{a}}'",
    "strace --trace {{a}} ls",
    "unshare -G {{a}} ls",
    "script -c 'ls {{a}}' log",
    "prlimit --nofile=9 su -c 'ls {{a}}'",
    "chronic sh -c 'ls {{a}}'",
    "rsh host 'ls {{a}}'",
    "tini -- sh -c \"ls {{a}}\"",
    "capsh -- -c 'ls {{a}}'",
    "$SH -lc 'ls {{a}}'",
    "read -r \"$v\" <<< {{a}}",
    "printf -v \"$v\" {{a}}",
    "echo 'ls {{a}}' > ./f1; ./f1",
    "echo 'ls {{a}}' > f1; chmod +x f1; exec \"$PWD/f1\"",
    // Arguments of code that a shell reads, and input of code that is an argument.
    "echo 'echo $(($1))' | bash -s {{a}}",
    "bash /dev/stdin {{a}} <<'E'\nssh host \"ls $1\"\nE",
    "docker exec -i web bash -s {{a}} <<'E'\nls \"$1\"\nE",
    "bash -c 'bash -s' <<E\nls {{a}}\nE",
    "su - app -c bash <<E\nls {{a}}\nE",
    "su - app -s /bin/bash -c 'bash -s' <<'E'\nls {{a}}\nE",
    "bash -c '. /dev/stdin' <<< \"ls {{a}}\"",
    "echo \"select '{{a}}'\" | sudo -u app sh -ec 'cd /; psql -d a'",
    "docker exec -i web sh -c 'mysql' <<< \"select '{{a}}'\"",
    "echo {{a}} | timeout 5 bash -c 'read x; echo \"$x\"'",
    // Code of other languages that gives text to a shell.
    "awk -v x={{a}} '{print | \"mail \" x}' f",
    "awk -v x={{a}} '{x |& getline y}' f",
    "awk '{print | ENVIRON[\"SSM_a\"]}' f; echo {{a}}",
    "sed 's/^/ls /e' <<< {{a}}",
    "echo {{a}} | perl -pe 's/.*/qx(ls $&)/e'",
    "echo {{a}} | python3 -c 'import sys, subprocess; subprocess.run(\"ls \" + sys.stdin.read(), shell=True)'",
    "python3 - {{a}} <<'E'\nimport sys, subprocess\nsubprocess.getoutput('ls ' + sys.argv[1])\nE",
    // Options and files by which programs start others.
    "nmap --script {{a}} host",
    "certbot renew --post-hook \"systemctl reload {{a}}\"",
    "tar --rsh-command=\"x {{a}}\" -xf a:b",
    "restic --password-command 'x {{a}}' snapshots",
    "echo \"postrotate x {{a}}\" > /etc/logrotate.d/x",
];

/// Scripts in which a value names what is run.
const NAMES: &[&str] = &[
    "gawk -E {{a}} x",
    "gawk -i {{a}} '{ print }' f",
    "jq -f {{a}} x",
    "su -s {{a}} app",
    "at -f {{a}} now",
    "lxc exec web -- {{a}}",
    "gosu app {{a}}",
    "run-parts --regex '^x' -- {{a}}",
    "find . -execdir {{a}} \\;",
    "export GIT_EXTERNAL_DIFF={{a}}; git diff",
    "SYSTEMD_PAGER={{a}} systemctl status x",
    "BASH_LOADABLES_PATH={{a}} bash x.sh",
    "export MAKEFLAGS={{a}}; make",
    "bash -s {{a}} <<'E'\n$1 -v\nE",
    "n=$(which {{a}}); $n -v",
    "$(command -v {{a}}) -v",
    "insmod ./modules/{{a}}.ko",
    "logrotate -f {{a}}",
    "openvpn --config {{a}}",
];

/// Scripts in which a value stays data.
const DATA: &[&str] = &[
    "run-parts -a {{a}} /etc/x.d",
    "mysql -e 'select 1' {{a}}",
    "H={{a}}; tar cf x.tar y 2> \"$H\"",
    "if [ -z \"$(which {{a}})\" ]; then echo; fi; command -v {{a}}",
    "sh -c 'cat > /tmp/x' <<< {{a}}",
    "echo {{a}} | awk '/a|b/ {print $1 | \"sort -u\"}'",
    "echo {{a}} | sed 's/e/e/; /e/d'",
];

#[test]
fn each_row_counts() {
    let mut wrong = Vec::new();
    for script in CODE {
        let done = rewritten(script);
        if !done.as_ref().is_ok_and(|done| done.needs.iter().any(|(_, need)| need.limit >= Limit::Path)) {
            wrong.push(format!("no code: {script:?}: {done:?}"));
        }
    }
    for script in NAMES {
        let done = rewritten(script);
        if !done.as_ref().is_err_and(|refused| refused.to_string().contains("a names ")) {
            wrong.push(format!("names nothing: {script:?}: {done:?}"));
        }
    }
    for script in DATA {
        let done = rewritten(script);
        if !done.as_ref().is_ok_and(|done| done.needs.is_empty()) {
            wrong.push(format!("no data: {script:?}: {done:?}"));
        }
    }
    for decoder in
        ["xxd -p -r", "base32 -d", "jq -rR @base64d", "python3 -c 'import urllib.parse.unquote'", "base64 -w0 -d"]
    {
        let done = rewritten(&format!("X=$(echo {{{{a}}}} | {decoder}); bash -c \"echo $X\""));
        if done.is_ok() {
            wrong.push(format!("{decoder}: {done:?}"));
        }
    }
    let starts = rewritten("setpriv --reuid=x {{a}}");
    if starts.as_ref().is_ok_and(|done| done.needs.is_empty() && done.programs.is_empty()) {
        wrong.push(format!("{starts:?}"));
    }
    assert_eq!(wrong, [] as [String; 0]);
}
