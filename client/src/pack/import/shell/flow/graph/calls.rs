//! Arguments of functions, which are their positional parameters.

use super::{CommandFacts, Given, Graph, LAST_POSITIONAL, POSITIONAL, Source, Use, positional};

impl Graph<'_> {
    /// Returns the positional parameters that an argument of a function may be, or of `set`.
    pub(super) fn arguments(
        &self,
        source: &Source,
        command: &CommandFacts,
        given: &Given,
    ) -> impl Iterator<Item = String> {
        let is_call = self.facts.functions.contains(&command.program);
        // Output of the function itself is none.
        let is_output = source.variable().is_some_and(|name| name.ends_with("()"));
        let is_given = (is_call || command.program == "set") && !is_output;
        let number = given.number.filter(|_| is_call);
        let numbers = match number {
            Some(_) if all_arguments(source) => 0..0,
            Some(number) => number..number + 1,
            None => 1..LAST_POSITIONAL + 1,
        };
        numbers.map(positional).chain([POSITIONAL.to_owned()]).filter(move |_| is_given)
    }

    /// Returns by how many a call with all arguments of another one shifts them.
    pub(super) fn passed_on(&self, source: &Source, place: &Use) -> Option<usize> {
        let Use::Argument(id, Given { number: Some(number), .. }) = place else { return None };
        let command = self.facts.commands.get(*id)?;
        (all_arguments(source) && self.facts.functions.contains(&command.program)).then(|| number.saturating_sub(1))
    }
}

/// True for all positional parameters.
fn all_arguments(source: &Source) -> bool {
    matches!(source, Source::Variable(name) if matches!(name.as_str(), POSITIONAL | "*"))
}
