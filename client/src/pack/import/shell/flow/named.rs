//! Scripts in which a value names a program: it may be a shell, or a builtin of this one, which makes code of what is
//! beside its name. So nothing there may be more than a word, and no file may be of a caller's choice or making.

use std::collections::BTreeMap;

use super::graph::{Graph, Origins, Taint};
use super::{Facts, Need, Use, of};
use crate::pack::import::shell::limit::Limit;
use crate::pack::import::shell::{Refused, ScriptValue, files, programs};

/// Command whose program a value names.
pub(super) struct Named {
    pub(super) value: usize,
    pub(super) command: usize,
}

/// Refuses a script in which a value beside the name of a program may be more than an argument, and limits the others.
pub(super) fn check(
    graph: &Graph<'_>,
    values: &[ScriptValue],
    all: &Origins,
    named: &[Named],
    needs: &mut BTreeMap<usize, Need>,
) -> Result<(), Refused> {
    let facts = graph.facts;
    let limit = |needs: &mut BTreeMap<usize, Need>, index: usize, named: &Named, followed: bool| {
        if values[index].limit < Limit::Path && needs.get(&index).is_none_or(|need| need.limit < Limit::Path) {
            let reader = format!("the program that {} names", values[named.value].name);
            needs.insert(index, Need { limit: Limit::Path, reader, followed });
        }
    };
    for named in named {
        for index in graph.given_to(named.command, all) {
            limit(needs, index, named, true);
        }
    }
    let beside = |index: usize, what: &str| Refused::new(format!("{} names a program, {what}", values[index].name));
    if let Some(named) = named.iter().find(|named| needs.contains_key(&named.value)) {
        return Err(beside(named.value, "and is code besides"));
    }
    let Some(first) = named.first() else { return Ok(()) };
    // A program could be one of these files.
    if writes_files(facts) {
        return Err(beside(first.value, "in a script that writes files"));
    }
    let own = graph.origins(values, Taint::Own, None);
    for (source, place) in &facts.uses {
        if of(source, &own).iter().all(|index| values[*index].listed) {
            continue;
        }
        let is_only_name = |index: &usize| named.iter().all(|named| named.value == *index);
        let names = |command: &usize| named.iter().find(|named| named.command == *command);
        match place {
            Use::File(_) => return Err(beside(first.value, "in a script in which callers choose a file that is read")),
            Use::Beside(command, true) if names(command).is_some() => {
                return Err(beside(first.value, "beside code in quotes, which runs what callers choose"));
            }
            Use::Argument(command, _) => {
                let program = facts.commands.get(*command).map_or("", |command| &command.program);
                let reads = programs::fetches(program) && facts.commands[*command].fetches || programs::copies(program);
                if reads || named.iter().any(|named| graph.feeds(*command, named.command)) {
                    return Err(beside(
                        first.value,
                        &format!("in a script in which callers choose what {program} reads"),
                    ));
                }
                if graph.is_decoded(*command) && !of(source, &own).iter().all(is_only_name) {
                    return Err(beside(first.value, "in a script that decodes text"));
                }
            }
            _ => {}
        }
    }
    // A builtin may evaluate a variable whose name it is given (`let`), or code in quotes that reads one.
    for (index, value) in values.iter().enumerate().filter(|(_, value)| !value.listed) {
        let is_only_name = named.iter().all(|named| named.value == index);
        if !is_only_name && value.limit < Limit::Path {
            limit(needs, index, first, false);
        }
    }
    Ok(())
}

/// True if the script writes files with redirections.
fn writes_files(facts: &Facts) -> bool {
    !facts.written.iter().all(|file| files::is_stream(file))
}
