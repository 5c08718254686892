//! What attempts wrote, from the history and from real programs that still run.

use tocktower_core::task::{Action, Command, Program};
use tocktower_core::time::Mono;
use tocktower_proto::v1::query::Kind;

use super::*;
use crate::exec::{End, ExecConfig, Executors, StartRun, Ticket};

const RUN: &str = "default/a@1000-7";

fn output(follow: bool, offset: u64) -> Kind {
    let stream = v1::OutputStream::Stdout.into();
    Kind::Output(v1::OutputQuery { run_id: RUN.to_owned(), attempt: 0, stream, follow, offset })
}

impl Peer {
    /// The next chunk; `None` after the last.
    async fn chunk(&mut self) -> Option<v1::OutputChunk> {
        let answer = self.answer().await;
        match answer.kind {
            Some(v1::query_answer::Kind::Output(chunk)) => Some(chunk),
            None => {
                assert!(answer.done);
                None
            }
            other => panic!("{other:?} is no output"),
        }
    }

    /// All that is left, as (offset, dropped, text).
    async fn chunks(&mut self) -> Vec<(u64, u64, String)> {
        let mut chunks = Vec::new();
        while let Some(chunk) = self.chunk().await {
            let text = String::from_utf8(chunk.data).unwrap();
            chunks.push((chunk.offset, chunk.dropped, text));
        }
        chunks
    }
}

fn kept(head: &str, dropped: u64, tail: &str) -> CapturedStream {
    CapturedStream { head: head.into(), tail: tail.into(), dropped }
}

fn chunk(offset: u64, dropped: u64, text: &str) -> (u64, u64, String) {
    (offset, dropped, text.to_owned())
}

#[tokio::test]
async fn stored_output_is_told_from_the_offset_on_with_its_hole() {
    let agent = Agent::start();
    let ended = run("default/a", 1_000, RunState::Succeeded);
    let attempt = ended.attempts[0].attempt;
    let stored = kept("begin", 10, "end");
    agent.history.outputs.lock().unwrap().insert((ended.id.clone(), attempt), stored);
    agent.keep([ended]);
    let (_coordinator, mut peer) = agent.linked().await;
    let expected = [
        (0, vec![chunk(0, 0, "begin"), chunk(15, 10, "end")]),
        (3, vec![chunk(3, 0, "in"), chunk(15, 10, "end")]),
        (8, vec![chunk(15, 7, "end")]),
        (16, vec![chunk(16, 0, "nd")]),
        (99, Vec::new()),
    ];
    for (id, (offset, chunks)) in (1..).zip(expected) {
        peer.ask(id, output(true, offset)).await;
        assert_eq!(peer.chunks().await, chunks, "from {offset} on");
    }
}

#[tokio::test]
async fn what_nobody_knows_is_not_found_and_what_wrote_nothing_is_empty() {
    let agent = Agent::start();
    let (_coordinator, mut peer) = agent.linked().await;
    peer.ask(1, output(false, 0)).await;
    assert_eq!(peer.runs(1).await.unwrap_err().code, "not_found");
    agent.keep([run("default/a", 1_000, RunState::Succeeded)]);
    peer.ask(2, output(true, 0)).await;
    assert!(peer.chunks().await.is_empty());
}

#[tokio::test]
async fn output_that_is_on_its_way_to_the_disk_is_waited_for() {
    let agent = Agent::start();
    let going = run("default/a", 1_000, RunState::Running);
    let attempt = going.attempts[0].attempt;
    agent.open([going.clone()]);
    let (_coordinator, mut peer) = agent.linked().await;
    peer.ask(1, output(false, 0)).await;
    until("a look", || agent.count(|metrics| &metrics.queries_open) == 1).await;
    let stored = kept("late", 0, "");
    agent.history.outputs.lock().unwrap().insert((going.id, attempt), stored);
    assert_eq!(peer.chunks().await, [chunk(0, 0, "late")]);
}

