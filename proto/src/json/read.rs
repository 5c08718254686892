//! From a JSON value to one of our structs, with every mistake of shape reported, not the first.
//!
//! serde stops at the first error, and its derived code takes a list for a struct, field by field.
//! So values are handed to it by a deserializer of our own that never fails: what is wrong is noted
//! with its place, and what is empty or zero stands in, so that all the rest is read in the same
//! pass. (Taking the wrong field out and reading again, which we did first, reads fifty times and
//! cannot say how many more there are.) What the converter says afterwards about a field that
//! stands in would be an echo; `Mistakes` leaves those out.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use tocktower_core::task::FieldError;

use super::mistakes::Mistakes;
use super::place::Place;

/// Reads a value as far as it can be read, with the mistakes found on the way. `None`: it is not
/// even an object.
pub fn read<T: DeserializeOwned>(value: Value) -> (Option<T>, Vec<FieldError>) {
    let (read, mistakes) = gather(&value);
    (read, mistakes.into_errors())
}

/// As [`read`], for who goes on to gather.
pub fn gather<T: DeserializeOwned>(value: &Value) -> (Option<T>, Mistakes) {
    let mistakes = RefCell::default();
    let spot = Spot { value, place: &Place::TOP, mistakes: &mistakes };
    let read = match value.is_object() {
        true => T::deserialize(spot).ok(),
        false => {
            spot.note("a JSON object is expected");
            None
        }
    };
    (read, mistakes.into_inner())
}

/// A value, where it stands, and where to note what is wrong with it.
#[derive(Clone, Copy)]
struct Spot<'a> {
    value: &'a Value,
    place: &'a Place<'a>,
    mistakes: &'a RefCell<Mistakes>,
}

impl Spot<'_> {
    fn note(&self, message: impl Into<String>) {
        self.mistakes.borrow_mut().add(FieldError::new(self.place.to_string(), message));
    }

    fn note_type(&self, allowed: &str) {
        let given = match self.value {
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            other => other.to_string(),
        };
        self.note(format!("{given}; allowed is {allowed}"));
    }

    /// What a struct itself refuses, which none of ours does, is noted where it was refused.
    fn told<T>(&self, read: Result<T, Refused>) -> Result<T, Refused> {
        read.map_err(|refused| {
            if let Refused(Some(message)) = refused {
                self.note(message);
            }
            Refused(None)
        })
    }
}

/// The text of what was refused, until it is noted.
#[derive(Debug)]
struct Refused(Option<String>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("a mistake that is noted"))
    }
}

impl std::error::Error for Refused {}

impl serde::de::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Refused {
        Refused(Some(message.to_string()))
    }
}

/// Numbers without a fraction: the range of the type is what is allowed here, and the converter
/// knows better.
macro_rules! whole_numbers {
    ($($method:ident $visit:ident $type:ident)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            let signed = self.value.as_i64().and_then(|number| $type::try_from(number).ok());
            let unsigned = || self.value.as_u64().and_then(|number| $type::try_from(number).ok());
            let number = signed.or_else(unsigned).unwrap_or_else(|| {
                let (least, most) = ($type::MIN, $type::MAX);
                self.note_type(&format!("a whole number from {least} to {most}"));
                0
            });
            self.told(visitor.$visit(number))
        }
    )+};
}

