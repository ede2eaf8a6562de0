use packs_schema::agent::rest::{Execution, Problem};
use packs_schema::base::name::{ActionRef, InstanceId};
use serde_json::{Value, json};

use super::*;
use crate::error::{Error, Kind};
use crate::fleet::{Output, Plan, Request, Strategy};
use crate::inventory::{Address, Instance};
use crate::runner::mask_report;
use crate::show::Mask;
use crate::show::mask::MASKED;

fn execution(instance: &str, version: &str, result: Option<Value>) -> Box<Execution> {
    Box::new(crate::records::record(json!({
        "instance": instance, "action": "probe.hello", "version": version, "state": "succeeded", "exit_status": 0,
        "result": result,
    })))
}

fn ended(instance: usize, stdout: &str, result: Option<Value>) -> Ending {
    let output = Output { stdout: stdout.as_bytes().to_vec(), ..Output::default() };
    Ending::Ended(execution(&format!("i-{instance}"), "1.0.0", result), output)
}

fn dead(instance: usize, kind: Kind) -> Ending {
    let instance = InstanceId::new(format!("i-{instance}")).unwrap();
    let error = Error { instance, address: "127.0.0.1:1".to_owned(), kind };
    Ending::Unreachable { error, execution: None, may_run: false }
}

fn run(endings: Vec<Ending>) -> (Run, Report) {
    let target = |at| Instance {
        facts: packs_schema::delivery::facts::Facts::of(InstanceId::new(format!("i-{at}")).unwrap()),
        address: Address::new("127.0.0.1:1").unwrap(),
    };
    let targets: Vec<Instance> = (0..endings.len()).map(target).collect();
    let plan = Plan::new(&targets.iter().map(|t| &t.facts).collect::<Vec<_>>(), &Strategy::default());
    let request = Request::new(ActionRef::new("probe.hello").unwrap());
    (Run { id: crate::fleet::new_run_id(), request, targets, plan, check: None }, Report { endings, stopped: None })
}

#[test]
fn ten_thousand_instances_of_which_some_are_dead_are_two_groups() {
    let kinds = |at: usize| match at {
        0..60 => dead(at, Kind::ConnectionRefused),
        // Each names other instances: they share a group all the same.
        60..90 => {
            let wanted = InstanceId::new(format!("i-{at}")).unwrap();
            dead(at, Kind::WrongInstance { reached: format!("j-{at}"), wanted })
        }
        _ => ended(at, "same\n", None),
    };
    let (run, report) = run((0..10_000).map(kinds).collect());
    let groups = groups::groups(&run, &report, What::Output, Normalize::default());
    let sizes: Vec<usize> = groups.iter().map(|group| group.members.len()).collect();
    assert_eq!(sizes, [9_910, 60, 30]);
    assert_eq!(groups[2].reason[0], "reached_another_instance, such as: reached j-60, not i-60");
    assert!(summary(&run, &report, Duration::ZERO, &[]).lines().count() < 4);
}

#[test]
fn outputs_that_differ_in_few_lines_are_one_block() {
    let output = |used: usize| format!("a\nb\nused {used}\nc\n");
    let endings = vec![
        ended(0, &output(1), None),
        ended(1, &output(2), None),
        ended(2, &output(1), None),
        ended(3, "something else\nof\nas many\nlines\n", None),
        ended(4, "short\n", None),
        ended(5, "other\n", None),
    ];
    let (run, report) = run(endings);
    let blocks = blocks(groups::groups(&run, &report, What::Output, Normalize::default()));
    let sizes: Vec<usize> = blocks.iter().map(|block| block.members().count()).collect();
    assert_eq!(sizes, [3, 1, 1, 1]);
    assert_eq!(blocks[0].merged_lines(), ["a", "b", "[i-0, i-2] used 1", "[i-1] used 2", "c"]);
}

#[test]
fn results_without_output_are_a_table_and_one_result_is_a_list() {
    let (run_, report) = run(vec![
        ended(0, "", Some(json!({"free": 1, "disks": [{"a": 1}]}))),
        ended(1, "", Some(json!({"free": 2}))),
        ended(2, "", Some(json!({"free": 1, "disks": [{"a": 1}]}))),
    ]);
    let groups = groups::groups(&run_, &report, What::Output, Normalize::default());
    assert_eq!(groups.len(), 1);
    assert_eq!(
        table::results(&groups[0], None).unwrap(),
        ["INSTANCE  disks      free", "i-0, i-2  [{\"a\":1}]  1", "i-1       -          2"]
    );
    let (run_, report) = run(vec![ended(0, "", Some(json!({"free": 1, "text": "x\ny"})))]);
    let groups = groups::groups(&run_, &report, What::Output, Normalize::default());
    assert_eq!(table::results(&groups[0], None).unwrap(), ["free  1", "text  x", "      y"]);
    let (run_, report) = run(vec![ended(0, "", None)]);
    assert_eq!(table::results(&groups::groups(&run_, &report, What::Output, Normalize::default())[0], None), None);
}

