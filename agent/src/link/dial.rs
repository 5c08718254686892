//! Dialling one coordinator, for as long as it is listed.
//!
//! A coordinator that cannot be reached is dialled again after pauses that grow and differ from
//! agent to agent; one that refuses us, or speaks another protocol, after the longest pause, since
//! only an upgrade will change its mind. What goes wrong is logged when it first does and when it
//! becomes something else, not at each dial: an outage of an hour is a line, not a thousand.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tocktower_core::ids::CoordinatorId;
use tocktower_proto::v1;
use tocktower_proto::v1::agent_link_client::AgentLinkClient;
use tocktower_proto::v1::agent_message::Message as Up;
use tocktower_proto::v1::coordinator_message::Message as Down;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};

use super::Shared;
use super::connection::Connection;
use super::limits::{
    CONNECT_WITHIN, DOWN_BYTES_MAX, KEEP_ALIVE_EVERY, KEEP_ALIVE_WITHIN, PAUSE_MAX, PAUSE_MIN,
    PROTOCOL_MAX, PROTOCOL_MIN, STEADY_AFTER, UP_MAX, WELCOME_WITHIN,
};
use super::metrics::{LinkMetrics, Raised};

/// Why there is no link, or no more.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkEnd {
    #[error("its address cannot be dialled")]
    Address(#[source] tonic::transport::Error),
    #[error("it cannot be reached")]
    Unreachable(#[source] tonic::transport::Error),
    #[error("it refused the link: {}", .0.message())]
    Refused(Status),
    #[error("it did not say Welcome within {WELCOME_WITHIN:?}")]
    Silent,
    #[error("it said something else before Welcome")]
    NotWelcome,
    #[error(
        "it chose protocol {0}, and this agent speaks {PROTOCOL_MIN} to {PROTOCOL_MAX}: \
         one of the two must be upgraded"
    )]
    Protocol(u32),
    #[error("it hung up")]
    HungUp,
    #[error("the stream broke: {}", .0.message())]
    Broken(Status),
    #[error("the agent ends the link")]
    Stopped,
}

impl LinkEnd {
    /// Dialling again soon would end in the same way.
    fn lasts(&self) -> bool {
        match self {
            LinkEnd::Address(_) | LinkEnd::NotWelcome | LinkEnd::Protocol(_) => true,
            LinkEnd::Refused(status) => matches!(
                status.code(),
                Code::FailedPrecondition
                    | Code::InvalidArgument
                    | Code::Unimplemented
                    | Code::Unauthenticated
                    | Code::PermissionDenied
            ),
            LinkEnd::Unreachable(_)
            | LinkEnd::Silent
            | LinkEnd::HungUp
            | LinkEnd::Broken(_)
            | LinkEnd::Stopped => false,
        }
    }
}

/// A stream on which Welcome was said.
struct Welcomed {
    protocol: u32,
    up: mpsc::Sender<v1::AgentMessage>,
    inbound: Streaming<v1::CoordinatorMessage>,
}

pub(super) struct Dial {
    shared: Arc<Shared>,
    id: CoordinatorId,
    address: String,
    stopped: watch::Receiver<bool>,
    pauses: ExponentialBackoff,
    /// What was last logged as wrong.
    trouble: Option<String>,
}

impl Dial {
    pub(super) fn new(
        shared: Arc<Shared>,
        id: CoordinatorId,
        address: String,
        stopped: watch::Receiver<bool>,
    ) -> Dial {
        Dial { shared, id, address, stopped, pauses: pauses(), trouble: None }
    }

    /// Until it is told to stop.
    pub(super) async fn run(mut self) {
        loop {
            LinkMetrics::one(&self.shared.metrics.dials);
            let mut stopped = self.stopped.clone();
            let welcomed = tokio::select! {
                welcomed = self.connect() => welcomed,
                () = stop(&mut stopped) => return,
            };
            let pause = match welcomed {
                Ok(welcomed) => match self.keep(welcomed).await {
                    LinkEnd::Stopped => return,
                    _ => self.pauses.next(),
                },
                Err(end) => self.failed(&end),
            };
            let pause = tokio::time::sleep(pause.unwrap_or(PAUSE_MAX));
            tokio::select! {
                () = pause => {}
                () = stop(&mut stopped) => return,
            }
        }
    }

