//! Reader of the text format: which metrics there are, and with which labels.

use std::collections::{BTreeMap, BTreeSet};

/// Metrics of one answer.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    /// Names of families, in their order.
    families: Vec<String>,
    /// Names of labels by the name of the sample, such as `bolt_execution_duration_seconds_bucket`.
    labels: BTreeMap<String, BTreeSet<String>>,
}

impl Exposition {
    /// Reads the answer of an agent.
    pub(crate) fn parse(text: &str) -> Exposition {
        let mut read = Exposition::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                read.families.push(rest.split(' ').next().unwrap_or_default().to_owned());
            } else if !line.starts_with('#') {
                let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line:?} is no sample"));
                let (name, rest) = line.split_at(end);
                read.labels.entry(name.to_owned()).or_default().extend(label_names(rest));
            }
        }
        read
    }

    /// Returns the names of families, in their order.
    pub(crate) fn families(&self) -> impl Iterator<Item = &String> {
        self.families.iter()
    }

    /// Returns the labels of samples of this name; `None` if there is no such sample.
    pub(crate) fn labels_of(&self, sample: &str) -> Option<&BTreeSet<String>> {
        self.labels.get(sample)
    }

    /// Returns the number of names of samples of a family.
    pub(crate) fn samples_of(&self, family: &str) -> usize {
        ["", "_bucket", "_sum", "_count"]
            .iter()
            .filter(|end| self.labels.contains_key(&format!("{family}{end}")))
            .count()
    }
}

/// Returns the names in `{a="b",c="d"} 1`.
fn label_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut quoted, mut escaped, mut name) = (false, false, String::new());
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '}' | ' ' => break,
            '{' | ',' => name.clear(),
            '=' => names.push(std::mem::take(&mut name)),
            c => name.push(c),
        }
    }
    names
}

#[test]
fn labels_are_read_whatever_their_values_are() {
    let told = Exposition::parse("# TYPE a counter\na{x=\"1,y=\\\"}\",z=\"\"} 1\nb 2\n");
    assert_eq!(told.families().collect::<Vec<_>>(), ["a"]);
    assert_eq!(told.labels_of("a").unwrap().iter().collect::<Vec<_>>(), ["x", "z"]);
    assert_eq!((told.labels_of("b").unwrap().len(), told.labels_of("c"), told.samples_of("a")), (0, None, 1));
}
