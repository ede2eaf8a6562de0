//! Kinds of scripts that attacks on the import have used, run with values that leave a file where they are run as code.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::matrix::hurts_in;
use super::*;

/// Scripts of reviews, apart by `%%`.
const SCRIPTS: &str = include_str!("scripts.txt");

/// Programs that the scripts may start. Nothing else is found, so that none acts on the machine.
const PROGRAMS: &[&str] = &[
    "awk", "base64", "basename", "bash", "cat", "column", "comm", "cut", "date", "dirname", "env", "expr", "find",
    "flock", "fmt", "getent", "getopt", "grep", "head", "iconv", "ls", "mkdir", "mktemp", "nice", "nl", "paste",
    "perl", "printenv", "python3", "rev", "rm", "sed", "seq", "setsid", "sh", "shuf", "sleep", "sort", "stdbuf", "tac",
    "tail", "tar", "tee", "timeout", "touch", "tr", "uniq", "wc", "xargs",
];

/// Replacement of `ssh`, which runs the command here.
const SSH: &str = r#"#!/bin/bash
while [[ $1 == -* ]]; do
    case $1 in
        -o) [[ $2 == ProxyCommand=* ]] && sh -c "${2#*=}"; shift 2 ;;
        -oProxyCommand=*) sh -c "${1#*=}"; shift ;;
        -[pli]) shift 2 ;;
        *) shift ;;
    esac
done
shift
exec sh -c "$*"
"#;

/// Replacement of `sudo`.
const SUDO: &str = r#"#!/bin/bash
while [[ $1 == -* || $1 == *=* ]]; do
    case $1 in -[ugp]) shift 2 ;; *) shift ;; esac
done
exec "$@"
"#;

/// Values that leave the file `hurt` where they are run, or taken for options, as they are or in parts. `hurt.sh` is a
/// program that does.
pub(super) const HOSTILE: &[&str] = &[
    "z[$(touch hurt)]",
    "$(touch hurt)",
    "`touch hurt`",
    ";touch hurt;",
    "x\ntouch hurt\n",
    "\" ; touch hurt; \"",
    "' ; touch hurt; '",
    "touch hurt",
    "hurt.sh",
    "system(\"touch hurt\")",
    "1e touch hurt",
    "system 'touch hurt'",
    "touch hurt|",
    "5 hurt.sh",
    "-v z[$(touch${IFS}hurt)]",
    // For scripts that read options and parts of values in ways of their own, and not for the matrix.
    "./hurt.sh",
    "x hurt.sh",
    "-n hurt.sh",
    "-i hurt.sh",
    "-x hurt.sh",
    "x ./hurt.sh",
    "-v z[$(touch${IFS}hurt)] -o x",
    "x -o -v z[$(touch${IFS}hurt)]",
    "1ehurt.sh",
    "x;touch hurt;",
    "x|touch hurt",
    ". -exec touch hurt ;",
    "-oProxyCommand=hurt.sh",
    "x);touch hurt;(",
    "x');touch hurt #",
    "($(touch hurt))",
    "-va[$(touch hurt)]",
    "x,-oProxyCommand=hurt.sh",
    "z[$(touch hurt)]-1",
];

/// Number of the first values, which the matrix has every script read: it has thousands of them.
pub(super) const MATRIX: usize = 15;

/// Directory with the programs, in which scripts are run.
pub(super) fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let programs = directory.path().join("bin");
    let work = directory.path().join("work");
    fs::create_dir(&programs).unwrap();
    fs::create_dir(&work).unwrap();
    for name in PROGRAMS {
        let places = ["/usr/bin", "/bin"].map(|place| Path::new(place).join(name));
        if let Some(program) = places.iter().find(|place| place.exists()) {
            symlink(program, programs.join(name)).unwrap();
        }
    }
    for (place, text) in [
        (programs.join("ssh"), SSH),
        (programs.join("sudo"), SUDO),
        (programs.join("hurt.sh"), "#!/bin/sh\ntouch hurt\n"),
        (work.join("hurt.sh"), "#!/bin/sh\ntouch hurt\n"),
    ] {
        fs::write(&place, text).unwrap();
        fs::set_permissions(&place, PermissionsExt::from_mode(0o755)).unwrap();
    }
    (directory, programs)
}

