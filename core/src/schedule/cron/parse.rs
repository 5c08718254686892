//! From text to fields: splitting, macros, and the grammar that both dialects share.
//!
//! The parser is strict where cron programs are lenient: `1.5`, `50-10` or `5x` pass some of them
//! and cannot be meant, and a schedule that is read differently from how it was written is found
//! out at 02:30. What is refused comes back with the field, the item and what is allowed.
//!
//! Items of a list are read by `crontab_item` here or by `quartz::item`; both end in [`Item`]s of
//! one inner numbering.

use super::error::{CronError, Problem};
use super::fields::{Field, Fields, Item, Rule, Written};
use super::{Dialect, hashed, quartz};

/// Longest expression: a list of every value in each of seven fields is shorter.
pub const EXPRESSION_BYTES_MAX: usize = 1_024;

const MACROS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// Reads an expression.
pub(super) fn parse(expression: &str, dialect: Dialect, seed: u64) -> Result<Fields, CronError> {
    if expression.len() > EXPRESSION_BYTES_MAX {
        return Err(CronError::TooLong { given: expression.len(), max: EXPRESSION_BYTES_MAX });
    }
    let mut texts = split(expression);
    match texts.first() {
        None => return Err(CronError::Empty),
        Some(first) if first.starts_with('@') => texts = split(expand(expression, dialect)?),
        Some(_) => {}
    }
    let mut fields = by_default();
    let mut slots = fields.iter_mut().zip(Field::ALL);
    if texts.len() == 5 && dialect == Dialect::Crontab {
        slots.next();
    } else if !(6..=7).contains(&texts.len()) {
        let allowed = match dialect {
            Dialect::Crontab => "5 (minute first), 6 (second first) or 7 (second first, year last)",
            Dialect::Quartz => "6 or 7, with the second first and the year last",
        };
        return Err(CronError::FieldCount { given: texts.len(), dialect, allowed });
    }
    for ((slot, field), text) in slots.zip(&texts) {
        *slot = written(text, &Rule::new(field, dialect), seed)?;
    }
    if dialect == Dialect::Quartz {
        quartz::check_question_marks(texts[3], texts[5])?;
    }
    Ok(fields)
}

fn split(expression: &str) -> Vec<&str> {
    expression.split([' ', '\t']).filter(|text| !text.is_empty()).collect()
}

/// What the fields hold that an expression leaves out: second 0, any year.
fn by_default() -> Fields {
    let mut fields = [(); 7].map(|()| Written::all());
    fields[0] = Written::one(0);
    fields
}

fn expand(expression: &str, dialect: Dialect) -> Result<&'static str, CronError> {
    let given = expression.trim_matches([' ', '\t']);
    let refused = |reason| Err(CronError::Macro { given: given.to_owned(), reason });
    if dialect == Dialect::Quartz {
        return refused("is a macro: the quartz dialect has none, write out its fields");
    }
    if let Some((_, fields)) = MACROS.iter().find(|(name, _)| *name == given) {
        return Ok(fields);
    }
    if given == "@reboot" {
        return refused(
            "is not a time: a task belongs to a pool and not to the start of one host, so there \
             is no moment to run it at",
        );
    }
    if given.starts_with("@every") {
        return refused("is not a cron expression: make it an `every` schedule");
    }
    refused(
        "is not a macro: use @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually, \
         or write out the fields",
    )
}

fn written(text: &str, rule: &Rule, seed: u64) -> Result<Written, CronError> {
    let mut items = Vec::new();
    for part in text.split(',') {
        let item = match rule.dialect {
            Dialect::Crontab => crontab_item(part, rule, seed),
            Dialect::Quartz => quartz::item(part, rule),
        };
        // An empty item says nothing by itself, so the whole field is shown.
        let given = if part.is_empty() { text } else { part };
        items.push(item.map_err(|problem| CronError::field(rule, given, problem))?);
    }
    if items.len() > 1 && text.contains('?') {
        return Err(CronError::field(rule, text, Problem::QuestionMarkInList));
    }
    Ok(Written { starred: text.starts_with(['*', '?']), items })
}

fn crontab_item(text: &str, rule: &Rule, seed: u64) -> Result<Item, Problem> {
    if let Some(item) = star_item(text, rule)? {
        return Ok(item);
    }
    if let Some(rest) = text.strip_prefix('H') {
        return hashed::item(rest, rule, seed);
    }
    let (range, step) = split_step(text)?;
    let item = match (range.split_once('-'), step) {
        (None, None) => value_of(range, rule).map(Item::one),
        (None, Some(_)) => value_of(range, rule).and(Err(Problem::StepWithoutRange)),
        (Some((first, last)), step) => range_of(first, last, rule)
            .map(|(first, last)| Item::Range { first, last, step: step.unwrap_or(Step::ONE).0 }),
    };
    item.map_err(|problem| match problem {
        Problem::NotAValue if quartz::is_special(text, rule) => Problem::QuartzOnly,
        other => other,
    })
}

/// A step: every `n`-th value of a range, `n` from 1 to 9,999.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Step(pub u16);

impl Step {
    pub const ONE: Step = Step(1);
}

/// `*` or `*/n`; `None` if the item has no star.
pub(super) fn star_item(text: &str, rule: &Rule) -> Result<Option<Item>, Problem> {
    let Some(rest) = text.strip_prefix('*') else {
        return Ok(None);
    };
    if rest.is_empty() {
        return Ok(Some(Item::All));
    }
    let Step(step) = step_of(rest.strip_prefix('/').ok_or(Problem::NotAStar)?)?;
    Ok(Some(Item::Range { first: rule.min, last: rule.max, step }))
}

/// Cuts the step off an item.
pub(super) fn split_step(text: &str) -> Result<(&str, Option<Step>), Problem> {
    match text.split_once('/') {
        None => Ok((text, None)),
        Some((range, step)) => Ok((range, Some(step_of(step)?))),
    }
}

pub(super) fn step_of(text: &str) -> Result<Step, Problem> {
    number_of(text).filter(|step| *step > 0).map(Step).ok_or(Problem::NotAStep)
}

/// A number of at most four digits and nothing else: no sign, no point, no `0x`.
pub(super) fn number_of(text: &str) -> Option<u16> {
    let good = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if good { text.parse().ok() } else { None }
}

/// One number or name.
pub(super) fn value_of(text: &str, rule: &Rule) -> Result<u16, Problem> {
    if text.is_empty() {
        return Err(Problem::EmptyItem);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return number_of(text)
            .and_then(|number| rule.of_number(number))
            .ok_or(Problem::OutOfRange);
    }
    rule.of_name(text).ok_or(Problem::NotAValue)
}

/// The ends of a range that must not run backwards. A range of days that ends in the *name* `sun`
/// may: nobody who writes `fri-sun` means anything else than the weekend.
pub(super) fn range_of(first: &str, last: &str, rule: &Rule) -> Result<(u16, u16), Problem> {
    if first.is_empty() || last.is_empty() {
        return Err(Problem::NotAValue);
    }
    let named_sunday = rule.field == Field::DayOfWeek && last.eq_ignore_ascii_case("sun");
    let (first, last) = (value_of(first, rule)?, value_of(last, rule)?);
    match last {
        last if first <= last => Ok((first, last)),
        sunday if named_sunday => Ok((first, sunday + rule.size())),
        _ => Err(Problem::Backwards),
    }
}
