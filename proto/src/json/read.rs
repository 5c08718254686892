//! From a JSON value to one of our structs, with every mistake of shape reported, not the first.
//!
//! serde stops at the first error. So the field that it stopped at is noted, taken out, and the
//! rest is read again: a value has few mistakes, and the number of rounds is bounded. What the
//! converter says afterwards about a field that was taken out would be an echo ("missing", when it
//! was there and wrong); [`drop_echoes`] leaves those out.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;
use tocktower_core::task::FieldError;

/// Mistakes of shape that one request is told of.
const ERRORS_MAX: usize = 50;

/// Reads a value as far as it can be read, with the mistakes found on the way. `None`: it is not
/// even an object.
pub fn read<T: DeserializeOwned>(mut value: Value) -> (Option<T>, Vec<FieldError>) {
    if !value.is_object() {
        // serde would take an array for a struct, field by field.
        return (None, vec![FieldError::new("", "a JSON object is expected")]);
    }
    let mut errors = Vec::new();
    while errors.len() < ERRORS_MAX {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(read) => return (Some(read), errors),
            Err(error) => error,
        };
        let segments: Vec<Segment> = error.path().iter().cloned().collect();
        errors.push(FieldError::new(path_of(&segments), error.inner().to_string()));
        if !take_out(&mut value, &segments) {
            break;
        }
    }
    (None, errors)
}

/// `found` without what only repeats that a field in `known` is wrong.
pub fn drop_echoes(known: &[FieldError], found: Vec<FieldError>) -> Vec<FieldError> {
    let within = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let echo = |error: &FieldError| {
        known.iter().any(|k| within(&error.path, &k.path) || within(&k.path, &error.path))
    };
    found.into_iter().filter(|error| !echo(error)).collect()
}

/// `schedules[0].cron`, as a person would write it.
fn path_of(segments: &[Segment]) -> String {
    let mut path = String::new();
    for segment in segments {
        match segment {
            Segment::Seq { index } => path.push_str(&format!("[{index}]")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
            Segment::Unknown => {}
        }
    }
    path
}

/// Takes the field at `segments` out of `value`; of an item of an array, the array. `false`: there
/// is no field to take out.
fn take_out(value: &mut Value, segments: &[Segment]) -> bool {
    let last_field = segments.iter().rposition(|segment| matches!(segment, Segment::Map { .. }));
    let Some((Segment::Map { key }, parents)) =
        last_field.and_then(|last| segments.get(..=last)?.split_last())
    else {
        return false;
    };
    let mut place = value;
    for parent in parents {
        let next = match parent {
            Segment::Map { key } => place.get_mut(key),
            Segment::Seq { index } => place.get_mut(index),
            Segment::Enum { .. } | Segment::Unknown => return false,
        };
        let Some(next) = next else { return false };
        place = next;
    }
    place.as_object_mut().is_some_and(|fields| fields.remove(key).is_some())
}

#[cfg(test)]
mod tests {
    use super::super::Task;
    use super::*;
    use serde_json::json;

    #[test]
    fn every_mistake_of_shape_is_found_with_its_path() {
        let (task, errors) = read::<Task>(json!({
            "name": 5,
            "delivery": "at_most_once",
            "schedules": [{"cron": "* * * * *", "calendar": "x"}, {"cron": 7}],
            "action": {"command": {"argv": ["a", 5, "b"]}},
            "priority": "high",
        }));
        assert!(task.is_some());
        let mut paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "action.command.argv[1]",
                "delivery",
                "name",
                "priority",
                "schedules[0].calendar",
                "schedules[1].cron",
            ]
        );
        let unknown = errors.iter().find(|error| error.path == "delivery").unwrap();
        assert!(unknown.message.contains("unknown field `delivery`"), "{unknown}");
    }

    #[test]
    fn what_is_no_object_is_one_error() {
        for value in [json!(["a", "b"]), json!("text"), json!(null), json!(5)] {
            let (task, errors) = read::<Task>(value);
            assert!(task.is_none());
            assert_eq!(errors.len(), 1);
        }
    }

    #[test]
    fn echoes_are_dropped_and_the_rest_stays() {
        let known = [FieldError::new("action.command.argv[1]", "")];
        let found = ["action.command", "action.command.argv", "action.command.cwd", "name"]
            .map(|path| FieldError::new(path, ""));
        let left = drop_echoes(&known, found.to_vec());
        let paths: Vec<&str> = left.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["action.command.cwd", "name"]);
    }
}
