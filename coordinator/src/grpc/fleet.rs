//! `FleetService`: read the message, call the service, write the answer.
//!
//! The same views as REST shows, field by field; the one difference is that protobuf has messages
//! where JSON has numbers (fences and sessions carry their epoch). Lists are whole here: a fleet of
//! ten thousand agents is some megabytes, below what clients of this API take, and its readers are
//! programs.

use std::time::Duration;

use tocktower_cluster::duty::Ask;
use tocktower_core::ids::{AgentName, Fence, PoolName, Session};
use tocktower_core::ring::{Duty, WEIGHT_MAX};
use tocktower_proto::v1;
use tocktower_proto::v1::fleet_service_server::FleetService;
use tonic::{Request, Response, Status};

use super::status::{bad, refused};
use super::values;
use crate::rest::App;
use crate::service::{AgentView, PoolView, RangeView, Read};

pub struct FleetApi {
    app: App,
}

impl FleetApi {
    pub fn new(app: App) -> FleetApi {
        FleetApi { app }
    }

    async fn ask(&self, name: &str, ask: Ask) -> Result<v1::Agent, Status> {
        let view = self.app.fleet.ask(&agent_name(name)?, ask).await.map_err(refused)?;
        Ok(agent(view))
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FleetService for FleetApi {
    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Answer<v1::ListAgentsResponse> {
        let pool = pool(&request.into_inner().pool)?;
        let Read { value, stale } = self.app.fleet.agents(pool.as_ref()).map_err(refused)?;
        let agents = value.into_iter().map(agent).collect();
        Ok(Response::new(v1::ListAgentsResponse { agents, stale }))
    }

    async fn get_agent(
        &self,
        request: Request<v1::GetAgentRequest>,
    ) -> Answer<v1::GetAgentResponse> {
        let name = agent_name(&request.into_inner().name)?;
        let Read { value, stale } = self.app.fleet.agent(&name).map_err(refused)?;
        Ok(Response::new(v1::GetAgentResponse { agent: Some(agent(value)), stale }))
    }

    async fn forget_agent(
        &self,
        request: Request<v1::ForgetAgentRequest>,
    ) -> Answer<v1::ForgetAgentResponse> {
        let name = agent_name(&request.into_inner().name)?;
        self.app.fleet.forget(&name).await.map_err(refused)?;
        Ok(Response::new(v1::ForgetAgentResponse {}))
    }

    async fn cordon_agent(
        &self,
        request: Request<v1::CordonAgentRequest>,
    ) -> Answer<v1::CordonAgentResponse> {
        let agent = self.ask(&request.into_inner().name, Ask::Cordon).await?;
        Ok(Response::new(v1::CordonAgentResponse { agent: Some(agent) }))
    }

    async fn drain_agent(
        &self,
        request: Request<v1::DrainAgentRequest>,
    ) -> Answer<v1::DrainAgentResponse> {
        let agent = self.ask(&request.into_inner().name, Ask::Drain).await?;
        Ok(Response::new(v1::DrainAgentResponse { agent: Some(agent) }))
    }

    async fn uncordon_agent(
        &self,
        request: Request<v1::UncordonAgentRequest>,
    ) -> Answer<v1::UncordonAgentResponse> {
        let agent = self.ask(&request.into_inner().name, Ask::Uncordon).await?;
        Ok(Response::new(v1::UncordonAgentResponse { agent: Some(agent) }))
    }

    async fn set_agent_weight(
        &self,
        request: Request<v1::SetAgentWeightRequest>,
    ) -> Answer<v1::SetAgentWeightResponse> {
        let v1::SetAgentWeightRequest { name, weight } = request.into_inner();
        if let Some(weight) = weight.filter(|weight| *weight > WEIGHT_MAX) {
            return Err(bad("weight", format!("{weight}: 0 to {WEIGHT_MAX} is allowed")));
        }
        let agent = self.ask(&name, Ask::Weight(weight)).await?;
        Ok(Response::new(v1::SetAgentWeightResponse { agent: Some(agent) }))
    }

    async fn list_pools(&self, _: Request<v1::ListPoolsRequest>) -> Answer<v1::ListPoolsResponse> {
        let Read { value, stale } = self.app.fleet.pools().map_err(refused)?;
        let pools = value.into_iter().map(pool_message).collect();
        Ok(Response::new(v1::ListPoolsResponse { pools, stale }))
    }

    async fn list_ranges(
        &self,
        request: Request<v1::ListRangesRequest>,
    ) -> Answer<v1::ListRangesResponse> {
        let pool = pool(&request.into_inner().pool)?;
        let Read { value, stale } = self.app.fleet.ranges(pool.as_ref()).map_err(refused)?;
        let ranges = value.into_iter().map(range).collect();
        Ok(Response::new(v1::ListRangesResponse { ranges, stale }))
    }
}

fn agent_name(text: &str) -> Result<AgentName, Status> {
    AgentName::parse(text).map_err(|error| bad("name", error.to_string()))
}

fn pool(text: &str) -> Result<Option<PoolName>, Status> {
    let pool = values::text(text).map(PoolName::parse).transpose();
    pool.map_err(|error| bad("pool", error.to_string()))
}

fn fence(fence: Fence) -> v1::Fence {
    v1::Fence { epoch: fence.epoch.0, revision: fence.revision.0 }
}

fn session(session: Session) -> v1::Session {
    v1::Session { epoch: session.epoch.0, revision: session.revision.0 }
}

fn agent(view: AgentView) -> v1::Agent {
    let stats = view.link.as_ref().and_then(|link| link.stats.clone());
    let stats = stats.as_deref();
    let oldest = stats.and_then(|stats| stats.oldest_due_unstarted_ms).map(Duration::from_millis);
    v1::Agent {
        name: view.name.to_string(),
        pool: view.pool,
        labels: view.labels,
        weight: view.weight,
        connected: view.link.is_some(),
        version: view.version,
        tz_version: view.tz_version,
        session: view.session.map(session),
        since: view.since.map(values::timestamp),
        counts: stats.map(counts),
        clock_offset_us: view.link.as_ref().and_then(|link| link.offset_us).map(|(us, _)| us),
        oldest_due_unstarted: oldest.map(values::proto_span),
        lateness: view.link.as_ref().map(|link| lateness(&link.lateness.merged())),
        ranges_held: view.ranges_held,
        write_pressure: stats.is_some_and(|stats| stats.write_pressure),
        absent_since: view.absent_since.map(values::timestamp),
        cordoned: view.duty != Duty::Full,
        draining: view.duty == Duty::Draining,
        drained: view.drained,
        last_resort: view.last_resort,
        weight_asked: view.weight_asked,
        in_the_way: stats.map(|stats| stats.in_the_way.clone()).unwrap_or_default(),
    }
}

fn counts(stats: &v1::Stats) -> v1::RunCounts {
    let ended = stats.ended.unwrap_or_default();
    v1::RunCounts {
        running: stats.running,
        queued: stats.queued,
        waiting: stats.waiting,
        succeeded: ended.succeeded,
        failed: ended.failed,
        timed_out: ended.timed_out,
        cancelled: ended.cancelled,
        lost: ended.lost,
        skipped: ended.skipped,
        missed: ended.missed,
    }
}

fn lateness(all: &hdrhistogram::Histogram<u64>) -> v1::Lateness {
    v1::Lateness {
        count: all.len(),
        p50_us: all.value_at_quantile(0.5),
        p99_us: all.value_at_quantile(0.99),
        p999_us: all.value_at_quantile(0.999),
        max_us: all.max(),
    }
}

fn pool_message(view: PoolView) -> v1::Pool {
    v1::Pool {
        name: view.name.to_string(),
        agents: view.agents,
        agents_connected: view.agents_connected,
        tasks: view.tasks,
        ranges: view.ranges,
        ranges_vacant: view.ranges_vacant,
    }
}

fn range(view: RangeView) -> v1::Range {
    v1::Range {
        pool: view.pool.to_string(),
        id: view.id,
        holder: view.holder.map(|holder| holder.to_string()).unwrap_or_default(),
        fence: view.fence.map(fence),
        owner: view.owner.map(|owner| owner.to_string()).unwrap_or_default(),
        ledger_through: view.ledger_through.map(|through| values::timestamp(through.wall())),
        open_entries: view.open_entries,
        tasks: view.tasks,
        oldest_undecided: view.oldest_undecided.map(values::proto_span),
        stalled: view.stalled.unwrap_or_default().to_owned(),
    }
}
