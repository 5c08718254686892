//! Agents, pools and ranges over HTTP: parse, call the service, convert.
//!
//! The service answers with all that there is, from memory; pages are cut here, by the key that the
//! list is sorted by, so that a page goes on where the last one ended while agents come and go. The
//! lists are short beside those of tasks and runs, and sorting them for each page costs less than a
//! second way to read them would.

use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use serde_json::Value;
use tocktower_cluster::duty::Ask;
use tocktower_core::ids::{AgentName, PoolName};
use tocktower_core::ring::WEIGHT_MAX;
use tocktower_proto::json::{self, AgentList, PoolList, RangeList};

use super::App;
use super::call::{Call, Query, answer};
use super::problem::{Answer, Failure};
use super::shapes::{self, AgentShown};
use crate::service::{PAGE_DEFAULT, PAGE_MAX, Read, cursor};

/// Agents, by name.
#[utoipa::path(
    get, path = "/v1/agents", tag = "fleet",
    params(
        ("pool" = Option<String>, Query,),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; 100 when left out"),
        ("cursor" = Option<String>, Query,),
    ),
    responses((status = 200, body = AgentList))
)]
pub async fn agents(State(app): State<App>, call: Call) -> Answer {
    let query = call.query(&["pool", "limit", "cursor"])?;
    let Read { value: agents, stale } = app.fleet.agents(pool(&query)?.as_ref())?;
    let (agents, next_cursor) = page(agents, |agent| agent.name.to_string(), &query)?;
    let items = agents.into_iter().map(shapes::agent).collect();
    Ok(answer(StatusCode::OK, &AgentList { items, next_cursor, stale }))
}

/// One agent.
#[utoipa::path(
    get, path = "/v1/agents/{agent}", tag = "fleet",
    params(("agent" = String, Path,)),
    responses((status = 200, body = AgentShown), (status = 404, body = json::Problem))
)]
pub async fn agent(State(app): State<App>, call: Call) -> Answer {
    call.query(&[])?;
    let Read { value, stale } = app.fleet.agent(&agent_name(&call)?)?;
    Ok(answer(StatusCode::OK, &AgentShown { agent: shapes::agent(value), stale }))
}

/// Forgets an agent that is gone for good: it is not shown any more, and lists of runs do not miss
/// its answer. Refused while it has a session or a link; one that comes back registers again.
#[utoipa::path(
    delete, path = "/v1/agents/{agent}", tag = "fleet",
    params(("agent" = String, Path,)),
    responses(
        (status = 204, description = "Forgotten"),
        (status = 404, body = json::Problem), (status = 409, body = json::Problem),
    )
)]
pub async fn forget(State(app): State<App>, call: Call) -> Answer {
    call.query(&[])?;
    let name = agent_name(&call)?;
    call.nothing().await?;
    app.fleet.forget(&name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Lets an agent take no more ranges; it keeps those that it has, as long as its session lasts.
#[utoipa::path(
    post, path = "/v1/agents/{agent}/cordon", tag = "fleet",
    params(("agent" = String, Path,)),
    responses((status = 200, body = json::Agent), (status = 404, body = json::Problem))
)]
pub async fn cordon(State(app): State<App>, call: Call) -> Answer {
    ask(&app, call, Ask::Cordon).await
}

/// Has an agent hand its ranges over, a few at a time, and take none. It may be stopped once it is
/// `drained`, and stays empty until it is uncordoned, also when it is started again. Where no other
/// agent of its pool takes ranges it keeps them, as a `last_resort`.
#[utoipa::path(
    post, path = "/v1/agents/{agent}/drain", tag = "fleet",
    params(("agent" = String, Path,)),
    responses((status = 200, body = json::Agent), (status = 404, body = json::Problem))
)]
pub async fn drain(State(app): State<App>, call: Call) -> Answer {
    ask(&app, call, Ask::Drain).await
}

/// Ends a cordon and a drain: ranges come back.
#[utoipa::path(
    post, path = "/v1/agents/{agent}/uncordon", tag = "fleet",
    params(("agent" = String, Path,)),
    responses((status = 200, body = json::Agent), (status = 404, body = json::Problem))
)]
pub async fn uncordon(State(app): State<App>, call: Call) -> Answer {
    ask(&app, call, Ask::Uncordon).await
}

