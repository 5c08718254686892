//! A server in the test's process that keeps tasks in memory, and a way to run `tock` against it.
//!
//! It answers as the real one does where the commands look: names that are taken, revisions that
//! moved on, tasks that are not there. Everything else is `unimplemented`. The command runs without
//! the host's environment, so that nobody's configuration changes what a test sees.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may say so by a panic")]
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tocktower_client::time::timestamp;
use tocktower_client::{Task, proto as v1};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};
use v1::task_service_server::{TaskService, TaskServiceServer};

/// The crontabs that all tests share.
pub fn crontabs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/crontabs")
}

/// Runs `tock` without any configuration of the host.
pub fn tock(args: &[&str]) -> Output {
    tock_with(args, &[])
}

pub fn tock_with(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tock"));
    command.args(args).env_clear().env("TZ", "Europe/Berlin").env("HOME", "/home/me");
    command.env("TOCK_CONFIG", "/dev/null");
    command.envs(env.iter().copied()).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[derive(Default)]
pub struct State {
    pub tasks: BTreeMap<(String, String), v1::Task>,
    /// One-shots that have left: name to instant.
    finished: BTreeMap<String, SystemTime>,
    /// The shared state cannot be reached.
    pub stale: bool,
    revision: i64,
}

impl State {
    fn write(&mut self, mut task: v1::Task) -> v1::Task {
        if task.namespace.is_empty() {
            task.namespace = "default".to_owned();
        }
        self.revision += 1;
        task.revision = self.revision;
        task.set_state(v1::TaskState::Active);
        self.tasks.insert(key(&task.namespace, &task.name), task.clone());
        task
    }
}

fn key(namespace: &str, name: &str) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}

#[derive(Clone, Default)]
pub struct Server(pub Arc<Mutex<State>>);

impl Server {
    /// Serves on a thread of its own until the process ends, and gives the address.
    pub fn start() -> (Server, String) {
        let server = Server::default();
        let (sender, receiver) = std::sync::mpsc::channel();
        let service = TaskServiceServer::new(server.clone());
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(format!("http://{}", listener.local_addr().unwrap())).unwrap();
                let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
                let server = tonic::transport::Server::builder().add_service(service);
                server.serve_with_incoming(incoming).await.unwrap();
            });
        });
        (server, receiver.recv().unwrap())
    }

    /// A one-shot of the default namespace that ran at `at` and left.
    pub fn finished(&self, name: &str, at: SystemTime) {
        self.0.lock().unwrap().finished.insert(name.to_owned(), at);
    }

    pub fn names(&self) -> Vec<String> {
        let state = self.0.lock().unwrap();
        state.tasks.keys().map(|(namespace, name)| format!("{namespace}/{name}")).collect()
    }
}

/// All that the server knows of a one-shot that has left.
fn history(name: &str, at: SystemTime) -> v1::Task {
    let mut run = v1::Run {
        run_id: format!("default/{name}@0-0"),
        namespace: "default".to_owned(),
        task: name.to_owned(),
        instant: Some(timestamp(at)),
        due: Some(timestamp(at)),
        ..v1::Run::default()
    };
    run.set_state(v1::RunState::Succeeded);
    let mut task = v1::Task { last_run: Some(run), ..Task::new("default", name).into_proto() };
    task.set_state(v1::TaskState::Finished);
    task
}

type Answer<T> = Result<Response<T>, Status>;

fn missing() -> Status {
    Status::not_found("there is no such task")
}

#[tonic::async_trait]
impl TaskService for Server {
    async fn create_task(
        &self,
        request: Request<v1::CreateTaskRequest>,
    ) -> Answer<v1::CreateTaskResponse> {
        let task = request.into_inner().task.unwrap();
        let mut state = self.0.lock().unwrap();
        if state.tasks.contains_key(&key(&task.namespace, &task.name)) {
            return Err(Status::already_exists(format!("{} exists", task.name)));
        }
        let task = Some(state.write(task));
        Ok(Response::new(v1::CreateTaskResponse { task, warnings: vec![] }))
    }

