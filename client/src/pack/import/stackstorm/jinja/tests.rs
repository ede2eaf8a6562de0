//! Templates that are read, rewritten and refused.

use proptest::prelude::*;

use super::judge::{Allowed, Judged, judge};
use super::names::{ConfigValue, Kind, Names, Origin};
use super::shell::{Rewritten, rewrite};
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

/// Returns a rewritten template with its judgement: numbers and booleans are limited by their kind.
fn judged(template: &str) -> Outcome<(Rewritten, Judged)> {
    let names = names();
    let allowed = |origin: &Origin| {
        let kind = match origin {
            Origin::Parameter(name) => names.parameters[name].1,
            Origin::Config(path) => names.config[path].kind,
        };
        let limit = match kind {
            Kind::Number => Limit::Number,
            Kind::Boolean => Limit::Word,
            _ => Limit::Free,
        };
        Allowed { limit, listed: false, plain: false }
    };
    let rewritten = rewrite(&parse(template)?, &names)?;
    let judged = judge(&rewritten.analysed, &allowed)?;
    Ok((rewritten, judged))
}

/// Returns in words how a template is judged.
fn verdict(template: &str) -> String {
    let (_, judged) = match judged(template) {
        Ok(done) => done,
        Err(refused) => return format!("refused: {refused}"),
    };
    let needs = judged.needs.iter().map(|(name, need)| format!("{name} is {:?} for {}", need.limit, need.reader));
    let programs = judged.programs.iter().map(|(name, _)| format!("{name} names a program"));
    let options = judged.options.iter().map(|name| format!("{name} has options"));
    let all: Vec<String> = programs.chain(options).chain(needs).collect();
    if all.is_empty() { "data".to_owned() } else { all.join("; ") }
}

fn judgements(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter(|(template, wanted)| !verdict(template).contains(wanted))
        .map(|(template, wanted)| format!("{template:?}: {wanted:?}: {}", verdict(template)))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
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
    // Code is followed as in scripts of Systems Manager: a limit takes the place of a refusal where it is enough.
    judgements(&[
        ("eval {{text}}", "refused: text names a program"),
        ("bash -c \"echo {{text}}\"", "text is Path for bash"),
        ("sudo {{text}}", "refused: text names a program"),
        ("ssh host {{text}}", "refused: text names a program"),
        ("/usr/bin/ssh host {{text}}", "refused: text names a program"),
        ("true; sh {{text}}", "refused: text names a program"),
        ("echo a | xargs {{text}}", "refused: text names a program"),
        ("if true; then eval {{text}}; fi", "refused: text names a program"),
        ("echo $(eval {{text}})", "refused: text names a program"),
        ("echo \"$(eval {{text}})\"", "refused: text names a program"),
        ("X=1 eval {{text}}", "refused: text names a program"),
        ("(eval {{text}})", "refused: text names a program"),
        ("compgen -W {{text}}", "refused: text names a program"),
        ("enable -f {{text}} x", "refused: text names a program"),
        ("run-parts {{text}}", "refused: text names a program"),
        ("PS4={{text}}; set -x; true", "refused: text names a program, by the variable PS4"),
        ("PATH=/opt/bin:{{text}} ls", "refused: text names a program, by the variable PATH"),
        ("echo `cat {{text}}`", "backquotes"),
        ("sed s/{{text}}/b/ f", "text is Word for sed"),
        ("sed -e {{text}} f", "text is Number for sed"),
        ("awk '{{text}}' f", "text is Word for awk"),
        ("echo $(( {{text}} ))", "arithmetic"),
        ("echo $[ {{text}} ]", "arithmetic"),
        ("[[ {{text}} -eq 1 ]]", "[["),
        ("cat <<END\n{{text}}\nEND", "here-document"),
        ("prefix{{text}} a", "text names a program"),
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
        ("{{ list | join(' ') }}", "refused: the filter join with blanks, which makes several words outside quotes"),
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
    ]);
}

fn refused(cases: &[(&str, &str)]) {
    for (template, words) in cases {
        let refused = judged(template).expect_err(template);
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
        ("echo \"${# cut #}(eval {{text}})\"", "text names a program"),
        ("echo \"${% raw %}({% endraw %}eval {{text}})\"", "text names a program"),
    ]);
}

