//! Attacks of independent tools on a live agent: real programs, real TLS.
//!
//! - [`schemathesis`]: requests generated from the OpenAPI document, and their answers held against it.
//! - [`slow`]: slowhttptest in all its modes, beside a caller that behaves well.
//! - [`tls`]: sslyze on the port.
//!
//! `.ci/run` installs the tools outside the clone and sets `BOLT_TEST_ATTACK` to their directory.

mod relay;
pub mod schemathesis;
pub mod slow;
pub mod tls;

use std::path::PathBuf;

/// Directory with the tools.
#[derive(Debug, Clone)]
pub struct Tools(PathBuf);

impl Tools {
    /// Returns the tools, if all are installed.
    pub fn find() -> Option<Tools> {
        let directory = PathBuf::from(std::env::var_os("BOLT_TEST_ATTACK")?);
        let tools = Tools(directory);
        [tools.schemathesis(), tools.sslyze(), tools.slowhttptest()].iter().all(|path| path.exists()).then_some(tools)
    }

    fn schemathesis(&self) -> PathBuf {
        self.0.join("venv/bin/schemathesis")
    }

    fn sslyze(&self) -> PathBuf {
        self.0.join("venv/bin/sslyze")
    }

    fn slowhttptest(&self) -> PathBuf {
        self.0.join("root/usr/bin/slowhttptest")
    }
}
