//! From the bytes of a request to a JSON value, with what serde_json lets pass refused.
//!
//! serde_json takes the last of two fields of one name, and makes a value of whatever came: thirty
//! bytes of memory for each of the two of `1,`. Here a field that is there twice is a mistake with
//! its path, and the number of values has a bound. A batch is not made a value at all: its tasks
//! are left as text and read one by one, and those beyond the bound are only counted.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{Deserialize, SeqAccess, Visitor};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess};
use serde_json::error::Category;
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use tocktower_core::limits;
use tocktower_core::task::FieldError;

use super::mistakes::Mistakes;
use super::place::Place;

/// Reads the JSON of one task or of one call; `what` it is is for the message.
pub fn parse(what: &str, bytes: &[u8]) -> Result<Value, Vec<FieldError>> {
    let notes = Notes::default();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let tree = Tree { place: &Place::TOP, notes: &notes };
    let read = tree.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    if notes.values.get() > limits::JSON_VALUES_MAX {
        let max = limits::JSON_VALUES_MAX;
        let message = format!("{what} has more than {max} values, and no task has as many");
        return Err(vec![FieldError::new("", message)]);
    }
    let value = read.map_err(|error| no_json(what, &error))?;
    let mistakes = notes.mistakes.into_inner();
    if mistakes.is_empty() { Ok(value) } else { Err(mistakes.into_errors()) }
}

/// `{"tasks": […]}`, with the tasks as they were written.
#[derive(Debug, Default)]
pub struct BatchTexts<'a> {
    /// As many as are allowed at most.
    pub tasks: Vec<&'a RawValue>,
    /// How many were sent.
    pub given: usize,
}

/// Reads the outer shape of a batch.
pub fn parse_batch(bytes: &[u8]) -> Result<BatchTexts<'_>, Vec<FieldError>> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = reader.deserialize_any(BatchShape).and_then(|read| reader.end().map(|()| read));
    match read {
        Ok(read) => read,
        Err(error) if error.classify() == Category::Data => {
            Err(vec![FieldError::new("", error.to_string())])
        }
        Err(error) => Err(no_json("the body", &error)),
    }
}

fn no_json(what: &str, error: &serde_json::Error) -> Vec<FieldError> {
    vec![FieldError::new("", format!("{what} is no JSON: {error}"))]
}

#[derive(Default)]
struct Notes {
    mistakes: RefCell<Mistakes>,
    values: Cell<usize>,
}

/// A value at a place.
struct Tree<'a> {
    place: &'a Place<'a>,
    notes: &'a Notes,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        let count = self.notes.values.get() + 1;
        self.notes.values.set(count);
        if count > limits::JSON_VALUES_MAX {
            return Err(D::Error::custom("too many values"));
        }
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        loop {
            let place = self.place.item(read.len());
            match items.next_element_seed(Tree { place: &place, notes: self.notes })? {
                Some(item) => read.push(item),
                None => return Ok(Value::Array(read)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let place = self.place.field(&name);
            let value = fields.next_value_seed(Tree { place: &place, notes: self.notes })?;
            if read.contains_key(&name) {
                self.notes.mistakes.borrow_mut().add(twice(&place));
            } else {
                read.insert(name, value);
            }
        }
        Ok(Value::Object(read))
    }
}

fn twice(place: &Place<'_>) -> FieldError {
    FieldError::new(place.to_string(), "is there more than once; give it once")
}

struct BatchShape;

impl<'de> Visitor<'de> for BatchShape {
    type Value = Result<BatchTexts<'de>, Vec<FieldError>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object with the field `tasks`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut mistakes = Mistakes::default();
        let mut tasks: Option<BatchTexts<'de>> = None;
        while let Some(name) = fields.next_key::<Cow<'de, str>>()? {
            if name != "tasks" {
                let message = format!("unknown field `{name}`, expected `tasks`");
                mistakes.add(FieldError::new(name, message));
                fields.next_value::<IgnoredAny>()?;
            } else if tasks.is_some() {
                mistakes.add(twice(&Place::TOP.field(&name)));
                fields.next_value::<IgnoredAny>()?;
            } else {
                tasks = Some(fields.next_value()?);
            }
        }
        if tasks.is_none() {
            mistakes.add(FieldError::new("tasks", "is missing: give a list of tasks"));
        }
        let read = tasks.unwrap_or_default();
        Ok(if mistakes.is_empty() { Ok(read) } else { Err(mistakes.into_errors()) })
    }
}

