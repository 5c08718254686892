//! The schedule of a line: five fields, or a macro.
//!
//! The grammar is the part of cron(8) that all crons agree on: `*`, numbers, names of months and
//! days, ranges, lists, and steps behind a `*` or a range. Where they differ (a step behind a
//! single number, `?`, `L`, full names) the line is refused, as whoever wrote it should say what is
//! meant. What the server's own dialect knows beyond that (seconds, `H`) is no part of a crontab
//! either.
//!
//! The server checks the expression again. This check is here because only a reader of crontabs can
//! tell where the schedule ends and the command begins.

struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 5] = [
    Field { name: "minute", first: 0, last: 59, names: &[] },
    Field { name: "hour", first: 0, last: 23, names: &[] },
    Field { name: "day of month", first: 1, last: 31, names: &[] },
    Field { name: "month", first: 1, last: 12, names: &MONTHS },
    Field { name: "day of week", first: 0, last: 7, names: &DAYS },
];

/// `@reboot` is read, so that it can be told apart from one that does not exist.
const MACROS: [&str; 8] =
    ["@reboot", "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// The schedule with one blank between its fields, and what follows it.
pub fn schedule(text: &str) -> Result<(String, &str), String> {
    if text.starts_with('@') {
        let (name, rest) = word(text);
        return match MACROS.contains(&name) {
            true => Ok((name.to_owned(), rest)),
            false => Err(format!("{name:?} is no macro; there are {}", MACROS.join(", "))),
        };
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || "*-+,/?".contains(c))
        && !text.contains([' ', '\t'])
    {
        return Err(format!(
            "{:?} is neither a setting (NAME=value) nor a schedule with a command",
            super::short(text)
        ));
    }
    let mut schedule = String::new();
    let mut rest = text;
    for (index, field) in FIELDS.iter().enumerate() {
        let (given, tail) = word(rest);
        if given.is_empty() {
            return Err(format!("there are only {index} of the five schedule fields"));
        }
        check(field, given).map_err(|reason| explained(index, field, given, &reason))?;
        if index > 0 {
            schedule.push(' ');
        }
        schedule.push_str(given);
        rest = tail;
    }
    Ok((schedule, rest))
}

/// The first word, and the rest without the blanks before it.
pub fn word(text: &str) -> (&str, &str) {
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim_start_matches([' ', '\t']))
}

/// A field that looks like the beginning of a command most likely is one.
fn explained(index: usize, field: &Field, given: &str, reason: &str) -> String {
    let given = super::short(given);
    if index > 0 && given.starts_with(['/', '~', '.', '[', '$']) {
        return format!(
            "{given:?} stands where the {} should be: there are only {index} of the \
                        five schedule fields",
            field.name
        );
    }
    format!("{} {given:?}: {reason}", field.name)
}

fn check(field: &Field, given: &str) -> Result<(), String> {
    for item in given.split(',') {
        if item.is_empty() {
            return Err("an item of the list is empty".to_owned());
        }
        check_item(field, item)?;
    }
    Ok(())
}

fn check_item(field: &Field, item: &str) -> Result<(), String> {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    if let Some(step) = step {
        check_step(range, step)?;
    }
    if range == "*" {
        return Ok(());
    }
    // A leading sign is a negative number, not a range without a beginning.
    match range.split_once('-').filter(|(first, _)| !first.is_empty()) {
        None => value(field, range).map(drop),
        Some((_, "")) => Err("the range has no end".to_owned()),
        Some((_, last)) if last.starts_with('-') => {
            Err("a range has one dash, and its numbers have no sign".to_owned())
        }
        Some((first, last)) => {
            let (low, high) = (value(field, first)?, value(field, last)?);
            // `fri-sun` can only mean the Sunday at the end of the week.
            let to_sunday = field.last == 7 && last.eq_ignore_ascii_case("sun");
            if low > high && !to_sunday {
                return Err(format!("the range {range} runs backwards"));
            }
            Ok(())
        }
    }
}

fn check_step(range: &str, step: &str) -> Result<(), String> {
    if step.is_empty() {
        return Err("there is no number behind the '/'".to_owned());
    }
    match number(step) {
        Some(0) => Err("a step of 0 goes nowhere".to_owned()),
        Some(_) if range == "*" || range.contains('-') => Ok(()),
        Some(_) => Err(format!("a step needs a range before it, as in {range}-…/{step}")),
        None => Err(format!("the step {step:?} is no number above 0")),
    }
}

fn value(field: &Field, text: &str) -> Result<u32, String> {
    let named = field.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    if let Some(position) = named {
        return Ok(field.first + u32::try_from(position).unwrap_or(0));
    }
    let names = match field.names {
        [first, .., last] => format!(" or {first} to {last}"),
        _ => String::new(),
    };
    let allowed = format!("allowed are {} to {}{names}", field.first, field.last);
    match number(text) {
        Some(value) if (field.first..=field.last).contains(&value) => Ok(value),
        Some(value) => Err(format!("{value} is out of range; {allowed}")),
        None => Err(format!("{text:?} is no value; {allowed}")),
    }
}

/// Digits only: no sign, no fraction, no hexadecimal. What is too large is out of any range.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_separated_by_any_blanks_and_the_command_is_kept_as_it_is() {
        let (schedule, rest) = schedule("0011\t004  * \t* *   a  b \t").unwrap();
        assert_eq!((schedule.as_str(), rest), ("0011 004 * * *", "a  b \t"));
    }

    #[test]
    fn what_all_crons_agree_on_is_read() {
        for text in [
            "*/7 1-23/6 1,15 jan,Mar-MAY sun-fri x",
            "0 0 * * 5-7 x",
            "0 0 * * fri-sun x",
            "@hourly x",
            "0 0 * * 7 x",
        ] {
            assert!(schedule(text).is_ok(), "{text}: {:?}", schedule(text));
        }
    }

    #[test]
    fn what_crons_differ_on_is_refused() {
        for text in [
            "5/10 * * * * x",
            "0 0 ? * * x",
            "0 0 L * * x",
            "0 0 * * monday x",
            "H * * * * x",
            "0 0 * * sat-mon x",
            "@Daily x",
            "99999999999 * * * * x",
        ] {
            assert!(schedule(text).is_err(), "{text}");
        }
    }
}
