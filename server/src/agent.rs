//! Puts an agent together: etcd behind the port, the daemon on it, and beside it a listener for
//! those who watch it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use tocktower_agent::exec::ExecConfig;
use tocktower_agent::run::{self, AgentConfig as DaemonConfig, Ended, RunningAgent, WHAT_TO_DO};
use tocktower_agent::store::Retention;
use tocktower_cluster::etcd::{Etcd, EtcdOptions};
use tocktower_core::agent::effect::ExitReason;

use crate::agent_http::AgentHttp;
use crate::config::{AgentConfig, HistoryRules, make_data_dir};
use crate::host;
use crate::shell::Running;

pub async fn start(config: AgentConfig) -> anyhow::Result<Running> {
    make_data_dir(&config.data_dir)?;
    let http = match config.metrics_listen {
        Some(address) => Some(AgentHttp::listen(address).await?),
        None => None,
    };
    let port = Etcd::connect(&config.etcd, EtcdOptions::default())?;
    let daemon = run::start(daemon_config(config), port).await;
    let daemon = daemon.context("the agent cannot start")?;
    if let Some(http) = &http {
        http.show(&daemon);
    }
    let agent = Part::of(daemon);
    let leave = agent.leave;
    Ok(Running {
        addresses: http.map(|http| ("metrics", http.address().to_string())).into_iter().collect(),
        progress: agent.progress,
        drain: Box::new(leave),
        ended: agent.ended,
    })
}

/// A running agent as its process sees it.
pub struct Part {
    /// Asks it to hand everything over and end within this time.
    pub leave: Box<dyn FnOnce(Duration) + Send>,
    pub ended: Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>,
    /// Grows with the figures that its loop publishes, so with its loop.
    pub progress: Box<dyn Fn() -> u64 + Send>,
}

impl Part {
    pub fn of(agent: RunningAgent) -> Part {
        let leaving = agent.leave();
        let leave = move |deadline| {
            tokio::spawn(async move {
                // An agent that has ended has nothing left to hand over.
                let _ = leaving.send(deadline).await;
            });
        };
        let count = Arc::new(AtomicU64::new(0));
        let (counted, mut stats) = (count.clone(), agent.stats.clone());
        tokio::spawn(async move {
            while stats.changed().await.is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Part {
            leave: Box::new(leave),
            ended: Box::pin(async move { said(agent.ended().await) }),
            progress: Box::new(move || count.load(Ordering::Relaxed)),
        }
    }
}

/// Why it ended, as an error unless it was asked to.
fn said(ended: Ended) -> anyhow::Result<()> {
    match ended {
        Ended::Exit(ExitReason::Left) => Ok(()),
        Ended::Exit(ExitReason::NameTaken) => {
            Err(anyhow!("another process runs an agent of this name: give each its own `name`"))
        }
        Ended::Exit(ExitReason::WentBack { seen, now }) => {
            let why = format!("it is at revision {}, and was at {}", now.0, seen.0);
            Err(put_back(&why))
        }
        Ended::Exit(ExitReason::EpochRaised) => {
            Err(anyhow!("the cluster's epoch was raised: start again, to begin anew in it"))
        }
        Ended::PutBack(why) => Err(put_back(&why)),
        Ended::Store(reason) => Err(anyhow!("the store failed: {reason}")),
        Ended::Cluster(reason) => {
            Err(anyhow!("the cluster is another than it was, start again: {reason}"))
        }
    }
}

/// The next start stands by until the epoch is raised, and goes on then.
fn put_back(why: &str) -> anyhow::Error {
    anyhow!("the shared state was put back from a backup, {why}: {WHAT_TO_DO}")
}

fn daemon_config(config: AgentConfig) -> DaemonConfig {
    DaemonConfig {
        name: config.name,
        pool: config.pool,
        labels: config.labels,
        weight: config.weight,
        data_dir: config.data_dir,
        prefix: config.prefix,
        lease_ttl: config.lease_ttl,
        running_max: config.running_max,
        compact: config.compact,
        exec: ExecConfig {
            allow_users: config.allow_users,
            http_deny_link_local: !config.http_allow_link_local,
            ..ExecConfig::default()
        },
        retention: retention(config.history),
        disk_reserve: config.disk_reserve,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host_id: host::id(),
    }
}

/// Runs and their output share the space: half of it each.
fn retention(rules: HistoryRules) -> Retention {
    Retention {
        age: rules.age_max,
        output_age: rules.age_max,
        runs_per_task: rules.runs_max,
        bytes: rules.bytes_max / 2,
        output_bytes: rules.bytes_max / 2,
    }
}
