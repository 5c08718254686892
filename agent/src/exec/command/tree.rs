//! Stopping a command and everything that it has started.
//!
//! TERM to all, the grace, then KILL again and again until nothing is left: a process that forks
//! while it is being hunted must not slip through. What belongs to the tree:
//!
//! - the main process's group and session, and what is in its cgroup;
//! - children of what belongs, and what was found to belong before, whoever its parent is now;
//! - orphans that the agent inherited and that carry the attempt in their environment. This catches
//!   what called `setsid` and forked twice, which breaks every other tie.
//!
//! Without a cgroup a process escapes if it breaks all ties *and* cleans its environment *and*
//! ends its parent before the hunt; with one, nothing does that did not fork in the first
//! moments before it was moved there, and that falls under the rules above.
//!
//! The caller keeps the main process unreaped meanwhile: its number names the group.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, kill_process_group};

use tokio::sync::watch;

use super::cgroup::Cgroup;
use super::environment::identity;
use super::proc_table::{ProcReader, Process, signal};
use super::reaper::is_main;
use crate::exec::{StartRun, limits};

pub(super) struct Tree<'a> {
    main: Pid,
    cgroup: Option<&'a Cgroup>,
    /// `NAME=value` of the variables that name the attempt.
    marks: Vec<Vec<u8>>,
}

/// What one hunt knows. A process is named by its number and the time it started.
#[derive(Default)]
struct Hunt {
    members: BTreeSet<(i32, u64)>,
    warned: BTreeSet<(i32, u64)>,
}

/// When TERM has had its time: after the grace, or the short one once the agent is on its way out.
fn kill_at(begun: Instant, grace: Duration, hurry: Option<Instant>) -> Instant {
    let patient = begun + grace;
    hurry.map_or(patient, |from| patient.min(from.max(begun) + limits::GRACE_LEAVING))
}

impl<'a> Tree<'a> {
    pub(super) fn new(run: &StartRun, main: Pid, cgroup: Option<&'a Cgroup>) -> Tree<'a> {
        let mark = |(name, value)| format!("{name}={value}").into_bytes();
        Tree { main, cgroup, marks: identity(run).into_iter().map(mark).collect() }
    }

    /// False if something is still there long after KILL. `hurry` may shorten the grace meanwhile:
    /// from the moment in it on.
    pub(super) async fn stop(
        &self,
        grace: Duration,
        mut hurry: watch::Receiver<Option<Instant>>,
        procs: &Arc<ProcReader>,
    ) -> bool {
        let begun = Instant::now();
        let mut hunt = Hunt::default();
        let mut pause = limits::LOOK_PAUSE_MIN;
        let mut killing = false;
        self.signal_group(Signal::TERM);
        loop {
            let Some(alive) = self.alive(&mut hunt, procs).await else {
                return self.stop_blind(begun, grace, &mut hurry).await;
            };
            if alive.is_empty() {
                return true;
            }
            let kill_at = kill_at(begun, grace, *hurry.borrow());
            let now = Instant::now();
            if now >= kill_at + limits::KILL_WAIT_MAX {
                return false;
            }
            if now >= kill_at && !killing {
                killing = true;
                pause = limits::LOOK_PAUSE_MIN;
            }
            self.strike(&alive, &mut hunt, killing);
            let until_kill = kill_at.saturating_duration_since(now).max(limits::LOOK_PAUSE_MIN);
            tokio::time::sleep(if killing { pause } else { pause.min(until_kill) }).await;
            pause = (pause * 2).min(limits::LOOK_PAUSE_MAX);
        }
    }

    /// Without `/proc` nobody can tell what is left: the grace passes in full.
    async fn stop_blind(
        &self,
        begun: Instant,
        grace: Duration,
        hurry: &mut watch::Receiver<Option<Instant>>,
    ) -> bool {
        tracing::warn!("/proc cannot be read: only the group of a command is stopped");
        loop {
            let kill_at = kill_at(begun, grace, *hurry.borrow_and_update());
            tokio::select! {
                () = tokio::time::sleep_until(kill_at.into()) => break,
                Ok(()) = hurry.changed() => {}
            }
        }
        if let Some(cgroup) = self.cgroup {
            cgroup.kill();
        }
        self.signal_group(Signal::KILL);
        true
    }

    /// KILL to all, or TERM to those that have not had it.
    fn strike(&self, alive: &[Process], hunt: &mut Hunt, killing: bool) {
        if killing {
            if let Some(cgroup) = self.cgroup {
                cgroup.kill();
            }
            self.signal_group(Signal::KILL);
            for process in alive {
                signal(process, Signal::KILL);
            }
            return;
        }
        let main = self.main.as_raw_pid();
        for process in alive {
            // The group had its TERM at once; who has joined it since is new, but hears it from
            // its parent.
            let new = hunt.warned.insert((process.pid, process.started));
            if new && process.group != main {
                signal(process, Signal::TERM);
            }
        }
    }

    fn signal_group(&self, signal: Signal) {
        // An empty group is what this is for.
        let _ = kill_process_group(self.main, signal);
    }

    /// What is left of the tree; `None` if that cannot be seen.
    async fn alive(&self, hunt: &mut Hunt, procs: &Arc<ProcReader>) -> Option<Vec<Process>> {
        let reader = Arc::clone(procs);
        let now = Instant::now();
        let table = tokio::task::spawn_blocking(move || reader.read(now)).await;
        let table = table.ok()?;
        // The main process is not reaped yet: a table without it shows nothing of use.
        table.iter().find(|process| process.pid == self.main.as_raw_pid())?;
        let grouped = self.cgroup.map(Cgroup::members).unwrap_or_default();
        self.gather(hunt, &table, &grouped);
        let left = table
            .iter()
            .filter(|process| !process.zombie)
            .filter(|process| hunt.members.contains(&(process.pid, process.started)));
        Some(left.copied().collect())
    }

    /// Adds to the hunt what belongs to the tree.
    fn gather(&self, hunt: &mut Hunt, table: &[Process], grouped: &BTreeSet<i32>) {
        let main = self.main.as_raw_pid();
        let mut children: BTreeMap<i32, Vec<&Process>> = BTreeMap::new();
        let mut found: Vec<&Process> = Vec::new();
        for process in table {
            children.entry(process.parent).or_default().push(process);
            let tied = process.pid == main
                || process.group == main
                || process.session == main
                || grouped.contains(&process.pid)
                || hunt.members.contains(&(process.pid, process.started));
            if tied || self.is_marked_orphan(process) {
                found.push(process);
            }
        }
        let mut visited = BTreeSet::new();
        while let Some(process) = found.pop() {
            if visited.insert(process.pid) {
                hunt.members.insert((process.pid, process.started));
                found.extend(children.get(&process.pid).into_iter().flatten());
            }
        }
    }

    fn is_marked_orphan(&self, process: &Process) -> bool {
        let inherited = process.parent == getpid().as_raw_pid() || process.parent == 1;
        if !inherited || process.zombie || is_main(process.pid) {
            return false;
        }
        let Ok(environment) = fs::read(format!("/proc/{}/environ", process.pid)) else {
            return false;
        };
        let variables: BTreeSet<&[u8]> = environment.split(|byte| *byte == 0).collect();
        self.marks.iter().all(|mark| variables.contains(mark.as_slice()))
    }
}
