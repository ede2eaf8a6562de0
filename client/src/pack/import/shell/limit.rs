//! Limits of values: the characters that a schema lets through, and patterns that enforce a limit.

use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Characters that a value may have. Each limit allows less than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::pack::import) enum Limit {
    /// Any text.
    Free,
    /// Characters that no shell gives a meaning to.
    Path,
    /// Characters that are no syntax of common languages either.
    Word,
    /// Digits, signs and points.
    Number,
}

/// Meaning that its input has for a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Input {
    /// Words that it hands on, or text that it gives to another program somewhere else.
    Words,
    /// Code in a language of its own.
    Code,
    /// Code of a shell, which begins with the name of a program, or names of files of code.
    Shell,
}

impl Limit {
    /// Returns the strictest limit that all characters of `text` fit.
    pub(in crate::pack::import) fn of(text: &str) -> Limit {
        let all = |limit: Limit| text.bytes().all(|byte| limit.allows(byte));
        [Limit::Number, Limit::Word, Limit::Path].into_iter().find(|limit| all(*limit)).unwrap_or(Limit::Free)
    }

    fn allows(self, byte: u8) -> bool {
        match self {
            Limit::Free => true,
            Limit::Path => Limit::Word.allows(byte) || b",=/".contains(&byte),
            Limit::Word => byte.is_ascii_alphanumeric() || b"_.:@%+-".contains(&byte),
            Limit::Number => byte.is_ascii_digit() || b".+-".contains(&byte),
        }
    }

    /// Returns a pattern that enforces the limit; with `operand`, no value begins with `-`. `None` if nothing is limited.
    pub(in crate::pack::import) fn pattern(self, operand: bool) -> Option<&'static str> {
        Some(match (self, operand) {
            (Limit::Free, false) => return None,
            (Limit::Free, true) => "^($|[^-])",
            (Limit::Path, false) => "^[A-Za-z0-9_.:@%+,=/-]*$",
            (Limit::Path, true) => "^([A-Za-z0-9_.:@%+,=/][A-Za-z0-9_.:@%+,=/-]*)?$",
            (Limit::Word, false) => "^[A-Za-z0-9_.:@%+-]*$",
            (Limit::Word, true) => "^([A-Za-z0-9_.:@%+][A-Za-z0-9_.:@%+-]*)?$",
            (Limit::Number, _) => "^-?[0-9]*$",
        })
    }

    /// Returns a pattern like [`Limit::pattern`] by which no word of the value begins with `-`, wherever it may be cut.
    pub(in crate::pack::import) fn pattern_of_words(self) -> &'static str {
        match self {
            Limit::Free => "^[^A-Za-z0-9_.:/@%+=-]*([A-Za-z0-9_.:/@%+=][A-Za-z0-9_.:/@%+=-]*[^A-Za-z0-9_.:/@%+=-]*)*$",
            Limit::Path => "^,*([A-Za-z0-9_.:@%+=/][A-Za-z0-9_.:@%+=/-]*,*)*$",
            Limit::Word => "^([A-Za-z0-9_.:@%+][A-Za-z0-9_.:@%+-]*)?$",
            Limit::Number => "^-?[0-9]*$",
        }
    }

    /// Returns the limit in words.
    pub(in crate::pack::import) fn words(self) -> &'static str {
        match self {
            Limit::Free => "any text",
            Limit::Path => "letters, digits and _.:@%+,=/-",
            Limit::Word => "letters, digits and _.:@%+-",
            Limit::Number => "a number",
        }
    }
}

/// Returns the limit that a pattern enforces: it must be anchored at both ends, and every character must fit.
pub(in crate::pack::import) fn limit_of_pattern(pattern: &str) -> Limit {
    let parser = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).nest_limit(50).build().parse(pattern);
    let Ok(hir) = parser else { return Limit::Free };
    let anchored = |hir: &Hir| {
        let properties = hir.properties();
        properties.look_set_prefix().contains(Look::Start) && properties.look_set_suffix().contains(Look::End)
    };
    if anchored(&hir) { limit_of(&hir) } else { Limit::Free }
}

/// True for a pattern that every text has: it is found empty at the end of each, or at the beginning, as `[a-z]*$`.
pub(in crate::pack::import) fn allows_any_text(pattern: &str) -> bool {
    let Ok(hir) = regex_syntax::parse(pattern) else { return false };
    let looks = hir.properties().look_set();
    let at_one_end = [Look::Start, Look::End].iter().any(|end| looks.remove(*end).is_empty());
    at_one_end && hir.properties().minimum_len() == Some(0)
}

