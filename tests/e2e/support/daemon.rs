//! A daemon as a process: started, killed, stopped and started again, and its log.
//!
//! A daemon dies with its value, killed by its own pid, and its log is judged then, so that no test
//! can forget to look.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::logs::{self, Trouble};
use super::{PATIENCE, binaries, until};

pub struct Daemon {
    name: String,
    arguments: Vec<String>,
    log: PathBuf,
    /// Bytes of the log that the earlier lives of this daemon wrote.
    log_before: usize,
    process: Option<Child>,
    troubles: Vec<Trouble>,
}

impl Daemon {
    /// Starts it, without waiting. Its log lies in `folder`.
    pub fn start(name: &str, folder: &Path, arguments: Vec<String>) -> Daemon {
        let log = folder.join(format!("{name}.log"));
        let (troubles, process) = (Vec::new(), None);
        let name = name.to_owned();
        let mut daemon = Daemon { name, arguments, log, log_before: 0, process, troubles };
        daemon.spawn();
        daemon
    }

    /// Starts a daemon that has ended, as it was started before.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "{} is running", self.name);
        self.log_before = self.log().len();
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        let process = Command::new(binaries::tocktower())
            .args(&self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.log.parent().expect("a folder"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        self.process = Some(process);
    }

    /// Waits until it has said `ready`.
    pub async fn ready(&mut self) {
        until(&format!("{} is ready", self.name), PATIENCE, async || {
            if let Some(status) = self.status() {
                panic!("{} ended: {status}\n{}", self.name, self.log());
            }
            let said = self.said().lines().any(|line| line.contains(" ready addresses"));
            if said { Ok(()) } else { Err(self.said()) }
        })
        .await;
    }

    /// kill -9: nothing of it is left, and nobody has been told.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a child can be killed");
            process.wait().expect("a child can be waited for");
        }
    }

    /// SIGSTOP: it is there, and does nothing.
    pub fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).expect("a child can be signalled");
    }

    pub fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).expect("a child can be signalled");
    }

    pub fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).expect("a child can be signalled");
    }

    /// Waits for an end that it comes to by itself.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let name = self.name.clone();
        let what = format!("{name} has ended");
        let status = until(&what, within, async || self.status().ok_or(self.said())).await;
        self.process = None;
        status
    }

    /// Whether it has come to an end by itself.
    pub fn has_ended(&mut self) -> bool {
        let ended = self.status().is_some();
        if ended {
            self.process = None;
        }
        ended
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(|process| process.try_wait().expect("a child can be asked"))
    }

    fn pid(&self) -> Pid {
        let process = self.process.as_ref().expect("it is running");
        i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("a pid")
    }

    /// What it holds in memory, in MiB, and the most that it ever held.
    pub fn memory(&self) -> (u64, u64) {
        let path = format!("/proc/{}/status", self.pid().as_raw_nonzero());
        let status = std::fs::read_to_string(path).expect("a running process has a status");
        let line = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|line| line.split_whitespace().next());
            kib.and_then(|kib| kib.parse::<u64>().ok()).expect("a number of kB") / 1024
        };
        (line("VmRSS:"), line("VmHWM:"))
    }

    /// The trouble it is in by the test's doing, which it may log.
    pub fn expects(&mut self, trouble: Trouble) {
        self.troubles.push(trouble);
    }

    /// What it has logged since its last start.
    pub fn said(&self) -> String {
        self.log().split_off(self.log_before)
    }

    /// What it has logged since its first start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            println!("the log of {} tells:\n{}", self.name, logs::excerpt(&self.log()));
            return;
        }
        let found = logs::unlisted(&self.log(), &self.troubles);
        assert!(found.is_empty(), "{} logged:\n{}", self.name, found.join("\n"));
    }
}

/// A port that nobody listens on. They are counted up below those that the kernel gives to
/// connections, so that nobody takes it before the daemon does, also while a daemon is down.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() % u32::from(COUNT)).expect("less than the count");
    loop {
        let offset = (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", FIRST + offset)).is_ok() {
            return FIRST + offset;
        }
    }
}
