//! How much may be in a message, looked at before it is decoded.
//!
//! A repeated field costs two bytes on the wire and some hundred in memory for each of its items:
//! decoding a request that is well within the bound of bytes could take gigabytes before the first
//! line of a handler. So the fields of each message are counted first, by the schema that
//! reflection serves, without making anything of them. (A smaller bound of bytes would have to be
//! too small for a batch.) What is no protobuf at all is left to the decoder, up to where it
//! stops.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_types::{DescriptorProto, FileDescriptorSet};
use tocktower_core::limits;
use tocktower_proto::FILE_DESCRIPTOR_SET;
use tonic::Status;

use super::status::refused;
use crate::rest::too_large;
use crate::service::{TaskError, batch_fits};

/// Before each message: whether it is compressed, which nobody here accepts, and its length.
const PREFIX_BYTES: usize = 5;
/// As deep as prost goes.
const DEPTH_MAX: usize = 100;
/// What carries more than one task, each of which has a bound of its own.
const BATCH: &str = ".tocktower.v1.BatchCreateRequest";
/// The field of a batch that its tasks are in.
const BATCH_TASKS: u32 = 1;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of_this_program);

/// Refuses a request whose message holds more than it may.
pub async fn bounded(request: Request, next: Next) -> Response {
    let Some(kind) = SCHEMA.inputs.get(request.uri().path()) else {
        return next.run(request).await;
    };
    let (head, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, limits::REQUEST_BYTES_MAX + PREFIX_BYTES).await else {
        return too_large_message().into_http();
    };
    if let Err(error) = messages(&bytes).try_for_each(|message| check(kind, message)) {
        return refused(error).into_http();
    }
    next.run(Request::from_parts(head, Body::from(bytes))).await
}

fn too_large_message() -> Status {
    Status::resource_exhausted(too_large().detail)
}

/// All messages of a body: of one call there should be one, but all of them are decoded.
fn messages(mut body: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (prefix, rest) = body.split_at_checked(PREFIX_BYTES)?;
        let length = u32::from_be_bytes(*prefix.last_chunk()?);
        let (message, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        body = rest;
        Some(message)
    })
}

fn check(kind: &str, message: &[u8]) -> Result<(), TaskError> {
    let too_many = |what: &str, count: usize, max: usize| {
        let message = format!("{what} has {count} fields, at any depth; at most {max} are allowed");
        Err(TaskError::bad("", message))
    };
    let (max, one_max) = (limits::BATCH_FIELDS_MAX, limits::JSON_VALUES_MAX);
    let whole = SCHEMA.count(kind, message, 0);
    if kind != BATCH {
        return if whole > one_max { too_many("the request", whole, one_max) } else { Ok(()) };
    }
    let tasks = || Fields(message).filter(|field| field.number == BATCH_TASKS);
    batch_fits(tasks().count())?;
    let of_task = |field: Field<'_>| SCHEMA.count(SCHEMA.inner(kind, BATCH_TASKS), field.inner, 0);
    let largest = tasks().map(of_task).max().unwrap_or(0);
    match largest > one_max {
        true => too_many("one of the tasks", largest, one_max),
        false if whole > max => too_many("the batch", whole, max),
        false => Ok(()),
    }
}

/// Which fields of which messages are messages themselves.
struct Schema {
    /// The message of each call that takes one, by its path.
    inputs: BTreeMap<String, String>,
    inner: BTreeMap<String, BTreeMap<u32, String>>,
}

impl Schema {
    fn of_this_program() -> Schema {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET);
        let set = set.expect("the descriptors are made by the build");
        let mut schema = Schema { inputs: BTreeMap::new(), inner: BTreeMap::new() };
        for file in &set.file {
            let package = file.package();
            for message in &file.message_type {
                schema.add(&format!(".{package}"), message);
            }
            for service in &file.service {
                for method in service.method.iter().filter(|method| !method.client_streaming()) {
                    let path = format!("/{package}.{}/{}", service.name(), method.name());
                    schema.inputs.insert(path, method.input_type().to_owned());
                }
            }
        }
        schema
    }

    fn add(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for nested in &message.nested_type {
            self.add(&name, nested);
        }
        let messages = message.field.iter().filter(|field| field.type_name.is_some());
        let inner = messages
            .filter_map(|field| Some((field.number().try_into().ok()?, field.type_name().into())));
        self.inner.insert(name, inner.collect());
    }

    /// The message that a field holds; no name if it holds none.
    fn inner(&self, kind: &str, number: u32) -> &str {
        let inner = self.inner.get(kind).and_then(|fields| fields.get(&number));
        inner.map_or("", String::as_str)
    }

    /// The fields of a message and of all messages within it. What cannot be read ends it, as it
    /// ends the decoder.
    fn count(&self, kind: &str, message: &[u8], depth: usize) -> usize {
        if depth > DEPTH_MAX || !self.inner.contains_key(kind) {
            return 0;
        }
        let within = |field: Field<'_>| match field.inner.is_empty() {
            true => 1,
            false => 1 + self.count(self.inner(kind, field.number), field.inner, depth + 1),
        };
        Fields(message).map(within).sum()
    }
}

