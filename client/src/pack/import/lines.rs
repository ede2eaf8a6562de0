//! Finds the line of a key in YAML or JSON text, for messages. Block style is followed by its indentation; where a value is in
//! flow style, the line of its outer key is returned.

/// Returns the line, counted from 1, of the last key of `path` that is found, looking for each inside the one before.
pub(super) fn line_of(text: &str, path: &[&str]) -> Option<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut from, mut outer, mut found) = (0, None, None);
    for key in path {
        let Some((index, indent)) = find(&lines, from, outer, key) else { break };
        (from, outer, found) = (index + 1, Some(indent), Some(index + 1));
    }
    found
}

/// Finds `key:` among the lines from `from` that are indented deeper than `outer`.
fn find(lines: &[&str], from: usize, outer: Option<usize>, key: &str) -> Option<(usize, usize)> {
    let mut own = None;
    for (index, line) in lines.iter().enumerate().skip(from) {
        let text = line.trim_start();
        let brackets = text.bytes().all(|b| b"{}[], ".contains(&b));
        if brackets || text.starts_with('#') || text.starts_with("---") {
            continue;
        }
        let indent = line.len() - text.len();
        if outer.is_some_and(|outer| indent <= outer) {
            return None;
        }
        let level = *own.get_or_insert(indent);
        let bare = text.trim_start_matches(['"', '\'']);
        let rest = bare.strip_prefix(key).map(|rest| rest.trim_start_matches(['"', '\'']).trim_start());
        if indent == level && rest.is_some_and(|rest| rest.starts_with(':')) {
            return Some((index, indent));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_key_is_found_by_its_place() {
        let text = "---\nname: a\nparameters:\n    # cmd: not this\n    x:\n        default: 1\n    \"cmd\":\n        default: 2\nz: {cmd: 3}\n";
        assert_eq!(line_of(text, &["parameters", "cmd", "default"]), Some(8));
        assert_eq!(line_of(text, &["parameters", "x"]), Some(5));
        assert_eq!(line_of(text, &["z", "cmd"]), Some(9));
        assert_eq!(line_of(text, &["nothing"]), None);
        let json = "{\n  \"a\": {\n    \"x\": 1\n  },\n  \"b\": {\n    \"x\": 2\n  }\n}\n";
        assert_eq!(line_of(json, &["b", "x"]), Some(6));
        assert_eq!(line_of(json, &["a", "y"]), Some(2));
    }
}
