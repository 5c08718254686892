//! Why a task did or did not run, over HTTP: parse, call the service, convert.

use axum::extract::State;
use http::StatusCode;
use tocktower_core::time::Instant;
use tocktower_proto::convert::run_json;
use tocktower_proto::json;

use super::App;
use super::call::{Call, answer};
use super::problem::Answer;
use crate::service::{Facts, RangeFacts, Why, entry_shown};

/// Why a task did or did not run at a time.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/tasks/{name}/why", tag = "tasks",
    params(
        ("namespace" = String, Path,), ("name" = String, Path,),
        ("at" = Option<String>, Query, description = "RFC 3339; left out: the newest instant that \
            should have run by now"),
        ("agent" = Option<String>, Query, description = "Of a task of every agent, which needs \
            it: the agent whose share is asked about"),
    ),
    responses(
        (status = 200, body = json::Why),
        (status = 400, body = json::Problem, description = "`invalid_request`"),
        (status = 404, body = json::Problem, description = "Nobody has ever heard of the task"),
        (status = 503, body = json::Problem, description = "`agents_silent`: one may know it"),
    )
)]
pub async fn why(State(app): State<App>, call: Call) -> Answer {
    let query = call.query(&["at", "agent"])?;
    let (at, agent) = (query.instant("at")?, query.agent("agent")?);
    Ok(answer(StatusCode::OK, &shape(app.tasks.why(&call.task()?, at, agent).await?)))
}

fn shape(why: Why) -> json::Why {
    let Why { task, at, verdict, explanation, advice, policy, facts } = why;
    let (previous, next) = facts.around();
    json::Why {
        namespace: task.namespace.to_string(),
        task: task.name.to_string(),
        at: at.local,
        verdict: verdict.as_str().to_owned(),
        explanation,
        advice,
        due: facts.due().map(json::format_wall),
        previous: previous.map(|shown| shown.local.clone()),
        next: next.map(|shown| shown.local.clone()),
        policy: policy.map(|p| json::WhyPolicy { field: p.field.to_owned(), value: p.value }),
        range: range(&facts, &facts.range),
        run: facts.run.as_ref().map(run_json),
        ahead: facts.ahead.as_ref().map(run_json),
        incomplete: facts.incomplete,
        stale: facts.stale,
    }
}

fn range(facts: &Facts, range: &RangeFacts) -> Option<json::WhyRange> {
    let holder = range.holder.as_ref();
    let through = range.marks.map(|marks| marks.through).filter(|t| *t > Instant::MIN);
    let millis = |quiet: std::time::Duration| u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX);
    let entry = range.entry.as_ref().map(|entry| {
        let (state, until) = entry_shown(entry);
        let waiting_until = until.map(json::format_wall);
        json::WhyEntry { state: state.to_owned(), attempt: entry.attempt.number, waiting_until }
    });
    Some(json::WhyRange {
        pool: range.pool.as_ref()?.to_string(),
        id: range.hex.clone(),
        holder: holder.map(|holder| holder.agent.to_string()),
        fence: holder.map(|holder| holder.fence.revision.0),
        connected: holder.is_some_and(|holder| holder.linked),
        quiet_ms: range.quiet.map(millis),
        ledger_through: through.map(json::format_instant),
        covered: facts.covered(),
        entry,
        ledger_error: range.ledger_error.clone(),
        agents: count(range.agents.present),
        agents_able: count(range.agents.able),
        agents_taking: count(range.agents.taking),
    })
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}
