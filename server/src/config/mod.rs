//! The configuration of each daemon: what it may say, what it means, what is refused.
//!
//! A key has one name in the file, as a flag and in the environment (`lease-ttl`, `--lease-ttl`,
//! `TOCKTOWER_LEASE_TTL`), one reader and one line here. Flag goes before environment, environment
//! before file, file before default. Everything that is wrong is reported at once, each with its
//! key, the value, where it came from and what is allowed; the process then ends with exit code 78,
//! which service managers know not to try again.
//!
//! Out of here come values that need no second look: names that are well formed, addresses that
//! may be listened on. The environment is an argument, so that tests can choose it.

mod agent;
mod coordinator;
mod dev;
mod listen;
mod problem;
mod read;
mod values;

use std::path::PathBuf;
use std::time::Duration;

pub use agent::{AgentConfig, HistoryRules};
pub use coordinator::CoordinatorConfig;
pub use dev::DevConfig;
pub use problem::{Problem, Problems};
pub use read::{Environment, Reader};

use crate::args::{CommonArgs, Daemon};
use crate::logging::LogFormat;

/// A daemon with all that it was told.
#[derive(Debug, Clone)]
pub enum Config {
    Dev(DevConfig),
    Agent(AgentConfig),
    Coordinator(CoordinatorConfig),
}

/// What every daemon is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    pub log_level: String,
    pub log_format: LogFormat,
    pub drain_timeout: Duration,
}

/// A configuration that is good, and the text that tells it.
pub struct Loaded {
    pub common: Common,
    pub config: Config,
    /// As a TOML file, each key with the place that its value came from.
    pub effective: String,
}

/// Reads the configuration of a daemon from its flags, the environment and its file.
pub fn load(daemon: &Daemon, environment: &Environment) -> Result<Loaded, Problems> {
    let args = common_args(daemon);
    let mut reader = Reader::open(file_of(args, environment), environment)?;
    let common = common(&mut reader, args);
    let config = match daemon {
        Daemon::Dev(args) => dev::read(&mut reader, args).map(Config::Dev),
        Daemon::Agent(args) => agent::read(&mut reader, args).map(Config::Agent),
        Daemon::Coordinator(args) => coordinator::read(&mut reader, args).map(Config::Coordinator),
    };
    let effective = reader.finish()?;
    let common = common.expect("a key that is missing is a problem, and problems ended this");
    let config = config.expect("a key that is missing is a problem, and problems ended this");
    Ok(Loaded { common, config, effective })
}

pub fn common_args(daemon: &Daemon) -> &CommonArgs {
    match daemon {
        Daemon::Dev(args) => &args.common,
        Daemon::Agent(args) => &args.common,
        Daemon::Coordinator(args) => &args.common,
    }
}

fn file_of(args: &CommonArgs, environment: &Environment) -> Option<PathBuf> {
    args.config.clone().or_else(|| environment.get("TOCKTOWER_CONFIG").map(PathBuf::from))
}

fn common(reader: &mut Reader, args: &CommonArgs) -> Option<Common> {
    let log_level = reader.value("log-level", &args.log_level, "info", values::log_filter);
    let log_format = reader.value("log-format", &args.log_format, "text", values::log_format);
    let longest = Duration::from_secs(3_600);
    let timeout = values::duration(Duration::ZERO, longest);
    let drain_timeout = reader.value("drain-timeout", &args.drain_timeout, "30s", timeout);
    Some(Common { log_level: log_level?, log_format: log_format?, drain_timeout: drain_timeout? })
}

#[cfg(test)]
mod tests;
