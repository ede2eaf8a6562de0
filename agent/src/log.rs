//! The log: key=value lines on standard error, for journald or a file. Never parameters, bodies or output.

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

/// Starts logging at the level that `BOLT_LOG` names (`error`, `warn`, `info`, `debug`), by default `info`.
pub fn start() {
    let wanted = std::env::var("BOLT_LOG").unwrap_or_default();
    let level = match wanted.as_str() {
        "error" => Level::ERROR,
        "warn" => Level::WARN,
        "debug" => Level::DEBUG,
        _ => Level::INFO,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_max_level(LevelFilter::from_level(level))
        .finish()
        .with(ours(level));
    if tracing::subscriber::set_global_default(subscriber).is_ok()
        && !matches!(wanted.as_str(), "" | "error" | "warn" | "info" | "debug")
    {
        tracing::warn!(given = %wanted.escape_debug(), "BOLT_LOG is none of error, warn, info, debug; using info");
    }
}

/// The AWS libraries quote lines of credentials files that they do not understand; what matters of theirs comes back as
/// an error.
fn ours(level: Level) -> Targets {
    Targets::new().with_default(level).with_target("aws_", LevelFilter::OFF)
}

/// An error and its sources in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_aws_libraries_write_no_line() {
        let ours = ours(Level::INFO);
        assert!(ours.would_enable("bolt_agent::sync", &Level::INFO));
        assert!(!ours.would_enable("aws_runtime::env_config::normalize", &Level::ERROR));
        assert!(!ours.would_enable("aws_config::profile::credentials", &Level::WARN));
    }
}
