//! `tocktower agent`: the daemon of a host.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tocktower_core::ids::{AgentName, PoolName};
use tocktower_core::ring::WEIGHT_MAX;

use super::read::Reader;
use super::{listen, values};
use crate::args::AgentArgs;
use crate::host;

/// etcd grants no lease shorter than this.
const LEASE_TTL_MIN: Duration = Duration::from_secs(2);
/// A dead agent's tasks wait that long; beyond this no promise about lateness would hold.
const LEASE_TTL_MAX: Duration = Duration::from_secs(8);
/// Processes that one host could conceivably carry at once.
const RUNNING_MAX: u64 = 100_000;
/// With less the history would be gone before anybody could look at it.
const HISTORY_BYTES_MIN: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    pub etcd: Vec<String>,
    pub name: AgentName,
    pub pool: PoolName,
    pub labels: BTreeMap<String, String>,
    pub data_dir: PathBuf,
    pub metrics_listen: Option<SocketAddr>,
    pub lease_ttl: Duration,
    pub weight: u32,
    pub running_max: usize,
    pub allow_users: Vec<String>,
    pub http_allow_link_local: bool,
    pub history: HistoryRules,
    /// In bytes. `None`: what the disk's size asks for.
    pub disk_reserve: Option<u64>,
    pub prefix: String,
    pub compact: bool,
}

/// What leaves the history, whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryRules {
    pub age_max: Duration,
    pub bytes_max: u64,
    /// Of one task.
    pub runs_max: u64,
}

pub fn read(reader: &mut Reader, args: &AgentArgs) -> Option<AgentConfig> {
    let etcd = reader.list("etcd", &args.etcd, values::endpoint);
    let name = reader.value("name", &args.name, &host::name(), values::agent_name);
    let pool = reader.value("pool", &args.pool, "default", values::pool_name);
    let labels = reader.list("label", &args.label, values::label);
    let data_dir = reader.value("data-dir", &args.data_dir, "/var/lib/tocktower", values::folder);
    let metrics_listen = reader.optional("metrics-listen", &args.metrics_listen, values::address);
    let ttl = values::duration(LEASE_TTL_MIN, LEASE_TTL_MAX);
    let lease_ttl = reader.value("lease-ttl", &args.lease_ttl, "3s", ttl);
    let weight = reader.value("weight", &args.weight, "100", values::number(0, WEIGHT_MAX.into()));
    let running = values::number(1, RUNNING_MAX);
    let running_max = reader.value("max-running", &args.max_running, "1000", running);
    let allow_users = reader.list("allow-users", &args.allow_users, values::user);
    let link_local = &args.http_allow_link_local;
    let http_allow_link_local =
        reader.value("http-allow-link-local", link_local, "false", values::truth);
    let history = history(reader, args);
    let disk_reserve = reader.optional("disk-reserve", &args.disk_reserve, values::size(0));
    let prefix = reader.value("prefix", &args.prefix, "/tocktower/v1/", values::prefix);
    let compact = reader.value("compact", &args.compact, "true", values::truth);
    let insecure = reader.value("insecure", &args.insecure, "false", values::truth);
    if etcd.is_empty() && !reader.refused("etcd") {
        reader.missing("etcd", "the members of etcd are needed, as http://<host>:<port>");
    }
    listen::loopback_unless_insecure(reader, "metrics-listen", metrics_listen, insecure);
    Some(AgentConfig {
        etcd,
        name: name?,
        pool: pool?,
        labels: labels.into_iter().collect(),
        data_dir: data_dir?,
        metrics_listen,
        lease_ttl: lease_ttl?,
        weight: u32::try_from(weight?).expect("it is bounded above"),
        running_max: usize::try_from(running_max?).expect("it is bounded above"),
        allow_users,
        http_allow_link_local: http_allow_link_local?,
        history: history?,
        disk_reserve,
        prefix: prefix?,
        compact: compact?,
    })
}

fn history(reader: &mut Reader, args: &AgentArgs) -> Option<HistoryRules> {
    let age = values::duration(Duration::from_secs(3_600), 3_660 * DAY);
    let age_max = reader.value("history-max-age", &args.history_max_age, "30d", age);
    let bytes = &args.history_max_bytes;
    let bytes_max =
        reader.value("history-max-bytes", bytes, "10GiB", values::size(HISTORY_BYTES_MIN));
    let runs = values::number(1, 1_000_000_000);
    let runs_max = reader.value("history-max-runs", &args.history_max_runs, "10000", runs);
    Some(HistoryRules { age_max: age_max?, bytes_max: bytes_max?, runs_max: runs_max? })
}
