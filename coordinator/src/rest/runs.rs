//! Runs over HTTP: parse, call the service, convert.
//!
//! Output is the one answer without JSON: bytes as the attempt wrote them, as they come. Its first
//! chunk decides the status; an error after that breaks the connection off, so that nobody takes a
//! part for the whole. It is not compressed, since a compressor would hold back what is followed
//! live.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tocktower_core::ids::{Name, Namespace};
use tocktower_core::run::RunState;
use tocktower_proto::json;

use super::App;
use super::call::{Call, Query, answer};
use super::problem::{Answer, Failure};
use super::shapes;
use super::tasks::ALL_NAMESPACES;
use crate::service::{OutputRequest, PAGE_DEFAULT, PAGE_MAX, RunError, RunFilter, Stream};
use crate::stop::Stop;

const LIST_PARAMETERS: [&str; 5] = ["state", "since", "until", "limit", "cursor"];

/// Runs of all tasks, the newest first.
#[utoipa::path(
    get, path = "/v1/runs", tag = "runs",
    params(
        ("namespace" = Option<String>, Query,), ("task" = Option<String>, Query,),
        ("state" = Option<String>, Query, description = "One or more, with commas"),
        ("since" = Option<String>, Query, description = "By instant, RFC 3339"),
        ("until" = Option<String>, Query, description = "Does not belong to it"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; 100 when left out"),
        ("cursor" = Option<String>, Query,),
    ),
    responses((status = 200, body = shapes::Runs), (status = 400, body = json::Problem))
)]
pub async fn list_all(State(app): State<App>, call: Call) -> Answer {
    let mut allowed = vec!["namespace", "task"];
    allowed.extend(LIST_PARAMETERS);
    let query = call.query(&allowed)?;
    let mut filter = filter(&query)?;
    let namespace = query.text("namespace")?.filter(|text| *text != ALL_NAMESPACES);
    let name = |path: &'static str| {
        move |error: tocktower_core::ids::NameError| Failure::bad(path, error.to_string())
    };
    filter.namespace = namespace.map(Namespace::parse).transpose().map_err(name("namespace"))?;
    filter.task = query.text("task")?.map(Name::parse).transpose().map_err(name("task"))?;
    list(&app, &filter, &query).await
}

/// Runs of one task, the newest first.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/tasks/{name}/runs", tag = "runs",
    params(
        ("namespace" = String, Path,), ("name" = String, Path,),
        ("state" = Option<String>, Query, description = "One or more, with commas"),
        ("since" = Option<String>, Query, description = "By instant, RFC 3339; a row of several \
            instants counts by its first"),
        ("until" = Option<String>, Query, description = "Does not belong to it"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; 100 when left out"),
        ("cursor" = Option<String>, Query,),
    ),
    responses((status = 200, body = shapes::Runs), (status = 400, body = json::Problem))
)]
pub async fn list_of_task(State(app): State<App>, call: Call) -> Answer {
    let query = call.query(&LIST_PARAMETERS)?;
    let task = call.task()?;
    let mut filter = filter(&query)?;
    filter.namespace = Some(task.namespace);
    filter.task = Some(task.name);
    list(&app, &filter, &query).await
}

async fn list(app: &App, filter: &RunFilter, query: &Query<'_>) -> Answer {
    let limit = query.count("limit", PAGE_DEFAULT, PAGE_MAX)?;
    let page = app.runs.list(filter, limit, query.text("cursor")?).await?;
    Ok(answer(StatusCode::OK, &shapes::runs(page)))
}

fn filter(query: &Query<'_>) -> Result<RunFilter, Failure> {
    let state = |text: &str| {
        let names: Vec<&str> = RunState::ALL.iter().map(|state| state.as_str()).collect();
        let message = format!("{text:?}; allowed is {}", names.join(", "));
        RunState::parse(text).ok_or_else(|| Failure::bad("state", message))
    };
    Ok(RunFilter {
        states: query.all("state").into_iter().map(state).collect::<Result<_, _>>()?,
        since: query.instant("since")?,
        until: query.instant("until")?,
        ..RunFilter::default()
    })
}

