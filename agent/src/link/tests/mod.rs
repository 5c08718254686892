//! Links against a coordinator that is played: a real server on a real socket, whose side of each
//! link the test holds in its hands.
//!
//! A test says what the coordinator says and reads what the agent sends. It never sleeps for
//! something to happen: it reads on until it has, and fails when its patience is over.

mod events;
mod lives;
mod outputs;
mod queries;
mod stored;
mod unsettled;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::Stream as FuturesStream;
use tocktower_core::ids::{
    AgentName, Attempt, CoordinatorId, Epoch, Fence, Incarnation, PoolName, Revision, RunId,
    Session, TaskName,
};
use tocktower_core::run::{AttemptEnd, AttemptRecord, CapturedStream, RunRecord, RunState};
use tocktower_core::time::{Instant, Wall};
use tocktower_proto::v1;
use tocktower_proto::v1::agent_link_server::{AgentLink, AgentLinkServer};
use tocktower_proto::v1::agent_message::Message as Up;
use tocktower_proto::v1::coordinator_message::Message as Down;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::exec::Stream;

const PATIENCE: Duration = Duration::from_secs(20);

async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let look = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    patiently(what, look).await;
}

type DownStream = Pin<Box<dyn FuturesStream<Item = Result<v1::CoordinatorMessage, Status>> + Send>>;

struct Server {
    links: mpsc::Sender<Peer>,
}

#[tonic::async_trait]
impl AgentLink for Server {
    type ConnectStream = DownStream;

    async fn connect(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<DownStream>, Status> {
        let (down, outgoing) = mpsc::channel(64);
        let peer = Peer { up: request.into_inner(), down };
        self.links.send(peer).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

/// A coordinator that takes links.
struct Coordinator {
    address: SocketAddr,
    links: mpsc::Receiver<Peer>,
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<()>,
}

impl Coordinator {
    async fn start() -> Coordinator {
        Coordinator::at("127.0.0.1:0".parse().unwrap()).await
    }

    async fn at(address: SocketAddr) -> Coordinator {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (links, inbox) = mpsc::channel(8);
        let (stop, mut stopped) = watch::channel(false);
        let server = tonic::transport::Server::builder()
            .add_service(AgentLinkServer::new(Server { links }))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            });
        let served = tokio::spawn(async move { server.await.unwrap() });
        Coordinator { address, links: inbox, stop, served }
    }

    /// Ends, with all links that the test has let go of.
    async fn die(self) -> SocketAddr {
        drop(self.links);
        self.stop.send_replace(true);
        patiently("the server's end", self.served).await.unwrap();
        self.address
    }

    /// The next link, before anything was said on it.
    async fn accept(&mut self) -> Peer {
        patiently("a link", self.links.recv()).await.unwrap()
    }

    /// The next link, after Hello and Welcome.
    async fn welcome(&mut self) -> Peer {
        let mut peer = self.accept().await;
        peer.hello().await;
        peer.say(Down::Welcome(v1::Welcome { protocol: 1, coordinator: "c1".to_owned() })).await;
        peer
    }
}

/// The coordinator's side of one link.
struct Peer {
    up: Streaming<v1::AgentMessage>,
    down: mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
}

impl Peer {
    async fn say(&self, message: Down) {
        let message = v1::CoordinatorMessage { message: Some(message) };
        self.down.send(Ok(message)).await.unwrap();
    }

    /// The next message; `None` at the end of the link.
    async fn hear(&mut self) -> Option<Up> {
        let message = patiently("a message", self.up.message()).await;
        message.ok().flatten().map(|message| message.message.unwrap())
    }

    /// The next message that `pick` takes; others are passed over.
    async fn hear_of<T>(&mut self, pick: impl Fn(Up) -> Option<T>) -> T {
        let heard = async {
            loop {
                let message = self.up.message().await.unwrap().expect("the link goes on");
                if let Some(found) = pick(message.message.unwrap()) {
                    return found;
                }
            }
        };
        patiently("a certain message", heard).await
    }

    async fn hello(&mut self) -> v1::Hello {
        match self.hear().await {
            Some(Up::Hello(hello)) => hello,
            other => panic!("{other:?} is no Hello"),
        }
    }

    async fn ask(&self, query_id: u64, kind: v1::query::Kind) {
        self.say(Down::Query(v1::Query { query_id, kind: Some(kind) })).await;
    }

