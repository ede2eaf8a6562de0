//! Phases of a request to an instance.

use std::fmt;

/// Phase of a request, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The host name is resolved to addresses.
    Resolve,
    /// A TCP connection is made.
    Connect,
    /// The TLS handshake, in which both sides show their certificates.
    Tls,
    /// The request is sent, and its answer is read.
    Http,
    /// The agent has answered that it refuses.
    Refused,
}

impl Phase {
    /// Returns a stable name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Resolve => "resolve",
            Phase::Connect => "connect",
            Phase::Tls => "tls",
            Phase::Http => "http",
            Phase::Refused => "refused",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
