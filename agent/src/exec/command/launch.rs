//! From a task to a process.
//!
//! Spawning goes through `posix_spawn`, which shares the agent's memory with the child until `exec`
//! instead of copying gigabytes of page tables. The standard library takes that path only if
//! there is nothing to run in the child and the program needs no search along a changed `PATH`: so
//! the program is looked up here, which also makes for a better error than "No such file".
//!
//! Switching user is the exception: supplementary groups can be set only in the child, between
//! `fork` and `exec`. The three calls there are system calls of rustix, which touch no memory of
//! the agent. (Switching a thread of the agent and spawning from it would need no `unsafe`, but the
//! thread, and with it the agent, could be killed by the user it switched to.)
//!
//! Standard input is an anonymous file and not a pipe: nobody has to feed it, and a program that
//! does not read it blocks nobody.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, Stdio};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};
use tocktower_core::task::{Command, Program};
use tocktower_core::time::Wall;

use super::cgroup::{Cgroup, Cgroups};
use super::environment::environment;
use super::pipes::Pipes;
use super::reaper::MainProcess;
use super::user::{self, User};
use crate::exec::live::RunOutput;
use crate::exec::{ExecConfig, StartRun};
use crate::waker::now;

/// Why a command could not be started. `Display` is the reason that its run shows, so it holds the
/// cause, and there is no source besides.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaunchError {
    #[error("the licence to start it has run out")]
    Unlicensed,
    #[error("the command is empty")]
    NoProgram,
    #[error("program {program:?} was not found in PATH {path:?}")]
    NotInPath { program: String, path: String },
    #[error("program {program:?} does not exist")]
    ProgramMissing { program: String },
    #[error("working directory {cwd:?} does not exist")]
    CwdMissing { cwd: String },
    #[error("working directory {cwd:?} is not a directory")]
    CwdNotDirectory { cwd: String },
    #[error("user {user:?} is not in allow_users of this agent")]
    UserNotAllowed { user: String },
    #[error("user {user:?} does not exist on this host")]
    UserUnknown { user: String },
    #[error("the agent does not run as root and cannot switch to user {user:?}")]
    UserNeedsRoot { user: String },
    #[error("{file} could not be read: {cause}")]
    Accounts { file: &'static str, cause: io::Error },
    #[error("could not run {program:?} in {cwd:?} as {user}: {cause}")]
    Refused { program: String, cwd: String, user: String, cause: io::Error },
    #[error("the agent could not prepare the command: {0}")]
    Prepare(io::Error),
    #[error("the agent lost the command while starting it: {0}")]
    Lost(tokio::task::JoinError),
}

impl From<io::Error> for LaunchError {
    fn from(cause: io::Error) -> LaunchError {
        LaunchError::Prepare(cause)
    }
}

/// A process that was started. Dropping it while it runs kills it with its group and its cgroup:
/// the last resort of an agent that has no time left for an orderly end.
pub(super) struct Launched {
    pub(super) child: tokio::process::Child,
    pub(super) pid: Pid,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) started_at: Wall,
    _main: MainProcess,
}

