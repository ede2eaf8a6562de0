//! `bolt pack import`: makes a pack of a source in another format, and reports on every action of it.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::failure;
use crate::cli::failure::{Exit, Failure};
use crate::pack::import::{
    self, ActionReport, Effect, ImportError, ImportFinding, ImportedAll, ImportedSource, Report, Totals, Verdict,
    Wheels,
};
use crate::show::{self, counted, visible};
use crate::{errln, outln};

/// Make a pack of another system's pack, module or documents, and report on each action.
///
/// Files are converted; nothing of the source is run. Actions that cannot run are not in the pack, and the report says
/// what a person would have to do. After an error nothing was written.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bolt pack import ./stackstorm-csv --to ./csv
  bolt pack import ./modules/package --to ./package
  bolt pack import ./kill-process.yml --to ./kill-process
  bolt pack import --all ./collection --to ./packs --json >report.json
  bolt pack import ./stackstorm-zabbix --to ./zabbix --wheels ./wheels")]
pub struct ImportCommand {
    /// The source: a directory, or one document.
    source: PathBuf,
    /// Directory to make; with --all, the directory in which a directory for each pack is made.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Import every source below the directory, and print a table of all.
    #[arg(long)]
    all: bool,
    /// Directory of wheels that you built: they take the place of addresses in requirements.txt, with their hashes.
    #[arg(long, value_name = "DIR")]
    wheels: Option<PathBuf>,
}

/// Runs `bolt pack import`.
pub(super) fn run(command: &ImportCommand, json: bool) -> Result<Exit, Failure> {
    let wheels = command.wheels.as_deref().map(Wheels::open).transpose().map_err(|e| import_failure(&e))?;
    if command.all {
        let all = import::import_all(&command.source, &command.to, wheels.as_ref()).map_err(|e| import_failure(&e))?;
        return Ok(print_all(&all, json));
    }
    let report = import::import_with(&command.source, &command.to, wheels.as_ref()).map_err(|e| import_failure(&e))?;
    if json {
        outln!("{}", show::json(&report));
    } else {
        print_one(&report);
        let to = show::path(&command.to);
        errln!("wrote {to}; next: bolt pack lint {to}");
    }
    Ok(Exit::Success)
}

fn print_one(report: &Report) {
    let width = report.actions.iter().map(|action| action.name.len()).max().unwrap_or_default();
    for action in &report.actions {
        outln!("{:width$}  {}", visible(&action.name), action.verdict());
        for finding in shown(action) {
            outln!("    {}", line(finding));
        }
    }
    for finding in &report.findings {
        outln!("{}", line(finding));
    }
    for left in &report.left_out {
        outln!("{}: not imported: {}", visible(&left.file), visible(&left.why));
    }
    let mut totals = Totals::default();
    totals.add(report);
    errln!("{} {}: {}", report.pack, report.version, summary(&totals));
}

/// Findings worth a line: what decides the verdict, and every change of it.
fn shown(action: &ActionReport) -> impl Iterator<Item = &ImportFinding> {
    let blocked = action.verdict() == Verdict::CannotRun;
    action.findings.iter().filter(move |finding| !blocked || finding.effect == Effect::Blocks)
}

fn line(finding: &ImportFinding) -> String {
    visible(&finding.to_string())
}

const VERDICTS: [Verdict; 4] = [Verdict::RunsUnchanged, Verdict::MadeSafer, Verdict::RarelyUseful, Verdict::CannotRun];

fn summary(totals: &Totals) -> String {
    let of = |verdict| format!("{verdict}: {}", totals.of(verdict));
    let verdicts: Vec<String> = VERDICTS.into_iter().map(of).collect();
    format!("{}; {}{}", counted(totals.found, "action"), verdicts.join(", "), disabled(totals))
}

/// Says how many actions are disabled, if any.
fn disabled(totals: &Totals) -> String {
    match totals.disabled {
        0 => String::new(),
        number => format!("; {number} disabled until a person has reviewed them [any_command]"),
    }
}

fn print_all(all: &ImportedAll, json: bool) -> Exit {
    let sources = &all.sources;
    let mut totals = Totals::default();
    let reports: Vec<(&ImportedSource, Option<&Report>)> =
        sources.iter().map(|source| (source, report(source))).collect();
    for report in reports.iter().filter_map(|(_, report)| *report) {
        totals.add(report);
    }
    if json {
        let list: Vec<serde_json::Value> = reports
            .iter()
            .map(|(source, report)| {
                let error =
                    source.outcome.as_ref().err().map(|error| Failure::from_error(Exit::Failed, error).to_string());
                json!({"source": source.directory, "report": report, "error": error})
            })
            .collect();
        outln!("{}", show::json(&json!({"sources": list, "totals": totals, "skipped": all.skipped})));
    } else {
        print_table(&reports, &totals);
        failures(all).iter().for_each(|line| errln!("{line}"));
        let runnable = totals.found - totals.of(Verdict::CannotRun);
        errln!("{} of {} can run{}", runnable, counted(totals.found, "action"), disabled(&totals));
    }
    let written = sources.iter().any(|source| source.outcome.is_ok());
    if written { Exit::Success } else { Exit::Failed }
}

