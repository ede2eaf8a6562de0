//! Properties of every paper: lines that fit, and links that resolve.

use std::path::Path;

use super::{all_papers, read, root};

/// Longest line of a paper, in characters.
const MAX_LINE: usize = 120;
/// Longest README.md, in lines.
const MAX_README: usize = 120;

#[test]
fn lines_fit() {
    let papers = all_papers().into_iter().filter(|paper| !paper.ends_with("CHANGELOG.md"));
    let mut long = Vec::new();
    for paper in papers {
        for (index, line) in read(&paper).lines().enumerate().filter(|(_, line)| line.chars().count() > MAX_LINE) {
            long.push(format!("{}:{}: {} characters", paper.display(), index + 1, line.chars().count()));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
    let length = read(Path::new("README.md")).lines().count();
    assert!(
        length <= MAX_README,
        "README.md has {length} lines; at most {MAX_README}: move what is for one reader only"
    );
}

/// Returns the heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let heading = heading.trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for paper in all_papers() {
        let text = read(&paper);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, part) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => paper.clone(),
                file => paper.parent().unwrap_or(Path::new("")).join(file),
            };
            let exists = root().join(&target).exists();
            let has_part = || {
                let text = std::fs::read_to_string(root().join(&target)).unwrap_or_default();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                headings.any(|line| anchor(line.trim_start_matches('#')) == part)
            };
            if !exists || !(part.is_empty() || has_part()) {
                dead.push(format!("{}: {link}", paper.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}
