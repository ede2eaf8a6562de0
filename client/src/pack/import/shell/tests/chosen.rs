//! Values that choose what is run, or are words of a command: the rows of an attack on the import.

use super::*;

/// Scripts in which a value is split into words of a program, or a part of a word of one.
const SPLIT: &[&str] = &[
    "D={{a}}\nfind /tmp -mtime +$D -delete",
    "P={{a}}\ntar czf o.tgz /etc/$P",
    "D={{a}}; find /tmp/$D -type f",
    "D={{a}}; sudo /usr/bin/find /var/log/$D",
    "D={{a}}; scp f user@$D:",
    "D={{a}}; curl http://h/$D",
    "D={{a}}; rsync x /etc/$D",
    "D={{a}}; git clone https://h/$D",
    "D={{a}}; docker run img:$D",
    "D={{a}}; man -L$D x",
    "D={{a}}; tcpdump -c$D",
    "D={{a}}; rm -f $D",
    "D={{a}}; opts=\"-x $D\"; find . $opts",
    "cmd=\"tar czf o.tgz {{a}}\"\n$cmd",
    "cmd=\"ls {{a}}\"; sudo $cmd",
    "find $(echo {{a}}) -type f",
    "find `echo {{a}}`",
    "echo {{a}} > f\nfind $(cat f) -type f",
    "read x <<< \"{{a}}\"; tar cf $x",
    "run() { $*; }\nrun find D -name \"{{a}}\"",
    "run() { sudo $*; }\nrun find D -name \"{{a}}\"",
    "a=(x \"{{a}}\"); find ${a[@]}",
];

/// Scripts in which a value chooses the code of a program, by what is downloaded or read.
const FETCHED: &[&str] = &[
    "bash -c \"$(aws ssm get-parameter --name {{a}} --query x)\"",
    "X=$(aws ssm get-parameter --name {{a}}); $X",
    "while read l; do $l; done < {{a}}",
    "F=\"{{a}}\"; while read l; do $l; done < \"$F\"",
    "read -r C < {{a}}; $C",
    "mapfile -t a < {{a}}; for c in \"${a[@]}\"; do $c; done",
    "while IFS= read -r l; do eval \"$l\"; done < {{a}}",
    "{ read l; $l; } < {{a}}",
    "f() { read l; $l; }; f < {{a}}",
    "exec 3< {{a}}; read l <&3; $l",
    "readarray -t a < <(curl -s {{a}}); ${a[0]}",
    "while read l; do $l; done <<< \"$(curl {{a}})\"",
    "for f in $(find {{a}} -name \"*.sh\"); do bash $f; done",
    "ls {{a}}/*.sh | xargs -n1 sh",
    "C=$(ls {{a}} | head -1); $C",
    "cd /tmp\necho \"{{a}}\" > a.sh\nsh ./a.sh",
    "echo {{a}} | tee f1 >/dev/null; chmod +x f1; ./f1",
    "curl -s {{a}} > /tmp/a.py; python3 /tmp/a.py",
    "curl -s {{a}} -o /tmp/x; cat /tmp/x | bash",
    "curl -s {{a}} -o /tmp/x; while read l; do $l; done < /tmp/x",
    "bash -c 'cd \"$0\"; ./x.sh' {{a}}",
    "curl -s {{a}} | tee /tmp/x.sh; bash /tmp/x.sh",
    "{ echo x; curl {{a}}; } > a.sh; bash a.sh",
    "jobs -x {{a}}",
    "newgrp docker <<< \"{{a}}\"",
    "sg root \"{{a}}\"",
    "setarch x86_64 {{a}}",
    "linux64 {{a}}",
    "choom -n 5 -- {{a}}",
    "N=\"${BASH_ARGV[0]}\"; set -- {{a}}; $N",
];

