//! Where in a JSON text something stands, kept as a chain of steps so that only a mistake costs a
//! string.

use std::fmt;

/// A step into an object or a list, and the place that it was taken from.
pub struct Place<'a> {
    outer: Option<&'a Place<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Top,
    Field(&'a str),
    Item(usize),
}

impl<'a> Place<'a> {
    pub const TOP: Place<'static> = Place { outer: None, step: Step::Top };

    pub fn field(&'a self, name: &'a str) -> Place<'a> {
        Place { outer: Some(self), step: Step::Field(name) }
    }

    pub fn item(&'a self, index: usize) -> Place<'a> {
        Place { outer: Some(self), step: Step::Item(index) }
    }
}

/// `schedules[0].cron`, as a person would write it.
impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(outer) = self.outer {
            outer.fmt(f)?;
        }
        let first = self.outer.is_none_or(|outer| matches!(outer.step, Step::Top));
        match self.step {
            Step::Top => Ok(()),
            Step::Field(name) if first => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Item(index) => write!(f, "[{index}]"),
        }
    }
}
