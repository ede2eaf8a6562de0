//! State shared by all commands that talk to agents: client identity, inventory, output format.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher as _;
use std::io::IsTerminal as _;
use std::sync::OnceLock;

use packs_schema::base::name::InstanceId;
use tokio::sync::OnceCell;

use super::failure::{Exit, Failure};
use super::select::{self, ExplicitSelectArgs, SelectArgs};
use super::{Color, expiry, terminal, waiting};
use crate::config::{self, Config, ConfigError};
use crate::error::Error;
use crate::fleet::{DEFAULT_PARALLEL, across};
use crate::inventory::{GatherOptions, Gathered, IdPattern, Instance, Inventory, Missing};
use crate::phase::Phase;
use crate::runner;
use crate::show;
use crate::tls::Identity;
use crate::{errln, out};

/// Client identity, inventory and output format.
#[derive(Debug)]
pub(super) struct Context {
    /// Print JSON.
    pub(super) json: bool,
    color: Color,
    config: Config,
    /// Gathered once: a command that selects several times asks the sources once, and warns once.
    inventory: OnceCell<Gathered>,
    /// Ids of standard input, which can be read once.
    stdin: OnceCell<Vec<IdPattern>>,
    /// Seed of a sample for which none was given, once it is drawn and printed.
    seed: OnceLock<u64>,
}

/// Answers of several instances to one request.
pub(super) struct Answers<T> {
    /// Answers, in the order of the inventory.
    pub(super) given: Vec<(Instance, T)>,
    /// Errors of the instances that gave none.
    pub(super) failed: Vec<Error>,
}

impl Context {
    pub(super) fn new(json: bool, color: Color, config: Config) -> Context {
        Context { json, color, config, inventory: OnceCell::new(), stdin: OnceCell::new(), seed: OnceLock::new() }
    }

    /// Returns the configuration in effect.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn identity(&self) -> Result<Identity, Failure> {
        let identity = self.config.identity().map_err(|e| from_config(&e))?;
        expiry::warn(&identity);
        Ok(identity)
    }

    /// Returns the inventory; prints warnings and what is missing.
    async fn inventory(&self, options: GatherOptions) -> Result<&Gathered, Failure> {
        self.inventory
            .get_or_try_init(async || {
                let what = format!("the inventory: {}", self.config.source_names().join(", "));
                let gathering = waiting::saying(&what, self.config.inventory(options));
                let gathered = gathering.await.map_err(|e| from_config(&e))?;
                for one in &gathered.missing {
                    errln!("bolt: missing in the inventory: {}", show::visible_lines(&one.to_string()));
                }
                gathered.warnings.iter().for_each(|warning| errln!("bolt: {warning}"));
                Ok(gathered)
            })
            .await
    }

    /// Returns what is missing in the inventory, for programs.
    pub(super) fn missing_json(&self) -> serde_json::Value {
        let missing = self.inventory.get().map(|gathered| gathered.missing.as_slice()).unwrap_or_default();
        let entry = |one: &Missing| serde_json::json!({ "source": one.source, "message": one.error.message });
        missing.iter().map(entry).collect()
    }

    /// Adds what is missing in the inventory to the answer of a command, if anything is.
    pub(super) fn with_missing(&self, mut answer: serde_json::Value) -> serde_json::Value {
        if self.inventory.get().is_some_and(|gathered| !gathered.missing.is_empty()) {
            answer["missing"] = self.missing_json();
        }
        answer
    }

    /// Returns the instances that the options choose: at least one.
    pub(super) async fn select(&self, select: &SelectArgs) -> Result<Vec<Instance>, Failure> {
        let mut more: Vec<IdPattern> = match select.reads_stdin() {
            true => self.stdin.get_or_try_init(select::read_stdin).await?.clone(),
            false => Vec::new(),
        };
        let seed = self.seed(select);
        let of_run = select.of_run(&self.config).await?;
        let gathered = self.inventory(select.gather_options()).await?;
        if let Some(ids) = of_run {
            more.extend(still_there(ids, &gathered.inventory)?.into_iter().map(IdPattern::from));
        }
        gathered.inventory.select(&select.selection(&more, seed)).map_err(|e| {
            Failure::new(Exit::Usage, e.to_string()).hint("`bolt instances` lists the instances of the inventory")
        })
    }

    /// Draws the seed of a sample for which none was given, and prints it.
    fn seed(&self, select: &SelectArgs) -> u64 {
        *self.seed.get_or_init(|| {
            // Short enough to be typed.
            let seed = RandomState::new().hash_one(std::process::id()) % 1_000_000;
            if select.has_random_seed() {
                errln!("bolt: --seed {seed} chooses the same sample again");
            }
            seed
        })
    }

    /// Returns the instances that the options of `command` choose. Without any option this is an error, unless the inventory
    /// has exactly one instance: then there is nothing to choose.
    pub(super) async fn select_explicit(
        &self,
        command: &str,
        select: &ExplicitSelectArgs,
    ) -> Result<Vec<Instance>, Failure> {
        let chosen = self.select(&select.select).await?;
        // Of the inventory, not of the choice: a sample of one is no reason to take it for what was meant.
        let known = self.inventory.get().map_or(chosen.len(), |gathered| gathered.inventory.instances().len());
        if !select.is_empty() || known == 1 {
            return Ok(chosen);
        }
        let message = format!(
            "`bolt {command}` needs to know which instances: the inventory has {}",
            show::counted(known, "instance")
        );
        let hint = "choose with --on, --where, --region or --zone, or use --everywhere for all instances";
        Err(Failure::new(Exit::Usage, message).hint(hint))
    }

    /// Sends the same request to all chosen instances.
    pub(super) async fn ask<T>(
        &self,
        select: &SelectArgs,
        question: impl AsyncFn(&crate::connection::Agent) -> Result<T, Error>,
    ) -> Result<Answers<T>, Failure> {
        let instances = self.select(select).await?;
        Ok(ask(&instances, &self.identity()?, question).await)
    }

    /// True if standard output is to be coloured.
    pub(super) fn colored(&self) -> bool {
        self.colored_if(std::io::stdout().is_terminal())
    }

    /// The same for an output that is a terminal or not.
    pub(super) fn colored_if(&self, is_terminal: bool) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && is_terminal,
        }
    }

    /// Prints a table, cut to the width of the terminal.
    pub(super) fn print_table(&self, heads: &[&str], rows: &[Vec<String>]) {
        out!("{}", show::table(heads, rows, terminal::width()));
    }
}

