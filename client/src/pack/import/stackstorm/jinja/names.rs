//! Parameters that a template may refer to.

use std::collections::BTreeMap;

use super::Piece;

/// Type of a parameter that a template may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pack::import::stackstorm) enum Kind {
    Text,
    Number,
    Boolean,
    List,
    Other,
}

/// Parameters that a template may refer to.
#[derive(Debug, Default)]
pub(in crate::pack::import::stackstorm) struct Names {
    /// By the name in the template: the name in Bolt, the kind, and true if it is always given.
    pub(in crate::pack::import::stackstorm) parameters: BTreeMap<String, (String, Kind, bool)>,
    /// Defaults that are templates themselves, by the name in the template.
    pub(in crate::pack::import::stackstorm) computed: BTreeMap<String, Vec<Piece>>,
}
