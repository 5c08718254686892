//! The SDK against a server in this process that fails as it is told to.
//!
//! Each test is one story: what the server does to the first attempts, and what the caller sees.
//! The fake keeps what a real server must keep to make repeats safe (tasks by name, each with the
//! key that made it), so that "sent twice, made once" is a fact and not an assumption.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may say so by a panic")]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use tocktower_client::proto as v1;
use tocktower_client::{
    Client, ClientConfig, Delivery, Error, OutputQuery, Schedule, Task, TaskFilter, WatchEvent,
    WatchFilter,
};
use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status};
use v1::run_service_server::{RunService, RunServiceServer};
use v1::task_service_server::{TaskService, TaskServiceServer};

/// What happens to the next call of a change.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// It is not carried out, and the answer says so.
    Busy,
    /// It is carried out, and the answer is lost.
    AnswerLost,
}

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    /// Name to (key that made it, revision).
    tasks: BTreeMap<String, (String, i64)>,
    /// What the store does to the next items of a batch of that name, the last one first: with
    /// `outcome_unknown` it makes the task all the same.
    items: BTreeMap<&'static str, Vec<&'static str>>,
    /// Each item of a batch that anything could be made of, as it came.
    items_seen: Vec<String>,
    keys_seen: Vec<String>,
    calls: usize,
    authorization: Option<String>,
    watches: usize,
    outputs: Vec<u64>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<State>>);

impl Fake {
    fn with(faults: &[Fault]) -> Fake {
        let fake = Fake::default();
        fake.0.lock().unwrap().faults = faults.iter().rev().copied().collect();
        fake
    }

    /// Serves on a free port of the loopback and gives its address.
    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder()
            .add_service(TaskServiceServer::new(self.clone()))
            .add_service(RunServiceServer::new(self.clone()))
            .serve_with_incoming(incoming);
        tokio::spawn(server);
        address
    }

    async fn client(&self) -> Client {
        client(&[&self.serve().await])
    }

    /// Carries out a change under the next fault.
    fn change<T>(
        &self,
        carry_out: impl FnOnce(&mut State) -> Result<T, Status>,
    ) -> Result<Response<T>, Status> {
        let mut state = self.0.lock().unwrap();
        state.calls += 1;
        match state.faults.pop() {
            Some(Fault::Busy) => Err(Status::unavailable("no majority")),
            Some(Fault::AnswerLost) => {
                let _ = carry_out(&mut state);
                Err(Status::deadline_exceeded("too late"))
            }
            None => carry_out(&mut state).map(Response::new),
        }
    }
}

fn client(servers: &[&str]) -> Client {
    let config = ClientConfig {
        servers: servers.iter().map(|&s| s.to_owned()).collect(),
        token: Some("secret".to_owned()),
        timeout: Duration::from_secs(5),
        patience: Duration::from_secs(5),
    };
    Client::connect(config).unwrap()
}

/// An address at which nobody listens.
async fn dead_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn noop(name: &str) -> Task {
    Task::new("default", name).every(Duration::from_secs(60)).noop()
}