/// Returns the instances of an earlier run that the inventory still has, and names the others: at least one is there.
fn still_there(ids: Vec<InstanceId>, inventory: &Inventory) -> Result<Vec<InstanceId>, Failure> {
    let (there, gone) = runner::still_there(ids, inventory);
    let count = show::counted(gone.len(), "instance");
    let names = show::listed(&gone, 8);
    if there.is_empty() && !gone.is_empty() {
        return Err(Failure::new(Exit::Usage, format!("the inventory no longer has {names}")));
    }
    if !gone.is_empty() {
        errln!("bolt: {count} of the run left out: the inventory no longer has {names}");
    }
    Ok(there)
}

/// Sends the same request to these instances.
pub(super) async fn ask<T>(
    instances: &[Instance],
    identity: &Identity,
    question: impl AsyncFn(&crate::connection::Agent) -> Result<T, Error>,
) -> Answers<T> {
    let mut answers = Answers { given: Vec::new(), failed: Vec::new() };
    for (instance, answer) in across(instances, identity, DEFAULT_PARALLEL, question).await {
        match answer {
            Ok(answer) => answers.given.push((instance, answer)),
            Err(error) => answers.failed.push(error),
        }
    }
    answers
}

impl<T> Answers<T> {
    /// Warns of instances that did not answer; a failure when none did.
    pub(super) fn report(&self) -> Result<Exit, Failure> {
        if self.given.is_empty()
            && let Some(first) = self.failed.first()
        {
            return Err(Failure { exit: exit_of_none(&self.failed), ..none_answered(&self.failed, first) });
        }
        for line in bounded(&self.failed) {
            errln!("bolt: {line}");
        }
        Ok(if self.failed.is_empty() { Exit::Success } else { Exit::Failed })
    }

