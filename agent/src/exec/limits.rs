//! The bounds of the executors, each with its reason.
//!
//! A run may cost so much memory, so many descriptors, so much time, and no more, whatever its
//! program does. How many runs go on at a time is not here: that is the caller's to decide. What
//! the rest of the system shares is in `tocktower_core::limits`; what must fit each other is
//! checked by the compiler at the end of the file.

use std::time::Duration;

use tocktower_core::limits::{PAYLOAD_BYTES_MAX, RECORD_BYTES_MAX};

/// Commands that are being spawned at a time. A spawn waits for the disk, so it stays off the
/// runtime's own threads; more of them at once only fight over the same page tables.
pub(super) const SPAWNS_MAX: usize = 16;
/// Bytes of one read from a pipe, on the stack.
pub(super) const PIPE_READ_BYTES: usize = 16 * 1024;
/// Reads from one pipe before others have a turn: a program that writes without end starves nobody.
pub(super) const PIPE_READS_PER_TURN: usize = 8;
/// After a command has ended: how long its pipes may be silent before they are given up.
pub(super) const DRAIN_IDLE: Duration = Duration::from_millis(200);
/// After a command has ended: how long its pipes are read at most.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(2);
/// Pipes of ended commands that a process they left behind still writes to, read to nowhere.
pub(super) const LEFT_PIPES_MAX: usize = 256;
/// Time from TERM to KILL once the agent is on its way out. The core allows ends 2 s to be written
/// and settled after its deadline, so trees must be gone well before.
pub(super) const GRACE_LEAVING: Duration = Duration::from_secs(1);
/// How long the agent's end waits for trees that survive that; then it goes without them.
pub(super) const SHUTDOWN_MAX: Duration = Duration::from_secs(3);
/// How long a tree may survive KILL (a process waits in the kernel) before the run ends without it.
pub(super) const KILL_WAIT_MAX: Duration = Duration::from_secs(10);
/// First and longest pause between two looks at a tree that is being stopped.
pub(super) const LOOK_PAUSE_MIN: Duration = Duration::from_millis(2);
pub(super) const LOOK_PAUSE_MAX: Duration = Duration::from_millis(100);
/// How often orphans that have ended are collected, and cgroups that have emptied removed.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Longest string of the kernel's `execve`, less the name of the variable.
pub(super) const EXEC_STRING_BYTES_MAX: usize = 128 * 1024 - 64;
/// Soft limit of open files that is asked for: three a running command, sockets, the store.
pub(super) const OPEN_FILES: u64 = 65_536;

/// A target that takes longer to accept a connection counts as down.
pub(super) const HTTP_CONNECT_MAX: Duration = Duration::from_secs(10);
/// A request of a task without a timeout of its own still ends.
pub(super) const HTTP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3_600);
/// Redirects that are followed.
pub(super) const HTTP_REDIRECTS_MAX: usize = 5;
/// Bytes of an answer that are read; then the connection is closed and the status decides.
pub(super) const HTTP_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Idle connections kept for each target.
pub(super) const HTTP_IDLE_PER_HOST_MAX: usize = 16;

const _: () = assert!(PAYLOAD_BYTES_MAX < EXEC_STRING_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX < EXEC_STRING_BYTES_MAX);
const _: () = assert!(DRAIN_IDLE.as_millis() < DRAIN_MAX.as_millis());
const _: () = assert!(GRACE_LEAVING.as_millis() < SHUTDOWN_MAX.as_millis());
const _: () = assert!(LOOK_PAUSE_MIN.as_millis() < LOOK_PAUSE_MAX.as_millis());
