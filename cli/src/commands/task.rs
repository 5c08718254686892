//! `tock task …`, but for the commands that decide something first.
//!
//! `get` shows all of a task, as YAML under the row of the table: what is read there can be written
//! to a file and applied. `list` asks for whole tasks when its answer is for a script, for the same
//! reason. `trigger --wait` ends with 1 unless the run succeeded, so that it can stand in a
//! condition.

use serde::Serialize;
use serde_json::json;
use tocktower_client::limits::PAGE_ITEMS_MAX;
use tocktower_client::{RunState, TaskFilter, TaskState, json};

use super::{apply, create, edit, warn, warn_if_stale};
use crate::args::task::{List, Name, Names, TaskCommand, Trigger, Upcoming, Why};
use crate::context::Context;
use crate::failure::{Outcome, code, tell};
use crate::table;
use crate::when::sdk_time;

pub async fn run(command: TaskCommand, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    match command {
        TaskCommand::Create(args) => create::run(*args, context).await,
        TaskCommand::Apply(args) => apply::run(args, context).await,
        TaskCommand::Edit(args) => edit::run(args, context).await,
        TaskCommand::Get(args) => get(args, context).await,
        TaskCommand::List(args) => list(args, context).await,
        TaskCommand::Pause(args) => each(args, Change::Pause, context).await,
        TaskCommand::Resume(args) => each(args, Change::Resume, context).await,
        TaskCommand::Delete(args) => each(args, Change::Delete, context).await,
        TaskCommand::Trigger(args) => trigger(args, context).await,
        TaskCommand::Upcoming(args) => upcoming(args, context).await,
        TaskCommand::Why(args) => why(args, context).await,
    }
}

/// A task as REST answers a read.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    task: json::Task,
    /// Left out where there is nothing to say, so that a task that was read can be applied.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

async fn get(args: Name, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let (namespace, name) = context.task_name(&args.task);
    let read = context.client()?.get(&namespace, &name).await?;
    warn_if_stale(context.printer, read.stale);
    let shown = Shown { task: json::task(&read.value), stale: read.stale };
    let clock = context.clock.clone();
    context.printer.answer(&shown, |printer| {
        printer.table(&table::tasks(std::slice::from_ref(&read.value), &clock))?;
        // A table has no room for all of a task; YAML is what people write tasks in.
        printer.line("")?;
        let text = serde_yaml_ng::to_string(&shown).map_err(std::io::Error::other)?;
        printer.line(text.trim_end())
    })?;
    Ok(Outcome::Done)
}

async fn list(args: List, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let filter = TaskFilter {
        namespace: (!args.all_namespaces).then(|| context.namespace().to_owned()),
        prefix: args.prefix,
        labels: args.labels.into_iter().collect(),
        states: args.states.into_iter().map(TaskState::from).collect(),
        search: args.search,
        // What a script gets must be fit to be applied again.
        full: context.printer.form() != crate::args::Output::Table,
    };
    let client = context.client()?;
    let limit = args.limit.unwrap_or(usize::MAX);
    let (mut tasks, mut stale, mut cursor) = (Vec::new(), false, Some(String::new()));
    while let Some(from) = cursor.filter(|_| tasks.len() < limit) {
        let left = u32::try_from(limit - tasks.len()).unwrap_or(u32::MAX);
        let page = client.list_page(&filter, &from, left.min(PAGE_ITEMS_MAX)).await?;
        tasks.extend(page.tasks);
        stale |= page.stale;
        cursor = page.next_cursor;
    }
    tasks.truncate(limit);
    warn_if_stale(context.printer, stale);
    let items: Vec<json::Task> = tasks.iter().map(json::task).collect();
    let shown = json::TaskList { items, next_cursor: None, stale };
    let clock = context.clock.clone();
    context.printer.answer(&shown, |printer| printer.table(&table::tasks(&tasks, &clock)))?;
    Ok(Outcome::Done)
}

#[derive(Clone, Copy)]
enum Change {
    Pause,
    Resume,
    Delete,
}

/// Changes one task after the other; one that is refused does not keep the others from it.
async fn each(args: Names, change: Change, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::Done;
    for given in &args.tasks {
        if let Err(error) = change_one(given, change, context).await {
            let error = error.context(format!("task {given}"));
            if code(&error) == 3 {
                return Err(error);
            }
            tell(&error, context.printer);
            outcome = Outcome::Failed;
        }
    }
    Ok(outcome)
}

async fn change_one(given: &str, change: Change, context: &mut Context<'_>) -> anyhow::Result<()> {
    let (namespace, name) = context.task_name(given);
    let client = context.client()?;
    let (done, task) = match change {
        Change::Pause => ("paused", Some(client.pause(&namespace, &name).await?)),
        Change::Resume => ("resumed", Some(client.resume(&namespace, &name).await?)),
        Change::Delete => {
            client.delete(&namespace, &name, None).await?;
            ("deleted", None)
        }
    };
    let line = format!("{namespace}/{name} {done}");
    match task {
        Some(task) => context.printer.event(&json::task(&task), |printer| printer.line(&line)),
        None => {
            let shown = json!({ "namespace": namespace, "name": name, "deleted": true });
            context.printer.event(&shown, |printer| printer.line(&line))
        }
    }
}

async fn trigger(args: Trigger, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let (namespace, name) = context.task_name(&args.task);
    let client = context.client()?;
    let triggered = client.trigger(&namespace, &name, args.payload, args.wait).await?;
    let clock = context.clock.clone();
    context.printer.answer(&json::triggered(&triggered), |printer| match &triggered.run {
        Some(run) if args.wait.is_some() => printer.table(&table::run(run, &clock)),
        _ => printer.line(&triggered.run_id),
    })?;
    let succeeded = |run: &tocktower_client::Run| run.state() == RunState::Succeeded;
    match args.wait {
        Some(_) if !triggered.run.as_ref().is_some_and(succeeded) => Ok(Outcome::Failed),
        _ => Ok(Outcome::Done),
    }
}

async fn upcoming(args: Upcoming, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let (namespace, name) = context.task_name(&args.task);
    let after = args.after.map(sdk_time);
    let read = context.client()?.upcoming(&namespace, &name, args.count, after).await?;
    warn_if_stale(context.printer, read.stale);
    let preview = read.value;
    warn(context.printer, &preview.warnings);
    let clock = context.clock.clone();
    context.printer.answer(&json::preview(&preview), |printer| {
        printer.line(&preview.description)?;
        printer.table(&table::instants(&preview.instants, &clock))
    })?;
    Ok(Outcome::Done)
}

async fn why(args: Why, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let (namespace, name) = context.task_name(&args.task);
    let at = args.at.map(sdk_time);
    let read = context.client()?.why(&namespace, &name, at, args.agent.as_deref()).await?;
    warn_if_stale(context.printer, read.stale);
    let why = read.value;
    let clock = context.clock.clone();
    context.printer.answer(&json::why(&why), |printer| {
        printer.line(&why.explanation)?;
        if !why.advice.is_empty() {
            printer.line(&why.advice)?;
        }
        printer.line("")?;
        printer.table(&table::why(&why, &clock))
    })?;
    Ok(Outcome::Done)
}
