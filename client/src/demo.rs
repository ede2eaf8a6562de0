//! A small signed fleet on loopback, end to end.
