//! `RunService`: read the message, call the service, write the answer.
//!
//! Two of its calls are streams. Output goes chunk by chunk as the agent sends it, so that the
//! slowest of agent, coordinator and reader sets the pace. A watch is the live view of runs, the
//! same that the WebSocket shows. Both end with a word when the coordinator stops, so that clients
//! open them again on another at once.

use std::pin::Pin;

use futures::Stream;
use tocktower_proto::convert::run_proto;
use tocktower_proto::v1;
use tocktower_proto::v1::run_service_server::RunService;
use tocktower_proto::v1::watch_runs_response::Message as Watched;
use tonic::{Request, Response, Status};

use super::status::refused;
use super::values;
use crate::feed::{Filter, Kinds, What};
use crate::live::{FEEDS_MAX, Live, Message, Page};
use crate::metrics::Watcher;
use crate::rest::App;
use crate::service::{OutputRequest, RunError, RunFilter, Stream as OutputStream};

pub struct RunApi {
    app: App,
}

impl RunApi {
    pub fn new(app: App) -> RunApi {
        RunApi { app }
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

#[tonic::async_trait]
impl RunService for RunApi {
    type GetOutputStream = Streamed<v1::OutputChunk>;
    type WatchRunsStream = Streamed<v1::WatchRunsResponse>;

    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Answer<v1::ListRunsResponse> {
        let request = request.into_inner();
        let filter = RunFilter {
            namespace: values::any_namespace(&request.namespace)?,
            task: values::any_name(&request.task)?,
            states: values::run_states(&request.states)?,
            since: values::instant(&request.since, "since")?,
            until: values::instant(&request.until, "until")?,
        };
        let (limit, cursor) = (values::limit(request.limit)?, values::text(&request.cursor));
        let page = self.app.runs.list(&filter, limit, cursor).await.map_err(refused)?;
        Ok(Response::new(v1::ListRunsResponse {
            runs: page.runs.iter().map(run_proto).collect(),
            next_cursor: page.next_cursor.unwrap_or_default(),
            silent_agents: page.silent,
        }))
    }

    async fn get_run(&self, request: Request<v1::GetRunRequest>) -> Answer<v1::GetRunResponse> {
        let run = self.app.runs.one(&request.into_inner().run_id).await.map_err(refused)?;
        Ok(Response::new(v1::GetRunResponse { run: Some(run_proto(&run)) }))
    }

    async fn get_output(
        &self,
        request: Request<v1::GetOutputRequest>,
    ) -> Answer<Self::GetOutputStream> {
        let request = request.into_inner();
        let stream = match request.stream() {
            v1::OutputStream::Unspecified | v1::OutputStream::Stdout => OutputStream::Stdout,
            v1::OutputStream::Stderr => OutputStream::Stderr,
        };
        let wanted = OutputRequest {
            run_id: request.run_id,
            attempt: request.attempt,
            stream,
            follow: request.follow,
            offset: request.offset,
        };
        let mut output = self.app.runs.output(&wanted).await.map_err(refused)?;
        let mut stop = self.app.stop.clone();
        let chunks = async_stream::stream! {
            loop {
                let next = tokio::select! {
                    next = output.next() => next,
                    () = stop.stopped() => {
                        yield Err(Status::unavailable("the coordinator stops"));
                        return;
                    }
                };
                match next {
                    Ok(Some(chunk)) => yield Ok(chunk),
                    Ok(None) => return,
                    Err(error) => {
                        yield Err(refused(error));
                        return;
                    }
                }
            }
        };
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn cancel_run(
        &self,
        request: Request<v1::CancelRunRequest>,
    ) -> Answer<v1::CancelRunResponse> {
        let run = self.app.runs.cancel(&request.into_inner().run_id).await.map_err(refused)?;
        Ok(Response::new(v1::CancelRunResponse { run: Some(run_proto(&run)) }))
    }

    async fn watch_runs(
        &self,
        request: Request<v1::WatchRunsRequest>,
    ) -> Answer<Self::WatchRunsStream> {
        let request = request.into_inner();
        let filter = Filter {
            kinds: Kinds::RUNS,
            namespace: values::any_namespace(&request.namespace)?,
            task: values::any_name(&request.task)?,
            labels: request.labels,
        };
        let app = self.app.clone();
        if app.metrics.open(Watcher::Grpc) >= FEEDS_MAX {
            return Err(refused(RunError::TooManyFeeds));
        }
        let watching = app.metrics.watching(Watcher::Grpc);
        let mut live = Live::new(app.clone(), filter);
        let messages = async_stream::stream! {
            let _watching = watching;
            let mut stop = app.stop.clone();
            let mut seq = 0;
            loop {
                let message = tokio::select! {
                    message = live.next() => message,
                    () = stop.stopped() => Message::Closed,
                };
                if matches!(message, Message::Lagged { .. }) {
                    app.metrics.lagged(Watcher::Grpc);
                }
                if matches!(message, Message::Closed) {
                    yield Err(Status::unavailable("the coordinator stops"));
                    return;
                }
                for message in watched(message, &mut seq) {
                    yield Ok(v1::WatchRunsResponse { message: Some(message) });
                }
            }
        };
        Ok(Response::new(Box::pin(messages)))
    }
}

fn watched(message: Message, seq: &mut u64) -> Vec<Watched> {
    match message {
        Message::Snapshot(page) => {
            let runs = page.runs.iter().map(run_proto).collect();
            let Page { last, silent: silent_agents, cut, .. } = page;
            vec![Watched::Snapshot(v1::RunSnapshot { runs, last, silent_agents, cut })]
        }
        Message::Changes(changes) => {
            let mut events = Vec::with_capacity(changes.len());
            for change in changes {
                if let What::Run(run) = &change.what {
                    *seq += 1;
                    let run = Some(run_proto(run));
                    events.push(Watched::Event(v1::RunChange { seq: *seq, run }));
                }
            }
            events
        }
        Message::Lagged { missed } => vec![Watched::Lagged(v1::WatchLagged { missed })],
        Message::Closed => Vec::new(),
    }
}
