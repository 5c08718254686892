//! Tasks over HTTP: parse, call the service, convert.
//!
//! A body is read as JSON first and as a task second, so that every mistake of it is told at once.
//! PUT is checked as an edit, since only the write finds out which of the two it is. GET answers
//! `If-None-Match` before it asks any agent for the newest run: the ETag is the revision of the
//! task, and a client that has it asked about the task.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::Value;
use tocktower_core::ids::Namespace;
use tocktower_core::task::Spec;
use tocktower_proto::convert::{Given, Purpose, patch_task, task_from_value};
use tocktower_proto::json;

use super::App;
use super::call::{Call, answer, invalid_task, read, tagged};
use super::problem::{Answer, Failure};
use super::shapes::{self, TaskShown, TaskShownList};
use crate::clock;
use crate::service::{
    COUNT_DEFAULT, ListState, PAGE_DEFAULT, PAGE_MAX, Shown, TaskFilter, TaskWritten, WAIT_MAX,
    requests,
};

/// The namespace that means all of them.
pub const ALL_NAMESPACES: &str = "-";

/// Makes a new task.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/tasks", tag = "tasks",
    params(
        ("namespace" = String, Path,),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to send again"),
    ),
    request_body = json::Task,
    responses(
        (status = 201, body = json::TaskWritten),
        (status = 400, body = json::Problem, description = "`invalid_task`"),
        (status = 409, body = json::Problem, description = "`already_exists`"),
        (status = 429, body = json::Problem, description = "`rate_limited`"),
        (status = 503, body = json::Problem, description = "`store_unavailable`"),
    )
)]
pub async fn create(State(app): State<App>, call: Call) -> Answer {
    call.query(&[])?;
    let (namespace, key) = (call.namespace()?, call.idempotency_key()?);
    let fresh_name = requests::name(key.as_deref(), 0);
    let given = Given {
        namespace: Some(namespace.as_str()),
        name: None,
        fresh_name: &fresh_name,
        purpose: Purpose::Create { now: clock::wall() },
    };
    let spec = task_from_value(call.json().await?, given).map_err(invalid_task)?;
    Ok(written(app.tasks.create(spec, key.as_deref()).await?))
}

/// Creates or replaces a task. What GET answered may be changed and sent back: the server's own
/// fields, such as `revision` and `state`, are not looked at here.
#[utoipa::path(
    put, path = "/v1/namespaces/{namespace}/tasks/{name}", tag = "tasks",
    params(
        ("namespace" = String, Path,), ("name" = String, Path,),
        ("If-Match" = Option<String>, Header,
            description = "The revision that must be there; `*`: any"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: there must be none"),
        ("Idempotency-Key" = Option<String>, Header,),
    ),
    request_body = json::Task,
    responses(
        (status = 200, body = json::TaskWritten), (status = 201, body = json::TaskWritten),
        (status = 409, body = json::Problem, description = "`already_due`"),
        (status = 412, body = json::Problem, description = "`revision_conflict`"),
        (status = 429, body = json::Problem, description = "`rate_limited`"),
    )
)]
pub async fn put(State(app): State<App>, call: Call) -> Answer {
    call.query(&[])?;
    let (name, key, expected) = (call.task()?, call.idempotency_key()?, call.expected()?);
    let given = Given {
        namespace: Some(name.namespace.as_str()),
        name: Some(name.name.as_str()),
        fresh_name: name.name.as_str(),
        // Whether it is a create or an edit is known when it is written.
        purpose: Purpose::Edit,
    };
    let spec = task_from_value(call.json().await?, given).map_err(invalid_task)?;
    Ok(written(app.tasks.put(spec, expected, key.as_deref()).await?))
}

/// One task as it is now, with its newest run.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/tasks/{name}", tag = "tasks",
    params(
        ("namespace" = String, Path,), ("name" = String, Path,),
        ("If-None-Match" = Option<String>, Header, description = "The ETag that is known"),
    ),
    responses(
        (status = 200, body = TaskShown), (status = 304, description = "Not changed"),
        (status = 404, body = json::Problem, description = "`not_found`"),
        (
            status = 503, body = json::Problem,
            description = "`agents_silent`: it may have ended; `store_unavailable`: whether \
                           there is one cannot be told",
        ),
    )
)]
pub async fn get(State(app): State<App>, call: Call) -> Answer {
    call.query(&[])?;
    let name = call.task()?;
    let found = app.tasks.current(&name).await?;
    if let (Some(Ok(task)), false) = (&found.value, found.stale)
        && call.has(task.revision.0)
    {
        return Ok(tagged(StatusCode::NOT_MODIFIED.into_response(), task.revision.0));
    }
    let read = app.tasks.show(&name, found).await?;
    let shown = shapes::shown(read.value, read.stale);
    let response = answer(StatusCode::OK, &shown);
    Ok(match shown.task.revision {
        Some(revision) => tagged(response, revision),
        None => response,
    })
}

