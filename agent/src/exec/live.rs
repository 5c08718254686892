//! The output of a run while it goes on: written by its executor, followed by anybody.
//!
//! Followers never hold the writer up: they read from the kept head and tail at their own pace, and
//! are told how much they missed if the program was faster. That is why there is no broadcast
//! channel here, whose buffer would be a second copy of the output for each run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tocktower_core::run::{Captured, CapturedStream};
use tokio::sync::watch;

use super::capture::{Capture, Chunk};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Both streams of one run.
pub(super) struct RunOutput {
    stdout: Mutex<Capture>,
    stderr: Mutex<Capture>,
    /// Its licence was looked at last, and it held: the action goes on.
    begun: AtomicBool,
    /// True once nothing more will come.
    ended: watch::Sender<bool>,
}

impl RunOutput {
    pub(super) fn new(bytes_max: usize) -> RunOutput {
        RunOutput {
            stdout: Mutex::new(Capture::new(bytes_max)),
            stderr: Mutex::new(Capture::new(bytes_max)),
            begun: AtomicBool::new(false),
            ended: watch::Sender::new(false),
        }
    }

    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    pub(super) fn push(&self, stream: Stream, bytes: &[u8]) {
        self.capture(stream).push(bytes);
        // Most runs have no follower; who subscribes later reads before it waits.
        if self.ended.receiver_count() > 0 {
            self.ended.send_modify(|_| {});
        }
    }

    /// Bytes that were written to both streams so far.
    pub(super) fn total(&self) -> u64 {
        self.capture(Stream::Stdout).total() + self.capture(Stream::Stderr).total()
    }

    /// Marks the end and gives what is kept.
    pub(super) fn end(&self) -> Captured {
        self.ended.send_replace(true);
        Captured {
            stdout: self.capture(Stream::Stdout).snapshot(),
            stderr: self.capture(Stream::Stderr).snapshot(),
        }
    }

    fn capture(&self, stream: Stream) -> MutexGuard<'_, Capture> {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
        .lock()
        .expect("nothing panics while it holds a capture")
    }
}

/// A follower of one stream. It outlives the run: after the end it gives the rest, then `None`.
pub struct LiveOutput {
    output: Arc<RunOutput>,
    stream: Stream,
    position: u64,
    ended: watch::Receiver<bool>,
}

impl LiveOutput {
    pub(super) fn new(output: Arc<RunOutput>, stream: Stream) -> LiveOutput {
        let ended = output.ended.subscribe();
        LiveOutput { output, stream, position: 0, ended }
    }

    /// All that is kept now, as the history would keep it.
    pub fn snapshot(&self) -> CapturedStream {
        self.output.capture(self.stream).snapshot()
    }

    /// The next piece, as soon as there is one; `None` after the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Chunk> {
        loop {
            // The flag is read first: what was written before the end is then in the capture.
            let ended = *self.ended.borrow_and_update();
            let chunk = self.output.capture(self.stream).read_from(self.position);
            if !chunk.bytes.is_empty() {
                let length = u64::try_from(chunk.bytes.len()).expect("a length fits 64 bits");
                self.position += chunk.missed + length;
                return Some(chunk);
            }
            if ended || self.ended.changed().await.is_err() {
                return None;
            }
        }
    }
}
