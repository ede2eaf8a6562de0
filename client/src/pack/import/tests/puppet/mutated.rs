//! Damaged modules: a conversion never panics, and what it plans passes the check of agents.

use super::super::super::{plan, puppet, python_facts, source};
use super::*;

const ROUNDS: u64 = 60;

#[test]
fn damaged_modules_are_refused_or_give_packs_that_build() {
    let whole = source::read(&modules().join("shapes"), Format::Puppet).unwrap();
    let facts = python_facts::facts(&whole);
    let texts: Vec<String> =
        whole.files.keys().filter(|path| path.ends_with(".json") || path.ends_with(".pp")).cloned().collect();
    let mut random = fastrand::Rng::with_seed(14);
    let mut planned = 0;
    for _ in 0..ROUNDS {
        let mut tree = whole.clone();
        for _ in 0..random.usize(1..12) {
            let Some(file) = tree.files.get_mut(&texts[random.usize(..texts.len())]) else { continue };
            let bytes = &mut file.bytes;
            let at = random.usize(..=bytes.len());
            match random.u8(..5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, random.u8(..)),
                2 => bytes.splice(at..at, b"Variant[Enum[a], ".iter().copied()).for_each(drop),
                3 => bytes.splice(at..at, b"\", \"x\": \"".iter().copied()).for_each(drop),
                _ => bytes.extend_from_within(..at),
            }
        }
        if let Ok(plan) = puppet::convert(&tree, &facts).and_then(plan::check) {
            planned += 1;
            assert!(plan.files.contains_key("pack.yaml"));
        }
    }
    assert!(planned > 8, "{planned} of {ROUNDS}");
}
