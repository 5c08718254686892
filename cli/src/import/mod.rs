//! `tock import …`: makes tasks of what other schedulers have.
//!
//! Everything is read and checked before anything is written, over all files; a line that is
//! refused stops the import unless it is told to go on. That a job has an instant left is checked
//! by this host's clock, which is good enough for what a crontab can say: there are no years in it,
//! so a line that never runs (30 February) never runs by any clock.
//!
//! Names come from what a job is, so a second import finds what the first one made: it creates what
//! is new, replaces what has changed, and leaves the rest alone. It never deletes; a line that was
//! taken out of a crontab is a decision for `tock task delete`.

pub mod crontab;

use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tocktower_client::{Client, Task, json};

use crate::args::import::{Crontab as Args, ImportCommand};
use crate::commands::apply;
use crate::commands::plan::{Action, Step};
use crate::context::Context;
use crate::failure::{Outcome, Usage, code, tell};
use crate::host;
use crate::when::sdk_time;
use crontab::{Dialect, Host, Names, Remark, task_of};

/// Tasks that are written with one call; the progress bar moves once for each.
const CHUNK: usize = 200;

/// What came of an import, for scripts.
#[derive(Serialize, Default)]
struct Summary {
    dry_run: bool,
    /// Of a dry run: what would be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<Vec<json::Task>>,
    created: usize,
    changed: usize,
    unchanged: usize,
    failed: usize,
    refused: Vec<Told>,
    warnings: Vec<Told>,
}

/// A remark with its file.
#[derive(Serialize)]
struct Told {
    file: String,
    line: usize,
    message: String,
}

pub async fn run(command: ImportCommand, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let ImportCommand::Crontab(args) = command;
    let mut summary = Summary { dry_run: args.dry_run, ..Summary::default() };
    let now = sdk_time(context.clock.now);
    let tasks = read_all(&args, context.namespace(), now, &mut summary)?;
    for told in &summary.warnings {
        context.printer.error(&format!("{}:{}: warning: {}", told.file, told.line, told.message));
    }
    for told in &summary.refused {
        context.printer.error(&format!("{}:{}: refused: {}", told.file, told.line, told.message));
    }
    let stopped = !summary.refused.is_empty() && !args.keep_going;
    if args.dry_run {
        summary.tasks = Some(tasks.iter().map(json::spec).collect());
    } else if !stopped {
        Box::pin(write_all(tasks, &mut summary, context)).await?;
    }
    show(&summary, stopped, context)?;
    match summary.refused.is_empty() && summary.failed == 0 {
        true => Ok(Outcome::Done),
        false => Ok(Outcome::Failed),
    }
}

fn read_all(
    args: &Args,
    namespace: &str,
    now: SystemTime,
    summary: &mut Summary,
) -> anyhow::Result<Vec<Task>> {
    let zone = args.zone.clone().unwrap_or_else(host::zone);
    if !crontab::is_zone(&zone) {
        return Err(Usage(format!("--zone: {zone:?} is no time zone")).into());
    }
    let host =
        Host { zone, user: args.user.clone(), homes: host::homes(), own_home: host::own_home() };
    let dialect = if args.system { Dialect::System } else { Dialect::User };
    // Twins are counted over files of the same stem, too: names must differ over the whole import.
    let mut names = std::collections::BTreeMap::<String, Names>::new();
    let mut tasks = Vec::new();
    for path in &args.files {
        let (file, stem, bytes) = read_file(path)?;
        let stem = args.name.clone().unwrap_or(stem);
        let names = names.entry(stem.clone()).or_insert_with(|| Names::new(&stem));
        let crontab = crontab::parse(&bytes, dialect);
        let mut refused = crontab.refused;
        for job in &crontab.jobs {
            let mut task = task_of(job, namespace, names, &host);
            if let Some(pool) = &args.pool {
                task = task.pool(pool);
            }
            if let Some(agent) = &args.agent {
                task = task.agent(agent);
            }
            task = args.every_agent.place(task);
            match json::check_new(&task, now).as_slice() {
                [] => tasks.push(task),
                errors => refused.extend(
                    errors
                        .iter()
                        .map(|error| Remark { line: job.line, message: error.to_string() }),
                ),
            }
        }
        refused.sort_by_key(|remark| remark.line);
        let told = |remark: Remark| Told {
            file: file.clone(),
            line: remark.line,
            message: remark.message,
        };
        summary.refused.extend(refused.into_iter().map(told));
        summary.warnings.extend(crontab.warnings.into_iter().map(told));
    }
    Ok(tasks)
}