/// Returns which of these scripts run a value as code, of the values that they are given; and how many runs there were.
pub(super) fn hurt_by<'a>(scripts: impl Iterator<Item = &'a str>) -> (usize, Vec<String>) {
    let (directory, programs) = directory();
    let work = directory.path().join("work");
    let (mut ran, mut found) = (0, Vec::new());
    for script in scripts {
        let Ok(done) = rewritten(script) else { continue };
        for value in HOSTILE.iter().filter(|value| allowed(&done, value)) {
            ran += 1;
            if hurts_in(&work, &programs, &done.script, &[("SSM_a", value), ("SSM_b", "b")]) {
                found.push(format!("{script:?} with {value:?}"));
            }
        }
    }
    (ran, found)
}

/// True if a value with the limits of `done` is handed to the script, and is no name of a program that callers may choose.
pub(super) fn allowed(done: &Rewritten, value: &str) -> bool {
    let limit = done.needs.iter().find(|(index, _)| *index == 0).map_or(Limit::Free, |(_, need)| need.limit);
    let is_named = done.programs.contains(&0) && value.ends_with("hurt.sh");
    let separates = |c: char| !(c.is_ascii_alphanumeric() || "_.:/@%+=-".contains(c));
    let is_option = done.operands.contains(&0) && value.starts_with('-')
        || done.cut.contains(&0) && value.split(separates).any(|word| word.starts_with('-'));
    Limit::of(value) >= limit && !is_named && !is_option
}

#[test]
fn no_value_becomes_code_in_the_scripts_of_reviews() {
    let (ran, found) = hurt_by(SCRIPTS.split("\n%%\n").map(|script| script.trim_end_matches('\n')));
    assert_eq!(found, [] as [String; 0]);
    assert!(ran > 500, "{ran}");
}

