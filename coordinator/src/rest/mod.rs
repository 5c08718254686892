//! REST: routes, and what every request passes through.
//!
//! Handlers are thin: they parse, call a service, convert. What they share is here: the table of
//! routes, compression, the measure of each request, and answers for paths and methods that do not
//! exist, which are problems like all others.

mod batch;
mod call;
mod fleet;
mod health;
mod openapi;
mod problem;
mod runs;
mod shapes;
mod tasks;
mod why;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderMap, HeaderValue, Method, header};
use tower_http::compression::predicate::{
    DefaultPredicate, NotForContentType, Predicate, SizeAbove,
};
use tower_http::compression::{CompressionLayer, CompressionLevel};

pub use call::{Call, labels, parse, read, too_large};
pub use openapi::ApiDoc;
pub use problem::{Answer, Failure, status_of};
pub use shapes::{TaskShown, agent as agent_json, shown as task_shown};

use crate::catalog::Catalog;
use crate::feed::Feed;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::service::{Code, Fleet, Runs, Tasks};
use crate::stop::Stop;
use crate::ws;

/// What handlers work with. One pointer, since each request takes a copy.
pub type App = Arc<Parts>;

/// The parts of a coordinator, tied together.
pub struct Parts {
    pub tasks: Tasks,
    pub runs: Runs,
    pub fleet: Fleet,
    pub catalog: Catalog,
    pub links: Links,
    pub feed: Feed,
    pub metrics: Arc<Metrics>,
    pub stop: Stop,
}

/// What fits one packet anyway is sent as it is: making a compressor costs more than the rest of a
/// small answer.
const COMPRESSED_BYTES_MIN: u64 = 1_300;

/// All of REST and, beside it, the routes of gRPC.
pub fn router(app: App, grpc: Router) -> Router {
    let task = "/v1/namespaces/{namespace}/tasks/{name}";
    let run = "/v1/namespaces/{namespace}/tasks/{name}/runs/{run}";
    let agent = "/v1/agents/{agent}";
    let of = |base: &str, rest: &str| format!("{base}{rest}");
    let rest = Router::new()
        .route("/", get(health::index))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/v1/openapi.json", get(health::openapi))
        .route("/v1/tasks/batch", post(batch::create))
        .route("/v1/namespaces/{namespace}/tasks", get(tasks::list).post(tasks::create))
        .route(task, get(tasks::get).put(tasks::put).patch(tasks::patch).delete(tasks::delete))
        .route(&of(task, "/pause"), post(tasks::pause))
        .route(&of(task, "/resume"), post(tasks::resume))
        .route(&of(task, "/trigger"), post(tasks::trigger))
        .route(&of(task, "/upcoming"), get(tasks::upcoming))
        .route(&of(task, "/why"), get(why::why))
        .route("/v1/schedules/preview", post(tasks::preview))
        .route(&of(task, "/runs"), get(runs::list_of_task))
        .route("/v1/runs", get(runs::list_all))
        .route(run, get(runs::get))
        .route(&of(run, "/output"), get(runs::output))
        .route(&of(run, "/cancel"), post(runs::cancel))
        .route("/v1/agents", get(fleet::agents))
        .route(agent, get(fleet::agent).patch(fleet::patch).delete(fleet::forget))
        .route(&of(agent, "/cordon"), post(fleet::cordon))
        .route(&of(agent, "/drain"), post(fleet::drain))
        .route(&of(agent, "/uncordon"), post(fleet::uncordon))
        .route("/v1/pools", get(fleet::pools))
        .route("/v1/ranges", get(fleet::ranges))
        .route("/v1/watch", get(ws::watch))
        .method_not_allowed_fallback(no_such_method)
        .layer(compression());
    // Measured are routes only: what matches none has no bounded name.
    rest.with_state(app.clone())
        .merge(grpc)
        .route_layer(middleware::from_fn_with_state(app, measured))
        .fallback(no_such_path)
}

/// zstd and gzip, at levels that cost less than they save; not for output that is followed, which
/// would wait in the compressor.
fn compression() -> CompressionLayer<impl Predicate> {
    let predicate = DefaultPredicate::new()
        .and(SizeAbove::new(COMPRESSED_BYTES_MIN))
        .and(NotForContentType::const_new("application/octet-stream"));
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(predicate)
}

async fn measured(State(app): State<App>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let response = next.run(request).await;
    if let Some(route) = route {
        let code = response.status().as_u16();
        app.metrics.answered(route.as_str(), &method, code, begun.elapsed());
    }
    response
}

async fn no_such_method(method: Method) -> Failure {
    let detail = format!("{method} is no method of this path; the header Allow says which are");
    Failure::new(Code::MethodNotAllowed, detail)
}

async fn no_such_path(headers: HeaderMap, request: Request) -> Response {
    use axum::response::IntoResponse;
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        return tonic::Status::unimplemented("this coordinator has no such service").into_http();
    }
    let path: String = request.uri().path().chars().take(256).collect();
    let detail = format!("there is nothing at {path}; /v1/openapi.json says what there is");
    Failure::new(Code::NotFound, detail).into_response()
}
