//! Orphans. A background process whose parent has exited goes to the nearest ancestor that asked
//! for it; the agent asks, so that it can find such processes when it stops a tree, and must then
//! collect them when they end.
//!
//! Waiting for "any child" would snatch exits from whoever started a child and waits for it. So
//! only a child that has ended, is no command's main process, and was there at two looks a second
//! apart is collected: who waits for a child takes milliseconds.
//!
//! Children belong to the process, not to a value in it: hence the one static of this crate.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, Once};
use std::time::Instant;

use rustix::process::{
    Pid, Resource, Rlimit, WaitId, WaitIdOptions, WaitOptions, getpid, getrlimit,
    set_child_subreaper, setrlimit, waitid, waitpid,
};

use super::cgroup::Cgroups;
use super::proc_table::{ProcReader, Process};
use crate::exec::limits;

static MAIN_PROCESSES: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Marks a command's main process, whose exit is waited for by its executor.
pub(super) struct MainProcess(i32);

impl MainProcess {
    pub(super) fn new(pid: Pid) -> MainProcess {
        let pid = pid.as_raw_pid();
        main_processes().insert(pid);
        MainProcess(pid)
    }
}

impl Drop for MainProcess {
    fn drop(&mut self) {
        main_processes().remove(&self.0);
    }
}

pub(super) fn is_main(pid: i32) -> bool {
    main_processes().contains(&pid)
}

fn main_processes() -> MutexGuard<'static, BTreeSet<i32>> {
    MAIN_PROCESSES.lock().expect("nothing panics while it holds the main processes")
}

/// What has to be true of the whole process, once.
pub(super) fn prepare_process() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = set_child_subreaper(Some(getpid())) {
            tracing::warn!(%error, "orphans of commands cannot be followed");
        }
        let files = getrlimit(Resource::Nofile);
        let wanted = files.maximum.unwrap_or(u64::MAX).min(limits::OPEN_FILES);
        if files.current.is_some_and(|current| current < wanted) {
            let raised = Rlimit { current: Some(wanted), maximum: files.maximum };
            if let Err(error) = setrlimit(Resource::Nofile, raised) {
                tracing::warn!(%error, "the limit of open files stays as it is");
            }
        }
    });
}

/// Collects orphans and removes empty cgroups, until it is aborted.
pub(super) async fn sweep(procs: Arc<ProcReader>, cgroups: Option<Arc<Cgroups>>) {
    let mut seen = BTreeSet::new();
    loop {
        tokio::time::sleep(limits::SWEEP_EVERY).await;
        if let Some(cgroups) = &cgroups {
            cgroups.remove_empty();
        }
        if !some_child_ended() {
            seen.clear();
            continue;
        }
        let procs = Arc::clone(&procs);
        let look = tokio::task::spawn_blocking(move || ended_orphans(&procs.read(Instant::now())));
        let Ok(ended) = look.await else { return };
        for pid in ended.intersection(&seen).filter_map(|pid| Pid::from_raw(*pid)) {
            // Gone already is as good.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
        seen = ended;
    }
}

fn some_child_ended() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::All, options), Ok(Some(_)))
}

fn ended_orphans(table: &[Process]) -> BTreeSet<i32> {
    let own = getpid().as_raw_pid();
    let mains = main_processes();
    table
        .iter()
        .filter(|process| process.zombie && process.parent == own)
        .map(|process| process.pid)
        .filter(|pid| !mains.contains(pid))
        .collect()
}
