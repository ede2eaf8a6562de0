//! Regular expressions of Ruby as the parameter language writes them.

use packs_schema::pack::param::Pattern;

/// A translated expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Translated {
    pub(super) pattern: String,
    /// True if `^` or `$` are in it, which match at each line in Ruby and at the ends of the whole text in Bolt.
    pub(super) anchored: bool,
}

/// Translates `ruby`; the error says why that is not possible.
pub(super) fn translate(ruby: &str) -> Result<Translated, String> {
    let mut pattern = String::new();
    let (mut anchored, mut in_class) = (false, false);
    let mut chars = ruby.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => escape(chars.next(), in_class, &mut pattern)?,
            '[' if in_class && chars.peek() != Some(&':') => return Err("it has a set inside a set".to_owned()),
            '[' if in_class => {
                // A class such as [:alpha:], up to its end.
                pattern.push('[');
                for c in chars.by_ref() {
                    pattern.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '[' => {
                in_class = true;
                pattern.push('[');
                if chars.peek() == Some(&'^') {
                    pattern.extend(chars.next());
                }
                if chars.peek() == Some(&']') {
                    pattern.push('\\');
                    pattern.extend(chars.next());
                }
            }
            ']' if in_class => {
                in_class = false;
                pattern.push(']');
            }
            '&' if in_class && chars.peek() == Some(&'&') => return Err("it intersects sets".to_owned()),
            '^' | '$' if !in_class => {
                anchored = true;
                pattern.push(c);
            }
            '(' if !in_class && chars.peek() == Some(&'?') => {
                chars.next();
                pattern += "(?";
                flags(&mut chars, &mut pattern)?;
            }
            '*' | '+' | '?' | '}' if !in_class && chars.peek() == Some(&'+') => {
                return Err("it has a possessive repetition".to_owned());
            }
            c => pattern.push(c),
        }
    }
    match Pattern::new(&pattern) {
        Ok(_) => Ok(Translated { pattern, anchored }),
        Err(error) => Err(error.to_string()),
    }
}

/// In Ruby `m` lets a dot match line ends, which is `s` elsewhere.
fn flags(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, pattern: &mut String) -> Result<(), String> {
    if chars.peek() == Some(&'>') {
        return Err("it has an atomic group".to_owned());
    }
    while let Some(c) = chars.peek().copied().filter(|c| "imx-".contains(*c)) {
        pattern.push(if c == 'm' { 's' } else { c });
        chars.next();
    }
    Ok(())
}

fn escape(escaped: Option<char>, in_class: bool, pattern: &mut String) -> Result<(), String> {
    let text = match escaped.ok_or("it ends in a backslash")? {
        'A' if !in_class => "^",
        'z' if !in_class => "$",
        'Z' if !in_class => "\\n?$",
        'h' if in_class => "0-9A-Fa-f",
        'h' => "[0-9A-Fa-f]",
        'H' if !in_class => "[^0-9A-Fa-f]",
        '/' => "/",
        'e' => "\\x1B",
        '0' => "\\x00",
        c @ ('1'..='9' | 'g' | 'k') => return Err(format!("it refers back with \\{c}")),
        c @ ('p' | 'P' | 'R' | 'X' | 'G' | 'K' | 'H') => return Err(format!("\\{c} is not supported")),
        // Escapes that mean the character itself: the other dialect refuses those of letters that it does not know.
        c @ ('-' | '_' | '"' | '\'' | ' ' | ',' | ':' | ';' | '=' | '<' | '>' | '@' | '!' | '%' | '~' | '`' | '#'
        | '&') => {
            if c == '-' || c == '&' || c == '~' || c == '#' {
                pattern.push('\\');
            }
            pattern.push(c);
            return Ok(());
        }
        c => {
            pattern.push('\\');
            pattern.push(c);
            return Ok(());
        }
    };
    pattern.push_str(text);
    Ok(())
}

/// Returns `text` as an expression that matches it alone.
pub(super) fn literal(text: &str) -> String {
    let mut pattern = String::new();
    for c in text.chars() {
        if "\\.+*?()|[]{}^$#&-~".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_ruby_are_translated() {
        for (ruby, wanted, anchored) in [
            ("\\w+=\\w+", "\\w+=\\w+", false),
            ("^[^|&]*$", "^[^|&]*$", true),
            ("\\A\\/([^\\n\\/\\0]+\\/*)*\\z", "^/([^\\n/\\x00]+/*)*$", false),
            ("\\A\\h{8}\\Z", "^[0-9A-Fa-f]{8}\\n?$", false),
            ("\\A(?i:https?):\\/\\/.+\\z", "^(?i:https?)://.+$", false),
            ("(?m-x:a.b)", "(?s-x:a.b)", false),
            ("[[:alpha:]_]+", "[[:alpha:]_]+", false),
            ("[]a]", "[\\]a]", false),
        ] {
            let translated = translate(ruby).unwrap();
            assert_eq!((translated.pattern.as_str(), translated.anchored), (wanted, anchored), "{ruby}");
        }
        for (ruby, why) in [
            ("a(?=b)", "look-around"),
            ("(a)\\1", "refers back"),
            ("a++", "possessive"),
            ("(?>a)", "atomic"),
            ("[a&&b]", "intersects"),
            ("[a[b]]", "set inside"),
            ("\\p{L}", "not supported"),
            ("a\\", "backslash"),
            ("(", "cannot be used"),
        ] {
            let said = translate(ruby).unwrap_err();
            assert!(said.contains(why), "{ruby}: {said}");
        }
    }

    #[test]
    fn a_literal_matches_itself_only() {
        for text in ["a.b", "x+y*(z)", "[a]", "a-b", "^$", "\\", "a|b", "{1}", "#&~"] {
            let pattern = Pattern::new(&format!("^{}$", literal(text))).unwrap();
            assert!(pattern.is_match(text) && !pattern.is_match(&format!("{text}x")), "{text}");
        }
    }
}