#[tokio::test]
async fn output_whose_run_has_ended_and_is_not_written_yet_is_waited_for() {
    let agent = Agent::start();
    let (wrote, silent) = (run("default/a", 1_000, RunState::Succeeded), "default/b@1000-7");
    let attempt = wrote.attempts[0].attempt;
    agent.open([wrote.clone(), run("default/b", 1_000, RunState::Succeeded)]);
    let (_coordinator, mut peer) = agent.linked().await;
    peer.ask(1, output(false, 0)).await;
    until("a look", || agent.count(|metrics| &metrics.queries_open) == 1).await;
    // The batch is written: row and output at once.
    let stored = kept("late", 0, "");
    agent.history.outputs.lock().unwrap().insert((wrote.id.clone(), attempt), stored);
    let written = agent.told.lock().unwrap().open.clone();
    agent.keep(written);
    agent.told.lock().unwrap().open.clear();
    assert_eq!(peer.chunks().await, [chunk(0, 0, "late")]);
    let nothing = v1::OutputQuery { run_id: silent.to_owned(), ..v1::OutputQuery::default() };
    peer.ask(2, Kind::Output(nothing)).await;
    assert!(peer.chunks().await.is_empty());
}

/// A program that says `one`, waits for a file, and says `two`.
struct Saying {
    live: Arc<LiveRuns>,
    run: RunRecord,
    ends: mpsc::Receiver<End>,
    dir: tempfile::TempDir,
}

impl Saying {
    fn start() -> Saying {
        let (finished, ends) = mpsc::channel(8);
        let executors = Arc::new(Executors::new(ExecConfig::default(), finished));
        let live = Arc::new(LiveRuns::new(Arc::clone(&executors)));
        let dir = tempfile::tempdir().unwrap();
        let gate = dir.path().join("gate");
        let script =
            format!("echo one; while [ ! -e '{}' ]; do sleep 0.01; done; echo two", gate.display());
        let command = Command {
            program: Program::Shell(script),
            env: BTreeMap::new(),
            cwd: None,
            user: None,
            stdin: None,
            success_codes: vec![0],
        };
        let run = run("default/a", 1_000, RunState::Running);
        let attempt = run.attempts[0].attempt;
        live.started(&run.id, attempt, Ticket(1));
        executors.start(StartRun {
            ticket: Ticket(1),
            run: run.id.clone(),
            attempt,
            instant: Some(run.instant),
            due: run.due,
            action: Arc::new(Action::Command(command)),
            payload: None,
            timeout: None,
            until: Mono::from_micros(u64::MAX),
        });
        Saying { live, run, ends, dir }
    }

    fn let_go(&self) {
        std::fs::write(self.dir.path().join("gate"), "").unwrap();
    }

    async fn end(&mut self) {
        let (ticket, _) = patiently("the end", self.ends.recv()).await.unwrap();
        self.live.ended(&self.run.id, ticket);
    }
}

#[tokio::test]
async fn output_is_followed_until_the_attempt_ends() {
    let mut program = Saying::start();
    let agent = Agent::with(program.live.clone());
    agent.open([program.run.clone()]);
    let (_coordinator, mut peer) = agent.linked().await;
    peer.ask(1, output(true, 0)).await;
    let first = peer.chunk().await.unwrap();
    assert_eq!((first.offset, first.data.as_slice()), (0, b"one\n".as_slice()));
    peer.ask(2, output(false, 1)).await;
    assert_eq!(peer.chunks().await, [chunk(1, 0, "ne\n")]);
    program.let_go();
    assert_eq!(peer.chunks().await, [chunk(4, 0, "two\n")]);
    program.end().await;
    assert!(program.live.tail(&program.run.id, 0, Stream::Stdout).is_none());
}

#[tokio::test]
async fn who_follows_before_the_start_sees_it_and_who_stops_hears_no_more() {
    let going = run("default/a", 1_000, RunState::Queued);
    let mut program = Saying::start();
    let attempt = program.run.attempts[0].attempt;
    program.live.ended(&program.run.id, Ticket(1));
    let agent = Agent::with(program.live.clone());
    agent.open([going]);
    let (_coordinator, mut peer) = agent.linked().await;
    peer.ask(1, output(true, 0)).await;
    until("a look", || agent.count(|metrics| &metrics.queries_open) == 1).await;
    program.live.started(&program.run.id, attempt, Ticket(1));
    assert_eq!(peer.chunk().await.unwrap().data, b"one\n");
    peer.say(Down::StopQuery(v1::StopQuery { query_id: 1 })).await;
    until("its end", || agent.count(|metrics| &metrics.queries_open) == 0).await;
    program.let_go();
    program.end().await;
    peer.ask(2, output(false, 0)).await;
    assert_eq!(peer.answer().await.query_id, 2, "nothing more is said of the first");
}
