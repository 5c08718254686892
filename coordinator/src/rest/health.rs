//! What machines ask a coordinator about itself, and what a person sees who opens its address.
//!
//! Health means that the process answers; readiness, that its copy of the shared state is whole and
//! fresh. A coordinator that cannot reach etcd still answers reads and says so, but a load balancer
//! should prefer another.

use axum::extract::State;
use axum::response::{Html, IntoResponse};
use http::{HeaderValue, header};
use utoipa::OpenApi;

use super::App;
use super::openapi::ApiDoc;
use super::problem::{Answer, Failure};
use crate::service::Code;

/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String)))]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// The copy of the shared state is whole and fresh.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses((status = 200, body = String), (status = 503, body = tocktower_proto::json::Problem))
)]
pub async fn readyz(State(app): State<App>) -> Answer {
    let wait = |code, detail: String| Failure {
        retry_after: Some(std::time::Duration::from_secs(1)),
        ..Failure::new(code, detail)
    };
    if !app.catalog.ready() {
        let detail = "this coordinator has not read the shared state yet";
        return Err(wait(Code::NotReady, detail.to_owned()));
    }
    if app.catalog.stale() {
        let age = app.catalog.age().unwrap_or_default().as_secs();
        let detail = format!("the shared state has not been heard of for {age} s");
        return Err(wait(Code::StoreUnavailable, detail));
    }
    Ok("ready\n".into_response())
}

/// For Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String)))]
pub async fn metrics(State(app): State<App>) -> Answer {
    let text = app.metrics.text(&app.catalog, &app.links, &app.feed);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let kind = HeaderValue::from_static(kind);
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// This description.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "health", responses((status = 200)))]
pub async fn openapi() -> Answer {
    let text = ApiDoc::openapi().to_pretty_json();
    let text = text.map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
    let kind = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// For whoever opens the address in a browser.
pub async fn index() -> Html<&'static str> {
    Html(INDEX)
}

const INDEX: &str = "<!doctype html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><title>Tocktower</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}
code{background:#8882;padding:.1em .3em}</style></head>
<body>
<h1>Tocktower</h1>
<p>This is a coordinator of Tocktower, a distributed task scheduler: it takes tasks in, and shows
what became of their runs.</p>
<ul>
<li><a href=\"/v1/openapi.json\">The REST API</a>, described in OpenAPI</li>
<li><a href=\"/v1/namespaces/-/tasks\">Tasks</a>, <a href=\"/v1/runs\">runs</a>,
<a href=\"/v1/agents\">agents</a>, <a href=\"/v1/pools\">pools</a>,
<a href=\"/v1/ranges\">ranges</a></li>
<li><code>/v1/watch</code>: the live feed, as a WebSocket</li>
<li>gRPC on this port, with reflection: <code>grpcurl -plaintext &lt;address&gt; list</code></li>
<li><a href=\"/readyz\">Readiness</a> and <a href=\"/metrics\">metrics</a></li>
</ul>
<p>On a command line, <code>tock</code> does all of it.</p>
</body>
</html>
";