    async fn connect(&self) -> Result<Welcomed, LinkEnd> {
        let url = match self.address.contains("://") {
            true => self.address.clone(),
            false => format!("http://{}", self.address),
        };
        let endpoint = Endpoint::from_shared(url)
            .map_err(LinkEnd::Address)?
            .connect_timeout(CONNECT_WITHIN)
            .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
            .keep_alive_timeout(KEEP_ALIVE_WITHIN)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect().await.map_err(LinkEnd::Unreachable)?;
        let (up, outgoing) = mpsc::channel(UP_MAX);
        up.try_send(message(Up::Hello(self.hello())))
            .expect("nothing is in the channel, and its other end is here");
        let mut client = AgentLinkClient::new(channel).max_decoding_message_size(DOWN_BYTES_MAX);
        let welcome = async {
            let answer = client.connect(ReceiverStream::new(outgoing)).await;
            let mut inbound = answer.map_err(LinkEnd::Refused)?.into_inner();
            let first = inbound.message().await.map_err(LinkEnd::Refused)?;
            match first.ok_or(LinkEnd::HungUp)?.message {
                Some(Down::Welcome(welcome)) => Ok((welcome.protocol, inbound)),
                _ => Err(LinkEnd::NotWelcome),
            }
        };
        let (protocol, inbound) =
            timeout(WELCOME_WITHIN, welcome).await.map_err(|_| LinkEnd::Silent)??;
        if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&protocol) {
            return Err(LinkEnd::Protocol(protocol));
        }
        Ok(Welcomed { protocol, up, inbound })
    }

    fn hello(&self) -> v1::Hello {
        let config = &self.shared.config;
        let session = self.shared.ports.stats.borrow().session;
        v1::Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            build: config.build.clone(),
            tz_version: config.tz_version.clone(),
            agent: config.agent.to_string(),
            pool: config.pool.to_string(),
            session: session.map(|session| v1::Session {
                epoch: session.epoch.0,
                revision: session.revision.0,
            }),
            host: config.host.clone(),
        }
    }

    /// Serves the link until it ends.
    async fn keep(&mut self, welcomed: Welcomed) -> LinkEnd {
        let Welcomed { protocol, up, inbound } = welcomed;
        tracing::info!(coordinator = %self.id, address = self.address, protocol, "link up");
        self.trouble = None;
        let since = Instant::now();
        let end = {
            let _connected = Raised::new(&self.shared.metrics.connected);
            let connection = Connection::new(Arc::clone(&self.shared), self.id.clone());
            connection.run(up, inbound, self.stopped.clone()).await
        };
        LinkMetrics::one(&self.shared.metrics.links_lost);
        tracing::info!(coordinator = %self.id, reason = %end, "link down");
        if since.elapsed() >= STEADY_AFTER {
            self.pauses = pauses();
        }
        end
    }

    /// Says so if that is news; how long to wait before the next dial.
    fn failed(&mut self, end: &LinkEnd) -> Option<Duration> {
        LinkMetrics::one(&self.shared.metrics.dials_failed);
        let said = causes(end);
        let (coordinator, address) = (&self.id, &self.address);
        if self.trouble.as_ref() == Some(&said) {
            tracing::debug!(%coordinator, address, reason = said, "still no link");
        } else {
            tracing::warn!(%coordinator, address, reason = said, "no link; dialling goes on");
        }
        self.trouble = Some(said);
        let next = self.pauses.next();
        if !end.lasts() {
            return next;
        }
        LinkMetrics::one(&self.shared.metrics.dials_refused);
        next.map(|next| next.max(PAUSE_MAX))
    }
}

pub(super) fn message(message: Up) -> v1::AgentMessage {
    v1::AgentMessage { message: Some(message) }
}

/// Returns when the link shall end, also if who would say so is gone.
pub(super) async fn stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(PAUSE_MIN)
        .with_max_delay(PAUSE_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}

fn causes(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push_str(": ");
        said.push_str(&error.to_string());
        cause = error.source();
    }
    said
}