    /// Like [`Answers::report`], for a command that does nothing more than to list the answers: also says why it ends with
    /// exit code 1.
    pub(super) fn report_final(&self) -> Result<Exit, Failure> {
        let exit = self.report()?;
        say_unanswered(&self.failed, self.given.len() + self.failed.len());
        Ok(exit)
    }

    /// Returns the errors, for programs.
    pub(super) fn failed_json(&self) -> serde_json::Value {
        self.failed.iter().map(error_json).collect()
    }
}

/// Returns the exit code where no instance gave what was asked.
pub(super) fn exit_of_none<'a>(failed: impl IntoIterator<Item = &'a Error>) -> Exit {
    let all_refused = failed.into_iter().all(|error| error.kind.is_refusal());
    if all_refused { Exit::Refused } else { Exit::Unreachable }
}

/// Says why a command that printed its list does not end with exit code 0.
pub(super) fn say_exit_code(exit: Exit, why: &str) {
    errln!("bolt: exit code {}: {why}", exit as u8);
}

/// Says that the exit code is 1 because some of `asked` instances gave no answer, if any:
/// `1 of 6 instances gave no answer (1 unreachable)`.
pub(super) fn say_unanswered(failed: &[Error], asked: usize) {
    if failed.is_empty() {
        return;
    }
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    failed.iter().for_each(|error| *outcomes.entry(error.kind.outcome()).or_default() += 1);
    let counts: Vec<String> = outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    let all = show::counted(asked, "instance");
    say_exit_code(Exit::Failed, &format!("{} of {all} gave no answer ({})", failed.len(), counts.join(", ")));
}

/// Returns `nothing`, the text for an empty list of executions, with the number of instances that are not in the list.
pub(super) fn none_found(nothing: &str, answered: usize, failed: usize) -> String {
    let answered = show::counted(answered, "instance");
    match failed {
        0 => nothing.to_owned(),
        1 => format!("{nothing} on the {answered} that answered; 1 did not: its executions are unknown"),
        _ => format!("{nothing} on the {answered} that answered; {failed} did not: their executions are unknown"),
    }
}

/// Returns an error of one instance, for programs.
pub(super) fn error_json(error: &Error) -> serde_json::Value {
    serde_json::json!({
        "instance": error.instance,
        "address": error.address,
        "code": error.kind.code(),
        "phase": error.kind.phase().map(Phase::as_str),
        "message": error.kind.to_string(),
    })
}

