//! Imported actions whose callers give a command: agents refuse them until a person has enabled them.

use std::path::Path;

use bolt_client::pack::import;
use bolt_tests::World;
use bolt_tests::http::Call;
use packs_schema::agent::rest::{Code, Execution, Page};
use serde_json::json;

use crate::calls::refused;

#[tokio::test]
async fn an_imported_action_of_any_command_is_refused() {
    let world = World::empty();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ssm/shapes");
    let pack = world.scratch("imported").join("shapes");
    import::import(&source, &pack).expect("the documents can be imported");
    world.publish_directory(&pack);
    let agent = world.agent();
    let operator = world.operator(&agent);
    for (action, parameters) in [
        ("any", json!({"commands": "echo hurt"})),
        ("any_old", json!({})),
        ("any_program", json!({"Tool": "/bin/echo"})),
        ("starts", json!({"Name": "/bin/echo"})),
    ] {
        let action = format!("shapes.{action}");
        refused(&operator.submit(&action, parameters).await, Code::ActionDisabled, &action);
    }
    let all: Page<Execution> = operator.send(Call::get("/v1/executions")).await.json();
    assert!(all.items.is_empty(), "something ran: {all:?}");
}
