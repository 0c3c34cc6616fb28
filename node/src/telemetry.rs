//! Structured logs: JSON lines for machines, text for people.

use crate::config::Config;
use tracing_subscriber::EnvFilter;

/// Starts logging to standard error. A second call changes nothing.
///
/// # Errors
/// Where the filter is malformed.
pub fn start(config: &Config) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::try_new(&config.log_level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second subscriber is refused: tests start many nodes in one process.
    let _ = if config.log_json {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    } else {
        builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
    };
    Ok(())
}
