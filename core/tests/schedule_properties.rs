//! Facts that hold for every expression, zone and moment, tried on many of them.
//!
//! The last one is a second reading of the rules for gaps and folds: it lists all local times that
//! match over some days (by asking the same expression in UTC, where local and real time are one),
//! maps each to instants as the rules say, sorts, and compares. The evaluator does none of that.

#![expect(clippy::unwrap_used, reason = "the cases are made to be valid")]

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use proptest::prelude::*;
use tocktower_core::schedule::{Cron, Dialect, Fold, Gap, Schedule, Timetable, Zone, warnings};
use tocktower_core::time::Instant;

const ZONES: [&str; 12] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "America/Havana",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Asia/Gaza",
    "Africa/Monrovia",
    "Antarctica/Troll",
];
const GAPS: [Gap; 2] = [Gap::Skip, Gap::After];
const FOLDS: [Fold; 3] = [Fold::First, Fold::Second, Fold::Both];

/// A field: a star, a step, a value, a list, a range, a range with a step.
fn field(min: u8, max: u8) -> impl Strategy<Value = String> {
    let range = move || (min..=max, min..=max).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        3 => Just("*".to_owned()),
        1 => (1..=max).prop_map(|step| format!("*/{step}")),
        3 => (min..=max).prop_map(|value| value.to_string()),
        2 => proptest::collection::vec(min..=max, 2..5)
            .prop_map(|list| list.iter().map(u8::to_string).collect::<Vec<_>>().join(",")),
        1 => range().prop_map(|(a, b)| format!("{a}-{b}")),
        1 => (range(), 1..=max).prop_map(|((a, b), step)| format!("{a}-{b}/{step}")),
    ]
}

fn crontab() -> impl Strategy<Value = String> {
    let seconds = prop_oneof![4 => Just(String::new()), 1 => field(0, 59).prop_map(|s| s + " ")];
    (seconds, field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7))
        .prop_map(|(s, m, h, day, month, week)| format!("{s}{m} {h} {day} {month} {week}"))
}

/// As `crontab`, dense enough in days for a window of a few of them to have something in it.
fn daily() -> impl Strategy<Value = String> {
    (field(0, 59), field(0, 23), prop_oneof![Just("*"), Just("*/2"), Just("1-5"), Just("0,6")])
        .prop_map(|(m, h, week)| format!("{m} {h} * * {week}"))
}

fn quartz() -> impl Strategy<Value = String> {
    let day = prop_oneof![
        Just("L".to_owned()),
        Just("LW".to_owned()),
        (0..31).prop_map(|n| format!("L-{n}")),
        (1..32).prop_map(|n| format!("{n}W")),
        field(1, 31),
    ];
    let week = prop_oneof![
        (1..8).prop_map(|n| format!("{n}L")),
        (1..8, 1..6).prop_map(|(day, nth)| format!("{day}#{nth}")),
        field(1, 7),
    ];
    let days = prop_oneof![day.prop_map(|d| (d, "?".into())), week.prop_map(|w| ("?".into(), w))];
    (field(0, 59), field(0, 59), field(0, 23), field(1, 12), days)
        .prop_map(|(s, m, h, month, (day, week))| format!("{s} {m} {h} {day} {month} {week}"))
}

fn expression() -> impl Strategy<Value = (String, Dialect)> {
    prop_oneof![
        crontab().prop_map(|text| (text, Dialect::Crontab)),
        quartz().prop_map(|text| (text, Dialect::Quartz)),
    ]
}

fn cron_in(text: &str, dialect: Dialect, zone: &str, gap: Gap, fold: Fold) -> Cron {
    Cron::parse(text, dialect, Zone::parse(zone).unwrap(), gap, fold, 7).unwrap()
}

prop_compose! {
    fn cron()(
        (text, dialect) in expression(),
        zone in proptest::sample::select(&ZONES[..]),
        gap in proptest::sample::select(&GAPS[..]),
        fold in proptest::sample::select(&FOLDS[..]),
    ) -> Cron {
        cron_in(&text, dialect, zone, gap, fold)
    }
}

prop_compose! {
    /// 1970 to 2100, to the millisecond.
    fn moment()(ms in 0..4_102_444_800_000_i64) -> Instant {
        Instant::from_millis(ms)
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*", quartz in any::<bool>()) {
        read(&text, quartz);
    }

    #[test]
    fn no_text_that_looks_like_an_expression_makes_anything_panic(
        text in "[-0-9*/,?LWH#()@a-zA-Z]{1,9}( [-0-9*/,?LWHMOSU#()]{1,6}){4,6}",
        quartz in any::<bool>(),
    ) {
        read(&text, quartz);
    }

    #[test]
    fn the_next_instant_is_later_and_there_is_none_in_between(
        cron in cron(), after in moment(), part in 0.0..1.0_f64,
    ) {
        if let Some(next) = cron.next_after(after) {
            prop_assert!(next > after);
            #[expect(clippy::cast_possible_truncation, reason = "a point within the span")]
            let within = ((next.millis() - after.millis()) as f64 * part) as i64;
            let between = Instant::from_millis(after.millis() + within);
            prop_assume!(between < next);
            prop_assert_eq!(cron.next_after(between), Some(next));
            prop_assert!(cron.next_after(next).is_none_or(|later| later > next));
        }
    }

    #[test]
    fn a_later_question_has_no_earlier_answer(cron in cron(), a in moment(), b in moment()) {
        let (earlier, later) = (cron.next_after(a.min(b)), cron.next_after(a.max(b)));
        match (earlier, later) {
            (None, later) => prop_assert_eq!(later, None),
            (Some(earlier), Some(later)) => prop_assert!(earlier <= later),
            (Some(_), None) => {}
        }
    }
}

