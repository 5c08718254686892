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
pub(crate) mod values;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Arg, Command, CommandFactory};

pub use agent::{AgentConfig, HistoryRules};
pub use coordinator::CoordinatorConfig;
pub use dev::DevConfig;
pub use problem::{Problem, Problems};
pub use read::{Environment, Reader};

use crate::args::{Cli, CommonArgs, Daemon};
use crate::logging::LogFormat;

/// Variables of those who test the daemons.
const OF_TESTS: &str = "TOCKTOWER_TEST_";

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
    /// Variables that look like ours and are no key of any daemon.
    pub strangers: Vec<String>,
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
    Ok(Loaded { common, config, effective, strangers: strangers(environment) })
}

/// What is told of a stranger.
pub const STRANGER: &str = "is the variable of no key, so nothing comes of it";

/// `TOCKTOWER_LISTNE` was meant for something. It is told and not refused: a variable of another
/// daemon or of a newer version may be in an environment that both share.
fn strangers(environment: &Environment) -> Vec<String> {
    let daemons = Cli::command();
    let keys = daemons.get_subcommands().flat_map(Command::get_arguments).filter_map(Arg::get_long);
    let keys = keys.filter(|key| *key != "check");
    let known: BTreeSet<String> = keys.map(read::variable_of).collect();
    let ours = |name: &&String| name.starts_with("TOCKTOWER_") && !name.starts_with(OF_TESTS);
    environment.keys().filter(ours).filter(|name| !known.contains(*name)).cloned().collect()
}

/// Makes the folder of a daemon's data. One that can never be made is wrong configuration.
pub fn make_data_dir(folder: &Path) -> anyhow::Result<()> {
    use std::io::ErrorKind::{
        AlreadyExists, InvalidFilename, NotADirectory, NotFound, PermissionDenied,
        ReadOnlyFilesystem,
    };
    let Err(error) = std::fs::create_dir_all(folder) else { return Ok(()) };
    let value = folder.display().to_string();
    match error.kind() {
        AlreadyExists | InvalidFilename | NotADirectory | NotFound | PermissionDenied
        | ReadOnlyFilesystem => {
            let why = error.to_string();
            Err(Problems(vec![Problem::Unusable { key: "data-dir", value, why }]).into())
        }
        _ => Err(error).with_context(|| format!("data-dir = {value}: it cannot be made")),
    }
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