impl<'de> Deserializer<'de> for Spot<'_> {
    type Error = Refused;

    whole_numbers! {
        deserialize_i8 visit_i8 i8
        deserialize_i16 visit_i16 i16
        deserialize_i32 visit_i32 i32
        deserialize_i64 visit_i64 i64
        deserialize_u8 visit_u8 u8
        deserialize_u16 visit_u16 u16
        deserialize_u32 visit_u32 u32
        deserialize_u64 visit_u64 u64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let truth = self.value.as_bool().unwrap_or_else(|| {
            self.note_type("true or false");
            false
        });
        self.told(visitor.visit_bool(truth))
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let number = self.value.as_f64().unwrap_or_else(|| {
            self.note_type("a number");
            0.0
        });
        self.told(visitor.visit_f64(number))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let text = self.value.as_str().unwrap_or_else(|| {
            self.note_type("a text");
            ""
        });
        self.told(visitor.visit_str(text))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.value {
            Value::Null => self.told(visitor.visit_none()),
            _ => self.told(visitor.visit_some(self)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.told(visitor.visit_newtype_struct(self))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let items = self.value.as_array().map_or(&[][..], Vec::as_slice);
        if !self.value.is_array() {
            self.note_type("a list");
        }
        self.told(visitor.visit_seq(Items { items: items.iter().enumerate(), spot: self }))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.fields(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.fields(Some(known), visitor)
    }

    /// Whoever takes any value gets it as it is.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let read = self.value.clone().deserialize_any(visitor);
        self.told(read.map_err(Refused::custom))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let read = self.value.clone().deserialize_enum(name, variants, visitor);
        self.told(read.map_err(Refused::custom))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

impl Spot<'_> {
    fn fields<'de, V: Visitor<'de>>(
        self,
        known: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let none = serde_json::Map::new();
        let fields = self.value.as_object().unwrap_or_else(|| {
            self.note_type("an object");
            &none
        });
        self.told(visitor.visit_map(Fields {
            fields: fields.iter(),
            known,
            here: None,
            spot: self,
        }))
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    spot: Spot<'a>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        let place = self.spot.place.item(index);
        let spot = Spot { value, place: &place, mistakes: self.spot.mistakes };
        seed.deserialize(spot).map(Some)
    }
}

struct Fields<'a> {
    fields: serde_json::map::Iter<'a>,
    /// `None`: a map, in which every name is good.
    known: Option<&'static [&'static str]>,
    /// The field whose name was given out.
    here: Option<(&'a str, &'a Value)>,
    spot: Spot<'a>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refused> {
        for (name, value) in self.fields.by_ref() {
            if let Some(known) = self.known
                && !known.contains(&name.as_str())
            {
                let place = self.spot.place.field(name);
                let message = Refused::unknown_field(name, known).to_string();
                Spot { value, place: &place, mistakes: self.spot.mistakes }.note(message);
                continue;
            }
            self.here = Some((name, value));
            let name: StrDeserializer<'_, Refused> = name.as_str().into_deserializer();
            return seed.deserialize(name).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let (name, value) = self.here.take().ok_or_else(|| Refused::custom("a value, no name"))?;
        let place = self.spot.place.field(name);
        seed.deserialize(Spot { value, place: &place, mistakes: self.spot.mistakes })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Preview, Task};
    use super::*;
    use serde_json::json;

    fn paths(errors: &[FieldError]) -> Vec<&str> {
        let mut paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
        paths.sort_unstable();
        paths
    }

    #[test]
    fn every_mistake_of_shape_is_found_with_its_path() {
        let (task, errors) = read::<Task>(json!({
            "name": 5,
            "notify": ["ops"],
            "schedules": [{"cron": "* * * * *", "calendar": "x"}, {"cron": 7}],
            "action": {"command": {"argv": ["a", 5, "b"]}},
            "priority": "high",
        }));
        assert!(task.is_some());
        assert_eq!(
            paths(&errors),
            [
                "action.command.argv[1]",
                "name",
                "notify",
                "priority",
                "schedules[0].calendar",
                "schedules[1].cron",
            ]
        );
        let unknown = errors.iter().find(|error| error.path == "notify").unwrap();
        assert!(unknown.message.contains("unknown field `notify`"), "{unknown}");
    }

    #[test]
    fn a_list_is_no_object_however_deep_it_is() {
        let (_, errors) = read::<Task>(json!({
            "name": "a",
            "retry": [3, "2s"],
            "placement": ["edge"],
            "action": {"noop": []},
            "schedules": [[null, "* * * * *"]],
            "labels": ["a", "b"],
            "last_run": [],
        }));
        assert_eq!(
            paths(&errors),
            ["action.noop", "labels", "last_run", "placement", "retry", "schedules[0]"]
        );
        assert_eq!(errors[0].message, "a list; allowed is an object");
        let (_, errors) = read::<Task>(json!({"schedules": {"cron": "* * * * *"}}));
        assert_eq!(errors[0].to_string(), "schedules: an object; allowed is a list");
    }

    #[test]
    fn a_wrong_type_is_told_what_is_allowed() {
        let (_, errors) = read::<Task>(json!({
            "description": true,
            "paused": "yes",
            "priority": 99_999_999_999_i64,
            "retry": {"factor": "two", "max_attempts": -1},
        }));
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "description: true; allowed is a text",
                "paused: \"yes\"; allowed is true or false",
                "priority: 99999999999; allowed is a whole number from -2147483648 to 2147483647",
                "retry.factor: \"two\"; allowed is a number",
                "retry.max_attempts: -1; allowed is a whole number from 0 to 4294967295",
            ]
        );
    }

    #[test]
    fn what_is_right_is_read_as_serde_reads_it() {
        let preview = json!({"schedules": [{"every": "5m"}, {}], "count": 3, "name": null});
        let (read, errors) = read::<Preview>(preview.clone());
        assert_eq!(errors, Vec::new());
        assert_eq!(read, serde_json::from_value(preview).unwrap());
    }

    #[test]
    fn more_mistakes_than_can_be_told_are_counted_in_one_pass() {
        let schedules = vec![json!({"cron": 5}); 20_000];
        let (_, errors) = read::<Task>(json!({"schedules": schedules}));
        assert_eq!(errors.len(), 51);
        assert_eq!(errors[50].message, "and 19950 more");
    }

    #[test]
    fn what_is_no_object_is_one_error() {
        for value in [json!(["a", "b"]), json!("text"), json!(null), json!(5)] {
            let (task, errors) = read::<Task>(value);
            assert!(task.is_none());
            assert_eq!(errors.len(), 1);
        }
    }
}