/// Reads a text; if it is an expression, everything else must work on it.
fn read(text: &str, quartz: bool) {
    let dialect = if quartz { Dialect::Quartz } else { Dialect::Crontab };
    let zone = Zone::parse("Australia/Lord_Howe").unwrap();
    match Cron::parse(text, dialect, zone, Gap::After, Fold::Both, 3) {
        Ok(cron) => {
            let after = Instant::from_millis(1_700_000_000_000);
            assert!(cron.next_after(after).is_none_or(|next| next > after));
            assert!(cron.describe().ends_with(", Australia/Lord_Howe"));
            let _ = warnings(&Schedule::Cron(cron), after);
        }
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn the_rules_for_gaps_and_folds_hold_around_every_change_of_the_clock(
        text in daily(),
        zone in proptest::sample::select(&ZONES[1..]),
        gap in proptest::sample::select(&GAPS[..]),
        fold in proptest::sample::select(&FOLDS[..]),
        year in 1971..2090_i64,
        change in 0..3_usize,
        before_ms in prop_oneof![0..100_000_000_i64, -3_600_000..7_200_000_i64],
    ) {
        let tz = TimeZoneDatabase::bundled().get(zone).unwrap();
        let new_year = Timestamp::from_second((year - 1970) * 31_556_952).unwrap();
        let at = tz.following(new_year).nth(change).map_or(new_year, |found| found.timestamp());
        let after = Instant::from_millis((at.as_millisecond() - before_ms).max(0));
        let until = Instant::from_millis(at.as_millisecond() + 100_000_000);

        let cron = cron_in(&text, Dialect::Crontab, zone, gap, fold);
        let table = Timetable {
            schedules: vec![Schedule::Cron(cron)],
            end: Some(until),
            ..Timetable::default()
        };
        let found = table.instants_after(after).collect::<Vec<_>>();
        let expected = by_listing(&text, &tz, gap, fold, after, until);
        prop_assert_eq!(found, expected, "{} in {} {} {}", text, zone, gap, fold);
    }

    #[test]
    fn a_timetable_is_the_sorted_union_of_its_schedules(
        crons in proptest::collection::vec(cron(), 1..4), after in moment(),
    ) {
        let schedules = crons.into_iter().map(Schedule::Cron).collect::<Vec<_>>();
        let mut union = BTreeSet::new();
        for schedule in &schedules {
            let steps = std::iter::successors(schedule.next_after(after), |at| {
                schedule.next_after(*at)
            });
            union.extend(steps.take(20));
        }
        let table = Timetable { schedules, ..Timetable::default() };
        let found = table.instants_after(after).take(20).collect::<Vec<_>>();
        prop_assert_eq!(found, union.into_iter().take(20).collect::<Vec<_>>());
    }
}

/// The instants after `after` and up to `until`, by mapping each local match.
fn by_listing(
    text: &str,
    tz: &TimeZone,
    gap: Gap,
    fold: Fold,
    after: Instant,
    until: Instant,
) -> Vec<Instant> {
    let starred = text.split(' ').take(2).any(|field| field.starts_with('*'));
    let (gap, fold) = if starred { (Gap::Skip, Fold::Both) } else { (gap, fold) };
    let local = cron_in(text, Dialect::Crontab, "UTC", Gap::After, Fold::First);
    // Two days on both sides take in every local time that can map into the window.
    let margin = 2 * 86_400_000;
    let mut at = Instant::from_millis(after.millis() - margin);
    let mut found = BTreeSet::new();
    while let Some(next) = local.next_after(at).filter(|at| at.millis() < until.millis() + margin) {
        at = next;
        let shown = Offset::UTC.to_datetime(Timestamp::from_millisecond(at.millis()).unwrap());
        let real = |offset: Offset| offset.to_timestamp(shown).unwrap();
        match tz.to_ambiguous_timestamp(shown).offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                found.insert(real(offset));
            }
            AmbiguousOffset::Gap { before, after } => {
                if gap == Gap::After {
                    found.insert(first_with_offset(tz, real(after), real(before), before));
                }
            }
            AmbiguousOffset::Fold { before, after } => {
                if fold != Fold::Second {
                    found.insert(real(before));
                }
                if fold != Fold::First {
                    found.insert(real(after));
                }
            }
        }
    }
    let instants = found.into_iter().filter(|at| at.as_millisecond() >= 0);
    let instants = instants.map(|at| Instant::from_millis(at.as_millisecond()));
    instants.filter(|at| *at > after && *at <= until).collect()
}

/// The first second between `low` and `high` at which the offset is no longer `before`, by halving.
fn first_with_offset(tz: &TimeZone, low: Timestamp, high: Timestamp, before: Offset) -> Timestamp {
    let (mut low, mut high) = (low.as_second(), high.as_second());
    while high - low > 1 {
        let middle = low.midpoint(high);
        if tz.to_offset(Timestamp::from_second(middle).unwrap()) == before {
            low = middle;
        } else {
            high = middle;
        }
    }
    Timestamp::from_second(high).unwrap()
}
