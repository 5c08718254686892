//! Many creates in one request: `{"tasks": […]}`, or a task a line.
//!
//! Each task is refused or accepted by itself. The JSON form is bounded by the size of a request
//! and by ten thousand tasks. Lines have no such bound: they are taken in pieces, and results go
//! out as they come, so that a file of a million lines needs the memory of some thousand. In both
//! forms a task stays text until its turn comes, since as JSON values all of them together would
//! take thirty times the memory that they were sent in.
//!
//! Of lines the first piece decides the status: if the shared state takes none of it, the answer is
//! a refusal, as it is of a single create. What comes later can only break the response off. That
//! is done when the request breaks off: what was in hand of it is not created, since nobody could
//! be told, and a part must not look like the whole.

use std::io;

use axum::Error as BodyError;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::{Buf, BytesMut};
use futures::{Stream, StreamExt};
use http::{HeaderValue, StatusCode, header};
use tocktower_core::limits;
use tocktower_proto::json::{self, BatchAnswer, BatchItem};

use super::App;
use super::call::{Call, answer, invalid_request};
use super::problem::{Answer, Failure};
use super::shapes;
use super::tasks::spec_of_batch;
use crate::service::{TaskError, Tasks, batch_fits};

/// Lines that are created together.
const PIECE_LINES: usize = 2_000;
/// Bytes of one line: a task has 64 KiB when stored.
const LINE_BYTES_MAX: usize = 1_024 * 1_024;
/// Bytes of lines that are created together.
const PIECE_BYTES: usize = 4 * 1_024 * 1_024;

const _: () = assert!(PIECE_LINES <= limits::BATCH_TASKS_MAX);

/// Creates up to 10,000 tasks, or any number as lines. A response to lines that breaks off says
/// that the request broke off: tasks without a result were not created.
#[utoipa::path(
    post, path = "/v1/tasks/batch", tag = "tasks",
    params(("Idempotency-Key" = Option<String>, Header, description = "Covers the whole batch")),
    request_body(content(
        (json::Batch = "application/json"),
        (String = "application/x-ndjson"),
    )),
    responses(
        (status = 200, body = BatchAnswer, description = "Results in the order of the request"),
        (status = 400, body = json::Problem, description = "`invalid_request`"),
        (status = 413, body = json::Problem), (status = 429, body = json::Problem),
        (status = 503, body = json::Problem,
            description = "`store_unavailable` or `outcome_unknown`, of all tasks"),
    )
)]
pub async fn create(State(app): State<App>, call: Call) -> Answer {
    call.query(&[])?;
    let key = call.idempotency_key()?;
    let media_type = call.media_type().to_ascii_lowercase();
    if matches!(media_type.as_str(), "application/x-ndjson" | "application/ndjson") {
        return lines(app.tasks.clone(), key, call.body()).await;
    }
    let text = call.json_text().await?;
    let batch = json::parse_batch(&text).map_err(invalid_request)?;
    batch_fits(batch.given)?;
    let tasks = batch.tasks.iter().map(|task| Ok(task.get().as_bytes()));
    let results = all(&app.tasks, key.as_deref(), "the task", tasks, 0).await?;
    Ok(answer(StatusCode::OK, &BatchAnswer { results }))
}

/// Creates what can be created; `first` is the index of the first task in the whole request.
async fn all<'a>(
    tasks: &Tasks,
    key: Option<&str>,
    what: &str,
    texts: impl ExactSizeIterator<Item = Result<&'a [u8], TaskError>>,
    first: usize,
) -> Result<Vec<BatchItem>, TaskError> {
    let mut names: Vec<Option<String>> = Vec::with_capacity(texts.len());
    let specs = texts.enumerate().map(|(at, text)| {
        let index = first + at;
        let value = text.and_then(|text| json::parse(what, text).map_err(TaskError::BadRequest));
        let name = value.as_ref().ok().and_then(|value| value.get("name")?.as_str());
        names.push(name.map(str::to_owned));
        (index, value.and_then(|value| spec_of_batch(value, key, index)))
    });
    let results = tasks.create_all(specs, key).await?;
    Ok(names
        .into_iter()
        .zip(results)
        .map(|(name, result)| shapes::batch_item(name, result))
        .collect())
}

/// A piece of the lines of a request.
type Piece = Vec<Result<BytesMut, TaskError>>;

async fn all_lines(
    tasks: &Tasks,
    key: Option<&str>,
    piece: &Piece,
    first: usize,
) -> Result<Vec<BatchItem>, TaskError> {
    let texts = piece.iter().map(|line| line.as_deref().map_err(Clone::clone));
    all(tasks, key, "the line", texts, first).await
}

