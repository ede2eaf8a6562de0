//! Snapshot of problem bodies, so that a change of their wording is reviewed as a diff.

use packs_schema::pack::action::Class;

use super::*;

const ID: &str = "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa";

/// Status, headers and body of the response to `error`.
fn describe(error: ApiError) -> String {
    let response = error.respond("01932c07-req");
    let mut text = format!("{}\n", response.status());
    for name in [ALLOW, CONTENT_RANGE, RETRY_AFTER] {
        if let Some(value) = response.headers().get(&name) {
            text += &format!("{name}: {}\n", value.to_str().unwrap());
        }
    }
    let Body::Whole(bytes) = response.into_body() else { panic!("a problem is sent whole") };
    let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    text + &serde_json::to_string_pretty(&body).unwrap()
}

#[test]
fn problem_bodies() {
    let id = || ExecutionId::new(ID).unwrap();
    let action = || ActionRef::new("disk.clear").unwrap();
    let after = Duration::from_secs(30);
    let errors: Vec<ApiError> = vec![
        ApiError::BadRequest("since: expected milliseconds".to_owned()),
        ApiError::InvalidBody("unknown field `comand` at line 1 column 10".to_owned()),
        ApiError::Forbidden("no grant lets spiffe://example/guest run disk.clear".to_owned()),
        ApiError::Hidden {
            shown: Box::new(ApiError::UnknownExecution(id())),
            reason: "only the log says this".to_owned(),
        },
        ApiError::NotFound("/v2/health".to_owned()),
        ApiError::UnknownPack(PackName::new("disk").unwrap()),
        ApiError::UnknownAction(action()),
        ApiError::MethodNotAllowed("GET, POST".to_owned()),
        ApiError::ActionDisabled(action()),
        ApiError::BodyTooLarge,
        ApiError::UnsupportedMediaType,
        ApiError::NotAnArchive,
        ApiError::RangeNotSatisfiable(1234),
        ApiError::WrongInstance { asked: InstanceId::new("i-0a11").unwrap(), here: InstanceId::new("i-0b21").unwrap() },
        ApiError::NotReady,
        SubmitError::NotPermitted.into(),
        SubmitError::ClassMismatch { action: action(), wanted: Class::Diagnostic, class: Class::Remediation }.into(),
        SubmitError::QueueFull { max: 50, after }.into(),
        SubmitError::Busy { group: "disk".to_owned(), after }.into(),
        SubmitError::CallerTooOften { max: 20, per: Duration::from_secs(60), after }.into(),
        SubmitError::CallerTooMany { max: 5, after }.into(),
        SubmitError::KeyMismatch(id()).into(),
        SubmitError::DiskFull.into(),
        SubmitError::Task.into(),
        KillError::Unknown(id()).into(),
        OutputError::Gone.into(),
        HistoryError::DiskFull.into(),
        HistoryError::Closed.into(),
    ];
    let bodies: Vec<String> = errors.into_iter().map(describe).collect();
    insta::assert_snapshot!(bodies.join("\n\n"));
}
