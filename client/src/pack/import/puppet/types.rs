//! Puppet's type expressions, such as `Optional[Enum[a, b]]`: text into a tree, within bounds of length and depth.

/// Maximum length of an expression, in bytes.
const MAX_LENGTH: usize = 8 << 10;
/// Maximum nesting.
const MAX_DEPTH: usize = 32;

/// Part of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    /// A type with its arguments: `Integer[1, 5]`.
    Type(String, Vec<Expr>),
    /// A word, or a text in quotes.
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// A regular expression of Ruby.
    Regex(String),
    /// `default`, an open bound.
    Default,
    /// `{a => Type, Optional[b] => Type}`
    Hash(Vec<(Expr, Expr)>),
}

/// Error returned for an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TypeError {
    /// A limit is exceeded.
    #[error("{0}")]
    Limit(String),
    /// The text is no expression.
    #[error("{0}")]
    Syntax(String),
}

/// Parses an expression.
pub(super) fn parse(text: &str) -> Result<Expr, TypeError> {
    if text.len() > MAX_LENGTH {
        return Err(TypeError::Limit(format!(
            "the type has {} bytes, more than the maximum of {MAX_LENGTH}",
            text.len()
        )));
    }
    let mut parser = Parser { rest: text };
    let expr = parser.expr(0)?;
    parser.blanks();
    match parser.rest.is_empty() {
        true => Ok(expr),
        false => Err(parser.wrong("the end")),
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn expr(&mut self, depth: usize) -> Result<Expr, TypeError> {
        if depth > MAX_DEPTH {
            return Err(TypeError::Limit(format!("the type nests more than {MAX_DEPTH} deep")));
        }
        self.blanks();
        match self.rest.chars().next() {
            Some('\'') => self.single_quoted(),
            Some('"') => self.double_quoted(),
            Some('/') => self.regex(),
            Some('{') => self.hash(depth),
            Some(c) if c.is_ascii_digit() || c == '-' || c == '+' => self.number(),
            Some(c) if c.is_ascii_uppercase() || self.rest.starts_with("::") => self.type_(depth),
            Some(c) if c.is_ascii_lowercase() || c == '_' => Ok(self.word()),
            _ => Err(self.wrong("a type")),
        }
    }

    fn type_(&mut self, depth: usize) -> Result<Expr, TypeError> {
        let name = self.take(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
        let name = name.trim_start_matches("::").to_owned();
        if name.split("::").any(|part| !part.starts_with(|c: char| c.is_ascii_uppercase())) {
            return Err(TypeError::Syntax(format!("{name:?} is no name of a type")));
        }
        self.blanks();
        let mut arguments = Vec::new();
        if self.accept("[") {
            while !self.closed("]")? {
                arguments.push(self.expr(depth + 1)?);
                self.comma("]")?;
            }
        }
        Ok(Expr::Type(name, arguments))
    }

    fn hash(&mut self, depth: usize) -> Result<Expr, TypeError> {
        let mut entries = Vec::new();
        self.accept("{");
        while !self.closed("}")? {
            let key = self.expr(depth + 1)?;
            self.blanks();
            if !self.accept("=>") {
                return Err(self.wrong("=>"));
            }
            entries.push((key, self.expr(depth + 1)?));
            self.comma("}")?;
        }
        Ok(Expr::Hash(entries))
    }

    /// Takes the closing bracket; false if something else follows.
    fn closed(&mut self, bracket: &str) -> Result<bool, TypeError> {
        self.blanks();
        match self.rest.is_empty() {
            true => Err(self.wrong(bracket)),
            false => Ok(self.accept(bracket)),
        }
    }

    fn comma(&mut self, bracket: &str) -> Result<(), TypeError> {
        self.blanks();
        match self.accept(",") || self.rest.starts_with(bracket) {
            true => Ok(()),
            false => Err(self.wrong(&format!("a comma or {bracket}"))),
        }
    }

    fn word(&mut self) -> Expr {
        match self.take(|c| c.is_ascii_alphanumeric() || "_-:".contains(c)) {
            "default" => Expr::Default,
            "true" => Expr::Boolean(true),
            "false" => Expr::Boolean(false),
            word => Expr::Text(word.to_owned()),
        }
    }

    fn number(&mut self) -> Result<Expr, TypeError> {
        let text = self.take(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)).to_owned();
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", text.strip_prefix('+').unwrap_or(&text)),
        };
        let radix = |digits: &str, radix| i64::from_str_radix(&format!("{sign}{digits}"), radix).ok();
        let whole = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(hexadecimal) => radix(hexadecimal, 16),
            None if digits.len() > 1 && digits.starts_with('0') && !digits.contains('.') => radix(digits, 8),
            None => radix(digits, 10),
        };
        let float = || {
            text.parse::<f64>().ok().filter(|float| float.is_finite() && text.ends_with(|c: char| c.is_ascii_digit()))
        };
        whole.map(Expr::Integer).or_else(|| float().map(Expr::Float)).ok_or_else(|| {
            TypeError::Syntax(format!("{:?} is no number", packs_schema::base::strict::shorten(&text, 40)))
        })
    }

    fn single_quoted(&mut self) -> Result<Expr, TypeError> {
        self.delimited('\'', |escaped| match escaped {
            '\'' | '\\' => Some(escaped.to_string()),
            other => Some(format!("\\{other}")),
        })
        .map(Expr::Text)
    }

    fn double_quoted(&mut self) -> Result<Expr, TypeError> {
        let text = self.delimited('"', |escaped| {
            Some(match escaped {
                'n' => "\n".to_owned(),
                't' => "\t".to_owned(),
                'r' => "\r".to_owned(),
                's' => " ".to_owned(),
                'u' => return None,
                other => other.to_string(),
            })
        })?;
        match text.contains('$') {
            true => Err(TypeError::Syntax("a text in double quotes holds a variable".to_owned())),
            false => Ok(Expr::Text(text)),
        }
    }

    fn regex(&mut self) -> Result<Expr, TypeError> {
        self.delimited('/', |escaped| Some(if escaped == '/' { "/".to_owned() } else { format!("\\{escaped}") }))
            .map(Expr::Regex)
    }

    /// Takes a text up to the second `quote`; `escape` returns what a character after a backslash stands for.
    fn delimited(&mut self, quote: char, escape: impl Fn(char) -> Option<String>) -> Result<String, TypeError> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Ok(text);
                }
                '\\' => {
                    let known = chars.next().and_then(|(_, escaped)| escape(escaped));
                    text += &known.ok_or_else(|| TypeError::Syntax("it has an unknown escape".to_owned()))?;
                }
                c => text.push(c),
            }
        }
        Err(TypeError::Syntax(format!("{quote} is not closed")))
    }

    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn accept(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Skips blanks and comments.
    fn blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
    }

    fn wrong(&self, wanted: &str) -> TypeError {
        let found: String = self.rest.chars().take(20).collect();
        match found.is_empty() {
            true => TypeError::Syntax(format!("{wanted} is missing at its end")),
            false => TypeError::Syntax(format!("{wanted} is expected at {found:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn expressions_are_parsed() {
        let text = |text: &str| Expr::Text(text.to_owned());
        let of = |name: &str, arguments: Vec<Expr>| Expr::Type(name.to_owned(), arguments);
        for (given, wanted) in [
            ("String", of("String", vec![])),
            (" ::Stdlib::Port ", of("Stdlib::Port", vec![])),
            ("Integer[default, -5]", of("Integer", vec![Expr::Default, Expr::Integer(-5)])),
            (
                "Enum[a, 'b c', \"d\", dist-upgrade,]",
                of("Enum", vec![text("a"), text("b c"), text("d"), text("dist-upgrade")]),
            ),
            ("Pattern[/\\A\\/x[^\\/]$/]", of("Pattern", vec![Expr::Regex("\\A/x[^/]$".to_owned())])),
            ("Float[1.5, 1e3]", of("Float", vec![Expr::Float(1.5), Expr::Float(1000.0)])),
            ("Integer[0x1F, 010]", of("Integer", vec![Expr::Integer(31), Expr::Integer(8)])),
            ("Enum['it\\'s \\n']", of("Enum", vec![text("it's \\n")])),
            (
                "Struct[{a => String[1], Optional['b'] => Boolean[true]}] # comment",
                of(
                    "Struct",
                    vec![Expr::Hash(vec![
                        (text("a"), of("String", vec![Expr::Integer(1)])),
                        (of("Optional", vec![text("b")]), of("Boolean", vec![Expr::Boolean(true)])),
                    ])],
                ),
            ),
        ] {
            assert_eq!(parse(given), Ok(wanted), "{given}");
        }
    }

    #[test]
    fn what_is_no_expression_is_an_error_that_says_where() {
        for (given, words) in [
            ("", "a type is missing at its end"),
            ("Optional[String", "] is missing at its end"),
            ("Optional[String] x", "the end is expected at \"x\""),
            ("Enum['a' 'b']", "a comma or ] is expected at \"'b']\""),
            ("Struct[{a: String}]", "=> is expected"),
            ("Pattern[/a]", "/ is not closed"),
            ("Enum[\"$x\"]", "holds a variable"),
            ("Foo::bar", "is no name of a type"),
            ("Integer[1_000]", "is expected at"),
            ("Integer[12ab]", "\"12ab\" is no number"),
        ] {
            let said = parse(given).unwrap_err().to_string();
            assert!(said.contains(words), "{given}: {said}");
        }
    }

    #[test]
    fn length_and_depth_are_bounded() {
        let deep = format!("{}String{}", "Optional[".repeat(100), "]".repeat(100));
        assert!(matches!(parse(&deep), Err(TypeError::Limit(said)) if said.contains("32 deep")));
        let long = format!("Enum[{}]", "a,".repeat(9000));
        assert!(matches!(parse(&long), Err(TypeError::Limit(said)) if said.contains("8192")));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([A-Z][a-z]{0,3}|[\\[\\]{},/'\"\\\\]|=>|::| |[0-9.-]{1,3}|\\PC){0,40}") {
            let _ = parse(&text);
        }
    }
}
