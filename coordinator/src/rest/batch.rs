//! Many creates in one request: `{"tasks": […]}`, or a task a line.
//!
//! Each task is refused or accepted by itself. The JSON form is bounded by the size of a request
//! and by ten thousand tasks. Lines have no such bound: they are taken in pieces, and results go
//! out as they come, so that a file of a million lines needs the memory of some thousand.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::{Buf, BytesMut};
use futures::{Stream, StreamExt};
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use tocktower_core::limits;
use tocktower_proto::json::{self, BatchAnswer, BatchItem};

use super::App;
use super::call::{Call, answer, read};
use super::problem::Answer;
use super::shapes;
use super::tasks::spec_of_batch;
use crate::service::{TaskError, Tasks};

/// Lines that are created together.
const PIECE_LINES: usize = 2_000;
/// Bytes of one line: a task has 64 KiB when stored.
const LINE_BYTES_MAX: usize = 1_024 * 1_024;
/// Bytes of lines that are created together.
const PIECE_BYTES: usize = 4 * 1_024 * 1_024;

const _: () = assert!(PIECE_LINES <= limits::BATCH_TASKS_MAX);

/// Creates up to 10,000 tasks, or any number as lines.
#[utoipa::path(
    post, path = "/v1/tasks/batch", tag = "tasks",
    params(("Idempotency-Key" = Option<String>, Header, description = "Covers the whole batch")),
    request_body(content(
        (json::Batch = "application/json"),
        (String = "application/x-ndjson"),
    )),
    responses(
        (status = 200, body = BatchAnswer, description = "Results in the order of the request"),
        (status = 413, body = json::Problem), (status = 429, body = json::Problem),
    )
)]
pub async fn create(State(app): State<App>, call: Call) -> Answer {
    call.query(&[])?;
    let key = call.idempotency_key()?;
    let media_type = call.media_type().to_ascii_lowercase();
    if matches!(media_type.as_str(), "application/x-ndjson" | "application/ndjson") {
        return Ok(lines(app.tasks, key, call.body()));
    }
    let batch: json::Batch = read(call.json().await?)?;
    let results = all(&app.tasks, key.as_deref(), batch.tasks.into_iter().map(Ok), 0).await?;
    Ok(answer(StatusCode::OK, &BatchAnswer { results }))
}

/// Creates what can be created; `first` is the index of the first task in the whole request.
async fn all(
    tasks: &Tasks,
    key: Option<&str>,
    values: impl Iterator<Item = Result<Value, TaskError>>,
    first: usize,
) -> Result<Vec<BatchItem>, TaskError> {
    let mut names = Vec::new();
    let mut specs = Vec::new();
    for (at, value) in values.enumerate() {
        let index = first + at;
        let name = value.as_ref().ok().and_then(|value| value.get("name")?.as_str());
        names.push(name.map(str::to_owned));
        specs.push((index, value.and_then(|value| spec_of_batch(value, key, index))));
    }
    let results = tasks.create_all(specs, key).await?;
    Ok(names
        .into_iter()
        .zip(results)
        .map(|(name, result)| shapes::batch_item(name, result))
        .collect())
}

/// `{"results":[…]}`, written while the lines are read.
fn lines(tasks: Tasks, key: Option<String>, body: Body) -> Response {
    let results = async_stream::stream! {
        let mut reader = Lines::new(body.into_data_stream().map(|chunk| chunk.ok()));
        let mut index = 0;
        yield Ok::<Bytes, Infallible>(Bytes::from_static(b"{\"results\":["));
        loop {
            let piece = reader.piece().await;
            if piece.is_empty() {
                break;
            }
            let count = piece.len();
            let items = match all(&tasks, key.as_deref(), piece.into_iter(), index).await {
                Ok(items) => items,
                Err(error) => {
                    let item = |_| shapes::batch_item(None, Err(error.clone()));
                    (0..count).map(item).collect()
                }
            };
            yield Ok(text_of(&items, index == 0));
            index += count;
        }
        yield Ok(Bytes::from_static(b"]}"));
    };
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(results)).into_response()
}

