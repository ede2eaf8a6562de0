//! Expressions over instance facts: `app == "cassandra" && region in ["us-east-1", "eu-west-1"]`.
//!
//! ```text
//! or    := and ("||" and)*
//! and   := not ("&&" not)*
//! not   := "!" not | "(" or ")" | test
//! test  := fact ("==" | "!=" | "=~") text | fact "in" "[" text ("," text)* "]"
//! fact  := id | region | zone | app | cluster | group | tags.<name>
//! ```
//!
//! An unknown fact equals the empty text. A name that is not a fact is an error, so that a typing error never selects
//! all instances, or none.

use serde::{Deserialize, Serialize};

use crate::delivery::facts::Facts;
use crate::pack::param::Pattern;

/// Maximum length of an expression, in bytes.
const MAX_LENGTH: usize = 4096;
/// Maximum nesting of parentheses and negations.
const MAX_DEPTH: usize = 32;

/// Parsed expression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Filter {
    text: String,
    root: Node,
}

/// Error returned for an invalid expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the expression at character {at}: {problem}\n  {text}\n  {marker}^", marker = " ".repeat(at.saturating_sub(1).min(200)))]
pub struct FilterError {
    text: String,
    at: usize,
    problem: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Or(Vec<Node>),
    And(Vec<Node>),
    Not(Box<Node>),
    In(String, Vec<String>),
    Match(String, Pattern),
}

impl Filter {
    /// Parses `text`.
    pub fn new(text: &str) -> Result<Filter, FilterError> {
        let mut parser = Parser { text, at: 0, depth: 0 };
        if text.len() > MAX_LENGTH {
            return Err(parser.fail(format!("it is longer than {MAX_LENGTH} bytes")));
        }
        let root = parser.or()?;
        parser.space();
        if parser.at < text.len() {
            return Err(parser.fail("expected &&, || or the end"));
        }
        Ok(Filter { text: text.to_owned(), root })
    }

    /// True if `facts` satisfy the expression.
    pub fn matches(&self, facts: &Facts) -> bool {
        self.root.matches(facts)
    }
}

impl TryFrom<String> for Filter {
    type Error = String;
    /// Parses a value of a document. The error is of one line, as those of documents are.
    fn try_from(text: String) -> Result<Filter, String> {
        Filter::new(&text).map_err(|FilterError { text, at, problem }| {
            format!("cannot read the expression {text:?} at character {at}: {problem}")
        })
    }
}