/// Changes what an agent weighs beside others, whatever it is configured with.
#[utoipa::path(
    patch, path = "/v1/agents/{agent}", tag = "fleet",
    params(("agent" = String, Path,)),
    request_body(content = json::AgentPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, body = json::Agent),
        (status = 400, body = json::Problem), (status = 404, body = json::Problem),
    )
)]
pub async fn patch(State(app): State<App>, call: Call) -> Answer {
    call.query(&[])?;
    let name = agent_name(&call)?;
    let weight = weight_asked(&call.json().await?)?;
    let view = app.fleet.ask(&name, Ask::Weight(weight)).await?;
    Ok(answer(StatusCode::OK, &shapes::agent(view)))
}

async fn ask(app: &App, call: Call, ask: Ask) -> Answer {
    call.query(&[])?;
    let name = agent_name(&call)?;
    call.nothing().await?;
    Ok(answer(StatusCode::OK, &shapes::agent(app.fleet.ask(&name, ask).await?)))
}

/// The weight is all that can be changed, so it must be there.
fn weight_asked(patch: &Value) -> Result<Option<u32>, Failure> {
    let Value::Object(fields) = patch else {
        return Err(Failure::bad("", "send a JSON object, such as {\"weight\": 50}"));
    };
    if let Some(other) = fields.keys().find(|name| *name != "weight") {
        return Err(Failure::bad(other, "cannot be changed: of an agent only `weight` can"));
    }
    match fields.get("weight") {
        Some(Value::Null) => Ok(None),
        Some(given) => {
            let weight = given.as_u64().and_then(|weight| u32::try_from(weight).ok());
            let weight = weight.filter(|weight| *weight <= WEIGHT_MAX);
            let message = || format!("must be a whole number from 0 to {WEIGHT_MAX}, or null");
            weight.map(Some).ok_or_else(|| Failure::bad("weight", message()))
        }
        None => Err(Failure::bad("weight", "is missing: nothing else can be changed")),
    }
}

/// Pools, by name.
#[utoipa::path(
    get, path = "/v1/pools", tag = "fleet",
    params(("limit" = Option<u32>, Query,), ("cursor" = Option<String>, Query,)),
    responses((status = 200, body = PoolList))
)]
pub async fn pools(State(app): State<App>, call: Call) -> Answer {
    let query = call.query(&["limit", "cursor"])?;
    let Read { value: pools, stale } = app.fleet.pools()?;
    let (pools, next_cursor) = page(pools, |pool| pool.name.to_string(), &query)?;
    let items = pools.into_iter().map(shapes::pool).collect();
    Ok(answer(StatusCode::OK, &PoolList { items, next_cursor, stale }))
}

/// Ranges, by pool and number.
#[utoipa::path(
    get, path = "/v1/ranges", tag = "fleet",
    params(
        ("pool" = Option<String>, Query,), ("limit" = Option<u32>, Query,),
        ("cursor" = Option<String>, Query,),
    ),
    responses((status = 200, body = RangeList))
)]
pub async fn ranges(State(app): State<App>, call: Call) -> Answer {
    let query = call.query(&["pool", "limit", "cursor"])?;
    let Read { value: ranges, stale } = app.fleet.ranges(pool(&query)?.as_ref())?;
    let (ranges, next_cursor) =
        page(ranges, |range| format!("{}/{}", range.pool, range.id), &query)?;
    let items = ranges.into_iter().map(shapes::range).collect();
    Ok(answer(StatusCode::OK, &RangeList { items, next_cursor, stale }))
}

fn agent_name(call: &Call) -> Result<AgentName, Failure> {
    AgentName::parse(call.part("agent")).map_err(|error| Failure::bad("agent", error.to_string()))
}

fn pool(query: &Query<'_>) -> Result<Option<PoolName>, Failure> {
    let pool = query.text("pool")?.map(PoolName::parse).transpose();
    pool.map_err(|error| Failure::bad("pool", error.to_string()))
}

/// A page of what is in memory in the order of its keys.
fn page<T>(
    all: Vec<T>,
    key: impl Fn(&T) -> String,
    query: &Query<'_>,
) -> Result<(Vec<T>, Option<String>), Failure> {
    let limit = query.count("limit", PAGE_DEFAULT, PAGE_MAX)?;
    let after = query.text("cursor")?.map(cursor::read_text).transpose();
    let after = after.map_err(|error| Failure::bad("cursor", error.to_string()))?;
    let rest = all.into_iter().filter(|item| after.as_ref().is_none_or(|after| key(item) > *after));
    let mut items: Vec<T> = rest.take(limit + 1).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|item| cursor::write_text(&key(item)));
    Ok((items, next))
}
