//! What every command that talks to agents needs: who we are, which instances there are, how to print.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;

use super::failure::{Exit, Failure};
use super::select::SelectArgs;
use super::{Color, terminal};
use crate::config::{self, Config, ConfigError};
use crate::error::Error;
use crate::fleet::{across, plan::DEFAULT_PARALLEL};
use crate::inventory::Instance;
use crate::show;
use crate::tls::Identity;
use crate::{errln, out};

/// Who we are and how to print.
#[derive(Debug)]
pub(super) struct Context {
    /// Print JSON.
    pub(super) json: bool,
    color: Color,
    config: Config,
}

/// One question to several instances, and who did not answer it.
pub(super) struct Answers<T> {
    /// Who answered what, in the order of the inventory.
    pub(super) given: Vec<(Instance, T)>,
    /// Who did not.
    pub(super) failed: Vec<Error>,
}

impl Context {
    pub(super) fn new(json: bool, color: Color, config: Config) -> Context {
        Context { json, color, config }
    }

    /// Returns the configuration in effect.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn identity(&self) -> Result<Identity, Failure> {
        self.config.identity().map_err(|e| from_config(&e))
    }

    /// The instances that the flags choose: at least one.
    pub(super) fn select(&self, select: &SelectArgs) -> Result<Vec<Instance>, Failure> {
        let inventory = self.config.inventory().map_err(|e| from_config(&e))?;
        inventory.select(&select.selection()).map_err(|e| {
            Failure::new(Exit::Usage, e.to_string()).hint("`bolt instances` lists those that the inventory has")
        })
    }

    /// Asks all chosen instances the same, and says who did not answer.
    pub(super) async fn ask<T>(
        &self,
        select: &SelectArgs,
        question: impl AsyncFn(&crate::connection::Agent) -> Result<T, Error>,
    ) -> Result<Answers<T>, Failure> {
        let instances = self.select(select)?;
        let identity = self.identity()?;
        let mut answers = Answers { given: Vec::new(), failed: Vec::new() };
        for (instance, answer) in across(&instances, &identity, DEFAULT_PARALLEL, question).await {
            match answer {
                Ok(answer) => answers.given.push((instance, answer)),
                Err(error) => answers.failed.push(error),
            }
        }
        Ok(answers)
    }

    /// True if standard output takes colour.
    pub(super) fn colored(&self) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::io::stdout().is_terminal(),
        }
    }

    /// Prints a table, cut to the terminal.
    pub(super) fn print_table(&self, heads: &[&str], rows: &[Vec<String>]) {
        out!("{}", show::table(heads, rows, terminal::width()));
    }
}

impl<T> Answers<T> {
    /// Warns of those that did not answer; a failure when nobody did.
    pub(super) fn report(&self) -> Result<Exit, Failure> {
        if self.given.is_empty()
            && let Some(first) = self.failed.first()
        {
            let all_refused = self.failed.iter().all(|error| error.kind.is_refusal());
            let exit = if all_refused { Exit::Refused } else { Exit::Unreachable };
            return Err(Failure { exit, ..nobody(&self.failed, first) });
        }
        for line in grouped(&self.failed) {
            errln!("bolt: {line}");
        }
        Ok(if self.failed.is_empty() { Exit::Success } else { Exit::Failed })
    }

    /// Those that did not answer, for programs.
    pub(super) fn failed_json(&self) -> serde_json::Value {
        self.failed.iter().map(error_json).collect()
    }
}

/// An error of one instance, for programs.
pub(super) fn error_json(error: &Error) -> serde_json::Value {
    serde_json::json!({
        "instance": error.instance,
        "address": error.address,
        "code": error.kind.code(),
        "message": error.kind.to_string(),
    })
}

/// A failure that tells of each instance, when none gave what was asked: what happened is counted, not guessed.
pub(super) fn nobody(failed: &[Error], first: &Error) -> Failure {
    let failure = Failure::from_instance(first);
    if failed.len() == 1 {
        return failure;
    }
    let count = show::counted(failed.len(), "instance");
    let mut message = match failed.iter().map(|error| error.kind.outcome()).collect::<BTreeSet<_>>() {
        outcomes if outcomes.len() == 1 && first.kind.outcome() == "unreachable" => {
            format!("none of {count} answered:")
        }
        outcomes if outcomes.len() == 1 && first.kind.outcome() == "unauthorized" => {
            format!("{count} answered, and none allows it:")
        }
        outcomes => {
            let of = |outcome: &&str| failed.iter().filter(|error| error.kind.outcome() == *outcome).count();
            let counts: Vec<String> = outcomes.iter().map(|outcome| format!("{} {outcome}", of(outcome))).collect();
            format!("none of {count} did it ({}):", counts.join(", "))
        }
    };
    let lines = grouped(failed);
    for line in lines.iter().take(20) {
        message.push_str(&format!("\n  {line}"));
    }
    if lines.len() > 20 {
        message.push_str(&format!("\n  and {} other answers", lines.len() - 20));
    }
    let mut hints: Vec<&str> = Vec::new();
    for hint in failed.iter().filter_map(|error| error.kind.hint()) {
        if !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    let hint = (!hints.is_empty()).then(|| hints.join("; "));
    Failure { message, hint, ..failure }
}

/// A line for each different error, with the instances that it is of.
pub(super) fn grouped(failed: &[Error]) -> Vec<String> {
    let mut groups: Vec<(String, Vec<&Error>)> = Vec::new();
    for error in failed {
        let text = error.kind.to_string();
        match groups.iter_mut().find(|(other, _)| *other == text) {
            Some((_, errors)) => errors.push(error),
            None => groups.push((text, vec![error])),
        }
    }
    let line = |(text, errors): &(String, Vec<&Error>)| match errors[..] {
        [one] => one.to_string(),
        _ => {
            let ids: Vec<&str> = errors.iter().map(|error| error.instance.as_str()).collect();
            format!("{} ({}): {text}", show::counted(ids.len(), "instance"), show::listed(&ids, 10))
        }
    };
    groups.iter().map(line).collect()
}

/// Converts an error of the configuration, with how to give what is missing.
pub(super) fn from_config(error: &ConfigError) -> Failure {
    let failure = Failure::from_error(Exit::Usage, error);
    let ConfigError::Missing { setting, .. } = error else { return failure };
    let path = show::path(&config::default_path().unwrap_or_else(|| "client.toml".into()));
    let (flag, variable) = (setting.flag(), setting.variable());
    failure.hint(match setting.name().split_once('.') {
        Some((table, key)) => format!("give {flag}, set {variable}, or write {key} = \"…\" under [{table}] in {path}"),
        None => format!(
            "give it with {flag}, set {variable}, or make {path} with lines for certificate, key, ca and inventory; `bolt pki` makes \
             certificates, `bolt demo --keep` a whole example, and `bolt config show` says what is configured"
        ),
    })
}
