//! Authoring packs: scaffold, lint, test, build.
