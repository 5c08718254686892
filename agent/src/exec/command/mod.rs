//! Commands: from a start to an end, over a process and whatever it starts itself.
//!
//! A run ends when its main process has exited. What that process left in the background goes on,
//! as under cron: a job may start a daemon. Such a process often still holds the output pipes, so
//! after the exit they are read until they are closed, silent for 200 ms, or 2 s have passed, and
//! from then on to nowhere (`pipes.rs`), for closing them would kill the daemon at its next line.
//!
//! A timeout or a cancel is another matter: the run must be over, so the whole tree goes
//! (`tree.rs`), and the main process is not reaped before, which keeps the kernel from giving its
//! number, which is also that of its group, to anybody else.
//!
//! Commands are spawned with `posix_spawn`, which does not copy the agent's page tables
//! (`launch.rs`).

mod cgroup;
mod environment;
mod launch;
mod pipes;
mod proc_table;
mod reaper;
mod tree;
mod user;

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tocktower_core::run::{AttemptEnd, Finished, ResultCode};
use tocktower_core::task::{Action, Command};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;

use super::live::RunOutput;
use super::report::{failed, never_began};
use super::{ExecConfig, StartRun, limits};
use crate::waker::now;

use cgroup::Cgroups;
use launch::{LaunchError, Launched};
use pipes::{LeftPipes, Pipes};
use proc_table::ProcReader;
use tree::Tree;

/// Where tests find the cgroups of commands, on hosts that have them.
#[cfg(test)]
pub(super) fn own_cgroup() -> Option<std::path::PathBuf> {
    Cgroups::find().and_then(|_| cgroup::this_process())
}

/// What all commands share.
pub(super) struct Commands {
    config: Arc<ExecConfig>,
    spawns: Semaphore,
    cgroups: Option<Arc<Cgroups>>,
    procs: Arc<ProcReader>,
    left_pipes: LeftPipes,
    /// From when on the grace is short; `None` as long as the agent stays.
    hurry: watch::Sender<Option<Instant>>,
    sweeper: JoinHandle<()>,
}

/// What came first.
enum Event {
    Exited(std::io::Result<ExitStatus>),
    TimedOut(Duration),
    Cancelled,
}

impl Commands {
    pub(super) fn new(config: Arc<ExecConfig>) -> Commands {
        reaper::prepare_process();
        let cgroups = if config.cgroups { Cgroups::find().map(Arc::new) } else { None };
        let procs = Arc::new(ProcReader::default());
        let sweeper = tokio::spawn(reaper::sweep(Arc::clone(&procs), cgroups.clone()));
        Commands {
            config,
            spawns: Semaphore::new(limits::SPAWNS_MAX),
            cgroups,
            procs,
            left_pipes: LeftPipes::new(),
            hurry: watch::Sender::new(None),
            sweeper,
        }
    }

    /// From this moment on TERM is followed by KILL within the short grace.
    pub(super) fn hurry_from(&self, at: Instant) {
        self.hurry.send_modify(|from| *from = Some(from.map_or(at, |known| known.min(at))));
    }

    /// Runs one command to its end.
    pub(super) async fn run(
        &self,
        run: &Arc<StartRun>,
        output: &Arc<RunOutput>,
        stopped: &mut oneshot::Receiver<()>,
    ) -> Option<Finished> {
        // A spawn that has begun is not given up: nobody could say whether the command ran.
        let turn = tokio::select! {
            biased;
            Ok(()) = &mut *stopped => return Some(never_began(AttemptEnd::Cancelled)),
            turn = self.spawns.acquire() => turn.expect("the semaphore is never closed"),
        };
        let launch = self.launch(run, output).await;
        drop(turn);
        let (mut launched, mut pipes) = match launch {
            Ok(launched) => launched,
            Err(LaunchError::Unlicensed) => return None,
            Err(error) => return Some(failed(error.to_string())),
        };
        output.begin();
        let event = tokio::select! {
            biased;
            status = launched.child.wait() => Event::Exited(status),
            Ok(()) = &mut *stopped => Event::Cancelled,
            after = timeout(run.timeout) => Event::TimedOut(after),
            () = pipes.pump() => unreachable!("pumping goes on until it is dropped"),
        };
        let status = match &event {
            Event::Exited(status) => status.as_ref().ok().copied(),
            Event::TimedOut(_) | Event::Cancelled => {
                self.stop(run, &mut launched, &mut pipes).await
            }
        };
        let finished_at = now().wall;
        pipes.drain(output).await;
        self.left_pipes.keep(pipes);
        let (end, code) = judge(run, event, status);
        let started_at = Some(launched.started_at);
        drop(launched);
        Some(Finished { started_at, finished_at, end, code, output: output.end() })
    }

