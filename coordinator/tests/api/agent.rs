//! An agent that is played: it dials a coordinator, answers its clock and its questions from a list
//! of runs, and remembers what it was told.

use std::sync::{Arc, Mutex};

use tocktower_coordinator::links::bitmap;
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{
    AgentName, Attempt, Epoch, Fence, Incarnation, RangeId, Revision, RunId, RunKey, Session,
    TaskName,
};
use tocktower_core::run::{AttemptEnd, AttemptRecord, RunRecord, RunState};
use tocktower_core::time::{Instant, Wall};
use tocktower_proto::convert::{format_run_id, run_from_proto, run_proto, run_state_proto};
use tocktower_proto::v1;
use tocktower_proto::v1::agent_link_client::AgentLinkClient;
use tocktower_proto::v1::agent_message::Message as Up;
use tocktower_proto::v1::coordinator_message::Message as Down;
use tocktower_proto::v1::query::Kind;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::harness::{Api, until};

/// How far its clock is ahead, until it sets it.
pub const AHEAD_US: i64 = 5_000_000;

#[derive(Default)]
struct Told {
    runs: Vec<RunRecord>,
    offset: Option<v1::ClockOffset>,
    interest: Option<v1::interest::Kind>,
    /// Questions for runs that came while nothing was wanted.
    uninterested: u32,
    cancelled: Vec<String>,
    stopped: u32,
    /// Questions are heard and not answered.
    silent: bool,
    /// Its clock is right from now on.
    on_time: bool,
    /// Questions are kept, to be answered when it lets go.
    holding: bool,
    held: Vec<v1::Query>,
    held_most: usize,
    /// The code with which cancels are refused.
    refuses_cancels: Option<&'static str>,
}

pub struct Agent {
    pub name: AgentName,
    up: mpsc::Sender<v1::AgentMessage>,
    told: Arc<Mutex<Told>>,
    output: watch::Sender<Vec<u8>>,
    listening: JoinHandle<()>,
}

impl Drop for Agent {
    /// Hangs up.
    fn drop(&mut self) {
        self.listening.abort();
    }
}

pub async fn channel(api: &Api) -> Channel {
    Channel::from_shared(api.url("")).unwrap().connect().await.unwrap()
}

/// A run of a task, at a millisecond, under a fence.
pub fn run(task: &str, ms: i64, fence: i64, agent: &str, state: RunState) -> RunRecord {
    let agent = AgentName::parse(agent).unwrap();
    let fence = Fence { epoch: Epoch(1), revision: Revision(fence) };
    let ended = state.is_end();
    let attempt = AttemptRecord {
        attempt: Attempt { fence, number: 1 },
        agent: agent.clone(),
        session: Session { epoch: Epoch(1), revision: Revision(1) },
        started_at: Some(Wall::from_millis(ms + 1)),
        finished_at: ended.then(|| Wall::from_millis(ms + 2)),
        end: ended.then_some(AttemptEnd::Succeeded),
        code: None,
    };
    let incarnation = Incarnation { epoch: Epoch(1), revision: Revision(7) };
    let instant = Instant::from_millis(ms);
    RunRecord {
        id: RunId {
            task: TaskName::parse(task).unwrap(),
            incarnation,
            run: RunKey::Instant(instant),
            agent: None,
        },
        state,
        reason: None,
        instant,
        due: instant.wall(),
        agent,
        fence,
        attempts: vec![attempt],
        lateness_micros: Some(1_000),
        waited_by_policy: false,
        provisional: false,
        span: None,
        request: None,
    }
}