impl Drop for Launched {
    fn drop(&mut self) {
        // Until it is reaped its number, which is that of its group, is nobody else's.
        if self.child.id().is_none() {
            return;
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        // An empty group is what this is for.
        let _ = kill_process_group(self.pid, Signal::KILL);
    }
}

/// Starts the process; blocks until the program is loaded.
pub(super) fn launch(
    run: &StartRun,
    command: &Command,
    config: &ExecConfig,
    output: &Arc<RunOutput>,
    cgroups: Option<&Arc<Cgroups>>,
) -> Result<(Launched, Pipes), LaunchError> {
    let user = match &command.user {
        Some(name) => user::resolve(name, config)?,
        None => None,
    };
    let environment = environment(run, command, config, user.as_ref());
    let cwd = command.cwd.as_deref().unwrap_or("/");
    let path = environment.get("PATH").map_or("", String::as_str);
    let (program, arguments) = split(command, config)?;
    let mut prepared = StdCommand::new(locate(&program, path)?);
    prepared.arg0(&program).args(arguments).env_clear().envs(&environment).process_group(0);
    match &user {
        Some(user) => switch(&mut prepared, user, cwd)?,
        None => {
            prepared.current_dir(cwd);
        }
    }
    let (pipes, stdout, stderr) = Pipes::open(output)?;
    prepared.stdin(standard_input(command)?).stdout(stdout).stderr(stderr);
    let mut prepared = tokio::process::Command::from(prepared);
    prepared.kill_on_drop(true);
    // Preparing may have waited for the disk, and the process may have been stopped meanwhile.
    let begun = now();
    if run.until <= begun.mono {
        return Err(LaunchError::Unlicensed);
    }
    let started_at = begun.wall;
    let child = prepared.spawn().map_err(|error| {
        let user = user.as_ref().map_or("the agent's own user", |user| &user.name);
        explain(error, &program, cwd, user)
    })?;
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let pid = pid.expect("a child that nobody waited for has a positive number");
    let main = MainProcess::new(pid);
    let cgroup = cgroups.and_then(|cgroups| cgroups.adopt(pid));
    Ok((Launched { child, pid, cgroup, started_at, _main: main }, pipes))
}

fn split(command: &Command, config: &ExecConfig) -> Result<(String, Vec<String>), LaunchError> {
    match &command.program {
        Program::Shell(line) => Ok((config.shell.clone(), vec!["-c".to_owned(), line.clone()])),
        Program::Argv(argv) => match argv.split_first() {
            Some((program, arguments)) if !program.is_empty() => {
                Ok((program.clone(), arguments.to_vec()))
            }
            _ => Err(LaunchError::NoProgram),
        },
    }
}

/// The file of a program: a name with a slash as it stands, else the first along `path`.
fn locate(program: &str, path: &str) -> Result<PathBuf, LaunchError> {
    if program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    let executable = |file: &PathBuf| {
        fs::metadata(file)
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    // Only absolute folders count: a relative one would mean the agent's own working directory.
    path.split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join(program))
        .find(executable)
        .ok_or_else(|| LaunchError::NotInPath {
            program: program.to_owned(),
            path: path.to_owned(),
        })
}

fn standard_input(command: &Command) -> Result<Stdio, LaunchError> {
    let Some(text) = &command.stdin else {
        return Ok(Stdio::null());
    };
    let file = memfd_create("stdin", MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
    let mut file = fs::File::from(file);
    io::Write::write_all(&mut file, text.as_bytes())?;
    io::Seek::rewind(&mut file)?;
    Ok(Stdio::from(file))
}

/// Makes the child become `user` before it loads its program.
fn switch(prepared: &mut StdCommand, user: &User, cwd: &str) -> Result<(), LaunchError> {
    let cwd = CString::new(cwd).map_err(io::Error::from)?;
    let (uid, gid, groups) = (user.uid, user.gid, user.groups.clone());
    let switch = move || -> io::Result<()> {
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        rustix::process::chdir(&cwd)?;
        Ok(())
    };
    #[expect(unsafe_code, reason = "supplementary groups can be set only between fork and exec")]
    // SAFETY: the closure makes four system calls on memory that was allocated before the fork; it
    // neither allocates nor takes a lock.
    unsafe {
        prepared.pre_exec(switch);
    }
    Ok(())
}

/// `exec` says "No such file" for the program and for the working directory alike.
fn explain(cause: io::Error, program: &str, cwd: &str, user: &str) -> LaunchError {
    match fs::metadata(cwd) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return LaunchError::CwdMissing { cwd: cwd.to_owned() };
        }
        Ok(data) if !data.is_dir() => {
            return LaunchError::CwdNotDirectory { cwd: cwd.to_owned() };
        }
        _ => {}
    }
    // A script whose interpreter is missing gives the same error, though the script is there.
    let missing = cause.kind() == io::ErrorKind::NotFound && !Path::new(cwd).join(program).exists();
    if missing {
        return LaunchError::ProgramMissing { program: program.to_owned() };
    }
    let (program, cwd, user) = (program.to_owned(), cwd.to_owned(), user.to_owned());
    LaunchError::Refused { program, cwd, user, cause }
}
