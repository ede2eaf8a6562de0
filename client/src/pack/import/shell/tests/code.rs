//! Values that a script reads as code behind options, names, lists of commands and programs that start others.

use super::*;

fn limit_of(script: &str) -> Result<Option<Limit>, Refused> {
    let done = rewritten(script)?;
    Ok(done.needs.iter().find(|(index, _)| *index == 0).map(|(_, need)| need.limit))
}

#[test]
fn a_value_in_arithmetic_by_a_name_is_a_number() {
    let mut wrong = Vec::new();
    let mut check = |script: &str, right: bool, got| {
        if !right {
            wrong.push(format!("{script:?}: {got:?}"));
        }
    };
    for script in [
        "n={{a}}; echo ${x[n]}",
        "n={{a}}; echo ${x[$n]}",
        "echo ${x[{{a}}]}",
        "n={{a}}; echo ${x:n}",
        "n={{a}}; echo ${x: -n:2}",
        "n={{a}}; echo ${x:0:$n}",
        "n={{a}}; x[n]=1",
        "n={{a}}; x[$n]=1",
        "x[{{a}}]=1",
        "x=([{{a}}]=1)",
        "n={{a}}; [[ n -eq 1 ]]",
        "declare -i n={{a}}",
        "declare -i n; n={{a}}",
        "f() { local -i n; n={{a}}; }; f",
        "typeset -i n; read n <<< {{a}}",
        "f() { echo $(( $1 + 1 )); }\nf {{a}}",
        "set -- {{a}}; echo $(( $1 ))",
        ": ${n:={{a}}}; (( n > 1 ))",
        "for ((i = 0; i < {{a}}; i++)); do :; done",
        "echo {{a}} | (read n; echo $((n)))",
        "while true; do read n; (( n )); done <<< {{a}}",
        "while read n; do (( n )); done < <(echo {{a}})",
    ] {
        let limit = limit_of(script);
        check(script, limit == Ok(Some(Limit::Number)), limit);
    }
    assert_eq!(wrong, [] as [String; 0]);
}

#[test]
fn a_value_that_is_the_name_of_a_variable_is_no_index() {
    let mut wrong = Vec::new();
    let mut check = |script: &str, right: bool, got| {
        if !right {
            wrong.push(format!("{script:?}: {got:?}"));
        }
    };
    for script in [
        "n={{a}}; echo ${!n}",
        "n={{a}}; [[ -v $n ]]",
        "[ -v {{a}} ]",
        "test -v \"{{a}}\"",
        "printf -v {{a}} x",
        "read -r {{a}}",
        "mapfile {{a}}",
        "export {{a}}",
        "declare -n n={{a}}",
        "n={{a}}; echo ${n@P}",
    ] {
        let limit = limit_of(script);
        check(script, limit.as_ref().is_ok_and(|limit| limit.is_some_and(|limit| limit >= Limit::Path)), limit);
    }
    assert_eq!(wrong, [] as [String; 0]);
}

