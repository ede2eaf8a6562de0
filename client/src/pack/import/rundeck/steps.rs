//! Steps of a job, each a script.

use serde_json::Value;

use super::context::{Context, Notation};
use super::interpreter::{self, Interpreter, Reader};
use super::{may_be_script, powershell, xml};
use crate::pack::import::any_command;
use crate::pack::import::code_lines::python;
use crate::pack::import::schema::truth;
use crate::pack::import::scripted::{self, Blocked, Parameter, ReadBy};
use crate::pack::import::secrets;
use crate::pack::import::shell::{Part, Rewritten};
use crate::pack::import::source::SourceTree;
use crate::pack::import::steps::{After, Piece, Step, Variable};

/// Shell of commands and of scripts without a shebang: the login shell of most accounts.
const SHELL: &str = "/bin/bash";
/// Place for the script in an invocation.
const SCRIPT_FILE: &str = "${scriptfile}";
const KINDS: [&str; 5] = ["exec", "script", "scriptfile", "scripturl", "jobref"];

/// Steps being read.
pub(super) struct Steps<'a> {
    pub(super) tree: &'a SourceTree,
    pub(super) parameters: &'a [Parameter],
    pub(super) context: &'a Context,
    pub(super) keepgoing: bool,
    /// Scripts, for the limits of values.
    pub(super) scripts: Vec<Rewritten>,
    /// Names of steps whose text has places for values.
    pub(super) rewritten: Vec<String>,
    /// Names of steps with places in a notation that Rundeck does not read there.
    pub(super) misplaced: Vec<String>,
    /// Accounts of the steps, by their names; none for the action's own.
    pub(super) accounts: Vec<(String, Option<String>)>,
    /// Messages about secrets that become arguments.
    pub(super) secret_arguments: Vec<String>,
    /// Scripts in other languages than a shell's, by the names of their steps.
    pub(super) others: Vec<(String, String)>,
    /// Options that are commands or scripts.
    pub(super) given: Vec<usize>,
}

