//! A cgroup for each command, where the host lets the agent make them.
//!
//! A process cannot leave its cgroup by forking or by starting a session, which makes this the one
//! sure way to find a whole tree, and `cgroup.kill` the one that cannot be outrun. It needs cgroup
//! v2 with the agent's own cgroup delegated to it (`Delegate=yes` in a systemd unit, or root): that
//! is found out by trying.
//!
//! The process is moved right after it was spawned. Being born there (`CLONE_INTO_CGROUP`) would
//! close a gap of a millisecond, but `posix_spawn` does not offer it. The move waits for the kernel
//! (a grace period of RCU, 1 to 15 ms), off the runtime's threads and after the command has begun.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

const PREFIX: &str = "tocktower-";

/// The cgroup that holds those of the commands.
pub(super) struct Cgroups {
    folder: PathBuf,
    /// Names the next one. Tickets are the caller's, and may come again.
    next: AtomicU64,
    warned: AtomicBool,
    /// Those that a background process is still in; there are never more than such processes.
    left: Mutex<Vec<PathBuf>>,
}

/// One command's cgroup. Dropping it leaves what runs in it alone.
pub(super) struct Cgroup {
    folder: PathBuf,
    parent: Arc<Cgroups>,
}

impl Cgroups {
    /// `None` where the host has no cgroup v2 or does not delegate it.
    pub(super) fn find() -> Option<Cgroups> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let own = this_process()?;
        remove_stale(&own);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = own.join(format!("{PREFIX}{}-{count}", std::process::id()));
        match probe(&own, &folder) {
            Ok(()) => {
                let (next, left) = (AtomicU64::new(1), Mutex::new(Vec::new()));
                Some(Cgroups { folder, next, warned: AtomicBool::new(false), left })
            }
            Err(error) => {
                tracing::info!(%error, "commands get no cgroup of their own on this host");
                let _ = fs::remove_dir(&folder);
                None
            }
        }
    }

    /// Makes a cgroup and moves a process into it; `None` if that fails, and the command goes on.
    pub(super) fn adopt(self: &Arc<Cgroups>, pid: Pid) -> Option<Cgroup> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.join(number.to_string());
        let made = fs::create_dir(&folder);
        let cgroup = Cgroup { folder, parent: Arc::clone(self) };
        let pid = pid.as_raw_pid().to_string();
        let moved = made.and_then(|()| fs::write(cgroup.folder.join("cgroup.procs"), pid));
        match moved {
            Ok(()) => Some(cgroup),
            // It is so short that it has ended.
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => None,
            Err(error) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "a command has no cgroup of its own; said once");
                }
                None
            }
        }
    }

    /// Removes what has emptied since its command ended.
    pub(super) fn remove_empty(&self) {
        let mut left = self.left.lock().expect("nothing panics while it holds the list");
        left.retain(|folder| !removed(folder));
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.remove_empty();
        let _ = fs::remove_dir(&self.folder);
    }
}

impl Cgroup {
    /// The processes in it, not counting cgroups below.
    pub(super) fn members(&self) -> BTreeSet<i32> {
        let members = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        members.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills everything in it and below.
    pub(super) fn kill(&self) {
        if let Err(error) = fs::write(self.folder.join("cgroup.kill"), "1") {
            tracing::warn!(%error, "a cgroup could not be killed at once");
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if !removed(&self.folder) {
            let folder = std::mem::take(&mut self.folder);
            self.parent.left.lock().expect("nothing panics while it holds the list").push(folder);
        }
    }
}

/// True if the cgroup is gone; a cgroup with a process in it stays.
fn removed(folder: &Path) -> bool {
    match fs::remove_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The folder of the agent's own cgroup.
pub(super) fn this_process() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    own_folder(&mounts, &cgroups)
}

/// Where the cgroup of version 2 that `cgroups` names is mounted.
fn own_folder(mounts: &str, cgroups: &str) -> Option<PathBuf> {
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        if filesystem.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

/// Tries everything that `adopt` and `kill` need, short of moving a process.
fn probe(own: &Path, folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)?;
    // Moving a process needs the right to write to the common ancestor's list as well.
    access(own.join("cgroup.procs"), Access::WRITE_OK)?;
    access(folder.join("cgroup.procs"), Access::WRITE_OK)?;
    access(folder.join("cgroup.kill"), Access::WRITE_OK)?;
    let kind = fs::read_to_string(folder.join("cgroup.type"))?;
    if kind.trim() == "domain" {
        return Ok(());
    }
    Err(io::Error::other(format!("the type of a new cgroup is {:?}", kind.trim())))
}

/// Removes what agents that were killed have left, as far as it is empty.
fn remove_stale(own: &Path) {
    let Ok(entries) = fs::read_dir(own) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        let pid = pid.and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        if pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
            for below in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(below.path());
            }
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mounts: &str, cgroups: &str, folder: Option<&str>) {
        assert_eq!(own_folder(mounts, cgroups).as_deref(), folder.map(Path::new));
    }

    #[test]
    fn the_own_cgroup_is_found_on_pure_and_hybrid_hosts_and_in_containers() {
        let pure = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        check(pure, "0::/system.slice/a.service\n", Some("/sys/fs/cgroup/system.slice/a.service"));
        let hybrid = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n";
        check(hybrid, "1:cpu:/x\n0::/\n", Some("/sys/fs/cgroup/unified"));
        let container = "31 23 0:28 /pod/a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        check(container, "0::/pod/a/b\n", Some("/sys/fs/cgroup/b"));
    }

    #[test]
    fn hosts_without_version_2_have_none() {
        check("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", "1:cpu:/\n", None);
        check("31 23 0:28 /other /sys/fs/cgroup rw - cgroup2 c rw\n", "0::/pod/a\n", None);
    }
}
