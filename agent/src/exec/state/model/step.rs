//! A step from one world to the next.

use super::world::World;

/// Cause of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Happens by itself, sooner or later.
    Itself,
    /// May happen or not: a client, a deadline.
    Choice,
    /// A fault.
    Fault,
}

/// Step: cause, description, execution, and the world after it.
pub(super) struct Step {
    pub(super) cause: Cause,
    pub(super) what: &'static str,
    pub(super) at: usize,
    pub(super) to: World,
}

/// Adds a step: cause, description, execution, and change of the world.
pub(super) type AddStep<'a> = dyn FnMut(Cause, &'static str, usize, &dyn Fn(&mut World)) + 'a;
