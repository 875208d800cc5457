//! The log: lines on stderr, as text or JSON; the journal adds the time itself.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use super::options::LogFormat;

/// Environment variable with a filter; the command line wins over it, it wins over the configuration.
pub const VARIABLE: &str = "DOMUS_LOG";

/// Changes the filter while the daemon runs.
pub type Reload = reload::Handle<EnvFilter, Registry>;

/// A filter nobody can make sense of.
#[derive(Debug, thiserror::Error)]
#[error("log filter '{filter}': {error}")]
pub struct FilterError {
    filter: String,
    error: tracing_subscriber::filter::ParseError,
}

/// The filter to use: of the command line, else of the environment, else of the configuration, else `info`.
pub fn filter(option: Option<&str>, configured: Option<&str>) -> Result<EnvFilter, FilterError> {
    let environment = std::env::var(VARIABLE).ok().filter(|filter| !filter.is_empty());
    let text = option.or(environment.as_deref()).or(configured).unwrap_or("info");
    EnvFilter::try_new(text).map_err(|error| FilterError { filter: text.to_string(), error })
}

/// Starts logging. A second start in one process (tests) changes nothing.
pub fn start(filter: EnvFilter, format: LogFormat) -> Reload {
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let text = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let _ = match format {
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
        LogFormat::Text if journal => registry.with(text.without_time()).try_init(),
        LogFormat::Text => registry.with(text).try_init(),
    };
    handle
}
