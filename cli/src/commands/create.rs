//! `tock task create`: a task from flags.
//!
//! The flags become a task, which is checked here by the server's own rules before it is sent: the
//! answer to a typing mistake is at hand at once, also without a server (`--dry-run`). What was
//! left out on the command line is left out in the task, so that defaults are the server's.

use tocktower_client::{CatchUpPolicy, Command, Cron, Http, Retry, Schedule, Task, json};

use super::warn;
use crate::args::task::{Create, Policy, What, When};
use crate::args::value::Dialect;
use crate::context::Context;
use crate::failure::{Invalid, Outcome};
use crate::when::{sdk_time, timestamp};

pub async fn run(args: Create, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let task = task(&args, context);
    let fields = json::check(&task);
    if !fields.is_empty() {
        return Err(Invalid { what: "the task".to_owned(), fields }.into());
    }
    if args.dry_run {
        let shown = json::spec(&task);
        context.printer.answer(&shown, |printer| {
            let text = serde_yaml_ng::to_string(&shown).map_err(std::io::Error::other)?;
            printer.line(text.trim_end())
        })?;
        return Ok(Outcome::Done);
    }
    let written = context.client()?.create(task).await?;
    warn(context.printer, &written.warnings);
    let task = &written.task;
    let next = task.proto().next_at.as_ref().and_then(timestamp);
    let clock = context.clock.clone();
    context.printer.answer(&json::written(&written), |printer| {
        let next =
            next.map(|next| format!(", next {} ({})", clock.relative(next), clock.absolute(next)));
        let next = next.unwrap_or_default();
        printer.line(&format!("{}/{} created{next}", task.namespace(), task.name()))
    })?;
    Ok(Outcome::Done)
}

fn task(args: &Create, context: &Context<'_>) -> Task {
    let (namespace, name) = match &args.task {
        Some(given) => context.task_name(given),
        None => (context.namespace().to_owned(), String::new()),
    };
    let mut task = Task::new(namespace, name).paused(args.paused);
    if let Some(text) = &args.description {
        task = task.description(text);
    }
    for (name, value) in &args.labels {
        task = task.label(name, value);
    }
    let task = when(task, &args.when, context.clock.now);
    policy(what(task, &args.what), &args.policy)
}

fn when(mut task: Task, when: &When, now: jiff::Timestamp) -> Task {
    for expression in &when.cron {
        task = task.cron(cron(expression, when));
    }
    if let Some(at) = when.at {
        task = task.at(sdk_time(at));
    }
    if let Some(after) = when.after {
        // What cannot be added is far out of range, and told so by the check.
        let at = now.checked_add(after).unwrap_or(jiff::Timestamp::MAX);
        task = task.at(sdk_time(at));
    }
    if let Some(every) = when.every {
        task = match when.phase {
            Some(phase) => task.schedule(Schedule::every_with_phase(every, phase)),
            None => task.every(every),
        };
    }
    if let Some(start) = when.start_at {
        task = task.start_at(sdk_time(start));
    }
    if let Some(end) = when.end_at {
        task = task.end_at(sdk_time(end));
    }
    if let Some(runs) = when.max_runs {
        task = task.max_runs(runs);
    }
    when.exclude.iter().fold(task, |task, date| task.exclude_date(date))
}

fn cron(expression: &str, when: &When) -> Cron {
    let mut cron = match when.dialect.unwrap_or_default() {
        Dialect::Crontab => Cron::new(expression),
        Dialect::Quartz => Cron::quartz(expression),
    };
    if let Some(zone) = &when.zone {
        cron = cron.in_zone(zone);
    }
    if let Some(gap) = when.gap {
        cron = cron.gap(gap.into());
    }
    match when.fold {
        Some(fold) => cron.fold(fold.into()),
        None => cron,
    }
}

fn what(task: Task, what: &What) -> Task {
    if what.noop {
        return task.noop();
    }
    if let Some(url) = &what.http {
        let mut http = Http::new(what.method.as_deref().unwrap_or("POST"), url);
        for (name, value) in &what.headers {
            http = http.header(name, value);
        }
        if let Some(body) = &what.body {
            http = http.body(body);
        }
        return task.http(http);
    }
    let mut command = match &what.shell {
        Some(line) => Command::shell(line),
        None => Command::new(&what.argv),
    };
    for (name, value) in &what.env {
        command = command.env(name, value);
    }
    if let Some(user) = &what.user {
        command = command.user(user);
    }
    if let Some(cwd) = &what.cwd {
        command = command.cwd(cwd);
    }
    if let Some(stdin) = &what.stdin {
        command = command.stdin(stdin);
    }
    if !what.success_codes.is_empty() {
        command = command.success_codes(what.success_codes.iter().copied());
    }
    task.command(command)
}

fn policy(mut task: Task, policy: &Policy) -> Task {
    if let Some(pool) = &policy.pool {
        task = task.pool(pool);
    }
    if let Some(agent) = &policy.agent {
        task = task.agent(agent);
    }
    task = policy.every_agent.place(task);
    if let Some(attempts) = policy.retry {
        let retry = Retry::attempts(attempts);
        task = task.retry(policy.backoff.map_or(retry, |wait| retry.backoff(wait)));
    }
    if let Some(timeout) = policy.timeout {
        task = task.timeout(timeout);
    }
    if let Some(delivery) = policy.delivery {
        task = task.delivery(delivery.into());
    }
    if let Some(overlap) = policy.overlap {
        task = task.overlap(overlap.into());
    }
    if let Some(catch_up) = policy.catch_up {
        task = task.catch_up(CatchUpPolicy::from(catch_up), policy.catch_up_window);
    }
    if let Some(jitter) = policy.jitter {
        task = task.jitter(jitter);
    }
    if let Some(deadline) = policy.start_deadline {
        task = task.start_deadline(deadline);
    }
    task.priority(policy.priority.unwrap_or_default())
}
