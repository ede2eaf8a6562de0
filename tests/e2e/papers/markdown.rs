//! Reads the steps out of a Markdown file: commands with the output shown, and files to write.

/// A step of a paper, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A command to run.
    Command(Command),
    /// A file to write.
    File {
        /// Line of the fence.
        line: usize,
        /// Path relative to the directory that the commands run in.
        path: String,
        /// Its content.
        text: String,
    },
}

/// A command of a `console` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// Line in the paper.
    pub(super) line: usize,
    /// The command without its prompt; several lines when it is continued.
    pub(super) text: String,
    /// Lines of output below it; `None` when there are none.
    pub(super) shown: Option<Vec<String>>,
}

impl Command {
    /// Returns the first line of the command.
    pub(super) fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }
}

impl Step {
    /// Returns the command, if it is one.
    pub(super) fn command(&self) -> Option<&Command> {
        match self {
            Step::Command(command) => Some(command),
            Step::File { .. } => None,
        }
    }
}

/// Languages of blocks that show data or a drawing; commands in them would not be run.
const DATA: [&str; 6] = ["", "text", "yaml", "toml", "json", "rust"];

/// Returns the steps of a paper, or every place where it does not follow the convention, as `<line>: <problem>`.
pub(super) fn parse(text: &str) -> Result<Vec<Step>, Vec<String>> {
    let (mut steps, mut problems) = (Vec::new(), Vec::new());
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    let mut in_list = false;
    while at < lines.len() {
        let (line, number) = (lines[at], at + 1);
        let indent = line.len() - line.trim_start().len();
        if let Some(info) = line.trim_start().strip_prefix("```") {
            let end = (at + 1..lines.len()).find(|i| lines[*i].trim() == "```");
            let Some(end) = end else {
                problems.push(format!("{number}: the block has no end"));
                break;
            };
            let body: Vec<&str> =
                lines[at + 1..end].iter().map(|line| line.get(indent..).unwrap_or_default()).collect();
            match block(info.trim(), number, &body) {
                Ok(found) => steps.extend(found),
                Err(problem) => problems.push(problem),
            }
            at = end + 1;
            continue;
        }
        if !line.trim().is_empty() {
            let is_item = line.trim_start().starts_with(['-', '*'])
                || line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(". ");
            in_list = is_item || (in_list && indent > 0) || (in_list && !lines[at - 1].trim().is_empty());
            if indent >= 4 && !in_list && (at == 0 || lines[at - 1].trim().is_empty()) {
                problems.push(format!("{number}: an indented block: use a fence, so that its commands are run"));
            }
        }
        at += 1;
    }
    if problems.is_empty() { Ok(steps) } else { Err(problems) }
}

fn block(info: &str, number: usize, body: &[&str]) -> Result<Vec<Step>, String> {
    let (language, file) = info.split_once(' ').unwrap_or((info, ""));
    if language == "console" {
        return console(number, body);
    }
    if !file.is_empty() {
        let text = body.iter().flat_map(|line| [line, "\n"]).collect();
        return Ok(vec![Step::File { line: number, path: file.trim().to_owned(), text }]);
    }
    if !DATA.contains(&language) {
        return Err(format!("{number}: a block of {language}: use console for commands, or name the file that it is"));
    }
    if body.iter().any(|line| line.starts_with("$ ")) {
        return Err(format!("{number}: a command outside a console block"));
    }
    Ok(Vec::new())
}

fn console(number: usize, body: &[&str]) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let line = number + at + 1;
        if let Some(first) = body[at].strip_prefix("$ ") {
            let mut text = first.to_owned();
            let here_document = first.split_once("<<").map(|(_, word)| word.trim_matches(['\'', '"']).to_owned());
            loop {
                let more = match &here_document {
                    Some(word) => at + 1 < body.len() && body[at] != word,
                    None => text.ends_with('\\') && at + 1 < body.len(),
                };
                if !more {
                    break;
                }
                at += 1;
                text.push('\n');
                text.push_str(body[at]);
            }
            steps.push(Step::Command(Command { line, text, shown: None }));
        } else {
            let Some(Step::Command(command)) = steps.last_mut() else {
                return Err(format!("{line}: a console block begins with a command"));
            };
            command.shown.get_or_insert_default().push(body[at].to_owned());
        }
        at += 1;
    }
    Ok(steps)
}

#[test]
fn commands_output_and_files_are_told_apart() {
    let paper = "# Title\n\n```console\n$ one \\\n  more\nout\n$ cat >f <<'EOF'\n$ no command\nEOF\n```\n\n\
                 1. item\n\n   ```console\n   $ two\n   ```\n\n```yaml a/b.yaml\nk: v\n```\n";
    let command = |line, text: &str, shown: Option<&[&str]>| {
        let shown = shown.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect());
        Step::Command(Command { line, text: text.to_owned(), shown })
    };
    let steps = vec![
        command(4, "one \\\n  more", Some(&["out"])),
        command(7, "cat >f <<'EOF'\n$ no command\nEOF", None),
        command(15, "two", None),
        Step::File { line: 18, path: "a/b.yaml".to_owned(), text: "k: v\n".to_owned() },
    ];
    assert_eq!(parse(paper), Ok(steps));
}

#[test]
fn commands_that_would_not_be_run_are_refused() {
    for (paper, problem) in [
        ("```sh\nls\n```\n", "1: a block of sh"),
        ("```\n$ ls\n```\n", "1: a command outside"),
        ("text\n\n    cargo build\n", "3: an indented block"),
        ("```console\nls\n```\n", "2: a console block begins with a command"),
        ("```console\n$ ls\n", "1: the block has no end"),
    ] {
        let found = parse(paper).unwrap_err();
        assert!(found.iter().any(|line| line.starts_with(problem)), "{paper}: {found:?}");
    }
    assert_eq!(parse("- item\n\n      more of it\n\n    and more\n"), Ok(Vec::new()));
}