    async fn answer(&mut self) -> v1::QueryAnswer {
        self.hear_of(|message| match message {
            Up::QueryAnswer(answer) => Some(answer),
            _ => None,
        })
        .await
    }

    /// All runs of an answer, and its error.
    async fn runs(&mut self, query_id: u64) -> Result<Vec<v1::Run>, v1::Error> {
        let mut runs = Vec::new();
        loop {
            let answer = self.answer().await;
            assert_eq!(answer.query_id, query_id);
            match answer.kind {
                Some(v1::query_answer::Kind::Runs(part)) => runs.extend(part.runs),
                Some(v1::query_answer::Kind::Error(error)) => return Err(error),
                other => panic!("{other:?} are no runs"),
            }
            if answer.done {
                return Ok(runs);
            }
        }
    }

    /// Returns when all that was said before has been taken in.
    async fn settle(&mut self) {
        const ID: u64 = u64::MAX;
        self.ask(ID, v1::query::Kind::Run(v1::RunQuery { run_id: "none".to_owned() })).await;
        self.hear_of(|message| match message {
            Up::QueryAnswer(answer) if answer.query_id == ID => Some(()),
            _ => None,
        })
        .await;
    }

    async fn interest(&mut self, kind: v1::interest::Kind) {
        self.say(Down::Interest(v1::Interest { kind: Some(kind) })).await;
        self.settle().await;
    }
}

/// A history in memory. Pages are small, so that there are many of them.
#[derive(Default)]
struct Memory {
    runs: Mutex<Vec<RunRecord>>,
    outputs: Mutex<BTreeMap<(RunId, Attempt), CapturedStream>>,
    reads: AtomicU64,
}

const MEMORY_PAGE: usize = 7;

impl History for Memory {
    /// Within one instant by the reversed text of the id, an order that no answer has.
    fn runs(&self, asked: &HistoryRuns) -> Result<HistoryPage, HistoryError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let mut runs: Vec<RunRecord> = self.runs.lock().unwrap().clone();
        let text = |run: &RunRecord| run.id.to_string().chars().rev().collect::<String>();
        runs.sort_by_cached_key(|run| (std::cmp::Reverse(run.instant), text(run)));
        runs.retain(|run| {
            asked.since.is_none_or(|since| run.instant >= since)
                && asked.until.is_none_or(|until| run.instant < until)
                && asked.task.as_ref().is_none_or(|task| run.id.task == *task)
        });
        let from = asked.after.as_ref().map_or(0, |mark| usize::from(mark.0[0]));
        let size = asked.limit.min(MEMORY_PAGE);
        let more = runs.len() > from + size;
        let next = more.then(|| PageMark([u8::try_from(from + size).unwrap()].into()));
        Ok(HistoryPage { runs: runs.into_iter().skip(from).take(size).collect(), next })
    }

    fn accounts(&self, run: &RunId) -> Result<Vec<RunRecord>, HistoryError> {
        let runs = self.runs.lock().unwrap();
        Ok(runs.iter().filter(|known| known.id == *run).cloned().collect())
    }

    fn output(
        &self,
        run: &RunId,
        attempt: Attempt,
        stream: Stream,
    ) -> Result<Option<CapturedStream>, HistoryError> {
        let kept = self.outputs.lock().unwrap().get(&(run.clone(), attempt)).cloned();
        Ok(kept.filter(|_| stream == Stream::Stdout))
    }
}

/// What the agent's loop knows and was told.
#[derive(Default)]
struct Told {
    open: Vec<RunRecord>,
    cancelled: Vec<RunId>,
    offsets: Vec<i64>,
    /// Questions to the loop are left lying.
    stuck: bool,
    left_lying: Vec<LinkCommand>,
}

/// The rest of the agent, played.
struct Agent {
    links: LinksHandle,
    stats: watch::Sender<LinkStats>,
    lateness: LatenessMeter,
    history: Arc<Memory>,
    told: Arc<Mutex<Told>>,
}

struct Nothing;

impl Live for Nothing {
    fn tail(&self, _: &RunId, _: u32, _: Stream) -> Option<crate::exec::LiveOutput> {
        None
    }
}

impl Agent {
    fn start() -> Agent {
        Agent::with(Arc::new(Nothing))
    }

    fn with(live: Arc<dyn Live>) -> Agent {
        let history = Arc::new(Memory::default());
        Agent::reading(history.clone(), history, live)
    }

