//! `tocktower raise-epoch`: what an operator does after etcd was put back from a backup.
//!
//! It talks to etcd itself, since the coordinators have stopped. It changes one key, only if that
//! is as it was looked at, and only when told the id of the cluster that it then finds there: a
//! raise on a cluster that was never put back makes runs `lost` that were not.
//!
//! Whoever is registered still is of the epoch before. Such a daemon may not have noticed, or there
//! is nothing to notice; so the raise waits for leases to end, and refuses if they do not. After it
//! the record is another, so nobody of the epoch before can register; who was quicker than the
//! raise loses the session.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use tocktower_cluster::cluster::{self, Cluster, ClusterError};
use tocktower_cluster::etcd::{Etcd, EtcdOptions};
use tocktower_cluster::keys::{Key, Keys};
use tocktower_cluster::port::{Answer, KeyRange, KeyValue, ListRequest, Port, PortError, Request};
use tocktower_core::ids::{LeaseId, Revision};
use tocktower_core::time::Wall;

use crate::config::{Environment, Problems, Reader, values};

const EXIT_CONFIGURATION: u8 = 78;
const CALL_WITHIN: Duration = Duration::from_secs(5);
/// Longer than the lease of any daemon that has stopped.
const LEASES_END: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Sessions in one page of their list.
const PAGE: usize = 1_000;
const NAMED_MAX: usize = 20;

#[derive(Args, Debug, Default, Clone)]
pub struct RaiseEpochArgs {
    /// The members of etcd, separated by commas [env: TOCKTOWER_ETCD]
    #[arg(long, value_name = "URL,URL")]
    etcd: Vec<String>,
    /// Under which keys of etcd the cluster lives [default: /tocktower/v1/]
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// The id of the cluster, as it is told when this is left out: nothing is changed without it
    #[arg(long, value_name = "ID")]
    cluster: Option<String>,
    /// Ends the sessions of daemons that are still registered, instead of refusing
    #[arg(long)]
    evict: bool,
}

pub const EXAMPLES: &str = "\
After etcd was put back from a backup, nothing starts until the epoch is raised: daemons
that have seen more than the backup knows stop, and say so. Stop all of them first. What
is lost and what may repeat then is told in docs/restore.md.

Examples:
  tocktower raise-epoch --etcd http://10.0.0.1:2379
      tells the cluster and who is registered, and changes nothing
  tocktower raise-epoch --etcd http://10.0.0.1:2379 --cluster 01kb2v5w8s0d9cx1q7m3t4r6yz";

/// Runs the command of this process.
pub fn main(args: &RaiseEpochArgs, environment: &Environment) -> ExitCode {
    let settings = match Settings::read(args, environment) {
        Ok(settings) => settings,
        Err(problems) => {
            say(&mut io::stderr(), &problems.to_string());
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let told = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(settings.run(args)));
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&mut io::stderr(), &format!("raise-epoch: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

/// A reader that went away is no failure.
fn say(to: &mut impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes());
}

struct Settings {
    etcd: Vec<String>,
    prefix: String,
}

impl Settings {
    fn read(args: &RaiseEpochArgs, environment: &Environment) -> Result<Settings, Problems> {
        let mut reader = Reader::open(None, environment)?;
        let etcd = reader.list("etcd", &args.etcd, values::endpoint);
        let prefix = reader.value("prefix", &args.prefix, "/tocktower/v1/", values::prefix);
        if etcd.is_empty() && !reader.refused("etcd") {
            reader.missing("etcd", "the members of etcd are needed, as http://<host>:<port>");
        }
        reader.finish()?;
        Ok(Settings { etcd, prefix: prefix.expect("a prefix that is refused ended this") })
    }

    async fn run(self, args: &RaiseEpochArgs) -> anyhow::Result<()> {
        let port: Arc<dyn Port> = Etcd::connect(&self.etcd, EtcdOptions::default())?;
        let raise = Raise { port, prefix: self.prefix, evict: args.evict, patience: LEASES_END };
        let found = raise.look().await?;
        let mut out = io::stdout();
        say(&mut out, &found.told());
        let Some(id) = &args.cluster else {
            return Err(RaiseError::Unconfirmed { id: found.cluster.id }.into());
        };
        let raised = raise.run(id, now).await?;
        say(&mut out, &raised.told());
        Ok(())
    }
}

fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Why the epoch was not raised.
#[derive(Debug, thiserror::Error)]
pub enum RaiseError {
    #[error("etcd does not answer")]
    Store(#[from] PortError),
    #[error("etcd holds no cluster under {prefix}: check --etcd and --prefix")]
    NoCluster { prefix: String },
    #[error(transparent)]
    Record(#[from] ClusterError),
    #[error("nothing was changed; to raise the epoch, say which cluster: --cluster {id}")]
    Unconfirmed { id: String },
    #[error("nothing was changed: the cluster there is {is}, not {given}")]
    Another { given: String, is: String },
    #[error(
        "nothing was changed: {told}. Who was stopped would be gone by now: stop the others \
         first, or end their sessions with --evict"
    )]
    Registered { told: String },
    #[error("nothing was changed: the cluster's record was changed meanwhile; look again")]
    Changed,
    #[error(
        "the epoch was raised to {epoch}, and is not to be raised again; but sessions of the one \
         before may not have ended: stop what goes on of {told}"
    )]
    Raised { epoch: u32, told: String, source: PortError },
}

