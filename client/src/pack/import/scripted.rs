//! Parameters of actions whose scripts have places for values, limited to what the scripts need.

use std::collections::BTreeSet;

use packs_schema::base::document::from_value;
use packs_schema::pack::param::Schema;
use packs_schema::pack::param::check::check;
use serde_json::{Map, Value, json};

use super::any_command;
use super::report::Effect;
use super::schema::Sink;
use super::shell::{self, Limit, Need, Part, Rewritten, ScriptValue, limit_of_pattern};

/// Parameter, and the environment variable that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    /// Name in the source.
    pub(super) source: String,
    /// Name in Bolt.
    pub(super) bolt: String,
    pub(super) schema: Map<String, Value>,
    /// The source says which values it takes.
    pub(super) restricted: bool,
    pub(super) value: ScriptValue,
}

impl Parameter {
    pub(super) fn is_list(&self) -> bool {
        self.schema.get("type").is_some_and(|kind| kind == "array")
    }

    /// True if values are refused that another parameter of its type would take.
    fn is_restricted(&self) -> bool {
        let pattern = self.schema.get("pattern").and_then(Value::as_str);
        self.restricted && (self.is_listed() || !pattern.is_some_and(shell::allows_any_text))
    }

    /// True if its schema lists all values, or all items.
    pub(super) fn is_listed(&self) -> bool {
        let items = self.schema.get("items").and_then(Value::as_object);
        self.schema.contains_key("enum") || items.is_some_and(|items| items.contains_key("enum"))
    }

