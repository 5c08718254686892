use std::collections::BTreeMap;

use prost::Message;
use tocktower_coordinator::grpc::PROBLEM_METADATA;
use tocktower_core::run::{RunRecord, RunState};
use tocktower_proto::v1;
use tocktower_proto::v1::fleet_service_client::FleetServiceClient;
use tocktower_proto::v1::run_service_client::RunServiceClient;
use tocktower_proto::v1::task_service_client::TaskServiceClient;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::agent::{Agent, channel, run, run_id};
use crate::harness::{api, at, until};

fn hourly(name: &str) -> v1::Task {
    let interval = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    let every = v1::Every { interval, phase: None };
    v1::Task {
        name: name.to_owned(),
        schedules: vec![v1::Schedule { kind: Some(v1::schedule::Kind::Every(every)) }],
        action: Some(v1::Action { kind: Some(v1::action::Kind::Noop(v1::Noop {})) }),
        ..v1::Task::default()
    }
}

#[track_caller]
fn problem(status: Status, code: Code) -> v1::Error {
    assert_eq!(status.code(), code, "{status:?}");
    let value = status.metadata().get_bin(PROBLEM_METADATA).expect("a problem");
    v1::Error::decode(value.to_bytes().unwrap()).unwrap()
}

#[tokio::test]
async fn tasks_live_over_grpc_as_they_do_over_rest() {
    let api = api().await;
    let mut tasks = TaskServiceClient::new(channel(&api).await);
    let create = v1::CreateTaskRequest { task: Some(hourly("a")), ..Default::default() };
    let created = tasks.create_task(create.clone()).await.unwrap().into_inner();
    let task = created.task.unwrap();
    assert_eq!((task.namespace.as_str(), task.state()), ("default", v1::TaskState::Active));
    assert_eq!(created.warnings[0].code, "unknown_pool");
    let refused = problem(tasks.create_task(create).await.unwrap_err(), Code::AlreadyExists);
    assert_eq!(refused.code, "already_exists");

    let name = || ("default".to_owned(), "a".to_owned());
    let get = |(namespace, name)| v1::GetTaskRequest { namespace, name };
    let read = tasks.get_task(get(name())).await.unwrap().into_inner();
    assert_eq!(read.task.unwrap().revision, task.revision);

    let update = v1::UpdateTaskRequest {
        task: Some(v1::Task {
            name: "a".to_owned(),
            priority: 4,
            labels: BTreeMap::from([("team".to_owned(), "db".to_owned())]),
            ..v1::Task::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["priority".to_owned()] }),
        if_revision: Some(task.revision),
    };
    let updated = tasks.update_task(update.clone()).await.unwrap().into_inner().task.unwrap();
    assert_eq!((updated.priority, updated.labels.len()), (4, 0));
    let refused = problem(tasks.update_task(update).await.unwrap_err(), Code::FailedPrecondition);
    assert_eq!(refused.code, "revision_conflict");

    let (namespace, task_name) = name();
    let pause = v1::PauseTaskRequest { namespace, name: task_name, if_revision: None };
    let paused = tasks.pause_task(pause).await.unwrap().into_inner().task.unwrap();
    assert_eq!(paused.state(), v1::TaskState::Paused);
    let list = v1::ListTasksRequest {
        states: vec![v1::TaskState::Paused.into()],
        ..v1::ListTasksRequest::default()
    };
    assert_eq!(tasks.list_tasks(list).await.unwrap().into_inner().tasks.len(), 1);

    let mut batch = vec![hourly("b"), hourly("a")];
    batch[0].priority = 9;
    let request = v1::BatchCreateRequest { tasks: batch, idempotency_key: "k".to_owned() };
    let results = tasks.batch_create(request).await.unwrap().into_inner().results;
    assert!(matches!(results[0].result, Some(v1::batch_result::Result::Revision(_))));
    assert!(matches!(&results[1].result,
        Some(v1::batch_result::Result::Error(error)) if error.code == "already_exists"));

    let (namespace, task_name) = name();
    let delete = v1::DeleteTaskRequest { namespace, name: task_name, if_revision: None };
    tasks.delete_task(delete).await.unwrap();
    let refused = problem(tasks.get_task(get(name())).await.unwrap_err(), Code::NotFound);
    assert_eq!(refused.code, "not_found");
    api.get(&at("a")).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_wrong_task_is_told_all_its_mistakes() {
    let api = api().await;
    let mut tasks = TaskServiceClient::new(channel(&api).await);
    let wrong = v1::Task { schedules: Vec::new(), name: "BAD".to_owned(), ..hourly("x") };
    let create = v1::CreateTaskRequest { task: Some(wrong), ..Default::default() };
    let refused = problem(tasks.create_task(create).await.unwrap_err(), Code::InvalidArgument);
    let paths: Vec<&str> = refused.errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!((refused.code.as_str(), paths), ("invalid_task", vec!["name", "schedules"]));
}

#[tokio::test]
async fn a_message_is_refused_before_it_becomes_larger_than_it_came() {
    let api = api().await;
    let mut tasks = TaskServiceClient::new(channel(&api).await);
    let request = v1::BatchCreateRequest {
        tasks: vec![v1::Task::default(); 200_000],
        idempotency_key: String::new(),
    };
    let refused = tasks.batch_create(request).await.unwrap_err();
    let refused = problem(refused, Code::ResourceExhausted);
    assert!(refused.detail.contains("200000 tasks in one batch"), "{refused:?}");
    let task = v1::Task { schedules: vec![v1::Schedule::default(); 200_000], ..hourly("a") };
    let request = v1::CreateTaskRequest { task: Some(task), ..Default::default() };
    let refused = tasks.create_task(request).await.unwrap_err();
    let refused = problem(refused, Code::InvalidArgument);
    assert!(refused.errors[0].message.contains("at any depth"), "{refused:?}");
    let full = v1::BatchCreateRequest {
        tasks: (0..10_000).map(|n| hourly(&format!("t{n}"))).collect(),
        idempotency_key: String::new(),
    };
    assert_eq!(tasks.batch_create(full).await.unwrap().into_inner().results.len(), 10_000);
}

#[tokio::test]
async fn a_thousand_mistakes_leave_the_stream_whole() {
    let api = api().await;
    let mut tasks = TaskServiceClient::new(channel(&api).await);
    let labels = (0..1_000).map(|n| (format!("wrong label {n}"), String::new()));
    let wrong = v1::Task { labels: labels.collect(), ..hourly("a") };
    let create = v1::CreateTaskRequest { task: Some(wrong), ..Default::default() };
    let refused = problem(tasks.create_task(create).await.unwrap_err(), Code::InvalidArgument);
    let last = refused.errors.last().unwrap();
    assert!(last.path.is_empty() && last.message.starts_with("and "), "{last:?}");
    let create = v1::CreateTaskRequest { task: Some(hourly("a")), ..Default::default() };
    tasks.create_task(create).await.unwrap();
}

#[tokio::test]
async fn previews_and_upcoming_instants() {
    let api = api().await;
    let mut tasks = TaskServiceClient::new(channel(&api).await);
    let request = v1::PreviewScheduleRequest {
        schedules: hourly("a").schedules,
        after: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        count: 2,
        ..Default::default()
    };
    let preview = tasks.preview_schedule(request).await.unwrap().into_inner();
    let locals: Vec<&str> = preview.instants.iter().map(|one| one.local.as_str()).collect();
    assert_eq!(locals, ["1970-01-01T01:00:00Z", "1970-01-01T02:00:00Z"]);
}

#[tokio::test]
async fn runs_and_agents_over_grpc() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    let running = run("default/a", 1_000, 10, "web-1", RunState::Running);
    agent.knows(running.clone());
    agent.writes("some output");
    let mut runs = RunServiceClient::new(channel(&api).await);
    let listed = runs.list_runs(v1::ListRunsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.runs[0].run_id, run_id(&running));
    let request = v1::GetOutputRequest { run_id: run_id(&running), ..Default::default() };
    let mut output = runs.get_output(request).await.unwrap().into_inner();
    assert_eq!(output.message().await.unwrap().unwrap().data, b"some output");
    assert!(output.message().await.unwrap().is_none());
    let request = v1::CancelRunRequest { run_id: run_id(&running) };
    runs.cancel_run(request).await.unwrap();
    assert_eq!(agent.cancelled().len(), 1);

    let mut fleet = FleetServiceClient::new(channel(&api).await);
    let agents = fleet.list_agents(v1::ListAgentsRequest::default()).await.unwrap().into_inner();
    assert!(agents.agents[0].connected);
}

