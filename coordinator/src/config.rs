//! What a coordinator is started with, and why it would not start.
//!
//! Reading files, flags and the environment is the daemon's business; this is what is left of it,
//! typed and checked. Wrong configuration is an error value that names the key, what was given and
//! what is allowed, and says of itself that it is one, so that the daemon can exit with 78. Until
//! there are TLS and tokens, a listener off loopback has to be asked for.

use std::net::SocketAddr;

use tocktower_cluster::keys::PREFIX;
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::CoordinatorId;

use crate::absence::ForgetRules;
use crate::bootstrap::BootstrapError;
use crate::catalog::Pace;

#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    pub id: CoordinatorId,
    /// Port 0: any free one.
    pub listen: SocketAddr,
    /// Where agents reach it, `host:port` or a URL; left out: where it listens.
    pub advertise: Option<String>,
    /// For the first start of a cluster; later the cluster's own count holds.
    pub range_count_for_new_cluster: RangeCount,
    /// Where the cluster's keys lie.
    pub prefix: String,
    /// Listen off loopback without TLS and tokens.
    pub insecure: bool,
    /// Compact etcd; off where others share it.
    pub compact: bool,
    /// How fast its copy is compared with the shared state.
    pub compare: Pace,
    /// When agents that are gone are forgotten.
    pub forget: ForgetRules,
}

impl CoordinatorConfig {
    /// On loopback, with what is usual.
    pub fn new(id: CoordinatorId, listen: SocketAddr) -> CoordinatorConfig {
        CoordinatorConfig {
            id,
            listen,
            advertise: None,
            range_count_for_new_cluster: RangeCount::DEFAULT,
            prefix: PREFIX.to_owned(),
            insecure: false,
            compact: true,
            compare: Pace::default(),
            forget: ForgetRules::default(),
        }
    }

    /// Whether it may be started at all; what is wrong is for the operator to mend.
    pub fn check(&self) -> Result<(), StartError> {
        if !self.listen.ip().is_loopback() && !self.insecure {
            return Err(StartError::NotLoopback { listen: self.listen });
        }
        Ok(())
    }

    pub(crate) fn address(&self, local: SocketAddr) -> String {
        match &self.advertise {
            Some(given) if given.contains("://") => given.clone(),
            Some(given) => format!("http://{given}"),
            None => format!("http://{local}"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "listen = {listen}: there is no TLS and no token yet, so only loopback addresses are \
         allowed; give --insecure to listen there all the same"
    )]
    NotLoopback { listen: SocketAddr },
    #[error("cannot listen on {listen}")]
    Listen {
        listen: SocketAddr,
        #[source]
        error: std::io::Error,
    },
    #[error("the cluster cannot be joined")]
    Cluster(#[from] BootstrapError),
}

impl StartError {
    /// The configuration is wrong: exit 78.
    pub fn is_configuration(&self) -> bool {
        matches!(self, StartError::NotLoopback { .. })
    }

    /// The same start may succeed later.
    pub fn retryable(&self) -> bool {
        matches!(self, StartError::Listen { .. } | StartError::Cluster(BootstrapError::Store(_)))
    }
}