/// Scripts in which a value reaches what is run by a part of a variable, an argument of a function, or what one writes.
const KINDS: &[&str] = &[
    // Shells of other hosts, named with more than their name.
    "ssh h 'bash -s' <<E\necho \"{{a}}\"\nE",
    "ssh h \"sudo bash -s\" <<E\necho \"{{a}}\"\nE",
    "echo \"echo {{a}}\" | ssh h 'cat | bash'",
    // Values of lists that are declared.
    "declare -a l=\"{{a}}\"",
    "f() { local -a l=$1; }; f {{a}}",
    "v={{a}}; readonly -a L=$v",
    "declare -a h; declare h=\"{{a}}\"",
    // Options of printf, and operators of test.
    "printf \"{{a}}\" x",
    "F={{a}}; printf \"$F\" x",
    "O=v; [ -$O {{a}} ]",
    "O=-v; test \"$O\" {{a}}",
    // Functions that are called before they are read, and with blanks in their heads.
    "function main {\n  run bash -c \"echo {{a}}\"\n}\nfunction run {\n  \"$@\"\n}\nmain",
    "function main { bash -c \"$(build {{a}})\"; }\nfunction build { echo \"echo $1\"; }\nmain",
    "remote( ) { bash -c \"$1\"; }\nremote \"echo {{a}}\"",
    "run() { \"${@}\"; }\nrun perl -e \"print '{{a}}'\"",
    "shopt -s expand_aliases\nalias asroot='bash -c'\nasroot \"echo {{a}}\"",
    // Variables that another program reads back.
    "printenv | grep SSM_ > job.env\nsource ./job.env # {{a}}",
    "X=$(printenv SSM_a); bash -c \"echo $X\" # {{a}}",
    "for v in ${!SSM_@}; do eval \"export q=${!v}\"; done",
    "source <(env | grep ^SSM_a)",
    // Arithmetic.
    "M={{a}}; while [[ 1 -gt M-1 ]]; do break; done",
    "N={{a}}; [[ N*2 -eq 4 ]]",
    "N={{a}}; time (( N > 3 ))",
    // Code in quotes for another shell.
    "export N={{a}}; bash -c 'echo $N | sh'",
    "export N={{a}}; bash -c 'a=$N; $a'",
    "export N={{a}}; bash -c 'for x in $N; do $x; done'",
    "export N={{a}}; bash -c 'read -r c <<< \"$N\"; $c'",
    "export N={{a}}; bash -c 'set -- $N; \"$@\"'",
    "export N={{a}}; bash -c 'x=\"$N\"; x=${x#a}; $x'",
    "export N={{a}}; bash -c 'f() { \"$@\"; }; f $N'",
    "export N={{a}}; bash -c 'sed -n \"$N\" /dev/null'",
    "export N={{a}}; bash -c 'perl -e \"$N\"'",
    "export N={{a}}; bash -c 'typeset -i q=N'",
    "export N={{a}}; bash -c 'echo ${A[N]}'",
    "bash -c 'cmd=$1; shift; $cmd \"$@\"' _ {{a}} x",
    "bash -c 'echo \"$1\" | bash' _ {{a}}",
    "bash -c 'test -v \"$1\" && true' _ {{a}}",
    // Options in the middle of a list.
    "for h in $(echo \"{{a}}\" | tr ',' ' '); do ssh \"$h\" uptime; done",
    "H=\"{{a}}\"; for h in ${H//,/ }; do ssh \"$h\" uptime; done",
    "IFS=',' read -ra H <<< \"{{a}}\"; for h in \"${H[@]}\"; do ssh \"$h\" uptime; done",
    // Arguments of functions behind the first one.
    "run() { \"$2\"; }; run x {{a}}",
    "run() { $2; }; run x {{a}}",
    "run() { . \"$2\"; }; run x {{a}}",
    "run() { bash \"$2\"; }; run x {{a}}",
    "run() { bash -c \"$2\"; }; run x {{a}}",
    "run() { eval \"$3\"; }; run x y {{a}}",
    "run() { \"${10}\"; }; run 1 2 3 4 5 6 7 8 9 {{a}}",
    "run() { shift; \"$1\"; }; run x {{a}}",
    "run() { shift; \"$@\"; }; run x bash {{a}}",
    "run() { for x in \"$@\"; do $x; done; }; run ls {{a}}",
    "run() { for x; do $x; done; }; run ls {{a}}",
    "run() { start \"$@\"; }; start() { \"$2\"; }; run ls {{a}}",
    "run() { start x \"$@\"; }; start() { \"$2\"; }; run {{a}}",
    "run() { c=(\"$@\"); \"${c[1]}\"; }; run ls {{a}}",
    "set -- x {{a}}; \"$2\"",
    "run() { while getopts c: o; do \"$OPTARG\"; done; }; run -c {{a}}",
    // Parts of variables.
    "x=\"foo {{a}}\"; ${x#foo }",
    "x=\"foo {{a}}\"; ${x/foo/}",
    "x=\"foo {{a}}\"; ${x:4}",
    "x=\"foo {{a}}\"; y=${x#foo }; $y",
    "x=\"foo {{a}}\"; y=${x##* }; \"$y\"",
    "x=\"foo {{a}}\"; eval \"${x#foo }\"",
    "x=\"foo {{a}}\"; echo \"${x#foo }\" | sh",
    "x=\"foo {{a}}\"; y=$(echo \"$x\" | cut -d' ' -f2); $y",
    "echo \"foo {{a}}\" | cut -d' ' -f2 | sh",
    "echo \"foo {{a}}\" | awk '{print $2}' | sh",
    "echo \"foo {{a}}\" | { sed 's/foo//'; } | sh",
    "cut -d' ' -f2 <<< \"foo {{a}}\" | sh",
    "echo x | sed \"s/x/{{a}}/\" | sh",
    "echo \"foo {{a}}\" | while read x y; do $y; done",
    "read x y <<< \"foo {{a}}\"; $y",
    "read -ra x <<< \"foo {{a}}\"; ${x[1]}",
    "printf 'foo\\n%s\\n' {{a}} | while read x; do $x; done",
    "w=(1 {{a}}); ${w[1]}",
    "w=(1 {{a}}); \"${w[-1]}\" x",
    "x={{a}}; \"/./${x#./}\" x",
    "read \"$1\" <<< {{a}}; (( out ))",
    "n=x; printf -v \"$n\" %s {{a}}; (( x ))",
    "x={{a}}; y=x; (( y ))",
    "x={{a}}; y=x; z=y; echo ${q[z]}",
    // Words that an expansion without quotes is split into.
    "D={{a}}; find /tmp/$D -maxdepth 0",
    "D={{a}}; find . -maxdepth $D",
    "D={{a}}; tar cf /dev/null ./$D",
    "c=\"find {{a}}\"; $c",
    "c=\"find . -maxdepth 0 -name {{a}}\"; $c",
    "find $(echo {{a}}) -maxdepth 0",
    "find `echo {{a}}` -maxdepth 0",
    "echo {{a}} > f; find $(cat f) -maxdepth 0",
    "run() { $*; }; run find . -maxdepth 0 -name {{a}}",
    "run() { c=\"$*\"; $c; }; run find . -maxdepth 0 -name {{a}}",
    "a=(find . -maxdepth 0 -name {{a}}); ${a[@]}",
    "set -- . -maxdepth 0 -name {{a}}; find $@",
    // Files that are run later, by another name.
    "cd .; echo {{a}} > g1.sh; sh ./g1.sh",
    "echo \"echo {{a}}\" > g2.sh; sh ././g2.sh",
    "echo \"echo {{a}}\" > g3.sh; sh \"$PWD/g3.sh\"",
    "echo \"echo {{a}}\" > g4.sh; bash -c ./g4.sh",
    "d=.; echo \"echo {{a}}\" > $d/g5.sh; sh g5.sh",
    "echo x > g6.sh; sed -i \"s/x/echo {{a}}/\" g6.sh; sh g6.sh",
    // Variables that the shell evaluates, and those that are named at run time.
    "RANDOM={{a}}",
    "v={{a}}; OPTIND=$v",
    "f() { declare -A m; m[a]=1; }; f; k={{a}}; m[$k]=1",
    "set -- x {{a}}; N=${!#}; $N",
    "h() { read -r \"$1\" <<< \"$2\"; }; h r {{a}}; $r",
    "h() { local -n o=$1; o=$2; }; h r {{a}}; $r",
    "jobs -x {{a}}",
    // Lists of commands, and what functions write.
    "case x in x) echo ls {{a}};; esac | sh",
    "case x in (x) echo {{a}};; esac | sh",
    "case x in x) echo ls {{a}} ;; esac 2>/dev/null | cat | sh",
    "y=$(case x in x) echo {{a}};; esac); $y",
    "echo $(case x in x) echo;; esac); case x in x) echo {{a}};; esac | sh",
    "f() { echo \"ls {{a}}\"; }; f | sh",
    "f() { echo {{a}}; }; f | sh",
    "f() ( echo {{a}} ); f | sh",
    "function f { echo {{a}}; }; f | sh",
    "f() { if true; then echo {{a}}; fi; }; f | while read x; do $x; done",
    "f() { echo {{a}}; }; g() { f; }; g | sh",
    "f() { echo {{a}}; }; x=$(f); $x",
    "f() { echo {{a}}; }; x=$(f | cat); $x",
    "f() { cat <<E\n{{a}}\nE\n}; x=$(f); $x",
    "f() { printf %s {{a}}; }; eval \"$(f)\"",
    "f() { echo {{a}}; }; bash -c \"$(f)\"",
    "f() { echo {{a}}; }; (( $(f) ))",
    "f() { echo {{a}}; }; { f; } | sh",
    "f() { echo {{a}}; }; bash < <(f)",
    "cat <<E > f; bash < f\necho {{a}}\nE",
    "echo ls {{a}} > f; cat f | bash",
    "cat <<E <<'A'\n$(:\n{{a}}\nA\n)\nE",
];

