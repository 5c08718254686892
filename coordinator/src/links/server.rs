//! Takes in what dials `AgentLink.Connect`: checks the Hello, answers Welcome, hands the stream to
//! a task of its own.
//!
//! The version is settled here, once: Hello offers a range of protocols, Welcome picks the highest
//! that both know. An agent that shares none is told which ones this coordinator speaks.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tocktower_core::ids::{AgentName, PoolName};
use tocktower_proto::v1;
use tocktower_proto::v1::agent_link_server::AgentLink;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::link::{self, Lateness};
use super::{LinkInfo, Links};
use crate::clock;
use crate::stop::Stop;

/// Protocols that this coordinator speaks.
const PROTOCOL_MIN: u32 = 1;
const PROTOCOL_MAX: u32 = 1;
/// How long a caller may take to say Hello.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// Messages that wait for the agent to read them.
const OUTBOX: usize = 256;

pub struct LinkServer {
    links: Links,
    coordinator: String,
    stop: Stop,
}

impl LinkServer {
    pub fn new(links: Links, coordinator: String, stop: Stop) -> LinkServer {
        LinkServer { links, coordinator, stop }
    }
}

pub(super) type Outbox = mpsc::Sender<Result<v1::CoordinatorMessage, Status>>;

#[tonic::async_trait]
impl AgentLink for LinkServer {
    type ConnectStream =
        Pin<Box<dyn Stream<Item = Result<v1::CoordinatorMessage, Status>> + Send + 'static>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let inbound = request.into_inner();
        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        let (links, coordinator, stop) =
            (self.links.clone(), self.coordinator.clone(), self.stop.clone());
        // The answer's head must not wait for the Hello: some clients send nothing before it.
        tokio::spawn(async move {
            if let Err(status) = serve(links, coordinator, stop, inbound, &outbox).await {
                tracing::warn!(%status, "an agent link was refused");
                let _ = outbox.try_send(Err(status));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

async fn serve(
    links: Links,
    coordinator: String,
    stop: Stop,
    mut inbound: Streaming<v1::AgentMessage>,
    outbox: &Outbox,
) -> Result<(), Status> {
    let first = tokio::time::timeout(HELLO_WITHIN, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the agent did not say Hello in time"))??;
    let Some(v1::agent_message::Message::Hello(hello)) = first.and_then(|first| first.message)
    else {
        return Err(Status::invalid_argument("the first message on a link must be Hello"));
    };
    let protocol = hello.protocol_max.min(PROTOCOL_MAX);
    if protocol < hello.protocol_min.max(PROTOCOL_MIN) {
        return Err(Status::failed_precondition(format!(
            "the agent speaks protocols {} to {}, this coordinator {PROTOCOL_MIN} to \
             {PROTOCOL_MAX}",
            hello.protocol_min, hello.protocol_max
        )));
    }
    let (info, _) = watch::channel(info(hello)?);
    let Some((number, orders)) = links.enter(&info) else {
        return Err(Status::resource_exhausted("this coordinator has as many links as it takes"));
    };
    let welcome = v1::Welcome { protocol, coordinator };
    let welcome = v1::coordinator_message::Message::Welcome(welcome);
    let _ = outbox.try_send(Ok(v1::CoordinatorMessage { message: Some(welcome) }));
    link::run(links, number, info, orders, inbound, outbox.clone(), stop).await;
    Ok(())
}

fn info(hello: v1::Hello) -> Result<LinkInfo, Status> {
    let wrong = |error: tocktower_core::ids::NameError| Status::invalid_argument(error.to_string());
    Ok(LinkInfo {
        agent: AgentName::parse(&hello.agent).map_err(wrong)?,
        pool: PoolName::parse(&hello.pool).map_err(wrong)?,
        build: hello.build,
        tz_version: hello.tz_version,
        host: hello.host,
        session: hello.session,
        since: clock::wall(),
        offset_us: None,
        stats: None,
        lateness: Arc::new(Lateness::default()),
        pressed_since: None,
    })
}