#[test]
fn a_value_beside_what_may_run_it_is_refused_wherever_it_goes() {
    judgements(&[
        ("echo {{text}} | bash", "refused: text names a program"),
        ("bash <<< {{text}}", "refused: text names a program"),
        ("y={{text}}; eval \"$y\"", "refused: text names a program, by the variable y"),
        ("y={{text}}; $y", "refused: text names a program, by the variable y"),
        ("y={{text}}; sudo \"$y\" now", "text names a program"),
        ("timeout 10 bash -c 'echo {{text}}'", "text is Path for bash"),
        ("timeout 10 {{text}}", "refused: text names a program"),
        ("sudo -u app bash -c \"echo {{text}}\"", "text is Path for bash"),
        ("sudo -u postgres psql -c \"select '{{text}}'\"", "text is Word for psql"),
        ("nice -n 10 /bin/sh -c 'echo {{text}}'", "text is Path for sh"),
        ("docker exec web {{text}}", "refused: text names a program"),
        ("kubectl exec pod -- bash -lc 'echo {{text}}'", "text is Path for kubectl"),
        ("find /tmp -exec {{text}} ';'", "refused: text names a program"),
        ("cat | python3.11 -c 'print({{text}})'", "python3.11"),
        ("curl {{text}} | sh", "refused: text names a program"),
        ("source <(curl {{text}})", "refused: text names a program"),
        ("cat <(echo {{text}})", "text is Path for an option of cat"),
        ("while read l; do sh -c \"$l\"; done <<< {{text}}", "refused: text names a program, by the variable l"),
        ("flock f -c {{text}}", "text is Path for flock"),
        ("y={{text}}; echo $((y))", "text is Number for arithmetic"),
        ("y={{text}}; echo ${!y}", "text is Word for ${!…}"),
        ("for y in {{list}}; do [[ -v $y ]]; done", "list is Word for [["),
        ("echo ${a[{{text}}]}", "inside ${…}"),
        ("printf -v {{text}} x", "text is Word for printf"),
        ("test -v {{text}}", "text is Word for test"),
        ("read {{text}} < f", "text is Path for read"),
        ("awk -F : {{text}} f", "text is Word for awk"),
    ]);
}

#[test]
fn parameters_that_choose_programs_are_reported() {
    let (_, program) = judged("{{text}} --version").unwrap();
    assert_eq!(program.programs, [("text".to_owned(), true)]);
    for template in ["rsync {{args}} a b", "sort {{args}} a", "split {{args}} a"] {
        assert_eq!(judged(template).unwrap().1.options, ["args"], "{template}");
    }
    assert_eq!(judged("ls {{args}}").unwrap().0.split, ["args"]);
    let computed =
        parse("-v{% if flag == true %} -r{% elif count == 3 %} -t{% else %} --to={{text}}{% endif %}").unwrap();
    let names = Names { computed: [("args".to_owned(), computed)].into(), ..names() };
    let done = rewrite(&parse("cp {{args}}").unwrap(), &names).unwrap();
    assert_eq!(done.replaced, ["args"]);
    let wanted = "words1+=('-v')\nif [ \"${BOLT_PARAM_FLAG}\" = 'true' ]; then\n    words1+=('-r')\nelif [ \"${BOLT_PARAM_COUNT}\" = '3' ]; \
                  then\n    words1+=('-t')\nelse\n    words1+=('--to='\"${BOLT_PARAM_TEXT}\")\nfi\ncp \"${words1[@]}\"\n";
    assert!(done.script.ends_with(wanted), "{}", done.script);
}

