//! Values that name a program: only the name of one, which callers choose, or more than that.

use super::matrix::hurts;
use super::*;

#[test]
fn a_value_that_is_only_the_name_of_a_program_is_told() {
    for script in [
        "{{a}} x",
        "\"{{a}}\"",
        "'{{a}}' x",
        "sudo {{a}} x",
        "X=1 nohup \"{{a}}\" > /dev/null 2>&1 &",
        "/opt/{{a}}/run",
        "C={{a}}\n\"$C\" x",
        "C='{{a}}'\nif true; then cd / && nohup \"${C}\" >/dev/null 2>&1 & disown; fi",
        "get() { curl -s \"$1\" -o y; }\nget http://localhost/x; shown() { echo \"$1\"; }\nshown {{b}}; {{a}} x",
        "C=$(echo {{a}} | base64 -d); command -v \"$C\" && timeout 5 \"$C\"",
        "D={{a}}; \"$D/bin/x\" y",
        "{{a}} x; echo $(( {{b}} ))",
    ] {
        let done = rewritten(script).unwrap_or_else(|refused| panic!("{script:?}: {refused}"));
        assert_eq!(done.programs, [0], "{script:?}");
        assert!(done.operands.contains(&0), "{script:?}: it may be no option");
        let limited: Vec<_> = done.needs.iter().map(|(index, need)| (*index, need.limit)).collect();
        let other = if script.contains("(( {{b}}") { Limit::Number } else { Limit::Path };
        assert_eq!(limited, [(1, other)], "{script:?}");
    }
    let listed = ScriptValue { limit: Limit::Word, listed: true, ..value("a") };
    assert_eq!(rewrite(&parts("{{a}} x", &["a"]), &[listed], &[]).unwrap().programs, [] as [usize; 0]);
    assert_eq!(rewritten("C=\"ls {{a}}\"; $C").unwrap().programs, [] as [usize; 0], "an argument");
}

#[test]
fn a_value_that_is_more_than_the_name_of_a_program_is_refused() {
    for script in [
        // Text with arguments.
        "{{a}}",
        "cd x && {{a}} > y",
        "nohup {{a}} &",
        // Words, of which the shell may run the others.
        "C={{a}}\n$C",
        "C={{a}}\nnohup $C x",
        "C=({{a}} x)\n\"${C[@]}\"",
        "set -- {{a}} x; \"$@\"",
        "f() { \"$@\"; }\nf {{a}} x",
        // Output of the program, which may be code.
        "x=$({{a}} x)",
        "eval \"$({{a}} x)\"",
        "{{a}} x | sh",
        "{{a}} x | while read -r y; do echo $y; done",
        "({{a}} x) | sh",
        "f() { \"{{a}}\" x; }\nf | sh",
        "{{a}} x > y; sh y",
        "source <({{a}} x)",
        // Files of code, and programs that others start.
        "sh {{a}}",
        ". {{a}}",
        "xargs {{a}}",
        "docker exec web {{a}}",
        "find . -exec {{a}} \\;",
        // Code besides.
        "{{a}} x; eval \"ls {{a}}\"",
        "{{a}} x; echo $(( {{a}} ))",
        "{{a}} {{a}}",
        "bash -c '{{a}} x'",
        "bash <<E\n{{a}} x\nE",
        "trap '{{a}} x' EXIT",
        "eval echo; {{a}} x",
        // Downloads, and files that may be the program.
        "C=$(curl {{a}}); \"$C\" x",
        "curl -o x {{b}}; {{a}} y",
        "echo {{b}} > x; {{a}} y",
        "echo {{b}} | tee x; {{a}} y",
        "echo {{b}} > /dev/shm/x; {{a}} /dev/shm/x",
        // Words of an expansion without quotes.
        "${X:-{{a}}} x",
        "sudo ${X:-{{a}}} x",
        "$(curl {{a}}) x",
        "PATH={{a}}; x",
    ] {
        let done = rewritten(script);
        assert!(done.as_ref().is_err_and(|refused| refused.to_string().contains("a names ")), "{script:?}: {done:?}");
    }
}

