//! Controls: disks that lost what they had flushed, which the check of a state must find.

use std::fs;
use std::path::Path;

use super::{DiskStates, Recording, check, copy, text};
use crate::machine::disk_log::{self, Event};
use crate::machine::site::MachineSite;

/// Tries all controls. One that is not found is a violation.
pub(super) async fn run(site: &MachineSite, recording: &Recording, figures: &mut DiskStates) -> Result<(), String> {
    let disk = site.directory().join("state.img");
    let lost = half_lost(recording, &disk)?;
    let broken = broken(site, recording, &disk).await?;
    let begins = |with: &str| broken.iter().any(|problem| problem.starts_with(with));
    let is_found = begins("history: ") && begins("agent: ") && begins("audit: no entry of the accepted execution");
    note("a disk that lost all writes of the second half", &lost, is_found, figures);

    let row = row_lost(recording, &disk)?;
    let broken = self::broken(site, recording, &disk).await?;
    let is_named = broken.iter().any(|problem| problem.starts_with("history: ") && problem.contains(&row));
    note("a disk that lost the flushed writes with a row of the history", &row, is_named, figures);

    let kill = kill_lost(recording, &disk)?;
    let broken = self::broken(site, recording, &disk).await?;
    let problems: Vec<&String> = broken.iter().filter(|problem| problem.starts_with("audit, before ")).collect();
    let is_named = problems.iter().any(|problem| problem.contains(&kill)) && problems.len() > 1;
    note("a disk that lost the flushed writes with a kill in the audit log", &kill, is_named, figures);
    Ok(())
}

fn note(control: &str, of: &str, is_found: bool, figures: &mut DiskStates) {
    if is_found {
        figures.controls += 1;
    } else {
        figures.violations.push(format!("control: {control} ({of}) was not found out"));
    }
    eprintln!("control, {control}: {}", if is_found { "found" } else { "NOT found" });
}

/// Returns what the check says of a disk that should have everything up to the last flush.
async fn broken(site: &MachineSite, recording: &Recording, disk: &Path) -> Result<Vec<String>, String> {
    let Some((_, end)) = flushes(recording).last() else { return Ok(Vec::new()) };
    check::take_out(&site.world, disk)?;
    check::recovered(&site.world, &recording.ledger, end, &mut DiskStates::default()).await
}

/// Makes a disk of the writes up to the flush after which half of the executions were accepted.
fn half_lost(recording: &Recording, disk: &Path) -> Result<String, String> {
    let mut accepted: Vec<u64> = recording.ledger.values().map(|heard| heard.accepted.0).collect();
    accepted.sort_unstable();
    let median = accepted.get(accepted.len() / 2).copied().unwrap_or_default();
    let last = flushes(recording).take_while(|(_, end)| *end <= median).last();
    let (at, end) = last.ok_or("nothing was flushed before half of the executions were accepted")?;
    write(recording, disk, &recording.events[..at])?;
    Ok(format!("after {end}"))
}

/// Makes a disk of all writes up to the last flush but those that hold the row of one execution. Returns its id.
fn row_lost(recording: &Recording, disk: &Path) -> Result<String, String> {
    let (last, end) = flushes(recording).last().ok_or("nothing was flushed")?;
    let told = recording.ledger.values().filter(|heard| heard.told.as_ref().is_some_and(|(at, ..)| *at <= end));
    for id in told.map(|heard| heard.accepted.1.id.as_str()) {
        // The row may lie across two writes, which hold no id then.
        if lost(recording, disk, last, &bytes(id)?)? {
            return Ok(id.to_owned());
        }
    }
    Err("no write holds the row of an execution".to_owned())
}

/// Makes a disk of all writes up to the last flush but those that hold the entry of one kill in the audit log. Returns the
/// execution's id.
fn kill_lost(recording: &Recording, disk: &Path) -> Result<String, String> {
    let (last, end) = flushes(recording).last().ok_or("nothing was flushed")?;
    let killed = recording.ledger.values().filter(|heard| heard.killed.is_some_and(|at| at <= end));
    for id in killed.map(|heard| heard.accepted.1.id.as_str()) {
        if lost(recording, disk, last, format!("\"execution\":\"{id}\"").as_bytes())? {
            return Ok(id.to_owned());
        }
    }
    Err("no write holds the entry of a kill".to_owned())
}

/// Makes a disk of the first `last` events but the writes that hold `key`; false, without a disk, if there are none.
fn lost(recording: &Recording, disk: &Path, last: usize, key: &[u8]) -> Result<bool, String> {
    let (mut kept, mut is_lost) = (Vec::new(), false);
    for event in &recording.events[..last] {
        let has = disk_log::content(*event, &recording.log).map_err(text)?;
        match has.windows(key.len()).any(|window| window == key) {
            true => is_lost = true,
            false => kept.push(*event),
        }
    }
    if is_lost {
        write(recording, disk, &kept)?;
    }
    Ok(is_lost)
}

/// Positions of the flushes after the first order, and their ends in the log.
fn flushes(recording: &Recording) -> impl Iterator<Item = (usize, u64)> {
    recording.flushes.iter().filter_map(|at| match recording.events[*at] {
        Event::Flush { end } => Some((*at, end)),
        Event::Write { .. } => None,
    })
}

fn write(recording: &Recording, disk: &Path, events: &[Event]) -> Result<(), String> {
    copy(&recording.base, disk)?;
    let disk = fs::File::options().write(true).open(disk).map_err(text)?;
    events.iter().try_for_each(|event| disk_log::apply(*event, &recording.log, &disk)).map_err(text)
}

/// Returns an id as the history has it.
fn bytes(id: &str) -> Result<Vec<u8>, String> {
    let digits: String = id.chars().filter(|digit| *digit != '-').collect();
    let pairs = (0..digits.len()).step_by(2).map(|at| digits.get(at..at + 2).unwrap_or_default());
    pairs.map(|pair| u8::from_str_radix(pair, 16)).collect::<Result<_, _>>().map_err(text)
}