/// Returns the failure of a command when no instance gave what was asked: counts outcomes, and groups the errors.
pub(super) fn none_answered(failed: &[Error], first: &Error) -> Failure {
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
    for line in bounded(failed) {
        message.push_str(&format!("\n  {line}"));
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

/// Maximum number of lines about instances that did not answer.
const ERROR_LINES: usize = 20;
/// Maximum number of different texts of one error code that get a line each.
const TEXTS: usize = 3;

/// Returns a line for each different error, with its instances. Errors of one code with many different texts, such as the
/// names of instances that answered in place of others, share a line.
pub(super) fn grouped<'a>(failed: impl IntoIterator<Item = &'a Error>) -> Vec<String> {
    let failed: Vec<&Error> = failed.into_iter().collect();
    let mut order: Vec<(&'static str, String)> = Vec::new();
    let mut groups: HashMap<(&'static str, String), Vec<&Error>> = HashMap::new();
    for error in failed.iter().copied() {
        let key = (error.kind.code(), error.kind.to_string());
        let group = groups.entry(key.clone()).or_default();
        if group.is_empty() {
            order.push(key);
        }
        group.push(error);
    }
    let mut texts: BTreeMap<&str, usize> = BTreeMap::new();
    order.iter().for_each(|(code, _)| *texts.entry(code).or_default() += 1);
    let mut merged: BTreeSet<&str> = BTreeSet::new();
    let mut lines = Vec::new();
    for key in &order {
        let (code, text) = key;
        if texts[code] <= TEXTS {
            lines.push(line(&groups[key], text));
        } else if merged.insert(code) {
            let all: Vec<&Error> = failed.iter().copied().filter(|error| error.kind.code() == *code).collect();
            lines.push(line(&all, &format!("{code}, such as: {text}")));
        }
    }
    lines
}

fn line(errors: &[&Error], text: &str) -> String {
    match errors {
        [one] => one.to_string(),
        _ => {
            let ids: Vec<&str> = errors.iter().map(|error| error.instance.as_str()).collect();
            format!("{} ({}): {text}", show::counted(ids.len(), "instance"), show::listed(&ids, 10))
        }
    }
}

/// Returns the lines of [`grouped`], at most [`ERROR_LINES`] of them.
fn bounded(failed: &[Error]) -> Vec<String> {
    let mut lines = grouped(failed);
    let more = lines.len().saturating_sub(ERROR_LINES);
    if more > 0 {
        lines.truncate(ERROR_LINES);
        lines.push(format!("and {more} other errors"));
    }
    lines
}

/// Converts an error of the configuration, with how to give what is missing.
pub(super) fn from_config(error: &ConfigError) -> Failure {
    if let ConfigError::Gather(gather) = error {
        let message = show::visible_lines(&gather.to_string());
        return Failure { exit: Exit::Storage, message, hint: gather.hint() };
    }
    let failure = Failure::from_error(Exit::Usage, error);
    let ConfigError::Missing { setting, file, .. } = error else { return failure };
    let path = file.clone().or_else(config::default_path).unwrap_or_else(|| "client.toml".into());
    let path = show::path(&path);
    let (flag, variable) = (setting.flag(), setting.variable());
    failure.hint(match setting.name().split_once('.') {
        Some((table, key)) => format!("give {flag}, set {variable}, or write {key} = \"…\" under [{table}] in {path}"),
        None if file.is_some() => format!(
            "give it with {flag}, set {variable}, or write {} = \"…\" in {path}; `bolt config show` says what is configured",
            setting.name()
        ),
        None => format!(
            "give it with {flag}, set {variable}, or make {path} with lines for certificate, key, ca and inventory; `bolt pki` makes \
             certificates, `bolt demo --keep` a whole example, and `bolt config show` says what is configured"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use packs_schema::base::name::InstanceId;

    fn errors(count: usize, kind: impl Fn(usize) -> Kind) -> Vec<Error> {
        let instance = |at: usize| InstanceId::new(format!("i-{at}")).unwrap();
        (0..count)
            .map(|at| Error { instance: instance(at), address: format!("127.0.0.1:{at}"), kind: kind(at) })
            .collect()
    }

    #[test]
    fn thousands_of_dead_instances_take_one_line() {
        let lines = grouped(&errors(10_000, |_| Kind::ConnectionRefused));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("10000 instances (i-0, ") && lines[0].contains(" and 9990 more): connection refused")
        );
    }

    #[test]
    fn errors_that_name_their_instance_share_a_line_of_their_code() {
        let wrong =
            |at| Kind::WrongInstance { reached: format!("i-{}", at + 1), wanted: InstanceId::new("i-x").unwrap() };
        let lines = grouped(&errors(60, wrong));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("reached_another_instance, such as: reached i-1, not i-x"), "{lines:?}");
        assert_eq!(grouped(&errors(3, wrong)).len(), 3);
    }

    #[test]
    fn an_empty_list_names_the_instances_that_did_not_answer() {
        assert_eq!(none_found("none", 6, 0), "none");
        let one = "none on the 5 instances that answered; 1 did not: its executions are unknown";
        assert_eq!(none_found("none", 5, 1), one);
        let several = "none on the 1 instance that answered; 2 did not: their executions are unknown";
        assert_eq!(none_found("none", 1, 2), several);
    }

    #[test]
    fn the_number_of_lines_is_bounded() {
        let codes =
            |at: usize| if at < 40 { Kind::Tls(format!("{}", at % 3)) } else { Kind::Protocol(format!("{at}")) };
        assert_eq!(bounded(&errors(60, codes)).len(), 4);
    }

    #[test]
    fn a_setting_that_is_missing_belongs_into_the_file_in_effect() {
        let setting = config::Setting::Key;
        let error = ConfigError::Missing { setting, looked: String::new(), file: Some("/srv/client.toml".into()) };
        let hint = from_config(&error).hint.unwrap();
        assert!(hint.contains("write key = \"…\" in /srv/client.toml"), "{hint}");
    }
}
