//! Damaged sources: a conversion never panics, and what it plans passes the check of agents.

use super::super::source::{self, SourceTree};
use super::super::{plan, python_facts, stackstorm};
use super::*;

const ROUNDS: u64 = 60;

/// Changes, removes and repeats bytes of some text files.
fn damage(tree: &mut SourceTree, random: &mut fastrand::Rng) {
    let texts: Vec<String> = tree.files.keys().filter(|path| path.ends_with(".yaml")).cloned().collect();
    for _ in 0..random.usize(1..8) {
        let Some(file) = tree.files.get_mut(&texts[random.usize(..texts.len())]) else { continue };
        let bytes = &mut file.bytes;
        let at = random.usize(..=bytes.len());
        match random.u8(..5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.u8(..)),
            2 => bytes.splice(at..at, b"{{ x | y }}".iter().copied()).for_each(drop),
            3 => bytes.splice(at..at, b": [{a: &b, c: *b}]\n".iter().copied()).for_each(drop),
            _ => bytes.extend_from_within(..at),
        }
    }
}

#[test]
fn damaged_sources_are_refused_or_give_packs_that_build() {
    let whole = source::read(&shapes(), Format::StackStorm).unwrap();
    let facts = python_facts::facts(&whole);
    let mut random = fastrand::Rng::with_seed(14);
    let mut planned = 0;
    for _ in 0..ROUNDS {
        let mut tree = whole.clone();
        damage(&mut tree, &mut random);
        if let Ok(plan) = stackstorm::convert(&tree, &facts, None).and_then(plan::check) {
            planned += 1;
            assert!(plan.files.contains_key("pack.yaml"));
        }
    }
    assert!(planned > 8, "{planned} of {ROUNDS}");
}
