//! Secrets of scripts that others on the instance can read: arguments of a program are for every account, the environment is for
//! root and the script's own account.

use serde_json::{Map, Value};

use super::code_lines;
use super::report::Effect;
use super::schema::Sink;
use super::scripted::{Parameter, is_secret};
use super::shell::{Limit, ScriptValue, given_to_programs};
use super::steps::Piece;

/// Code of the finding.
pub(super) const CODE: &str = "secret_argument";
/// Code of the finding that a secret is in the environment of processes.
pub(super) const IN_ENVIRONMENT: &str = "secret_in_environment";

/// Notes secrets that are environment variables of an action's scripts; `key` is the part of the source that declares them.
pub(super) fn note_in_environment(parameters: &[Parameter], key: &str, sink: &mut Sink<'_>) {
    for secret in parameters.iter().filter(|parameter| parameter.is_secret()) {
        let message = format!(
            "{} is in the environment of the scripts' processes ({}), which root and the account of the action can read; a file \
             that the scripts read avoids that",
            secret.source, secret.value.variable
        );
        sink.add(IN_ENVIRONMENT, Effect::Note, &[key, &secret.source], message);
    }
}

/// Returns the first member of an object, or of objects of a list, that is a secret by its name and not declared as one.
pub(super) fn member(schema: &Map<String, Value>) -> Option<&str> {
    let members = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let mut members = members.filter_map(|(name, member)| Some((name, member.as_object()?)));
    let found = members.find_map(|(name, schema)| {
        let is_text = schema.get("type").is_none_or(|kind| kind.to_string().contains("\"string\""));
        let is_open = !["secret", "enum"].iter().any(|keyword| schema.contains_key(*keyword));
        if is_text && is_open && is_secret(name) { Some(name.as_str()) } else { member(schema) }
    });
    found.or_else(|| member(schema.get("items")?.as_object()?))
}

/// Returns the values of the parameters that are secrets.
pub(super) fn of(parameters: &[Parameter]) -> Vec<ScriptValue> {
    parameters.iter().filter(|parameter| parameter.is_secret()).map(|secret| secret.value.clone()).collect()
}

/// Returns a secret of this name that a variable holds, for scripts that are not rewritten.
pub(super) fn in_variable(name: &str, variable: String) -> ScriptValue {
    ScriptValue {
        name: name.to_owned(),
        variable,
        limit: Limit::Free,
        listed: false,
        plain: false,
        words: false,
        omitted: false,
    }
}

/// Returns a message for each secret that a program of the shell script `script` of `step` gets as an argument.
pub(super) fn in_script(script: &str, step: &str, secrets: &[ScriptValue]) -> Vec<String> {
    if secrets.is_empty() {
        return Vec::new();
    }
    let given = given_to_programs(script, secrets);
    let of = |(index, secret): (usize, &ScriptValue)| {
        given.iter().find(|(given, _)| *given == index).map(|(_, program)| message(&secret.name, step, program))
    };
    secrets.iter().enumerate().filter_map(of).collect()
}

/// Returns a message for each secret that the program `text` of `step`, in another language than a shell's, gives to one
/// that it starts; `name` is the name of a secret in it.
pub(super) fn in_program(
    text: &str,
    step: &str,
    secrets: &[ScriptValue],
    name: fn(&ScriptValue) -> &str,
) -> Vec<String> {
    let given = code_lines::given_to_programs(text, secrets.iter().map(name));
    let is_given = |secret: &&ScriptValue| given.contains(&name(secret));
    secrets.iter().filter(is_given).map(|secret| message(&secret.name, step, "a program")).collect()
}

/// Returns a message for each secret in the arguments of the script itself.
pub(super) fn in_arguments(arguments: &[Vec<Piece>], step: &str, secrets: &[ScriptValue]) -> Vec<String> {
    let is_given = |secret: &&ScriptValue| {
        let holds = |piece: &Piece| matches!(piece, Piece::Variable(name) if *name == secret.variable);
        arguments.iter().flatten().any(holds)
    };
    secrets.iter().filter(is_given).map(|secret| message(&secret.name, step, "its script")).collect()
}

fn message(secret: &str, step: &str, taker: &str) -> String {
    // A program that a variable names has no name here.
    let taker = taker.replace(|c: char| c.is_control(), "$");
    format!(
        "{secret} is secret, and {step:?} gives it to {} as an argument, which every account of the instance can read \
         while that runs; let it read standard input, a file or a variable",
        packs_schema::base::strict::shorten(&taker, 60)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_programs_are_told_from_other_uses() {
        let secret = in_variable("secret", "S".to_owned());
        let takers = |script: &str| {
            let given = given_to_programs(script, std::slice::from_ref(&secret));
            given.into_iter().map(|(_, program)| program).collect::<Vec<_>>().join(",")
        };
        for (script, taking) in [
            ("mysql -p\"${S}\" -e 'select 1'", "mysql"),
            ("if ! sudo -u app curl -u \"a:$S\" x; then exit; fi", "curl"),
            ("P=$S\nQ=\"x $P\"\ncurl -d \"a=1&b=$Q\" x", "curl"),
            ("x=$(openssl passwd $S)", "openssl"),
            ("su -c 'mysql -p$S'", "mysql"),
            ("su -c \"mysql -p$S\"", "su"),
            ("bash -c 'su -c \"mysql -p$S\"'", "su"),
            ("mysql -p$(echo $S)", "mysql"),
            ("mysql -p`cat <<< $S`", "mysql"),
            ("/opt/x/tool $S", "tool"),
            ("sudo echo $S", "echo"),
            ("env -u X A=$S tool", "env"),
            ("timeout 5 printf %s $S", "printf"),
            ("exec tool \"$S\"", "tool"),
            ("f() { mysql -p\"$2\"; }\nf x \"$S\"", "mysql"),
            ("f() { local P=$1; set -- -p\"$P\"; mysql \"$@\"; }\nf $S", "mysql"),
            ("read -r P <<< $S; curl -u \"$P\" x", "curl"),
            ("for P in $S; do curl $P; done", "curl"),
            ("o=(-u \"$S\"); curl \"${o[@]}\" x", "curl"),
            ("cat <<E | xargs curl $(echo ${S#x})\nE", "xargs"),
            // Words of the shell itself, variables, files and standard input.
            ("echo \"$S\" | passwd --stdin x; printf '%s' $S >$S", ""),
            ("curl -K - x <<E\nuser=$S\nE", ""),
            ("curl -K - x <<< \"user=$S\"", ""),
            ("[ -z \"$S\" ] && [[ a == b && $S == c ]] && test $S", ""),
            ("P=$S\nexport P\nMYSQL_PWD=$S mysql x", ""),
            ("curl ${#S} x # $S", ""),
            ("case $S in a) curl x;; $S) curl y;; esac", ""),
            ("f() { [ -n \"$1\" ]; }\nf \"$S\"", ""),
            ("curl '$S' $((S + 1)) $(grep -c \"$T\" x)", ""),
            ("P=$S; su -c 'mysql -p$P'; awk '{print $S}'", ""),
        ] {
            assert_eq!(takers(script), taking, "{script}");
        }
    }
}
