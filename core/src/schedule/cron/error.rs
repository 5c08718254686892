//! Why an expression was refused, in words that a person can act on: which field, what was given,
//! what is wrong with it, and what is allowed there.
//!
//! The first thing that is wrong is reported and not all of them: items of one field are read from
//! left to right, and a second error is often the first one's shadow. `Problem` is apart from
//! `CronError` since the code that reads an item does not know which list the item stands in.

use super::Dialect;
use super::fields::{Field, Rule};

/// Why an expression was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error("the expression is empty: write fields such as \"30 2 * * *\"")]
    Empty,
    #[error("the expression has {given} bytes: at most {max} are allowed")]
    TooLong { given: usize, max: usize },
    #[error("{given} fields were given: the {dialect} dialect takes {allowed}")]
    FieldCount { given: usize, dialect: Dialect, allowed: &'static str },
    #[error("{given:?} {reason}")]
    Macro { given: String, reason: &'static str },
    #[error("{field}: {given:?} {problem}; allowed: {allowed}")]
    Field { field: Field, given: String, problem: Problem, allowed: String },
    #[error(
        "day of month {day_of_month:?} and day of week {day_of_week:?}: in the quartz dialect \
         exactly one of the two is \"?\""
    )]
    QuestionMark { day_of_month: String, day_of_week: String },
}

/// What is wrong with one item of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("has an empty list item")]
    EmptyItem,
    #[error("is neither a number nor a name of this field")]
    NotAValue,
    #[error("is out of range")]
    OutOfRange,
    #[error("runs backwards; put the lower end first, or write two ranges")]
    Backwards,
    #[error("needs a step of 1 or more after the slash")]
    NotAStep,
    #[error("has a step but no range; write first-last/step")]
    StepWithoutRange,
    #[error("has a star that is neither alone nor followed by /step")]
    NotAStar,
    #[error("is not of the form H, H/n, H(a-b) or H(a-b)/n")]
    NotHashed,
    #[error("has a step larger than the {values} values it is spread over")]
    HashedStep { values: u64 },
    #[error("cannot be spread over years")]
    HashedYear,
    #[error("is Quartz syntax; set the dialect to quartz")]
    QuartzOnly,
    #[error("is crontab syntax; set the dialect to crontab")]
    CrontabOnly,
    #[error("stands in a list, where it has no meaning")]
    QuestionMarkInList,
    #[error("needs a day from 1 to 31 before the W")]
    NotNearest,
    #[error("needs a number of days from 0 to 30 after the L")]
    NotLast,
    #[error("needs a number from 1 to 5 after the #")]
    NotNth,
}

impl CronError {
    pub(super) fn field(rule: &Rule, given: &str, problem: Problem) -> CronError {
        let allowed = rule.allowed();
        CronError::Field { field: rule.field, given: given.to_owned(), problem, allowed }
    }
}