/// `{"results":[…]}`, written while the lines are read.
async fn lines(tasks: Tasks, key: Option<String>, body: Body) -> Answer {
    let mut reader = Lines::new(body.into_data_stream());
    let broken = |error: BodyError| {
        let message = format!("the request broke off, and nothing was created: {error}");
        Failure::bad("", message)
    };
    let mut piece = reader.piece().await.map_err(broken)?;
    let mut items = all_lines(&tasks, key.as_deref(), &piece, 0).await?;
    let results = async_stream::stream! {
        let mut index = 0;
        yield Ok(Bytes::from_static(b"{\"results\":["));
        while !piece.is_empty() {
            yield Ok(text_of(&items, index == 0));
            index += piece.len();
            piece = match reader.piece().await {
                Ok(piece) => piece,
                // The response breaks off as well, so that nobody takes it for the whole.
                Err(error) => {
                    yield Err(io::Error::other(error));
                    return;
                }
            };
            items = match all_lines(&tasks, key.as_deref(), &piece, index).await {
                Ok(items) => items,
                Err(error) => {
                    let item = |line: &Result<BytesMut, TaskError>| {
                        let name = line.as_ref().ok().and_then(|line| name_in(line));
                        shapes::batch_item(name, Err(error.clone()))
                    };
                    piece.iter().map(item).collect()
                }
            };
        }
        yield Ok(Bytes::from_static(b"]}"));
    };
    let kind = HeaderValue::from_static("application/json");
    let response: Response =
        ([(header::CONTENT_TYPE, kind)], Body::from_stream(results)).into_response();
    Ok(response)
}

/// The name that a line gives its task.
fn name_in(line: &[u8]) -> Option<String> {
    json::parse("the line", line).ok()?.get("name")?.as_str().map(str::to_owned)
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

impl<S: Stream<Item = Result<Bytes, BodyError>> + Unpin> Lines<S> {
    fn new(chunks: S) -> Lines<S> {
        Lines { chunks, rest: BytesMut::new(), ended: false }
    }

    /// The next lines that are not blank; empty at the end. An error: the body broke off.
    async fn piece(&mut self) -> Result<Piece, BodyError> {
        let mut piece = Vec::new();
        let mut bytes = 0;
        while piece.len() < PIECE_LINES && bytes < PIECE_BYTES {
            let Some(line) = self.line().await? else { break };
            let Ok(line) = line else {
                let message = format!("a line is longer than {LINE_BYTES_MAX} bytes");
                piece.push(Err(TaskError::bad("", message)));
                continue;
            };
            bytes += line.len();
            if !line.iter().all(u8::is_ascii_whitespace) {
                piece.push(Ok(line));
            }
        }
        Ok(piece)
    }

    /// The next line; an inner error stands for one that is too long. `None`: the end.
    async fn line(&mut self) -> Result<Option<Result<BytesMut, ()>>, BodyError> {
        let mut seen = 0;
        let mut too_long = false;
        loop {
            let fresh = self.rest.get(seen..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(seen + at);
                self.rest.advance(1);
                return Ok(Some(if too_long { Err(()) } else { Ok(line) }));
            }
            seen = self.rest.len();
            if seen > LINE_BYTES_MAX {
                too_long = true;
                self.rest.clear();
                seen = 0;
            }
            let Some(chunk) = self.chunks.next().await.transpose()? else {
                let last = std::mem::take(&mut self.rest);
                let more = !self.ended && (too_long || !last.is_empty());
                self.ended = true;
                return Ok(more.then_some(if too_long { Err(()) } else { Ok(last) }));
            };
            self.rest.extend_from_slice(&chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(chunks: &[&str]) -> Lines<impl Stream<Item = Result<Bytes, BodyError>> + Unpin> {
        let chunk = |chunk: &&str| Ok(Bytes::copy_from_slice(chunk.as_bytes()));
        let chunks: Vec<Result<Bytes, BodyError>> = chunks.iter().map(chunk).collect();
        Lines::new(futures::stream::iter(chunks))
    }

    async fn read_all(chunks: &[&str]) -> Piece {
        let mut lines = reader(chunks);
        let mut all = Vec::new();
        loop {
            let piece = lines.piece().await.unwrap();
            if piece.is_empty() {
                return all;
            }
            all.extend(piece);
        }
    }

    fn texts(piece: &Piece) -> Vec<&str> {
        let text = |line: &'_ Result<BytesMut, TaskError>| line.is_ok();
        assert!(piece.iter().all(text), "{piece:?}");
        piece.iter().flatten().map(|line| std::str::from_utf8(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn lines_are_cut_wherever_the_network_cut_them() {
        let lines = read_all(&["{\"a\":1}\n{\"a\"", ":2}\n\n", "{\"a\":3}"]).await;
        assert_eq!(texts(&lines), ["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_spoils_no_other() {
        let long = "x".repeat(LINE_BYTES_MAX + 10);
        let lines = read_all(&["{\"a\":1}\n", &long, "\n{\"a\":2}\n"]).await;
        let good: Vec<bool> = lines.iter().map(Result::is_ok).collect();
        assert_eq!(good, [true, false, true]);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_taken_for_the_whole() {
        let broken = || Err(BodyError::new(io::Error::other("reset")));
        let whole_lines = Ok(Bytes::from_static(b"{\"a\":1}\n{\"a\":2"));
        let mut lines = Lines::new(futures::stream::iter([whole_lines, broken()]));
        assert!(lines.piece().await.is_err());
    }
}