#[test]
fn code_behind_options_is_found() {
    let mut wrong = Vec::new();
    let mut check = |script: &str, right: bool, got| {
        if !right {
            wrong.push(format!("{script:?}: {got:?}"));
        }
    };
    for script in [
        "bash -o pipefail -c 'ls {{a}}'",
        "bash -euxo pipefail -c 'ls {{a}}'",
        "bash -lc 'ls {{a}}'",
        "bash --login -c 'ls {{a}}'",
        "sh -s one <<EOF\nls {{a}}\nEOF",
        "echo ls {{a}} | bash -s one",
        "bash -x /dev/stdin <<EOF\nls {{a}}\nEOF",
        "python3 - one <<EOF\nprint({{a}})\nEOF",
        "python3 -Sc 'print({{a}})'",
        "python3 -W ignore -c 'print({{a}})'",
        "awk -v n=1 '/{{a}}/' f",
        "awk -F, -v n=1 '/{{a}}/' f",
        "gawk --field-separator , '/{{a}}/' f",
        "sed -n -e 's/{{a}}/b/p' f",
        "sed -ne 's/{{a}}/b/p' f",
        "sed -i.bak 's/{{a}}/b/' f",
        "jq -r --arg x y '.{{a}}' f",
        "psql -tAc 'select {{a}}'",
        "psql -h h -U u -d d -tAc 'select {{a}}'",
        "psql -v x={{a}} -c 'select :x'",
        "mysql -Nse 'select {{a}}'",
        "mysql -p -e 'select {{a}}'",
        "su - app -lc 'ls {{a}}'",
        "su app <<EOF\nls {{a}}\nEOF",
        "sudo su - app <<EOF\nls {{a}}\nEOF",
        "sudo -u app -i <<EOF\nls {{a}}\nEOF",
        "docker exec -i web bash -lc 'ls {{a}}'",
        "docker exec -i web bash <<EOF\nls {{a}}\nEOF",
        "kubectl exec pod -- sh -ec 'ls {{a}}'",
        "chroot /mnt /bin/bash -c 'ls {{a}}'",
        "chroot /mnt <<EOF\nls {{a}}\nEOF",
        "php -d x=y -r 'print({{a}});'",
        "perl -MFoo -ne 'print {{a}}' f",
        "perl -ne 'print' {{a}}",
        "ruby -rjson -e 'puts {{a}}'",
        "node --eval 'log({{a}})'",
        "env -S 'ls {{a}}'",
        "flock -n /lock -c 'ls {{a}}'",
        "flock /lock bash -c 'ls {{a}}'",
        "find / -exec sh -c 'ls {{a}}' \\;",
        "xargs -I{} sh -c 'ls {{a}} {}'",
        "timeout -k 5 10 bash -c 'ls {{a}}'",
        "nsenter -t 1 -m sh -c 'ls {{a}}'",
        "ssh -o X=y -p 22 host ls {{a}}",
        "ssh -o X={{a}} host ls",
        "SH=bash; $SH -c 'ls {{a}}'",
        "myrun bash -c 'ls {{a}}'",
        "sqlplus / <<EOF\nselect {{a}}\nEOF",
        "sftp host <<EOF\nget {{a}}\nEOF",
        "if((x<{{a}})); then :; fi",
        "for((i=0;i<{{a}};i++)); do :; done",
        "ssh host bash /opt/x.sh {{a}}",
        "sudo -H ssh host \"ls {{a}}\"",
        "timeout -k5s 10 ssh host \"ls {{a}}\"",
        "env --chdir . ssh host \"ls {{a}}\"",
        "x=`echo hi # c`; eval \"ls {{a}}\"",
        "v=${line//'\"'/}; eval \"ls {{a}}\"",
        "v=\"${line//'\"'/}\"; eval \"ls {{a}}\"",
        "[[ {{a}} =~ (.*) ]]; eval \"ls ${BASH_REMATCH[1]}\"",
        "x=$(date \"+{{a}}\"); eval \"ls $x\"",
        "x=$(python3 -c 'x' {{a}}); eval \"ls $x\"",
        "source /dev/stdin <<< \"ls {{a}}\"",
        "awk -f - <<< \"{{a}}\"",
        "PERL=perl; $PERL -e \"print {{a}}\"",
        "declare -A m; f() { local m; m[{{a}}]=1; }; f",
        "declare -A m; unset \"m[{{a}}]\"",
        "sed 's@x@{{a}}@' f",
        "export N={{a}}; bash -c 'echo $((N+1))'",
        "find . -exec sh -c 'eval \"ls $1\"' _ {{a}} \\;",
        "X={{a}}; trap 'eval \"ls $X\"' EXIT",
        "export X={{a}}; bash <<'EOF'\neval \"ls $X\"\nEOF",
        "D={{a}}; find $D -name x",
        "f() { find $1 -name x; }; f {{a}}",
        "python3 -c 'import os, sys; os.system(sys.argv[1])' {{a}}",
        "rsync -e 'ssh -p {{a}}' x y",
        "tar --to-command='x {{a}}' -xf y",
        "(echo ls {{a}}) | bash",
        "{ echo ls {{a}}; } | bash",
        "for x in 1; do echo ls {{a}}; done | bash",
        "if true; then echo ls {{a}}; fi | sudo bash",
        "{ bash; } <<< 'ls {{a}}'",
        "f() { eval \"ls $1\"; }\nf {{a}}",
        "f() { bash -c \"ls $*\"; }; f x {{a}}",
        "while read x; do eval ls $x; done <<< {{a}}",
        "while read x; do eval ls $x; done < <(echo {{a}})",
        "while read x; do eval ls $x; done <<EOF\n{{a}}\nEOF",
        "exec <<< {{a}}; read x; eval ls $x",
        "run() { \"$@\"; }; run ssh host \"ls {{a}}\"",
        "run() { \"$@\"; }; run sudo bash -c \"ls {{a}}\"",
        "SSH='ssh -p 22'; $SSH host \"ls {{a}}\"",
        "AWK=awk; $AWK \"BEGIN { x = {{a}} }\"",
        "awk -v c={{a}} 'BEGIN { system(\"echo \" c) }'",
        "echo ls {{a}} > f1; source f1",
        "echo \"ls {{a}}\" > f1; bash f1",
        "echo ls {{a}} | tee f1 >/dev/null; chmod +x f1; ./f1",
        "V_1={{a}}; r=V_1; eval \"ls ${!r}\"",
        "coproc bash; echo \"ls {{a}}\" >&${COPROC[1]}",
        "exec > >(bash); echo \"ls {{a}}\"",
        "declare -A m; m[{{a}}]=1; for k in \"${!m[@]}\"; do eval \"ls $k\"; done",
        "f() { x=$(cat); eval \"ls $x\"; }; echo {{a}} | f",
        "select v in {{a}}; do eval \"ls $v\"; break; done <<< 1",
    ] {
        let limit = limit_of(script);
        check(script, limit.as_ref().is_ok_and(|limit| limit.is_some_and(|limit| limit >= Limit::Path)), limit);
    }
    assert_eq!(wrong, [] as [String; 0]);
}

