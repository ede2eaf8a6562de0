//! Every reader of code behind every way of a value to it, run with values that leave a file where they are run as code.

use std::fs;
use std::path::Path;

use super::attacks::{HOSTILE, MATRIX, allowed};
use super::*;

/// Scripts in which `@` reads what a value has become: an expression that expands to it.
const READERS: &[&str] = &[
    "z=(1 2); echo ${z[@]}",
    "z=abc; echo ${z:@}",
    "z=abc; echo ${z:0:@}",
    "(( @ ))",
    "echo $(( @ + 1 ))",
    "echo $[ @ ]",
    "[[ @ -eq 0 ]]",
    "[[ 0 -lt @ ]]",
    "[[ -v @ ]]",
    "[ -v @ ]",
    "test -v \"@\"",
    "printf -v @ y",
    "read -r @ <<< y",
    "mapfile @ <<< y",
    "declare -i z=@",
    "declare -i z; z=@",
    "declare -n z=@; echo $z",
    "z[@]=1",
    "z=([@]=1)",
    "let @",
    "let \"z=@\"",
    "unset @",
    "export @",
    "for ((i = @; i < 1; i++)); do :; done",
    "z=\"@\"; echo ${z@P}",
    "z=\"@\"; echo ${!z}",
    "eval @",
    "eval \"echo @\"",
    "eval echo @",
    "bash -c \"@\"",
    "bash -c \"echo @\"",
    "bash -o pipefail -c \"echo @\"",
    "sh -ec \"echo @\"",
    "echo @ | bash",
    "echo echo @ | sh -s x",
    "(echo echo @) | bash",
    "for i in 1; do echo \"echo @\"; done | bash",
    "bash <<< \"echo @\"",
    "bash <<EOF\necho @\nEOF",
    "{ bash; } <<< \"echo @\"",
    "echo @ | tee >(bash) >/dev/null",
    "trap \"@\" EXIT",
    "trap \"echo @\" EXIT",
    "env -S \"@\"",
    "env -i PATH=\"$PATH\" @",
    "echo | xargs @",
    "echo \"@\" | xargs -I{} sh -c '{}'",
    "find . -maxdepth 0 -exec @ \\;",
    "find . -maxdepth 0 -exec sh -c \"echo @\" \\;",
    "awk \"BEGIN { x = @ }\"",
    "awk -v n=1 \"BEGIN { x = @ }\"",
    "echo | sed \"@\"",
    "echo | sed -n -e \"@\"",
    "perl -e \"@\"",
    "perl -ne 1 \"@\"",
    "timeout 5 bash -c \"echo @\"",
    "source @",
    ". ./@",
    "bash @",
    "bash -x @",
    "bash < @",
    "cat @ | bash",
    "bash <(cat @)",
    "eval \"$(cat @)\"",
    "exec @",
    "command @",
    "timeout 5 @",
    "@",
    "@ x",
    "X=1 @",
    "\"@\"",
    "\"@\" x",
    "\"@\" \"@\"",
    "nohup \"@\"",
    "X=1 command \"@\"",
    "\"@\" echo | bash",
    "\"@\" <<< \"@\"",
    "PS4=\"@\"; set -x; echo",
    "BASH_ENV=\"@\" bash -c :",
    "flock lock -c \"echo @\"",
    "flock lock @",
    "xargs -a /dev/null sh -c \"echo @\"",
    "set -- @; eval \"echo $1\"",
    "w() { eval \"echo $1\"; }; w @",
    "w() { (( $1 )); }; w @",
    "mapfile -t q <<< \"@\"; (( q[0] ))",
    "read -ra q <<< \"@\"; (( ${q[0]} ))",
    "case @ in 1) echo ;; esac",
    "echo @ > out; [ @ = x ]; [[ @ == x ]]",
    "printf '%s %d\\n' @ @",
    "shift @",
    "exit @",
    "timeout @ ls",
    "timeout -k @ 5 ls",
    "nice -n @ ls",
    "env -u @ ls",
    "[ @ ]",
    "[ -n @ ]",
    "printf @",
    "case 1 in 1) echo echo @ ;; esac | bash",
    "z=\"x @\"; ${z#x }",
    "z=(x @); \"${z[1]}\"",
    "z=(timeout 5 @); \"${z[@]}\"",
    "z=\"bash -c @\"; $z",
    "z=-c; bash $z \"echo @\"",
    "bash $none @",
    "$none @ x",
    "echo \"x @\" | cut -d' ' -f2- | bash",
    "set -- x @; \"$2\"",
];

