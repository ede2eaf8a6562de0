//! Values of a rewritten command, judged by what reads them.
//!
//! ```text
//!  Analysed: text and places, as the writer understands them ──shell::rewrite──▶ limits, programs, refusals by place
//!                                                                               └─origins──▶ the same by parameter
//! ```
//!
//! `shell::rewrite` puts a value at each place itself. Its script must be the one that was expected, so that a place of
//! which the two scanners have another idea refuses the command. A place with filters, a condition or a computed default
//! has several parameters behind it: a limit of the place is one of each of them.

use std::collections::BTreeSet;

use super::names::{MadeOf, Origin};
use super::{Outcome, Refused};
use crate::pack::import::shell::{self, Limit, Need, Part, ScriptValue};

/// Place of a value in a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Variable that holds the value.
    pub(super) variable: String,
    pub(super) made: MadeOf,
    /// The parameter, if its value is here as callers give it.
    pub(super) plain: Option<String>,
    /// Becomes several words.
    pub(super) words: bool,
    /// Callers choose options with these words.
    pub(super) options: bool,
    /// No word where it is empty.
    pub(super) omitted: bool,
    /// The script checks that it does not begin with `-`.
    pub(super) guarded: bool,
}

/// Command as the writer understands it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::pack::import::stackstorm) struct Analysed {
    parts: Vec<Part>,
    /// The script that `shell::rewrite` makes of it if it understands all places as the writer does.
    expected: String,
    pub(super) places: Vec<Place>,
}

impl Analysed {
    /// Adds text of the author.
    pub(in crate::pack::import::stackstorm) fn text(&mut self, text: &str) {
        self.parts.push(Part::Text(text.to_owned()));
        self.expected.push_str(text);
    }

    /// Adds a place that is expected to become this text.
    pub(super) fn place(&mut self, place: Place, expected: &str) {
        self.parts.push(Part::Value(self.places.len()));
        self.places.push(place);
        self.expected.push_str(expected);
    }

    /// Adds a variable of the environment that is computed of values.
    pub(in crate::pack::import::stackstorm) fn export(&mut self, name: &str, made: MadeOf) {
        let variable = format!("ENVIRONMENT_{}", self.places.len());
        self.text(&format!("export {name}="));
        let expected = format!("\"${{{variable}}}\"");
        let (plain, words, options, omitted, guarded) = (None, false, false, false, false);
        self.place(Place { variable, made, plain, words, options, omitted, guarded }, &expected);
        self.text("\n");
    }

    /// True if a value is in it.
    pub(in crate::pack::import::stackstorm) fn has_places(&self) -> bool {
        !self.places.is_empty()
    }

    /// Adds another text with its places.
    pub(in crate::pack::import::stackstorm) fn append(&mut self, other: Analysed) {
        let shift = self.places.len();
        self.parts.extend(other.parts.into_iter().map(|part| match part {
            Part::Value(index) => Part::Value(index + shift),
            text => text,
        }));
        self.expected.push_str(&other.expected);
        self.places.extend(other.places);
    }
}

/// Characters that the schema of a value lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pack::import::stackstorm) struct Allowed {
    pub(in crate::pack::import::stackstorm) limit: Limit,
    /// All values are the author's.
    pub(in crate::pack::import::stackstorm) listed: bool,
    /// Blanks, and characters that no shell gives a meaning to.
    pub(in crate::pack::import::stackstorm) plain: bool,
}

/// Judgement of a command, by the names of its parameters in the source.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::pack::import::stackstorm) struct Judged {
    /// Limits beyond the schemas.
    pub(in crate::pack::import::stackstorm) needs: Vec<(String, Need)>,
    /// Parameters that name a program, or the directory of one; `true` where the value is the name as callers give it.
    pub(in crate::pack::import::stackstorm) programs: Vec<(String, bool)>,
    /// Parameters of which words are options of a program that these make start others.
    pub(in crate::pack::import::stackstorm) options: Vec<String>,
    /// Parameters that must not begin with `-`.
    pub(in crate::pack::import::stackstorm) operands: Vec<String>,
    /// Of these, those that may be cut into words first.
    pub(in crate::pack::import::stackstorm) cut: Vec<String>,
}

