//! Expressions over facts (`--where`, channel rules, grants), over facts that a hostile inventory chose.

use packs_schema::base::name::InstanceId;
use packs_schema::delivery::facts::Facts;
use packs_schema::delivery::filter::Filter;

use crate::{join, parts};

/// An expression and the values of facts.
pub(super) fn run(data: &[u8]) {
    let [expression, app, team] = parts(data);
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    let mut facts = Facts::of(InstanceId::new("i-1").expect("an id"));
    facts.app = text(app);
    facts.tags.insert("team".to_owned(), text(team));
    let Ok(expression) = std::str::from_utf8(expression) else { return };
    match Filter::new(expression) {
        Ok(filter) => {
            let matches = filter.matches(&facts);
            let again = Filter::new(&String::from(filter.clone())).expect("it reads back");
            assert_eq!(again, filter);
            // Twelve levels more than the deepest would not parse.
            if let Ok(negated) = Filter::new(&format!("!({expression})")) {
                assert_ne!(negated.matches(&facts), matches, "{expression}");
            }
        }
        Err(error) => assert!(error.to_string().len() <= 2048, "an error of {} bytes", error.to_string().len()),
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    [
        r#"app == "cassandra" && region in ["us-east-1", "eu-west-1"]"#,
        "!(tags.team =~ '^db-[0-9]{1,3}$') || zone != ''",
        "id == 'i-1' && ((app != 'x') || !!(group == 'g')) && cluster =~ 'a|b'",
    ]
    .map(|expression| join(&[expression.as_bytes(), b"cassandra", b"db-12"]))
    .into()
}
