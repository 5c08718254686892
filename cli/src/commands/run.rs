//! `tock run …`.
//!
//! Lists stop at a limit, as history is long; a list that is not whole says where it goes on, and
//! which agents did not answer in time. Output is printed as the bytes that the run wrote, whatever
//! form of answer was asked for. A watch prints a line for each change and outlives the server it
//! began with; for scripts each line is a message as the WebSocket sends it.

use std::pin::pin;

use futures::TryStreamExt;
use serde_json::json;
use tocktower_client::{OutputQuery, RunFilter, RunState, WatchEvent, WatchFilter, json};

use crate::args::Output as Form;
use crate::args::run::{Id, List, Output, RunCommand, Watch};
use crate::context::Context;
use crate::failure::Outcome;
use crate::table;
use crate::when::{micros, sdk_time};

/// Runs that one page asks for.
const PAGE: usize = 1_000;

pub async fn run(command: RunCommand, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    match command {
        RunCommand::List(args) => list(args, context).await,
        RunCommand::Get(args) => get(args, context).await,
        RunCommand::Output(args) => output(args, context).await,
        RunCommand::Cancel(args) => cancel(args, context).await,
        RunCommand::Watch(args) => watch(args, context).await,
    }
}

async fn list(args: List, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let (namespace, task) = scope(args.task.as_deref(), args.all_namespaces, context);
    let now = context.clock.now;
    let filter = RunFilter {
        namespace,
        task,
        states: args.states.into_iter().map(RunState::from).collect(),
        since: args.since.map(|since| sdk_time(since.moment(now))),
        until: args.until.map(|until| sdk_time(until.moment(now))),
    };
    let client = context.client()?;
    let mut runs = Vec::new();
    let mut silent = std::collections::BTreeSet::new();
    let mut cursor = Some(String::new());
    while let Some(from) = cursor.take().filter(|_| runs.len() < args.limit) {
        let wanted = u32::try_from((args.limit - runs.len()).min(PAGE)).unwrap_or(u32::MAX);
        let page = client.list_runs_page(&filter, &from, wanted).await?;
        runs.extend(page.runs);
        silent.extend(page.silent_agents);
        cursor = page.next_cursor;
    }
    runs.truncate(args.limit);
    let silent_agents: Vec<String> = silent.into_iter().collect();
    if !silent_agents.is_empty() {
        let names = silent_agents.join(", ");
        context.printer.error(&format!("warning: these agents did not answer in time: {names}"));
    }
    let items = runs.iter().map(json::run).collect();
    let shown = json::RunList { items, next_cursor: cursor, silent_agents };
    let clock = context.clock.clone();
    context.printer.answer(&shown, |printer| printer.table(&table::runs(&runs, &clock)))?;
    Ok(Outcome::Done)
}

async fn get(args: Id, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let run = context.client()?.get_run(&args.run).await?;
    let clock = context.clock.clone();
    context.printer.answer(&json::run(&run), |printer| printer.table(&table::run(&run, &clock)))?;
    Ok(Outcome::Done)
}

async fn cancel(args: Id, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let run = context.client()?.cancel_run(&args.run).await?;
    let line = format!("{} is being cancelled", run.run_id);
    context.printer.answer(&json::run(&run), |printer| printer.line(&line))?;
    Ok(Outcome::Done)
}

/// The bytes as they were written, whatever the form: they are somebody else's answer.
async fn output(args: Output, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let query = OutputQuery {
        attempt: args.attempt,
        stream: Some(args.stream.into()),
        follow: args.follow,
        offset: 0,
    };
    let client = context.client()?;
    let mut chunks = pin!(client.output(&args.run, query));
    while let Some(chunk) = chunks.try_next().await? {
        if chunk.dropped > 0 {
            context.printer.error(&format!("[{} bytes were not kept]", chunk.dropped));
        }
        context.printer.bytes(&chunk.data)?;
    }
    Ok(Outcome::Done)
}

async fn watch(args: Watch, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let (namespace, task) = scope(args.task.as_deref(), args.all_namespaces, context);
    let filter = WatchFilter { namespace, task, labels: args.labels.into_iter().collect() };
    let client = context.client()?;
    let mut events = pin!(client.watch(filter));
    while let Some(event) = events.try_next().await? {
        tell_event(&event, context)?;
    }
    Ok(Outcome::Done)
}

/// For scripts as in the WebSocket; for people a line for each change.
fn tell_event(event: &WatchEvent, context: &mut Context<'_>) -> anyhow::Result<()> {
    let clock = context.clock.again();
    let printer = &mut *context.printer;
    let pretty = printer.form() == Form::Table;
    match event {
        WatchEvent::Snapshot(runs) if pretty => Ok(printer.table(&table::runs(runs, &clock))?),
        WatchEvent::Snapshot(runs) => {
            let runs: Vec<json::Run> = runs.iter().map(json::run).collect();
            printer.event(&json!({ "type": "snapshot", "runs": runs }), |_| Ok(()))
        }
        WatchEvent::Changed { seq, run } => {
            let shown = json!({ "type": "event", "seq": seq, "run": json::run(run) });
            printer.event(&shown, |printer| {
                let took = run.duration_us.map(|us| format!(" took {}", micros(us)));
                let time = clock.absolute(clock.now);
                let state = json::run_state_word(run.state());
                let agent = &run.agent;
                let tail = took.unwrap_or_default();
                printer.line(&format!("{time}  {state:13} {}  {agent}{tail}", run.run_id))
            })
        }
        WatchEvent::Lagged { missed } => {
            let shown = json!({ "type": "lagged", "missed": missed });
            printer.event(&shown, |printer| {
                printer.line(&format!("missed {missed} changes; all runs again:"))
            })
        }
    }
}

/// Namespace and task that a list or a watch is about.
fn scope(
    task: Option<&str>,
    all_namespaces: bool,
    context: &Context<'_>,
) -> (Option<String>, Option<String>) {
    match task {
        Some(task) => {
            let (namespace, name) = context.task_name(task);
            (Some(namespace), Some(name))
        }
        None => ((!all_namespaces).then(|| context.namespace().to_owned()), None),
    }
}
