//! One request, taken apart: path, query, headers, body.
//!
//! axum's own extractors refuse in plain text and accept what they do not know. Here everything
//! that is wrong is a problem with the name of the part that is wrong, and a parameter that does
//! not exist is refused by name, as an unknown field is: `?lable=x` must not list everything.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Query as AxumQuery, RawPathParams, Request};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tocktower_core::ids::{AgentName, Name, NameError, Namespace, Revision, TaskName};
use tocktower_core::limits;
use tocktower_core::task::FieldError;
use tocktower_core::time::Instant;
use tocktower_proto::json;

use super::problem::Failure;
use crate::service::{Code, Expected};

/// Longest `Idempotency-Key`.
const KEY_BYTES_MAX: usize = 256;
/// A body that is too large is read up to here before the answer.
const DISCARDED_BYTES_MAX: usize = 4 * limits::REQUEST_BYTES_MAX;

pub struct Call {
    path: BTreeMap<String, String>,
    query: Vec<(String, String)>,
    pub headers: HeaderMap,
    body: Body,
}

impl<S: Send + Sync> FromRequest<S> for Call {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Call, Failure> {
        use axum::extract::FromRequestParts;
        let (mut parts, body) = request.into_parts();
        let path = RawPathParams::from_request_parts(&mut parts, state).await;
        let path = path.map_err(|error| Failure::bad("path", error.body_text()))?;
        let path = path.iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        let query = AxumQuery::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let AxumQuery(query) = query.map_err(|error| Failure::bad("query", error.body_text()))?;
        Ok(Call { path, query, headers: parts.headers, body })
    }
}

impl Call {
    /// A part of the path.
    pub fn part(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    pub fn namespace(&self) -> Result<Namespace, Failure> {
        Namespace::parse(self.part("namespace")).map_err(|error| wrong_name("namespace", &error))
    }

    pub fn task(&self) -> Result<TaskName, Failure> {
        let name = Name::parse(self.part("name")).map_err(|error| wrong_name("name", &error))?;
        Ok(TaskName { namespace: self.namespace()?, name })
    }

    /// `<ns>/<name>@<run>` of the path; `<run>` may be given as the whole id.
    pub fn run_id(&self) -> Result<String, Failure> {
        let (task, run) = (self.task()?, self.part("run"));
        let whole = format!("{task}@");
        let run = run.strip_prefix(&whole).unwrap_or(run);
        Ok(format!("{whole}{run}"))
    }

    /// The parameters, if there are none but `allowed`.
    pub fn query(&self, allowed: &[&str]) -> Result<Query<'_>, Failure> {
        let unknown = self.query.iter().find(|(name, _)| !allowed.contains(&name.as_str()));
        if let Some((name, _)) = unknown {
            let message = match allowed.is_empty() {
                true => "is no parameter of this call, which takes none".to_owned(),
                false => format!("is no parameter of this call: it takes {}", allowed.join(", ")),
            };
            return Err(Failure::bad(name, message));
        }
        Ok(Query { pairs: &self.query })
    }

    fn header(&self, name: &HeaderName) -> Result<Option<&str>, Failure> {
        let Some(value) = self.headers.get(name) else { return Ok(None) };
        let text = value.to_str();
        text.map(Some).map_err(|_| Failure::bad(name.as_str(), "must be visible ASCII characters"))
    }

    pub fn idempotency_key(&self) -> Result<Option<String>, Failure> {
        let name = HeaderName::from_static("idempotency-key");
        let key = self.header(&name)?.map(str::trim);
        match key {
            Some(key) if key.is_empty() || key.len() > KEY_BYTES_MAX => {
                let message = format!("{} bytes; allowed are 1 to {KEY_BYTES_MAX}", key.len());
                Err(Failure::bad("Idempotency-Key", message))
            }
            key => Ok(key.map(str::to_owned)),
        }
    }

    /// What must be there for a PUT, by `If-Match` and `If-None-Match`.
    pub fn expected(&self) -> Result<Expected, Failure> {
        let none = self.header(&header::IF_NONE_MATCH)?.map(str::trim);
        let some = self.header(&header::IF_MATCH)?.map(str::trim);
        match (none, some) {
            (None, None) => Ok(Expected::Anything),
            (None, Some("*")) => Ok(Expected::Something),
            (None, Some(_)) => Ok(self.if_match()?.map_or(Expected::Something, Expected::Revision)),
            (Some("*"), None) => Ok(Expected::Nothing),
            (Some("*"), Some(_)) => {
                Err(Failure::bad("If-None-Match", "is at odds with If-Match; give one of them"))
            }
            (Some(text), _) => {
                let message = format!("{text:?}; with this method allowed is *");
                Err(Failure::bad("If-None-Match", message))
            }
        }
    }