/// Values beside the name of a program are no code, whichever program it is.
#[test]
fn values_beside_the_name_of_a_program_are_no_code() {
    let directory = tempfile::tempdir().unwrap();
    let (mut ran, mut found) = (0, Vec::new());
    for script in [
        "{{a}} {{b}}",
        "\"{{a}}\" '{{b}}'",
        "{{a}} -c {{b}}",
        "{{a}} -c \"echo {{b}}\"",
        "v={{a}}; \"$v\" {{b}}",
        "v={{a}}; w={{b}}\n\"$v\" \"$w\"",
        "v={{a}}; command \"$v\" {{b}}",
        "v={{a}}; \"$v\" <<< {{b}}",
        "v={{a}}; \"$v\" <<E\n{{b}}\nE",
        "v={{a}}; echo {{b}} | \"$v\"",
        "v={{a}}; while true; do \"$v\"; break; done <<< {{b}}",
        "v={{a}}; echo {{b}} | if true; then \"$v\"; fi",
        "v={{a}}; echo {{b}} > file; \"$v\" file",
        "v={{a}}; echo {{b}} > file; \"$v\" ./file",
        "v={{a}}; X={{b}} \"$v\" x",
    ] {
        let Ok(done) = rewritten(script) else { continue };
        assert_eq!(done.programs, [0], "{script:?}");
        let limit = done.needs.iter().find(|(index, _)| *index == 1).map_or(Limit::Free, |(_, need)| need.limit);
        for program in ["eval", "bash", "sh", ".", "source", "xargs", "env", "exec", "trap", "command", "builtin"] {
            let set = format!("SSM_a={program}\n{}", done.script);
            for value in
                ["touch hurt", "$(touch hurt)", "`touch hurt`", ";touch hurt;", "x\ntouch hurt", "touch${IFS}hurt"]
            {
                if Limit::of(value) >= limit {
                    ran += 1;
                    if hurts(directory.path(), &set, value, "SSM_b") {
                        found.push(format!("{script:?}: {program} with {value:?}"));
                    }
                }
            }
        }
    }
    assert_eq!(found, [] as [String; 0]);
    assert!(ran < 1_000, "{ran}");
}

/// Rewrites a script with values of words and blanks.
#[test]
fn options_and_commands_by_which_a_program_starts_others_are_no_data() {
    for script in [
        "rsync -e{{a}} x y",
        "tar -I{{a}} -cf x y",
        "tcpdump -z{{a}}",
        "git --exec-path={{a}} status",
        "scp -S {{a}} x y:z",
        "scp -o {{a}} x y:z",
        "curl -K {{a}}",
        "wget --use-askpass={{a}} u",
        "man -P {{a}} ls",
        "D={{a}}; man -P$D ls",
        "sort --compress-program={{a}} f",
        "split --filter={{a}} f",
        "apt-get -o {{a}} update",
        "yum --setopt={{a}} update",
        "docker run --entrypoint {{a}} x",
        "nginx -c {{a}}",
        "java -jar {{a}}",
        "java -cp {{a}} Main",
        "nc -e {{a}} h 80",
        "socat TCP:h:80 EXEC:{{a}}",
        "socat TCP:h:80 {{a}}",
        "spark-submit {{a}}",
        "clickhouse-client -q {{a}}",
        "clickhouse client --query={{a}}",
        "julia -e {{a}}",
        "R -e {{a}}",
        "go run {{a}}",
        "poetry run {{a}}",
        "aws-vault exec x -- {{a}}",
        "puppet apply {{a}}",
        "systemd-cat {{a}}",
        "aws ssm send-command --parameters commands={{a}}",
        "aws ssm send-command --parameters commands='ls {{a}}'",
        "aws ssm send-command --parameters '{\"commands\":[\"{{a}}\"]}'",
    ] {
        let is_told = |done: &Rewritten| done.programs == [0] || done.needs.iter().any(|(index, _)| *index == 0);
        let done = rewritten(script);
        assert!(done.as_ref().map_or(true, is_told), "{script:?}: {done:?}");
    }
    for script in [
        "java -Dx={{a}} -jar /opt/x.jar {{a}}",
        "nc -z h {{a}}",
        "socat TCP:{{a}}:80 -",
        "scp -o ConnectTimeout={{a}} x y:z",
        "apt-get -o Acquire::Retries={{a}} update",
        "yum --setopt=timeout={{a}} update",
        "curl -d {{a}} u",
        "aws ssm send-command --instance-ids {{a}}",
        "spark-submit --name {{a}} x.jar",
    ] {
        let done = rewritten(script).unwrap_or_else(|refused| panic!("{script:?}: {refused}"));
        assert!(done.programs.is_empty() && done.needs.is_empty(), "{script:?}: {done:?}");
    }
}

