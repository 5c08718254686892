//! The environment of a command: built from nothing, so that a secret in the agent's own never
//! leaks into a job and a job behaves the same on every host.
//!
//! Later lines win: the agent's `PATH`, then what belongs to the user it runs as, then the task's
//! own, then the facts of the run. The facts come last since they are what a job checks itself by;
//! they are also how an orphan of the run is recognised (`tree.rs`).

use std::collections::BTreeMap;

use tocktower_core::task::Command;

use super::user::User;
use crate::exec::{ExecConfig, StartRun, fence_texts, instant_text};

pub(super) fn environment(
    run: &StartRun,
    command: &Command,
    config: &ExecConfig,
    user: Option<&User>,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([("PATH".to_owned(), config.path.clone())]);
    if let Some(user) = user {
        all.insert("HOME".to_owned(), user.home.clone());
        all.insert("USER".to_owned(), user.name.clone());
        all.insert("LOGNAME".to_owned(), user.name.clone());
        all.insert("SHELL".to_owned(), user.shell.clone());
    }
    all.extend(command.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    all.extend(identity(run).into_iter().map(|(name, value)| (name.to_owned(), value)));
    all.insert("TOCKTOWER_TASK".to_owned(), run.run.task.to_string());
    if let Some(instant) = run.instant {
        all.insert("TOCKTOWER_INSTANT".to_owned(), instant_text(instant));
    }
    if let Some(payload) = &run.payload {
        all.insert("TOCKTOWER_PAYLOAD".to_owned(), payload.clone());
    }
    all
}

/// The variables that together name one attempt and no other.
pub(super) fn identity(run: &StartRun) -> Vec<(&'static str, String)> {
    let (fence, epoch) = fence_texts(run.attempt.fence);
    let mut all = vec![
        ("TOCKTOWER_RUN_ID", run.run.to_string()),
        ("TOCKTOWER_ATTEMPT", run.attempt.number.to_string()),
        ("TOCKTOWER_FENCE", fence),
    ];
    all.extend(epoch.map(|epoch| ("TOCKTOWER_EPOCH", epoch)));
    all
}