/// Judges a command; `allowed` says what the schemas let through.
pub(in crate::pack::import::stackstorm) fn judge(
    command: &Analysed,
    allowed: &dyn Fn(&Origin) -> Allowed,
) -> Outcome<Judged> {
    let values: Vec<ScriptValue> = command.places.iter().map(|place| value(place, allowed)).collect();
    let done = shell::rewrite(&command.parts, &values, &[]).map_err(|refused| Refused::new(refused.to_string()))?;
    if done.script != command.expected {
        return Err(Refused::new(
            "a value at a place in shell syntax that is not clear; write it as a word of its own",
        ));
    }
    let mut judged = Judged::default();
    for (index, need) in done.needs {
        let place = &command.places[index];
        if place.made.adds && !values[index].listed {
            return Err(Refused::new(format!("a filter that adds text to a value which {} would run", need.reader)));
        }
        for (origin, _) in open(place, allowed).filter(|(_, allowed)| allowed.limit < need.limit) {
            let name = parameter(origin, || format!("which {} would run as code", need.reader))?;
            judged.needs.push((name, need.clone()));
        }
    }
    for place in done.programs.iter().map(|index| &command.places[*index]) {
        for (origin, _) in open(place, allowed) {
            let name = parameter(origin, || "which names a program".to_owned())?;
            let is_plain = place.plain.as_ref() == Some(&name);
            judged.programs.push((name, is_plain));
        }
    }
    let options = done.by_options.iter().map(|index| &command.places[*index]).filter(|place| place.options);
    judged.options = names(options, allowed);
    let unguarded = |list: &[usize]| {
        names(list.iter().map(|index| &command.places[*index]).filter(|place| !place.guarded), allowed)
    };
    (judged.operands, judged.cut) = (unguarded(&done.operands), unguarded(&done.cut));
    Ok(judged)
}

/// Returns the value at a place.
fn value(place: &Place, allowed: &dyn Fn(&Origin) -> Allowed) -> ScriptValue {
    let known: Vec<Allowed> = place.made.origins.iter().map(allowed).collect();
    let is_plain = place.plain.is_some();
    let limit = match (is_plain, &known[..]) {
        (true, [one]) => one.limit,
        // Filters and text beside it add characters.
        _ => Limit::Free,
    };
    let names: Vec<String> = place.made.origins.iter().map(ToString::to_string).collect();
    ScriptValue {
        name: names.join(", "),
        variable: place.variable.clone(),
        limit,
        listed: known.iter().all(|one| one.listed),
        plain: is_plain && known.iter().all(|one| one.plain),
        words: place.words,
        omitted: place.omitted,
    }
}

/// Returns the values of a place that their authors have not listed.
fn open<'a>(
    place: &'a Place,
    allowed: &'a dyn Fn(&Origin) -> Allowed,
) -> impl Iterator<Item = (&'a Origin, Allowed)> + 'a {
    place.made.origins.iter().map(move |origin| (origin, allowed(origin))).filter(|(_, allowed)| !allowed.listed)
}

/// Returns the name of a parameter. A value of the site's configuration has no schema that could limit it here.
fn parameter(origin: &Origin, why: impl FnOnce() -> String) -> Outcome<String> {
    match origin {
        Origin::Parameter(name) => Ok(name.clone()),
        Origin::Config(_) => Err(Refused::new(format!("{origin}, {}", why()))),
    }
}

fn names<'a>(places: impl Iterator<Item = &'a Place>, allowed: &dyn Fn(&Origin) -> Allowed) -> Vec<String> {
    let mut found = BTreeSet::new();
    for place in places {
        for (origin, _) in open(place, allowed) {
            if let Origin::Parameter(name) = origin {
                found.insert(name.clone());
            }
        }
    }
    found.into_iter().collect()
}