/// Scripts in which a value chooses a file, a directory or a variable that is run: a person reviews them.
const CHOSEN: &[&str] = &[
    "curl -s {{a}} | python3 -",
    "wget -qO- {{a}} | python3",
    "curl -s {{a}} | node",
    "curl -s {{a}} | php",
    "curl -s {{a}} | perl",
    "curl -s {{a}} | mysql db",
    "curl -s {{a}} | sudo -u postgres psql",
    "python3 < {{a}}",
    "python3 < <(curl -s {{a}})",
    "{ python3 -; } < {{a}}",
    "F={{a}}; python3 < $F",
    "cat {{a}} | python3 -",
    "mysql db < {{a}}",
    "sudo -u postgres psql < {{a}}",
    "python3 <<< \"$(curl -s {{a}})\"",
    "python3 -c \"$(curl -s {{a}})\"",
    "X=$(curl -s {{a}}); bash -c \"echo $X\"",
    "read -r N < {{a}}; [[ $N -gt 3 ]]",
    "while IFS=, read -r a b; do (( b > 3 )) && echo; done < {{a}}",
    "S=$(curl -s {{a}}); if [[ $S -eq 200 ]]; then echo; fi",
    "if [[ $(curl -s {{a}}) -eq 200 ]]; then echo; fi",
    "(( $(curl -s {{a}}) > 3 ))",
    // Files that are run later.
    "cp {{a}} z.sh; bash ./z.sh",
    "mv {{a}} z.sh; chmod +x z.sh; ./z.sh",
    "ln -s {{a}} z.sh; sh z.sh",
    "install -m 755 {{a}} /opt/z.sh; /opt/z.sh",
    "cp {{a}} /usr/local/bin/app; app x",
    "dd if={{a}} of=x.sh; bash x.sh",
    "curl -s {{a}} -o /tmp/a.py; python3 /tmp/a.py",
    "curl -O {{a}}/install.sh; bash install.sh",
    "wget -O /tmp/a.sh {{a}}; sh /tmp/a.sh",
    "wget -q {{a}}/install.sh; bash install.sh",
    "cd /tmp; wget {{a}} -O x.sh; cd /; sh /tmp/x.sh",
    "aws s3 cp s3://{{a}}/x.sh /tmp/x.sh && bash /tmp/x.sh",
    "aws s3 cp s3://{{a}}/x.sh /tmp/ && bash /tmp/x.sh",
    "aws s3 sync s3://{{a}} /opt/app && bash /opt/app/run.sh",
    "tar xf {{a}} -C x; x/install.sh",
    "tar xzf {{a}}; cd app; ./install.sh",
    "curl -s {{a}} | tar xz -C x; x/install.sh",
    "unzip {{a}} -d x; bash x/install.sh",
    "git clone {{a}} app; cd app; make",
    "F=$(mktemp); curl -o $F {{a}}; bash $F",
    "F=/tmp/x.sh; curl -o \"$F\" {{a}}; /tmp/x.sh",
    "get() { curl -o \"$2\" \"$1\"; }; get {{a}} /tmp/x.sh; bash /tmp/x.sh",
    "curl -o /tmp/x.tmp {{a}}; mv /tmp/x.tmp /tmp/x.sh; bash /tmp/x.sh",
    "curl -o /tmp/a.tgz {{a}}; tar xzf /tmp/a.tgz -C /opt; /opt/a/install.sh",
    "wget {{a}} -O a.zip; unzip a.zip -d app; cd app; make",
    "rpm -i {{a}}",
    "dpkg -i {{a}}",
    // Sets of scripts, and directories.
    "find {{a}} -name '*.sh' -exec sh {} \\;",
    "cd {{a}}; for f in *.sh; do bash $f; done",
    "cd {{a}}; find . -exec bash {} \\;",
    "cd {{a}}; python3 manage",
    "cd {{a}}; $PWD/start.sh",
    "cd {{a}}; \"$(pwd)/start.sh\"",
    "bash -c \"cd {{a}}; ./start.sh\"",
    "sudo -u app bash -lc \"cd {{a}} && npm install\"",
    "export JAVA_HOME={{a}}; mvn package",
    "cd {{a}}; php artisan migrate",
    "cd {{a}}; docker-compose up -d",
    "cd {{a}}; docker compose up -d",
    "cd {{a}}; terraform apply",
    "cd {{a}}; pip install .",
    "cd {{a}}; gunicorn app:app",
    "cd {{a}}; bash $SCRIPT",
    "cd {{a}}; ls *.sh | while read f; do bash \"$f\"; done",
    "cd {{a}}; python3 -c 'import app'",
    "cd {{a}}; java -jar app.jar",
    "env -C {{a}} ./x.sh",
    "sudo --chdir={{a}} ./x.sh",
    "cp {{a}} /tmp/x.sh; run-parts /tmp",
    "cp {{a}} /tmp/x.sh; find /tmp -name '*.sh' -exec bash {} \\;",
    "cp {{a}} /etc/cron.d/x",
    "make -C {{a}}",
    "mvn -f {{a}}/pom.xml package",
    "docker compose -f {{a}} up",
    "ansible-playbook {{a}}",
    // Variables that the script names at run time.
    "set -- {{a}}; N=${!#}; $N",
    "set -- {{a}}; \"${!#}\" x",
    "helper() { read -r \"$1\" <<< \"$2\"; }; helper r \"{{a}}\"; $r",
    "helper() { printf -v \"$1\" %s \"$2\"; }; helper r \"{{a}}\"; $r",
    "helper() { local -n o=$1; o=$2; }; helper r \"{{a}}\"; $r",
    "n=r; declare \"$n={{a}}\"; $r",
];

