//! The shared state in etcd, for fleets. Works with etcd 3.4 and later.
//!
//! Calls go to one member, with a time limit, and to the next when that one cannot be reached or
//! has no leader: only then is it certain that the request did not happen. A call whose outcome is
//! unknown is never sent again from here; whoever made it knows how to find out.
//!
//! Each watch stream has a connection of its own. Streams of one connection share its HTTP/2
//! window, so that a reader who is slow would hold up everybody's calls with the bytes that wait
//! for it.

mod convert;
mod error;
mod keep_alive;
mod members;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use etcd_client::Client;
use futures::FutureExt;
use futures::future::BoxFuture;
use tocktower_core::ids::{LeaseId, Revision};
use tokio::sync::mpsc;

use self::error::port_error;
use self::keep_alive::KeepAlives;
use self::members::Members;
use crate::port::{Answer, ListRequest, Port, PortError, Request, WatchStream};

/// Longest message that is taken from etcd, which is the longest that it sends. A watcher that lags
/// gets 1,000 revisions in one.
const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;

/// How to talk to etcd.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// Limit of every call, but keep-alives.
    pub timeout: Duration,
    /// Limit of a keep-alive. Shorter, so that within the life of a lease there is time to try
    /// another member.
    pub keep_alive_timeout: Duration,
    /// Limit of making a connection, after which the next member is tried.
    pub connect_timeout: Duration,
    /// A connection that has streams open is pinged this often. At least 5 s, or etcd hangs up.
    pub ping_interval: Duration,
    /// A connection whose ping is not answered for so long is dead.
    pub ping_timeout: Duration,
    /// Name and password, if etcd asks for them.
    pub user: Option<(String, String)>,
}

impl Default for EtcdOptions {
    fn default() -> EtcdOptions {
        EtcdOptions {
            timeout: Duration::from_secs(5),
            keep_alive_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
            user: None,
        }
    }
}

/// Why etcd cannot be used as told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdError {
    #[error("no etcd endpoints are given")]
    NoEndpoints,
    #[error("{0:?} is not an etcd endpoint: use http://<host>:<port>")]
    Endpoint(String),
}

/// etcd as the shared state.
pub struct Etcd {
    shared: Arc<Shared>,
}

struct Shared {
    members: Members,
    keep_alives: KeepAlives,
    options: EtcdOptions,
}

impl Etcd {
    /// Connects on the first call, not here: etcd may be down when we start.
    pub fn connect(endpoints: &[String], options: EtcdOptions) -> Result<Arc<Etcd>, EtcdError> {
        if endpoints.is_empty() {
            return Err(EtcdError::NoEndpoints);
        }
        let bad = endpoints.iter().find(|endpoint| !valid(endpoint));
        if let Some(bad) = bad {
            return Err(EtcdError::Endpoint(bad.clone()));
        }
        let members = Members::new(endpoints, options.clone());
        let shared = Shared { members, keep_alives: KeepAlives::default(), options };
        Ok(Arc::new(Etcd { shared: Arc::new(shared) }))
    }
}

/// Only what etcd-client connects to without TLS.
fn valid(endpoint: &str) -> bool {
    let uri = endpoint.parse::<tonic::transport::Uri>();
    uri.is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some())
}

impl Port for Etcd {
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Answer, PortError>> {
        let shared = self.shared.clone();
        async move { shared.call(request).await }.boxed()
    }

    /// Must be called within a tokio runtime, on which the stream's tasks run.
    fn watch(&self, capacity: usize) -> WatchStream {
        let (commands, orders) = mpsc::unbounded_channel();
        let (sender, messages) = mpsc::channel(capacity);
        tokio::spawn(watch::serve(self.shared.clone(), orders, sender));
        WatchStream { commands, messages }
    }
}

impl Shared {
    async fn call(&self, request: Request) -> Result<Answer, PortError> {
        if let Request::List(list) = &request {
            check_list(list)?;
        }
        let limit = match &request {
            Request::KeepAlive { .. } => self.options.keep_alive_timeout,
            _ => self.options.timeout,
        };
        let deadline = tokio::time::Instant::now() + limit;
        let mut last = PortError::Unreachable("no member was asked".into());
        for _ in 0..self.members.count() {
            let member = self.members.preferred();
            let answer = tokio::time::timeout_at(deadline, self.ask(member, request.clone())).await;
            let error = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => {
                    self.members.disconnect(member);
                    let endpoint = self.members.endpoint(member);
                    PortError::Unknown(format!("{endpoint} did not answer within {limit:?}"))
                }
            };
            match error {
                // It certainly did not happen, and another member may do it.
                PortError::Unreachable(_) | PortError::NoLeader => {
                    self.members.leave(member);
                    last = error;
                }
                PortError::Unknown(_) => {
                    self.members.leave(member);
                    return Err(error);
                }
                _ => return Err(error),
            }
        }
        Err(last)
    }

    async fn ask(&self, member: usize, request: Request) -> Result<Answer, PortError> {
        let asked = match &request {
            Request::List(list) => list.at.unwrap_or_default(),
            Request::Compact { to } => *to,
            _ => Revision(0),
        };
        let answer = async {
            let client = self.members.client(member).await?;
            self.send(client, request).await
        };
        answer.await.map_err(|error| port_error(&error, asked))
    }

    async fn send(&self, client: Client, request: Request) -> Result<Answer, etcd_client::Error> {
        let mut kv = client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(match request {
            Request::Txn(txn) => convert::txn_answer(&kv.txn(convert::txn(txn)).await?),
            Request::List(list) => {
                let options = convert::list(&list);
                let response = kv.get(list.range.start, Some(options)).await?;
                convert::list_answer(response, list.at)
            }
            Request::Compact { to } => {
                let response = kv.compact(to.0, None).await?;
                Answer::Done { revision: convert::revision(response.header()) }
            }
            Request::GrantLease { ttl } => {
                let response = client.lease_client().grant(whole_seconds(ttl), None).await?;
                let seconds = u64::try_from(response.ttl()).unwrap_or(0);
                let ttl = Duration::from_secs(seconds);
                Answer::Lease { lease: LeaseId(response.id()), ttl }
            }
            Request::KeepAlive { lease } => {
                let ttl = self.keep_alives.keep_alive(client, lease).await?;
                Answer::Lease { lease, ttl }
            }
            Request::RevokeLease { lease } => {
                let response = client.lease_client().revoke(lease.0).await?;
                self.keep_alives.forget(lease);
                Answer::Done { revision: convert::revision(response.header()) }
            }
            Request::Status => {
                let response = client.maintenance_client().status().await?;
                Answer::Status {
                    revision: convert::revision(response.header()),
                    bytes: u64::try_from(response.db_size()).unwrap_or(0),
                    version: response.version().to_string(),
                }
            }
        })
    }
}

/// What etcd would take for something else: it reads 0 as "no limit" and as "the newest".
fn check_list(list: &ListRequest) -> Result<(), PortError> {
    if list.limit == 0 {
        return Err(PortError::Refused("a list needs a limit of at least 1".into()));
    }
    match list.at {
        Some(at) if at.0 <= 0 => Err(PortError::Refused(format!("no revision {}", at.0))),
        _ => Ok(()),
    }
}

/// etcd counts leases in seconds; a lease may be granted longer than asked, never shorter.
fn whole_seconds(ttl: Duration) -> i64 {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    i64::try_from(seconds.max(1)).unwrap_or(i64::MAX)
}
