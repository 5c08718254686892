//! Logs, through `tracing`, to standard error: text for people, JSON for machines.
//!
//! Standard output stays free for what was asked for (`--check`). Colours only on a terminal.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::SubscriberBuilder;

use crate::config::Common;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Sets up the logs of this process; once.
pub fn start(common: &Common) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&common.log_level)?;
    let builder = SubscriberBuilder::default().with_env_filter(filter).with_writer(io::stderr);
    let done = match common.log_format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    done.map_err(|error| anyhow::anyhow!("logs cannot be set up: {error}"))
}