#[test]
fn selected_values_are_a_row_for_each_instance_and_missing_ones_say_so() {
    let (run, report) = run(vec![
        ended(0, "text\n", Some(json!({"a": [{"b": 7}]}))),
        ended(1, "", Some(json!({"a": []}))),
        ended(2, "", None),
        dead(3, Kind::ConnectionRefused),
    ]);
    let paths = [".a[0].b".parse().unwrap(), ".".parse().unwrap()];
    let (heads, rows) = table::selected(&run, &report, &paths);
    assert_eq!(heads, ["INSTANCE", "STATE", ".a[0].b", "."]);
    assert_eq!(rows[0], ["i-0", "succeeded", "7", "{\"a\":[{\"b\":7}]}"]);
    assert_eq!(rows[1], ["i-1", "succeeded", "(none)", "{\"a\":[]}"]);
    assert_eq!(rows[2], ["i-2", "succeeded", "(no result)", "(no result)"]);
    assert_eq!(rows.len(), 3);
}

#[test]
fn different_versions_are_said() {
    let mut endings: Vec<Ending> = (0..3).map(|at| ended(at, "", None)).collect();
    assert!(
        !summary(&run(vec![ended(0, "", None)]).0, &run(vec![ended(0, "", None)]).1, Duration::ZERO, &[])
            .contains("versions")
    );
    endings[1] = Ending::Ended(execution("i-1", "1.1.0", None), Output::default());
    let (run, report) = run(endings);
    let text = summary(&run, &report, Duration::ZERO, &[]);
    let line = "-- different versions of pack probe ran: 1.0.0 on 2 instances (i-0, i-2), 1.1.0 on 1 instance (i-1)\n";
    assert!(text.contains(line), "{text}");
    assert_eq!(json::report(&run, &report, Duration::ZERO)["versions"], json!({"1.0.0": 2, "1.1.0": 1}));
}

#[test]
fn secrets_are_masked_in_text_and_json() {
    let endings = vec![ended(0, "token hunter2\n", Some(json!({"token": "hunter2"})))];
    let (run, mut report) = run(endings);
    mask_report(&mut report, &Mask::new(["hunter2"].into_iter()));
    let text = json::report(&run, &report, Duration::ZERO).to_string();
    assert!(!text.contains("hunter2") && text.matches("********").count() == 2, "{text}");
    let groups = groups::groups(&run, &report, What::Output, Normalize::default());
    assert!(matches!(groups[0].shown, groups::Shown::Output { stdout: b"token ********\n", .. }));
}

#[test]
fn secrets_are_masked_in_notes_parameters_refusals_and_output_that_is_cut() {
    let mut noted = execution("i-0", "1.0.0", None);
    noted.parameters = json!({"url": "http://x?t=hunter2"}).as_object().cloned().unwrap();
    noted.note = Some("with hunter2".into());
    noted.kill_note = Some("hunter2 leaked".into());
    let cut = Output { stdout: b"token hunt".to_vec(), truncated: true, ..Output::default() };
    let problem: Problem = serde_json::from_value(json!({
        "type": "urn:bolt:problem:invalid_parameters", "title": "t", "status": 422, "code": "invalid_parameters",
        "request_id": "r", "detail": "hunter2 is wrong",
        "errors": [{"parameter": "token", "code": "invalid", "message": "not hunter2"}],
    }))
    .unwrap();
    let refused = |kind| match dead(1, kind) {
        Ending::Unreachable { error, .. } => Ending::Refused(error),
        other => other,
    };
    let endings = vec![
        Ending::Ended(noted, cut),
        refused(Kind::Problem(Box::new(problem))),
        dead(2, Kind::Protocol("unknown field hunter2".into())),
    ];
    let (run, mut report) = run(endings);
    mask_report(&mut report, &Mask::new(["hunter2"].into_iter()));
    let text = json::report(&run, &report, Duration::ZERO).to_string();
    assert!(!text.contains("hunt") && text.matches(MASKED).count() >= 6, "{text}");
    assert!(!format!("{report:?}").contains("hunt"), "{report:?}");
}
