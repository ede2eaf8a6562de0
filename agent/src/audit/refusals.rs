//! Equal refusals within a window become one entry with a count, so that a flood of them takes bounded memory, space and time.
//!
//! The first of its kind is recorded at once. Those that follow within [`WINDOW`] are counted, and recorded when it ends. A kind is
//! principal, verb and code: a caller may name any action, so the action is not part of it. Beyond [`MAX_KINDS`] kinds at a time,
//! refusals are counted together.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use packs_schema::agent::audit::Entry;

/// Time within which equal refusals are counted together.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Maximum number of kinds that are counted apart.
const MAX_KINDS: usize = 256;
/// Verb of the entry of all others.
const OTHERS: &str = "others";

#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind {
    principal: Option<String>,
    verb: String,
    code: Option<String>,
    local: bool,
}

/// Refusals of one kind in the present window.
#[derive(Debug)]
struct Counted {
    begun: Instant,
    /// Number after the first.
    count: u64,
    first_ms: u64,
    last: Entry,
}

/// Refusals of the present windows.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    kinds: HashMap<Kind, Counted>,
    others: Option<Counted>,
}

impl Counted {
    fn first(entry: &Entry, now: Instant) -> Counted {
        Counted { begun: now, count: 0, first_ms: entry.at_ms, last: entry.clone() }
    }

    fn add(&mut self, entry: &Entry) {
        if self.count == 0 {
            self.first_ms = entry.at_ms;
        }
        self.count += 1;
        self.last = entry.clone();
    }

    /// Returns the entry of those after the first.
    fn finish(self) -> Option<Entry> {
        let Counted { count, first_ms, last, .. } = self;
        (count > 0).then_some(Entry { count: Some(count), first_ms: Some(first_ms), ..last })
    }
}

impl Refusals {
    /// Counts a refusal; returns the entry to record now, if any.
    pub(super) fn add(&mut self, entry: Entry, now: Instant) -> Option<Entry> {
        let kind = Kind {
            principal: entry.principal.clone(),
            verb: entry.verb.clone(),
            code: entry.code.clone(),
            local: entry.local,
        };
        if let Some(counted) = self.kinds.get_mut(&kind) {
            counted.add(&entry);
            return None;
        }
        if self.kinds.len() < MAX_KINDS {
            self.kinds.insert(kind, Counted::first(&entry, now));
            return Some(entry);
        }
        // No name of a caller is kept: the count stands for several.
        let entry = Entry { verb: OTHERS.to_owned(), ..Entry::new(entry.at_ms, OTHERS, entry.outcome) };
        self.others.get_or_insert_with(|| Counted::first(&entry, now)).add(&entry);
        None
    }

    /// Returns the entries of windows that have ended, or of all.
    pub(super) fn take_ended(&mut self, now: Instant, all: bool) -> Vec<Entry> {
        let has_ended = |counted: &Counted| all || now.duration_since(counted.begun) >= WINDOW;
        let ended = self.kinds.extract_if(|_, counted| has_ended(counted));
        let mut entries: Vec<Entry> = ended.filter_map(|(_, counted)| counted.finish()).collect();
        entries.extend(self.others.take_if(|counted| has_ended(counted)).and_then(Counted::finish));
        entries.sort_by_key(|entry| entry.at_ms);
        entries
    }

    /// Returns when the next window ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.kinds.values().chain(&self.others).map(|counted| counted.begun + WINDOW).min()
    }
}

#[cfg(test)]
mod tests {
    use packs_schema::agent::audit::Outcome;

    use super::*;

    fn refusal(at_ms: u64, principal: &str, code: &str) -> Entry {
        Entry { code: Some(code.to_owned()), ..Entry::new(at_ms, "run", Outcome::Refused).by(principal) }
    }

    #[test]
    fn equal_refusals_within_a_window_are_one_entry_with_a_count() {
        let (mut refusals, begun) = (Refusals::default(), Instant::now());
        let first = refusal(1, "spiffe://x/ann", "forbidden");
        assert_eq!(refusals.add(first.clone(), begun), Some(first));
        assert!(refusals.add(refusal(2, "spiffe://x/bob", "forbidden"), begun).is_some(), "another caller");
        assert!(refusals.add(refusal(3, "spiffe://x/ann", "busy"), begun).is_some(), "another code");
        for at_ms in 4..104 {
            assert_eq!(refusals.add(refusal(at_ms, "spiffe://x/ann", "forbidden"), begun), None);
        }
        assert_eq!(refusals.take_ended(begun, false), []);
        let last = refusal(103, "spiffe://x/ann", "forbidden");
        let counted = Entry { count: Some(100), first_ms: Some(4), ..last };
        assert_eq!(refusals.take_ended(begun + WINDOW, false), [counted]);
        assert_eq!(refusals.next_end(), None);
        assert!(refusals.add(refusal(200, "spiffe://x/ann", "forbidden"), begun + WINDOW).is_some(), "a new window");
    }

    #[test]
    fn a_flood_of_kinds_takes_bounded_memory_and_none_is_uncounted() {
        let (mut refusals, begun) = (Refusals::default(), Instant::now());
        let flood =
            (0..10_000).filter_map(|n| refusals.add(refusal(n, &format!("spiffe://x/{n}"), "forbidden"), begun));
        assert_eq!(flood.count(), MAX_KINDS);
        let others = refusals.take_ended(begun + WINDOW, false);
        assert_eq!(others.len(), 1);
        assert_eq!((others[0].count, others[0].verb.as_str()), (Some(10_000 - MAX_KINDS as u64), OTHERS));
        assert_eq!(others[0].principal, None);
    }
}
