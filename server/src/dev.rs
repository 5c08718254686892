//! Puts all of Tocktower together in one process: the embedded store, a coordinator, an agent.
//!
//! Nothing else has to be installed, and nothing is played: the shared state is on disk, the
//! daemons are those of a fleet, and a `kill -9` loses nothing.

use anyhow::Context;
use tocktower_agent::exec::ExecConfig;
use tocktower_agent::run::{self, AgentConfig as DaemonConfig};
use tocktower_agent::store::Retention;
use tocktower_cluster::embedded::Embedded;
use tocktower_cluster::keys::PREFIX;
use tocktower_coordinator::{Coordinator, CoordinatorConfig as ServerConfig};
use tocktower_core::ids::{CoordinatorId, PoolName};
use tocktower_core::ring::WEIGHT_DEFAULT;
use tokio::sync::oneshot;

use crate::agent::Part;
use crate::config::DevConfig;
use crate::shell::Running;
use crate::{host, sample};

/// As in a fleet.
const LEASE_TTL: std::time::Duration = std::time::Duration::from_secs(3);
const RUNNING_MAX: usize = 1_000;

pub async fn start(config: DevConfig) -> anyhow::Result<Running> {
    let folder = config.data_dir.join("shared");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("data-dir = {}: it cannot be made", config.data_dir.display()))?;
    let port = Embedded::open(&folder)
        .with_context(|| format!("data-dir = {}: it cannot be used", config.data_dir.display()))?;

    let id = CoordinatorId::parse("dev").expect("it is well formed");
    let server = Coordinator::start(ServerConfig::new(id, config.listen), port.clone()).await;
    let server = server.context("the coordinator cannot start")?;
    let agent = run::start(daemon_config(&config)?, port).await;
    let agent = Part::of(agent.context("the agent cannot start")?);
    server.until_ready().await;
    let address = server.local_addr();
    if config.sample {
        sample::create(&server.app().tasks, address).await?;
    }

    let (drain, asked) = oneshot::channel();
    let Part { leave, ended: mut agent_ended, progress } = agent;
    let ended = async move {
        let reason = tokio::select! {
            reason = server.stopped() => Err(reason.into()),
            ended = &mut agent_ended => ended.and(Err(anyhow::anyhow!("the agent has left"))),
            deadline = asked => match deadline {
                Ok(deadline) => {
                    leave(deadline);
                    agent_ended.await
                }
                // The process ends without waiting.
                Err(_) => Ok(()),
            },
        };
        server.shutdown().await;
        reason
    };
    Ok(Running {
        addresses: vec![("listen", address.to_string())],
        progress,
        // Whoever no longer listens has ended.
        drain: Box::new(move |deadline| {
            let _ = drain.send(deadline);
        }),
        ended: Box::pin(ended),
    })
}

fn daemon_config(config: &DevConfig) -> anyhow::Result<DaemonConfig> {
    Ok(DaemonConfig {
        name: config.name.clone(),
        pool: PoolName::parse("default")?,
        labels: Default::default(),
        weight: WEIGHT_DEFAULT,
        data_dir: config.data_dir.join("agent"),
        prefix: PREFIX.to_owned(),
        lease_ttl: LEASE_TTL,
        running_max: RUNNING_MAX,
        // The coordinator of the same process does.
        compact: false,
        exec: ExecConfig::default(),
        retention: Retention::default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host_id: host::id(),
    })
}