#[tokio::test]
async fn runs_are_watched() {
    use v1::watch_runs_response::Message;
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    agent.knows(run("default/a", 1_000, 10, "web-1", RunState::Running));
    let mut runs = RunServiceClient::new(channel(&api).await);
    let request = v1::WatchRunsRequest { namespace: "default".to_owned(), ..Default::default() };
    let mut stream = runs.watch_runs(request).await.unwrap().into_inner();
    let mut seen = 0;
    loop {
        let message = stream.message().await.unwrap().unwrap().message.unwrap();
        let Message::Snapshot(page) = message else { panic!("{message:?}") };
        seen += page.runs.len();
        if page.last {
            break;
        }
    }
    assert_eq!(seen, 1);
    for (seq, provisional) in [(1, true), (2, false)] {
        let ended = run("default/a", 1_000, 10, "web-1", RunState::Succeeded);
        agent.reports(&[RunRecord { provisional, ..ended }]).await;
        let message = stream.message().await.unwrap().unwrap().message.unwrap();
        let Message::Event(change) = message else { panic!("{message:?}") };
        let run = change.run.unwrap();
        assert_eq!((change.seq, run.state()), (seq, v1::RunState::Succeeded));
        assert_eq!(run.provisional, provisional);
    }
}

#[tokio::test]
async fn a_snapshot_that_lacks_an_agents_runs_names_it() {
    use v1::watch_runs_response::Message;
    let api = api().await;
    let (good, silent) = (Agent::dial(&api, "good").await, Agent::dial(&api, "silent").await);
    good.knows(run("default/a", 1_000, 10, "good", RunState::Running));
    silent.falls_silent();
    let mut runs = RunServiceClient::new(channel(&api).await);
    let stream = runs.watch_runs(v1::WatchRunsRequest::default()).await;
    let mut stream = stream.unwrap().into_inner();
    let last = loop {
        let message = stream.message().await.unwrap().unwrap().message.unwrap();
        let Message::Snapshot(page) = message else { panic!("{message:?}") };
        if page.last {
            break page;
        }
    };
    assert_eq!((last.silent_agents, last.cut), (vec!["silent".to_owned()], false));
}

#[tokio::test]
async fn reflection_and_health_answer() {
    let api = api().await;
    let mut reflection = ServerReflectionClient::new(channel(&api).await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let stream = tokio_stream::iter([request]);
    let mut answers = reflection.server_reflection_info(stream).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(services) = answer else { panic!("{answer:?}") };
    let names: Vec<&str> = services.service.iter().map(|one| one.name.as_str()).collect();
    for name in ["TaskService", "RunService", "FleetService", "AgentLink"] {
        assert!(names.contains(&format!("tocktower.v1.{name}").as_str()), "{names:?}");
    }
    let mut health = HealthClient::new(channel(&api).await);
    until("it serves", async || {
        let answer = health.clone().check(HealthCheckRequest::default()).await.ok()?.into_inner();
        (answer.status() == ServingStatus::Serving).then_some(())
    })
    .await;
    let unknown = HealthCheckRequest { service: "nothing".to_owned() };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), Code::NotFound);
}
