//! Every bound of the system, by name, with its reason. Where two must fit each other, the compiler
//! checks it at the end of the file.

use std::time::Duration;

/// Longest name of a namespace, task, pool or agent: two of them still make a short key.
pub const NAME_BYTES_MAX: usize = 128;
/// Largest encoded task record: a thousand of them fit one page of a list.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;
/// Largest request body of the client API.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Creates in one batch call.
pub const BATCH_TASKS_MAX: usize = 10_000;
/// Values in the JSON of one task or call, and fields of one gRPC message: a list of exit codes
/// that fills a record has 65,536, and each costs thirty times the two bytes that it is sent in.
pub const JSON_VALUES_MAX: usize = 100_000;
/// Fields of the message of one gRPC batch, at any depth: a hundred for each of its tasks.
pub const BATCH_FIELDS_MAX: usize = 1_000_000;
/// Mistakes of one task or call that are told; a last entry says how many more there are.
pub const MISTAKES_MAX: usize = 50;
/// Bytes of the path and of the message of one mistake, which repeat what was given.
pub const MISTAKE_BYTES_MAX: usize = 400;
/// Mistakes of all tasks of one batch that are told; beyond them each task is told its first.
pub const BATCH_MISTAKES_MAX: usize = 1_000;
/// Longest trigger payload.
pub const PAYLOAD_BYTES_MAX: usize = 32 * 1024;

/// Schedules of one task.
pub const SCHEDULES_MAX: usize = 64;
/// Labels of one task.
pub const LABELS_MAX: usize = 64;
/// Excluded dates of one task.
pub const EXCLUDED_DATES_MAX: usize = 1_000;
/// `max_runs`: its last instant is found by counting, when the task is written.
pub const RUNS_MAX: u64 = 100_000;
/// Shortest `every`.
pub const EVERY_MIN: Duration = Duration::from_secs(1);
/// Longest duration in a task: 10 years.
pub const DURATION_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);
/// Attempts of one run.
pub const ATTEMPTS_MAX: u32 = 100;

/// Operations of one group commit of creates: etcd refuses more than 128 in one transaction.
pub const COMMIT_CREATES_MAX: usize = 120;
/// Bytes of one transaction: etcd refuses 1.5 MiB.
pub const TXN_BYTES_MAX: usize = 1_000_000;
/// Ranges that share one ledger transaction.
pub const LEDGER_RANGES_MAX: usize = 48;
/// Compares and operations of one range within a ledger transaction.
pub const LEDGER_OPS_MAX: usize = 64;
/// Triggers of one task that wait to run: they are deleted with it in one transaction.
pub const TRIGGERS_WAITING_MAX: usize = 100;
/// Keys of ended one-shots and triggers that one transaction deletes.
pub const DELETES_MAX: usize = 100;
/// Revisions with their times that an agent notes to know which one is old enough to compact to;
/// readings are a minute apart, so three are in use.
pub const COMPACT_NOTES_MAX: usize = 8;
/// Operations etcd allows along the path of nested transactions.
pub const ETCD_OPS_MAX: usize = 128;

/// Entries of one ledger.
pub const LEDGER_ENTRIES_MAX: usize = 4_096;
/// Bytes of one ledger.
pub const LEDGER_BYTES_MAX: usize = 256 * 1024;
/// Entries of one ledger that at-least-once runs may take, so that a final ledger always fits.
pub const LEDGER_ENTRIES_RUNS_MAX: usize = LEDGER_ENTRIES_MAX / 4 * 3;
/// Bytes of one ledger that they may take.
pub const LEDGER_BYTES_RUNS_MAX: usize = LEDGER_BYTES_MAX / 4 * 3;
/// A ledger above this is written every (size / this) seconds.
pub const LEDGER_BYTES_CALM: usize = 4 * 1024;