/// What there is, as it was looked at.
pub struct Found {
    pub cluster: Cluster,
    pub revision: Revision,
    pub members: Members,
    item: KeyValue,
}

impl Found {
    fn told(&self) -> String {
        let Cluster { id, epoch, ranges, .. } = &self.cluster;
        let (epoch, ranges, revision) = (epoch.0, ranges.get(), self.revision.0);
        let members = self.members.told();
        format!("cluster {id}: epoch {epoch}, {ranges} ranges, at revision {revision}\n{members}\n")
    }
}

/// Daemons with a session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    pub names: Vec<String>,
    leases: Vec<LeaseId>,
}

impl Members {
    fn told(&self) -> String {
        let named = named(&self.names);
        match self.names.len() {
            0 => "no daemon is registered".to_owned(),
            1 => format!("{named} is registered"),
            count => format!("{count} daemons are registered: {named}"),
        }
    }
}

/// The first few of many.
fn named(names: &[String]) -> String {
    let first = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Raised {
    pub epoch: u32,
    pub evicted: Vec<String>,
}

impl Raised {
    fn told(&self) -> String {
        let Raised { epoch, evicted } = self;
        let ended = match evicted.len() {
            0 => String::new(),
            _ => format!("; the sessions of {} were ended", named(evicted)),
        };
        format!("raised to epoch {epoch}{ended}: start the coordinators and agents again\n")
    }
}

/// A raise of the epoch of the cluster under a prefix.
pub struct Raise {
    pub port: Arc<dyn Port>,
    pub prefix: String,
    pub evict: bool,
    /// How long sessions may take to end.
    pub patience: Duration,
}

impl Raise {
    pub async fn look(&self) -> Result<Found, RaiseError> {
        let key = KeyRange::one(&cluster::key(&self.prefix));
        let (items, revision, _) = self.list(key, 1).await?;
        let Some(item) = items.into_iter().next() else {
            return Err(RaiseError::NoCluster { prefix: self.prefix.clone() });
        };
        let cluster = cluster::read_item(&item)?;
        let members = self.members(&cluster, Revision(i64::MAX)).await?;
        Ok(Found { cluster, revision, members, item })
    }

    /// Raises the epoch of the cluster with this id.
    pub async fn run(&self, id: &str, now: fn() -> Wall) -> Result<Raised, RaiseError> {
        let found = self.unregistered(id).await?;
        // Only now, when nobody of the old epoch is there any more. A clock that was set back must
        // not make the new epoch begin before that one.
        let began = now().max(found.cluster.epoch_began);
        let txn = cluster::raise(&found.item, began).map_err(ClusterError::from)?;
        let answer = self.call(Request::Txn(txn)).await?;
        let Answer::Txn { succeeded: true, revision, .. } = answer else {
            return Err(RaiseError::Changed);
        };
        let epoch = found.cluster.epoch.0 + 1;
        let told = found.members.told();
        let ended = self.end_sessions(&found.cluster, revision).await;
        let evicted = ended.map_err(|source| RaiseError::Raised { epoch, told, source })?;
        Ok(Raised { epoch, evicted })
    }

    /// Ends the sessions that are older than the raise. Who comes after it is of the new epoch.
    async fn end_sessions(
        &self,
        cluster: &Cluster,
        raised: Revision,
    ) -> Result<Vec<String>, PortError> {
        let left = self.members(cluster, raised).await?;
        for lease in left.leases {
            match self.call(Request::RevokeLease { lease }).await {
                Ok(_) | Err(PortError::NoLease) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(left.names)
    }

    /// Waits for those who are registered, whose leases may be about to end.
    async fn unregistered(&self, id: &str) -> Result<Found, RaiseError> {
        let until = tokio::time::Instant::now() + self.patience;
        loop {
            let found = self.look().await?;
            if found.cluster.id != id {
                let (given, is) = (id.to_owned(), found.cluster.id);
                return Err(RaiseError::Another { given, is });
            }
            if found.members.names.is_empty() || self.evict {
                return Ok(found);
            }
            if tokio::time::Instant::now() >= until {
                return Err(RaiseError::Registered { told: found.members.told() });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Those that registered before this revision.
    async fn members(&self, cluster: &Cluster, before: Revision) -> Result<Members, PortError> {
        let keys = Keys::new(&self.prefix, cluster.ranges);
        let (mut rest, mut members) = (keys.members(), Members::default());
        loop {
            let (items, _, more) = self.list(rest.clone(), PAGE).await?;
            let last = items.last().map(|item| item.key.clone());
            for item in items.into_iter().filter(|item| item.create_revision < before) {
                members.names.push(match keys.parse(&item.key) {
                    Some(Key::Member(agent)) => format!("agent {agent}"),
                    Some(Key::Coordinator(id)) => format!("coordinator {id}"),
                    _ => String::from_utf8_lossy(&item.key).into_owned(),
                });
                members.leases.extend(item.lease);
            }
            let Some(last) = last.filter(|_| more) else { return Ok(members) };
            rest.start = last;
            rest.start.push(0);
        }
    }

    async fn list(
        &self,
        range: KeyRange,
        limit: usize,
    ) -> Result<(Vec<KeyValue>, Revision, bool), PortError> {
        let list = ListRequest { range, limit, at: None, keys_only: false };
        match self.call(Request::List(list)).await? {
            Answer::List { items, revision, more } => Ok((items, revision, more)),
            other => Err(PortError::Refused(format!("an answer that does not fit: {other:?}"))),
        }
    }

    async fn call(&self, request: Request) -> Result<Answer, PortError> {
        let answer = tokio::time::timeout(CALL_WITHIN, self.port.call(request)).await;
        let late = || PortError::Unknown(format!("no answer within {CALL_WITHIN:?}"));
        answer.unwrap_or_else(|_| Err(late()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tocktower_cluster::embedded::Embedded;
    use tocktower_cluster::port::{Op, Txn};
    use tocktower_core::hash::RangeCount;
    use tocktower_core::ids::{AgentName, Epoch};

    fn noon() -> Wall {
        Wall::from_millis(1_800_000_000_000)
    }

    async fn raise(evict: bool) -> Raise {
        let port: Arc<dyn Port> = Embedded::in_memory().unwrap();
        let raise = Raise { port, prefix: "/t/".to_owned(), evict, patience: Duration::ZERO };
        let value = cluster::new_record("c1".to_owned(), RangeCount::DEFAULT);
        put(&raise, cluster::key("/t/"), value, None).await;
        raise
    }

    async fn put(raise: &Raise, key: Vec<u8>, value: Vec<u8>, lease: Option<LeaseId>) {
        let then = vec![Op::Put { key, value, lease }];
        raise.call(Request::Txn(Txn { then, ..Txn::default() })).await.unwrap();
    }

    async fn register(raise: &Raise, agent: &str, seconds: u64) -> LeaseId {
        let ttl = Duration::from_secs(seconds);
        let Answer::Lease { lease, .. } = raise.call(Request::GrantLease { ttl }).await.unwrap()
        else {
            panic!("no lease")
        };
        let keys = Keys::new("/t/", RangeCount::DEFAULT);
        let key = keys.build(&Key::Member(AgentName::parse(agent).unwrap()));
        put(raise, key, Vec::new(), Some(lease)).await;
        lease
    }

    #[tokio::test]
    async fn it_raises_the_epoch_of_the_cluster_that_it_is_told_and_of_no_other() {
        let raise = raise(false).await;
        let error = raise.run("c2", noon).await.unwrap_err();
        assert_eq!(error.to_string(), "nothing was changed: the cluster there is c1, not c2");
        assert_eq!(raise.look().await.unwrap().cluster.epoch, Epoch(1));
        let raised = raise.run("c1", noon).await.unwrap();
        assert_eq!(raised, Raised { epoch: 2, evicted: Vec::new() });
        let found = raise.look().await.unwrap().cluster;
        assert_eq!((found.epoch, found.epoch_began), (Epoch(2), noon()));
        raise.run("c1", || Wall::from_micros(5)).await.unwrap();
        let found = raise.look().await.unwrap().cluster;
        assert_eq!((found.epoch, found.epoch_began), (Epoch(3), noon()), "it never goes back");
    }

    #[tokio::test]
    async fn who_is_registered_is_named_and_ended_only_when_asked() {
        let mut raise = raise(false).await;
        let lease = register(&raise, "a0", 60).await;
        let error = raise.run("c1", noon).await.unwrap_err().to_string();
        assert!(error.starts_with("nothing was changed: agent a0 is registered."), "{error}");
        assert_eq!(raise.look().await.unwrap().cluster.epoch, Epoch(1));
        raise.evict = true;
        let raised = raise.run("c1", noon).await.unwrap();
        assert_eq!(raised, Raised { epoch: 2, evicted: vec!["agent a0".to_owned()] });
        assert_eq!(raise.look().await.unwrap().members, Members::default());
        let again = raise.call(Request::KeepAlive { lease }).await;
        assert_eq!(again, Err(PortError::NoLease));
    }

    #[tokio::test]
    async fn of_a_large_fleet_every_session_is_ended_and_none_that_comes_after() {
        let raise = raise(true).await;
        let fleet = PAGE + 200;
        for number in 0..fleet {
            register(&raise, &format!("a{number}"), 60).await;
        }
        let raised = raise.run("c1", noon).await.unwrap();
        assert_eq!((raised.epoch, raised.evicted.len()), (2, fleet));
        assert!(raised.told().contains("and 1180 more were ended"), "{}", raised.told());
        let found = raise.look().await.unwrap();
        assert_eq!(found.members, Members::default());
        register(&raise, "late", 60).await;
        let old = found.revision;
        assert_eq!(raise.end_sessions(&found.cluster, old).await.unwrap(), [""; 0]);
        assert_eq!(raise.look().await.unwrap().members.names, ["agent late"]);
    }

    #[tokio::test]
    async fn the_epoch_begins_when_the_last_lease_has_ended() {
        let mut raise = raise(false).await;
        raise.patience = Duration::from_secs(30);
        register(&raise, "a0", 2).await;
        let registered = now();
        raise.run("c1", now).await.unwrap();
        let began = raise.look().await.unwrap().cluster.epoch_began;
        assert!(began >= registered.plus(Duration::from_secs(1)), "runs of a0 came due meanwhile");
    }

    #[tokio::test]
    async fn a_record_that_changed_meanwhile_is_left_alone_and_so_is_nothing() {
        let raise = raise(false).await;
        let found = raise.look().await.unwrap();
        raise.run("c1", noon).await.unwrap();
        let txn = cluster::raise(&found.item, noon()).unwrap();
        let answer = raise.call(Request::Txn(txn)).await.unwrap();
        assert!(matches!(answer, Answer::Txn { succeeded: false, .. }));
        let elsewhere = Raise { prefix: "/u/".to_owned(), ..raise };
        let error = elsewhere.run("c1", noon).await.unwrap_err().to_string();
        assert!(error.contains("no cluster under /u/"), "{error}");
    }
}