fn of_words(script: &str) -> Result<Rewritten, Refused> {
    let words = |name| ScriptValue { plain: true, ..value(name) };
    rewrite(&parts(script, &["a", "b"]), &[words("a"), words("b")], &[])
}

#[test]
fn a_value_that_is_a_literal_of_python_is_read_by_the_program() {
    let document = |text: &str| format!("cat <<E >x.py\n#!/usr/bin/python\n{text}\nE\npython3 x.py");
    let read = "__import__(\"os\").environ[\"SSM_a\"]";
    for (text, wanted) in [
        ("print(len('{{a}}') > 0)", format!("print(len({read}) > 0)")),
        ("x = \" -- {0}\".format(\"{{a}}\") # it's", format!("x = \" -- {{0}}\".format({read}) # it's")),
        ("\"\"\"it's\"\"\"; print('x', '{{a}}')", format!("\"\"\"it's\"\"\"; print('x', {read})")),
    ] {
        let done = of_words(&document(text)).unwrap_or_else(|refused| panic!("{text:?}: {refused}"));
        assert_eq!(done.script, document(&wanted), "{text:?}");
        assert_eq!(done.programs, [0], "{text:?}");
        assert!(!rewritten(&document(text)).is_ok_and(|done| done.script.contains("environ")), "{text:?}: any text");
        assert!(done.needs.iter().all(|(_, need)| !need.followed), "{text:?}: {:?}", done.needs);
    }
    let starts = document("import subprocess\nsubprocess.call(['echo', '{{a}}'], shell=False)");
    assert_eq!(of_words(&starts).unwrap().programs, [0]);
    let quoted = "cat <<'E' | python3 -\n#!/usr/bin/python\nprint('{{a}}', '$x \\\\')\nE";
    assert_eq!(
        of_words(quoted).unwrap().script,
        format!("cat <<E | python3 -\n#!/usr/bin/python\nprint({read}, '\\$x \\\\\\\\')\nE")
    );
    for text in [
        "eval('{{a}}')",
        "import os; os.system('{{a}}')",
        "import subprocess; subprocess.call('{{a}}', shell=True)",
        "import subprocess; subprocess.call('{{a}}', **{'shell': 1})",
        "import os as o; o.execvp('{{a}}', [])",
        "import subprocess; subprocess.getoutput('{{a}}')",
        "import subprocess; subprocess.call(['sh', '-c', '{{a}}'])",
        "import subprocess, sys; subprocess.call(['{{a}}', '-c', sys.argv[1]])",
        "print('x {{a}}')",
        "print(f'{{a}}')",
        "print('''{{a}}''')",
        "print(\"'{{a}}'\")",
        "print({{a}})",
        "# '{{a}}'\nprint(1)",
        "print('it\\'s' '{{a}}')",
        "print('$(echo \"'\")' '{{a}}')",
    ] {
        let done = of_words(&document(text));
        let is_code = |done: &Rewritten| done.needs.iter().any(|(_, need)| need.followed && need.limit >= Limit::Path);
        assert!(done.as_ref().map_or(true, is_code), "{text:?}: {done:?}");
        assert!(!done.is_ok_and(|done| done.script.contains("__import__")), "{text:?}");
    }
}

#[test]
fn a_literal_of_python_holds_any_value() {
    let script = "cat <<E | python3 -\n#!/usr/bin/python\nprint('{{a}}')\nE";
    let done = of_words(script).unwrap();
    for value in ["'); print('hurt", "$(echo hurt)", "`echo hurt`", "\\", "x\nE\necho hurt", "\"", "__import__('os')"] {
        assert_eq!(printed(&done, "bash", value, "").trim_end(), value, "{value:?}");
    }
}