    /// `If-Match`: the revision that must be there. `*` asks for what must be there anyway.
    pub fn if_match(&self) -> Result<Option<Revision>, Failure> {
        match self.header(&header::IF_MATCH)?.map(str::trim) {
            None | Some("*") => Ok(None),
            Some(text) => match bare(text).parse() {
                Ok(revision) => Ok(Some(Revision(revision))),
                Err(_) => Err(Failure::bad(
                    "If-Match",
                    format!("{text:?} is no revision: give the ETag of the task, or its revision"),
                )),
            },
        }
    }

    /// Whether the client has this revision already.
    pub fn has(&self, revision: i64) -> bool {
        let known = self.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        let revision = revision.to_string();
        known.is_some_and(|known| {
            known.split(',').any(|one| one.trim() == "*" || bare(one.trim()) == revision)
        })
    }

    pub fn media_type(&self) -> &str {
        let value = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        value.and_then(|value| value.split(';').next()).unwrap_or("").trim()
    }

    /// The body as it comes.
    pub fn body(self) -> Body {
        self.body
    }

    /// The body as JSON.
    pub async fn json(self) -> Result<Value, Failure> {
        parse("the body", &self.json_text().await?)
    }

    /// The body, if it says that it is JSON.
    pub async fn json_text(self) -> Result<Vec<u8>, Failure> {
        self.json_media_type()?;
        let bytes = self.bytes().await?;
        match bytes.is_empty() {
            true => Err(Failure::bad("", "the body is empty; send a JSON object")),
            false => Ok(bytes),
        }
    }

    /// As [`Call::json`]; an empty body stands for an empty object.
    pub async fn json_or_nothing(self) -> Result<Value, Failure> {
        let good = self.json_media_type();
        let bytes = self.bytes().await?;
        if bytes.is_empty() {
            return Ok(Value::Object(Default::default()));
        }
        good?;
        parse("the body", &bytes)
    }

    /// A call without a body: it may be empty or an empty object.
    pub async fn nothing(self) -> Result<(), Failure> {
        let Nothing {} = read(self.json_or_nothing().await?)?;
        Ok(())
    }

    fn json_media_type(&self) -> Result<(), Failure> {
        let media_type = self.media_type().to_ascii_lowercase();
        let good = media_type.is_empty()
            || media_type == "application/json"
            || media_type.ends_with("+json")
            // What curl says when it is not told.
            || media_type == "application/x-www-form-urlencoded";
        if !good {
            let detail = format!("the body is {media_type:?}; send application/json");
            return Err(Failure::new(Code::UnsupportedMediaType, detail));
        }
        Ok(())
    }

    async fn bytes(self) -> Result<Vec<u8>, Failure> {
        let told = self.headers.get(header::CONTENT_LENGTH);
        let told: Option<usize> = told.and_then(|t| t.to_str().ok()).and_then(|t| t.parse().ok());
        let mut bytes = Vec::with_capacity(told.unwrap_or(0).min(limits::REQUEST_BYTES_MAX));
        let mut seen = 0;
        let mut chunks = self.body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk: Bytes = chunk
                .map_err(|error| Failure::bad("", format!("the body cannot be read: {error}")))?;
            seen += chunk.len();
            if seen > DISCARDED_BYTES_MAX {
                break;
            }
            // What is too much is read and thrown away: a client that is still sending would find
            // its connection reset, and never see why.
            if seen <= limits::REQUEST_BYTES_MAX {
                bytes.extend_from_slice(&chunk);
            }
        }
        if seen > limits::REQUEST_BYTES_MAX {
            return Err(too_large());
        }
        Ok(bytes)
    }
}

pub fn too_large() -> Failure {
    let mib = limits::REQUEST_BYTES_MAX / 1_024 / 1_024;
    Failure::new(Code::TooLarge, format!("the request is larger than {mib} MiB; split it"))
}

