//! Puts a coordinator together: etcd behind the port, and the daemon on it.
//!
//! It is ready when its copy of the shared state is whole, not when its listener is open: whoever
//! waits for the line `ready` may send requests and have them answered.

use anyhow::Context;
use tocktower_cluster::etcd::{Etcd, EtcdOptions};
use tocktower_coordinator::{Coordinator, CoordinatorConfig as DaemonConfig, ForgetRules, Pace};
use tocktower_core::hash::RangeCount;
use tokio::sync::oneshot;

use crate::config::CoordinatorConfig;
use crate::shell::{Running, pulse};

pub async fn start(config: CoordinatorConfig) -> anyhow::Result<Running> {
    let port = Etcd::connect(&config.etcd, EtcdOptions::default())?;
    let daemon = Coordinator::start(daemon_config(config), port).await;
    let daemon = daemon.context("the coordinator cannot start")?;
    daemon.until_ready().await;
    let addresses = vec![("listen", daemon.local_addr().to_string())];
    let (drain, asked) = oneshot::channel();
    let ended = async move {
        let reason = tokio::select! {
            reason = daemon.stopped() => Err(reason.into()),
            _ = asked => Ok(()),
        };
        daemon.shutdown().await;
        reason
    };
    Ok(Running {
        addresses,
        progress: pulse(),
        // Whoever no longer listens has ended.
        drain: Box::new(move |_| {
            let _ = drain.send(());
        }),
        ended: Box::pin(ended),
    })
}

fn daemon_config(config: CoordinatorConfig) -> DaemonConfig {
    DaemonConfig {
        id: config.id,
        listen: config.listen,
        advertise: config.advertise,
        range_count_for_new_cluster: config.ranges.unwrap_or(RangeCount::DEFAULT),
        prefix: config.prefix,
        insecure: config.insecure,
        compact: config.compact,
        compare: Pace::default(),
        forget: ForgetRules { after: config.forget_agents_after, ..ForgetRules::default() },
    }
}