/// Scripts in which the shell evaluates a value as arithmetic.
const EVALUATED: &[&str] = &[
    "RANDOM={{a}}",
    "OPTIND={{a}}",
    "HISTCMD={{a}}",
    "v={{a}}; RANDOM=$v",
    "read RANDOM <<< {{a}}",
    "f() { declare -A m; m[a]=1; }; f; k={{a}}; m[$k]=1",
    "(declare -A m); k={{a}}; m[$k]=1",
    "false && declare -A m; k={{a}}; m[$k]=1",
];

/// Scripts in which a value is no more than data.
const DATA: &[&str] = &[
    "X={{a}}; echo $X \"$X\"; df -h \"$X\"; printf '%s\\n' $X; sleep $X",
    "X=$(curl -s -o /dev/null -w \"%{http_code}\" {{a}}); if [[ $X -eq 200 ]]; then echo; fi",
    "curl -s -X POST -d \"x={{a}}\" https://fixed/api | python3 -m json.tool",
    "curl -s {{a}} | jq .x",
    "X=$(aws ec2 describe-instances --instance-ids {{a}}); [[ $X -gt 0 ]]",
    "N=$(find {{a}} -type f | wc -l); [[ $N -gt 3 ]]",
    "S=$(date -d \"{{a}}\" +%s); D=$(( S - 1 ))",
    "for f in $(ls {{a}}); do echo $f; done",
    "while read l; do echo \"$l\"; done < {{a}}",
    "cp {{a}} /etc/app.conf; systemctl restart app",
    "aws s3 cp {{a}} /tmp/data.csv; /opt/load.sh /tmp/data.csv",
    "curl -s {{a}} -o /tmp/a.json; python3 /opt/a.py /tmp/a.json",
    "tar xzf {{a}} -C /srv/www; systemctl restart nginx",
    "git clone \"{{a}}\" /opt/x",
    "cd {{a}} && git pull; tar czf /tmp/x.tgz .",
    "USED=$(df -h {{a}} | awk 'NR==2{print $5}' | tr -d %); [[ $USED -gt 80 ]]",
    "ps -ef | grep \"{{a}}\" | awk '{print $2}' | xargs -r kill -9",
    "pgrep -f \"{{a}}\" | xargs -r kill -9",
    "f() { declare -A m; m[{{a}}]=1; }; f",
];

fn wrong<'a>(scripts: &[&'a str], right: impl Fn(&Result<Rewritten, Refused>) -> bool) -> Vec<(&'a str, String)> {
    let done = scripts.iter().map(|script| (*script, rewritten(script)));
    done.filter(|(_, done)| !right(done)).map(|(script, done)| (script, format!("{done:?}"))).collect()
}

fn limit_in(done: &Rewritten) -> Limit {
    done.needs.iter().find(|(index, _)| *index == 0).map_or(Limit::Free, |(_, need)| need.limit)
}

#[test]
fn a_value_that_is_split_into_words_of_a_program_is_one_word() {
    let found = wrong(SPLIT, |done| done.as_ref().is_ok_and(|done| limit_in(done) == Limit::Path));
    assert_eq!(found, []);
    let begins = ["D={{a}}; find $(echo $D)", "cmd=\"tar cf {{a}}\"; $cmd", "D={{a}}; rm $D", "find \"$(echo {{a}})\""];
    let found = wrong(&begins, |done| done.as_ref().is_ok_and(|done| done.operands == [0]));
    assert_eq!(found, []);
}

