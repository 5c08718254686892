//! Small values between protobuf and core: times, names, limits, states.
//!
//! Protobuf has no "left out" for text and numbers, so empty and zero stand for it, and each place
//! where that is so reads through a function here. Times are rounded as they are in JSON: an
//! instant up to the millisecond, since nothing may start before it was asked for. What is wrong is
//! refused with the name of the field, as everywhere.

use std::time::Duration;

use prost_types::Timestamp;
use tocktower_core::ids::{AgentName, Name, NameError, Namespace, Revision, TaskName};
use tocktower_core::time::{Instant, Wall};
use tocktower_proto::convert::{run_proto, run_state_from_proto, task_proto};
use tocktower_proto::v1;
use tonic::Status;

use super::status::bad;
use crate::service::{PAGE_DEFAULT, PAGE_MAX, Shown, Upcoming, Warning};

/// The namespace that means all of them.
const ALL_NAMESPACES: &str = "-";
const MICROS_PER_SECOND: i64 = 1_000_000;

pub fn timestamp(wall: Wall) -> Timestamp {
    let micros = wall.micros();
    let nanos = i32::try_from(micros.rem_euclid(MICROS_PER_SECOND) * 1_000);
    let seconds = micros.div_euclid(MICROS_PER_SECOND);
    Timestamp { seconds, nanos: nanos.expect("below a thousand million") }
}

/// Rounded up to the millisecond, as an instant in JSON is.
pub fn instant(given: &Option<Timestamp>, path: &str) -> Result<Option<Instant>, Status> {
    let Some(time) = given else { return Ok(None) };
    let ms = time.seconds.checked_mul(1_000).and_then(|ms| {
        ms.checked_add(i64::from(time.nanos).div_euclid(1_000_000))
            .map(|ms| ms + i64::from(i64::from(time.nanos).rem_euclid(1_000_000) > 0))
    });
    let read = ms.map(Instant::from_millis).filter(|read| Some(read.millis()) == ms);
    read.map(Some).ok_or_else(|| bad(path, "the time is out of range: allowed is 1970 to 9999"))
}

pub fn span(given: &Option<prost_types::Duration>, path: &str) -> Result<Option<Duration>, Status> {
    let read = |span: &prost_types::Duration| Duration::try_from(*span);
    let read = given.as_ref().map(read).transpose();
    read.map_err(|_| bad(path, "the duration is negative or out of range"))
}

pub fn proto_span(span: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(span.subsec_nanos()).expect("below a thousand million");
    prost_types::Duration { seconds, nanos }
}

fn wrong(path: &'static str) -> impl Fn(NameError) -> Status {
    move |error| bad(path, error.to_string())
}

/// Empty: `default`.
pub fn task_name(namespace: &str, name: &str) -> Result<TaskName, Status> {
    let namespace = if namespace.is_empty() { "default" } else { namespace };
    Ok(TaskName {
        namespace: Namespace::parse(namespace).map_err(wrong("namespace"))?,
        name: Name::parse(name).map_err(wrong("name"))?,
    })
}

/// Empty: none.
pub fn agent_name(text: &str, field: &'static str) -> Result<Option<AgentName>, Status> {
    let given = Some(text).filter(|text| !text.is_empty());
    given.map(|text| AgentName::parse(text).map_err(wrong(field))).transpose()
}

/// `-` and empty mean all.
pub fn any_namespace(text: &str) -> Result<Option<Namespace>, Status> {
    match text {
        "" | ALL_NAMESPACES => Ok(None),
        text => Namespace::parse(text).map(Some).map_err(wrong("namespace")),
    }
}

pub fn any_name(text: &str) -> Result<Option<Name>, Status> {
    match text {
        "" => Ok(None),
        text => Name::parse(text).map(Some).map_err(wrong("task")),
    }
}

pub fn limit(given: u32) -> Result<usize, Status> {
    match usize::try_from(given).unwrap_or(usize::MAX) {
        0 => Ok(PAGE_DEFAULT),
        limit if limit <= PAGE_MAX => Ok(limit),
        limit => Err(bad("limit", format!("{limit}; allowed is 1 to {PAGE_MAX}"))),
    }
}

/// Empty: left out.
pub fn text(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

pub fn revision(given: Option<i64>) -> Option<Revision> {
    given.map(Revision)
}

pub fn run_states(given: &[i32]) -> Result<Vec<tocktower_core::run::RunState>, Status> {
    let read = |state: &i32| {
        run_state_from_proto(*state).map_err(|error| bad("states", error.to_string()))
    };
    given.iter().map(read).collect()
}

pub fn warnings(warnings: Vec<Warning>) -> Vec<v1::Warning> {
    let warning = |warning: Warning| v1::Warning { code: warning.code, message: warning.message };
    warnings.into_iter().map(warning).collect()
}

pub fn shown(shown: Shown) -> v1::Task {
    match shown {
        Shown::Task(task, status) => task_proto(&task, &status),
        // What is known of a record that cannot be read: its names and its revision.
        Shown::Unreadable(unreadable) => v1::Task {
            namespace: unreadable.name.namespace.to_string(),
            name: unreadable.name.name.to_string(),
            description: format!("unreadable: {}", unreadable.error),
            revision: unreadable.revision.0,
            ..v1::Task::default()
        },
        Shown::Ended { name, run } => v1::Task {
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
            state: v1::TaskState::Finished.into(),
            last_run: Some(run_proto(&run)),
            ..v1::Task::default()
        },
    }
}

pub fn instants(upcoming: &Upcoming) -> Vec<v1::ScheduledInstant> {
    let one = |(instant, local): &(Instant, String)| v1::ScheduledInstant {
        instant: Some(timestamp(instant.wall())),
        local: local.clone(),
    };
    upcoming.instants.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_rounded_up_and_keep_their_range() {
        let at = |seconds, nanos| instant(&Some(Timestamp { seconds, nanos }), "after");
        assert_eq!(at(1, 0).unwrap(), Some(Instant::from_millis(1_000)));
        assert_eq!(at(1, 1).unwrap(), Some(Instant::from_millis(1_001)));
        assert_eq!(instant(&None, "after").unwrap(), None);
        assert!(at(-1, 0).is_err() && at(i64::MAX, 0).is_err());
    }

    #[test]
    fn a_limit_of_nothing_is_the_default() {
        assert_eq!(limit(0).unwrap(), PAGE_DEFAULT);
        assert!(limit(1_001).is_err());
    }
}