/// One run.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/tasks/{name}/runs/{run}", tag = "runs",
    params(("namespace" = String, Path,), ("name" = String, Path,), ("run" = String, Path,)),
    responses(
        (status = 200, body = json::Run), (status = 404, body = json::Problem),
        (status = 503, body = json::Problem, description = "`agents_silent`: one may know it"),
    )
)]
pub async fn get(State(app): State<App>, call: Call) -> Answer {
    call.query(&[])?;
    let run = app.runs.one(&call.run_id()?).await?;
    Ok(answer(StatusCode::OK, &shapes::run(&run)))
}

/// Ends a run that goes on or waits.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/tasks/{name}/runs/{run}/cancel", tag = "runs",
    params(("namespace" = String, Path,), ("name" = String, Path,), ("run" = String, Path,)),
    responses(
        (status = 202, body = json::Run), (status = 404, body = json::Problem),
        (status = 409, body = json::Problem, description = "`already_ended`"),
    )
)]
pub async fn cancel(State(app): State<App>, call: Call) -> Answer {
    call.query(&[])?;
    let run_id = call.run_id()?;
    call.nothing().await?;
    let run = app.runs.cancel(&run_id).await?;
    Ok(answer(StatusCode::ACCEPTED, &shapes::run(&run)))
}

/// What an attempt wrote. With `follow`, until it ends.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/tasks/{name}/runs/{run}/output", tag = "runs",
    params(
        ("namespace" = String, Path,), ("name" = String, Path,), ("run" = String, Path,),
        ("stream" = Option<String>, Query, description = "stdout (when left out) or stderr"),
        ("attempt" = Option<u32>, Query, description = "The newest when left out"),
        ("follow" = Option<bool>, Query,),
        ("offset" = Option<u64>, Query, description = "Bytes to leave out from the beginning"),
    ),
    responses(
        (status = 200, body = String, content_type = "application/octet-stream"),
        (status = 404, body = json::Problem),
    )
)]
pub async fn output(State(app): State<App>, call: Call) -> Answer {
    let query = call.query(&["stream", "attempt", "follow", "offset"])?;
    let stream = match query.text("stream")? {
        None | Some("stdout") => Stream::Stdout,
        Some("stderr") => Stream::Stderr,
        Some(other) => {
            return Err(Failure::bad("stream", format!("{other:?}; allowed is stdout, stderr")));
        }
    };
    let request = OutputRequest {
        run_id: call.run_id()?,
        attempt: query.read("attempt", "a number")?.unwrap_or(0),
        stream,
        follow: query.flag("follow")?,
        offset: query.read("offset", "a number of bytes")?.unwrap_or(0),
    };
    let output = app.runs.output(&request).await?;
    chunks(output, app.stop.clone()).await
}

/// What comes first decides the status; what comes later is only cut short by an error.
async fn chunks(mut output: crate::service::Output, mut stop: Stop) -> Answer {
    let first = output.next().await?;
    let body = async_stream::stream! {
        let mut next: Result<_, RunError> = Ok(first);
        loop {
            match next {
                Ok(Some(chunk)) => {
                    if chunk.dropped > 0 {
                        let note = format!("\n… {} bytes were not kept …\n", chunk.dropped);
                        yield Ok(Bytes::from(note));
                    }
                    yield Ok(Bytes::from(chunk.data));
                }
                Ok(None) => break,
                // The connection breaks off, so that nobody takes it for the whole.
                Err(error) => {
                    yield Err(std::io::Error::other(error.to_string()));
                    break;
                }
            }
            next = tokio::select! {
                next = output.next() => next,
                () = stop.stopped() => break,
            };
        }
    };
    let kind = HeaderValue::from_static("application/octet-stream");
    let response: Response =
        ([(header::CONTENT_TYPE, kind)], Body::from_stream(body)).into_response();
    Ok(response)
}