#[test]
fn words_that_an_author_means_to_be_several_stay_several() {
    let values = [ScriptValue { words: true, ..value("a") }, value("b")];
    for (script, told) in [("P={{a}}; yum install -y $P", true), ("P={{a}}; cmd=\"yum install $P\"; $cmd", true)] {
        let done = rewrite(&parts(script, &["a", "b"]), &values, &[]).unwrap();
        assert_eq!((done.needs.len(), done.by_options.contains(&0)), (0, told), "{script}");
    }
}

#[test]
fn a_value_that_chooses_code_is_refused() {
    let names = |refused: &Refused| refused.to_string().contains("a names ");
    assert_eq!(wrong(FETCHED, |done| done.as_ref().is_err_and(names)), []);
}

#[test]
fn a_value_that_chooses_what_is_run_names_a_program() {
    assert_eq!(wrong(CHOSEN, |done| done.as_ref().is_ok_and(|done| done.programs.contains(&0))), []);
}

#[test]
fn a_value_that_the_shell_evaluates_is_a_number() {
    assert_eq!(wrong(EVALUATED, |done| done.as_ref().is_ok_and(|done| limit_in(done) == Limit::Number)), []);
}

#[test]
fn a_value_that_only_looks_as_if_it_chose_code_is_free() {
    let is_free = |done: &Rewritten| limit_in(done) == Limit::Free && done.programs.is_empty();
    assert_eq!(wrong(DATA, |done| done.as_ref().is_ok_and(is_free)), []);
}

#[test]
fn a_value_that_its_author_lists_is_any_code() {
    let listed = ScriptValue { listed: true, ..value("a") };
    for script in ["eval {{a}}", "D={{a}}; find $D", "bash -c \"ls {{a}}\""] {
        assert_eq!(rewrite(&parts(script, &["a"]), std::slice::from_ref(&listed), &[]).unwrap().needs, [], "{script}");
    }
}

#[test]
fn names_of_inner_variables_are_in_no_message() {
    for script in ["cat <<E | sh\n{{a}}\nE", "f() { echo {{a}}; }; f | sh", "curl {{a}} | cat | sh"] {
        let refused = rewritten(script).unwrap_err().to_string();
        assert!(!refused.contains(['|', '(', '<', '>']), "{script:?}: {refused}");
    }
    let done = rewritten("$SHELL -c 'ls {{a}}'").unwrap();
    assert_eq!(done.needs[0].1.reader, "the program that a variable names");
}

#[test]
fn what_one_step_writes_and_another_one_runs_is_followed() {
    let after = |first: &str, second: &str| {
        let mut scripts = [rewritten(first).unwrap(), rewritten(second).unwrap()];
        follow_between(&mut scripts);
        let [_, second] = scripts;
        (limit_in(&second), second.programs)
    };
    for (first, second, wanted) in [
        ("cat > /tmp/w.sh <<E\necho {{a}}\nE", "bash /tmp/w.sh", (Limit::Path, vec![])),
        ("cat > /tmp/w.sh <<E\n{{a}}\nE", "cd /tmp; ./w.sh", (Limit::Path, vec![0])),
        ("echo 'print({{a}})' > w.py", "python3 ./w.py", (Limit::Word, vec![])),
        ("cp {{a}} w2.sh", "bash w2.sh", (Limit::Free, vec![0])),
        ("aws s3 cp s3://{{a}}/x.sh /tmp/x.sh", "sh /tmp/x.sh", (Limit::Free, vec![0])),
        ("curl -s {{a}} | tar xz -C /opt/app", "/opt/app/install.sh", (Limit::Free, vec![0])),
        ("curl -o /tmp/a.tgz {{a}}; tar xzf /tmp/a.tgz -C /opt", "/opt/a/install.sh", (Limit::Free, vec![0])),
        ("echo {{a}} > /etc/x.conf", "bash /opt/x.sh", (Limit::Free, vec![])),
        ("cp {{a}} /tmp/x.csv", "/opt/load /tmp/x.csv", (Limit::Free, vec![])),
    ] {
        assert_eq!(after(first, second), wanted, "{first:?} {second:?}");
    }
}
