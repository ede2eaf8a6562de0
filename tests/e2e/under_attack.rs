//! Tools of others against a live agent, in small counts; `bolt-attack` runs them with any.
//!
//! Their figures are printed past the test runner's capture.

use std::fmt::Display;
use std::io::Write as _;

use bolt_tests::attack::{Tools, schemathesis, slow, tls};
use bolt_tests::skip;

fn tools(test: &str) -> Option<Tools> {
    let tools = Tools::find();
    if tools.is_none() {
        skip(
            &format!("under_attack::{test}"),
            "BOLT_TEST_ATTACK names no directory with schemathesis, sslyze, slowhttptest",
        );
    }
    tools
}

fn say(figures: impl Display) {
    drop(writeln!(std::io::stderr(), "{figures}"));
}

#[test]
fn generated_requests_get_documented_answers() {
    let Some(tools) = tools("generated_requests_get_documented_answers") else { return };
    let figures = schemathesis::run(&tools, schemathesis::Plan { cases: 300, seed: 1, workers: 1 });
    say(format_args!("schemathesis: {figures}"));
    assert_eq!(figures.unexplained, Vec::<String>::new());
    assert!(figures.cases >= 300);
}

#[test]
fn slow_clients_keep_no_caller_out() {
    let Some(tools) = tools("slow_clients_keep_no_caller_out") else { return };
    let figures = slow::run(&tools, slow::Plan { connections: 60, rate: 200, millis: 300 });
    say(format_args!("slowhttptest: {figures}"));
    assert_eq!(figures.broken(), None);
}

#[test]
fn a_scan_of_the_port_finds_tls_1_3_alone_and_a_certificate_required() {
    let Some(tools) = tools("a_scan_of_the_port_finds_tls_1_3_alone_and_a_certificate_required") else { return };
    let figures = tls::run(&tools);
    say(format_args!("sslyze:\n{figures}"));
    assert!(figures.broken().is_none(), "{:?}", figures.broken());
}
