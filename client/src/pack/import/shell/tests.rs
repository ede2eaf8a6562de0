//! Scripts with places, rewritten; and run, with values that would do harm as text.

use std::process::{Command, Stdio};

use super::*;

mod arguments;
mod attacks;
mod chosen;
mod code;
mod directories;
mod matrix;
mod names;
mod programs;
mod rows;
mod words;

/// Splits a script at `{{name}}`; the values are those of `names`.
fn parts(script: &str, names: &[&str]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = script;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap();
        parts.push(Part::Text(before.to_owned()));
        parts.push(Part::Value(names.iter().position(|known| *known == name).unwrap()));
        rest = after;
    }
    parts.push(Part::Text(rest.to_owned()));
    parts
}

fn value(name: &str) -> ScriptValue {
    let (name, variable) = (name.to_owned(), format!("SSM_{name}"));
    ScriptValue { name, variable, limit: Limit::Free, listed: false, plain: false, words: false, omitted: false }
}

fn rewritten(script: &str) -> Result<Rewritten, Refused> {
    rewrite(&parts(script, &["a", "b"]), &[value("a"), value("b")], &[])
}

#[test]
fn values_are_quoted_for_their_place() {
    for (given, wanted) in [
        ("echo {{a}}", r#"echo "${SSM_a}""#),
        ("echo x{{a}}y", r#"echo x"${SSM_a}"y"#),
        ("echo \"x {{a}}\"", r#"echo "x ${SSM_a}""#),
        ("echo 'x {{a}}'", r#"echo 'x '"${SSM_a}"''"#),
        ("echo $'x\\n{{a}}'", r#"echo $'x\n'"${SSM_a}"$''"#),
        ("A={{a}} B=\"{{b}}\"", r#"A="${SSM_a}" B="${SSM_b}""#),
        ("[[ {{a}} == True ]] && [ {{b}} = x ]", r#"[[ "${SSM_a}" == True ]] && [ "${SSM_b}" = x ]"#),
        ("x=$(echo {{a}} | cut -d, -f1)", r#"x=$(echo "${SSM_a}" | cut -d, -f1)"#),
        ("x=`echo {{a}}`", r#"x=`echo "${SSM_a}"`"#),
        ("# was {{a}} it's\necho {{a}}", "# was $SSM_a it's\necho \"${SSM_a}\""),
        ("echo \"${X:-{{a}}}\"", r#"echo "${X:-${SSM_a}}""#),
        ("for i in {{a}}; do echo $i; done", "for i in ${SSM_a}; do echo $i; done"),
        (
            "mkdir ~{{a}}/x",
            "mkdir \"$(home=$(getent passwd \"${SSM_a}\" | cut -d: -f6); printf %s \"${home:-~${SSM_a}}\")\"/x",
        ),
        ("X=({{a}}) Y=( {{b}} )", "X=(${SSM_a}) Y=( ${SSM_b} )"),
        ("X=(\"{{a}}\") Y=(x{{b}})", "X=(\"${SSM_a}\") Y=(x\"${SSM_b}\")"),
        ("cat <<EOF >x\nit's {{a}} $HOME\nEOF\necho 'b'", "cat <<EOF >x\nit's ${SSM_a} $HOME\nEOF\necho 'b'"),
        ("cat <<'EOF'\n$x {{a}} `\\\nEOF\necho {{b}}", "cat <<EOF\n\\$x ${SSM_a} \\`\\\\\nEOF\necho \"${SSM_b}\""),
        ("cat <<'A' - <<B\n{{a}}\nA\n'{{b}}'\nB\n", "cat <<A - <<B\n${SSM_a}\nA\n'${SSM_b}'\nB\n"),
        ("cat <<-\"EOF\"\n\t{{a}}\n\tEOF\necho {{a}}", "cat <<-EOF\n\t${SSM_a}\n\tEOF\necho \"${SSM_a}\""),
        (
            "case $x in\n a) echo {{a}} ;;\n b|c) y=$(case z in (q) echo {{b}};; esac) ;;\nesac\necho {{a}}",
            "case $x in\n a) echo \"${SSM_a}\" ;;\n b|c) y=$(case z in (q) echo \"${SSM_b}\";; esac) ;;\nesac\necho \"${SSM_a}\"",
        ),
        (
            "f() {\n echo {{a}}\n}\nX=( {{a}} \"{{b}}\" )",
            "f() {\n echo \"${SSM_a}\"\n}\nX=( \"${SSM_a}\" \"${SSM_b}\" )",
        ),
        (
            "killall -{{a}} x 2>/dev/null >&2 || { echo '{{b}}' ; exit 1 ;}",
            "killall -\"${SSM_a}\" x 2>/dev/null >&2 || { echo ''\"${SSM_b}\"'' ; exit 1 ;}",
        ),
        ("sudo -u {{a}} useradd -d '{{b}}' x", "sudo -u \"${SSM_a}\" useradd -d ''\"${SSM_b}\"'' x"),
    ] {
        let done = rewritten(given).unwrap_or_else(|refused| panic!("{given:?}: {refused}"));
        assert_eq!(done.script, wanted, "{given:?}");
        assert_eq!(done.needs, [], "{given:?}");
    }
}

#[test]
fn a_value_that_a_script_reads_as_code_is_limited() {
    for (script, limit, reader) in [
        ("echo $(( {{a}} + 1 ))", Limit::Number, "arithmetic"),
        ("D={{a}}\nE=$(($(date +%s) + D))", Limit::Number, "arithmetic"),
        ("D={{a}}\n(( D > 3 )) && echo", Limit::Number, "arithmetic"),
        ("D={{a}}; [[ $D -lt 1 ]] || true", Limit::Number, "arithmetic of [["),
        ("if (( $(echo \"{{a}} > 1\" | bc -l) )); then echo; fi", Limit::Number, "arithmetic"),
        ("let x={{a}}", Limit::Number, "let"),
        ("eval \"ls $SSM_a\"", Limit::Path, "eval"),
        ("C=\"rm {{a}}\"\neval \"$C\"", Limit::Path, "eval"),
        ("bash -c 'echo {{a}}'", Limit::Path, "bash"),
        ("docker exec x sh -c \"ls {{a}}\"", Limit::Path, "docker"),
        ("su x -c \"ls {{a}}\"", Limit::Path, "su"),
        ("python3 -c \"print('{{a}}')\"", Limit::Word, "python3"),
        ("sed -i 's/x/{{a}}/' f", Limit::Word, "sed"),
        ("awk '{print {{a}}}' f", Limit::Word, "awk"),
        // A path names another script, or a unit that is installed.
        ("sudo service {{a}} restart", Limit::Word, "service"),
        ("systemctl --quiet enable --now {{a}}", Limit::Word, "systemctl"),
        ("mysql -h h -e \"select {{a}}\"", Limit::Word, "mysql"),
        ("echo \"iptables -D {{a}}\" | at now", Limit::Path, "at"),
        ("cat <<EOF | ssh host\nls {{a}}\nEOF", Limit::Path, "ssh"),
        ("bash <<EOF\nls {{a}}\nEOF", Limit::Path, "bash"),
        ("bash <<< \"ls {{a}}\"", Limit::Path, "bash"),
        ("cat > /x.sh <<EOF\n  #!/bin/sh\nls {{a}}\nEOF", Limit::Path, "the script that a here-document writes"),
        ("read -r -d '' C <<EOF\nls {{a}}\nEOF\neval \"$C\"", Limit::Path, "eval"),
        ("read -r C <<< {{a}}; eval ls $C", Limit::Path, "eval"),
        ("echo {{a}} | while read x; do eval ls $x; done", Limit::Path, "eval"),
        ("for x in {{a}}; do eval ls $x; done", Limit::Path, "eval"),
        ("X=$(echo {{a}} | tr a b)\nY=(ls \"$X\")\neval \"${Y[@]}\"", Limit::Path, "eval"),
        ("local x=\"{{a}}\"; trap \"rm $x\" EXIT", Limit::Path, "trap"),
    ] {
        let done = rewritten(script).unwrap_or_else(|refused| panic!("{script:?}: {refused}"));
        let need = Need { limit, reader: reader.to_owned(), followed: true };
        assert_eq!(done.needs, [(0, need)], "{script:?}");
    }
}

#[test]
fn places_in_which_no_limit_helps_are_refused() {
    for (script, why) in [
        ("{{a}}", "a names a program"),
        ("sudo {{a}} | tee x", "a names a program"),
        ("C={{a}}\n$C x", "a names a program, by the variable C"),
        ("echo ${{a}}", "a part of a variable's name"),
        ("cat <<{{a}}\nx", "the delimiter of a here-document"),
        ("cat <<'E F'\n{{a}}\nE F", "an unusual delimiter"),
        ("echo \\{{a}}", "after a backslash"),
    ] {
        let refused = rewritten(script).expect_err(script);
        assert!(refused.to_string().contains(why), "{script:?}: {refused}");
    }
    let named = [Part::Text("echo ${".to_owned()), Part::Value(0), Part::Text("}".to_owned())];
    assert!(rewrite(&named, &[value("a")], &[]).unwrap_err().to_string().contains("the name of a variable"));
    let arguments = rewritten("C=(ls -l {{a}} {{b}})\n\"${C[@]}\"").unwrap();
    assert_eq!(arguments.needs, [], "a value after the program");
    let listed = ScriptValue { limit: Limit::Word, listed: true, ..value("a") };
    assert!(rewrite(&parts("{{a}} x", &["a"]), &[listed], &[]).is_ok());
}

#[test]
fn a_program_that_is_given_a_value_is_not_given_an_option() {
    for (script, operands) in [
        ("rm {{a}}", vec![0]),
        ("rm -{{a}}", vec![]),
        ("rm x/{{a}}", vec![]),
        ("echo {{a}}", vec![]),
        ("A={{a}} [ {{a}} = x ]", vec![]),
        ("tar xf {{b}} > {{a}}", vec![1]),
        ("rm \"{{a}}\"", vec![0]),
        ("rm '{{a}}'", vec![0]),
        ("rm \"x{{a}}\"", vec![]),
    ] {
        assert_eq!(rewritten(script).unwrap().operands, operands, "{script:?}");
    }
}

/// Runs a rewritten script with values.
fn run(script: &str, shell: &str, a: &str, b: &str) -> String {
    printed(&rewritten(script).unwrap(), shell, a, b)
}

fn printed(done: &Rewritten, shell: &str, a: &str, b: &str) -> String {
    let ran = Command::new(shell)
        .args(["-c", &done.script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SSM_a", a)
        .env("SSM_b", b)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn values_that_would_do_harm_as_text_are_printed() {
    let hostile = [
        "$(echo hurt)",
        "`echo hurt`",
        "'; echo hurt; '",
        "\"; echo hurt; \"",
        "x\necho hurt\n",
        "a b  *",
        "EOF\necho hurt",
        "\\$(echo hurt)",
        "${IFS}",
        "-n",
        "*",
    ];
    let scripts = [
        "printf '%s\\n' {{a}}",
        "printf '%s\\n' \"{{a}}\"",
        "printf '%s\\n' '{{a}}'",
        "x={{a}}\nprintf '%s\\n' \"$x\"",
        "cat <<EOF\n{{a}}\nEOF",
        "cat <<'EOF'\n{{a}}\nEOF",
        "if true; then # it's\n printf '%s\\n' {{a}}\nfi",
        "f() { printf '%s\\n' \"$1\"; }\nf {{a}}",
        "case x in x) printf '%s\\n' \"{{a}}\";; esac",
        "printf '%s\\n' \"$(printf '%s' '{{a}}')\"",
        "printf '%s\\n' `printf '%s' x`\"{{a}}\" | sed s/x//",
    ];
    for script in scripts {
        for value in hostile {
            for shell in ["bash", "sh"] {
                // A substitution removes the last ends of lines.
                let printed = run(script, shell, value, "");
                assert_eq!(printed.trim_end(), value.trim_end(), "{shell} {script:?} {value:?}");
            }
        }
    }
}

#[test]
fn an_empty_value_that_is_left_out_is_no_word() {
    let parts = |texts: [&str; 3]| {
        let [before, between, after] = texts.map(|text| Part::Text(text.to_owned()));
        vec![before, Part::Value(0), between, Part::Value(0), after]
    };
    let values = [ScriptValue { omitted: true, ..value("a") }];
    let done = rewrite(&parts(["ls -l ", " --x=", " >y\n"]), &values, &[]).unwrap();
    assert_eq!(done.script, "ls -l ${SSM_a:+\"${SSM_a}\"} --x=\"${SSM_a}\" >y\n");
    let done = rewrite(&parts(["cat >", "; for i in ", "; do :; done\n"]), &values, &[]).unwrap();
    assert_eq!(done.script, "cat >\"${SSM_a}\"; for i in ${SSM_a}; do :; done\n");
}