/// What a call takes that takes nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// JSON in which no field is there twice.
pub fn parse(what: &str, bytes: &[u8]) -> Result<Value, Failure> {
    json::parse(what, bytes).map_err(invalid_request)
}

/// A body of a fixed shape, with all its mistakes.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    match json::read(value) {
        (Some(read), errors) if errors.is_empty() => Ok(read),
        (_, errors) => Err(invalid_request(errors)),
    }
}

/// The mistakes of a body that is no task.
pub fn invalid_request(errors: Vec<FieldError>) -> Failure {
    Failure { errors, ..Failure::new(Code::InvalidRequest, "the request is not valid") }
}

fn wrong_name(path: &str, error: &NameError) -> Failure {
    Failure::bad(path, error.to_string())
}

/// An ETag without its quotes and its `W/`.
fn bare(text: &str) -> &str {
    text.strip_prefix("W/").unwrap_or(text).trim_matches('"')
}

/// The parameters of a call.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    pairs: &'a [(String, String)],
}

impl<'a> Query<'a> {
    /// All values of a parameter; a list may come as several or with commas.
    pub fn all(&self, name: &str) -> Vec<&'a str> {
        let of_it = self.pairs.iter().filter(|(known, _)| known == name);
        of_it.flat_map(|(_, value)| value.split(',')).filter(|value| !value.is_empty()).collect()
    }

    /// A parameter that may be given once; empty is left out.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, Failure> {
        let mut values = self.pairs.iter().filter(|(known, _)| known == name);
        let first = values.next();
        if values.next().is_some() {
            return Err(Failure::bad(name, "is given more than once"));
        }
        Ok(first.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty()))
    }

    pub fn read<T: FromStr>(&self, name: &str, allowed: &str) -> Result<Option<T>, Failure> {
        let read = |text: &str| {
            let wrong = |_| Failure::bad(name, format!("{text:?}; allowed is {allowed}"));
            text.parse().map_err(wrong)
        };
        self.text(name)?.map(read).transpose()
    }

    pub fn flag(&self, name: &str) -> Result<bool, Failure> {
        Ok(self.read(name, "true or false")?.unwrap_or(false))
    }

    /// A number of things from 1 to `max`.
    pub fn count(&self, name: &str, default: usize, max: usize) -> Result<usize, Failure> {
        let allowed = format!("1 to {max}");
        let count = self.read(name, &allowed)?.unwrap_or(default);
        match (1..=max).contains(&count) {
            true => Ok(count),
            false => Err(Failure::bad(name, format!("{count}; allowed is {allowed}"))),
        }
    }

    pub fn instant(&self, name: &str) -> Result<Option<Instant>, Failure> {
        let read = |text| json::parse_instant(text).map_err(|error| Failure::bad(name, error));
        self.text(name)?.map(read).transpose()
    }

    pub fn agent(&self, name: &str) -> Result<Option<AgentName>, Failure> {
        let read = |text: &str| {
            AgentName::parse(text).map_err(|error| Failure::bad(name, error.to_string()))
        };
        self.text(name)?.map(read).transpose()
    }

    pub fn duration(&self, name: &str) -> Result<Option<Duration>, Failure> {
        let read = |text| json::parse_duration(text).map_err(|error| Failure::bad(name, error));
        self.text(name)?.map(read).transpose()
    }

    /// `label=key=value`, several of them or with commas.
    pub fn labels(&self) -> Result<BTreeMap<String, String>, Failure> {
        labels("label", self.all("label"))
    }
}

/// `key=value` pairs.
pub fn labels(path: &str, given: Vec<&str>) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &str| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(Failure::bad(path, format!("{text:?} is no label: write key=value"))),
    };
    given.into_iter().map(pair).collect()
}

/// An answer in JSON.
pub fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let bytes = match serde_json::to_vec(body) {
        Ok(bytes) => bytes,
        Err(error) => return Failure::new(Code::Internal, error.to_string()).into_response(),
    };
    let kind = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, kind)], bytes).into_response()
}

/// An answer with the revision of a task as its ETag.
pub fn tagged(mut response: Response, revision: i64) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// The mistakes of a task that was sent.
pub fn invalid_task(errors: Vec<FieldError>) -> Failure {
    Failure { errors, ..Failure::new(Code::InvalidTask, "the task is not valid") }
}