/// Forms of an attack on the importer: each ran a value of a caller, or chose what was run, without a finding.
#[test]
fn no_assignment_and_no_starter_takes_a_value_past_the_judgement() {
    judgements(&[
        ("V={{text}}; trap \"$V\" EXIT", "refused: text names a program"),
        ("V={{text}}; . $V", "refused: text names a program"),
        ("V={{text}}; source \"$V\"", "refused: text names a program"),
        ("V={{text}}; sed \"$V\" /etc/hosts", "text is Number for sed"),
        ("V={{text}}; awk \"$V\" /etc/hosts", "text is Word for awk"),
        ("V={{text}}; declare -i n=$V", "text is Number for declare -i"),
        ("declare -i n; n={{text}}", "text is Number for declare -i"),
        ("V={{text}}; a[$V]=1", "text is Number for the index of an array"),
        ("V={{text}}; echo ${a[$V]}", "text is Number for arithmetic"),
        ("V={{text}}; echo ${HOME:$V}", "text is Number for arithmetic"),
        ("V={{text}}; s=abc; echo ${s:V}", "text is Number for arithmetic"),
        ("V={{text}}; read \"$V\" <<< 5", "text is Path for read"),
        ("V={{text}}; declare \"$V\"", "text is Word for declare"),
        ("V={{text}}; [ -n x -a -v \"$V\" ]", "text is Word for ["),
        ("V={{text}}; mapfile -C \"$V\" -c 1 a < /etc/hosts", "text is Path for mapfile"),
        ("V={{text}}; compgen -W \"$V\"", "refused: text names a program"),
        ("V={{text}}; hash -p $V ls; ls", "refused: text names a program"),
        ("V={{text}}; coproc $V", "refused: text names a program"),
        ("V={{text}}; PS4=\"$V\"; set -x; ls", "refused: text names a program"),
        ("V={{text}}; find D -name $V", "text is Path for an option of find"),
        ("V={{text}}; tar cf /dev/null $V", "text is Path for an option of tar"),
        ("find $(echo {{text}}) -type f", "text is Path for an option of find"),
        ("sg root \"{{text}}\"", "refused: text names a program"),
        ("taskset 1 {{text}}", "refused: text names a program"),
        ("setarch x86_64 {{text}}", "refused: text names a program"),
        ("linux64 {{text}}", "refused: text names a program"),
        ("choom -n 5 -- {{text}}", "refused: text names a program"),
        ("prlimit {{text}}", "refused: text names a program"),
        ("runuser -u b -- {{text}}", "refused: text names a program"),
        ("ip netns exec a {{text}}", "text is Path for ip"),
        ("gcloud compute ssh h --command \"{{text}}\"", "text is Path for gcloud"),
        ("ip addr show dev {{text}}", "text is Path for ip"),
        ("jobs -x {{text}}", "refused: text names a program"),
        ("newgrp root <<< \"{{text}}\"", "refused: text names a program"),
        ("echo \"{{text}}\" | newgrp root", "refused: text names a program"),
        ("cp {{text}} z.sh; z.sh", "text names a program"),
        ("cd {{text}} && ./start.sh", "text names a program"),
        ("cd {{text}}; make", "text names a program"),
        ("tmux new -d \"{{text}}\"", "text is Path for tmux"),
        ("screen -dm \"{{text}}\"", "refused: text names a program"),
        ("start-stop-daemon --exec {{text}}", "text is Path for start-stop-daemon"),
        ("npx {{text}}", "refused: text names a program"),
        ("pdsh -w h \"{{text}}\"", "text is Path for pdsh"),
        ("gosu a {{text}}", "refused: text names a program"),
        ("capsh -- -c \"{{text}}\"", "text is Path for capsh"),
        ("fakeroot {{text}}", "refused: text names a program"),
        ("pkexec {{text}}", "refused: text names a program"),
        ("valgrind {{text}}", "refused: text names a program"),
        ("ansible all -a \"{{text}}\"", "text is Path for ansible"),
        ("gsed \"{{text}}\" f", "text is Number for gsed"),
        ("nawk \"{{text}}\" f", "text is Word for nawk"),
        ("pwsh -c \"{{text}}\"", "text is Word for pwsh"),
        ("Rscript -e \"{{text}}\"", "text is Word for Rscript"),
        ("groovy -e \"{{text}}\"", "text is Word for groovy"),
        ("vi -c \"{{text}}\" f", "text is Word for vi"),
        ("V={{text}}; export PATH=$V:$PATH; ls", "refused: text names a program"),
        ("V={{text}}; LD_PRELOAD=$V ls", "refused: text names a program"),
        ("V={{text}}; BASH_ENV=$V ./x", "refused: text names a program"),
        ("service {{text}} start", "text is Word for service"),
        ("systemctl {{text}} nginx", "text is Word for systemctl"),
    ]);
}

#[test]
fn values_that_are_data_are_taken_whatever_is_beside_them() {
    for template in [
        "if [[ -f {{text}} ]]; then cat {{text}}; fi",
        "case {{text}} in a) ls;; esac",
        "timeout 10 ls {{text}}",
        "sleep 1; bash -c 'date'; echo {{text}}",
        "curl \"{{text}}\"",
        "tar czf a.tgz {{list}}",
        "echo a # {{text}}",
        "echo {{text}} | grep -c x",
        "ssh-keygen -R {{text}}",
        "y={{text}}; echo \"$y\"",
        "timeout 10 sleep {{count}}",
        "awk -F : '{print $1}' {{text}}",
        "sed -i s/a/b/ {{text}}",
    ] {
        assert_eq!(verdict(template), "data", "{template}");
    }
}

#[test]
fn what_a_place_is_made_of_is_judged_with_it() {
    judgements(&[
        ("eval echo {{ text | lower }}", "text is Path for eval"),
        ("eval echo {{ text | replace(',', ';') }}", "a filter that adds text to a value which eval would run"),
        ("bash -c \"echo {{config_context.place}}\"", "config_context.place, which bash would run as code"),
        ("{{config_context.place}} a", "config_context.place, which names a program"),
        ("find {{args}}", "args has options"),
        ("a=({{list}}); echo", "a value at a place in shell syntax that is not clear"),
        ("echo ~{{text}}", "a value at a place in shell syntax that is not clear"),
    ]);
    let computed = parse("{{ maybe }}/x").unwrap();
    let names = Names { computed: [("text".to_owned(), computed)].into(), ..names() };
    let command = rewrite(&parse("bash -c \"ls {{text}}\"").unwrap(), &names).unwrap().analysed;
    let open = Allowed { limit: Limit::Free, listed: false, plain: false };
    let judged = judge(&command, &|_| open).unwrap();
    let needed: Vec<&str> = judged.needs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(needed, ["maybe", "text"], "a limit of a computed value is one of those behind it");
    let listed = Allowed { listed: true, ..open };
    assert_eq!(judge(&command, &|_| listed).unwrap(), Judged::default(), "all values are the author's");
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
