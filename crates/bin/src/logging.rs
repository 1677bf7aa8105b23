//! The server's own log: to standard error, as text or one JSON object a line.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use impuls_cli::LogFormat;
use tracing_subscriber::EnvFilter;

/// What the pool of database connections says by itself. A connection that breaks while it is made is an error to it; whoever
/// wanted one is told, and says so if nothing else helps.
const POOL: &str = "sqlx_core::pool";

/// Starts logging; once in the life of the process.
pub(crate) fn start(format: LogFormat, level: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(level)
        .with_context(|| format!("log level {level:?} is not one of error, warn, info, debug, trace"))?;
    let filter = match level.contains("sqlx") {
        true => filter,
        false => filter.add_directive(format!("{POOL}=off").parse()?),
    };
    let logger = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => logger.json().init(),
        LogFormat::Text => logger.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
    }
    Ok(())
}
