//! Callers and refusals that many tests need.

use bolt_client::local::{Caller, LocalAgent};
use bolt_tests::World;
use bolt_tests::http::Answer;
use packs_schema::agent::rest::Code;
use packs_schema::base::name::Principal;

pub(crate) use bolt_tests::operator::{run_body as run, until};

/// A caller of that name.
pub(crate) fn caller(world: &World, name: &str) -> Caller {
    let principal = Principal::new(format!("spiffe://bolt.local/{name}")).expect("a valid principal");
    let validity = bolt_client::pki::Validity::days(1);
    world.site.caller(name, &principal, validity).expect("the certificate can be made")
}

/// Asserts that the answer is a problem of this kind, whose text names `input`.
pub(crate) fn refused(answer: &Answer, code: Code, input: &str) {
    let problem = answer.problem();
    assert_eq!((problem.code, answer.status.as_u16()), (code, code.status()), "{problem:?}");
    let text = format!("{} {:?}", problem.detail, problem.errors);
    assert!(text.contains(input), "{text:?} does not name {input:?}");
    assert!(!problem.request_id.is_empty());
}

/// Replaces the grants of an agent by a file that is renamed into place, so that they are in effect at the next request.
pub(crate) fn replace_grants(agent: &LocalAgent, text: impl AsRef<str>) {
    let path = agent.directory().join("etc/grants.toml");
    let new = path.with_extension("new");
    std::fs::write(&new, text.as_ref()).unwrap();
    std::fs::rename(new, path).unwrap();
}
