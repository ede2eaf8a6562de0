//! Writer of Prometheus's text exposition format 0.0.4.

use std::fmt::{Display, Write};

use super::families::Family;
use super::histogram::{Histogram, seconds};

/// Text that is being written, family by family.
#[derive(Debug, Default)]
pub(crate) struct Exposition(String);

impl Exposition {
    /// Begins a family; its samples follow.
    pub(crate) fn begin(&mut self, family: &Family) {
        let Family { name, kind, help, .. } = family;
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Writes a sample of a family that has begun. `labels` are the values in the order of the family's names.
    pub(crate) fn sample(&mut self, family: &Family, labels: &[&str], value: impl Display) {
        self.line(family, "", labels, None, value);
    }

    /// Writes a family of one sample without labels.
    pub(crate) fn single(&mut self, family: &Family, value: impl Display) {
        self.begin(family);
        self.sample(family, &[], value);
    }

    /// Writes the buckets, sum and count of a distribution.
    pub(crate) fn histogram(&mut self, family: &Family, labels: &[&str], histogram: &Histogram) {
        for (bound, count) in histogram.cumulative() {
            self.line(family, "_bucket", labels, Some(&bound), count);
        }
        self.line(family, "_sum", labels, None, seconds(histogram.sum_us()));
        self.line(family, "_count", labels, None, histogram.count());
    }

    /// Returns the text.
    pub(crate) fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, family: &Family, suffix: &str, labels: &[&str], le: Option<&str>, value: impl Display) {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let _ = write!(self.0, "{}{suffix}", family.name);
        let named = family.labels.iter().copied().zip(labels.iter().copied());
        let mut open = '{';
        for (name, value) in named.chain(le.map(|le| ("le", le))) {
            let _ = write!(self.0, "{open}{name}=\"{}\"", escape(value));
            open = ',';
        }
        let close = if open == ',' { "}" } else { "" };
        let _ = writeln!(self.0, "{close} {value}");
    }
}

/// Escapes the value of a label.
fn escape(value: &str) -> std::borrow::Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into()
    } else {
        value.into()
    }
}
