//! Valid paths in a pack. Build refuses others early; unpacking refuses them again.

/// Maximum length of a path within a pack, in bytes, which every archive format supports.
pub const MAX_PATH: usize = 200;
/// Maximum depth of a path.
const MAX_DEPTH: usize = 16;

/// Error returned for an invalid path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path {path:?} is not allowed in a pack: {why}")]
pub struct PathError {
    path: String,
    why: &'static str,
}

/// Checks a path relative to the pack's top directory, with `/` between parts and not at the end.
pub fn check_path(path: &str) -> Result<(), PathError> {
    let fail = |why| Err(PathError { path: path.chars().take(80).collect(), why });
    if path.is_empty() {
        return fail("it is empty");
    }
    if path.len() > MAX_PATH || path.split('/').count() > MAX_DEPTH {
        return fail("it is longer than 200 bytes or deeper than 16 directories");
    }
    if path.starts_with('/') {
        return fail("it is absolute");
    }
    for part in path.split('/') {
        if part.is_empty() || part == "." || part == ".." {
            return fail("it has an empty part, '.' or '..'");
        }
        if part.starts_with('.') {
            return fail("it is hidden");
        }
        if part.starts_with('-') {
            return fail("a part of it starts with '-'");
        }
        if !part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-@=,~".contains(&b)) {
            return fail("it may contain letters, digits and . _ + - @ = , ~ only");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_paths_are_allowed() {
        for good in ["pack.yaml", "actions/lib/a_b-1.2+x.py", "etc/x@y", "__init__.py"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            "a//b",
            "./a",
            "a/",
            ".bolt/pack.json",
            "a/.git",
            "-rf",
            "a b",
            "a\nb",
            "a\\b",
            "é",
            &"a/".repeat(20),
            &"a".repeat(201),
        ] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
    }
}
