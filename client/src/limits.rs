//! Every bound of the SDK, by name, with its reason.
//!
//! A client that retries without a bound turns a short outage into a long one, and a client that
//! takes messages of any size can be made to run out of memory by one answer. The figures of the
//! server (records, batches, requests) are the server's to check; those here are only what this
//! side needs to do its part.

use std::time::Duration;

/// Tasks that one batch call carries: the server takes 10,000; smaller calls keep each of them well
/// below its limit of bytes, and a lost answer costs less to ask for again.
pub const BATCH_TASKS_MAX: usize = 1_000;
/// Bytes of one batch call: half of what the server takes, as the estimate is of the encoded tasks.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest answer: a page of 1,000 records of 64 KiB, and room for what the server adds.
pub const ANSWER_BYTES_MAX: usize = 72 * 1024 * 1024;
/// Items that one page of a list asks for: the most that the server gives.
pub const PAGE_ITEMS_MAX: u32 = 1_000;

/// How long a connection may take to be made.
pub const CONNECT: Duration = Duration::from_secs(3);
/// First wait before a call is sent again; it doubles up to the longest, with jitter.
pub const RETRY_WAIT_MIN: Duration = Duration::from_millis(50);
/// Longest wait before a call is sent again.
pub const RETRY_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often one call is sent again at most, whatever time is left.
pub const RETRIES_MAX: usize = 20;

/// A connection on which nothing comes is asked for a sign of life after this time, so that a watch
/// on a host that lost its power ends instead of standing still for ever.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the sign of life may take.
pub const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(5);

const _: () = assert!(RETRY_WAIT_MIN.as_millis() < RETRY_WAIT_MAX.as_millis());
const _: () = assert!(BATCH_BYTES_MAX < ANSWER_BYTES_MAX);
