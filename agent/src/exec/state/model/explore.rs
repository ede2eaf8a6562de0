//! Breadth first through all worlds, each once; the way to the first that is wrong; and whether all comes to rest.

use std::collections::HashMap;
use std::fmt;

use super::world::World;
use super::{Decisions, api, host};

/// The most worlds; a bound that grows past it is to be made smaller.
const MOST: usize = 2_000_000;

/// Who takes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// It comes by itself, sooner or later.
    Itself,
    /// It may come, or never: a client, a deadline.
    Choice,
    /// A fault.
    Fault,
}

/// A step: by whom, what, for which execution, and the world after it.
pub(super) struct Step {
    pub(super) by: By,
    pub(super) what: &'static str,
    pub(super) at: usize,
    pub(super) to: World,
}

/// How much was looked at.
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

/// What is wrong, and the shortest way there.
pub(super) struct Wrong {
    what: String,
    way: Vec<String>,
    world: World,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        for (n, step) in self.way.iter().enumerate() {
            writeln!(f, "  {:2}. {step}", n + 1)?;
        }
        write!(f, "  then: {:?}", self.world)
    }
}

/// All worlds that can come of `begin`.
pub(super) fn explore(begin: World, decisions: &Decisions) -> Result<Seen, Box<Wrong>> {
    let mut found: HashMap<World, u32> = HashMap::from([(begin.clone(), 0)]);
    let mut worlds = vec![begin];
    let mut from: Vec<(u32, &'static str, usize)> = vec![(0, "", 0)];
    // Of the steps that are no faults: how many lead on from a world, and from where they come.
    let mut ways_on = vec![0_u32];
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut seen = Seen { worlds: 0, steps: 0, at_rest: 0 };
    let mut next = 0;
    while next < worlds.len() {
        let world = worlds[next].clone();
        let mut steps = Vec::new();
        api::steps(&world, decisions, &mut steps);
        host::steps(&world, &mut steps);
        let number = |n: usize| u32::try_from(n).expect("fewer worlds than that");
        if !steps.iter().any(|step| step.by == By::Itself) {
            seen.at_rest += 1;
            world.check_at_rest().map_err(|what| wrong(what, &worlds, &from, next))?;
        }
        for Step { by, what, at, to } in steps {
            seen.steps += 1;
            let checked = to.check(&world);
            let target = match found.get(&to) {
                Some(known) => *known,
                None => {
                    let new = number(worlds.len());
                    found.insert(to.clone(), new);
                    worlds.push(to);
                    from.push((number(next), what, at));
                    ways_on.push(0);
                    new
                }
            };
            checked.map_err(|what| wrong(what, &worlds, &from, target as usize))?;
            if by != By::Fault {
                ways_on[next] += 1;
                edges.push((target, number(next)));
            }
        }
        assert!(worlds.len() <= MOST, "more than {MOST} worlds: {seen}");
        next += 1;
    }
    seen.worlds = worlds.len();
    if let Some(circling) = circle(&mut edges, &mut ways_on) {
        return Err(wrong("it may go round in circles and never come to rest", &worlds, &from, circling));
    }
    Ok(seen)
}

/// A world from which steps lead round in a circle: worlds without a way on are taken away until none is left.
fn circle(edges: &mut [(u32, u32)], ways_on: &mut [u32]) -> Option<usize> {
    edges.sort_unstable();
    let mut ready: Vec<u32> = (0..).zip(ways_on.iter()).filter(|(_, ways)| **ways == 0).map(|(n, _)| n).collect();
    while let Some(target) = ready.pop() {
        let first = edges.partition_point(|(to, _)| *to < target);
        for (_, source) in edges[first..].iter().take_while(|(to, _)| *to == target) {
            let ways = &mut ways_on[*source as usize];
            *ways -= 1;
            if *ways == 0 {
                ready.push(*source);
            }
        }
    }
    ways_on.iter().position(|ways| *ways > 0)
}

fn wrong(what: &str, worlds: &[World], from: &[(u32, &'static str, usize)], at: usize) -> Box<Wrong> {
    let mut way = Vec::new();
    let mut here = at;
    while here != 0 {
        let (before, step, execution) = from[here];
        way.push(format!("{step} ({execution})"));
        here = before as usize;
    }
    way.reverse();
    Box::new(Wrong { what: what.to_owned(), way, world: worlds[at].clone() })
}