impl Agent {
    /// Dials and has history of every range.
    pub async fn dial(api: &Api, name: &str) -> Agent {
        let agent = Agent::dial_as(
            api,
            v1::Hello {
                protocol_min: 1,
                protocol_max: 3,
                build: "test".to_owned(),
                tz_version: "2026f".to_owned(),
                agent: name.to_owned(),
                pool: "default".to_owned(),
                session: None,
                host: "host".to_owned(),
            },
        )
        .await
        .unwrap();
        agent.stats(bitmap(RangeCount::DEFAULT, RangeCount::DEFAULT.all()), false).await;
        let name = agent.name.clone();
        until("the link is up", async || {
            let info = api.running.app().links.one(&name)?;
            info.stats.map(|_| ())
        })
        .await;
        agent
    }

    pub async fn dial_as(api: &Api, hello: v1::Hello) -> Result<Agent, tonic::Status> {
        let name = AgentName::parse(&hello.agent).unwrap();
        let (up, outgoing) = mpsc::channel(64);
        let first = v1::AgentMessage { message: Some(Up::Hello(hello)) };
        up.send(first).await.unwrap();
        let mut client = AgentLinkClient::new(channel(api).await);
        let mut down = client.connect(ReceiverStream::new(outgoing)).await?.into_inner();
        let welcome = down.message().await?.and_then(|message| message.message);
        assert!(matches!(welcome, Some(Down::Welcome(_))), "{welcome:?}");
        let told: Arc<Mutex<Told>> = Arc::default();
        let (output, _) = watch::channel(Vec::new());
        let (answers_up, answers) = (up.clone(), told.clone());
        let said = output.clone();
        let listening = tokio::spawn(async move {
            while let Ok(Some(message)) = down.message().await {
                if let Some(message) = message.message {
                    answer(&answers, &answers_up, &said, message).await;
                }
            }
        });
        Ok(Agent { name, up, told, output, listening })
    }

    /// Of runs that it has not been told of before.
    pub fn knows_all(&self, runs: impl IntoIterator<Item = RunRecord>) {
        self.told.lock().unwrap().runs.extend(runs);
    }

    pub fn knows(&self, run: RunRecord) {
        let mut told = self.told.lock().unwrap();
        told.runs.retain(|known| known.id != run.id);
        told.runs.push(run);
    }

    /// Answers no questions from now on.
    pub fn falls_silent(&self) {
        self.told.lock().unwrap().silent = true;
    }

    pub fn speaks_again(&self) {
        self.told.lock().unwrap().silent = false;
    }

    /// Has the right time from the next measurement on.
    pub fn sets_its_clock(&self) {
        self.told.lock().unwrap().on_time = true;
    }

    /// Keeps questions from now on, until it lets go of them.
    pub fn holds(&self) {
        self.told.lock().unwrap().holding = true;
    }

    /// How many questions it holds now, and the most that it ever held.
    pub fn held(&self) -> (usize, usize) {
        let told = self.told.lock().unwrap();
        (told.held.len(), told.held_most)
    }

    pub async fn lets_go(&self) {
        let held = {
            let mut told = self.told.lock().unwrap();
            told.holding = false;
            std::mem::take(&mut told.held)
        };
        for query in held {
            answer(&self.told, &self.up, &self.output, Down::Query(query)).await;
        }
    }

    pub fn refuses_cancels(&self, code: &'static str) {
        self.told.lock().unwrap().refuses_cancels = Some(code);
    }

    pub fn writes(&self, text: &str) {
        self.output.send_modify(|output| output.extend_from_slice(text.as_bytes()));
    }

    pub async fn reports(&self, runs: &[RunRecord]) {
        let runs = runs.iter().map(run_proto).collect();
        self.say(Up::RunEvents(v1::RunEvents { runs })).await;
    }

    pub async fn stats(&self, history_ranges: Vec<u8>, write_pressure: bool) {
        let ended = v1::Ended { succeeded: 3, ..v1::Ended::default() };
        let stats = v1::Stats {
            running: 2,
            ended: Some(ended),
            history_ranges,
            write_pressure,
            ..v1::Stats::default()
        };
        self.say(Up::Stats(stats)).await;
    }

