//! What an agent serves to machines that watch it: its metrics, that it lives, that it is ready.
//!
//! It listens before the agent has found its cluster, so that a daemon which waits can be asked
//! what it waits for. Health means that the process answers. Readiness means that it could start a
//! run that came due now; what is in the way is said, with what to look at.
//!
//! Nothing of the agent waits for a scrape: what is read is what its loop published last, and a
//! loop that stands still shows in the age of that.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tocktower_agent::disk::Disk;
use tocktower_agent::metrics::AgentMetrics;
use tocktower_agent::ready::unready;
use tocktower_agent::run::RunningAgent;
use tocktower_agent::stats::AgentStats;
use tocktower_agent::waker;
use tokio::net::TcpListener;
use tokio::sync::watch;

const STARTING: &str = "it has not started yet: it waits for the cluster's record in etcd";

/// The listener, and what it will show once the agent has started.
pub struct AgentHttp {
    address: SocketAddr,
    shown: Arc<OnceLock<Shown>>,
}

/// Where its answers come from.
struct Shown {
    metrics: AgentMetrics,
    stats: watch::Receiver<AgentStats>,
    disk: watch::Receiver<Disk>,
}

impl AgentHttp {
    /// Listens and serves, from now to the end of the process.
    pub async fn listen(address: SocketAddr) -> anyhow::Result<AgentHttp> {
        let failed = || format!("metrics-listen = {address}: it cannot be listened on");
        let listener = TcpListener::bind(address).await.with_context(failed)?;
        let address = listener.local_addr().with_context(failed)?;
        let shown = Arc::new(OnceLock::new());
        let router = router(shown.clone());
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the listener of the metrics failed");
            }
        });
        Ok(AgentHttp { address, shown })
    }

    /// With the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this agent is shown; the first one stays.
    pub fn show(&self, agent: &RunningAgent) {
        self.shown.get_or_init(|| Shown {
            metrics: agent.metrics(),
            stats: agent.stats.clone(),
            disk: agent.disk.clone(),
        });
    }
}

fn router(shown: Arc<OnceLock<Shown>>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(shown)
}

async fn metrics(State(shown): State<Arc<OnceLock<Shown>>>) -> Response {
    let Some(metrics) = shown.get().map(|shown| shown.metrics.clone()) else {
        return not_now(STARTING);
    };
    match tokio::task::spawn_blocking(move || metrics.text()).await {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        // A panic of the thread was reported where it happened.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn readyz(State(shown): State<Arc<OnceLock<Shown>>>) -> Response {
    let Some(shown) = shown.get() else { return not_now(STARTING) };
    let (stats, disk) = (shown.stats.borrow().clone(), *shown.disk.borrow());
    match unready(&stats, disk, waker::now()) {
        None => "ready\n".into_response(),
        Some(reason) => not_now(&reason.to_string()),
    }
}

fn not_now(reason: &str) -> Response {
    let body = format!("not ready: {reason}\n");
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], body).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_daemon_that_waits_for_its_cluster_says_so() {
        let http = AgentHttp::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert!(get(http.address(), "/healthz").await.starts_with("HTTP/1.1 200 "));
        for path in ["/readyz", "/metrics"] {
            let answer = get(http.address(), path).await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.ends_with("it waits for the cluster's record in etcd\n"), "{answer}");
        }
        assert!(get(http.address(), "/other").await.starts_with("HTTP/1.1 404 "));
        let taken = AgentHttp::listen(http.address()).await.err().unwrap();
        assert!(taken.to_string().starts_with("metrics-listen = 127.0.0.1:"), "{taken}");
    }
}