/// True for a pattern that allows blanks, and besides characters that no shell gives a meaning to.
pub(in crate::pack::import) fn is_plain_pattern(pattern: &str) -> bool {
    // A blank that begins a range is not looked into.
    !pattern.contains(" -") && limit_of_pattern(&pattern.replace(' ', "_")) >= Limit::Path
}

fn limit_of(hir: &Hir) -> Limit {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Limit::Number,
        HirKind::Literal(literal) => of_bytes(literal.0.iter().copied()),
        HirKind::Class(Class::Bytes(class)) => of_bytes(class.iter().flat_map(|range| range.start()..=range.end())),
        HirKind::Class(Class::Unicode(class)) => {
            let ascii = class.iter().all(|range| range.end().is_ascii());
            let bytes = class.iter().flat_map(|range| range.start()..=range.end().min('\u{7f}'));
            if ascii { of_bytes(bytes.map(|c| u8::try_from(c).unwrap_or(b'\n'))) } else { Limit::Free }
        }
        HirKind::Repetition(repetition) => limit_of(&repetition.sub),
        HirKind::Capture(capture) => limit_of(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(limit_of).min().unwrap_or(Limit::Number)
        }
    }
}

fn of_bytes(bytes: impl Iterator<Item = u8>) -> Limit {
    bytes.map(|byte| Limit::of(&char::from(byte).to_string())).min().unwrap_or(Limit::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_limit_what_they_enforce() {
        for (pattern, limit) in [
            ("^[0-9]+$", Limit::Number),
            (r"^\d{1,5}$", Limit::Number),
            (r"^[0-9a-zA-Z.\-=_]{1,128}$", Limit::Path),
            (r"^[0-9a-zA-Z\-]{1,15}$", Limit::Word),
            (r"^(?:a|b[0-9])$", Limit::Word),
            (r"^\w+$", Limit::Word),
            ("^(start|stop)$", Limit::Word),
            ("^[0-9a-zA-Z./,-]+$", Limit::Path),
            ("[0-9]+", Limit::Free),
            ("^[0-9]+", Limit::Free),
            ("^a|b$", Limit::Free),
            ("^.*$", Limit::Free),
            ("^[^;]+$", Limit::Free),
            (r"^\S+$", Limit::Free),
            ("(?m)^[0-9]+$", Limit::Free),
            ("^[0-9 ]+$", Limit::Free),
            ("^[[:alpha:]]+$", Limit::Word),
            ("^(", Limit::Free),
            ("^[a-zß]$", Limit::Free),
        ] {
            assert_eq!(limit_of_pattern(pattern), limit, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_is_found_empty_allows_any_text() {
        for pattern in ["", ".*", "[a-z]*$", "^[a-z]*", "^", "$", "(a|)", "(?:a|b$)*", "[a-z0-9-~]*$"] {
            assert!(allows_any_text(pattern), "{pattern}");
        }
        for pattern in ["^$", "^[a-z]*$", "a", "[a-z]+$", "^a|b$", r"\b", "(?m)^", "^(", "a*b"] {
            assert!(!allows_any_text(pattern), "{pattern}");
        }
    }

    #[test]
    fn plain_patterns_have_words_and_blanks() {
        for (pattern, plain) in [
            ("^(([a-zA-Z_0-9]{1,50}=[a-zA-Z_0-9]{1,50})( [a-zA-Z_0-9]{1,50}=[a-zA-Z_0-9]{1,50}){0,20})?$", true),
            ("^[0-9 ]+$", true),
            ("^[a-z]+$", true),
            ("^[ -_]+$", false),
            ("^[ -~]+$", false),
            (r"^\S+ \S+$", false),
            (r"^[a-z\s]+$", false),
            ("^[a-z ;]+$", false),
            ("[a-z ]+", false),
        ] {
            assert_eq!(is_plain_pattern(pattern), plain, "{pattern}");
        }
    }

    #[test]
    fn patterns_of_limits_have_their_limit() {
        for limit in [Limit::Path, Limit::Word, Limit::Number] {
            for operand in [true, false] {
                assert_eq!(limit_of_pattern(limit.pattern(operand).unwrap()), limit);
            }
        }
        assert_eq!(Limit::of(""), Limit::Number);
        assert_eq!(Limit::of("a/b"), Limit::Path);
        assert_eq!(Limit::of("a b"), Limit::Free);
    }
}