    /// An agent whose links read another history; `memory` is left alone.
    fn reading(read: Arc<dyn History>, memory: Arc<Memory>, live: Arc<dyn Live>) -> Agent {
        let (commands, mut inbox) = mpsc::channel(16);
        let (stats, told_stats) = watch::channel(LinkStats::default());
        let lateness = LatenessMeter::new();
        let ports = LinkPorts {
            history: read,
            live,
            commands,
            stats: told_stats,
            lateness: lateness.clone(),
        };
        let config = LinkConfig {
            agent: AgentName::parse("agent-1").unwrap(),
            pool: PoolName::parse("default").unwrap(),
            build: "test".to_owned(),
            tz_version: "2026f".to_owned(),
            host: "host-1".to_owned(),
        };
        let told: Arc<Mutex<Told>> = Arc::default();
        let agent_loop = Arc::clone(&told);
        tokio::spawn(async move {
            while let Some(command) = inbox.recv().await {
                take(&agent_loop, command);
            }
        });
        Agent { links: Links::start(config, ports), stats, lateness, history: memory, told }
    }

    fn dials(&self, name: &str, address: SocketAddr) {
        self.links.set_coordinator(id(name), Some(address.to_string()));
    }

    /// A coordinator with one link, welcomed.
    async fn linked(&self) -> (Coordinator, Peer) {
        let mut coordinator = Coordinator::start().await;
        self.dials("c1", coordinator.address);
        let peer = coordinator.welcome().await;
        (coordinator, peer)
    }

    fn open(&self, runs: impl IntoIterator<Item = RunRecord>) {
        self.told.lock().unwrap().open.extend(runs);
    }

    fn keep(&self, runs: impl IntoIterator<Item = RunRecord>) {
        self.history.runs.lock().unwrap().extend(runs);
    }

    fn count(&self, of: impl Fn(&LinkMetrics) -> &AtomicU64) -> u64 {
        of(&self.links.metrics()).load(Ordering::Relaxed)
    }
}

fn take(told: &Mutex<Told>, command: LinkCommand) {
    let mut told = told.lock().unwrap();
    if told.stuck {
        told.left_lying.push(command);
        return;
    }
    match command {
        LinkCommand::CancelRun(run) => told.cancelled.push(run),
        LinkCommand::ClockOffset { offset, .. } => told.offsets.push(offset.micros),
        LinkCommand::Unstored(reply) => {
            let _ = reply.send(told.open.clone());
        }
        LinkCommand::Provisional(mut rows, reply) => {
            for row in &mut rows {
                row.provisional = true;
            }
            rows.extend(told.open.iter().cloned());
            let _ = reply.send(rows);
        }
    }
}

fn id(name: &str) -> CoordinatorId {
    CoordinatorId::parse(name).unwrap()
}

fn fence(revision: i64) -> Fence {
    Fence { epoch: Epoch(1), revision: Revision(revision) }
}

/// A run of a task at a millisecond, under a fence, with one attempt.
fn run_under(task: &str, ms: i64, revision: i64, state: RunState) -> RunRecord {
    let agent = AgentName::parse("agent-1").unwrap();
    let instant = Instant::from_millis(ms);
    let ended = state.is_end();
    let attempt = AttemptRecord {
        attempt: Attempt { fence: fence(revision), number: 1 },
        agent: agent.clone(),
        session: Session { epoch: Epoch(1), revision: Revision(1) },
        started_at: Some(Wall::from_millis(ms + 1)),
        finished_at: ended.then(|| Wall::from_millis(ms + 2)),
        end: ended.then_some(AttemptEnd::Succeeded),
        code: None,
    };
    let incarnation = Incarnation { epoch: Epoch(1), revision: Revision(7) };
    RunRecord {
        id: RunId::scheduled(TaskName::parse(task).unwrap(), incarnation, instant),
        state,
        reason: None,
        instant,
        due: instant.wall(),
        agent,
        fence: fence(revision),
        attempts: vec![attempt],
        lateness_micros: Some(1_000),
        waited_by_policy: false,
        provisional: false,
        span: None,
        request: None,
    }
}

fn run(task: &str, ms: i64, state: RunState) -> RunRecord {
    run_under(task, ms, 5, state)
}

fn ids(runs: &[v1::Run]) -> Vec<&str> {
    runs.iter().map(|run| run.run_id.as_str()).collect()
}