/// Changes a task by a JSON merge patch (RFC 7396).
#[utoipa::path(
    patch, path = "/v1/namespaces/{namespace}/tasks/{name}", tag = "tasks",
    params(
        ("namespace" = String, Path,), ("name" = String, Path,),
        ("If-Match" = Option<String>, Header, description = "The revision that must be there"),
    ),
    request_body(content = json::Task, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, body = json::TaskWritten),
        (status = 404, body = json::Problem), (status = 409, body = json::Problem),
        (status = 412, body = json::Problem), (status = 400, body = json::Problem),
        (status = 429, body = json::Problem, description = "`rate_limited`"),
    )
)]
pub async fn patch(State(app): State<App>, call: Call) -> Answer {
    call.query(&[])?;
    let (name, if_match) = (call.task()?, call.if_match()?);
    let body: Value = call.json().await?;
    let make = |current: &tocktower_core::task::Task| patch_task(current, &body);
    Ok(written(app.tasks.patch(&name, if_match, make).await?))
}

/// Deletes a task. What has not started never starts.
#[utoipa::path(
    delete, path = "/v1/namespaces/{namespace}/tasks/{name}", tag = "tasks",
    params(
        ("namespace" = String, Path,), ("name" = String, Path,),
        ("If-Match" = Option<String>, Header,),
    ),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, body = json::Problem), (status = 412, body = json::Problem),
    )
)]
pub async fn delete(State(app): State<App>, call: Call) -> Answer {
    call.query(&[])?;
    let (name, if_match) = (call.task()?, call.if_match()?);
    call.nothing().await?;
    app.tasks.delete(&name, if_match).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Tasks, by name. The namespace `-` means all.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/tasks", tag = "tasks",
    params(
        ("namespace" = String, Path,),
        ("prefix" = Option<String>, Query, description = "Of the name"),
        ("label" = Option<String>, Query, description = "`key=value`; all of them must be there"),
        ("state" = Option<String>, Query, description = "active, paused, finished, unreadable"),
        ("search" = Option<String>, Query, description = "Part of the name or the description"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; 100 when left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("view" = Option<String>, Query, description = "basic (without env, stdin, body) or full"),
    ),
    responses((status = 200, body = TaskShownList), (status = 400, body = json::Problem))
)]
pub async fn list(State(app): State<App>, call: Call) -> Answer {
    let query = call.query(&["prefix", "label", "state", "search", "limit", "cursor", "view"])?;
    let namespace = match call.part("namespace") {
        ALL_NAMESPACES => None,
        _ => Some(call.namespace()?),
    };
    let filter = filter(namespace, &query)?;
    let full = match query.text("view")? {
        None | Some("basic") => false,
        Some("full") => true,
        Some(other) => {
            return Err(Failure::bad("view", format!("{other:?}; allowed is basic, full")));
        }
    };
    let limit = query.count("limit", PAGE_DEFAULT, PAGE_MAX)?;
    let read = app.tasks.list(&filter, limit, query.text("cursor")?).await?;
    let item = |item: Shown| {
        let mut shown = shapes::shown(item, false);
        if !full {
            shown.task = shown.task.basic();
        }
        shown
    };
    let items = read.value.items.into_iter().map(item).collect();
    let next_cursor = read.value.next_cursor;
    Ok(answer(StatusCode::OK, &TaskShownList { items, next_cursor, stale: read.stale }))
}

fn filter(
    namespace: Option<Namespace>,
    query: &super::call::Query<'_>,
) -> Result<TaskFilter, Failure> {
    let state = |text: &str| {
        let wrong =
            || Failure::bad("state", format!("{text:?}; allowed is {}", ListState::ALLOWED));
        ListState::parse(text).ok_or_else(wrong)
    };
    Ok(TaskFilter {
        namespace,
        prefix: query.text("prefix")?.unwrap_or_default().to_owned(),
        labels: query.labels()?,
        states: query.all("state").into_iter().map(state).collect::<Result<_, _>>()?,
        search: query.text("search")?.unwrap_or_default().to_owned(),
    })
}

/// Pauses a task: what has not started does not start.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/tasks/{name}/pause", tag = "tasks",
    params(
        ("namespace" = String, Path,), ("name" = String, Path,),
        ("If-Match" = Option<String>, Header,),
    ),
    responses((status = 200, body = json::TaskWritten), (status = 404, body = json::Problem))
)]
pub async fn pause(State(app): State<App>, call: Call) -> Answer {
    call.query(&[])?;
    let (name, if_match) = (call.task()?, call.if_match()?);
    call.nothing().await?;
    Ok(written(app.tasks.pause(&name, if_match).await?))
}

