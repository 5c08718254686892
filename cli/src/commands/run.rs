//! `tock run …`.
//!
//! Lists stop at a limit, as history is long; a list that is not whole says where it goes on, and
//! which agents did not answer in time. Output is printed as the bytes that the run wrote, whatever
//! form of answer was asked for. A watch prints a line for each change and outlives the server it
//! began with; for scripts each line is a message as the WebSocket sends it.

use std::collections::{HashSet, VecDeque};
use std::pin::pin;

use futures::TryStreamExt;
use serde_json::json;
use tocktower_client::{OutputQuery, Run, RunFilter, RunState, WatchEvent, WatchFilter, json};

use crate::args::Output as Form;
use crate::args::run::{Id, List, Output, RunCommand, Watch};
use crate::context::Context;
use crate::failure::Outcome;
use crate::table;
use crate::when::{micros, sdk_time};

/// Runs that one page asks for.
const PAGE: usize = 1_000;
/// Ends that wait to be settled. Of more than these, the oldest have a second line.
const ENDS_MAX: usize = 10_000;

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
    let mut ends = Ends::default();
    while let Some(event) = events.try_next().await? {
        let news = ends.news(&event) || context.printer.form() != Form::Table;
        if news {
            tell_event(&event, context)?;
        }
    }
    Ok(Outcome::Done)
}

/// Ends that a person has seen as provisional. That one of them is settled, two seconds later, has
/// no line of its own: it looks the same, and would be taken for a second run.
#[derive(Default)]
struct Ends {
    seen: HashSet<End>,
    /// The oldest first; some may be settled.
    order: VecDeque<End>,
}

type End = (String, RunState, u32);

impl Ends {
    fn news(&mut self, event: &WatchEvent) -> bool {
        match event {
            WatchEvent::Snapshot(runs) => {
                runs.iter().filter(|run| run.provisional).for_each(|run| self.remember(run));
                true
            }
            WatchEvent::Changed { run, .. } if run.provisional => {
                self.remember(run);
                true
            }
            WatchEvent::Changed { run, .. } => !self.seen.remove(&end(run)),
            WatchEvent::Lagged { .. } => true,
        }
    }

    fn remember(&mut self, run: &Run) {
        self.seen.insert(end(run));
        self.order.push_back(end(run));
        if self.order.len() > ENDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
    }
}

fn end(run: &Run) -> End {
    (run.run_id.clone(), run.state(), run.attempt)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn change(id: usize, state: RunState, provisional: bool) -> WatchEvent {
        let mut run = Run { run_id: id.to_string(), provisional, ..Run::default() };
        run.set_state(state);
        WatchEvent::Changed { seq: 1, run: Box::new(run) }
    }

    #[test]
    fn an_end_has_one_line_and_a_repeat_its_own() {
        let mut ends = Ends::default();
        let mut told = |state, provisional| ends.news(&change(1, state, provisional));
        // An open run says that it is provisional, too.
        assert!(told(RunState::Running, true));
        assert!(told(RunState::Succeeded, true));
        assert!(!told(RunState::Succeeded, false));
        assert!(told(RunState::Running, true), "it was started again");
        assert!(told(RunState::Failed, true));
        assert!(!told(RunState::Failed, false));
        assert!(told(RunState::Lost, false), "settled at once, and not seen before");
    }

    #[test]
    fn what_a_snapshot_has_shown_is_not_told_again_and_much_is_forgotten() {
        let mut ends = Ends::default();
        let WatchEvent::Changed { run, .. } = change(0, RunState::Failed, true) else { return };
        assert!(ends.news(&WatchEvent::Snapshot(vec![*run])));
        assert!(!ends.news(&change(0, RunState::Failed, false)));
        for id in 1..=ENDS_MAX + 1 {
            assert!(ends.news(&change(id, RunState::Succeeded, true)));
        }
        assert!(ends.news(&change(1, RunState::Succeeded, false)), "forgotten");
        assert!(!ends.news(&change(2, RunState::Succeeded, false)));
        assert!(ends.order.len() <= ENDS_MAX);
    }
}
