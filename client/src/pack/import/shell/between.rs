//! Files that one script writes and another one, which runs before or after it, runs.

use super::Rewritten;
use super::files::{Files, InFile, Run, is_run};
use super::flow::Need;
use super::limit::Input;

/// Applies what scripts that run one after the other need of values in files that one writes and another one runs.
pub(in crate::pack::import) fn follow_between(scripts: &mut [Rewritten]) {
    let files: Vec<Files> = scripts.iter().map(|script| script.files.clone()).collect();
    for (to, runs) in files.iter().enumerate() {
        for (_, writes) in files.iter().enumerate().filter(|(from, _)| *from != to) {
            let directories = [writes.directories.as_slice(), &runs.directories].concat();
            for (written, values) in &writes.written {
                for run in runs.runs.iter().filter(|run| is_run(written, run, &directories)) {
                    apply(&mut scripts[to], run, values);
                }
            }
        }
    }
}

fn apply(script: &mut Rewritten, run: &Run, values: &InFile) {
    let named = values.firsts.iter().filter(|_| run.input == Input::Shell);
    for index in values.chosen.iter().chain(named) {
        if !script.programs.contains(index) {
            script.programs.push(*index);
        }
    }
    for (index, limit) in &values.parts {
        if run.limit > *limit {
            let reader = "a file of code that another step writes".to_owned();
            script.needs.push((*index, Need { limit: run.limit, reader, followed: true }));
        }
    }
}
