//! `TaskService`: read the message, call the service, write the answer.
//!
//! A task in protobuf is turned into its JSON form and read by the one converter that knows every
//! rule and every path, so the two transports cannot differ in what they accept. An update is a
//! mask over the whole task, applied to the version that is there when it is written, so that two
//! updates of different fields do not undo each other.

use tocktower_core::ids::TaskName;
use tocktower_core::task::{FieldError, Spec, Task};
use tocktower_proto::convert::TaskState;
use tocktower_proto::convert::{
    Given, Purpose, apply_mask, run_proto, schedule_json_of_proto, task_from_proto, task_proto,
    without_payload,
};
use tocktower_proto::v1;
use tocktower_proto::v1::task_service_server::TaskService;
use tonic::{Request, Response, Status};

use super::status::{bad, invalid_task, problem, refused};
use super::values;
use crate::clock;
use crate::rest::App;
use crate::service::{
    COUNT_DEFAULT, Expected, ListState, Read, Shown, TaskError, TaskFilter, TaskWritten, WAIT_MAX,
    requests,
};

/// Longest `idempotency_key`.
const KEY_BYTES_MAX: usize = 256;

pub struct TaskApi {
    app: App,
}

impl TaskApi {
    pub fn new(app: App) -> TaskApi {
        TaskApi { app }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl TaskService for TaskApi {
    async fn create_task(
        &self,
        request: Request<v1::CreateTaskRequest>,
    ) -> Answer<v1::CreateTaskResponse> {
        let request = request.into_inner();
        let key = key(&request.idempotency_key)?;
        let task = request.task.ok_or_else(|| bad("task", "is missing"))?;
        let spec = new_spec(&task, key, 0).map_err(refused)?;
        let written = self.app.tasks.create(spec, key).await.map_err(refused)?;
        let (task, warnings) = parts(written);
        Ok(Response::new(v1::CreateTaskResponse { task, warnings }))
    }

    async fn put_task(&self, request: Request<v1::PutTaskRequest>) -> Answer<v1::PutTaskResponse> {
        let request = request.into_inner();
        let task = request.task.ok_or_else(|| bad("task", "is missing"))?;
        let name = values::task_name(&task.namespace, &task.name)?;
        let spec = edited_spec(&task, &name).map_err(invalid_task)?;
        let expected = values::revision(request.if_revision);
        let expected = expected.map_or(Expected::Anything, Expected::Revision);
        let written = self.app.tasks.put(spec, expected, None).await.map_err(refused)?;
        let (created, moved) = (written.created, written.moved);
        let (task, warnings) = parts(written);
        Ok(Response::new(v1::PutTaskResponse { task, created, moved, warnings }))
    }

    async fn batch_create(
        &self,
        request: Request<v1::BatchCreateRequest>,
    ) -> Answer<v1::BatchCreateResponse> {
        let request = request.into_inner();
        let key = key(&request.idempotency_key)?;
        let specs = request.tasks.iter().enumerate();
        let specs = specs.map(|(index, task)| (index, new_spec(task, key, index)));
        let results = self.app.tasks.create_all(specs, key).await.map_err(refused)?;
        let results = request.tasks.into_iter().zip(results);
        let results = results.map(|(task, result)| batch_result(task, result)).collect();
        Ok(Response::new(v1::BatchCreateResponse { results }))
    }

    async fn get_task(&self, request: Request<v1::GetTaskRequest>) -> Answer<v1::GetTaskResponse> {
        let request = request.into_inner();
        let name = values::task_name(&request.namespace, &request.name)?;
        let read = self.app.tasks.get(&name).await.map_err(refused)?;
        if let Shown::Unreadable(unreadable) = read.value {
            let (name, error) = (unreadable.name, unreadable.error);
            return Err(refused(TaskError::Unreadable { name, error }));
        }
        let task = Some(values::shown(read.value));
        Ok(Response::new(v1::GetTaskResponse { task, stale: read.stale }))
    }

    async fn update_task(
        &self,
        request: Request<v1::UpdateTaskRequest>,
    ) -> Answer<v1::UpdateTaskResponse> {
        let request = request.into_inner();
        let update = request.task.ok_or_else(|| bad("task", "is missing"))?;
        let name = values::task_name(&update.namespace, &update.name)?;
        let mask = request.update_mask.unwrap_or_default().paths;
        let patch = |current: &Task| {
            let mut task = apply_mask(current, update.clone(), &mask)?;
            task.namespace = name.namespace.to_string();
            task.name = name.name.to_string();
            edited_spec(&task, &name)
        };
        let if_revision = values::revision(request.if_revision);
        let written = self.app.tasks.patch(&name, if_revision, patch).await.map_err(refused)?;
        let moved = written.moved;
        let (task, warnings) = parts(written);
        Ok(Response::new(v1::UpdateTaskResponse { task, moved, warnings }))
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Answer<v1::ListTasksResponse> {
        let request = request.into_inner();
        let full = request.view() == v1::TaskView::Full;
        let filter = TaskFilter {
            namespace: values::any_namespace(&request.namespace)?,
            prefix: request.prefix,
            labels: request.labels,
            states: request.states.iter().map(list_state).collect::<Result<_, _>>()?,
            search: request.search,
        };
        let (limit, cursor) = (values::limit(request.limit)?, values::text(&request.cursor));
        let read = self.app.tasks.list(&filter, limit, cursor).await.map_err(refused)?;
        let task = |item: Shown| match full {
            true => values::shown(item),
            false => without_payload(values::shown(item)),
        };
        Ok(Response::new(v1::ListTasksResponse {
            tasks: read.value.items.into_iter().map(task).collect(),
            next_cursor: read.value.next_cursor.unwrap_or_default(),
            stale: read.stale,
        }))
    }

    async fn delete_task(
        &self,
        request: Request<v1::DeleteTaskRequest>,
    ) -> Answer<v1::DeleteTaskResponse> {
        let request = request.into_inner();
        let name = values::task_name(&request.namespace, &request.name)?;
        let if_revision = values::revision(request.if_revision);
        self.app.tasks.delete(&name, if_revision).await.map_err(refused)?;
        Ok(Response::new(v1::DeleteTaskResponse {}))
    }

    async fn pause_task(
        &self,
        request: Request<v1::PauseTaskRequest>,
    ) -> Answer<v1::PauseTaskResponse> {
        let request = request.into_inner();
        let name = values::task_name(&request.namespace, &request.name)?;
        let if_revision = values::revision(request.if_revision);
        let written = self.app.tasks.pause(&name, if_revision).await.map_err(refused)?;
        Ok(Response::new(v1::PauseTaskResponse { task: parts(written).0 }))
    }

    async fn resume_task(
        &self,
        request: Request<v1::ResumeTaskRequest>,
    ) -> Answer<v1::ResumeTaskResponse> {
        let request = request.into_inner();
        let name = values::task_name(&request.namespace, &request.name)?;
        let if_revision = values::revision(request.if_revision);
        let written = self.app.tasks.resume(&name, if_revision).await.map_err(refused)?;
        Ok(Response::new(v1::ResumeTaskResponse { task: parts(written).0 }))
    }

    async fn trigger_task(
        &self,
        request: Request<v1::TriggerTaskRequest>,
    ) -> Answer<v1::TriggerTaskResponse> {
        let request = request.into_inner();
        let name = values::task_name(&request.namespace, &request.name)?;
        let wait = values::span(&request.wait, "wait")?;
        if wait.is_some_and(|wait| wait > WAIT_MAX) {
            return Err(bad("wait", format!("at most {WAIT_MAX:?} can be waited for")));
        }
        let payload = request.payload.map(String::into_bytes);
        let key = key(&request.idempotency_key)?;
        let triggered = self.app.tasks.trigger(&name, payload, key, wait);
        let triggered = triggered.await.map_err(refused)?;
        let run = triggered.run.as_ref().map(run_proto);
        Ok(Response::new(v1::TriggerTaskResponse { run_id: triggered.run_id, run }))
    }

    async fn upcoming(
        &self,
        request: Request<v1::UpcomingRequest>,
    ) -> Answer<v1::UpcomingResponse> {
        let request = request.into_inner();
        let name = values::task_name(&request.namespace, &request.name)?;
        let after = values::instant(&request.after, "after")?;
        let upcoming = self.app.tasks.upcoming(&name, count(request.count), after);
        let Read { value: upcoming, stale } = upcoming.await.map_err(refused)?;
        Ok(Response::new(v1::UpcomingResponse {
            instants: values::instants(&upcoming),
            description: upcoming.description,
            warnings: values::warnings(upcoming.warnings),
            stale,
        }))
    }

    async fn why(&self, request: Request<v1::WhyRequest>) -> Answer<v1::WhyResponse> {
        let request = request.into_inner();
        let name = values::task_name(&request.namespace, &request.name)?;
        let at = values::instant(&request.at, "at")?;
        let agent = values::agent_name(&request.agent, "agent")?;
        let why = self.app.tasks.why(&name, at, agent).await.map_err(refused)?;
        Ok(Response::new(super::why::message(why)))
    }

    async fn preview_schedule(
        &self,
        request: Request<v1::PreviewScheduleRequest>,
    ) -> Answer<v1::PreviewScheduleResponse> {
        let request = request.into_inner();
        let schedules: Vec<_> = request.schedules.iter().map(schedule_json_of_proto).collect();
        let after = values::instant(&request.after, "after")?;
        let (namespace, name) = (values::text(&request.namespace), values::text(&request.name));
        let count = count(request.count);
        let upcoming = self.app.tasks.preview(&schedules, namespace, name, count, after);
        let upcoming = upcoming.map_err(refused)?;
        Ok(Response::new(v1::PreviewScheduleResponse {
            instants: values::instants(&upcoming),
            description: upcoming.description,
            warnings: values::warnings(upcoming.warnings),
        }))
    }
}

fn key(text: &str) -> Result<Option<&str>, Status> {
    match text.len() {
        0 => Ok(None),
        1..=KEY_BYTES_MAX => Ok(Some(text)),
        bytes => {
            let message = format!("{bytes} bytes; at most {KEY_BYTES_MAX} are allowed");
            Err(bad("idempotency_key", message))
        }
    }
}

fn count(given: u32) -> u32 {
    if given == 0 { COUNT_DEFAULT } else { given }
}

fn new_spec(task: &v1::Task, key: Option<&str>, index: usize) -> Result<Spec, TaskError> {
    let fresh_name = requests::name(key, index);
    let purpose = Purpose::Create { now: clock::wall() };
    let given = Given { namespace: None, name: None, fresh_name: &fresh_name, purpose };
    task_from_proto(task, given).map_err(TaskError::Invalid)
}

fn edited_spec(task: &v1::Task, name: &TaskName) -> Result<Spec, Vec<FieldError>> {
    let given = Given {
        namespace: Some(name.namespace.as_str()),
        name: Some(name.name.as_str()),
        fresh_name: name.name.as_str(),
        purpose: Purpose::Edit,
    };
    task_from_proto(task, given)
}

fn parts(written: TaskWritten) -> (Option<v1::Task>, Vec<v1::Warning>) {
    (Some(task_proto(&written.task, &written.status)), values::warnings(written.warnings))
}

fn batch_result(task: v1::Task, result: Result<TaskWritten, TaskError>) -> v1::BatchResult {
    match result {
        Ok(written) => v1::BatchResult {
            namespace: written.task.spec.name.namespace.to_string(),
            name: written.task.spec.name.name.to_string(),
            result: Some(v1::batch_result::Result::Revision(written.task.revision.0)),
            warnings: values::warnings(written.warnings),
        },
        Err(error) => v1::BatchResult {
            namespace: task.namespace,
            name: task.name,
            result: Some(v1::batch_result::Result::Error(problem(&error))),
            warnings: Vec::new(),
        },
    }
}

fn list_state(number: &i32) -> Result<ListState, Status> {
    match v1::TaskState::try_from(*number) {
        Ok(v1::TaskState::Active) => Ok(ListState::Of(TaskState::Active)),
        Ok(v1::TaskState::Paused) => Ok(ListState::Of(TaskState::Paused)),
        Ok(v1::TaskState::Finished) => Ok(ListState::Of(TaskState::Finished)),
        Ok(v1::TaskState::Unspecified) | Err(_) => {
            Err(bad("states", format!("{number} is not known")))
        }
    }
}
