//! How schedules read in plain language: the common forms as people say them, the rest field by
//! field.

#![expect(clippy::unwrap_used, reason = "the cases are literals")]

use std::time::Duration;

use tocktower_core::schedule::{Cron, Dialect, Every, Fold, Gap, Schedule, Zone};
use tocktower_core::time::Instant;

fn check(dialect: Dialect, cases: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (expression, reading) in cases {
        let zone = Zone::parse("Europe/Berlin").unwrap();
        let cron = Cron::parse(expression, dialect, zone, Gap::After, Fold::First, 0).unwrap();
        let found = cron.describe();
        if found != format!("{reading}, Europe/Berlin") {
            wrong.push(format!("{expression}\n  found    {found}\n  expected {reading}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn times_of_day_are_listed() {
    check(
        Dialect::Crontab,
        &[
            ("30 2 * * *", "At 02:30 every day"),
            ("@daily", "At 00:00 every day"),
            ("0 */6 * * *", "At 00:00, 06:00, 12:00 and 18:00 every day"),
            ("*/30 2 * * *", "At 02:00 and 02:30 every day"),
            ("15 30 2 * * *", "At 02:30:15 every day"),
            ("30 4 1,15 * 5", "At 04:30 on the 1st and 15th or on any Friday of every month"),
        ],
    );
}

#[test]
fn even_spacings_are_said_as_such() {
    check(
        Dialect::Crontab,
        &[
            ("* * * * *", "Every minute"),
            ("*/15 * * * *", "Every 15 minutes"),
            ("0,15,30,45 * * * *", "Every 15 minutes"),
            ("*/30 * * * *", "Every 30 minutes"),
            ("* * * * * *", "Every second"),
            ("*/10 * * * * *", "Every 10 seconds"),
            ("@hourly", "Every hour, on the hour"),
            ("1 * * * *", "Every hour at 1 minute past"),
            ("20 30 * * * *", "Every hour at 30 minutes and 20 seconds past"),
            ("0 */2 * * *", "Every 2 hours from 00:00 to 22:00"),
            ("30 9-17 * * *", "Every hour from 09:30 to 17:30"),
            (
                "*/15 9-17 * * mon-fri",
                "Every 15 minutes from 09:00 to 17:45, from Monday to Friday",
            ),
            ("* 2 * * *", "Every minute from 02:00 to 02:59"),
            ("*/5 */2 * * *", "Every 5 minutes of every 2nd hour"),
            ("*/5 1,3,7 * * *", "Every 5 minutes in the hours 1, 3 and 7"),
        ],
    );
}

#[test]
fn what_is_uneven_is_read_from_the_clock() {
    check(
        Dialect::Crontab,
        &[
            ("5,35 * * * *", "Every hour at 5 and 35 minutes past"),
            ("*/25 * * * *", "Every hour at 0, 25 and 50 minutes past"),
            ("10-15 9-17 * * *", "At 10 to 15 minutes past every hour from 09 to 17"),
            ("7 1,2,3,5,8,13,21 * * *", "At 7 minutes past the hours 1 to 3, 5, 8, 13 and 21"),
            (
                "5 1-20/7,21 * 3,5 * *",
                "At second 5 of minutes 1, 8, 15 and 21 of every hour, on the 3rd and 5th of \
                 every month",
            ),
            (
                "*/7 * * * * *",
                "At seconds 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every minute of every hour",
            ),
        ],
    );
}

#[test]
fn days_read_as_on_a_calendar() {
    check(
        Dialect::Crontab,
        &[
            ("0 7 * * 1-5", "At 07:00 from Monday to Friday"),
            ("0 7 * * mon", "At 07:00 on Monday"),
            ("0 7 * * 0,6", "At 07:00 on Saturday and Sunday"),
            ("0 7 * * 5-7", "At 07:00 from Friday to Sunday"),
            ("0 7 1 * *", "At 07:00 on the 1st of every month"),
            ("0 7 1-7 * *", "At 07:00 on the 1st to 7th of every month"),
            ("0 7 1 1,7 *", "At 07:00 on the 1st of January and July"),
            ("0 7 1 6-8 *", "At 07:00 on the 1st of each month from June to August"),
            ("0 7 * 6-8 *", "At 07:00 every day from June to August"),
            ("0 7 * jun fri", "At 07:00 on Friday in June"),
            ("*/15 * * 6 *", "Every 15 minutes, every day in June"),
            ("@weekly", "At 00:00 on Sunday"),
            ("0 7 1-31 * 1", "At 07:00 every day"),
            ("0 7 1 * 0-6", "At 07:00 every day"),
            ("0 7 1-31 * *", "At 07:00 every day"),
            ("0 7 * * sun-sat", "At 07:00 every day"),
            ("@yearly", "At 00:00 on the 1st of January"),
            (
                "0 0 */2 * 1",
                "At 00:00 on every 2nd day from the 1st to the 31st of every month if that is a \
                 Monday",
            ),
            ("0 0 12 24 12 * 2026", "At 12:00 on the 24th of December in 2026"),
            ("0 0 12 * * * 2026-2030", "At 12:00 every day from 2026 to 2030"),
        ],
    );
}

#[test]
fn the_special_days_of_quartz_are_spelled_out() {
    check(
        Dialect::Quartz,
        &[
            ("0 15 10 L * ?", "At 10:15 on the last day of every month"),
            ("0 15 10 L-2 * ?", "At 10:15 on the day 2 days before the last of every month"),
            ("0 15 10 LW 2,5 ?", "At 10:15 on the last weekday of February and May"),
            ("0 15 10 15W * ?", "At 10:15 on the weekday nearest to the 15th of every month"),
            ("0 15 10 1,LW * ?", "At 10:15 on the 1st and the last weekday of every month"),
            ("0 15 10 ? * 6L", "At 10:15 on the last Friday of every month"),
            ("0 15 10 ? * 6#3", "At 10:15 on the 3rd Friday of every month"),
            ("0 15 10 ? 3 MON#1,WED", "At 10:15 on any Wednesday and the 1st Monday of March"),
            ("0 15 10 ? * FRI-MON", "At 10:15 from Friday to Monday"),
            ("0 15 10 ? * 2-6", "At 10:15 from Monday to Friday"),
            ("0 0 9 1 NOV-FEB ?", "At 09:00 on the 1st of each month from November to February"),
        ],
    );
}

#[test]
fn h_reads_as_what_it_came_to() {
    let zone = Zone::UTC;
    let seed = 0x0123_4567_89ab_cdef;
    let cron = |text| {
        Cron::parse(text, Dialect::Crontab, zone.clone(), Gap::After, Fold::First, seed).unwrap()
    };
    assert_eq!(cron("H H * * *").describe(), "At 18:46 every day, UTC");
    assert_eq!(cron("H/20 * * * *").describe(), "Every hour at 6, 26 and 46 minutes past, UTC");
}

#[test]
fn the_other_kinds_of_schedule_are_read_in_utc() {
    let at = Schedule::At(Instant::from_millis(1_795_514_400_000));
    assert_eq!(at.describe(), "Once, on 2026-11-24 at 10:00:00, UTC");
    let every = Every::new(Duration::from_secs(900), Duration::ZERO).unwrap();
    assert_eq!(Schedule::Every(every).describe(), "Every 15 minutes, UTC");
}
