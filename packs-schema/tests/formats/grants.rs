//! Properties of grants: a constraint never allows more, and the explanation is the decision.

use packs_schema::agent::grants::{Grants, Mismatch, Object, Question, Verb};
use packs_schema::base::name::{ActionRef, InstanceId, Principal};
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::Class;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A grant: the lines without its constraints, which are principal, verbs, actions and perhaps classes, and some constraints.
#[derive(Debug, Clone)]
struct Drawn {
    grant: Vec<String>,
    constraints: Vec<String>,
}

impl Drawn {
    /// Returns the text of this grant with one of its lines only, and wide in all else. Without its verbs it gives `verb`.
    fn only(&self, line: &str, who: &Principal, verb: Verb) -> String {
        let wide = [
            ("principal", format!("principal = \"{who}\"")),
            ("verbs", format!("verbs = [\"{verb}\"]")),
            ("actions", "actions = [\"*\"]".to_owned()),
        ];
        let others = wide.into_iter().filter(|(key, _)| !line.starts_with(key)).map(|(_, text)| text);
        ["[[grant]]".to_owned(), line.to_owned()].into_iter().chain(others).map(|text| text + "\n").collect()
    }
}

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(texts).prop_map(str::to_owned)
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let principal = one_of(&["spiffe://x/ann", "spiffe://x/*", "spiffe://x/team/*", "spiffe://x/bob"]);
    let verbs = one_of(&["\"run\"", "\"approve\"", "\"run\", \"approve\""]);
    let actions = one_of(&["\"*\"", "\"a.*\"", "\"a.b\"", "\"c.d\", \"a.b\"", ""]);
    let classes = one_of(&["", "classes = [\"diagnostic\"]", "classes = [\"remediation\", \"diagnostic\"]"]);
    let constraint = one_of(&[
        "where = 'region == \"r\"'",
        "where = 'tags.team != \"x\"'",
        "times = [\"09:00-17:00\"]",
        "times = [\"sat 22:00-06:00\", \"mon-fri 00:00-24:00\"]",
        "parameters = { k = { enum = [\"users\"] } }",
        "parameters = { k = { pattern = \"^u\" }, n = { type = \"integer\", maximum = 3 } }",
        "parameters = { n = { minimum = 2 } }",
    ]);
    let constraints = prop::collection::vec(constraint, 0..4);
    (principal, verbs, actions, classes, constraints).prop_map(
        |(principal, verbs, actions, classes, mut constraints)| {
            // A key is written once.
            constraints.sort();
            constraints.dedup_by_key(|line| line.split(' ').next().map(str::to_owned));
            let mut grant = vec![
                format!("principal = \"{principal}\""),
                format!("verbs = [{verbs}]"),
                format!("actions = [{actions}]"),
            ];
            grant.extend(Some(classes).filter(|classes| !classes.is_empty()));
            Drawn { grant, constraints }
        },
    )
}

fn text(drawn: &[Drawn], without: Option<usize>) -> String {
    let constrained = |(index, one): (usize, &Drawn)| {
        let constraints = if Some(index) == without { &[][..] } else { &one.constraints };
        format!("[[grant]]\n{}\n{}\n", one.grant.join("\n"), constraints.join("\n"))
    };
    drawn.iter().enumerate().map(constrained).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_constraint_never_allows_more_and_the_explanation_is_the_decision(
        drawn in prop::collection::vec(drawn(), 1..5),
        which in any::<prop::sample::Index>(),
        who in prop::sample::select(&["spiffe://x/ann", "spiffe://x/team/ann", "spiffe://y/ann"][..]),
        action in prop::sample::select(&["a.b", "a.c", "c.d"][..]),
        verb in prop::sample::select(&[Verb::Run, Verb::Approve, Verb::Read][..]),
        class in prop::option::of(prop::sample::select(&[Class::Diagnostic, Class::Remediation][..])),
        (region, team) in (one_of(&["r", "s", ""]), one_of(&["x", "y"])),
        at_s in 0_i64..2_000_000_000,
        (k, n) in (prop::sample::select(&["users", "logs"][..]), prop::option::of(0_i64..5)),
    ) {
        let (who, action) = (Principal::new(who).unwrap(), ActionRef::new(action).unwrap());
        let mut facts = Facts { region, ..Facts::of(InstanceId::new("i-1").unwrap()) };
        facts.tags.insert("team".to_owned(), team);
        let mut values: Map<String, Value> = Map::from_iter([("k".to_owned(), json!(k))]);
        values.extend(n.map(|n| ("n".to_owned(), json!(n))));
        let constrained = Grants::parse(&text(&drawn, None)).unwrap();
        let decide = |grants: &Grants| {
            let grants = grants.in_effect(Some(&facts), at_s);
            grants.find_with(&who, verb, &action, class, &values)
        };
        let decided = decide(&constrained);

        // With the constraints of one grant removed, whatever was allowed is still allowed.
        let wider = Grants::parse(&text(&drawn, Some(which.index(drawn.len())))).unwrap();
        if decided.is_some() {
            prop_assert!(decide(&wider).is_some());
        }
        // A grant that was parsed and not asked about its instance allows no more either.
        if constrained.find_with(&who, verb, &action, class, &values).is_some() {
            prop_assert!(decided.is_some());
        }
        // For some values it is allowed whenever it is for these.
        if decided.is_some() {
            prop_assert!(constrained.in_effect(Some(&facts), at_s).find(&who, verb, &action, class).is_some());
        }

        let question = Question { who: &who, verb, object: Object::Action(&action), class, parameters: Some(&values) };
        let verdicts = constrained.explain(&question, Some(&facts), at_s);
        prop_assert_eq!(verdicts.len(), drawn.len());
        prop_assert_eq!(verdicts.iter().find(|verdict| verdict.allows()).map(|verdict| verdict.place), decided);
        // Every line that refuses it by itself is a reason, and nothing else is. Only grants of run and approve have values.
        for (verdict, grant) in verdicts.iter().zip(&drawn) {
            let refuses = |line: &&String| {
                let verb = if line.starts_with("parameters") { Verb::Run } else { verb };
                let alone = Grants::parse(&grant.only(line, &who, verb)).unwrap().in_effect(Some(&facts), at_s);
                alone.find_with(&who, verb, &action, class, &values).is_none()
            };
            let refusing = grant.grant.iter().chain(&grant.constraints).filter(refuses).count();
            prop_assert_eq!(verdict.mismatches.len(), refusing, "{:?}", verdict);
        }
        // A pack is allowed by what allows each of its actions, of any class, with any values.
        let pack = action.pack();
        let in_effect = constrained.in_effect(Some(&facts), at_s);
        let of_pack = in_effect.find_pack(&who, verb, &pack);
        prop_assert!(of_pack.is_none() || in_effect.find_with(&who, verb, &action, None, &Map::new()).is_some());
        let asked = Question { object: Object::Pack(&pack), ..question };
        let verdicts = constrained.explain(&asked, Some(&facts), at_s);
        prop_assert_eq!(verdicts.iter().find(|verdict| verdict.allows()).map(|verdict| verdict.place), of_pack);

        // Facts that are unknown satisfy nothing.
        for verdict in constrained.explain(&question, None, at_s) {
            let has_condition = drawn[verdict.place.number - 1].constraints.iter().any(|line| line.starts_with("where"));
            prop_assert!(!has_condition || !verdict.allows());
        }
    }
}

