//! Splits a shell script into commands, words and variables: enough of the grammar to tell quoted from unquoted. It
//! skips constructs that it does not parse, because false alarms would make the linter useless.

/// Simple command.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Command {
    /// Line number of its start, counted from 1.
    pub(super) line: usize,
    /// Words without redirections.
    pub(super) words: Vec<Word>,
    /// Targets of `>` and `>>`.
    pub(super) writes: Vec<Word>,
    /// True if it ends with a single `&`.
    pub(super) background: bool,
}

/// Word of a command, as written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Word {
    pub(super) line: usize,
    pub(super) raw: String,
    pub(super) variables: Vec<Variable>,
}

/// Variable that is expanded in a word.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Variable {
    /// `BOLT_PARAM_X`, `1`, `@`.
    pub(super) name: String,
    /// True inside double quotes.
    pub(super) quoted: bool,
}

impl Word {
    /// Returns the word without surrounding quotes.
    pub(super) fn plain(&self) -> &str {
        self.raw.trim_matches(['"', '\''])
    }

    /// Returns the name if the word is an assignment `NAME=…`.
    pub(super) fn assigned(&self) -> Option<&str> {
        let (name, _) = self.raw.split_once('=')?;
        let name = name.strip_suffix('+').unwrap_or(name);
        is_name(name).then_some(name)
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Maximum nesting of substitutions.
const MAX_DEPTH: usize = 20;

/// Returns the commands of a script, including those in substitutions.
pub(super) fn commands(text: &str) -> Vec<Command> {
    let text = text.chars().collect();
    let mut parser = Parser { text, at: 0, line: 1, found: Vec::new(), documents: Vec::new(), depth: 0 };
    parser.list(End::Script);
    parser.found
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Script,
    Parenthesis,
    Backquote,
}

struct Parser {
    text: Vec<char>,
    at: usize,
    line: usize,
    found: Vec<Command>,
    /// Delimiters of here-documents (`<<END`) that start after this line.
    documents: Vec<String>,
    depth: usize,
}

impl Parser {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn follows(&self, what: &str) -> bool {
        what.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == Some(c))
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }

    fn skip_while(&mut self, fits: impl Fn(char) -> bool) {
        while self.peek(0).is_some_and(&fits) {
            self.next();
        }
    }

    /// Parses commands up to and including `end`.
    fn list(&mut self, end: End) {
        self.depth += 1;
        let mut command = Command { line: self.line, ..Command::default() };
        let mut open = 0_usize;
        while let Some(c) = self.peek(0) {
            match c {
                '`' if end == End::Backquote => {
                    self.next();
                    break;
                }
                ')' => {
                    self.next();
                    if open == 0 && end == End::Parenthesis {
                        break;
                    }
                    if open == 0 {
                        // Pattern of a `case`, not a command.
                        command = Command::default();
                    }
                    open = open.saturating_sub(1);
                    self.push(&mut command);
                }
                '(' if self.follows("((") && command.words.is_empty() => self.until("))"),
                '(' => {
                    self.next();
                    open += 1;
                    self.push(&mut command);
                }
                '\n' => {
                    self.next();
                    self.push(&mut command);
                    self.skip_documents();
                }
                '&' if self.peek(1) == Some('>') => self.skip(1),
                ';' | '|' | '&' => {
                    command.background = c == '&' && self.peek(1) != Some('&');
                    self.skip(if self.follows("&&") { 2 } else { 1 });
                    self.push(&mut command);
                }
                '#' => self.skip_while(|c| c != '\n'),
                '<' | '>' => self.redirection(&mut command),
                '\\' if self.peek(1) == Some('\n') => self.skip(2),
                c if c.is_whitespace() => self.skip(1),
                _ if self.follows("[[") && command.words.iter().all(|word| is_keyword(&word.raw)) => self.until("]]"),
                _ => self.argument(end, &mut command),
            }
        }
        self.push(&mut command);
        self.depth -= 1;
    }

    fn argument(&mut self, end: End, command: &mut Command) {
        let before = self.at;
        let word = self.word(end);
        if self.at == before {
            // Not the start of a word.
            self.next();
            return;
        }
        if command.words.is_empty() {
            command.line = word.line;
        }
        // 2>file: the number of a descriptor.
        let descriptor = word.raw.bytes().all(|b| b.is_ascii_digit()) && matches!(self.peek(0), Some('<' | '>'));
        if !descriptor {
            command.words.push(word);
        }
    }

    fn push(&mut self, command: &mut Command) {
        let done = std::mem::replace(command, Command { line: self.line, ..Command::default() });
        if !done.words.is_empty() || !done.writes.is_empty() {
            self.found.push(done);
        }
    }

    /// Skips text in which nothing is split.
    fn until(&mut self, end: &str) {
        while self.peek(0).is_some() && !self.follows(end) {
            self.next();
        }
        self.skip(end.len());
    }

    fn redirection(&mut self, command: &mut Command) {
        if self.follows("<<<") {
            return self.skip(3);
        }
        if self.follows("<<") {
            self.skip(2);
            self.skip_while(|c| matches!(c, '-' | ' '));
            let end = self.word(End::Script).raw;
            self.documents.push(end.replace(['"', '\'', '\\'], ""));
            return;
        }
        let writes = self.next() == Some('>');
        self.skip_while(|c| matches!(c, '>' | '|'));
        match self.peek(0) {
            // Process substitution: its commands count.
            Some('(') => {
                self.next();
                if self.depth < MAX_DEPTH {
                    self.list(End::Parenthesis);
                }
            }
            Some('&') => {
                self.next();
                self.word(End::Script);
            }
            _ => {
                self.skip_while(|c| c == ' ');
                let target = self.word(End::Script);
                if writes {
                    command.writes.push(target);
                }
            }
        }
    }

    fn skip_documents(&mut self) {
        for end in std::mem::take(&mut self.documents) {
            while self.peek(0).is_some() {
                let mut line = String::new();
                while let Some(c) = self.next().filter(|c| *c != '\n') {
                    line.push(c);
                }
                if line.trim_start_matches('\t') == end {
                    break;
                }
            }
        }
    }

    /// Parses one word, up to a separator.
    fn word(&mut self, end: End) -> Word {
        let mut word = Word { line: self.line, ..Word::default() };
        while let Some(c) = self.peek(0) {
            match c {
                '`' if end == End::Backquote => break,
                c if c.is_whitespace() || matches!(c, ';' | '|' | '&' | '(' | ')' | '<' | '>') => {
                    // name=(…) is an array; its words are not a command.
                    if c == '(' && word.raw.ends_with('=') {
                        self.until(")");
                    }
                    break;
                }
                '\\' => {
                    self.next();
                    word.raw.extend(self.next().filter(|c| *c != '\n'));
                }
                '\'' => {
                    word.raw.extend(self.next());
                    while let Some(c) = self.next() {
                        word.raw.push(c);
                        if c == '\'' {
                            break;
                        }
                    }
                }
                '"' => self.double_quoted(&mut word),
                '$' => self.dollar(&mut word, false),
                '`' => self.backquoted(&mut word),
                c => {
                    self.next();
                    word.raw.push(c);
                }
            }
        }
        word
    }

    fn double_quoted(&mut self, word: &mut Word) {
        word.raw.extend(self.next());
        while let Some(c) = self.peek(0) {
            match c {
                '"' => {
                    word.raw.extend(self.next());
                    return;
                }
                '\\' => {
                    self.next();
                    word.raw.extend(self.next());
                }
                '$' => self.dollar(word, true),
                '`' => self.backquoted(word),
                c => {
                    self.next();
                    word.raw.push(c);
                }
            }
        }
    }

    fn backquoted(&mut self, word: &mut Word) {
        self.next();
        if self.depth < MAX_DEPTH {
            self.list(End::Backquote);
        }
        word.raw.push('\u{2026}');
    }

    fn dollar(&mut self, word: &mut Word, quoted: bool) {
        if self.follows("$((") {
            self.until("))");
            word.raw.push('\u{2026}');
            return;
        }
        if self.follows("$(") {
            self.skip(2);
            if self.depth < MAX_DEPTH {
                self.list(End::Parenthesis);
            }
            word.raw.push('\u{2026}');
            return;
        }
        self.next();
        let braces = self.peek(0) == Some('{');
        if braces {
            self.next();
        }
        if braces && self.peek(0) == Some('#') {
            self.until("}");
            word.raw.push('\u{2026}');
            return;
        }
        let name = self.name(braces);
        word.raw.push('$');
        word.raw.push_str(&name);
        if !name.is_empty() {
            word.variables.push(Variable { name, quoted });
        }
        if braces {
            // A default or a pattern between the name and the brace.
            let mut open = 1;
            while open > 0 {
                match self.next() {
                    Some('{') => open += 1,
                    Some('}') => open -= 1,
                    Some(_) => {}
                    None => break,
                }
            }
        }
    }

    /// Parses a variable's name: `NAME`, one digit or several in braces, or a special one.
    fn name(&mut self, braces: bool) -> String {
        let mut name = String::new();
        match self.peek(0) {
            Some('@' | '*' | '?' | '#' | '!' | '$' | '-') => name.extend(self.next()),
            Some(c) if c.is_ascii_digit() => {
                name.extend(self.next());
                while braces && self.peek(0).is_some_and(|c| c.is_ascii_digit()) {
                    name.extend(self.next());
                }
            }
            _ => {
                while self.peek(0).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
                    name.extend(self.next());
                }
            }
        }
        name
    }
}

