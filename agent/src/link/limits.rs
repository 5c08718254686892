//! The bounds of the links to coordinators, each with its reason.
//!
//! A coordinator is another machine that may be slow, stuck or wrong, and there are several of
//! them. So whatever one link may cost the agent is written here: memory of events that wait,
//! queries that go on, reads of the disk, time. What must fit each other is checked by the compiler
//! at the end of the file.

use std::time::Duration;

/// Protocols that this agent speaks.
pub(super) const PROTOCOL_MIN: u32 = 1;
pub(super) const PROTOCOL_MAX: u32 = 1;

/// Coordinators that are dialled; more than any fleet has.
pub(super) const COORDINATORS_MAX: usize = 64;
/// How long a connection may take to be made, and the coordinator to say Welcome on it.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(5);
pub(super) const WELCOME_WITHIN: Duration = Duration::from_secs(5);
/// A host that went away without a word is noticed after the sum of these.
pub(super) const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);
pub(super) const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(5);
/// First and longest pause between two dials; up to as much again is added at random, so that a
/// fleet does not come back to a coordinator at one instant.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(100);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A link that lived this long was a good one: the pauses begin anew.
pub(super) const STEADY_AFTER: Duration = Duration::from_secs(10);
/// When told to stop: how long a link may take to send the events that it still has.
pub(super) const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// After that it is cut off.
pub(super) const SHUTDOWN_WITHIN: Duration = Duration::from_secs(2);

/// Messages that are given to the transport and not yet taken by it. Few, so that the answer to a
/// clock probe is not old when it leaves.
pub(super) const UP_MAX: usize = 2;
/// Largest message that is read. What coordinators send is small.
pub(super) const DOWN_BYTES_MAX: usize = 1024 * 1024;
/// How often statistics are sent.
pub(super) const STATS_EVERY: Duration = Duration::from_secs(1);
/// A proof older than this means that writes to the shared state lag (ledger.md, "Beat").
pub(super) const PROOF_LAG_CALM: Duration = Duration::from_secs(1);
/// Lateness beyond a week counts as a week: the histogram grows with the largest value in it.
pub(super) const LATENESS_MAX_US: u64 = 7 * 86_400 * 1_000_000;
/// A measurement that took longer says less than the 500 ms that it is asked about.
pub(super) const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);

/// Run events that wait for one link, and their size; then the oldest are left out.
pub(super) const EVENTS_MAX: usize = 10_000;
pub(super) const EVENTS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Runs of one message, and its size: receivers refuse 4 MiB.
pub(super) const BATCH_RUNS_MAX: usize = 500;
pub(super) const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// How long the first event of a batch waits for others.
pub(super) const BATCH_WITHIN: Duration = Duration::from_millis(50);
/// Filters of one interest; beyond that everything is delivered, which costs less.
pub(super) const FILTERS_MAX: usize = 256;

/// Ends that were told as provisional and are not settled yet, over all links, and their size:
/// three seconds of ten thousand a second, while ledgers follow within two. Then those that have
/// waited longest for a look are let go.
pub(super) const UNSETTLED_MAX: usize = 32_768;
pub(super) const UNSETTLED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Of them so many are looked at in one turn of the agent's loop: half a millisecond of its time.
pub(super) const SETTLE_LOOKS_MAX: usize = 512;
/// Looks at one of them, about one a second. The largest ledger is written once in a minute; what
/// is not settled after ten is let go.
pub(super) const SETTLE_ROUNDS_MAX: u32 = 600;
/// Followers are told of what was let go once in so many rounds: each takes a fresh snapshot then.
pub(super) const UNTOLD_ROUNDS: u32 = 10;

/// Queries of one link that are under way, without those that follow output.
pub(super) const QUERIES_MAX: usize = 32;
/// Followers of output on one link. They stay for as long as a run does, mostly waiting, so that
/// short queries must not have to wait for their places.
pub(super) const FOLLOWERS_MAX: usize = 256;
/// Refusals that wait to be sent; the link is not read on while there are as many.
pub(super) const REFUSALS_MAX: usize = 64;
/// Answers of one link that wait to be sent; their askers wait.
pub(super) const ANSWERS_MAX: usize = 8;
/// Reads of the history at a time, over all links: they share the disk with what runs.
pub(super) const READS_MAX: usize = 4;
/// How long one query may read the history. Coordinators wait two seconds.
pub(super) const READ_WITHIN: Duration = Duration::from_millis(1_500);
/// How long the agent's loop may take to answer.
pub(super) const LOOP_WITHIN: Duration = Duration::from_secs(2);
/// Runs of one page of the history, from the fewest that are worth a seek.
pub(super) const PAGE_RUNS_MIN: usize = 64;
pub(super) const PAGE_RUNS_MAX: usize = 1_000;
/// Runs of one answer, and of one that names no limit.
pub(super) const ANSWER_RUNS_MAX: usize = 10_000;
pub(super) const ANSWER_RUNS_DEFAULT: usize = 100;
/// Runs of one query that names them.
pub(super) const NAMED_RUNS_MAX: usize = 1_000;
/// Data of one chunk of output.
pub(super) const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Attempts of one run whose output is looked for.
pub(super) const OUTPUT_LOOKS_MAX: usize = 16;
/// Output that is about to be stored, or a run that is about to start, is looked for again with
/// pauses from the first to the second of these.
pub(super) const LOOK_PAUSE_MIN: Duration = Duration::from_millis(20);
pub(super) const LOOK_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long in all, if the asker does not follow, and if it does.
pub(super) const LOOK_WITHIN: Duration = Duration::from_secs(1);
pub(super) const LOOK_FOLLOWING: Duration = Duration::from_secs(60);

const _: () = assert!(PROTOCOL_MIN <= PROTOCOL_MAX);
const _: () = assert!(PAUSE_MIN.as_millis() < PAUSE_MAX.as_millis());
const _: () = assert!(LEAVE_WITHIN.as_millis() < SHUTDOWN_WITHIN.as_millis());
const _: () = assert!(BATCH_RUNS_MAX <= EVENTS_MAX);
const _: () = assert!(BATCH_BYTES_MAX < EVENTS_BYTES_MAX);
const _: () = assert!(EVENTS_MAX < UNSETTLED_MAX);
const _: () = assert!(UNSETTLED_BYTES_MAX / UNSETTLED_MAX >= 512);
const _: () = assert!(UNTOLD_ROUNDS < SETTLE_ROUNDS_MAX);
const _: () = assert!(CHUNK_BYTES_MAX < BATCH_BYTES_MAX);
const _: () = assert!(PAGE_RUNS_MIN < PAGE_RUNS_MAX);
const _: () = assert!(ANSWER_RUNS_DEFAULT < ANSWER_RUNS_MAX);
const _: () = assert!(LOOK_WITHIN.as_millis() < LOOK_FOLLOWING.as_millis());