    /// Spawns on a blocking thread.
    async fn launch(
        &self,
        run: &Arc<StartRun>,
        output: &Arc<RunOutput>,
    ) -> Result<(Launched, Pipes), LaunchError> {
        let (run, output) = (Arc::clone(run), Arc::clone(output));
        let (config, cgroups) = (Arc::clone(&self.config), self.cgroups.clone());
        let launch = move || match &*run.action {
            Action::Command(command) => {
                launch::launch(&run, command, &config, &output, cgroups.as_ref())
            }
            Action::Http(_) | Action::Noop => unreachable!("only commands are launched"),
        };
        let launched = tokio::task::spawn_blocking(launch).await;
        launched.unwrap_or_else(|error| Err(LaunchError::Lost(error)))
    }

    /// Ends the whole tree while its output goes on being read, then reaps the main process.
    async fn stop(
        &self,
        run: &StartRun,
        launched: &mut Launched,
        pipes: &mut Pipes,
    ) -> Option<ExitStatus> {
        let tree = Tree::new(run, launched.pid, launched.cgroup.as_ref());
        tokio::select! {
            gone = tree.stop(self.config.grace, self.hurry.subscribe(), &self.procs) => if !gone {
                tracing::error!(pid = launched.pid.as_raw_pid(), "processes survived KILL");
            },
            () = pipes.pump() => unreachable!("pumping goes on until it is dropped"),
        }
        let reaped = tokio::time::timeout(limits::LOOK_PAUSE_MAX, launched.child.wait()).await;
        reaped.ok().and_then(Result::ok)
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}

/// Sleeps through the timeout and gives it back; for ever if there is none.
async fn timeout(after: Option<Duration>) -> Duration {
    match after {
        Some(after) => {
            tokio::time::sleep(after).await;
            after
        }
        None => std::future::pending().await,
    }
}

fn judge(
    run: &StartRun,
    event: Event,
    status: Option<ExitStatus>,
) -> (AttemptEnd, Option<ResultCode>) {
    let code = status.and_then(|status| match (status.code(), status.signal()) {
        (Some(code), _) => Some(ResultCode::Exit(code)),
        (None, Some(signal)) => Some(ResultCode::Signal(signal)),
        (None, None) => None,
    });
    let end = match event {
        Event::TimedOut(after) => AttemptEnd::TimedOut { after },
        Event::Cancelled => AttemptEnd::Cancelled,
        Event::Exited(Err(error)) => {
            AttemptEnd::Failed { reason: format!("waiting for the command failed: {error}") }
        }
        Event::Exited(Ok(_)) => match code {
            Some(ResultCode::Exit(code)) if succeeds(run, code) => AttemptEnd::Succeeded,
            Some(ResultCode::Exit(code)) => {
                AttemptEnd::Failed { reason: format!("exit code {code}") }
            }
            Some(ResultCode::Signal(signal)) => {
                AttemptEnd::Failed { reason: format!("killed by signal {signal}") }
            }
            _ => AttemptEnd::Failed { reason: "the command ended without a status".to_owned() },
        },
    };
    (end, code)
}

fn succeeds(run: &StartRun, code: i32) -> bool {
    match &*run.action {
        Action::Command(Command { success_codes, .. }) if !success_codes.is_empty() => {
            success_codes.contains(&code)
        }
        _ => code == 0,
    }
}