/// A source of which nothing runs has a report too.
fn report(source: &ImportedSource) -> Option<&Report> {
    match &source.outcome {
        Ok(report) => Some(report),
        Err(ImportError::NothingRuns { report, .. }) => Some(report),
        Err(_) => None,
    }
}

fn print_table(reports: &[(&ImportedSource, Option<&Report>)], totals: &Totals) {
    outln!("{:<28} {:>6} {:>10} {:>6} {:>6} {:>7}", "PACK", "FOUND", "UNCHANGED", "SAFER", "RARELY", "CANNOT");
    let row = |name: &str, totals: &Totals| {
        let [unchanged, safer, rarely, cannot] = VERDICTS.map(|verdict| totals.of(verdict));
        outln!("{:<28} {:>6} {unchanged:>10} {safer:>6} {rarely:>6} {cannot:>7}", visible(name), totals.found);
    };
    for report in reports.iter().filter_map(|(_, report)| *report) {
        let mut own = Totals::default();
        own.add(report);
        row(&report.pack, &own);
    }
    row("total", totals);
    for (code, count) in &totals.cannot_run {
        outln!("cannot run, {code}: {count}");
    }
}

/// Lines about what was not written, each kind below a heading.
fn failures(all: &ImportedAll) -> Vec<String> {
    /// Maximum number of large files that are named.
    const MAX_SKIPPED: usize = 20;
    let (mut failed, mut empty) = (Vec::new(), Vec::new());
    for source in &all.sources {
        let directory = show::path(&source.directory);
        match &source.outcome {
            Ok(_) => {}
            Err(ImportError::NothingRuns { report, .. }) if !report.actions.is_empty() => {
                empty.push(format!("  {directory}: {}", counted(report.actions.len(), "action")));
            }
            Err(error) => failed.push(format!("  {directory}: {}", Failure::from_error(Exit::Failed, error))),
        }
    }
    let mut skipped: Vec<String> =
        all.skipped.iter().map(|left| format!("  {}: {}", visible(&left.file), visible(&left.why))).collect();
    let more = skipped.len().saturating_sub(MAX_SKIPPED);
    skipped.truncate(MAX_SKIPPED);
    if more > 0 {
        skipped.push(format!("  … and {more} more"));
    }
    let mut lines = Vec::new();
    for (heading, of_kind) in [
        ("not imported, because of an error:", failed),
        ("not written, since no action can run:", empty),
        ("not looked at:", skipped),
    ] {
        if !of_kind.is_empty() {
            lines.push(heading.to_owned());
            lines.extend(of_kind);
        }
    }
    lines
}

fn import_failure(error: &ImportError) -> Failure {
    match error {
        ImportError::Pack(pack) => failure(pack),
        ImportError::UnknownFormat(_)
        | ImportError::NothingFound { .. }
        | ImportError::NotACollection(_)
        | ImportError::NoParent { .. }
        | ImportError::NoRequirements(_) => Failure::from_error(Exit::Usage, error),
        ImportError::Refused { .. }
        | ImportError::Name { .. }
        | ImportError::Wheel { .. }
        | ImportError::NothingRuns { .. } => Failure::from_error(Exit::Failed, error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_not_written_is_told_below_headings() {
        let temp = tempfile::tempdir().unwrap();
        let (from, to) = (temp.path().join("from"), temp.path().join("to"));
        let job = |name: &str, step: &str| format!("- name: {name}\n  sequence: {{commands: [{{{step}}}]}}\n");
        for (file, text) in [
            ("good/a.yaml", job("a", "exec: 'true'")),
            ("bad/a.yaml", job("../a", "exec: 'true'")),
            ("empty/a.yaml", job("a", "jobref: {name: x}")),
            ("auto/a.yaml", "schemaVersion: '0.3'\nmainSteps: []\n".to_owned()),
        ] {
            fs::create_dir_all(from.join(file).parent().unwrap()).unwrap();
            fs::write(from.join(file), text).unwrap();
        }
        fs::File::create(from.join("good/large.xml")).unwrap().set_len(300_000).unwrap();
        let told = failures(&import::import_all(&from, &to, None).unwrap()).join("\n");
        let wanted = "\
not imported, because of an error:
  auto: no action of auto can run, so nothing is written:
  no document is a Command document of schema version 1.2, 2.0 or 2.2
  LICENSE: the source has no licence file; find out under which terms you may use it [no_licence]
  a.yaml: not imported: an Automation document, which Systems Manager runs and no instance; an orchestrator would call actions for \
                      its steps: 
  bad: a.yaml of the source has a name that cannot be used: "
            .replace("\n                      ", "");
        assert!(told.starts_with(&wanted), "{told}");
        assert!(told.contains("\nnot written, since no action can run:\n  empty: 1 action\n"), "{told}");
        let skipped = "\nnot looked at:\n  good/large.xml: it has 300000 bytes, more";
        assert!(told.contains(skipped), "{told}");
        assert!(to.join("good").exists() && !to.join("bad").exists() && !to.join("empty").exists());
    }
}