/// The name to tell, the stem, and the bytes of a file.
fn read_file(path: &Path) -> anyhow::Result<(String, String, Vec<u8>)> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("the standard input")?;
        return Ok(("-".to_owned(), "crontab".to_owned(), bytes));
    }
    let name = path.display().to_string();
    let bytes = std::fs::read(path).with_context(|| name.clone())?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    Ok((name, stem.unwrap_or_default(), bytes))
}

async fn write_all(
    tasks: Vec<Task>,
    summary: &mut Summary,
    context: &mut Context<'_>,
) -> anyhow::Result<()> {
    if tasks.is_empty() {
        return Ok(());
    }
    let (client, patient) = (context.client()?, context.patient_client()?);
    let bar = progress(tasks.len());
    for chunk in tasks.chunks(CHUNK) {
        let plan = apply::plan(&client, chunk.to_vec()).await?;
        // What is written is compared with what is there, whatever was read: no need to warn.
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for step in plan.value {
            match step.action {
                Action::Create => new.push(step.task),
                Action::Change => changed.push(step),
                Action::Unchanged | Action::Delete => summary.unchanged += 1,
            }
        }
        create(&patient, new, summary, context).await?;
        change(&patient, changed, summary, context).await?;
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

async fn create(
    client: &Client,
    new: Vec<Task>,
    summary: &mut Summary,
    context: &mut Context<'_>,
) -> anyhow::Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    for item in client.batch(new).await? {
        let name = format!("{}/{}", item.namespace, item.name);
        match item.result {
            Ok(_) => summary.created += 1,
            Err(error) => failed(&name, error, summary, context)?,
        }
        crate::commands::warn(context.printer, &item.warnings);
    }
    Ok(())
}

async fn change(
    client: &Client,
    changed: Vec<Step>,
    summary: &mut Summary,
    context: &mut Context<'_>,
) -> anyhow::Result<()> {
    for step in changed {
        let name = format!("{}/{}", step.namespace, step.name);
        match client.put(step.task, Some(step.revision)).await {
            Ok(written) => {
                summary.changed += 1;
                crate::commands::warn(context.printer, &written.warnings);
            }
            Err(error) => failed(&name, error, summary, context)?,
        }
    }
    Ok(())
}

/// One task that was refused does not keep the others from being written.
fn failed(
    name: &str,
    error: tocktower_client::Error,
    summary: &mut Summary,
    context: &mut Context<'_>,
) -> anyhow::Result<()> {
    let error = anyhow::Error::new(error).context(format!("task {name}"));
    if code(&error) == 3 {
        return Err(error);
    }
    tell(&error, context.printer);
    summary.failed += 1;
    Ok(())
}

fn show(summary: &Summary, stopped: bool, context: &mut Context<'_>) -> anyhow::Result<()> {
    let counts = format!(
        "{} created, {} changed, {} unchanged, {} failed, {} lines refused",
        summary.created,
        summary.changed,
        summary.unchanged,
        summary.failed,
        summary.refused.len()
    );
    context.printer.answer(summary, |printer| {
        for task in summary.tasks.iter().flatten() {
            printer.line("---")?;
            let text = serde_yaml_ng::to_string(task).map_err(std::io::Error::other)?;
            printer.line(text.trim_end())?;
        }
        if let Some(tasks) = &summary.tasks {
            let (tasks, refused) = (tasks.len(), summary.refused.len());
            return printer.line(&format!("# {tasks} tasks, {refused} lines refused"));
        }
        if stopped {
            printer.line("nothing was written: correct the lines, or use --keep-going")?;
        }
        printer.line(&counts)
    })
}

/// Hidden by itself where the standard error is no terminal.
fn progress(tasks: usize) -> ProgressBar {
    let bar = ProgressBar::new(tasks as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} tasks, {eta} left");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
