//! Every bound and figure of the drills, by name, with its reason.

use std::time::Duration;

/// The promise: no run starts later than this after its due, whatever the single fault.
pub const LATEST: Duration = Duration::from_secs(10);
/// What a planned move may make something late by.
pub const PLANNED_LATEST: Duration = Duration::from_millis(50);
/// Runs that start later than this after their due are told as late. In calm they start within
/// milliseconds; a machine that carries a whole fleet takes its time now and then.
pub const ON_TIME: Duration = Duration::from_secs(1);
/// What ended this long before its holder went away may still be repeated: ledgers are written
/// once a second, and their answer takes a moment more on a loaded machine.
pub const UNSETTLED: Duration = Duration::from_secs(3);
/// After a process that was stopped goes on, or a link is mended: until what was on its way then
/// has arrived.
pub const AFTERMATH: Duration = Duration::from_secs(5);

/// Instants a second of a drill's load, unless it is told otherwise.
pub const RUNS_PER_SECOND: u32 = 200;
/// The most that can be asked for: a drill shows what a fault does, not what a fleet can carry.
pub const RUNS_PER_SECOND_MAX: u32 = 2_000;
/// From the create of the load to its first instant.
pub const AHEAD: Duration = Duration::from_secs(5);

/// The fleet of a local drill.
pub const ETCD_MEMBERS: usize = 3;
pub const COORDINATORS: usize = 2;
pub const AGENTS: usize = 4;

/// How long a daemon may take to start, or to end when it is asked to.
pub const DAEMON: Duration = Duration::from_secs(30);
/// How long a fleet may take until each range is held and each agent has its share.
pub const WHOLE: Duration = Duration::from_secs(60);
/// How long a drain may take.
pub const DRAIN: Duration = Duration::from_secs(60);
/// After the last instant: until every run has ended, is settled and told.
pub const SETTLED: Duration = Duration::from_secs(45);
/// Between two looks at who holds what, and between two writes that are tried.
pub const LOOK: Duration = Duration::from_millis(100);
/// Between two looks while a condition is waited for.
pub const POLL: Duration = Duration::from_millis(50);
/// The task that is written to see whether writes are taken has no instant for so long.
pub const PROBE: Duration = Duration::from_secs(86_400);
/// One attempt of a call: a coordinator that was cut off must not hold up the drill.
pub const CALL: Duration = Duration::from_secs(2);
/// What `etcd-slow-disk` adds to each sync of etcd's files.
pub const SLOW_SYNC: Duration = Duration::from_millis(200);
/// Deletes of a load that are under way at once.
pub const DELETES: usize = 32;
/// Bytes of a request to the witness: what an agent sends has a few hundred.
pub const WITNESS_REQUEST_MAX: u64 = 16 * 1024;
/// Examples that a report gives of each thing that broke.
pub const EXAMPLES: usize = 5;