impl<'de> Deserialize<'de> for BatchTexts<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<BatchTexts<'de>, D::Error> {
        reader.deserialize_seq(BatchList)
    }
}

struct BatchList;

impl<'de> Visitor<'de> for BatchList {
    type Value = BatchTexts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tasks in the field `tasks`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<BatchTexts<'de>, A::Error> {
        let mut read = BatchTexts::default();
        while read.given < limits::BATCH_TASKS_MAX {
            let Some(task) = items.next_element()? else { return Ok(read) };
            read.tasks.push(task);
            read.given += 1;
        }
        while items.next_element::<IgnoredAny>()?.is_some() {
            read.given += 1;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn wrong(text: &str) -> Vec<String> {
        let errors = parse("the body", text.as_bytes()).unwrap_err();
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_read_is_what_serde_json_reads() {
        let text = r#" {"a": [1, -2, 2.5, 18446744073709551615, 1e3, "ä\n", null, true, {}, []]} "#;
        let read = parse("the body", text.as_bytes()).unwrap();
        assert_eq!(read, serde_json::from_str::<Value>(text).unwrap());
        assert!(wrong("{\"a\": 1} 2")[0].contains("trailing"), "{:?}", wrong("{\"a\": 1} 2"));
        assert!(wrong("{\"a\": ")[0].contains("line 1"));
    }

    #[test]
    fn a_field_that_is_there_twice_is_refused_wherever_it_is() {
        let text = r#"{"name": "a", "schedules": [{}, {"at": 1, "at": 2}], "name": "b"}"#;
        let paths: Vec<String> = parse("the body", text.as_bytes())
            .unwrap_err()
            .into_iter()
            .map(|error| error.path)
            .collect();
        assert_eq!(paths, ["schedules[1].at", "name"]);
    }

    #[test]
    fn values_have_a_bound() {
        let list = |count: usize| format!("{{\"a\":[{}]}}", vec!["1"; count].join(","));
        assert!(parse("the body", list(limits::JSON_VALUES_MAX - 2).as_bytes()).is_ok());
        let told = wrong(&list(limits::JSON_VALUES_MAX - 1));
        assert!(told[0].contains("more than 100000 values"), "{told:?}");
    }

    #[test]
    fn tasks_of_a_batch_stay_as_they_were_written() {
        let text = r#"{"tasks": [ {"a": 1, "a": 2}, 7 ,[ ]]}"#;
        let batch = parse_batch(text.as_bytes()).unwrap();
        let texts: Vec<&str> = batch.tasks.iter().map(|task| task.get()).collect();
        assert_eq!(texts, [r#"{"a": 1, "a": 2}"#, "7", "[ ]"]);
        assert_eq!(batch.given, 3);
    }

    #[test]
    fn tasks_beyond_the_bound_are_counted_and_not_kept() {
        let tasks = vec!["1"; 500_000].join(",");
        let text = format!("{{\"tasks\":[{tasks}]}}");
        let batch = parse_batch(text.as_bytes()).unwrap();
        assert_eq!((batch.tasks.len(), batch.given), (limits::BATCH_TASKS_MAX, 500_000));
    }

    #[test]
    fn a_batch_of_another_shape_is_refused() {
        for (text, told) in [
            ("[[]]", "a JSON object with the field `tasks`"),
            ("{\"tasks\": {}}", "a list of tasks"),
            ("{\"task\": []}", "task: unknown field `task`"),
            ("{\"tasks\": [], \"tasks\": []}", "tasks: is there more than once"),
            ("{}", "tasks: is missing"),
            ("{\"tasks\": [", "the body is no JSON"),
        ] {
            let errors = parse_batch(text.as_bytes()).unwrap_err();
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert!(all.iter().any(|one| one.contains(told)), "{text}: {all:?}");
        }
        assert!(parse("the body", json!([1]).to_string().as_bytes()).is_ok());
    }
}
