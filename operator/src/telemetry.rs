//! Logs: JSON on standard output, filtered by LOG_LEVEL.

use tracing_subscriber::EnvFilter;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For machines.
    Json,
    /// For people.
    Text,
}

/// Starts logging. A second start changes nothing.
pub fn start(level: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(directives(level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter);
    // Only the first subscriber of a process counts; tests start several operators in one.
    let _ = match format {
        LogFormat::Json => lines.json().try_init(),
        LogFormat::Text => lines.try_init(),
    };
}

/// A plain level is for our own lines: the controller library says at `info` that it visits an object, each time.
fn directives(level: &str) -> String {
    match level {
        "info" => "info,kube_runtime=warn".to_owned(),
        other => other.to_owned(),
    }
}
