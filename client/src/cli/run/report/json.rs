//! The report as one JSON value.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use packs_schema::base::name::InstanceId;
use serde_json::{Value, json};

use super::{counts, held_back, versions};
use crate::cli::context::error_json;
use crate::fleet::Stopped;
use crate::fleet::{Ending, Report, Run};

/// Returns the report with an entry for each instance.
pub(super) fn report(run: &Run, report: &Report, took: Duration) -> Value {
    let instances: Vec<Value> =
        run.targets.iter().zip(&report.endings).map(|(target, ending)| entry(target.id(), ending)).collect();
    let mut all = summary(run, report, took);
    all["instances"] = instances.into();
    all
}

/// Returns the report without the instances.
pub(super) fn summary(run: &Run, report: &Report, took: Duration) -> Value {
    let versions: serde_json::Map<String, Value> =
        versions(run, report).into_iter().map(|(version, ids)| (version, ids.len().into())).collect();
    json!({
        "run": run.id,
        "action": run.request.action,
        "version": run.request.version,
        "noop": run.request.noop,
        "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "stopped": held_back(report).map(Stopped::code),
        "summary": counts(report),
        "versions": versions,
    })
}

/// Returns what the report says of an instance.
pub(super) fn entry(instance: &InstanceId, ending: &Ending) -> Value {
    let mut entry = json!({ "instance": instance, "state": ending.state() });
    match ending {
        Ending::Ended(execution, output) => {
            entry["execution"] = json!(execution);
            for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
                match std::str::from_utf8(bytes) {
                    Ok(text) => entry[name] = json!(text),
                    Err(_) => entry[format!("{name}_base64")] = json!(STANDARD.encode(bytes)),
                }
            }
            entry["output_truncated"] = json!(output.truncated);
            if let Some(problem) = &output.problem {
                entry["output_error"] = json!(problem);
            }
        }
        Ending::Unreachable { error, execution, may_run } => {
            entry["error"] = error_json(error);
            entry["execution_id"] = json!(execution);
            entry["may_run"] = json!(may_run);
        }
        Ending::Refused(error) => entry["error"] = error_json(error),
        Ending::NotStarted => {}
    }
    entry
}
