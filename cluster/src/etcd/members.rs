//! The members of the etcd cluster, and the one that we talk to.
//!
//! A client of etcd-client's own with all endpoints would spread requests over them, and keep
//! sending every third one to a member that hangs. Here all calls go to one member until it fails,
//! then to the next. A connection on which a call timed out is given up: it may be dead without
//! either side knowing, and TCP takes a quarter of an hour to say so.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use etcd_client::{Client, ConnectOptions};

use super::EtcdOptions;

pub(super) struct Members {
    members: Vec<Member>,
    preferred: AtomicUsize,
    options: EtcdOptions,
}

struct Member {
    endpoint: String,
    /// The client that calls share; made on the first of them.
    client: Mutex<Option<Client>>,
}

impl Members {
    pub(super) fn new(endpoints: &[String], options: EtcdOptions) -> Members {
        let member =
            |endpoint: &String| Member { endpoint: endpoint.clone(), client: Mutex::new(None) };
        let members = endpoints.iter().map(member).collect();
        Members { members, preferred: AtomicUsize::new(0), options }
    }

    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    pub(super) fn preferred(&self) -> usize {
        self.preferred.load(Ordering::Relaxed)
    }

    pub(super) fn endpoint(&self, member: usize) -> &str {
        &self.members[member].endpoint
    }

    /// Prefers the next member, unless another call has done so already.
    pub(super) fn leave(&self, member: usize) {
        let next = (member + 1) % self.members.len();
        let order = Ordering::Relaxed;
        // Someone else's choice is as good as ours.
        let _ = self.preferred.compare_exchange(member, next, order, order);
    }

    /// The shared client of a member.
    pub(super) async fn client(&self, member: usize) -> Result<Client, etcd_client::Error> {
        let shared = self.slot(member).clone();
        if let Some(client) = shared {
            return Ok(client);
        }
        let client = self.connect(member).await?;
        // Two calls may get here at once; the first client is kept.
        Ok(self.slot(member).get_or_insert(client).clone())
    }

    /// A client with a connection of its own.
    pub(super) async fn connect(&self, member: usize) -> Result<Client, etcd_client::Error> {
        let options = &self.options;
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(options.connect_timeout)
            // etcd hangs up on clients that ping more often than every 5 s, or without a stream.
            .with_keep_alive(options.ping_interval, options.ping_timeout)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true);
        if let Some((user, password)) = &options.user {
            connect = connect.with_user(user, password).with_auto_token_refresh(true);
        }
        Client::connect([self.endpoint(member)], Some(connect)).await
    }

    /// Gives the shared connection up; calls that are on it go on.
    pub(super) fn disconnect(&self, member: usize) {
        self.slot(member).take();
    }

    fn slot(&self, member: usize) -> MutexGuard<'_, Option<Client>> {
        // An option is never half written.
        self.members[member].client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