#[test]
fn a_value_that_names_what_is_run_is_refused() {
    let mut wrong = Vec::new();
    let mut check = |script: &str, right: bool, got| {
        if !right {
            wrong.push(format!("{script:?}: {got:?}"));
        }
    };
    for script in [
        "eval {{a}}",
        "eval \"{{a}} x\"",
        "eval \"ls; {{a}}\"",
        "eval \"X=y sudo {{a}}\"",
        "C={{a}}; eval \"$C\"",
        "C=\"ls && {{a}}\"; eval \"$C\"",
        "bash -c \"{{a}}\"",
        "bash -c \"cd / && {{a}}\"",
        "bash -c \"echo $(echo \"{{a}}\")\"; bash -c \"$(echo {{a}})\"",
        "sudo -u x bash -lc '{{a}}'",
        "su x -c \"{{a}}\"",
        "ssh host {{a}}",
        "ssh host \"cd /; {{a}}\"",
        "bash <<EOF\n{{a}} x\nEOF",
        "bash <<EOF\nls\n  {{a}}\nEOF",
        "bash <<< \"{{a}}\"",
        "echo {{a}} | bash",
        "printf '%s\\n' {{a}} | sh",
        "echo {{a}} | tee /dev/null | sudo sh",
        "echo {{a}} | at now",
        "read -r C <<< {{a}}; eval $C",
        "echo {{a}} | while read x; do $x; done",
        "while read x; do $x; done <<< {{a}}",
        "function f { echo \"ls $1\"; }; eval \"$(f {{a}})\"",
        "f() { $1; }; f {{a}}",
        "f() { \"$@\"; }; f {{a}}",
        "bash {{a}}",
        "bash -x {{a}}",
        "python3 /opt/{{a}}.py",
        "source {{a}}",
        ". /opt/{{a}}",
        "source <(curl {{a}})",
        "bash <(curl -s {{a}})",
        "bash < {{a}}",
        "curl -s {{a}} | bash",
        "wget -qO- {{a}} | sudo bash -s x",
        "cat {{a}} | sh",
        "U={{a}}; curl \"$U\" | sh",
        "bash -c \"$(curl -fsSL {{a}})\"",
        "eval \"$(curl {{a}})\"",
        "X=$(curl {{a}}); eval \"$X\"",
        "bash < <(curl {{a}})",
        "bash <<< \"$(curl {{a}})\"",
        "xargs {{a}}",
        "watch {{a}}",
        "chroot {{a}} ls",
        "find / -exec {{a}} \\;",
        "docker exec web {{a}}",
        "docker exec -u root web {{a}}",
        "kubectl exec pod -- {{a}}",
        "env -S '{{a}}'",
        "trap {{a}} EXIT",
        "GIT_SSH_COMMAND={{a}} git pull",
        "LD_PRELOAD={{a}} ls",
        "PATH={{a}}:$PATH",
        "export PATH=$PATH:{{a}}",
        "X=a:{{a}}; PATH=$X",
        "env LD_LIBRARY_PATH={{a}} ls",
        "PS4={{a}}; set -x",
        "awk -f {{a}} x",
        "psql -f {{a}}",
        "bash -c 'eval \"$1\"' x {{a}}",
        "bash -c '\"$@\"' x {{a}}",
        "X={{a}}; eval '$X'",
        "export X={{a}}; bash -c 'cd /; $X'",
        "ssh -o {{a}} host ls",
        "ssh -o ProxyCommand={{a}} host ls",
        "ssh host bash {{a}}",
        "stdbuf -oL {{a}}",
        "xargs -n1 {{a}}",
        "echo {{a}} | xargs -I% sh -c '%'",
        "hash -p {{a}} ls",
        "run() { \"$@\"; }; run bash {{a}}",
        "xargs -I{} {{a}} {}",
        "sudo -uapp {{a}}",
        "python3 -m {{a}}",
        "find . -exec env {{a}} \\;",
        "bash -c \"case x in x) {{a}};; esac\"",
        "bash -c \"sudo -n {{a}}\"",
        "bash -c \"source {{a}}\"",
        "eval \"timeout 5 {{a}}\"",
        "source /dev/stdin <<< \"{{a}}\"",
        "crontab {{a}}",
        "echo {{a}} > f1; source f1",
    ] {
        let done = rewritten(script);
        check(script, done.as_ref().is_err_and(|refused| refused.to_string().contains("a names ")), done);
    }
    assert_eq!(wrong, [] as [String; 0]);
}

