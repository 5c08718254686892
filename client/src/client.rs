//! The client: a few servers, any of which will do, and one way to send a call.
//!
//! Coordinators are all equal and hold no state, so fail-over is to ask the next one. The channel
//! of each server connects when it is first used and again after it broke; the client keeps to the
//! one that answered last, so that in calm there is one connection.
//!
//! `call` is the only place that sends anything, and the only one that decides about sending it
//! again. Each call says what a repeat could do (`Repeat`); how far the failed one came says what
//! is allowed. Waits grow, are spread at random and bounded, as thousands of clients come back at
//! the same moment after an outage.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tocktower_proto::v1;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::error::{Error, Reached, Refusal, reached};
use crate::limits;

type Tasks = v1::task_service_client::TaskServiceClient<Channel>;
type Runs = v1::run_service_client::RunServiceClient<Channel>;
type Fleet = v1::fleet_service_client::FleetServiceClient<Channel>;

/// Where the servers are and how patient to be.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Coordinators, such as `http://127.0.0.1:7080`; one is enough, the others are for fail-over.
    pub servers: Vec<String>,
    /// Sent as `authorization: Bearer <token>`.
    pub token: Option<String>,
    /// How long one attempt of a call may take.
    pub timeout: Duration,
    /// How long to go on trying, over all servers and attempts.
    pub patience: Duration,
}

impl ClientConfig {
    /// One server, no token.
    pub fn new(server: impl Into<String>) -> ClientConfig {
        ClientConfig { servers: vec![server.into()], ..ClientConfig::default() }
    }
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            servers: vec!["http://127.0.0.1:7080".to_owned()],
            token: None,
            timeout: Duration::from_secs(10),
            patience: Duration::from_secs(30),
        }
    }
}

/// A connection to Tocktower. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    servers: Vec<Server>,
    /// Index of the server that calls go to.
    preferred: AtomicUsize,
    token: Option<MetadataValue<Ascii>>,
    timeout: Duration,
    patience: Duration,
}

struct Server {
    address: String,
    channel: Channel,
}

/// What would come of sending a call a second time after its answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Nothing: it changes nothing.
    Read,
    /// Nothing more than from sending it once, as with an idempotency key.
    Harmless,
    /// Perhaps harm: it is sent again only if no server has seen it.
    Harmful,
}

/// An answer, and whether an earlier attempt of the same call may have been carried out.
pub(crate) struct Answer<T> {
    pub(crate) result: Result<T, Error>,
    pub(crate) maybe_done_before: bool,
}

impl Client {
    /// Makes a client. Nothing is sent yet: connections are made when they are needed.
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// `Error::Config` if there is no server, or an address or the token cannot be used.
    pub fn connect(config: ClientConfig) -> Result<Client, Error> {
        if config.servers.is_empty() {
            return Err(Error::Config("no server is given: name at least one".to_owned()));
        }
        let servers = config.servers.iter().map(|s| server(s)).collect::<Result<Vec<_>, _>>()?;
        let token = config.token.as_deref().map(bearer).transpose()?;
        let inner = Inner {
            servers,
            preferred: AtomicUsize::new(0),
            token,
            timeout: config.timeout,
            patience: config.patience,
        };
        Ok(Client { inner: Arc::new(inner) })
    }

    /// The addresses of all servers, for messages.
    pub(crate) fn addresses(&self) -> String {
        let addresses: Vec<&str> =
            self.inner.servers.iter().map(|server| server.address.as_str()).collect();
        addresses.join(", ")
    }

