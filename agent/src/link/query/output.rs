//! What an attempt wrote: while it runs from the executor, afterwards from the history.
//!
//! Between the two there is a gap of milliseconds, in which the attempt has ended and its output is
//! on its way to the disk; and who follows a run may ask before it starts. So what is not there is
//! looked for again, with growing pauses and an end. Both sources keep a head and a tail; a chunk
//! says where it lies in what was written and how much before it was not kept.

use tocktower_core::ids::{Attempt, RunId};
use tocktower_core::run::CapturedStream;
use tocktower_proto::v1;
use tocktower_proto::v1::query_answer::Kind;
use tokio::time::{Instant, sleep};

use super::{Asker, Found, QueryError, parse};
use crate::exec::{LiveOutput, Stream};
use crate::link::limits::{
    CHUNK_BYTES_MAX, LOOK_FOLLOWING, LOOK_PAUSE_MAX, LOOK_PAUSE_MIN, LOOK_WITHIN, OUTPUT_LOOKS_MAX,
};

/// What is asked, checked.
struct Wanted {
    run: RunId,
    /// 0: the newest.
    attempt: u32,
    stream: Stream,
    follow: bool,
    offset: u64,
}

impl Asker {
    pub(super) async fn output(&self, query: v1::OutputQuery) -> Result<(), QueryError> {
        let stream = match v1::OutputStream::try_from(query.stream) {
            Ok(v1::OutputStream::Unspecified | v1::OutputStream::Stdout) => Stream::Stdout,
            Ok(v1::OutputStream::Stderr) => Stream::Stderr,
            Err(error) => return Err(QueryError::Invalid(error.to_string())),
        };
        let v1::OutputQuery { attempt, follow, offset, .. } = query;
        let wanted = Wanted { run: parse(&query.run_id)?, attempt, stream, follow, offset };
        let end = Instant::now() + if follow { LOOK_FOLLOWING } else { LOOK_WITHIN };
        let mut pause = LOOK_PAUSE_MIN;
        let mut known = false;
        loop {
            if let Some(live) = self.shared.ports.live.tail(&wanted.run, attempt, stream) {
                return self.live(&wanted, live).await;
            }
            let found = self.look_up(&wanted.run).await?;
            known |= !found.accounts.is_empty();
            let attempts = attempts(&found, attempt);
            if let Some(kept) = self.stored(&wanted, attempts).await? {
                return self.kept(&wanted, kept).await;
            }
            if Instant::now() >= end || !may_come(&found, &wanted) {
                break;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_PAUSE_MAX);
        }
        if !known {
            return Err(QueryError::NotFound(query.run_id));
        }
        self.send_part(None, true).await;
        Ok(())
    }

    async fn live(&self, wanted: &Wanted, mut live: LiveOutput) -> Result<(), QueryError> {
        if !wanted.follow {
            return self.kept(wanted, live.snapshot()).await;
        }
        let mut at = 0;
        while let Some(chunk) = live.next().await {
            at += chunk.missed;
            self.chunk(wanted, chunk.missed, at, &chunk.bytes).await;
            at += length(&chunk.bytes);
        }
        self.send_part(None, true).await;
        Ok(())
    }

    async fn kept(&self, wanted: &Wanted, kept: CapturedStream) -> Result<(), QueryError> {
        let tail_at = length(&kept.head) + kept.dropped;
        self.chunk(wanted, 0, 0, &kept.head).await;
        self.chunk(wanted, kept.dropped, tail_at, &kept.tail).await;
        self.send_part(None, true).await;
        Ok(())
    }

    /// Sends what of these bytes lies behind the offset asked for; `at` is their place in the
    /// stream, and `missed` bytes before it were not kept.
    async fn chunk(&self, wanted: &Wanted, missed: u64, at: u64, bytes: &[u8]) {
        let skipped = wanted.offset.saturating_sub(at).min(length(bytes));
        let mut offset = at + skipped;
        // Of the hole before, only what lies behind the offset asked for concerns the asker.
        let mut dropped =
            if skipped > 0 { 0 } else { missed.min(at.saturating_sub(wanted.offset)) };
        let skipped = usize::try_from(skipped).expect("no more than there are bytes");
        for data in bytes[skipped..].chunks(CHUNK_BYTES_MAX) {
            let stream = match wanted.stream {
                Stream::Stdout => v1::OutputStream::Stdout,
                Stream::Stderr => v1::OutputStream::Stderr,
            };
            let chunk =
                v1::OutputChunk { stream: stream.into(), offset, data: data.to_vec(), dropped };
            self.send_part(Some(Kind::Output(chunk)), false).await;
            offset += length(data);
            dropped = 0;
        }
    }

    /// The first of these attempts that anything is kept of.
    async fn stored(
        &self,
        wanted: &Wanted,
        attempts: Vec<Attempt>,
    ) -> Result<Option<CapturedStream>, QueryError> {
        let (run, stream) = (wanted.run.clone(), wanted.stream);
        self.read(move |history| {
            for attempt in attempts {
                if let Some(kept) = history.output(&run, attempt, stream)? {
                    return Ok(Some(kept));
                }
            }
            Ok(None)
        })
        .await
    }
}

/// The attempts that are meant. The newest is one number; more than one holder may have used it,
/// and the output lies with whoever ran it.
fn attempts(found: &Found, number: u32) -> Vec<Attempt> {
    let known = || found.accounts.iter().flat_map(|account| &account.attempts);
    let newest = known().map(|attempt| attempt.attempt.number).max();
    let number = if number == 0 { newest } else { Some(number) };
    let meant = known().map(|attempt| attempt.attempt);
    let mut meant: Vec<Attempt> = meant.filter(|attempt| Some(attempt.number) == number).collect();
    meant.sort_by_key(|attempt| std::cmp::Reverse(*attempt));
    meant.dedup();
    meant.truncate(OUTPUT_LOOKS_MAX);
    meant
}

/// Whether it is worth while to look again: the attempt has begun, or its end is on its way to the
/// disk; or somebody waits for one that is yet to begin.
fn may_come(found: &Found, wanted: &Wanted) -> bool {
    if !found.open {
        return found.ending;
    }
    let known = found.accounts.iter().flat_map(|account| &account.attempts);
    let mut meant =
        known.filter(|known| wanted.attempt == 0 || known.attempt.number == wanted.attempt);
    wanted.follow || meant.any(|attempt| attempt.finished_at.is_none())
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length fits 64 bits")
}