    /// Makes a list of lines text of several lines, since items of lists cannot have commas. A list whose items are restricted
    /// stays one. Where the source has no lines unless callers give some, the text is empty.
    pub(super) fn join_lines(&mut self, sink: &mut Sink<'_>) {
        let items = self.schema.get("items").and_then(Value::as_object);
        if !self.is_list() || items.is_none_or(|items| items.len() != 1) {
            return;
        }
        for keyword in ["items", "minItems", "maxItems"] {
            self.schema.remove(keyword);
        }
        self.schema.insert("type".to_owned(), json!("string"));
        let default = match self.schema.remove("default") {
            Some(Value::Array(lines)) => Some(lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")),
            _ => None,
        };
        let mut message =
            format!("{} is text of one or more lines, since items of a list cannot have commas", self.source);
        if default.as_ref().is_some_and(String::is_empty) {
            message += "; without any its steps run nothing and succeed, as in Systems Manager";
        } else {
            self.schema.insert("minLength".to_owned(), json!(1));
        }
        self.schema.extend(default.map(|default| ("default".to_owned(), json!(default))));
        sink.add("lines_as_text", Effect::Note, &["parameters", &self.source], message);
    }

    /// True if its value is in no log and no record.
    pub(super) fn is_secret(&self) -> bool {
        self.schema.get("secret").is_some_and(|secret| secret == true)
    }

    fn is_text(&self) -> bool {
        self.schema.get("type").is_some_and(|kind| kind == "string")
    }

    fn default(&self) -> Option<&str> {
        self.schema.get("default").and_then(Value::as_str)
    }
}

/// Part that is not imported: code and message of the finding.
pub(super) type Blocked = (&'static str, String);

/// Reader of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadBy<'a> {
    /// The program of its first line, or this shell without one.
    FirstLine(&'a str),
    /// This program, whatever its first line says.
    Program(&'a str),
}

/// Rewrites the text of a script. One without a shebang is given that of the shell which reads it. `arguments` are the
/// indices of the values in its arguments.
pub(super) fn rewritten(
    parts: &[Part],
    values: &[ScriptValue],
    arguments: &[usize],
    reader: ReadBy<'_>,
) -> Result<Rewritten, Blocked> {
    let first = match parts.first() {
        Some(Part::Text(text)) => text.lines().next().filter(|line| line.starts_with("#!")),
        _ => None,
    };
    if let (ReadBy::FirstLine(_), Some(line), [Part::Text(text), _, ..]) = (reader, first, parts)
        && line.len() == text.len()
    {
        let message = "callers would choose the program of its first line, or its options; name them there";
        return Err(("placeholder", message.to_owned()));
    }
    let program = match (reader, first) {
        (ReadBy::Program(program), Some(line)) if !is_shell(program) && interpreter(line).map_or(true, is_shell) => {
            // Such as perl, which runs the program of the first line.
            return Err((
                "interpreter",
                format!("{program} is to run a script whose first line is {line:?}; make it one program"),
            ));
        }
        (ReadBy::Program(program), _) => program,
        (ReadBy::FirstLine(_), Some(line)) => interpreter(line)?,
        (ReadBy::FirstLine(_), None) => "sh",
    };
    let mut done = if is_shell(program) {
        let refused = |refused| ("placeholder", format!("{refused}; write a script that reads variables"));
        let mut done = shell::rewrite(parts, values, arguments).map_err(refused)?;
        done.needs.extend(needs_beyond_bash(program, values));
        done
    } else if let [] | [Part::Text(_)] = parts {
        let text = parts.iter().map(|part| if let Part::Text(text) = part { text.as_str() } else { "" }).collect();
        Rewritten { script: text, ..Rewritten::default() }
    } else {
        let message = format!("values would be put into the text of a {program} program; make it read variables");
        return Err(("placeholder", message));
    };
    if let (ReadBy::FirstLine(shell), None) = (reader, first) {
        done.script.insert_str(0, &format!("#!{shell}\n"));
    }
    Ok(done)
}

/// Returns what a script of ksh or zsh needs of values that its author has not limited. Scripts are read as bash reads them; these
/// shells also evaluate operands of `[`, flags of expansions and qualifiers of patterns.
fn needs_beyond_bash(program: &str, values: &[ScriptValue]) -> Vec<(usize, Need)> {
    if !["ksh", "zsh"].contains(&program) {
        return Vec::new();
    }
    let need = Need { limit: Limit::Path, reader: program.to_owned(), followed: true };
    let open = values.iter().enumerate().filter(|(_, value)| value.limit < Limit::Path && !value.listed);
    open.map(|(index, _)| (index, need.clone())).collect()
}

/// True for the text of a script that a shell reads.
pub(super) fn is_shell_script(text: &str, reader: ReadBy<'_>) -> bool {
    match reader {
        ReadBy::Program(program) => is_shell(program),
        ReadBy::FirstLine(_) => text
            .lines()
            .next()
            .filter(|line| line.starts_with("#!"))
            .is_none_or(|line| interpreter(line).is_ok_and(is_shell)),
    }
}

/// True for a program whose scripts are rewritten.
pub(super) fn is_shell(program: &str) -> bool {
    ["sh", "bash", "dash", "ksh", "zsh"].contains(&program)
}

/// Returns the program of a shebang, without its directory.
fn interpreter(line: &str) -> Result<&str, Blocked> {
    let mut words = line.trim_start_matches("#!").split_whitespace();
    let program = words.next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    // Letters of options up to one with an operand, which may follow in the same word.
    let clears = |word: &str| {
        let letters = word.strip_prefix('-').filter(|letters| !letters.starts_with('-'));
        let letters = letters.map(|letters| letters.split(['S', 'C']).next().unwrap_or_default());
        letters.is_some_and(|letters| word == "-" || letters.contains(['i', 'u']))
            || ["--ignore-environment", "--unset"].iter().any(|option| word.starts_with(option))
    };
    if program == "env" && words.clone().take_while(|word| word.starts_with('-')).any(clears)
        || ["sudo", "su", "runuser", "doas"].contains(&program)
    {
        let message = format!(
            "its first line, {line:?}, starts it without its environment, in which the values are; name the program alone"
        );
        return Err(("interpreter", message));
    }
    Ok(if program == "env" {
        let program = words.find(|word| !word.starts_with('-')).unwrap_or_default();
        program.rsplit('/').next().unwrap_or_default()
    } else {
        program
    })
}

/// Refuses parameters with one variable: a script would get the value of one in the place of the other, which was not checked for it.
fn refuse_twins(parameters: &[Parameter], sink: &mut Sink<'_>) {
    for (at, parameter) in parameters.iter().enumerate() {
        if let Some(twin) = parameters[..at].iter().find(|twin| twin.value.variable == parameter.value.variable) {
            let message = format!(
                "{} and {} would both be the variable {}; rename one of them",
                twin.source, parameter.source, parameter.value.variable
            );
            sink.add("one_variable", Effect::Blocks, &["parameters", &parameter.source], message);
        }
    }
}

/// Applies what the scripts need of values, and says what was changed.
pub(super) fn limit_values(parameters: &mut [Parameter], scripts: &[Rewritten], sink: &mut Sink<'_>) {
    refuse_twins(parameters, sink);
    // Values that are no parameters have indices beyond them.
    let count = parameters.len();
    let of = |list: fn(&Rewritten) -> &Vec<usize>| -> BTreeSet<usize> {
        scripts.iter().flat_map(list).copied().filter(|index| *index < count).collect()
    };
    let needs: Vec<_> = scripts.iter().flat_map(|script| script.needs.iter().cloned()).collect();
    let (operands, split) = (of(|script| &script.operands), of(|script| &script.split));
    limit(parameters, &needs, &operands, &of(|script| &script.cut), sink);
    let by_options = of(|script| &script.by_options).into_iter().filter(|index| parameters[*index].value.words);
    let (chosen, words): (BTreeSet<usize>, BTreeSet<usize>) =
        by_options.partition(|index| gives_options(&parameters[*index].source));
    words.into_iter().for_each(|index| forbid_options(&mut parameters[index], sink));
    let unlisted = chosen.into_iter().filter(|index| !parameters[*index].is_listed());
    for index in of(|script| &script.programs).into_iter().chain(unlisted).collect::<BTreeSet<usize>>() {
        let name = &parameters[index].source;
        any_command::note(sink, &["parameters", name], name, any_command::Given::Program);
    }
    if scripts.iter().flat_map(|script| &script.programs).any(|index| *index >= count) {
        sink.add("placeholder", Effect::Blocks, &[], "a value of the instance or job names a program; name it");
    }
    for index in split {
        let name = parameters[index].source.clone();
        let message = format!("{name} is split at blanks into words where it is not quoted: callers choose options");
        sink.add("split_words", Effect::Safer, &["parameters", &name], message);
    }
}

/// Limits the values of parameters to what the scripts need: `needs` and `operands` are by the index of the parameter.
/// `cut` are operands that may be cut into several words.
fn limit(
    parameters: &mut [Parameter],
    needs: &[(usize, Need)],
    operands: &BTreeSet<usize>,
    cut: &BTreeSet<usize>,
    sink: &mut Sink<'_>,
) {
    for (index, parameter) in parameters.iter_mut().enumerate() {
        let need = needs
            .iter()
            .filter(|(needed, _)| *needed == index)
            .map(|(_, need)| need)
            .max_by_key(|need| (need.followed, need.limit));
        let operand = operands.contains(&index) && !parameter.value.words;
        let name = parameter.source.clone();
        let place = ["parameters", name.as_str()];
        let default = parameter.default().unwrap_or_default().to_owned();
        let operand = operand && !default.starts_with('-');
        let is_cut = operand && cut.contains(&index) && fits(Limit::Free.pattern_of_words(), &default);
        match need {
            // Its author has said what it may be, and nothing that was followed runs it.
            Some(need)
                if !need.followed
                    && (!parameter.is_text() || parameter.is_restricted() || Limit::of(&default) < need.limit) =>
            {
                let message = format!(
                    "the script evaluates text ({}), and {name} may be other text than {}; see that it is not evaluated",
                    need.reader,
                    need.limit.words()
                );
                sink.add("value_unlimited", Effect::Note, &place, message);
            }
            Some(need) if !parameter.is_text() || parameter.is_restricted() || Limit::of(&default) < need.limit => {
                let message = format!(
                    "{} would run the value of {name} as code, which only {} would be safe from; write a script that reads {}",
                    need.reader,
                    need.limit.words(),
                    parameter.value.variable
                );
                sink.add("value_as_code", Effect::Blocks, &place, message);
            }
            Some(need) => {
                let harm = match shell::manages_services(&need.reader) {
                    true => format!("would take a path in {name} for a script or unit that it starts"),
                    false => format!("would run the value of {name} as code"),
                };
                let message = format!("{} {harm}; it may be {} now", need.reader, need.limit.words());
                sink.add("value_limited", Effect::Safer, &place, message);
                let pattern = if is_cut { Some(need.limit.pattern_of_words()) } else { need.limit.pattern(operand) };
                parameter.schema.extend(pattern.map(|pattern| ("pattern".to_owned(), json!(pattern))));
            }
            None if operand && parameter.is_text() && !parameter.is_restricted() => {
                let message = match is_cut {
                    true => format!("no word of {name} may begin with '-': a program would take it for an option"),
                    false => format!("{name} must not begin with '-': a program would take it for an option"),
                };
                sink.add("no_option", Effect::Safer, &place, message);
                let pattern = if is_cut { Some(Limit::Free.pattern_of_words()) } else { Limit::Free.pattern(true) };
                parameter.schema.extend(pattern.map(|pattern| ("pattern".to_owned(), json!(pattern))));
            }
            None if operand && parameter.is_text() => {
                let pattern = parameter.schema.get("pattern").and_then(Value::as_str);
                if pattern
                    .is_some_and(|pattern| ["-a", "-", "--a", "-oA=b", "-1"].iter().any(|text| fits(pattern, text)))
                {
                    let message = format!(
                        "the pattern of {name} lets it begin with '-', which a program would take for an option; change the pattern"
                    );
                    sink.add("option_allowed", Effect::Note, &place, message);
                }
            }
            None => {}
        }
    }
}

/// True if a pattern takes `text`. One that Bolt does not read takes none.
fn fits(pattern: &str, text: &str) -> bool {
    let schema = from_value::<Schema>(&json!({"type": "string", "pattern": pattern}));
    schema.is_ok_and(|schema| check(&schema, &json!(text)).is_empty())
}

/// Limits words of a program whose options may start others to such that are no options.
fn forbid_options(parameter: &mut Parameter, sink: &mut Sink<'_>) {
    const PATTERN: &str = r"^\s*([^-\s]\S*(\s+[^-\s]\S*)*)?\s*$";
    let is_option = |text: &str| text.split_whitespace().any(|word| word.starts_with('-'));
    if !parameter.is_text() || parameter.restricted || parameter.schema.contains_key("pattern") {
        return;
    }
    if parameter.default().is_some_and(is_option) {
        return any_command::note(
            sink,
            &["parameters", &parameter.source],
            &parameter.source,
            any_command::Given::Program,
        );
    }
    let message = format!(
        "no word of {} may begin with '-': it would be an option, by which the program may start others",
        parameter.source
    );
    sink.add("no_option", Effect::Safer, &["parameters", &parameter.source], message);
    parameter.schema.insert("pattern".to_owned(), json!(PATTERN));
}

/// True for a name of a parameter that holds a secret.
pub(super) fn is_secret(name: &str) -> bool {
    const LAST_WORDS: [&str; 6] = ["pwd", "pass", "passcode", "cred", "creds", "credentials"];
    let last_word = name.rsplit(['_', '-']).next().unwrap_or(name);
    // Of `DbPwd`, too.
    let hump = last_word.rfind(|c: char| c.is_ascii_uppercase()).map_or("", |at| &last_word[at..]);
    let name = name.to_ascii_lowercase();
    if [last_word, hump].iter().any(|word| LAST_WORDS.contains(&word.to_ascii_lowercase().as_str())) {
        return true;
    }
    // A token of a page is none.
    let page = name.ends_with("nexttoken");
    !page
        && ["password", "passwd", "passphrase", "secret", "token", "apikey", "privatekey", "accesskey"]
            .iter()
            .any(|word| name.replace(['_', '-'], "").contains(word))
}

/// Notes a parameter that is a secret by its name, and is not declared as one; `declaration` would do that.
pub(super) fn note_undeclared_secret(name: &str, declaration: &str, place: &[&str], sink: &mut Sink<'_>) {
    let message = format!(
        "{name} is not declared a secret, though it is one by its name: its value is in logs and records; add {declaration} if it \
         is one"
    );
    sink.add("undeclared_secret", Effect::Note, place, message);
}

/// Ends of names of parameters that hold options.
const OPTIONS: [&str; 6] = ["args", "arguments", "options", "opts", "flags", "parameters"];

/// True for names of parameters that hold options of a program.
fn gives_options(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    OPTIONS.iter().any(|known| name.ends_with(known))
}

/// True for names of parameters that hold several words.
pub(super) fn is_words(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    gives_options(name) || ["packages", "services", "commands"].iter().any(|known| lower.ends_with(known))
}

/// Returns the limit that a schema of text enforces.
pub(super) fn limit_of_text(schema: &Map<String, Value>) -> Limit {
    let listed = schema.get("enum").and_then(Value::as_array);
    let of_list =
        listed.map(|values| values.iter().filter_map(Value::as_str).map(Limit::of).min().unwrap_or(Limit::Free));
    let of_pattern = schema.get("pattern").and_then(Value::as_str).map(limit_of_pattern);
    of_list.into_iter().chain(of_pattern).max().unwrap_or(Limit::Free)
}
