//! Two other implementations are asked about random expressions, in UTC, on what they share with
//! us.
//!
//! Left out, since they differ by intention:
//! - croner joins the two day fields by "or" also when one of them is `*/n`; we follow
//!   Debian's cron (`cron_golden.README.md`), so a star with a step has a plain `*` beside it.
//! - The crate cron joins the day fields by "and" always, so one of them is `*` or `?`.
//! - croner has no `a/n` and no wrapping ranges; the crate cron has no wrapping ranges, no `L`, `W`
//!   or `#`, and ends with the year 2100.
//! - Changes of the clock: both have rules of their own, and the golden tables decide.

#![expect(clippy::unwrap_used, reason = "the cases are made to be valid")]

use std::str::FromStr;

use chrono::{DateTime, Utc};
use croner::parser::{CronParser, Seconds};
use proptest::prelude::*;
use tocktower_core::schedule::{Cron, Dialect, Fold, Gap, Zone};
use tocktower_core::time::Instant;

/// 2095-01-01: far from the end of the years of the crate cron.
const END: i64 = 3_944_678_400_000;
const ANSWERS: usize = 8;

fn ours(text: &str, dialect: Dialect, after: i64) -> Vec<i64> {
    let cron = Cron::parse(text, dialect, Zone::UTC, Gap::After, Fold::First, 0).unwrap();
    let after = Instant::from_millis(after);
    let steps = std::iter::successors(cron.next_after(after), |at| cron.next_after(*at));
    steps.map(Instant::millis).take_while(|ms| *ms < END).take(ANSWERS).collect()
}

fn theirs(answers: impl Iterator<Item = DateTime<Utc>>) -> Vec<i64> {
    answers.map(|at| at.timestamp_millis()).take_while(|ms| *ms < END).take(ANSWERS).collect()
}

fn utc(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap()
}

fn by_croner(text: &str, quartz_days: bool, after: i64) -> Vec<i64> {
    let parser =
        CronParser::builder().seconds(Seconds::Optional).alternative_weekdays(quartz_days).build();
    theirs(parser.parse(text).unwrap().iter_after(utc(after)))
}

fn by_cron(text: &str, after: i64) -> Vec<i64> {
    theirs(cron::Schedule::from_str(text).unwrap().after(&utc(after)))
}

fn ranges(min: u8, max: u8) -> impl Strategy<Value = String> {
    let range = move || (min..=max, min..=max).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        2 => (min..=max).prop_map(|value| value.to_string()),
        2 => proptest::collection::vec(min..=max, 2..5)
            .prop_map(|list| list.iter().map(u8::to_string).collect::<Vec<_>>().join(",")),
        1 => range().prop_map(|(a, b)| format!("{a}-{b}")),
        1 => (range(), 1..=max).prop_map(|((a, b), step)| format!("{a}-{b}/{step}")),
    ]
}

fn field(min: u8, max: u8) -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("*".to_owned()),
        1 => (1..=max).prop_map(|step| format!("*/{step}")),
        3 => ranges(min, max),
    ]
}

/// The two day fields of crontab, without a starred step beside a restriction.
fn crontab_days() -> impl Strategy<Value = (String, String)> {
    prop_oneof![
        (field(1, 31), Just("*".to_owned())),
        (Just("*".to_owned()), field(0, 7)),
        (ranges(1, 31), ranges(0, 7)),
    ]
}

/// The two day fields of Quartz, of which one is `?`.
fn quartz_days(special: bool) -> impl Strategy<Value = (String, String)> {
    let no = || Just("?".to_owned());
    let months = if special {
        prop_oneof![
            Just("L".to_owned()),
            Just("LW".to_owned()),
            (1..32).prop_map(|n| format!("{n}W"))
        ]
        .boxed()
    } else {
        field(1, 31).boxed()
    };
    let weeks = if special {
        let day = || proptest::sample::select(&["1", "2", "3", "4", "5", "6", "7", "fri"][..]);
        let nth = (day(), 1..6).prop_map(|(day, nth)| format!("{day}#{nth}"));
        prop_oneof![day().prop_map(|day| format!("{day}L")), nth].boxed()
    } else {
        prop_oneof![field(1, 7), Just("MON-FRI".to_owned())].boxed()
    };
    prop_oneof![(months, no()), (no(), weeks)]
}

/// `a/n`, which Quartz and the crate cron have.
fn open_step(max: u8) -> impl Strategy<Value = String> {
    prop_oneof![3 => field(0, max), 1 => (0..=max, 1..=max).prop_map(|(a, n)| format!("{a}/{n}"))]
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn croner_agrees_on_crontab(
        second in prop_oneof![2 => Just(String::new()), 1 => field(0, 59).prop_map(|s| s + " ")],
        (minute, hour, month) in (field(0, 59), field(0, 23), field(1, 12)),
        (day, week_day) in crontab_days(),
        after in 0..3_000_000_000_000_i64,
    ) {
        let text = format!("{second}{minute} {hour} {day} {month} {week_day}");
        let (ours, theirs) = (ours(&text, Dialect::Crontab, after), by_croner(&text, false, after));
        prop_assert_eq!(ours, theirs, "{}", text);
    }

    #[test]
    fn croner_agrees_on_the_special_days_of_quartz(
        (minute, hour, month) in (field(0, 59), field(0, 23), field(1, 12)),
        (day, week_day) in quartz_days(true),
        after in 0..3_000_000_000_000_i64,
    ) {
        let text = format!("0 {minute} {hour} {day} {month} {week_day}");
        let (ours, theirs) = (ours(&text, Dialect::Quartz, after), by_croner(&text, true, after));
        prop_assert_eq!(ours, theirs, "{}", text);
    }

    #[test]
    fn the_crate_cron_agrees_on_quartz(
        (second, minute, hour) in (open_step(59), open_step(59), open_step(23)),
        month in field(1, 12),
        (day, week_day) in quartz_days(false),
        year in prop_oneof![3 => Just(""), 1 => Just(" 2020-2060/3"), 1 => Just(" *")],
        after in 0..3_000_000_000_000_i64,
    ) {
        let text = format!("{second} {minute} {hour} {day} {month} {week_day}{year}");
        let (ours, theirs) = (ours(&text, Dialect::Quartz, after), by_cron(&text, after));
        prop_assert_eq!(ours, theirs, "{}", text);
    }
}