    /// It says that something is in the way of what comes due.
    pub async fn hindered(&self, in_the_way: &str) {
        let stats = v1::Stats { in_the_way: in_the_way.to_owned(), ..v1::Stats::default() };
        self.say(Up::Stats(stats)).await;
    }

    pub async fn say(&self, message: Up) {
        self.up.send(v1::AgentMessage { message: Some(message) }).await.unwrap();
    }

    pub fn offset(&self) -> Option<v1::ClockOffset> {
        self.told.lock().unwrap().offset
    }

    pub fn interest(&self) -> Option<v1::interest::Kind> {
        self.told.lock().unwrap().interest.clone()
    }

    pub fn asked_uninterested(&self) -> u32 {
        self.told.lock().unwrap().uninterested
    }

    pub fn cancelled(&self) -> Vec<String> {
        self.told.lock().unwrap().cancelled.clone()
    }

    pub fn stopped_queries(&self) -> u32 {
        self.told.lock().unwrap().stopped
    }
}

async fn answer(
    told: &Arc<Mutex<Told>>,
    up: &mpsc::Sender<v1::AgentMessage>,
    output: &watch::Sender<Vec<u8>>,
    message: Down,
) {
    let now_us = i64::try_from(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros(),
    )
    .unwrap();
    match message {
        Down::ClockProbe(probe) => {
            let ahead_us = if told.lock().unwrap().on_time { 0 } else { AHEAD_US };
            let time = now_us + ahead_us;
            let answer = v1::ClockAnswer {
                probe_id: probe.probe_id,
                sent_us: probe.sent_us,
                received_us: time,
                answered_us: time,
            };
            let message = Some(Up::ClockAnswer(answer));
            let _ = up.send(v1::AgentMessage { message }).await;
        }
        Down::ClockOffset(offset) => told.lock().unwrap().offset = Some(offset),
        Down::Interest(interest) => told.lock().unwrap().interest = interest.kind,
        Down::StopQuery(_) => told.lock().unwrap().stopped += 1,
        Down::CancelRun(cancel) => {
            let refusal = told.lock().unwrap().refuses_cancels;
            if let Some(code) = refusal {
                return send_error(up, cancel.query_id, code).await;
            }
            let run = {
                let mut told = told.lock().unwrap();
                told.cancelled.push(cancel.run_id.clone());
                find(&told.runs, &cancel.run_id)
            };
            send_runs(up, cancel.query_id, run.into_iter().collect()).await;
        }
        Down::Query(query) => {
            {
                let mut told = told.lock().unwrap();
                if told.silent {
                    return;
                }
                if told.holding {
                    told.held.push(query);
                    told.held_most = told.held_most.max(told.held.len());
                    return;
                }
            }
            match query.kind.unwrap() {
                Kind::Runs(wanted) => {
                    let runs = {
                        let mut told = told.lock().unwrap();
                        let wants = matches!(&told.interest, Some(kind) if !is_none(kind));
                        told.uninterested += u32::from(!wants);
                        matching(&told.runs, &wanted)
                    };
                    send_runs(up, query.query_id, runs).await;
                }
                Kind::Run(wanted) => {
                    let run = find(&told.lock().unwrap().runs, &wanted.run_id);
                    match run {
                        Some(run) => send_runs(up, query.query_id, vec![run]).await,
                        None => send_error(up, query.query_id, "not_found").await,
                    }
                }
                Kind::Output(wanted) => {
                    let output = output.subscribe();
                    tokio::spawn(send_output(up.clone(), query.query_id, wanted, output));
                }
            }
        }
        Down::Welcome(_) => panic!("welcome comes once"),
    }
}

fn is_none(kind: &v1::interest::Kind) -> bool {
    matches!(kind, v1::interest::Kind::None(_))
}

fn find(runs: &[RunRecord], run_id: &str) -> Option<RunRecord> {
    runs.iter().find(|run| format_run_id(&run.id) == run_id).cloned()
}