#[test]
fn constraints_that_mean_nothing_are_errors_with_their_line() {
    let head = "[[grant]]\nprincipal = \"a://b\"\nactions = [\"*\"]\n";
    for (lines, said) in [
        ("verbs = [\"run\", \"read\"]\nparameters = { k = { enum = [\"a\"] } }", "run and approve only"),
        ("verbs = [\"run\"]\nparameters = { k = { enmu = [\"a\"] } }", "enmu"),
        ("verbs = [\"run\"]\nparameters = { k = { default = 1 } }", "default"),
        ("verbs = [\"run\"]\nparameters = { k = { items = { secret = true } } }", "secret"),
        ("verbs = [\"run\"]\nparameters = { k = { enum = [] } }", "empty enum"),
        ("verbs = [\"run\"]\nparameters = { k = { pattern = \"(\" } }", "pattern"),
        ("verbs = [\"run\"]\nwhere = 'colour == \"red\"'", "colour"),
        ("verbs = [\"run\"]\ntimes = []", "never in effect"),
        ("verbs = [\"run\"]\ntimes = [\"9-17\"]", "window of time"),
        ("verbs = [\"run\"]\nwhen = \"now\"", "when"),
    ] {
        let error = Grants::parse(&format!("{head}{lines}\n")).unwrap_err();
        assert!(error.to_string().contains(said), "{lines}: {error}");
        assert!(error.line().is_some(), "{error}");
    }
}

#[test]
fn explanations_name_the_constraint_and_no_value_of_the_caller() {
    let text = "[[grant]]\nprincipal = \"a://b\"\nverbs = [\"run\"]\nactions = [\"a.b\"]\n\
                parameters = { k = { enum = [\"users\"] } }\ntimes = [\"00:00-12:00\"]\n";
    let grants = Grants::parse(text).unwrap();
    let (who, action) = (Principal::new("a://b").unwrap(), ActionRef::new("a.b").unwrap());
    let values: Map<String, Value> = Map::from_iter([("k".to_owned(), json!("canary"))]);
    let question = Question {
        who: &who,
        verb: Verb::Run,
        object: Object::Action(&action),
        class: None,
        parameters: Some(&values),
    };
    let verdict = grants.explain(&question, None, 0).remove(0);
    assert!(matches!(verdict.mismatches[..], [Mismatch::Parameters(_)]), "{verdict:?}");
    assert_eq!(verdict.mismatches[0].to_string(), "k must fit {\"enum\":[\"users\"]}");
    let later = grants.explain(&question, None, 13 * 3600).remove(0).mismatches;
    assert_eq!(later[0], verdict.mismatches[0]);
    assert_eq!(later[1].to_string(), "it is in effect at 00:00-12:00 UTC only");
    // To the caller itself the same is told where the grants were evaluated, but of a grant for another action nothing.
    let near = grants.in_effect(None, 13 * 3600);
    assert_eq!(near.near_misses(&question)[0].mismatches, later);
    let other = ActionRef::new("a.c").unwrap();
    assert_eq!(near.near_misses(&Question { object: Object::Action(&other), ..question }), []);
    assert_eq!(grants.constraints(verdict.place).len(), 2);
}
