//! The `bolt repo` command.
