//! Readers of single values. Each answers with the value, or with what is allowed in its place.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{AgentName, CoordinatorId, PoolName};
use tocktower_core::limits::NAME_BYTES_MAX;
use tocktower_proto::json::{format_duration, parse_duration};
use tracing_subscriber::EnvFilter;

use super::read::Allowed;
use crate::logging::LogFormat;

/// Longest value of an agent's label, as of a task's.
const LABEL_VALUE_BYTES_MAX: usize = 256;
/// Units of a size, largest first.
const SIZES: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
];

fn or<T>(value: Option<T>, allowed: &str) -> Result<T, Allowed> {
    value.ok_or_else(|| allowed.to_owned())
}

pub fn truth(text: &str) -> Result<bool, Allowed> {
    or(text.parse().ok(), "true or false is allowed")
}

pub fn number(least: u64, most: u64) -> impl Fn(&str) -> Result<u64, Allowed> {
    move |text| {
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        or(number, &format!("a whole number from {least} to {most} is allowed"))
    }
}

pub fn duration(least: Duration, most: Duration) -> impl Fn(&str) -> Result<Duration, Allowed> {
    move |text| {
        let span = parse_duration(text).ok().filter(|span| (least..=most).contains(span));
        let (least, most) = (format_duration(least), format_duration(most));
        or(span, &format!("a duration from {least} to {most} is allowed, such as 3s or 1h30m"))
    }
}

pub fn size(least: u64) -> impl Fn(&str) -> Result<u64, Allowed> {
    move |text| {
        let (digits, unit) = SIZES
            .iter()
            .find_map(|(name, bytes)| Some((text.strip_suffix(name)?, *bytes)))
            .unwrap_or((text, 1));
        let bytes = digits.trim().parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
        let allowed = format!(
            "a number of bytes, {least} at least, is allowed, or one with kB, MB, GB, TB, KiB, \
             MiB, GiB, TiB"
        );
        or(bytes.filter(|bytes| *bytes >= least), &allowed)
    }
}

pub fn address(text: &str) -> Result<SocketAddr, Allowed> {
    or(text.parse().ok(), "an IP address with a port is allowed, such as 127.0.0.1:7080")
}

/// A host by name or address, with a port; whether the name resolves is for those who dial it.
pub fn host_and_port(text: &str) -> Result<String, Allowed> {
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let host_is_good = bracketed
            || (!host.is_empty()
                && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')));
        host_is_good && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    or(good.then(|| text.to_owned()), "a host with a port is allowed, such as node-1:7080")
}

pub fn endpoint(text: &str) -> Result<String, Allowed> {
    let good = text
        .strip_prefix("http://")
        .is_some_and(|rest| host_and_port(rest.trim_end_matches('/')).is_ok());
    let allowed = "http://<host>:<port> is allowed, several separated by commas; TLS to etcd is \
                   not there yet";
    or(good.then(|| text.trim_end_matches('/').to_owned()), allowed)
}

pub fn folder(text: &str) -> Result<PathBuf, Allowed> {
    or((!text.is_empty()).then(|| PathBuf::from(text)), "the path of a folder is allowed")
}

pub fn agent_name(text: &str) -> Result<AgentName, Allowed> {
    or(AgentName::parse(text).ok(), &name_rule())
}

pub fn pool_name(text: &str) -> Result<PoolName, Allowed> {
    or(PoolName::parse(text).ok(), &name_rule())
}

pub fn coordinator_id(text: &str) -> Result<CoordinatorId, Allowed> {
    or(CoordinatorId::parse(text).ok(), &name_rule())
}

fn name_rule() -> String {
    format!(
        "1 to {NAME_BYTES_MAX} characters of a-z, 0-9, '.', '_' and '-' are allowed, with a \
         letter or a digit at both ends"
    )
}

pub fn label(text: &str) -> Result<(String, String), Allowed> {
    let pair = text.split_once('=').filter(|(key, value)| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        key.len() <= NAME_BYTES_MAX
            && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/'))
            && edge(key.chars().next())
            && edge(key.chars().next_back())
            && value.len() <= LABEL_VALUE_BYTES_MAX
            && !value.chars().any(char::is_control)
    });
    let allowed = "key=value is allowed, the key of letters, digits, '.', '_', '-' and '/', with \
                   a letter or a digit at both ends";
    or(pair.map(|(key, value)| (key.to_owned(), value.to_owned())), allowed)
}

pub fn user(text: &str) -> Result<String, Allowed> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '@');
    let good = !text.is_empty() && text.len() <= 64 && text.chars().all(inner);
    or(good.then(|| text.to_owned()), "names of users of this host are allowed")
}

pub fn prefix(text: &str) -> Result<String, Allowed> {
    let good = text.len() > 1
        && text.starts_with('/')
        && text.ends_with('/')
        && !text.contains("//")
        && text.chars().all(|c| c.is_ascii_graphic());
    or(good.then(|| text.to_owned()), "a prefix that begins and ends with '/' is allowed")
}

pub fn ranges(text: &str) -> Result<RangeCount, Allowed> {
    let count = text.parse().ok().and_then(RangeCount::new);
    or(count, "a power of two from 1 to 32768 is allowed")
}

pub fn log_format(text: &str) -> Result<LogFormat, Allowed> {
    let format = match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    };
    or(format, "text or json is allowed")
}

pub fn log_filter(text: &str) -> Result<String, Allowed> {
    let levels = ["error", "warn", "info", "debug", "trace"];
    // A filter takes any word for the name of a module: a misspelt level would silence all.
    let good = levels.contains(&text) || (text.contains('=') && EnvFilter::try_new(text).is_ok());
    let allowed = "error, warn, info, debug or trace is allowed, or a filter by module such as \
                   info,tocktower_agent=debug";
    or(good.then(|| text.to_owned()), allowed)
}