type Answer<T> = Result<Response<T>, Status>;
type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl TaskService for Fake {
    async fn create_task(
        &self,
        request: Request<v1::CreateTaskRequest>,
    ) -> Answer<v1::CreateTaskResponse> {
        let authorization = request.metadata().get("authorization").cloned();
        let v1::CreateTaskRequest { task, idempotency_key } = request.into_inner();
        let mut task = task.unwrap();
        self.change(|state| {
            state.authorization = authorization.map(|a| a.to_str().unwrap().to_owned());
            state.keys_seen.push(idempotency_key.clone());
            let revision = state.tasks.len() as i64 + 1;
            let (key, revision) =
                state.tasks.entry(task.name.clone()).or_insert((idempotency_key.clone(), revision));
            if *key != idempotency_key {
                return Err(Status::already_exists("there is a task of that name"));
            }
            task.revision = *revision;
            Ok(v1::CreateTaskResponse { task: Some(task), warnings: vec![] })
        })
    }

    async fn put_task(&self, request: Request<v1::PutTaskRequest>) -> Answer<v1::PutTaskResponse> {
        let v1::PutTaskRequest { task, if_revision } = request.into_inner();
        let mut task = task.unwrap();
        self.change(|state| {
            let known = state.tasks.get(&task.name).map_or(0, |(_, revision)| *revision);
            if if_revision.is_some_and(|wanted| wanted != known) {
                return Err(Status::failed_precondition("it has another revision"));
            }
            task.revision = known + 1;
            state.tasks.insert(task.name.clone(), (String::new(), task.revision));
            let created = known == 0;
            Ok(v1::PutTaskResponse { task: Some(task), created, moved: false, warnings: vec![] })
        })
    }

    async fn batch_create(
        &self,
        request: Request<v1::BatchCreateRequest>,
    ) -> Answer<v1::BatchCreateResponse> {
        let v1::BatchCreateRequest { tasks, idempotency_key } = request.into_inner();
        self.change(|state| {
            let results = tasks.into_iter().enumerate().map(|(index, task)| {
                let result = batch_item(state, &task, format!("{idempotency_key}/{index}"));
                let (namespace, name, result) = (task.namespace, task.name, Some(result));
                v1::BatchResult { namespace, name, result, warnings: vec![] }
            });
            Ok(v1::BatchCreateResponse { results: results.collect() })
        })
    }

    async fn get_task(&self, request: Request<v1::GetTaskRequest>) -> Answer<v1::GetTaskResponse> {
        let name = request.into_inner().name;
        self.change(|state| match state.tasks.get(&name) {
            Some((_, revision)) => {
                let task = v1::Task { name, revision: *revision, ..v1::Task::default() };
                Ok(v1::GetTaskResponse { task: Some(task), stale: false })
            }
            None => Err(Status::not_found("there is no such task")),
        })
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Answer<v1::ListTasksResponse> {
        let cursor: usize = request.into_inner().cursor.parse().unwrap_or(0);
        self.change(|state| {
            let mut names = state.tasks.keys().skip(cursor);
            let tasks = names
                .by_ref()
                .take(2)
                .map(|name| v1::Task { name: name.clone(), ..v1::Task::default() });
            let tasks: Vec<v1::Task> = tasks.collect();
            let next_cursor = match names.next() {
                Some(_) => (cursor + 2).to_string(),
                None => String::new(),
            };
            Ok(v1::ListTasksResponse { tasks, next_cursor, stale: false })
        })
    }

    async fn delete_task(
        &self,
        request: Request<v1::DeleteTaskRequest>,
    ) -> Answer<v1::DeleteTaskResponse> {
        let name = request.into_inner().name;
        self.change(|state| match state.tasks.remove(&name) {
            Some(_) => Ok(v1::DeleteTaskResponse {}),
            None => Err(Status::not_found("there is no such task")),
        })
    }

    async fn update_task(
        &self,
        _: Request<v1::UpdateTaskRequest>,
    ) -> Answer<v1::UpdateTaskResponse> {
        Err(Status::unimplemented(""))
    }

    async fn pause_task(&self, _: Request<v1::PauseTaskRequest>) -> Answer<v1::PauseTaskResponse> {
        Err(Status::unimplemented(""))
    }

    async fn resume_task(
        &self,
        _: Request<v1::ResumeTaskRequest>,
    ) -> Answer<v1::ResumeTaskResponse> {
        Err(Status::unimplemented(""))
    }

    async fn trigger_task(
        &self,
        _: Request<v1::TriggerTaskRequest>,
    ) -> Answer<v1::TriggerTaskResponse> {
        Err(Status::unimplemented(""))
    }

    async fn upcoming(&self, _: Request<v1::UpcomingRequest>) -> Answer<v1::UpcomingResponse> {
        Err(Status::unimplemented(""))
    }

    async fn why(&self, _: Request<v1::WhyRequest>) -> Answer<v1::WhyResponse> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn preview_schedule(
        &self,
        _: Request<v1::PreviewScheduleRequest>,
    ) -> Answer<v1::PreviewScheduleResponse> {
        Err(Status::unimplemented(""))
    }
}

fn batch_item(state: &mut State, task: &v1::Task, key: String) -> v1::batch_result::Result {
    use v1::batch_result::Result::{Error, Revision};
    let refused = |code: &str| Error(v1::Error { code: code.to_owned(), ..Default::default() });
    if task.schedules.is_empty() {
        return refused("invalid_task");
    }
    state.items_seen.push(task.name.clone());
    let fault = state.items.get_mut(task.name.as_str()).and_then(Vec::pop);
    if fault.is_some_and(|fault| fault != "outcome_unknown") {
        return refused(fault.unwrap_or_default());
    }
    let (made_by, revision) = state.tasks.entry(task.name.clone()).or_insert((key.clone(), 1));
    match fault {
        Some(fault) => refused(fault),
        None if *made_by == key => Revision(*revision),
        None => refused("already_exists"),
    }
}

const OUTPUT: &[u8] = b"one two three";

fn run(id: &str) -> v1::Run {
    v1::Run { run_id: id.to_owned(), ..v1::Run::default() }
}

#[tonic::async_trait]
impl RunService for Fake {
    type GetOutputStream = Events<v1::OutputChunk>;
    type WatchRunsStream = Events<v1::WatchRunsResponse>;

    /// Breaks off after four bytes, the first two times.
    async fn get_output(
        &self,
        request: Request<v1::GetOutputRequest>,
    ) -> Answer<Self::GetOutputStream> {
        let offset = request.into_inner().offset;
        let mut state = self.0.lock().unwrap();
        state.outputs.push(offset);
        let broken = state.outputs.len() <= 2;
        let rest = &OUTPUT[usize::try_from(offset).unwrap()..];
        let data = if broken { &rest[..4] } else { rest };
        let chunk = v1::OutputChunk { offset, data: data.to_vec(), ..v1::OutputChunk::default() };
        let mut items = vec![Ok(chunk)];
        if broken {
            items.push(Err(Status::unavailable("going down")));
        }
        Ok(Response::new(futures::stream::iter(items).boxed()))
    }

    /// A snapshot in two pages and a change, then the stream ends; the first one breaks off in the
    /// middle of its snapshot.
    async fn watch_runs(&self, _: Request<v1::WatchRunsRequest>) -> Answer<Self::WatchRunsStream> {
        use v1::watch_runs_response::Message;
        let mut state = self.0.lock().unwrap();
        state.watches += 1;
        let page = |id: &str, last| {
            let runs = vec![run(id)];
            Message::Snapshot(v1::RunSnapshot { runs, last, ..v1::RunSnapshot::default() })
        };
        let change = Message::Event(v1::RunChange { seq: 1, run: Some(run("c")) });
        let all = [page("a", false), page("b", true), change];
        let sent = if state.watches == 1 { 1 } else { all.len() };
        let items: Vec<_> = all
            .into_iter()
            .take(sent)
            .map(|message| Ok(v1::WatchRunsResponse { message: Some(message) }))
            .collect();
        Ok(Response::new(futures::stream::iter(items).boxed()))
    }

    async fn list_runs(&self, _: Request<v1::ListRunsRequest>) -> Answer<v1::ListRunsResponse> {
        Err(Status::unimplemented(""))
    }

    async fn get_run(&self, _: Request<v1::GetRunRequest>) -> Answer<v1::GetRunResponse> {
        Err(Status::unimplemented(""))
    }

    async fn cancel_run(&self, _: Request<v1::CancelRunRequest>) -> Answer<v1::CancelRunResponse> {
        Err(Status::unimplemented(""))
    }
}

#[tokio::test]
async fn a_create_whose_answers_are_lost_is_sent_again_with_the_same_key_and_makes_one_task() {
    let fake = Fake::with(&[Fault::Busy, Fault::AnswerLost, Fault::AnswerLost]);
    let written = fake.client().await.create(noop("a")).await.unwrap();
    assert_eq!(written.task.revision(), 1);

    let state = fake.0.lock().unwrap();
    assert_eq!((state.calls, state.tasks.len()), (4, 1));
    assert_eq!(state.keys_seen.len(), 3);
    assert!(state.keys_seen.iter().all(|key| key == &state.keys_seen[0] && key.len() == 26));
    assert_eq!(state.authorization.as_deref(), Some("Bearer secret"));
}

#[tokio::test]
async fn a_create_without_a_name_makes_one_task_too() {
    let fake = Fake::with(&[Fault::AnswerLost]);
    let task = Task::unnamed("default").every(Duration::from_secs(60)).noop();
    let written = fake.client().await.create(task).await.unwrap();
    let state = fake.0.lock().unwrap();
    assert_eq!(state.tasks.keys().collect::<Vec<_>>(), [written.task.name()]);
}

#[tokio::test]
async fn two_creates_have_two_keys_and_the_second_of_a_name_is_refused() {
    let client = Fake::default().client().await;
    client.create(noop("a")).await.unwrap();
    let error = client.create(noop("a")).await.unwrap_err();
    assert_eq!(error.code(), Some("already_exists"));
    assert!(!error.retryable());
}

#[tokio::test]
async fn a_batch_that_fails_as_a_whole_or_loses_its_answer_makes_each_task_once() {
    let fake = Fake::with(&[Fault::Busy, Fault::AnswerLost]);
    let items = fake.client().await.batch(vec![noop("a"), noop("b")]).await.unwrap();
    assert!(items.iter().all(|item| item.result.is_ok()), "{items:?}");
    assert_eq!(fake.0.lock().unwrap().tasks.len(), 2);
}

#[tokio::test]
async fn items_that_the_store_failed_are_sent_again_under_the_same_key_and_index() {
    let fake = Fake::default();
    fake.0.lock().unwrap().items = BTreeMap::from([
        ("b", vec!["store_unavailable", "rate_limited"]),
        ("c", vec!["outcome_unknown"]),
        ("d", vec!["forbidden"]),
    ]);
    let tasks = ["a", "b", "c", "d"].map(noop).to_vec();
    let items = fake.client().await.batch(tasks).await.unwrap();
    let made: Vec<bool> = items.iter().map(|item| item.result.is_ok()).collect();
    assert_eq!(made, [true, true, true, false], "{items:?}");
    assert_eq!(items[3].result.as_ref().unwrap_err().code(), Some("forbidden"));

    let state = fake.0.lock().unwrap();
    assert_eq!(state.items_seen, ["a", "b", "c", "d", "b", "c", "b"]);
    let key = state.tasks["a"].0.strip_suffix("/0").unwrap().to_owned();
    let made_by = ["b", "c"].map(|name| state.tasks[name].0.clone());
    assert_eq!(made_by, [format!("{key}/1"), format!("{key}/2")]);
}

#[tokio::test]
async fn items_that_the_store_fails_for_longer_than_patience_say_so_and_the_others_are_made() {
    let fake = Fake::default();
    fake.0.lock().unwrap().items = BTreeMap::from([
        ("b", vec!["store_unavailable"; 100]),
        ("c", vec!["outcome_unknown"; 100]),
    ]);
    let config = ClientConfig {
        servers: vec![fake.serve().await],
        patience: Duration::from_millis(300),
        ..ClientConfig::default()
    };
    let client = Client::connect(config).unwrap();
    let items = client.batch(["a", "b", "c"].map(noop).to_vec()).await.unwrap();
    assert_eq!(items[0].result.as_ref().ok(), Some(&1));
    let error = items[1].result.as_ref().unwrap_err();
    assert!(error.retryable() && error.code() == Some("store_unavailable"), "{error:?}");
    let error = items[2].result.as_ref().unwrap_err();
    assert!(matches!(error, Error::UnknownOutcome { .. }), "{error:?}");
}

#[tokio::test]
async fn a_delete_that_finds_nothing_after_a_lost_answer_is_done() {
    let fake = Fake::default();
    let client = fake.client().await;
    client.create(noop("a")).await.unwrap();
    fake.0.lock().unwrap().faults = vec![Fault::AnswerLost];
    client.delete("default", "a", None).await.unwrap();
    let error = client.delete("default", "a", None).await.unwrap_err();
    assert!(error.is_not_found());
}

#[tokio::test]
async fn a_put_of_a_one_shot_is_not_sent_again_after_a_lost_answer() {
    let fake = Fake::with(&[Fault::AnswerLost]);
    let at = Schedule::at(std::time::SystemTime::now() + Duration::from_secs(60));
    let task = Task::new("default", "once").schedule(at).noop();
    let error = fake.client().await.put(task, None).await.unwrap_err();
    assert!(matches!(error, Error::UnknownOutcome { .. }), "{error:?}");
    assert_eq!(fake.0.lock().unwrap().calls, 1);
}

#[tokio::test]
async fn a_one_shot_that_may_run_only_once_is_not_created_again_after_a_lost_answer() {
    let at = Schedule::at(std::time::SystemTime::now() + Duration::from_secs(60));
    let once = || Task::new("default", "once").schedule(at.clone()).noop();
    let only_once = || once().delivery(Delivery::AtMostOnce);

    let fake = Fake::with(&[Fault::AnswerLost]);
    let error = fake.client().await.create(only_once()).await.unwrap_err();
    assert!(matches!(error, Error::UnknownOutcome { .. }), "{error:?}");
    assert_eq!(fake.0.lock().unwrap().calls, 1);

    let fake = Fake::with(&[Fault::AnswerLost]);
    let error = fake.client().await.batch(vec![noop("a"), only_once()]).await.unwrap_err();
    assert!(matches!(error, Error::UnknownOutcome { .. }), "{error:?}");
    assert_eq!(fake.0.lock().unwrap().calls, 1);

    // What nobody wrote is sent again; of what somebody may have written, nothing is.
    let fake = Fake::default();
    fake.0.lock().unwrap().items =
        BTreeMap::from([("once", vec!["outcome_unknown"; 9]), ("a", vec!["store_unavailable"])]);
    let items = fake.client().await.batch(vec![noop("a"), only_once()]).await.unwrap();
    assert!(items[0].result.is_ok());
    let error = items[1].result.as_ref().unwrap_err();
    assert!(matches!(error, Error::UnknownOutcome { .. }), "{error:?}");
    assert_eq!(fake.0.lock().unwrap().items_seen, ["a", "once", "a"]);

    let fake = Fake::with(&[Fault::AnswerLost]);
    fake.client().await.create(once()).await.unwrap();
}

#[tokio::test]
async fn a_put_that_meets_its_own_revision_is_no_conflict_but_an_unknown_outcome() {
    let fake = Fake::default();
    let client = fake.client().await;
    let revision = client.put(noop("a"), None).await.unwrap().task.revision();
    fake.0.lock().unwrap().faults = vec![Fault::AnswerLost];
    let error = client.put(noop("a"), Some(revision)).await.unwrap_err();
    assert!(matches!(error, Error::UnknownOutcome { .. }), "{error:?}");

    let error = client.put(noop("a"), Some(revision)).await.unwrap_err();
    assert_eq!(error.code(), Some("revision_conflict"));
}

#[tokio::test]
async fn the_next_server_is_asked_when_the_first_is_down_and_kept_from_then_on() {
    let fake = Fake::default();
    let (dead, alive) = (dead_address().await, fake.serve().await);
    let client = client(&[&dead, &alive]);
    let started = std::time::Instant::now();
    client.create(noop("a")).await.unwrap();
    client.get("default", "a").await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn when_no_server_can_be_reached_the_error_says_so_and_nothing_happened() {
    let config = ClientConfig {
        servers: vec![dead_address().await, dead_address().await],
        patience: Duration::from_millis(300),
        ..ClientConfig::default()
    };
    let client = Client::connect(config.clone()).unwrap();
    let error = client.create(noop("a")).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.retryable() && error.to_string().contains(&config.servers[1]));
}

#[tokio::test]
async fn a_list_is_read_over_all_its_pages_and_over_failures() {
    let fake = Fake::default();
    let client = fake.client().await;
    for name in ["a", "b", "c", "d", "e"] {
        client.create(noop(name)).await.unwrap();
    }
    fake.0.lock().unwrap().faults = vec![Fault::Busy, Fault::AnswerLost];
    let tasks: Vec<Task> = client.list(TaskFilter::default()).try_collect().await.unwrap();
    let names: Vec<&str> = tasks.iter().map(Task::name).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn a_watch_opens_again_and_gives_a_fresh_and_whole_snapshot() {
    let fake = Fake::default();
    let client = fake.client().await;
    let events =
        client.watch(WatchFilter::default()).take(4).try_collect::<Vec<_>>().await.unwrap();
    for pair in events.chunks(2) {
        let [WatchEvent::Snapshot(runs), WatchEvent::Changed { run, .. }] = pair else {
            panic!("{events:?}");
        };
        let ids: Vec<&str> = runs.iter().map(|run| run.run_id.as_str()).collect();
        assert_eq!((ids.as_slice(), run.run_id.as_str()), (["a", "b"].as_slice(), "c"));
    }
    assert_eq!(fake.0.lock().unwrap().watches, 3);
}

#[tokio::test]
async fn an_output_goes_on_after_the_last_byte_that_was_read() {
    let fake = Fake::default();
    let client = fake.client().await;
    let chunks: Vec<v1::OutputChunk> =
        client.output("default/a@1-1", OutputQuery::default()).try_collect().await.unwrap();
    let bytes: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.data).collect();
    assert_eq!(bytes, OUTPUT);
    assert_eq!(fake.0.lock().unwrap().outputs, [0, 4, 8]);
}

#[tokio::test]
async fn a_refusal_has_the_servers_code_also_without_details() {
    let fake = Fake::default();
    let client = fake.client().await;
    let error = client.get_run("x").await.unwrap_err();
    assert_eq!(error.code(), Some("unimplemented"));
    let Error::Refused(refusal) = error else { panic!() };
    assert_eq!(refusal.status, Code::Unimplemented);
}

#[tokio::test]
async fn addresses_that_cannot_work_are_refused_before_anything_is_sent() {
    for wrong in ["https://example.com", "http://", "not an address"] {
        let error = Client::connect(ClientConfig::new(wrong)).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{wrong}: {error:?}");
    }
    assert!(Client::connect(ClientConfig { servers: vec![], ..ClientConfig::default() }).is_err());
    assert!(Client::connect(ClientConfig::new("127.0.0.1:7080")).is_ok());
}