/// Lets a paused task go on.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/tasks/{name}/resume", tag = "tasks",
    params(
        ("namespace" = String, Path,), ("name" = String, Path,),
        ("If-Match" = Option<String>, Header,),
    ),
    responses(
        (status = 200, body = json::TaskWritten), (status = 404, body = json::Problem),
        (status = 429, body = json::Problem, description = "`rate_limited`"),
    )
)]
pub async fn resume(State(app): State<App>, call: Call) -> Answer {
    call.query(&[])?;
    let (name, if_match) = (call.task()?, call.if_match()?);
    call.nothing().await?;
    Ok(written(app.tasks.resume(&name, if_match).await?))
}

/// Runs a task now, whatever its schedule.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/tasks/{name}/trigger", tag = "tasks",
    params(
        ("namespace" = String, Path,), ("name" = String, Path,),
        ("wait" = Option<String>, Query, description = "Answer when the run has ended, or after \
            this time: `30s`; 5 minutes at most"),
        ("Idempotency-Key" = Option<String>, Header, description = "A retried trigger is one"),
    ),
    request_body(content = json::Trigger, description = "May be left out"),
    responses((status = 202, body = json::TriggerAnswer), (status = 404, body = json::Problem))
)]
pub async fn trigger(State(app): State<App>, call: Call) -> Answer {
    let wait = call.query(&["wait"])?.duration("wait")?;
    if wait.is_some_and(|wait| wait > WAIT_MAX) {
        let allowed = json::format_duration(WAIT_MAX);
        return Err(Failure::bad("wait", format!("at most {allowed} can be waited for")));
    }
    let (name, key) = (call.task()?, call.idempotency_key()?);
    let body: json::Trigger = read(call.json_or_nothing().await?)?;
    let payload = body.payload.map(String::into_bytes);
    let triggered = app.tasks.trigger(&name, payload, key.as_deref(), wait).await?;
    Ok(answer(StatusCode::ACCEPTED, &shapes::triggered(triggered)))
}

/// The next instants of a task.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/tasks/{name}/upcoming", tag = "tasks",
    params(
        ("namespace" = String, Path,), ("name" = String, Path,),
        ("count" = Option<u32>, Query, description = "1 to 1,000; 10 when left out"),
        ("after" = Option<String>, Query, description = "RFC 3339; now when left out"),
    ),
    responses((status = 200, body = json::Upcoming), (status = 404, body = json::Problem))
)]
pub async fn upcoming(State(app): State<App>, call: Call) -> Answer {
    let query = call.query(&["count", "after"])?;
    let count = query.read("count", "1 to 1000")?.unwrap_or(COUNT_DEFAULT);
    let read = app.tasks.upcoming(&call.task()?, count, query.instant("after")?).await?;
    Ok(answer(StatusCode::OK, &shapes::upcoming(read.value, read.stale)))
}

/// The next instants of schedules that belong to no task yet.
#[utoipa::path(
    post, path = "/v1/schedules/preview", tag = "tasks",
    request_body = json::Preview,
    responses((status = 200, body = json::PreviewAnswer), (status = 400, body = json::Problem))
)]
pub async fn preview(State(app): State<App>, call: Call) -> Answer {
    call.query(&[])?;
    let body: json::Preview = read(call.json().await?)?;
    let after = body.after.as_deref().map(json::parse_instant).transpose();
    let after = after.map_err(|error| Failure::bad("after", error))?;
    let count = body.count.unwrap_or(COUNT_DEFAULT);
    let schedules = body.schedules.unwrap_or_default();
    let (namespace, name) = (body.namespace.as_deref(), body.name.as_deref());
    let upcoming = app.tasks.preview(&schedules, namespace, name, count, after)?;
    // Nothing but the request itself was read.
    let shown = shapes::upcoming(upcoming, false);
    let json::Upcoming { instants, description, warnings, .. } = shown;
    Ok(answer(StatusCode::OK, &json::PreviewAnswer { instants, description, warnings }))
}

fn written(written: TaskWritten) -> Response {
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let revision = written.task.revision.0;
    tagged(answer(status, &shapes::written(written)), revision)
}

/// A task of a batch: its namespace is in it.
pub fn spec_of_batch(
    value: Value,
    key: Option<&str>,
    index: usize,
) -> Result<Spec, crate::service::TaskError> {
    let fresh_name = requests::name(key, index);
    let given = Given {
        namespace: None,
        name: None,
        fresh_name: &fresh_name,
        purpose: Purpose::Create { now: clock::wall() },
    };
    task_from_value(value, given).map_err(crate::service::TaskError::Invalid)
}