fn matching(runs: &[RunRecord], wanted: &v1::RunsQuery) -> Vec<RunRecord> {
    let last = |run: &RunRecord| run.span.map_or(run.instant, |span| span.until);
    let named = |run: &&RunRecord| {
        let task = &run.id.task;
        let state: i32 = run_state_proto(run.state).into();
        (wanted.namespace.is_empty() || wanted.namespace == task.namespace.as_str())
            && (wanted.task.is_empty() || wanted.task == task.name.as_str())
            && (wanted.states.is_empty() || wanted.states.contains(&state))
            && wanted.since_ms.is_none_or(|since| last(run).millis() >= since)
            && wanted.until_ms.is_none_or(|until| run.instant.millis() < until)
            && (wanted.run_ids.is_empty() || wanted.run_ids.contains(&format_run_id(&run.id)))
    };
    let place = |run: &RunRecord| (run.instant.millis(), format_run_id(&run.id));
    let before = wanted.before.as_ref().map(|b| (b.instant_ms, b.run_id.clone()));
    let mut found: Vec<RunRecord> = runs.iter().filter(named).cloned().collect();
    found.sort_by_cached_key(|run| std::cmp::Reverse(place(run)));
    found.retain(|run| before.as_ref().is_none_or(|before| place(run) < *before));
    found.truncate(wanted.limit.try_into().unwrap());
    found
}

async fn send_runs(up: &mpsc::Sender<v1::AgentMessage>, query_id: u64, runs: Vec<RunRecord>) {
    let runs = v1::RunEvents { runs: runs.iter().map(run_proto).collect() };
    let kind = Some(v1::query_answer::Kind::Runs(runs));
    send(up, v1::QueryAnswer { query_id, kind, done: true }).await;
}

async fn send_error(up: &mpsc::Sender<v1::AgentMessage>, query_id: u64, code: &str) {
    let error =
        v1::Error { code: code.to_owned(), detail: code.to_owned(), ..v1::Error::default() };
    let kind = Some(v1::query_answer::Kind::Error(error));
    send(up, v1::QueryAnswer { query_id, kind, done: true }).await;
}

async fn send(up: &mpsc::Sender<v1::AgentMessage>, answer: v1::QueryAnswer) {
    let message = Some(Up::QueryAnswer(answer));
    let _ = up.send(v1::AgentMessage { message }).await;
}

/// What was written, and with `follow` what is written from now on, until an end of transmission.
async fn send_output(
    up: mpsc::Sender<v1::AgentMessage>,
    query_id: u64,
    wanted: v1::OutputQuery,
    mut output: watch::Receiver<Vec<u8>>,
) {
    let mut sent = usize::try_from(wanted.offset).unwrap();
    loop {
        let (fresh, over) = {
            let all = output.borrow_and_update();
            let over = !wanted.follow || all.last() == Some(&4);
            let end = all.iter().position(|byte| *byte == 4).unwrap_or(all.len());
            (all.get(sent..end).unwrap_or_default().to_vec(), over)
        };
        let offset = u64::try_from(sent).unwrap();
        sent += fresh.len();
        let chunk = v1::OutputChunk { stream: wanted.stream, offset, data: fresh, dropped: 0 };
        let kind = Some(v1::query_answer::Kind::Output(chunk));
        send(&up, v1::QueryAnswer { query_id, kind, done: over }).await;
        if over || output.changed().await.is_err() {
            return;
        }
    }
}

/// The bitmap of one range.
pub fn only(range: RangeId) -> Vec<u8> {
    bitmap(RangeCount::DEFAULT, [range])
}

/// What a run says to who reads it as JSON.
pub fn run_id(run: &RunRecord) -> String {
    format_run_id(&run.id)
}

/// Checks that a run crosses the wire unchanged; the tests rest on it.
#[test]
fn a_run_crosses_the_wire_unchanged() {
    let run = run("default/a", 1_000, 5, "agent-1", RunState::Succeeded);
    assert_eq!(run_from_proto(&run_proto(&run)).unwrap(), run);
}