fn text_of(items: &[BatchItem], first: bool) -> Bytes {
    let mut text = Vec::new();
    for (at, item) in items.iter().enumerate() {
        if at > 0 || !first {
            text.push(b',');
        }
        // A result is made of strings and numbers, which are always JSON.
        text.extend(serde_json::to_vec(item).unwrap_or_else(|_| b"null".to_vec()));
    }
    Bytes::from(text)
}

/// Cuts a body into lines, and lines into pieces.
struct Lines<S> {
    chunks: S,
    rest: BytesMut,
    ended: bool,
}

impl<S: Stream<Item = Option<Bytes>> + Unpin> Lines<S> {
    fn new(chunks: S) -> Lines<S> {
        Lines { chunks, rest: BytesMut::new(), ended: false }
    }

    /// The next lines that are not blank, each read as JSON; empty at the end.
    async fn piece(&mut self) -> Vec<Result<Value, TaskError>> {
        let mut piece = Vec::new();
        let mut bytes = 0;
        while piece.len() < PIECE_LINES && bytes < PIECE_BYTES {
            let Some(line) = self.line().await else { break };
            let Ok(line) = line else {
                let message = format!("a line is longer than {LINE_BYTES_MAX} bytes");
                piece.push(Err(TaskError::bad("", message)));
                continue;
            };
            bytes += line.len();
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let value = serde_json::from_slice(&line)
                .map_err(|error| TaskError::bad("", format!("the line is no JSON: {error}")));
            piece.push(value);
        }
        piece
    }

    /// The next line; an error stands for one that is too long. `None`: the end.
    async fn line(&mut self) -> Option<Result<BytesMut, ()>> {
        let mut seen = 0;
        let mut too_long = false;
        loop {
            let fresh = self.rest.get(seen..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(seen + at);
                self.rest.advance(1);
                return Some(if too_long { Err(()) } else { Ok(line) });
            }
            seen = self.rest.len();
            if seen > LINE_BYTES_MAX {
                too_long = true;
                self.rest.clear();
                seen = 0;
            }
            match self.chunks.next().await {
                Some(Some(chunk)) => self.rest.extend_from_slice(&chunk),
                // A body that breaks off ends here as well; what came is answered.
                Some(None) | None => {
                    let last = std::mem::take(&mut self.rest);
                    let more = !self.ended && (too_long || !last.is_empty());
                    self.ended = true;
                    return more.then_some(if too_long { Err(()) } else { Ok(last) });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(chunks: &[&str]) -> Vec<Result<Value, TaskError>> {
        let chunks: Vec<Option<Bytes>> =
            chunks.iter().map(|chunk| Some(Bytes::copy_from_slice(chunk.as_bytes()))).collect();
        let mut lines = Lines::new(futures::stream::iter(chunks));
        let mut all = Vec::new();
        loop {
            let piece = lines.piece().await;
            if piece.is_empty() {
                return all;
            }
            all.extend(piece);
        }
    }

    #[tokio::test]
    async fn lines_are_cut_wherever_the_network_cut_them() {
        let values = read_all(&["{\"a\":1}\n{\"a\"", ":2}\n\n", "{\"a\":3}"]).await;
        let numbers: Vec<i64> =
            values.iter().map(|value| value.as_ref().unwrap()["a"].as_i64().unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_line_that_is_no_json_or_too_long_spoils_no_other() {
        let long = "x".repeat(LINE_BYTES_MAX + 10);
        let values = read_all(&["{\"a\":1}\nnope\n", &long, "\n{\"a\":2}\n"]).await;
        let good: Vec<bool> = values.iter().map(Result::is_ok).collect();
        assert_eq!(good, [true, false, false, true]);
    }
}
