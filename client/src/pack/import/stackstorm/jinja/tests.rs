//! Templates that are read, rewritten and refused.

use proptest::prelude::*;

use super::names::{ConfigValue, Kind, Names};
use super::shell::rewrite;
use super::*;

fn names() -> Names {
    let of = |name: &str, kind, given| (name.to_owned(), (name.to_owned(), kind, given));
    let parameters = [
        of("text", Kind::Text, true),
        of("maybe", Kind::Text, false),
        of("count", Kind::Number, true),
        of("flag", Kind::Boolean, true),
        of("list", Kind::List, true),
        of("args", Kind::Text, false),
    ];
    let value = |name: &str, kind, secret| (name.to_owned(), ConfigValue { bolt: name.to_owned(), kind, secret });
    let config = [
        value("place", Kind::Text, false),
        value("hosts", Kind::List, false),
        value("on", Kind::Boolean, false),
        value("key", Kind::Text, true),
    ];
    Names { parameters: parameters.into_iter().collect(), config: config.into_iter().collect(), ..Names::default() }
}

fn last_line(template: &str) -> String {
    let rewritten = rewrite(&parse(template).unwrap(), &names()).unwrap_or_else(|e| panic!("{template}: {e}"));
    rewritten.script.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn values_become_quoted_variables_of_their_place() {
    for (template, wanted) in [
        ("echo {{text}}", r#"echo "${BOLT_PARAM_TEXT}""#),
        ("echo {{ maybe }}", r#"echo ${BOLT_PARAM_MAYBE:+"${BOLT_PARAM_MAYBE}"}"#),
        ("echo \"a {{text}} b\"", r#"echo "a ${BOLT_PARAM_TEXT} b""#),
        ("echo 'a {{text}}'", r#"echo 'a '"${BOLT_PARAM_TEXT}"''"#),
        ("echo 'x \"{{text}}\"'", r#"echo 'x "'"${BOLT_PARAM_TEXT}"'"'"#),
        ("rm {{text}}/*", r#"rm "${BOLT_PARAM_TEXT}"/*"#),
        ("echo a{{text}}b{{count}}", r#"echo a"${BOLT_PARAM_TEXT}"b"${BOLT_PARAM_COUNT}""#),
        ("x=$(cat {{text}}) && echo $x", r#"x=$(cat "${BOLT_PARAM_TEXT}") && echo $x"#),
        ("echo \"$(cat {{text}})\"", r#"echo "$(cat "${BOLT_PARAM_TEXT}")""#),
        ("X={{text}} env | sort", r#"X="${BOLT_PARAM_TEXT}" env | sort"#),
        ("echo $(( {{count}} + 1 ))", "echo $(( ${BOLT_PARAM_COUNT} + 1 ))"),
        ("echo x > {{text}}", r#"echo x > "${BOLT_PARAM_TEXT}""#),
        ("sed -i s/a/b/ {{text}}", r#"sed -i s/a/b/ "${BOLT_PARAM_TEXT}""#),
        ("bash -c 'sleep {{count}}'", r#"bash -c 'sleep '"${BOLT_PARAM_COUNT}"''"#),
        ("ls {{args}}", r#"ls "${words1[@]}""#),
        ("for x in {{list}}; do echo {{text}}; done", r#"for x in "${words1[@]}"; do echo "${BOLT_PARAM_TEXT}"; done"#),
        ("echo \\\"{{text}}\\\"", r#"echo \""${BOLT_PARAM_TEXT}"\""#),
        ("echo {# nothing #}a", "echo a"),
        ("echo '{% raw %}{{x}}{% endraw %}'", "echo '{{x}}'"),
        ("sudo service {{text}} restart", r#"sudo service "${BOLT_PARAM_TEXT}" restart"#),
        ("echo {{ config_context.place }}", r#"echo "${BOLT_CONFIG_PLACE}""#),
        ("ls {{ list | join(' ') }} end", r#"ls "${words1[@]}" end"#),
        ("for x in {{ list | join('\n') }}; do echo; done", r#"for x in "${words1[@]}"; do echo; done"#),
        ("ls {{ config_context.hosts | join(' ') }}", r#"ls "${words1[@]}""#),
        ("echo \"{{ list | join(' ') }}\"", r#"echo "${value1}""#),
        ("echo {{ list | join(':') }}", r#"echo "${value1}""#),
        ("echo '\\{{text}}'", r#"echo '\'"${BOLT_PARAM_TEXT}"''"#),
        ("echo \\\\{{text}}", r#"echo \\"${BOLT_PARAM_TEXT}""#),
        ("grep 'x$' {{text}}", r#"grep 'x$' "${BOLT_PARAM_TEXT}""#),
        ("IFS=$'\\n'; echo {{text}}", r#"IFS=$'\n'; echo "${BOLT_PARAM_TEXT}""#),
        ("echo ${HOME} {{text}}", r#"echo ${HOME} "${BOLT_PARAM_TEXT}""#),
        ("echo ${HOME:-${PWD}} {{text}}", r#"echo ${HOME:-${PWD}} "${BOLT_PARAM_TEXT}""#),
    ] {
        assert_eq!(last_line(template), wanted, "{template}");
    }
}

#[test]
fn code_is_refused_by_name() {
    for (template, words) in [
        ("eval {{text}}", "an operand of eval"),
        ("bash -c \"echo {{text}}\"", "an operand of bash"),
        ("sudo {{text}}", "an operand of sudo"),
        ("ssh host {{text}}", "an operand of ssh"),
        ("/usr/bin/ssh host {{text}}", "an operand of ssh"),
        ("true; sh {{text}}", "an operand of sh"),
        ("echo a | xargs {{text}}", "an operand of xargs"),
        ("if true; then eval {{text}}; fi", "an operand of eval"),
        ("echo $(eval {{text}})", "an operand of eval"),
        ("echo \"$(eval {{text}})\"", "an operand of eval"),
        ("X=1 eval {{text}}", "an operand of eval"),
        ("(eval {{text}})", "an operand of eval"),
        ("compgen -W {{text}}", "an operand of compgen"),
        ("enable -f {{text}} x", "an operand of enable"),
        ("run-parts {{text}}", "an operand of run-parts"),
        ("PS4={{text}}; set -x; true", "a value of the variable PS4"),
        ("PATH=/opt/bin:{{text}} ls", "a value of the variable PATH"),
        ("echo `cat {{text}}`", "backquotes"),
        ("sed s/{{text}}/b/ f", "in the code of sed"),
        ("sed -e {{text}} f", "in the code of sed"),
        ("awk '{{text}}' f", "in the code of awk"),
        ("echo $(( {{text}} ))", "arithmetic"),
        ("echo $[ {{text}} ]", "arithmetic"),
        ("[[ {{text}} -eq 1 ]]", "[["),
        ("cat <<END\n{{text}}\nEND", "here-document"),
        ("prefix{{text}} a", "a program's name"),
        ("echo {% if flag %}a | b{% endif %}", "'|' beside a condition"),
        ("echo x{% if flag %}a{% endif %}", "inside a word"),
        ("echo {{ text | regex_replace('a', 'b') }}", "the filter regex_replace"),
        ("echo {{ st2kv.system.x }}", "st2kv.system.x is in StackStorm's datastore, which Bolt does not have"),
        ("echo {{ config_context.key }}", "the secret config_context.key"),
        ("echo {{ config_context.key | default('x') }}", "the secret config_context.key"),
        ("echo {{ config_context.none }}", "config_context.none, which is not in config.schema.yaml"),
        ("echo {{ config_context.place.part }}", "a part of a value"),
        ("echo a{{ list | join(' ') }}", "the filter join with blanks"),
        ("echo >{{ list | join(' ') }}", "the filter join with blanks"),
        ("x={{ list | join(' ') }}", "the filter join with blanks"),
        ("{{ list | join(' ') }}", "list, which names the program"),
        ("echo {{ list | join(' -x ') }}", "the filter join with blanks"),
        ("echo {{ list | join(' ') | lower }}", "the filter join with blanks"),
        ("echo {{ text | replace(',', ' ') }}", "the filter replace with blanks"),
        ("echo {{ text | join(',') }}", "join of what is no list"),
        ("echo {% if flag %}{{ list | join(' ') }}{% endif %}", "blanks between words"),
        ("echo {{ action_context.user }}", "action_context"),
        ("echo {{ unknown }}", "unknown, which is no parameter"),
        ("echo {{ text.upper() }}", "the expression"),
        ("echo {{ text + 1 }}", "the expression"),
        ("{% for x in list %}{{x}}{% endfor %}", "the statement \"for\""),
        ("echo {% if flag and text %}a{% endif %}", "the condition"),
        ("echo {{ text", "no }}"),
        ("echo {% if flag %}", "if without endif"),
        ("echo {% endif %}", "without its beginning"),
    ] {
        let refused = parse(template).and_then(|pieces| rewrite(&pieces, &names())).expect_err(template);
        assert!(refused.to_string().contains(words), "{template}: {refused}");
    }
}

fn refused(cases: &[(&str, &str)]) {
    for (template, words) in cases {
        let refused = parse(template).and_then(|pieces| rewrite(&pieces, &names())).expect_err(template);
        assert!(refused.to_string().contains(words), "{template}: {refused}");
    }
}

#[test]
fn nothing_before_a_value_takes_its_quotes() {
    refused(&[
        ("echo \\{{text}}", "a value after \\"),
        ("echo \"\\{{text}}\"", "a value after \\"),
        ("echo ${{text}}", "a value after $"),
        ("echo \"${{text}}\"", "a value after $"),
        ("echo $'it\\'s {{text}}'", "a value after $'"),
    ]);
}

#[test]
fn a_value_is_never_inside_an_expansion() {
    refused(&[
        ("echo ${Y:-'{{text}}'}", "inside ${…}"),
        ("echo ${Y:-\"}\"{{text}}}", "inside ${…}"),
        ("echo ${Y:-'}'{{text}}}", "inside ${…}"),
        ("echo ${a[${i}{{text}}]}", "inside ${…}"),
    ]);
}

#[test]
fn text_that_a_comment_cuts_in_two_is_read_as_one() {
    refused(&[
        ("echo \"${# cut #}(eval {{text}})\"", "an operand of eval"),
        ("echo \"${% raw %}({% endraw %}eval {{text}})\"", "an operand of eval"),
    ]);
}

#[test]
fn a_value_beside_what_may_run_it_is_refused_wherever_it_goes() {
    for (template, words) in [
        ("echo {{text}} | bash", "with bash"),
        ("bash <<< {{text}}", "bash"),
        ("y={{text}}; eval \"$y\"", "with eval"),
        ("y={{text}}; $y", "a variable that names the program"),
        ("y={{text}}; sudo \"$y\" now", "a variable that names the program"),
        ("timeout 10 bash -c 'echo {{text}}'", "with timeout"),
        ("timeout 10 {{text}}", "with timeout"),
        ("sudo -u app bash -c \"echo {{text}}\"", "with bash"),
        ("sudo -u postgres psql -c \"select '{{text}}'\"", "with psql"),
        ("nice -n 10 /bin/sh -c 'echo {{text}}'", "with sh"),
        ("docker exec web {{text}}", "with exec"),
        ("kubectl exec pod -- bash -lc 'echo {{text}}'", "with exec"),
        ("find /tmp -exec {{text}} ';'", "with -exec"),
        ("cat | python3.11 -c 'print({{text}})'", "python3.11"),
        ("curl {{text}} | sh", "with sh"),
        ("source <(curl {{text}})", "with <("),
        ("cat <(echo {{text}})", "with <("),
        ("while read l; do sh -c \"$l\"; done <<< {{text}}", "with sh"),
        ("flock f -c {{text}}", "with flock"),
        ("y={{text}}; echo $((y))", "with (("),
        ("y={{text}}; echo ${!y}", "with ${!"),
        ("for y in {{list}}; do [[ -v $y ]]; done", "with [["),
        ("echo ${a[{{text}}]}", "inside ${…}"),
        ("printf -v {{text}} x", "the name of a variable"),
        ("test -v {{text}}", "the name of a variable"),
        ("read {{text}} < f", "an operand of read"),
        ("awk -F : {{text}} f", "in the code of awk"),
    ] {
        let refused = parse(template).and_then(|pieces| rewrite(&pieces, &names())).expect_err(template);
        assert!(refused.to_string().contains(words), "{template}: {refused}");
    }
    for template in [
        "echo {{text}} | grep -c x",
        "ssh-keygen -R {{text}}",
        "y={{text}}; echo \"$y\"",
        "for y in {{list}}; do rm -- \"$y\"; done",
        "timeout 10 sleep {{count}}",
        "awk -F : '{print $1}' {{text}}",
        "sed -i s/a/b/ {{text}}",
    ] {
        assert!(parse(template).and_then(|pieces| rewrite(&pieces, &names())).is_ok(), "{template}");
    }
}

#[test]
fn parameters_that_choose_programs_are_reported() {
    let done = |template: &str| rewrite(&parse(template).unwrap(), &names()).unwrap();
    assert_eq!(done("{{text}} --version").fixed, ["text"]);
    assert_eq!(done("rsync {{args}} a b").fixed, ["args"]);
    assert_eq!(done("sort {{args}} a").fixed, ["args"]);
    assert_eq!(done("split {{args}} a").fixed, ["args"]);
    assert_eq!(done("ls {{args}}").split, ["args"]);
    let computed =
        parse("-v{% if flag == true %} -r{% elif count == 3 %} -t{% else %} --to={{text}}{% endif %}").unwrap();
    let names = Names { computed: [("args".to_owned(), computed)].into(), ..names() };
    let done = rewrite(&parse("cp {{args}}").unwrap(), &names).unwrap();
    assert_eq!(done.replaced, ["args"]);
    let wanted = "words1+=('-v')\nif [ \"${BOLT_PARAM_FLAG}\" = 'true' ]; then\n    words1+=('-r')\nelif [ \"${BOLT_PARAM_COUNT}\" = '3' ]; \
                  then\n    words1+=('-t')\nelse\n    words1+=('--to='\"${BOLT_PARAM_TEXT}\")\nfi\ncp \"${words1[@]}\"\n";
    assert!(done.script.ends_with(wanted), "{}", done.script);
}

proptest! {
    #[test]
    fn no_template_panics_or_leaves_a_value_unquoted(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{{", "}}", "{%", "%}", "{#", "#}", " ", "text", "{{text}}", "{{ list }}", "{{args}}", "if", "endif", "else", "'", "\"",
            "$(", ")", "`", "\\", ";", "|", "&&", "echo", "eval", "{% if flag %}", "{% endif %}", "|lower", "<<", ">", "-", "\n",
            "é", "$((", "))", "$[", "]", "sed", "for", "{% raw %}", "{% endraw %}", "bash -c",
        ]), 0..14)
    ) {
        let template = parts.concat();
        if let Ok(pieces) = parse(&template)
            && let Ok(done) = rewrite(&pieces, &names())
        {
            let raw = template.contains("raw");
            prop_assert!(raw || !done.script.contains("{{text}}"), "{}", done.script);
        }
    }
}
