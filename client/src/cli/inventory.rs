//! `bolt inventory`: what programs that print instances have to print.

use clap::Subcommand;

use super::failure::Exit;
use crate::inventory::document_schema;
use crate::{outln, show};

/// Sources of the inventory.
#[derive(Debug, Subcommand)]
pub(super) enum InventoryCommand {
    /// Print the JSON Schema of an inventory: what a program of an `exec` source prints, and what a JSON file holds.
    #[command(after_help = "\
Examples:
  bolt inventory schema >inventory.schema.json
  ./my-inventory | check-jsonschema --schemafile inventory.schema.json -")]
    Schema,
}

/// Runs `bolt inventory`.
pub(super) fn run(command: &InventoryCommand) -> Exit {
    let InventoryCommand::Schema = command;
    outln!("{}", show::json(&document_schema()));
    Exit::Success
}