/// Ways of a value to a reader, which stands at `#`; the expression that reads it there.
const WAYS: &[(&str, &str)] = &[
    ("#", "{{a}}"),
    ("v={{a}}\n#", "$v"),
    ("v={{a}}\n#", "${v}"),
    ("v={{a}}\n#", "v"),
    ("v=x; v+={{a}}\n#", "$v"),
    ("export v={{a}}\n#", "$v"),
    ("f() {\n#\n}\nf {{a}}", "$1"),
    ("f() {\nlocal v=$1\n#\n}\nf {{a}}", "$v"),
    ("f() {\n#\n}\nf {{a}}", "$*"),
    ("set -- {{a}}\n#", "$1"),
    ("read -r v <<< {{a}}\n#", "$v"),
    ("read -r v <<EOT\n{{a}}\nEOT\n#", "$v"),
    ("while read -r v; do\n#\ndone <<< {{a}}", "$v"),
    ("while read -r v; do\n#\ndone < <(echo {{a}})", "$v"),
    ("echo {{a}} | while read -r v; do\n#\ndone", "$v"),
    ("echo {{a}} | { true; read -r v\n#\n}", "$v"),
    ("echo {{a}} | (read -r v\n#\n)", "$v"),
    ("f() { read -r v\n#\n}\nf <<< {{a}}", "$v"),
    ("v=$(echo {{a}})\n#", "$v"),
    ("v=`cat <<< {{a}}`\n#", "$v"),
    ("v=$(cat <<'EOT'\n{{a}}\nEOT\n)\n#", "$v"),
    ("w() { echo \"$1\"; }\nv=$(w {{a}})\n#", "$v"),
    ("for v in {{a}} 1; do\n#\ndone", "$v"),
    ("w=({{a}})\n#", "${w[0]}"),
    ("w=(1)\nw[1]={{a}}\n#", "${w[1]}"),
    (": ${v:={{a}}}\n#", "$v"),
    ("printf -v v %s {{a}}\n#", "$v"),
    ("mapfile -t w <<< {{a}}\n#", "${w[0]}"),
    ("v=${none:-{{a}}}\n#", "$v"),
    ("v=\"${none:-{{a}}}\"\nw=$v\n#", "${w}"),
    ("if true; then v={{a}}; fi\n#", "$v"),
    ("case {{a}} in *) v={{a}};; esac\n#", "$v"),
    ("IFS=, read -r v rest <<< {{a}}\n#", "$v"),
    ("f() {\n#\n}\nf x {{a}}", "$2"),
    ("f() {\nshift\n#\n}\nf x {{a}}", "$1"),
    ("v=\"x {{a}}\"\n#", "${v#x }"),
    ("v=\"x {{a}}\"\nv=${v:2}\n#", "$v"),
    ("w=(1 {{a}})\n#", "${w[1]}"),
    ("read -r x v <<< \"x {{a}}\"\n#", "$v"),
    ("w() { echo {{a}}; }\nv=$(w)\n#", "$v"),
    ("w() { echo {{a}}; }\nw | while read -r v; do\n#\ndone", "$v"),
    ("v=$(echo \"x {{a}}\" | cut -d' ' -f2-)\n#", "$v"),
];

/// Runs a script in `directory`, and returns true if the file `hurt` is there afterwards.
pub(super) fn hurts(directory: &Path, script: &str, value: &str, variable: &str) -> bool {
    let path = format!("/usr/bin:/bin:{}", directory.display());
    hurts_in(directory, Path::new(&path), script, &[(variable, value)])
}

/// Runs a script in `directory` with this search path and these variables.
pub(super) fn hurts_in(directory: &Path, path: &Path, script: &str, variables: &[(&str, &str)]) -> bool {
    let mut command = Command::new("/usr/bin/timeout");
    command.args(["-s", "KILL", "10", "/bin/bash", "-c", script]).env_clear().env("PATH", path);
    command.envs(variables.iter().copied()).current_dir(directory);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    let hurt = directory.join("hurt");
    let there = hurt.exists();
    let _ = fs::remove_file(hurt);
    there
}

/// Scripts of the matrix.
fn scripts() -> impl Iterator<Item = String> {
    // The name of a variable in a text that is evaluated is not followed.
    let is_text =
        |reader: &str, read: &str| read == "v" && (reader.contains("w @") || reader.contains("<<< \"@\"; (("));
    let pairs = READERS.iter().flat_map(|reader| WAYS.iter().map(move |(way, read)| (reader, way, read)));
    pairs
        .filter(move |(reader, _, read)| !is_text(reader, read))
        .map(|(reader, way, read)| way.replace('#', &reader.replace('@', read)))
}

#[test]
fn no_value_becomes_code_on_any_way() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("hurt.sh");
    fs::write(&program, "#!/bin/sh\ntouch hurt\n").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (mut ran, mut refused, mut found) = (0, 0, Vec::new());
    for script in scripts() {
        let Ok(done) = rewritten(&script) else {
            refused += 1;
            continue;
        };
        for value in HOSTILE[..MATRIX].iter().filter(|value| allowed(&done, value)) {
            ran += 1;
            if hurts(directory.path(), &done.script, value, "SSM_a") {
                found.push(format!("{script:?} with {value:?}"));
            }
        }
    }
    println!("{ran} runs of scripts with values, {refused} scripts refused");
    assert_eq!(found, [] as [String; 0]);
    assert!(ran > 1_000 && refused > 100, "{ran} {refused}");
}
