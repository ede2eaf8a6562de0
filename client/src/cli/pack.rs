//! The `bolt pack` command.
