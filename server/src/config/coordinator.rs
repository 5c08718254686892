//! `tocktower coordinator`: a server of the client API.

use std::net::SocketAddr;
use std::time::Duration;

use tocktower_core::hash::RangeCount;
use tocktower_core::ids::CoordinatorId;

use super::read::Reader;
use super::{listen, values};
use crate::args::CoordinatorArgs;
use crate::host;

/// An hour of maintenance must not make a host forgotten.
const ABSENCE_MIN: Duration = Duration::from_secs(3_600);
/// Ten years: in effect never. The longest that agents keep history, too.
const ABSENCE_MAX: Duration = Duration::from_secs(3_660 * 86_400);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorConfig {
    pub etcd: Vec<String>,
    pub listen: SocketAddr,
    /// `None`: where it listens.
    pub advertise: Option<String>,
    pub id: CoordinatorId,
    /// Of a cluster that is made at this start. `None`: the default, or what the cluster has.
    pub ranges: Option<RangeCount>,
    pub prefix: String,
    pub compact: bool,
    /// How long an agent is absent before it is forgotten.
    pub forget_agents_after: Duration,
    /// Someone has said that the network in front of the listener is theirs.
    pub insecure: bool,
}

pub fn read(reader: &mut Reader, args: &CoordinatorArgs) -> Option<CoordinatorConfig> {
    let etcd = reader.list("etcd", &args.etcd, values::endpoint);
    let listen = reader.value("listen", &args.listen, "127.0.0.1:7080", values::address);
    let advertise = reader.optional("advertise", &args.advertise, values::host_and_port);
    let id = reader.value("id", &args.id, &host::name(), values::coordinator_id);
    let ranges = reader.optional("ranges", &args.ranges, values::ranges);
    let prefix = reader.value("prefix", &args.prefix, "/tocktower/v1/", values::prefix);
    let compact = reader.value("compact", &args.compact, "true", values::truth);
    let absence = values::duration(ABSENCE_MIN, ABSENCE_MAX);
    let forget = &args.forget_agents_after;
    let forget_agents_after = reader.value("forget-agents-after", forget, "30d", absence);
    let insecure = reader.value("insecure", &args.insecure, "false", values::truth);
    if etcd.is_empty() && !reader.refused("etcd") {
        reader.missing("etcd", "the members of etcd are needed, as http://<host>:<port>");
    }
    listen::loopback_unless_insecure(reader, "listen", listen, insecure);
    let everywhere = listen.is_some_and(|address| address.ip().is_unspecified());
    if everywhere && advertise.is_none() && !reader.refused("advertise") {
        let needed = "this coordinator listens on every address, so agents must be told one, as \
                      <host>:<port>";
        reader.missing("advertise", needed);
    }
    Some(CoordinatorConfig {
        etcd,
        listen: listen?,
        advertise,
        id: id?,
        ranges,
        prefix: prefix?,
        compact: compact?,
        forget_agents_after: forget_agents_after?,
        insecure: insecure?,
    })
}
