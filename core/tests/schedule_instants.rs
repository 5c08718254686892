//! One task, many schedules: order, doubles, start and end, excluded dates, counting.

#![expect(clippy::unwrap_used, reason = "the cases are literals")]

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::civil::{Date, date};
use tocktower_core::schedule::{Cron, Dialect, Every, Fold, Gap, Schedule, Timetable, Zone};
use tocktower_core::time::Instant;

fn at(text: &str) -> Instant {
    Instant::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn cron(expression: &str, zone: &str) -> Schedule {
    let zone = Zone::parse(zone).unwrap();
    let cron = Cron::parse(expression, Dialect::Crontab, zone, Gap::After, Fold::Both, 0);
    Schedule::Cron(cron.unwrap())
}

fn every(seconds: u64) -> Schedule {
    Schedule::Every(Every::new(Duration::from_secs(seconds), Duration::ZERO).unwrap())
}

fn table(schedules: Vec<Schedule>) -> Timetable {
    Timetable { schedules, ..Timetable::default() }
}

/// The next instants, by asking for one after the other.
fn next(timetable: &Timetable, after: &str, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut after = at(after);
    while let Some(next) = timetable.next_after(after).filter(|_| found.len() < count) {
        found.push(format!("{next:?}"));
        after = next;
    }
    found
}

#[test]
fn schedules_make_one_stream_in_which_a_meeting_is_one_instant() {
    let both = table(vec![cron("0 */2 * * *", "UTC"), cron("0 */3 * * *", "UTC")]);
    assert_eq!(
        next(&both, "2026-01-01T00:00:00Z", 5),
        [
            "2026-01-01T02:00:00Z",
            "2026-01-01T03:00:00Z",
            "2026-01-01T04:00:00Z",
            "2026-01-01T06:00:00Z",
            "2026-01-01T08:00:00Z"
        ]
    );
    let walked = both.instants_after(at("2026-01-01T00:00:00Z")).take(50);
    assert_eq!(
        walked.map(|instant| format!("{instant:?}")).collect::<Vec<_>>(),
        next(&both, "2026-01-01T00:00:00Z", 50)
    );
    assert_eq!(table(Vec::new()).next_after(Instant::MIN), None);
}

#[test]
fn start_end_and_last_may_be_instants_themselves() {
    let mut hourly = table(vec![every(3_600)]);
    hourly.start = Some(at("2026-01-01T05:00:00Z"));
    hourly.end = Some(at("2026-01-01T07:00:00Z"));
    assert_eq!(
        next(&hourly, "2026-01-01T00:00:00Z", 9),
        ["2026-01-01T05:00:00Z", "2026-01-01T06:00:00Z", "2026-01-01T07:00:00Z"]
    );
    hourly.last = Some(at("2026-01-01T06:59:59Z"));
    assert_eq!(next(&hourly, "2026-01-01T05:00:00Z", 9), ["2026-01-01T06:00:00Z"]);
    hourly.start = Some(Instant::MIN);
    assert_eq!(next(&hourly, "1970-01-01T00:00:00Z", 1), ["1970-01-01T01:00:00Z"]);
}

#[test]
fn an_excluded_date_is_meant_in_the_zone_of_its_schedule() {
    let mut timetable = table(vec![cron("30 0 * * *", "Europe/Berlin"), every(43_200)]);
    timetable.exclude = BTreeSet::from([date(2026, 12, 25)]);
    assert_eq!(
        next(&timetable, "2026-12-23T23:29:00Z", 6),
        [
            "2026-12-23T23:30:00Z",
            "2026-12-24T00:00:00Z",
            "2026-12-24T12:00:00Z",
            "2026-12-25T23:30:00Z",
            "2026-12-26T00:00:00Z",
            "2026-12-26T12:00:00Z",
        ],
        "00:30 of the 25th in Berlin is the 24th in UTC"
    );
}

#[test]
fn an_excluded_date_that_comes_twice_is_excluded_twice() {
    // The clock in Santiago goes back from 24:00 to 23:00 on 2023-04-01.
    let mut timetable = table(vec![cron("30 * * * *", "America/Santiago")]);
    timetable.exclude = BTreeSet::from([date(2023, 4, 1)]);
    assert_eq!(next(&timetable, "2023-04-01T02:30:00Z", 1), ["2023-04-02T04:30:00Z"]);
}

#[test]
fn when_every_date_is_excluded_the_answer_comes_all_the_same() {
    let days = |first: Date, count: usize| {
        std::iter::successors(Some(first), |date| date.tomorrow().ok()).take(count)
    };
    let mut timetable = table(vec![cron("* * * * * *", "Pacific/Apia"), every(1)]);
    timetable.exclude = days(date(2010, 1, 1), 1_000).collect();
    let found = timetable.next_after(at("2010-01-01T12:00:00Z"));
    assert_eq!(found, Some(at("2012-09-26T11:00:00Z")), "midnight of 2012-09-27 in Apia");

    timetable.exclude = days(date(9998, 1, 1), 1_000).collect();
    assert_eq!(timetable.next_after(at("9998-01-02T00:00:00Z")), None);
}

#[test]
fn counting_stops_at_its_end_and_at_its_cap() {
    let minutely = table(vec![every(60), cron("* * * * *", "UTC")]);
    let (from, until) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T01:00:00Z"));
    assert_eq!(minutely.count_between(from, until, 1_000), 60);
    assert_eq!(minutely.count_between(from, until, 7), 7);
    assert_eq!(minutely.count_between(from, from, 7), 0);
    assert_eq!(minutely.count_between(until, from, 7), 0);
}

#[test]
fn the_last_of_so_many_runs_is_found_by_counting() {
    let mut minutely = table(vec![every(60), cron("* * * * *", "UTC")]);
    let from = at("2026-01-01T00:00:00Z");
    assert_eq!(minutely.last_of(from, 1), Some(at("2026-01-01T00:01:00Z")));
    assert_eq!(minutely.last_of(from, 100_000), Some(at("2026-03-11T10:40:00Z")));
    assert_eq!(minutely.last_of(from, 0), None);
    minutely.end = Some(at("2026-01-01T00:10:00Z"));
    assert_eq!(minutely.last_of(from, 10), Some(at("2026-01-01T00:10:00Z")));
    assert_eq!(minutely.last_of(from, 11), None);
    assert_eq!(table(vec![Schedule::At(from)]).last_of(Instant::MIN, 2), None);
}

#[test]
fn the_last_instant_of_a_stretch_is_the_last_one_that_a_walk_meets() {
    let dense = cron("* * 2 * * *", "Europe/Berlin");
    for timetable in [
        table(vec![cron("30 2 * * *", "Europe/Berlin"), every(7)]),
        table(vec![dense]),
        Timetable { end: Some(at("2026-10-25T00:30:00Z")), ..table(vec![every(60)]) },
        table(vec![Schedule::At(at("2026-10-25T01:00:00Z"))]),
        table(Vec::new()),
    ] {
        // The night in which the clock of Berlin goes back.
        let from = at("2026-10-24T23:00:00Z");
        for minutes in [0, 1, 59, 60, 90, 91, 150, 600] {
            let until = from.plus(Duration::from_secs(minutes * 60));
            let walked = timetable.instants_after(from).take_while(|next| *next <= until).last();
            assert_eq!(timetable.last_between(from, until), walked, "{timetable:?} {minutes}");
        }
    }
    let seconds = table(vec![cron("* * * * * *", "UTC")]);
    let last = seconds.last_between(Instant::MIN, Instant::MAX);
    assert_eq!(last, Some(Instant::MAX));
}
