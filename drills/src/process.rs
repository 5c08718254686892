//! A process of a local drill's fleet: started, killed, stopped, started again, and its log.
//!
//! It dies with its value. Signals go to the pid of a child that has not been waited for, so they
//! cannot hit anybody else.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::Error;

/// Lines of a log that an error shows.
const LINES: usize = 12;

pub struct Process {
    name: String,
    log: PathBuf,
    /// Bytes of the log that its earlier lives wrote.
    log_before: usize,
    child: Option<Child>,
}

impl Process {
    /// One that has not been started; its log lies in `folder`.
    pub fn new(name: &str, folder: &Path) -> Process {
        let log = folder.join(format!("{name}.log"));
        Process { name: name.to_owned(), log, log_before: 0, child: None }
    }

    /// Starts it, without waiting, with a log and without anything of our environment but `PATH`.
    pub fn spawn(&mut self, mut command: Command, path: &str) -> Result<(), Error> {
        let what = || format!("starting {}", self.name);
        self.log_before = self.log().len();
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(Error::io(what()))?;
        let second = log.try_clone().map_err(Error::io(what()))?;
        command.env_clear().env("PATH", path).env("HOME", self.log.parent().unwrap_or(&self.log));
        command.stdin(Stdio::null()).stdout(second).stderr(log);
        self.child = Some(command.spawn().map_err(Error::io(what()))?);
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// kill -9: nothing of it is left, and nobody has been told.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let what = || format!("a signal to {}", self.name);
        let pid = self.pid().ok_or_else(|| Error::Refused(format!("{} is not running", self.name)));
        kill_process(pid?, signal).map_err(|error| Error::io(what())(error.into()))
    }

    pub fn pid(&self) -> Option<Pid> {
        let id = self.child.as_ref()?.id();
        i32::try_from(id).ok().and_then(Pid::from_raw)
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }

    /// An error if it has ended.
    pub fn check(&mut self) -> Result<(), Error> {
        match self.ended() {
            None => Ok(()),
            Some(status) => {
                let lines: Vec<String> = self.log().lines().map(str::to_owned).collect();
                let log = lines[lines.len().saturating_sub(LINES)..].join("\n");
                Err(Error::Ended { name: self.name.clone(), status: status.to_string(), log })
            }
        }
    }

    /// What it has logged since its last start.
    pub fn said(&self) -> String {
        self.log().get(self.log_before..).unwrap_or_default().to_owned()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
