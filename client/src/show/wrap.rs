//! Text broken into lines.

/// Returns `text` in lines of at most `width` characters, each after `indent` spaces. A longer word has a line of its own;
/// line breaks of the text are kept. The text must be escaped.
pub fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let taken = line.chars().count();
            if taken > 0 && indent + taken + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    let before = " ".repeat(indent);
    let lines: Vec<String> = lines.iter().map(|line| format!("{before}{line}").trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Returns at most `most` of `lines`: the first `head` and the last ones, with the number of lines left out in brackets.
pub fn excerpt(lines: &[String], most: usize, head: usize) -> Vec<String> {
    if lines.len() <= most {
        return lines.to_vec();
    }
    let first = head.min(most);
    let last = most - first;
    let mut shown = lines[..first].to_vec();
    shown.push(match lines.len() - most {
        1 => "[1 line is left out here]".to_owned(),
        more => format!("[{more} lines are left out here]"),
    });
    shown.extend_from_slice(&lines[lines.len() - last..]);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole_and_lines_short() {
        assert_eq!(wrapped("one two three\n\nfour", 9, 2), "  one two\n  three\n\n  four");
        assert_eq!(wrapped("incomprehensibility is", 5, 0), "incomprehensibility\nis");
    }

    #[test]
    fn both_ends_are_shown() {
        let lines: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(excerpt(&lines, 10, 3), lines);
        assert_eq!(excerpt(&lines, 3, 1), ["0", "[7 lines are left out here]", "8", "9"]);
        assert_eq!(excerpt(&lines, 1, 1), ["0", "[9 lines are left out here]"]);
        assert_eq!(excerpt(&lines[..4], 3, 2), ["0", "1", "[1 line is left out here]", "3"]);
    }
}
