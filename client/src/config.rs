//! Who we are.