#[test]
fn a_value_that_stays_data_is_free() {
    let mut wrong = Vec::new();
    let mut check = |script: &str, right: bool, got| {
        if !right {
            wrong.push(format!("{script:?}: {got:?}"));
        }
    };
    for script in [
        "bash /opt/x.sh {{a}}",
        "bash -e /opt/x.sh -n {{a}}",
        "bash -c 'ls \"$1\"' x {{a}}",
        "python3 -c 'import sys' {{a}}",
        "python3 /opt/x.py --name {{a}}",
        "awk -v n={{a}} '{print n}' f",
        "sed 's/a/b/' {{a}}",
        "jq --arg n {{a}} '.x == $n' f",
        "psql -h {{a}} -U x",
        "mysql -u{{a}} -p{{b}} -h h x",
        "docker run -e X={{a}} -v {{b}}:/x img",
        "docker exec {{a}} ls",
        "find {{a}} -name x",
        "ssh {{a}} ls",
        "su {{a}} -c ls",
        "apt-get install -y bash {{a}}",
        "yum install -y python3 {{a}}",
        "command -v {{a}}",
        "declare -A m; m[{{a}}]=1; echo ${m[$x]}",
        "echo ${x:-{{a}}} ${#x} ${x%%{{a}}}",
        "f() { echo \"$1\"; }; f {{a}}",
        "curl -s {{a}} | jq .x",
        "curl -s {{a}} | grep -q x && bash /opt/x.sh",
        "for i in 1 2; do echo {{a}}; done | sort",
        "while read x; do echo $x; done <<< {{a}}; ssh host ls",
        "echo {{a}} > /etc/x.conf; systemctl restart x",
        "cat > /etc/x.conf <<EOF\n{{a}}\nEOF\nchmod 600 /etc/other",
        "C=(aws s3 cp {{a}} x); \"${C[@]}\"",
        "echo {{a}}; bash -c ls",
        "case $x in {{a}}) echo;; {{b}}|y) echo;; esac",
        "X={{a}}; (( ${#X} > 64 ))",
        "N=$(grep -c {{a}} f); (( N > 0 ))",
        "N=$(ps | grep {{a}} | wc -l); (( N > 0 ))",
        "run() { \"$@\"; }; run rm -f {{a}}",
        "log() { echo \"$@\"; }; log using python {{a}}; log \"mysql {{a}}\"",
        "bash <(curl -s https://host/x) {{a}}",
        "echo {{a}} | docker login --password-stdin",
        "X=$(echo {{a}} | xargs); echo $X",
    ] {
        let done = rewritten(script);
        check(script, done.as_ref().is_ok_and(|done| done.needs.is_empty()), done);
    }
    assert_eq!(wrong, [] as [String; 0]);
}

#[test]
fn values_in_parts_of_names_and_ranges_are_refused() {
    for script in [
        "for i in {1..{{a}}}; do :; done",
        "echo ${PRE_{{a}}}",
        "echo $PRE_{{a}}",
        "x=$(echo ls | base64 -d); eval \"ls {{a}}\"",
        "echo \"$((true); eval \"ls {{a}}\")\"",
    ] {
        assert!(rewritten(script).is_err(), "{script:?}");
    }
}

#[test]
fn a_variable_at_the_start_of_an_argument_is_no_option() {
    for script in ["H={{a}}; ssh \"$H\" uptime", "H={{a}}; tar cf \"$H\" x", "bash -c \"tar cf {{a}} x\""] {
        assert_eq!(rewritten(script).unwrap().operands, [0], "{script:?}");
    }
}

#[test]
fn many_places_are_refused_or_read_in_time_that_grows_with_them() {
    let script = "x=$y; echo $x | read z; ".repeat(50_000);
    assert!(rewritten(&script).unwrap_err().to_string().contains("too many commands"));
    let chain: String = (0..4_000).map(|n| format!("v{}=$v{n}; ", n + 1)).collect();
    assert_eq!(limit_of(&format!("v0=x{{{{a}}}}; {chain} eval ls $v4000")), Ok(Some(Limit::Path)));
}