#[test]
fn no_part_of_a_value_becomes_code() {
    let (ran, found) = hurt_by(KINDS.iter().copied());
    assert_eq!(found, [] as [String; 0]);
    assert!(ran > 20, "{ran}");
}

#[test]
fn what_functions_write_and_are_given_stays_data_where_nothing_runs_it() {
    for script in [
        "f() { echo \"$1\"; }; x=$(f {{a}}); echo \"$x\"",
        "f() { echo {{a}}; }; f | tee x | grep y",
        "f() { \"$1\" x; }; f ls {{a}}",
        "run() { echo \"+ $*\"; \"$@\"; }; run rm -f {{a}}",
        "log() { echo \"$@\"; }; run() { log \"$@\"; \"$@\"; }; run rm {{a}}",
        "f() { local n=$2; echo \"$n\"; }; f x {{a}}",
        "x={{a}}; echo ${x#v} ${x%%.*} ${x:0:1}",
        "echo {{a}} | cut -d, -f1 | grep x",
        "read x y <<< {{a}}; echo $x",
        "f() { echo {{a}}; }; n=$(f | wc -l); (( n > 1 ))",
        "case $x in a) y=$(case z in (q) echo;; esac) ;; esac; echo {{a}}",
    ] {
        let done = rewritten(script).unwrap_or_else(|refused| panic!("{script:?}: {refused}"));
        assert_eq!((done.needs, done.programs), (Vec::new(), Vec::new()), "{script:?}");
    }
}

