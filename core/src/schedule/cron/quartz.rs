//! The items of the Quartz dialect: the special days, ranges that wrap, and `a/n`.
//!
//! The rules are those of `CronExpression` in Quartz 2.3.2, against which the golden table was
//! made. It is read a little more widely in one way: special days may stand in lists (`L,15`,
//! `MON#1,MON#3`), which Quartz refuses because of how it searches, not because they mean nothing.

use super::error::{CronError, Problem};
use super::fields::{Field, Item, Rule};
use super::parse::{Step, number_of, split_step, star_item, value_of};

/// Exactly one of the two day fields is `?`.
pub(super) fn check_question_marks(day: &str, week_day: &str) -> Result<(), CronError> {
    if (day == "?") != (week_day == "?") {
        return Ok(());
    }
    let (day_of_month, day_of_week) = (day.to_owned(), week_day.to_owned());
    Err(CronError::QuestionMark { day_of_month, day_of_week })
}

/// Whether an item that is no crontab syntax would be one here, for a better message.
pub(super) fn is_special(text: &str, rule: &Rule) -> bool {
    text == "?" || special(&text.to_ascii_uppercase(), rule).is_ok_and(|item| item.is_some())
}

/// Reads one item.
pub(super) fn item(text: &str, rule: &Rule) -> Result<Item, Problem> {
    let text = &text.to_ascii_uppercase();
    if text == "?" && is_day(rule.field) {
        return Ok(Item::All);
    }
    if text.starts_with('H') {
        return Err(Problem::CrontabOnly);
    }
    if let Some(item) = star_item(text, rule)? {
        return Ok(item);
    }
    if let Some(item) = special(text, rule)? {
        return Ok(item);
    }
    let (range, step) = split_step(text)?;
    let Step(every) = step.unwrap_or(Step::ONE);
    let Some((first, last)) = range.split_once('-') else {
        let first = value_of(range, rule)?;
        let last = if step.is_some() { rule.max } else { first };
        return Ok(Item::Range { first, last, step: every });
    };
    if first.is_empty() || last.is_empty() {
        return Err(Problem::NotAValue);
    }
    let (first, last) = (value_of(first, rule)?, value_of(last, rule)?);
    if last < first && rule.field == Field::Year {
        return Err(Problem::Backwards);
    }
    Ok(Item::Range { first, last, step: every })
}

fn is_day(field: Field) -> bool {
    matches!(field, Field::DayOfMonth | Field::DayOfWeek)
}

fn special(text: &str, rule: &Rule) -> Result<Option<Item>, Problem> {
    match rule.field {
        Field::DayOfMonth => special_month_day(text, rule),
        Field::DayOfWeek => special_week_day(text, rule),
        _ => Ok(None),
    }
}

fn special_month_day(text: &str, rule: &Rule) -> Result<Option<Item>, Problem> {
    if let Some(rest) = text.strip_prefix('L') {
        let (rest, workday) = match rest.strip_suffix('W') {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let before = match rest.strip_prefix('-') {
            Some(number) => small(number, 0..=30).ok_or(Problem::NotLast)?,
            None if rest.is_empty() => 0,
            None => return Err(Problem::NotLast),
        };
        return Ok(Some(Item::Last { before, workday }));
    }
    let Some(day) = text.strip_suffix('W') else {
        return Ok(None);
    };
    let day = value_of(day, rule).map_err(|_| Problem::NotNearest)?;
    Ok(Some(Item::Nearest { day: narrow(day) }))
}

fn special_week_day(text: &str, rule: &Rule) -> Result<Option<Item>, Problem> {
    if text == "L" {
        return Ok(Some(Item::one(rule.max)));
    }
    if let Some(day) = text.strip_suffix('L') {
        let day = narrow(value_of(day, rule)?);
        return Ok(Some(Item::LastOfWeek { day }));
    }
    let Some((day, nth)) = text.split_once('#') else {
        return Ok(None);
    };
    let day = narrow(value_of(day, rule)?);
    let nth = small(nth, 1..=5).ok_or(Problem::NotNth)?;
    Ok(Some(Item::Nth { day, nth }))
}

fn small(text: &str, range: std::ops::RangeInclusive<u16>) -> Option<u8> {
    number_of(text).filter(|number| range.contains(number)).map(narrow)
}

fn narrow(day: u16) -> u8 {
    u8::try_from(day).expect("a day is at most 31")
}