    /// A request with the token, that must be answered in time.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        self.request_within(message, self.inner.timeout)
    }

    pub(crate) fn request_within<T>(&self, message: T, timeout: Duration) -> Request<T> {
        let mut request = self.endless_request(message);
        request.set_timeout(timeout);
        request
    }

    /// A request whose answer is a stream that may go on for ever.
    pub(crate) fn endless_request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.inner.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.inner.timeout
    }

    pub(crate) fn patience(&self) -> Duration {
        self.inner.patience
    }

    /// Sends a call that changes nothing, and gives its answer.
    pub(crate) async fn read<T, F, Fut>(&self, send: F) -> Result<T, Error>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.call("", Repeat::Read, send).await.result
    }

    /// Sends a call, to the next server and again as far as `repeat` allows.
    pub(crate) async fn call<T, F, Fut>(
        &self,
        what: &'static str,
        repeat: Repeat,
        send: F,
    ) -> Answer<T>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let give_up = Instant::now() + self.inner.patience;
        let mut waits = backoff().build();
        let mut maybe_done_before = false;
        let mut unreached_in_a_row = 0;
        loop {
            let (index, channel) = self.preferred();
            let status = match send(channel).await {
                Ok(response) => {
                    return Answer { result: Ok(response.into_inner()), maybe_done_before };
                }
                Err(status) => status,
            };
            let reached = reached(&status);
            let again = match reached {
                Reached::Refused => false,
                Reached::Nobody | Reached::Busy => true,
                Reached::Unknown => repeat != Repeat::Harmful,
            };
            // A busy one, too: its copy of the shared state may be behind that of the others.
            if reached != Reached::Refused {
                self.pass_over(index);
            }
            unreached_in_a_row =
                if reached == Reached::Nobody { unreached_in_a_row + 1 } else { 0 };
            // The other servers are tried at once; only a round in which all failed is followed by
            // a wait.
            let others_left =
                reached == Reached::Nobody && unreached_in_a_row % self.inner.servers.len() != 0;
            let wait = if others_left { Some(Duration::ZERO) } else { waits.next() };
            let wait = wait.filter(|wait| again && Instant::now() + *wait < give_up);
            let Some(wait) = wait else {
                let maybe_done = maybe_done_before && repeat != Repeat::Read;
                let error = self.error(what, reached, repeat, maybe_done, status);
                return Answer { result: Err(error), maybe_done_before };
            };
            maybe_done_before |= reached == Reached::Unknown;
            tokio::time::sleep(wait).await;
        }
    }

    /// Opens a stream on whichever server answers.
    pub(crate) fn preferred(&self) -> (usize, Channel) {
        let index = self.inner.preferred.load(Ordering::Relaxed) % self.inner.servers.len();
        (index, self.inner.servers[index].channel.clone())
    }

    /// Calls go to the next server from now on, unless another call has already seen to that.
    pub(crate) fn pass_over(&self, index: usize) {
        let next = (index + 1) % self.inner.servers.len();
        let _ = self.inner.preferred.compare_exchange(
            index,
            next,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    fn error(
        &self,
        what: &'static str,
        reached: Reached,
        repeat: Repeat,
        maybe_done_before: bool,
        status: Status,
    ) -> Error {
        let local = std::error::Error::source(&status).is_some();
        match reached {
            Reached::Busy | Reached::Refused => refused(&status),
            // The server itself said that it cannot: its own words are the better message.
            Reached::Unknown if !local && status.code() == Code::Unavailable => refused(&status),
            Reached::Unknown if repeat != Repeat::Read => {
                Error::UnknownOutcome { what, source: Box::new(status) }
            }
            Reached::Nobody if maybe_done_before => {
                Error::UnknownOutcome { what, source: Box::new(status) }
            }
            Reached::Nobody | Reached::Unknown => self.unreachable(status),
        }
    }

    pub(crate) fn unreachable(&self, status: Status) -> Error {
        Error::Unreachable { servers: self.addresses(), source: Box::new(status) }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the token, which would end up in somebody's log.
        f.debug_struct("Client").field("servers", &self.addresses()).finish_non_exhaustive()
    }
}

pub(crate) fn tasks(channel: Channel) -> Tasks {
    Tasks::new(channel).max_decoding_message_size(limits::ANSWER_BYTES_MAX)
}

pub(crate) fn runs(channel: Channel) -> Runs {
    Runs::new(channel).max_decoding_message_size(limits::ANSWER_BYTES_MAX)
}

pub(crate) fn fleet(channel: Channel) -> Fleet {
    Fleet::new(channel).max_decoding_message_size(limits::ANSWER_BYTES_MAX)
}

pub(crate) fn refused(status: &Status) -> Error {
    Error::Refused(Box::new(Refusal::of_status(status)))
}

/// Waits before calls are sent again.
pub(crate) fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(limits::RETRY_WAIT_MIN)
        .with_max_delay(limits::RETRY_WAIT_MAX)
        .with_max_times(limits::RETRIES_MAX)
        .with_jitter()
}

fn server(address: &str) -> Result<Server, Error> {
    let wrong = |why: &str| Error::Config(format!("server {address:?} cannot be used: {why}"));
    let full =
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    if !full.starts_with("http://") {
        return Err(wrong("this version speaks plain http only, as in http://127.0.0.1:7080"));
    }
    let endpoint = Endpoint::from_shared(full.clone())
        .map_err(|_| wrong("it is not an address such as http://127.0.0.1:7080"))?
        .connect_timeout(limits::CONNECT)
        .http2_keep_alive_interval(limits::KEEP_ALIVE)
        .keep_alive_timeout(limits::KEEP_ALIVE_ANSWER);
    if endpoint.uri().host().is_none_or(str::is_empty) {
        return Err(wrong("it names no host"));
    }
    Ok(Server { channel: endpoint.connect_lazy(), address: full })
}

fn bearer(token: &str) -> Result<MetadataValue<Ascii>, Error> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .map_err(|_| Error::Config("the token has characters that no token can have".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