impl Steps<'_> {
    /// Reads a step; `number` counts from 1.
    pub(super) fn step(&mut self, command: &Value, number: usize) -> Result<Step, Blocked> {
        let mut step = self.plain(command, number)?;
        step.on_failure = if self.keepgoing { After::Continue } else { After::Exit };
        if let Some(handler) = command.get("errorhandler").filter(|handler| handler.is_object()) {
            // With `keepgoing` the end of the handler is that of the step; without it, only a success that says so.
            let replaces = self.keepgoing || handler.get("keepgoingOnSuccess").and_then(truth).unwrap_or(false);
            let mut handler = self.plain(handler, number)?;
            handler.name = format!("{} (error handler)", step.name);
            step.handler = Some((Box::new(handler), replaces));
        }
        Ok(step)
    }

    fn plain(&mut self, command: &Value, number: usize) -> Result<Step, Blocked> {
        let text = |key: &str| command.get(key).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
        let name = text("description").map_or_else(|| format!("step {number}"), |text| first_line(text).to_owned());
        let kind = KINDS.into_iter().find(|kind| command.get(*kind).is_some());
        let invocation = text("scriptInterpreter");
        let windows = match kind {
            Some("exec") => powershell::starts(text("exec").unwrap_or_default()),
            Some("script") => powershell::is_script(text("script").unwrap_or_default()),
            _ => false,
        };
        let extension = text("fileExtension").unwrap_or_default().trim().trim_start_matches('.').to_ascii_lowercase();
        if kind != Some("exec") && ["bat", "cmd", "ps1", "vbs"].contains(&extension.as_str()) {
            return Err(("windows", format!("{name} is a script for Windows ({extension}), which Bolt does not run")));
        }
        if windows || invocation.is_some_and(powershell::starts) {
            return Err(("powershell", format!("{name} is PowerShell, which Bolt does not run")));
        }
        if let (Some(index), None) = (self.of_caller(command, kind), invocation) {
            return self.given(index, &name, text("args").filter(|_| kind == Some("script")).unwrap_or_default());
        }
        let script = match kind {
            Some("exec") => text("exec").unwrap_or_default().to_owned() + "\n",
            Some("script") => text("script").unwrap_or_default().to_owned() + "\n",
            Some("scriptfile") => self.file(text("scriptfile").unwrap_or_default(), &name)?,
            Some("scripturl") => {
                let message =
                    format!("{name} runs a script of an address; put it into the pack, and write an action for it");
                return Err(("scripturl", message));
            }
            Some("jobref") => {
                let message = format!("{name} runs another job; an orchestrator calls its action");
                return Err(("jobref", message));
            }
            _ => {
                let plugin = command.get("type").and_then(Value::as_str).unwrap_or("unknown");
                let message = format!(
                    "{name} is the plugin {plugin}, which Bolt does not run; write a script that does its work"
                );
                return Err(("plugin", message));
            }
        };
        let invocation = invocation.filter(|_| kind != Some("exec"));
        let interpreter = match invocation {
            Some(given) => self
                .interpreter(given, command)
                .map_err(|why| ("interpreter", format!("{name} is not run by {given:?}: {why}")))?,
            None => Interpreter::default(),
        };
        if let (Some(program), false) = (interpreter.program(), interpreter.passes_arguments())
            && ["$RD_", "${RD_"].iter().any(|variable| script.contains(variable))
        {
            let message =
                format!("{name} reads variables as a shell does, and {program} is none; name its interpreter");
            return Err(("interpreter", message));
        }
        let reader = interpreter.program().map_or(ReadBy::FirstLine(SHELL), ReadBy::Program);
        let mut arguments = Vec::new();
        if kind != Some("exec") {
            let given = text("args").unwrap_or_default();
            self.note_misplaced(given, &name, Notation::Braces);
            arguments = self.arguments(given)?;
        }
        let passed = self.passed(&arguments);
        let mut done = match kind {
            // Files are run as they are, unless the job says otherwise.
            Some("scriptfile") if command.get("expandTokenInScriptFile").and_then(truth) != Some(true) => {
                scripted::rewritten(&[Part::Text(script.replace("\r\n", "\n"))], &self.context.values, &passed, reader)?
            }
            Some("exec") => self.script(&script, &name, Notation::Braces, &passed, reader)?,
            _ => self.script(&script, &name, Notation::AtSigns, &passed, reader)?,
        };
        self.check_arguments(&name, &interpreter, &arguments)?;
        if scripted::is_shell_script(&done.script, reader) {
            self.secret_arguments.extend(secrets::in_script(&done.script, &name, &secrets::of(self.parameters)));
        } else {
            let known = secrets::of(self.parameters);
            self.secret_arguments.extend(secrets::in_program(&done.script, &name, &known, |one| one.variable.as_str()));
            self.note_commands(&done.script, &arguments);
            self.others.push((name.clone(), done.script.clone()));
        }
        self.note_secrets(&arguments, &name);
        let mut step = Step::new(&name, std::mem::take(&mut done.script));
        step.one_word = interpreter.reader == Reader::Command(true);
        step.interpreter = interpreter.words;
        step.arguments = arguments;
        self.accounts.push((name, interpreter.account));
        self.scripts.push(done);
        Ok(step)
    }

    /// Returns the index of the option that is all of a script, or of a command that Rundeck does not quote.
    fn of_caller(&self, command: &Value, kind: Option<&str>) -> Option<usize> {
        let text = command.get(kind?)?.as_str()?.trim();
        if !(kind == Some("script") || kind == Some("exec") && text.starts_with("${unquotedoption.")) {
            return None;
        }
        match self.context.parts(text, self.parameters).ok()?.as_slice() {
            [Part::Value(index)] if self.parameters.get(*index).is_some_and(|option| !option.is_list()) => Some(*index),
            _ => None,
        }
    }

    /// Plans a step whose script a caller gives with an option.
    fn given(&mut self, index: usize, name: &str, arguments: &str) -> Result<Step, Blocked> {
        let option = &self.parameters[index];
        if !option.is_listed() && !self.given.contains(&index) {
            self.given.push(index);
        }
        let mut step = Step::of_caller(name, Variable::Parameter(option.bolt.clone(), None), SHELL);
        step.arguments = self.arguments(arguments)?;
        self.note_secrets(&step.arguments, name);
        self.accounts.push((name.to_owned(), None));
        Ok(step)
    }

    /// Notes the options that are the whole of what a script in another language than a shell's runs.
    fn note_commands(&mut self, script: &str, arguments: &[Vec<Piece>]) {
        let open = self.parameters.iter().enumerate().filter(|(_, option)| any_command::is_open(&option.schema));
        let names = open.flat_map(|(index, option)| {
            let variable = &option.value.variable;
            let is_whole = |argument: &Vec<Piece>| matches!(&argument[..], [Piece::Variable(name)] if name == variable);
            let places = arguments.iter().enumerate().filter(|(_, argument)| is_whole(argument));
            let of_places = places.flat_map(|(at, _)| [format!("sys.argv[{}]", at + 1), format!("ARGV[{at}]")]);
            of_places.chain([variable.clone()]).map(move |name| (name, index)).collect::<Vec<_>>()
        });
        let names: Vec<(String, usize)> = names.collect();
        let run = python::run_whole(script, names.iter().map(|(name, _)| name.as_str()));
        for (_, index) in names.iter().filter(|(name, _)| run.contains(&name.as_str())) {
            if !self.given.contains(index) {
                self.given.push(*index);
            }
        }
    }

    /// Notes secrets in the arguments of a script.
    fn note_secrets(&mut self, arguments: &[Vec<Piece>], name: &str) {
        let found = secrets::in_arguments(arguments, name, &secrets::of(self.parameters));
        self.secret_arguments.extend(found);
    }

    /// Returns the indices of the values in arguments.
    fn passed(&self, arguments: &[Vec<Piece>]) -> Vec<usize> {
        let value = |piece: &Piece| match piece {
            Piece::Variable(name) => self.context.values.iter().position(|value| value.variable == *name),
            Piece::Text(_) => None,
        };
        arguments.iter().flatten().filter_map(value).collect()
    }

    /// Refuses values in arguments that are those of the interpreter.
    fn check_arguments(&self, name: &str, interpreter: &Interpreter, arguments: &[Vec<Piece>]) -> Result<(), Blocked> {
        let value = |piece: &Piece| match piece {
            Piece::Variable(variable) => self.parameters.iter().find(|p| p.value.variable == *variable),
            Piece::Text(_) => None,
        };
        match arguments.iter().flatten().find_map(value).filter(|_| !interpreter.passes_arguments()) {
            Some(value) => {
                let message = format!(
                    "{name} gives the value of {} to {}, not to the script; write a script that reads {}",
                    value.source,
                    interpreter.words.join(" "),
                    value.value.variable
                );
                Err(("interpreter", message))
            }
            None => Ok(()),
        }
    }

    fn note_misplaced(&mut self, text: &str, name: &str, notation: Notation) {
        if Context::misplaced(text, notation) && !self.misplaced.iter().any(|known| known == name) {
            self.misplaced.push(name.to_owned());
        }
    }

    fn script(
        &mut self,
        text: &str,
        name: &str,
        notation: Notation,
        arguments: &[usize],
        reader: ReadBy<'_>,
    ) -> Result<Rewritten, Blocked> {
        self.note_misplaced(text, name, notation);
        let parts = self.context.parts(&text.replace("\r\n", "\n"), self.parameters)?;
        if parts.iter().any(|part| matches!(part, Part::Value(index) if *index < self.parameters.len())) {
            self.rewritten.push(name.to_owned());
        }
        let mut values = self.context.values.clone();
        // Rundeck quotes each word of a command that has a place, and leaves out one without a value.
        if notation == Notation::Braces && !text.contains("${unquotedoption.") {
            values.iter_mut().for_each(|value| (value.words, value.omitted) = (false, true));
        }
        scripted::rewritten(&parts, &values, arguments, reader)
    }

    /// Returns the text of a script that lies among the jobs.
    fn file(&self, path: &str, name: &str) -> Result<String, Blocked> {
        let last = path.rsplit('/').next().unwrap_or(path);
        let mut named =
            self.tree.files.iter().filter(|(known, _)| {
                may_be_script(known) && known.rsplit('/').next() == Some(last) && !last.is_empty()
            });
        match (named.next().and_then(|(_, file)| file.text()), named.next()) {
            (Some(text), None) => Ok(text.to_owned()),
            _ => {
                let message =
                    format!("{name} runs {path} of Rundeck's server; put it beside the job, and import it again");
                Err(("scriptfile", message))
            }
        }
    }

    /// Reads the interpreter of a step; the error says what is wrong with it.
    fn interpreter(&self, given: &str, command: &Value) -> Result<Interpreter, String> {
        let one_word = command.get("interpreterArgsQuoted").and_then(truth).unwrap_or(false);
        let literal = |word: Vec<Piece>| match word.as_slice() {
            [Piece::Text(text)] => Some(text.clone()),
            _ => None,
        };
        let words = self.arguments(given).map_err(|(_, message)| message)?.into_iter().map(literal);
        let Some(mut words) = words.collect::<Option<Vec<String>>>() else {
            return Err("callers would choose the program; name it".to_owned());
        };
        // The script follows the words, unless they say where it stands.
        let named = words.iter().position(|word| word.contains(SCRIPT_FILE));
        if named.is_some_and(|at| at + 1 < words.len() || words[at] != SCRIPT_FILE || one_word) {
            return Err("it does not take the script as its last argument; name one that does".to_owned());
        }
        words.truncate(named.unwrap_or(words.len()));
        interpreter::read(&words, one_word)
    }

    /// Splits arguments as the author wrote them. A value is a part of one argument, whatever it holds.
    fn arguments(&self, text: &str) -> Result<Vec<Vec<Piece>>, Blocked> {
        let mut arguments: Vec<Vec<Piece>> = Vec::new();
        let (mut word, mut in_word, mut quote): (Vec<Piece>, bool, Option<char>) = (Vec::new(), false, None);
        for piece in self.context.pieces(text, self.parameters)? {
            let Piece::Text(text) = piece else {
                word.push(piece);
                in_word = true;
                continue;
            };
            for c in text.chars() {
                match (quote, c) {
                    (Some(open), c) if c == open => quote = None,
                    (None, '"' | '\'') => (quote, in_word) = (Some(c), true),
                    (None, c) if c.is_whitespace() => {
                        if std::mem::take(&mut in_word) {
                            arguments.push(std::mem::take(&mut word));
                        }
                    }
                    (_, c) => {
                        in_word = true;
                        match word.last_mut() {
                            Some(Piece::Text(text)) => text.push(c),
                            _ => word.push(Piece::Text(c.to_string())),
                        }
                    }
                }
            }
        }
        if in_word {
            arguments.push(word);
        }
        Ok(arguments)
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

/// Returns a step in the shape that it has in YAML.
pub(super) fn of_xml(command: &xml::Element) -> Result<Value, String> {
    command.has_each_once()?;
    // Rundeck reads attributes as it reads elements.
    let mut step = command.attribute_map();
    for child in &command.children {
        command.has_no_attribute(&child.name)?;
        let text = || Value::from(child.text.trim_matches('\n'));
        match child.name.as_str() {
            "exec" | "script" | "scriptfile" | "scripturl" | "description" | "expandTokenInScriptFile" => {
                drop(step.insert(child.name.clone(), text()))
            }
            "jobref" => {
                drop(step.insert("jobref".to_owned(), Value::from(child.attribute("name").unwrap_or_default())))
            }
            "scriptargs" => drop(step.insert("args".to_owned(), Value::from(child.text.trim()))),
            "scriptinterpreter" => {
                step.insert("scriptInterpreter".to_owned(), Value::from(child.text.trim()));
                let quoted = child.attribute("argsquoted").unwrap_or("false");
                step.insert("interpreterArgsQuoted".to_owned(), Value::from(quoted));
            }
            "step-plugin" | "node-step-plugin" => {
                step.insert("type".to_owned(), Value::from(child.attribute("type").unwrap_or_default()));
            }
            "errorhandler" => {
                let mut handler = of_xml(child)?;
                if let Some(kept) = child.attribute("keepgoingOnSuccess") {
                    handler["keepgoingOnSuccess"] = Value::from(kept);
                }
                step.insert("errorhandler".to_owned(), handler);
            }
            // Named in the report.
            other => {
                let something = if child.children.is_empty() { text() } else { Value::Bool(true) };
                step.insert(other.to_owned(), something);
            }
        }
    }
    Ok(Value::Object(step))
}
