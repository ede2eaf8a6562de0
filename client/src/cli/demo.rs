//! The `bolt demo` command.
