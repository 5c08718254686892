//! What a target learns about the run that calls it.
//!
//! The run's id stays the same over all attempts, which makes it the idempotency key; the fence
//! grows with each change of the holder, so that a target can refuse a holder that was replaced.
//!
//! `traceparent` is computed from the run and its attempt instead of drawn: a repeat after a crash
//! shows up in the same trace, as another span.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tocktower_core::hash::{hash_parts, hash_parts_wide};
use tocktower_core::task::Http;

use super::RequestError;
use crate::exec::{StartRun, fence_texts, instant_text};

/// The task's headers, then those of the run, which win.
pub(super) fn headers(run: &StartRun, http: &Http) -> Result<HeaderMap, RequestError> {
    let mut all = HeaderMap::new();
    for (name, value) in &http.headers {
        insert(&mut all, name, value)?;
    }
    let (fence, epoch) = fence_texts(run.attempt.fence);
    let number = run.attempt.number.to_string();
    insert(&mut all, "Idempotency-Key", &run.run.to_string())?;
    insert(&mut all, "Tocktower-Task", &run.run.task.to_string())?;
    if let Some(instant) = run.instant {
        insert(&mut all, "Tocktower-Instant", &instant_text(instant))?;
    }
    insert(&mut all, "Tocktower-Attempt", &number)?;
    insert(&mut all, "Tocktower-Fence", &fence)?;
    if let Some(epoch) = &epoch {
        insert(&mut all, "Tocktower-Epoch", epoch)?;
    }
    let span = [epoch.as_deref().unwrap_or_default(), &fence, &number];
    insert(&mut all, "traceparent", &traceparent(&run.run.to_string(), span))?;
    Ok(all)
}

fn insert(all: &mut HeaderMap, name: &str, value: &str) -> Result<(), RequestError> {
    let header = HeaderName::from_bytes(name.as_bytes()).ok();
    let value = HeaderValue::from_str(value).ok();
    let (Some(header), Some(value)) = (header, value) else {
        return Err(RequestError::Header { name: name.to_owned() });
    };
    all.insert(header, value);
    Ok(())
}

/// Version 00 of W3C Trace Context, sampled. An id of zeros is not allowed there.
fn traceparent(run: &str, [epoch, fence, number]: [&str; 3]) -> String {
    let trace = hash_parts_wide(&[run.as_bytes()]).max(1);
    let span = hash_parts(&[run, epoch, fence, number].map(str::as_bytes)).max(1);
    format!("00-{trace:032x}-{span:016x}-01")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_of_one_run_share_a_trace_and_not_a_span() {
        let first = traceparent("a/b@1-2", ["", "5", "1"]);
        let second = traceparent("a/b@1-2", ["", "5", "2"]);
        assert_eq!(first, traceparent("a/b@1-2", ["", "5", "1"]));
        assert_eq!(first.len(), 55);
        assert_eq!(first[..36], second[..36]);
        assert_ne!(first[36..], second[36..]);
        assert_ne!(first[..36], traceparent("a/b@1-3", ["", "5", "1"])[..36]);
    }
}