/// Keywords before a command.
pub(super) fn is_keyword(word: &str) -> bool {
    matches!(word, "if" | "then" | "else" | "elif" | "while" | "until" | "do" | "!" | "{" | "time")
}

/// Returns for each line, counted from 1, whether it is in a function, where `$1` is the function's argument.
pub(super) fn in_function(text: &str) -> Vec<bool> {
    let mut inside: Option<usize> = None;
    let mut lines = vec![false];
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let trimmed = line.trim();
        let named = trimmed.split_once("()").map(|(name, _)| name.trim_start_matches("function ").trim());
        let begins = named.is_some_and(is_name) || trimmed.starts_with("function ");
        lines.push(inside.is_some() || begins);
        match inside {
            Some(outer) if indent <= outer && trimmed.starts_with('}') => inside = None,
            None if begins && !trimmed.ends_with('}') => inside = Some(indent),
            _ => {}
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Formats the words of each command, with `<name?>` for each unquoted variable.
    fn read(text: &str) -> Vec<String> {
        let bare = |word: &Word| {
            let bare = word.variables.iter().filter(|v| !v.quoted).map(|v| format!("<{}?>", v.name));
            format!("{}{}", word.raw, bare.collect::<String>())
        };
        let show = |command: &Command| {
            let mut said = command.words.iter().map(bare).collect::<Vec<_>>();
            said.extend(command.writes.iter().map(|word| format!(">{}", bare(word))));
            format!("{}: {}", command.line, said.join(" "))
        };
        commands(text).iter().map(show).collect()
    }

    #[test]
    fn quoted_and_unquoted_variables_are_distinguished() {
        let script = "#!/bin/sh\nset -eu # $no\nx=\"$A\"; rm -f $B \"$C\" 'no $D' pre\"$E\"$F\n\
                      if [ $G = 1 ]; then echo \"in $(ls $H \"$I\") out\" `cat $J`; fi\n\
                      cat <<END >$K\n$L is text\nEND\n(( n = $M )); [[ $N == x ]] && y=$((1 + $O)) z=${P:-$Q} w=${#R}\n\
                      case $S in stop) run \"${T%/}\" ;; esac 2>/dev/null >>\"$U\"\nif [[ $V ]]; then a \\\n  b; fi\n";
        assert_eq!(
            read(script),
            [
                "2: set -eu",
                "3: x=\"$A\"",
                "3: rm -f $B<B?> \"$C\" 'no $D' pre\"$E\"$F<F?>",
                "4: if [ $G<G?> = 1 ]",
                "4: ls $H<H?> \"$I\"",
                "4: cat $J<J?>",
                "4: then echo \"in \u{2026} out\" \u{2026}",
                "4: fi",
                "5: cat >$K<K?>",
                "8: y=\u{2026} z=$P<P?> w=\u{2026}",
                "9: run \"$T\"",
                "9: esac >/dev/null >\"$U\"",
                "10: if",
                "10: then a b",
                "11: fi",
            ]
        );
    }

    #[test]
    fn parsing_terminates_on_any_input() {
        let ends = ["\"", "'", "`", "$(", "${", "$((", "<<", "((", "[[", "$", "a\\", "<<E\nx", ">(", "${#"];
        let many = ["$(", "(", "`", "\"$(", "${a:-", ">(", "[["].map(|text| text.repeat(3000));
        for text in ends.iter().copied().chain(many.iter().map(String::as_str)) {
            commands(text);
        }
    }

    #[test]
    fn lines_in_functions_are_known() {
        let text = "one\nf() {\n  two\n}\nthree\ng() { four; }\nfive\n";
        assert_eq!(in_function(text), [false, false, true, true, true, false, true, false]);
    }
}
