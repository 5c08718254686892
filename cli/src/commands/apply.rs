//! `tock task apply`: makes the tasks what files say, after showing what that would be.
//!
//! A new task is created with its idempotency key, a changed one is replaced only if it is still
//! the version that the plan was made against; so two people who apply at the same time do not
//! undo each other without noticing. Deleting is asked about, or said yes to beforehand.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tocktower_client::{Client, Error, Read, Task, TaskFilter};

use super::plan::{Action, Step};
use super::{files, warn, warn_if_stale};
use crate::args::task::Apply;
use crate::context::Context;
use crate::failure::{Invalid, Outcome, Usage, code, tell};

/// Tasks that are looked up at the same time.
const LOOKUPS: usize = 16;

#[derive(Serialize)]
struct Shown<'a> {
    plan: &'a [Step],
    dry_run: bool,
}

pub async fn run(args: Apply, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let found = match files::read(&args.files, context.namespace())? {
        Ok(found) => found,
        Err(fields) => {
            return Err(Invalid { what: "what the files say".into(), fields }.into());
        }
    };
    let client = context.client()?;
    let wanted: Vec<Task> = found.into_iter().map(|found| found.task).collect();
    let Read { value: mut plan, stale } = plan(&client, wanted).await?;
    warn_if_stale(context.printer, stale);
    if args.prune {
        plan.extend(prune(&client, &plan, args.labels.iter().cloned().collect()).await?);
    }
    show(&plan, args.dry_run, context)?;
    if args.dry_run {
        return Ok(Outcome::Done);
    }
    ask_to_delete(&plan, args.yes, context)?;
    carry_out(&client, plan, context).await
}

/// Looks every wanted task up, and compares. It is stale if one of the lookups was.
pub async fn plan(client: &Client, wanted: Vec<Task>) -> Result<Read<Vec<Step>>, Error> {
    let steps = stream::iter(wanted).map(|task| async move {
        match client.get(task.namespace(), task.name()).await {
            Ok(present) => Ok(present.map(|present| Step::toward(task, Some(&present)))),
            Err(error) if error.is_not_found() => {
                Ok(Read { value: Step::toward(task, None), stale: false })
            }
            Err(error) => Err(error),
        }
    });
    let steps: Vec<Read<Step>> = steps.buffered(LOOKUPS).try_collect().await?;
    let stale = steps.iter().any(|step| step.stale);
    Ok(Read { value: steps.into_iter().map(|step| step.value).collect(), stale })
}

/// Tasks of the same namespaces that no file has.
async fn prune(
    client: &Client,
    plan: &[Step],
    labels: BTreeMap<String, String>,
) -> Result<Vec<Step>, Error> {
    let kept: BTreeSet<(&str, &str)> =
        plan.iter().map(|step| (step.namespace.as_str(), step.name.as_str())).collect();
    let namespaces: BTreeSet<&str> = kept.iter().map(|(namespace, _)| *namespace).collect();
    let mut steps = Vec::new();
    for namespace in namespaces {
        let filter = TaskFilter { labels: labels.clone(), ..TaskFilter::namespace(namespace) };
        let mut tasks = pin!(client.list(filter));
        while let Some(task) = tasks.try_next().await? {
            if !kept.contains(&(task.namespace(), task.name())) {
                steps.push(Step::delete(task));
            }
        }
    }
    Ok(steps)
}

fn show(plan: &[Step], dry_run: bool, context: &mut Context<'_>) -> anyhow::Result<()> {
    let count = |action| plan.iter().filter(|step| step.action == action).count();
    let summary = format!(
        "{} to create, {} to change, {} unchanged, {} to delete",
        count(Action::Create),
        count(Action::Change),
        count(Action::Unchanged),
        count(Action::Delete)
    );
    context.printer.answer(&Shown { plan, dry_run }, |printer| {
        for line in plan.iter().flat_map(Step::lines) {
            printer.line(&line)?;
        }
        printer.line(&summary)
    })
}

fn ask_to_delete(plan: &[Step], yes: bool, context: &mut Context<'_>) -> anyhow::Result<()> {
    let deletes = plan.iter().filter(|step| step.action == Action::Delete).count();
    if deletes == 0 || yes {
        return Ok(());
    }
    if !context.printer.is_interactive() {
        let message = format!("--prune would delete {deletes} tasks: say so with --yes");
        return Err(Usage(message).into());
    }
    context.printer.error(&format!("Delete {deletes} tasks? Type yes to go on."));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    anyhow::ensure!(answer.trim() == "yes", "nothing was done");
    Ok(())
}

/// Does one step after the other; one that is refused does not keep the others from it.
async fn carry_out(
    client: &Client,
    plan: Vec<Step>,
    context: &mut Context<'_>,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::Done;
    for step in plan {
        let name = format!("{}/{}", step.namespace, step.name);
        let warnings = match do_step(client, step).await {
            Ok(warnings) => warnings,
            Err(error) => {
                let error = anyhow::Error::new(error).context(format!("task {name}"));
                if code(&error) == 3 {
                    return Err(error);
                }
                tell(&error, context.printer);
                outcome = Outcome::Failed;
                continue;
            }
        };
        warn(context.printer, &warnings);
    }
    Ok(outcome)
}

async fn do_step(client: &Client, step: Step) -> Result<Vec<tocktower_client::Warning>, Error> {
    let Step { action, namespace, name, task, revision, .. } = step;
    match action {
        Action::Unchanged => Ok(Vec::new()),
        Action::Create => Ok(client.create(task).await?.warnings),
        Action::Change => Ok(client.put(task, Some(revision)).await?.warnings),
        Action::Delete => {
            client.delete(&namespace, &name, Some(revision)).await.map(|()| Vec::new())
        }
    }
}