/// A run that comes due this long before it can start is started as if on time; what is older is a
/// matter of the catch-up policy. It is the promise: within 10 s of its due.
pub const ON_TIME: Duration = Duration::from_secs(10);
/// Wall clock against boot clock: a move beyond this makes the clock unverified.
pub const CLOCK_JUMP: Duration = Duration::from_millis(250);
/// Offset to the coordinators beyond which the clock is unverified.
pub const CLOCK_OFFSET: Duration = Duration::from_millis(500);
/// How long an unverified clock waits for a measurement when there is nobody to ask.
pub const CLOCK_ALONE: Duration = Duration::from_secs(2);
/// Coordinators measure every 2 s: after so long without, there is nobody to ask.
pub const CLOCK_ASKED: Duration = Duration::from_secs(5);
/// A measured offset counts for this long.
pub const CLOCK_MEASURED: Duration = Duration::from_secs(60);
/// An agent whose clock is off gives up what it could not hand over in order within this time.
pub const CLOCK_OFF_WAIT: Duration = Duration::from_secs(5);
/// A store that answers nothing for so long has stalled: the session is given up.
pub const STORE_STALLED: Duration = Duration::from_secs(4);
/// Coordinators whose word on the clock is kept.
pub const COORDINATORS_MEASURING_MAX: usize = 64;

/// How long a holder knows the `request` of a one-shot that has run.
pub const REQUEST_KEPT: Duration = Duration::from_secs(15 * 60);
/// Catch-up starts per second and agent: an outage is made up for without a storm.
pub const CATCH_UP_STARTS_PER_S: u64 = 200;
/// Instants that were not run are counted up to here, then said to be at least that many.
pub const SPAN_COUNT_MAX: u64 = 100_000;
/// How long a span of such instants grows: history is found and forgotten by its first instant.
pub const SPAN_LENGTH_MAX: Duration = Duration::from_secs(3_600);
/// Spans that an agent lets grow: some 5 MB.
pub const SPANS_GROWING_MAX: usize = 50_000;
/// Runs of one task that wait behind another (overlap `queue`).
pub const BEHIND_MAX: usize = 100;
/// Tasks a second that a standby copies: half of what an etcd of two cores lists, so that what
/// starts meanwhile does not wait.
pub const STANDBY_TASKS_PER_S: u64 = 20_000;
/// Tasks of held ranges that are read at the same time: the first of many ranges that are taken
/// over begins to run while others are still read.
pub const SCAN_TASKS_MAX: usize = 4_000;
/// What a range counts for at least, as each is asked for by itself: 16 of the smallest.
pub const SCAN_TASKS_MIN: usize = 250;
/// Entries that become runs in one step of an agent: so many that are due at one instant are
/// decided while the first of them start already, and the store has batches of a size that it
/// writes in some milliseconds.
pub const DECISIONS_MAX: usize = 2_048;
/// Entries that the near wheel holds at most.
pub const NEAR_ENTRIES_MAX: usize = 500_000;
/// Head and tail of each output stream that are kept.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;

// An item of a list takes a byte of a record at least.
const _: () = assert!(JSON_VALUES_MAX > RECORD_BYTES_MAX);
const _: () = assert!(BATCH_FIELDS_MAX > JSON_VALUES_MAX && BATCH_MISTAKES_MAX > MISTAKES_MAX);
const _: () = assert!(COMMIT_CREATES_MAX < ETCD_OPS_MAX);
const _: () = assert!(LEDGER_RANGES_MAX + LEDGER_OPS_MAX <= ETCD_OPS_MAX);
const _: () = assert!(DELETES_MAX < ETCD_OPS_MAX);
const _: () = assert!(TRIGGERS_WAITING_MAX <= DELETES_MAX);
const _: () = assert!(LEDGER_ENTRIES_RUNS_MAX < LEDGER_ENTRIES_MAX);
const _: () = assert!(LEDGER_BYTES_MAX < TXN_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX < TXN_BYTES_MAX);
/// Replaced schedules that a task carries until a ledger covers them.
pub const PRIORS_MAX: usize = 8;
/// Processes in a row that are killed before their first ledger of a range is in etcd, and whose
/// ledgers the next one still knows.
pub const FORMER_NUMBERS_MAX: usize = 16;
/// Entries of replaced schedules in memory whose due is beyond the wheel.
pub const FAR_ENTRIES_MAX: usize = 100_000;
