//! Whether a caller may see an action.

use packs_schema::base::name::ActionRef;
use packs_schema::pack::action::Class;

use crate::access::Caller;
use crate::registry::Registry;

/// Returns the class of an action that is installed here.
pub(super) fn class_of(registry: &Registry, action: &ActionRef) -> Option<Class> {
    registry.action(action).ok().flatten().map(|active| active.action.class)
}

/// True if a grant of the caller's covers the action. Its class is looked up only where a grant is limited to classes.
pub(super) fn covers(registry: &Registry, caller: &Caller, action: &ActionRef) -> bool {
    caller.covers(action, None) || class_of(registry, action).is_some_and(|class| caller.covers(action, Some(class)))
}
