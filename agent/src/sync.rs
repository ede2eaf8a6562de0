//! Keeps the instance supplied with packs.
