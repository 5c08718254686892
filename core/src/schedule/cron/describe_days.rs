//! The days of an expression in plain language: "on the 1st and 15th of every month".
//!
//! Five things come together here: days of the month, days of the week, the special days of Quartz,
//! months and years. What is not restricted is left out, and the word between the two day fields
//! says which rule joins them: "or" where either is enough, "if that is" where both must hold. That
//! word is what most readers get wrong in cron, so it is never left to be guessed.

use super::super::words::{self, Steps};
use super::Dialect;
use super::fields::{Field, Fields, Item, Rule, Written};

const MONTHS: [&str; 13] = [
    "no month",
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/// Up to so many days of the month are listed one by one.
const DAYS_LISTED_MAX: usize = 6;

/// The reading of the day, month and year fields; `None` for every day of every year.
pub(super) fn days(fields: &Fields, dialect: Dialect) -> Option<String> {
    let [_, _, _, day, month, week_day, year] = fields;
    let either = !day.starred && !week_day.starred;
    let months = values(month, Field::Month, dialect);
    let (plain, counted) = week_days(week_day, dialect);
    let read = match (month_days(day, dialect), plain, counted) {
        // Where either is enough, a field with every day in it (`1-31`) makes it every day.
        (None, _, None) | (_, None, None) if either => (None, None, None),
        read => read,
    };
    let text = match read {
        (None, None, None) if months.len() == 12 => None,
        (None, None, None) => Some(format!("every day {}", in_months(&months))),
        (None, Some(plain), None) if months.len() == 12 => Some(plain.on),
        (None, Some(plain), None) => Some(format!("{} {}", plain.on, in_months(&months))),
        (None, plain, Some(counted)) => {
            let all = plain.map(|plain| format!("any {}", plain.any)).into_iter().chain([counted]);
            let all = words::list(&all.collect::<Vec<_>>(), "and");
            Some(format!("on {all} {}", of_months(&months)))
        }
        (Some(days), Some(plain), None) if either => {
            Some(format!("on {days} or on any {} {}", plain.any, of_months(&months)))
        }
        (Some(days), Some(plain), None) => {
            Some(format!("on {days} {} if that is a {}", of_months(&months), plain.any))
        }
        // Quartz has one of the two fields only, and no other dialect counts days of the week.
        (Some(days), _, _) => Some(format!("on {days} {}", of_months(&months))),
    };
    match (text, years(year, dialect)) {
        (None, None) => None,
        (None, Some(years)) => Some(format!("every day {years}")),
        (text, years) => Some([text, years].into_iter().flatten().collect::<Vec<_>>().join(" ")),
    }
}

fn values(written: &Written, field: Field, dialect: Dialect) -> Vec<u32> {
    words::members(written.bits(&Rule::new(field, dialect), 0))
}

/// "the 1st and 15th", "the last day"; `None` for every day.
fn month_days(written: &Written, dialect: Dialect) -> Option<String> {
    let plain = values(written, Field::DayOfMonth, dialect);
    if plain.len() == 31 {
        return None;
    }
    let mut parts = Vec::new();
    if !plain.is_empty() {
        parts.push(plain_days(&plain));
    }
    parts.extend(written.items.iter().filter_map(|item| match *item {
        Item::Last { before, workday } => Some(last_day(before, workday)),
        Item::Nearest { day } => {
            Some(format!("the weekday nearest to the {}", words::ordinal(u32::from(day))))
        }
        _ => None,
    }));
    Some(words::list(&parts, "and"))
}

fn plain_days(days: &[u32]) -> String {
    match Steps::of(days) {
        Some(Steps { first, last, step }) if step > 1 && days.len() > DAYS_LISTED_MAX => {
            let [step, first, last] = [step, first, last].map(words::ordinal);
            format!("every {step} day from the {first} to the {last}")
        }
        _ => format!("the {}", words::runs_of(days, words::ordinal)),
    }
}

fn last_day(before: u8, workday: bool) -> String {
    match (before, workday) {
        (0, false) => "the last day".to_owned(),
        (0, true) => "the last weekday".to_owned(),
        (1, false) => "the day before the last".to_owned(),
        (_, false) => format!("the day {before} days before the last"),
        (_, true) => {
            let days = words::count(u64::from(before), "day");
            format!("the weekday nearest to the day {days} before the last")
        }
    }
}

/// Days of the week in two forms.
struct WeekDays {
    /// "on Monday and Friday", "from Monday to Friday"
    on: String,
    /// "Monday or Friday"
    any: String,
}

/// The days of every week, if not all, and those that are counted within the month.
fn week_days(written: &Written, dialect: Dialect) -> (Option<WeekDays>, Option<String>) {
    let plain = values(written, Field::DayOfWeek, dialect);
    let name = |day: u32| DAYS[usize::try_from(day % 7).unwrap_or(0)].to_owned();
    let counted = written.items.iter().filter_map(|item| match *item {
        Item::LastOfWeek { day } => Some(format!("the last {}", name(u32::from(day)))),
        Item::Nth { day, nth } => {
            Some(format!("the {} {}", words::ordinal(u32::from(nth)), name(u32::from(day))))
        }
        _ => None,
    });
    let counted = counted.collect::<Vec<_>>();
    let counted = (!counted.is_empty()).then(|| words::list(&counted, "and"));
    if plain.is_empty() || plain.len() == 7 {
        return (None, counted);
    }
    // People's weeks start on Monday.
    let mut order = plain.clone();
    order.sort_by_key(|day| (day + 6) % 7);
    let names = order.iter().map(|day| name(*day)).collect::<Vec<_>>();
    let on = match words::run_around(&plain, 0, 7) {
        Some((first, last)) => format!("from {} to {}", name(first), name(last)),
        None => format!("on {}", words::list(&names, "and")),
    };
    (Some(WeekDays { on, any: words::list(&names, "or") }), counted)
}

fn month_names(months: &[u32]) -> Option<(String, bool)> {
    let name = |month: u32| {
        let at = usize::try_from(month).unwrap_or(0);
        MONTHS.get(at).copied().unwrap_or("no month").to_owned()
    };
    if months.len() == 12 {
        return None;
    }
    if let Some((first, last)) = words::run_around(months, 1, 12) {
        return Some((format!("from {} to {}", name(first), name(last)), true));
    }
    let names = months.iter().map(|month| name(*month)).collect::<Vec<_>>();
    Some((words::list(&names, "and"), false))
}

/// "in June", "from June to August"
fn in_months(months: &[u32]) -> String {
    match month_names(months) {
        None => String::new(),
        Some((names, true)) => names,
        Some((names, false)) => format!("in {names}"),
    }
}

/// "of every month", "of June", "of each month from June to August"
fn of_months(months: &[u32]) -> String {
    match month_names(months) {
        None => "of every month".to_owned(),
        Some((names, true)) => format!("of each month {names}"),
        Some((names, false)) => format!("of {names}"),
    }
}

/// "in 2026", "from 2026 to 2030"; `None` for any year.
fn years(written: &Written, dialect: Dialect) -> Option<String> {
    if written.items.contains(&Item::All) {
        return None;
    }
    let rule = Rule::new(Field::Year, dialect);
    let mut years = Vec::new();
    for item in &written.items {
        years.extend(item.values(&rule).map(u32::from));
    }
    years.sort_unstable();
    years.dedup();
    Some(match Steps::of(&years) {
        Some(Steps { first, last, step: 1 }) => format!("from {first} to {last}"),
        Some(Steps { first, last, step }) if years.len() > DAYS_LISTED_MAX => {
            format!("in every {} year from {first} to {last}", words::ordinal(step))
        }
        _ => format!("in {}", words::runs(&years)),
    })
}
