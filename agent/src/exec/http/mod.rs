//! HTTP requests: one pooled client for all of them.
//!
//! A run is one request, and succeeds if the final status lies in the task's ranges. Redirects are
//! followed, five at most. The headers say which run asks, and under which fence, so that a target
//! can tell a repeat from a new call; they cannot be overridden by the task.
//!
//! A request always ends: connecting takes 10 s at most, the whole of it the task's timeout, or an
//! hour. Proxies from the environment are not used: the agent's check of where a name leads
//! (`guard.rs`) would then be the proxy's to make.
//!
//! The client is made while the agent begins, as it reads the host's certificates from disk, and no
//! request is to be late for that. Where that failed, each request tries again, and says why.

mod guard;
mod headers;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method, Request, Response, Url};
use tocktower_core::run::{AttemptEnd, Finished, ResultCode};
use tocktower_core::task::Http;
use tokio::sync::{OnceCell, oneshot};

use super::live::{RunOutput, Stream};
use super::report::{failed, never_began};
use super::{StartRun, limits};
use crate::waker::now;

use guard::Guard;

pub(super) struct HttpClient {
    guard: Guard,
    client: OnceCell<Client>,
}

/// Why a request could not even be made. `Display` is the reason that its run shows.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("url {url:?} is not valid: {reason}")]
    Url { url: String, reason: String },
    #[error("method {method:?} is not valid")]
    Method { method: String },
    #[error("header {name:?} is not valid")]
    Header { name: String },
    #[error(transparent)]
    Denied(#[from] guard::Denied),
    #[error("the agent could not make its HTTP client: {0}")]
    Client(String),
}

impl HttpClient {
    pub(super) fn new(deny_link_local: bool) -> HttpClient {
        HttpClient { guard: Guard { deny_link_local }, client: OnceCell::new() }
    }

    /// Makes the client, if there is none yet.
    pub(super) async fn prepare(&self) {
        // Whoever needs it tries again, and tells.
        let _ = self.client().await;
    }

    #[cfg(test)]
    pub(super) fn is_prepared(&self) -> bool {
        self.client.initialized()
    }

    async fn client(&self) -> Result<&Client, RequestError> {
        self.client.get_or_try_init(|| make_client(self.guard)).await
    }

    /// Makes one request and waits for its end.
    pub(super) async fn run(
        &self,
        run: &StartRun,
        http: &Http,
        output: &RunOutput,
        stopped: &mut oneshot::Receiver<()>,
    ) -> Finished {
        let request = match self.request(run, http) {
            Ok(request) => request,
            Err(error) => return failed(error.to_string()),
        };
        let client = tokio::select! {
            biased;
            Ok(()) = &mut *stopped => return never_began(AttemptEnd::Cancelled),
            client = self.client() => client,
        };
        let client = match client {
            Ok(client) => client,
            Err(error) => return failed(error.to_string()),
        };
        let after = run.timeout.unwrap_or(limits::HTTP_TIMEOUT_DEFAULT);
        let mut status = None;
        let started_at = Some(now().wall);
        let exchange = Box::pin(exchange(client, request, output, &mut status));
        let end = tokio::select! {
            biased;
            Ok(()) = &mut *stopped => AttemptEnd::Cancelled,
            end = exchange => judge(end, http),
            () = tokio::time::sleep(after) => AttemptEnd::TimedOut { after },
        };
        let (finished_at, output) = (now().wall, output.end());
        Finished { started_at, finished_at, end, code: status.map(ResultCode::HttpStatus), output }
    }

    fn request(&self, run: &StartRun, http: &Http) -> Result<Request, RequestError> {
        let invalid = |reason: String| RequestError::Url { url: http.url.clone(), reason };
        let url = Url::parse(&http.url).map_err(|error| invalid(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(invalid("use http:// or https:// and a host".to_owned()));
        }
        self.guard.check_url(&url)?;
        let method = Method::from_bytes(http.method.as_bytes())
            .map_err(|_| RequestError::Method { method: http.method.clone() })?;
        let mut request = Request::new(method, url);
        *request.headers_mut() = headers::headers(run, http)?;
        // What a manual trigger carries takes the place of what the task always sends.
        *request.body_mut() =
            run.payload.as_ref().or(http.body.as_ref()).map(|body| body.clone().into());
        Ok(request)
    }
}

/// What came back: a status, or why none did.
type Exchanged = Result<u16, reqwest::Error>;

async fn exchange(
    client: &Client,
    request: Request,
    output: &RunOutput,
    status: &mut Option<u16>,
) -> Exchanged {
    let mut response: Response = client.execute(request).await?;
    let code = response.status().as_u16();
    *status = Some(code);
    let mut read = 0;
    while let Some(bytes) = response.chunk().await? {
        output.push(Stream::Stdout, &bytes);
        read += bytes.len();
        if read >= limits::HTTP_BODY_BYTES_MAX {
            break;
        }
    }
    Ok(code)
}

fn judge(exchanged: Exchanged, http: &Http) -> AttemptEnd {
    match exchanged {
        Ok(code) if succeeds(code, http) => AttemptEnd::Succeeded,
        Ok(code) => AttemptEnd::Failed { reason: format!("HTTP status {code}") },
        Err(error) => AttemptEnd::Failed { reason: explain(&error) },
    }
}

fn succeeds(code: u16, http: &Http) -> bool {
    if http.success_status.is_empty() {
        return (200..=299).contains(&code);
    }
    http.success_status.iter().any(|(first, last)| (*first..=*last).contains(&code))
}

/// The host and the innermost cause: what lies between is the client's own layering. The rest of
/// the URL is left out, since a query often holds a secret.
fn explain(error: &reqwest::Error) -> String {
    let what = if error.is_connect() {
        "could not connect"
    } else if error.is_redirect() {
        "redirect not followed"
    } else if error.is_body() || error.is_decode() {
        "the answer broke off"
    } else {
        "request failed"
    };
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let target = error.url().and_then(|url| {
        let host = url.host_str()?;
        Some(match url.port_or_known_default() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        })
    });
    match target {
        Some(target) => format!("{target}: {what}: {cause}"),
        None => format!("{what}: {cause}"),
    }
}

async fn make_client(guard: Guard) -> Result<Client, RequestError> {
    let made = tokio::task::spawn_blocking(move || {
        // Another part of the process may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::builder()
            .user_agent(concat!("tocktower/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(guard.redirects())
            .dns_resolver(Arc::new(guard))
            .connect_timeout(limits::HTTP_CONNECT_MAX)
            .pool_max_idle_per_host(limits::HTTP_IDLE_PER_HOST_MAX)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()
    });
    match made.await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(RequestError::Client(explain(&error))),
        Err(error) => Err(RequestError::Client(error.to_string())),
    }
}