/// Beside the name of a program, which may be that of any, a value is no code, and names no file of it.
#[test]
fn a_value_beside_the_name_of_a_program_is_no_more_than_a_word() {
    let (directory, programs) = directory();
    let work = directory.path().join("work");
    let code = work.join("code");
    fs::write(&code, "touch hurt\n").unwrap();
    let (mut ran, mut refused, mut found) = (0, 0, Vec::new());
    for script in [
        "y={{b}}; {{a}} 'eval \"$y\"'",
        "export y={{b}}; {{a}} -c 'eval \"$y\"'",
        "export y={{b}}; {{a}} -c '$y'",
        "export y={{b}}; {{a}} -c 'true; \"${y}\"'",
        "export y={{b}}; {{a}} -c 'z[$y]=1'",
        "y={{b}}; {{a}} y",
        "y={{b}}; {{a}} -v 'z[y]'",
        "y={{b}}; {{a}} -i z=y",
        "{{a}} SSM_b",
        "{{a}} z=SSM_b",
        "{{a}} -s < {{b}}",
        "f={{b}}; {{a}} -s < \"$f\"",
        "exec < {{b}}; {{a}} -s",
        "cat {{b}} | {{a}} -s",
        "head {{b}} | {{a}} -s",
        "{ cat {{b}}; } | {{a}} -s",
        "cat {{b}} | if true; then {{a}} -s; fi",
        "{{a}} -s < <(cat {{b}})",
        "{{a}} <<< \"$(cat {{b}})\"",
        "cp {{b}} ./copy; chmod +x copy; {{a}} ./copy",
        "cp {{b}} copy; {{a}} copy",
        "ln -s {{b}} copy; {{a}} copy",
        "install -m 755 {{b}} copy; {{a}} copy",
        "dd if={{b}} of=copy; {{a}} copy",
        "cat {{b}} > copy; {{a}} copy",
        "case x in x) {{a}} {{b}};; esac | sh",
        "f() { {{a}} {{b}}; }; f | sh",
        "(case x in x) {{a}} {{b}};; esac) | sh",
        "x=$(case x in x) {{a}} {{b}};; esac); $x",
        "y=$(echo {{b}} | base64 -d); {{a}} y",
    ] {
        let Ok(done) = rewritten(script) else {
            refused += 1;
            continue;
        };
        let limit = done.needs.iter().find(|(index, _)| *index == 1).map_or(Limit::Free, |(_, need)| need.limit);
        let values = [
            "touch hurt",
            "$(touch hurt)",
            "z[$(touch hurt)]",
            "hurt.sh",
            "./code",
            "dG91Y2ggaHVydA==",
            "eiQodG91Y2ggaHVydCk=",
        ];
        for program in ["eval", "bash", "sh", ".", "let", "test", "declare", "env", "echo", "printf", "cat", "base64"] {
            for value in values.iter().filter(|value| Limit::of(value) >= limit) {
                ran += 1;
                let _ = fs::remove_file(work.join("copy"));
                if hurts_in(&work, &programs, &done.script, &[("SSM_a", program), ("SSM_b", value)]) {
                    found.push(format!("{script:?}: {program} with {value:?}"));
                }
            }
        }
    }
    assert_eq!(found, [] as [String; 0]);
    assert!(ran > 100 && refused > 10, "{ran} {refused}");
}