struct Field<'a> {
    number: u32,
    /// The bytes of a text, of bytes, of packed numbers or of a message.
    inner: &'a [u8],
}

/// The fields of a message, as they lie. A group, which no schema of ours has, counts as its parts.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let (number, wire) = decode_key(&mut self.0).ok()?;
        let bytes = match wire {
            WireType::Varint => {
                decode_varint(&mut self.0).ok()?;
                0
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => decode_varint(&mut self.0).ok()?.try_into().ok()?,
            WireType::StartGroup | WireType::EndGroup => 0,
        };
        let (inner, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(Field { number, inner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tocktower_proto::v1;

    const CREATE: &str = ".tocktower.v1.CreateTaskRequest";

    fn refused(kind: &str, message: &impl Message) -> Option<String> {
        check(kind, &message.encode_to_vec()).err().map(|error| format!("{error:?}"))
    }

    fn of_schedules(count: usize) -> v1::Task {
        v1::Task { schedules: vec![v1::Schedule::default(); count], ..v1::Task::default() }
    }

    #[test]
    fn every_call_of_a_client_is_looked_at_and_no_stream_of_an_agent() {
        let batch = SCHEMA.inputs.get("/tocktower.v1.TaskService/BatchCreate").unwrap();
        assert_eq!(batch, BATCH);
        assert_eq!(SCHEMA.inner(BATCH, BATCH_TASKS), ".tocktower.v1.Task");
        assert_eq!(SCHEMA.inputs.get("/tocktower.v1.AgentLink/Connect"), None);
    }

    #[test]
    fn fields_are_counted_at_every_depth() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let kind = Some(v1::schedule::Kind::Cron(v1::Cron {
            expression: "* * * * *".to_owned(),
            time_zone: "UTC".to_owned(),
            ..v1::Cron::default()
        }));
        let schedules = vec![v1::Schedule { kind }, v1::Schedule::default()];
        let task = v1::Task { labels, schedules, name: "a".to_owned(), ..v1::Task::default() };
        let request = v1::CreateTaskRequest { task: Some(task), ..Default::default() };
        // task; name; labels, key, value; schedules twice, cron, expression, time_zone.
        assert_eq!(SCHEMA.count(CREATE, &request.encode_to_vec(), 0), 10);
    }

    #[test]
    fn a_message_of_many_empty_fields_is_refused() {
        let create = |schedules: usize| v1::CreateTaskRequest {
            task: Some(of_schedules(schedules)),
            ..Default::default()
        };
        assert_eq!(refused(CREATE, &create(99_999)), None);
        assert!(refused(CREATE, &create(100_000)).unwrap().contains("100001 fields"));
    }

    #[test]
    fn a_batch_has_a_bound_of_tasks_of_each_task_and_of_the_whole() {
        let batch = |tasks: usize, each: usize| v1::BatchCreateRequest {
            tasks: vec![of_schedules(each); tasks],
            ..Default::default()
        };
        assert_eq!(refused(BATCH, &batch(10_000, 15)), None);
        assert!(refused(BATCH, &batch(10_001, 0)).unwrap().contains("BatchTooLong"));
        assert!(refused(BATCH, &batch(1, 100_001)).unwrap().contains("one of the tasks"));
        assert!(refused(BATCH, &batch(10_000, 100)).unwrap().contains("the batch has 1010000"));
    }

    #[test]
    fn every_message_of_a_body_is_looked_at_and_what_is_torn_ends_it() {
        let body = [&[0, 0, 0, 0, 1, 7][..], &[0, 0, 0, 0, 0], &[0, 0, 0, 0, 2, 1]].concat();
        let found: Vec<&[u8]> = messages(&body).collect();
        assert_eq!(found, [&[7][..], &[]]);
        // A field of the length 5 that is cut short; a group, in which fields go on.
        assert_eq!(Fields(&[0x0a, 5, 1]).count(), 0);
        assert_eq!(Fields(&[0x0b, 0x0a, 0, 0x0c]).count(), 3);
    }
}
