//! `bolt pack import`: makes a pack of a source in another format, and reports on every action of it.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::failure;
use crate::cli::failure::{Exit, Failure};
use crate::pack::import::{
    self, ActionReport, Effect, ImportError, ImportFinding, ImportedSource, Report, Totals, Verdict,
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
  bolt pack import --all ./collection --to ./packs --json >report.json")]
pub struct ImportCommand {
    /// The source: a directory, or one document.
    source: PathBuf,
    /// Directory to make; with --all, the directory in which a directory for each pack is made.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Import every source below the directory, and print a table of all.
    #[arg(long)]
    all: bool,
}

/// Runs `bolt pack import`.
pub(super) fn run(command: &ImportCommand, json: bool) -> Result<Exit, Failure> {
    if command.all {
        let sources = import::import_all(&command.source, &command.to).map_err(|e| import_failure(&e))?;
        return Ok(print_all(&sources, json));
    }
    let report = import::import(&command.source, &command.to).map_err(|e| import_failure(&e))?;
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
    format!("{}; {}", counted(totals.found, "action"), verdicts.join(", "))
}

fn print_all(sources: &[ImportedSource], json: bool) -> Exit {
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
        outln!("{}", show::json(&json!({"sources": list, "totals": totals})));
    } else {
        print_table(&reports, &totals);
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
    for (source, _) in reports.iter().filter(|(_, report)| report.is_none()) {
        if let Err(error) = &source.outcome {
            errln!("{}: {}", show::path(&source.directory), Failure::from_error(Exit::Failed, error));
        }
    }
    let runnable = totals.found - totals.of(Verdict::CannotRun);
    errln!("{} of {} can run", runnable, counted(totals.found, "action"));
}

fn import_failure(error: &ImportError) -> Failure {
    match error {
        ImportError::Pack(pack) => failure(pack),
        ImportError::UnknownFormat(_) | ImportError::NothingFound(_) => Failure::from_error(Exit::Usage, error),
        ImportError::Refused { .. } | ImportError::Name { .. } | ImportError::NothingRuns { .. } => {
            Failure::from_error(Exit::Failed, error)
        }
    }
}