    async fn put_task(&self, request: Request<v1::PutTaskRequest>) -> Answer<v1::PutTaskResponse> {
        let v1::PutTaskRequest { task, if_revision } = request.into_inner();
        let task = task.unwrap();
        let mut state = self.0.lock().unwrap();
        let present = state.tasks.get(&key(&task.namespace, &task.name)).map(|t| t.revision);
        if if_revision.is_some() && if_revision != present {
            return Err(Status::failed_precondition("it has another revision by now"));
        }
        let task = Some(state.write(task));
        let created = present.is_none();
        Ok(Response::new(v1::PutTaskResponse { task, created, moved: false, warnings: vec![] }))
    }

    async fn batch_create(
        &self,
        request: Request<v1::BatchCreateRequest>,
    ) -> Answer<v1::BatchCreateResponse> {
        let mut state = self.0.lock().unwrap();
        let results = request.into_inner().tasks.into_iter().map(|task| {
            let (namespace, name) = (task.namespace.clone(), task.name.clone());
            let revision = state.write(task).revision;
            let result = Some(v1::batch_result::Result::Revision(revision));
            v1::BatchResult { namespace, name, result, warnings: vec![] }
        });
        let results = results.collect();
        Ok(Response::new(v1::BatchCreateResponse { results }))
    }

    async fn get_task(&self, request: Request<v1::GetTaskRequest>) -> Answer<v1::GetTaskResponse> {
        let v1::GetTaskRequest { namespace, name } = request.into_inner();
        let state = self.0.lock().unwrap();
        let history = || state.finished.get(&name).map(|at| history(&name, *at));
        let task = state.tasks.get(&key(&namespace, &name)).cloned().or_else(history);
        let task = task.ok_or_else(missing)?;
        Ok(Response::new(v1::GetTaskResponse { task: Some(task), stale: state.stale }))
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Answer<v1::ListTasksResponse> {
        let v1::ListTasksRequest { namespace, labels, .. } = request.into_inner();
        let state = self.0.lock().unwrap();
        let matches = |task: &&v1::Task| {
            (namespace == "-" || task.namespace == namespace)
                && labels.iter().all(|(name, value)| task.labels.get(name) == Some(value))
        };
        let tasks = state.tasks.values().filter(matches).cloned().collect();
        let (next_cursor, stale) = (String::new(), state.stale);
        Ok(Response::new(v1::ListTasksResponse { tasks, next_cursor, stale }))
    }

    async fn delete_task(
        &self,
        request: Request<v1::DeleteTaskRequest>,
    ) -> Answer<v1::DeleteTaskResponse> {
        let v1::DeleteTaskRequest { namespace, name, .. } = request.into_inner();
        let mut state = self.0.lock().unwrap();
        state.tasks.remove(&key(&namespace, &name)).ok_or_else(missing)?;
        Ok(Response::new(v1::DeleteTaskResponse {}))
    }

    async fn pause_task(
        &self,
        request: Request<v1::PauseTaskRequest>,
    ) -> Answer<v1::PauseTaskResponse> {
        let v1::PauseTaskRequest { namespace, name, .. } = request.into_inner();
        let mut state = self.0.lock().unwrap();
        let task = state.tasks.get_mut(&key(&namespace, &name)).ok_or_else(missing)?;
        task.paused = true;
        task.set_state(v1::TaskState::Paused);
        Ok(Response::new(v1::PauseTaskResponse { task: Some(task.clone()) }))
    }

    async fn update_task(
        &self,
        _: Request<v1::UpdateTaskRequest>,
    ) -> Answer<v1::UpdateTaskResponse> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn resume_task(
        &self,
        _: Request<v1::ResumeTaskRequest>,
    ) -> Answer<v1::ResumeTaskResponse> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn trigger_task(
        &self,
        _: Request<v1::TriggerTaskRequest>,
    ) -> Answer<v1::TriggerTaskResponse> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn upcoming(&self, _: Request<v1::UpcomingRequest>) -> Answer<v1::UpcomingResponse> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn why(&self, _: Request<v1::WhyRequest>) -> Answer<v1::WhyResponse> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn preview_schedule(
        &self,
        _: Request<v1::PreviewScheduleRequest>,
    ) -> Answer<v1::PreviewScheduleResponse> {
        Err(Status::unimplemented("not in this test"))
    }
}
