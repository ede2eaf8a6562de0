//! Breadth-first search over all worlds: finds the shortest path to a wrong one, and checks that all paths end at rest.

use std::collections::HashMap;
use std::fmt;

use super::step::{Cause, Step};
use super::world::World;
use super::{Decisions, api, host};

/// Maximum number of worlds; a scenario that exceeds it must be made smaller.
const MAX: usize = 2_000_000;

/// Statistics of a search.
pub(super) struct Seen {
    worlds: usize,
    steps: usize,
    at_rest: usize,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} worlds, {} steps, {} at rest", self.worlds, self.steps, self.at_rest)
    }
}

/// Violation, and the shortest path to it.
pub(super) struct Wrong {
    what: String,
    path: Vec<String>,
    world: World,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        for (n, step) in self.path.iter().enumerate() {
            writeln!(f, "  {:2}. {step}", n + 1)?;
        }
        write!(f, "  then: {:?}", self.world)
    }
}

/// Explores all worlds that can follow from `begin`.
pub(super) fn explore(begin: World, decisions: &Decisions) -> Result<Seen, Box<Wrong>> {
    let mut found: HashMap<World, u32> = HashMap::from([(begin.clone(), 0)]);
    let mut worlds = vec![begin];
    let mut from: Vec<(u32, &'static str, usize)> = vec![(0, "", 0)];
    // For steps that are not faults: their number per world, and the edges (target, source).
    let mut out_degrees = vec![0_u32];
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut seen = Seen { worlds: 0, steps: 0, at_rest: 0 };
    let mut next = 0;
    while next < worlds.len() {
        let world = worlds[next].clone();
        let mut steps = Vec::new();
        api::steps(&world, decisions, &mut steps);
        host::steps(&world, &mut steps);
        let number = |n: usize| u32::try_from(n).expect("fewer worlds than that");
        if !steps.iter().any(|step| step.cause == Cause::Itself) {
            seen.at_rest += 1;
            world.check_at_rest().map_err(|what| wrong(what, &worlds, &from, next))?;
        }
        for Step { cause, what, at, to } in steps {
            seen.steps += 1;
            let checked = to.check(&world);
            let target = match found.get(&to) {
                Some(known) => *known,
                None => {
                    let new = number(worlds.len());
                    found.insert(to.clone(), new);
                    worlds.push(to);
                    from.push((number(next), what, at));
                    out_degrees.push(0);
                    new
                }
            };
            checked.map_err(|what| wrong(what, &worlds, &from, target as usize))?;
            if cause != Cause::Fault {
                out_degrees[next] += 1;
                edges.push((target, number(next)));
            }
        }
        assert!(worlds.len() <= MAX, "more than {MAX} worlds: {seen}");
        next += 1;
    }
    seen.worlds = worlds.len();
    if let Some(on_cycle) = find_cycle(&mut edges, &mut out_degrees) {
        return Err(wrong("it may cycle and never come to rest", &worlds, &from, on_cycle));
    }
    Ok(seen)
}

/// Finds a world on a cycle: repeatedly removes worlds without outgoing edges.
fn find_cycle(edges: &mut [(u32, u32)], out_degrees: &mut [u32]) -> Option<usize> {
    edges.sort_unstable();
    let mut ready: Vec<u32> = (0..).zip(out_degrees.iter()).filter(|(_, ways)| **ways == 0).map(|(n, _)| n).collect();
    while let Some(target) = ready.pop() {
        let first = edges.partition_point(|(to, _)| *to < target);
        for (_, source) in edges[first..].iter().take_while(|(to, _)| *to == target) {
            let ways = &mut out_degrees[*source as usize];
            *ways -= 1;
            if *ways == 0 {
                ready.push(*source);
            }
        }
    }
    out_degrees.iter().position(|ways| *ways > 0)
}

fn wrong(what: &str, worlds: &[World], from: &[(u32, &'static str, usize)], at: usize) -> Box<Wrong> {
    let mut path = Vec::new();
    let mut here = at;
    while here != 0 {
        let (before, step, execution) = from[here];
        path.push(format!("{step} ({execution})"));
        here = before as usize;
    }
    path.reverse();
    Box::new(Wrong { what: what.to_owned(), path, world: worlds[at].clone() })
}