impl std::str::FromStr for Filter {
    type Err = FilterError;
    fn from_str(text: &str) -> Result<Filter, FilterError> {
        Filter::new(text)
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> String {
        filter.text
    }
}

impl Node {
    fn matches(&self, facts: &Facts) -> bool {
        match self {
            Node::Or(any) => any.iter().any(|node| node.matches(facts)),
            Node::And(all) => all.iter().all(|node| node.matches(facts)),
            Node::Not(node) => !node.matches(facts),
            Node::In(fact, texts) => facts.get(fact).is_some_and(|value| texts.iter().any(|t| t == value)),
            Node::Match(fact, pattern) => facts.get(fact).is_some_and(|value| pattern.is_match(value)),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn fail(&self, problem: impl Into<String>) -> FilterError {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        // A line break, as in a document, would move the marker.
        let line: String = self.text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
        let text = crate::base::strict::shorten(&line, 200);
        FilterError { text, at: before.chars().count() + 1, problem: problem.into() }
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn or(&mut self) -> Result<Node, FilterError> {
        let mut nodes = vec![self.and()?];
        while self.eat("||") {
            nodes.push(self.and()?);
        }
        Ok(if nodes.len() == 1 { nodes.swap_remove(0) } else { Node::Or(nodes) })
    }

    fn and(&mut self) -> Result<Node, FilterError> {
        let mut nodes = vec![self.not()?];
        while self.eat("&&") {
            nodes.push(self.not()?);
        }
        Ok(if nodes.len() == 1 { nodes.swap_remove(0) } else { Node::And(nodes) })
    }

    fn not(&mut self) -> Result<Node, FilterError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fail("nested too deeply"));
        }
        let node = if self.eat("!") {
            Node::Not(Box::new(self.not()?))
        } else if self.eat("(") {
            let inner = self.or()?;
            if !self.eat(")") {
                return Err(self.fail("expected )"));
            }
            inner
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn test(&mut self) -> Result<Node, FilterError> {
        let fact = self.fact()?;
        if self.eat("==") {
            Ok(Node::In(fact, vec![self.quoted()?]))
        } else if self.eat("!=") {
            Ok(Node::Not(Box::new(Node::In(fact, vec![self.quoted()?]))))
        } else if self.eat("=~") {
            let start = self.at;
            let pattern = Pattern::new(&self.quoted()?);
            pattern.map(|p| Node::Match(fact, p)).map_err(|e| {
                self.at = start;
                self.fail(e.to_string())
            })
        } else if self.eat("in") {
            self.list().map(|texts| Node::In(fact, texts))
        } else {
            Err(self.fail("expected ==, !=, =~ or in"))
        }
    }

    fn list(&mut self) -> Result<Vec<String>, FilterError> {
        if !self.eat("[") {
            return Err(self.fail("expected ["));
        }
        let mut texts = vec![self.quoted()?];
        while self.eat(",") {
            texts.push(self.quoted()?);
        }
        if self.eat("]") { Ok(texts) } else { Err(self.fail("expected , or ]")) }
    }

    fn fact(&mut self) -> Result<String, FilterError> {
        self.space();
        let start = self.at;
        let length = self.rest().bytes().take_while(|b| b.is_ascii_alphanumeric() || b"_.:/-".contains(b)).count();
        let name = self.rest()[..length].to_owned();
        let known = ["id", "region", "zone", "app", "cluster", "group"].contains(&name.as_str())
            || name.strip_prefix("tags.").is_some_and(|tag| !tag.is_empty());
        if !known {
            self.at = start;
            return Err(self.fail("expected a fact: id, region, zone, app, cluster, group or tags.<name>"));
        }
        self.at += length;
        Ok(name)
    }

    fn quoted(&mut self) -> Result<String, FilterError> {
        self.space();
        let quote = match self.rest().chars().next() {
            Some(quote @ ('"' | '\'')) => quote,
            _ => return Err(self.fail("expected a text in quotes")),
        };
        let inner = &self.rest()[1..];
        match inner.find(quote) {
            Some(end) => {
                let text = inner[..end].to_owned();
                self.at += end + 2;
                Ok(text)
            }
            None => Err(self.fail("the quote is not closed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name::InstanceId;

    fn facts() -> Facts {
        let mut facts = Facts::of(InstanceId::new("i-1").unwrap());
        facts.region = "us-east-1".into();
        facts.app = "cassandra".into();
        facts.tags.insert("team".into(), "dba".into());
        facts
    }

    #[test]
    fn expressions_select() {
        for (text, wanted) in [
            (r#"app == "cassandra""#, true),
            (r#"app == 'kafka'"#, false),
            (r#"app != "kafka" && region in ["eu-west-1", "us-east-1"]"#, true),
            (r#"app == "kafka" || tags.team == "dba""#, true),
            (r#"!(app == "cassandra")"#, false),
            (r#"region =~ "^us-""#, true),
            (r#"tags.absent == """#, true),
            (r#"zone == "x""#, false),
            (r#"app == "a" && app == "b" || id == "i-1""#, true),
        ] {
            assert_eq!(Filter::new(text).unwrap().matches(&facts()), wanted, "{text}");
        }
    }

    #[test]
    fn an_invalid_expression_is_an_error_with_a_position() {
        for (text, at) in [
            ("", 1),
            ("ap == \"x\"", 1),
            ("app = \"x\"", 5),
            ("app == x", 8),
            ("app == \"x", 8),
            ("app == \"x\" &&", 14),
            ("app == \"x\" zone == \"y\"", 12),
            ("(app == \"x\"", 12),
            ("app in []", 9),
            ("tags. == \"\"", 1),
        ] {
            assert_eq!(Filter::new(text).unwrap_err().at, at, "{text}");
        }
        assert!(Filter::new(&"!".repeat(4000)).is_err());
    }
}
