//! A look at all processes of the host, shared by whoever needs one.
//!
//! The kernel offers no list of somebody's descendants that holds on every configuration, so the
//! whole of `/proc` is read: some microseconds a process. When many commands time out together they
//! must not each read it: a look that began after the asker's last signal serves every asker.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// One line of `/proc/<pid>/stat`, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// It has exited and waits to be reaped.
    pub(super) zombie: bool,
    /// Ticks since boot; with `pid` it names a process for ever.
    pub(super) started: u64,
}

#[derive(Default)]
pub(super) struct ProcReader {
    last: Mutex<Option<(Instant, Arc<Vec<Process>>)>>,
}

impl ProcReader {
    /// All processes, as of `not_before` or later. Blocks for some milliseconds.
    pub(super) fn read(&self, not_before: Instant) -> Arc<Vec<Process>> {
        // Held while reading: who comes meanwhile would otherwise read the same again.
        let mut last = self.last.lock().expect("nothing panics while it reads /proc");
        if let Some((at, table)) = &*last
            && *at >= not_before
        {
            return Arc::clone(table);
        }
        let at = Instant::now();
        let table = Arc::new(read_all());
        *last = Some((at, Arc::clone(&table)));
        table
    }
}

fn read_all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(read_one)
        .collect()
}

/// `None` if the process is gone.
pub(super) fn read_one(pid: i32) -> Option<Process> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (name) state ppid pgrp session … starttime`, where the name may hold anything.
fn parse(stat: &[u8]) -> Option<Process> {
    let stat = String::from_utf8_lossy(stat);
    let (pid, _) = stat.split_once(' ')?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some(Process {
        pid: pid.parse().ok()?,
        zombie: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// Signals exactly this process: its number may since have gone to another.
pub(super) fn signal(process: &Process, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid) else {
        return;
    };
    let same = || read_one(process.pid).is_some_and(|found| found.started == process.started);
    let sent = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) if same() => pidfd_send_signal(fd, signal),
        Err(Errno::NOSYS) if same() => kill_process(pid, signal),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    match sent {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => tracing::warn!(pid = process.pid, %error, "a process could not be signalled"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_confuse_the_fields() {
        let line = b"42 (a) b) Z 7 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2\n";
        let expected =
            Process { pid: 42, parent: 7, group: 40, session: 39, zombie: true, started: 98_765 };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(b"42 (a"), None);
    }

    #[test]
    fn this_process_is_in_the_table() {
        let own = i32::try_from(std::process::id()).unwrap();
        let table = ProcReader::default().read(Instant::now());
        assert!(table.iter().any(|process| process.pid == own && !process.zombie));
    }
}
