//! Tables and lists for people.

use std::collections::HashMap;

/// Returns `rows` under `heads`, with columns two spaces apart. Lines longer than `width` are cut. Cells must be escaped.
pub fn table(heads: &[&str], rows: &[Vec<String>], width: Option<usize>) -> String {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        text.push_str(&line(row, &widths, width));
        text.push('\n');
    }
    text
}

fn line(row: &[String], widths: &[usize], width: Option<usize>) -> String {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
    }
    let line = line.trim_end();
    match width {
        Some(width) if line.chars().count() > width && width > 1 => {
            let mut cut: String = line.chars().take(width - 1).collect();
            cut.push('…');
            cut
        }
        _ => line.to_owned(),
    }
}

/// Returns the first `most` of `names`, joined by commas: `i-1, i-2 and 3 more`.
pub fn listed<T: std::fmt::Display>(names: &[T], most: usize) -> String {
    let first: Vec<String> = names.iter().take(most).map(ToString::to_string).collect();
    match names.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// Returns each name once, in the order of its first place, with its count if it is there several times: `i-1 (2)`.
pub fn tallied(names: &[&str]) -> Vec<String> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for name in names {
        let place = *places.entry(name).or_insert(counts.len());
        match counts.get_mut(place) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    let one = |(name, count): (&str, usize)| if count == 1 { String::from(name) } else { format!("{name} ({count})") };
    counts.into_iter().map(one).collect()
}

/// Returns a count with its noun: `1 instance`, `2 instances`.
pub fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_long_lines_are_cut() {
        let rows = vec![vec!["a".into(), "long text here".into()], vec!["bbb".into(), "x".into()]];
        assert_eq!(table(&["ID", "TEXT"], &rows, None), "ID   TEXT\na    long text here\nbbb  x\n");
        assert_eq!(table(&["ID", "TEXT"], &rows, Some(8)).lines().nth(1), Some("a    lo…"));
        assert_eq!(listed(&["a", "b", "c"], 2), "a, b and 1 more");
        assert_eq!(tallied(&["b", "a", "b"]), ["b (2)", "a"]);
    }
}
