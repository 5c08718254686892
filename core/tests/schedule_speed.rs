//! How long one answer takes. Not run with the others, since a time is a figure and not a fact:
//! `cargo test -p tocktower-core --test schedule_speed -- --ignored --nocapture --test-threads=1`.

#![expect(clippy::unwrap_used, reason = "the cases are literals")]
#![expect(clippy::disallowed_methods, reason = "a measurement reads a clock")]

use std::time::Instant as Clock;

use tocktower_core::limits;
use tocktower_core::schedule::{Cron, Dialect, Fold, Gap, Schedule, Timetable, Zone, warnings};
use tocktower_core::time::Instant;

/// 2026-01-01T00:00:00Z, in milliseconds.
const START: i64 = 1_767_225_600_000;

fn per_answer(expression: &str, dialect: Dialect, zone: &str, fold: Fold) -> (f64, u32) {
    let zone = Zone::parse(zone).unwrap();
    let cron = Cron::parse(expression, dialect, zone, Gap::After, fold, 0).unwrap();
    let start = Instant::from_millis(START);
    let began = Clock::now();
    let mut answers = 0_u32;
    while answers < 200_000 && began.elapsed().as_secs() < 1 {
        let mut at = start;
        for _ in 0..100 {
            answers += 1;
            let Some(next) = cron.next_after(at) else {
                break;
            };
            at = next;
        }
    }
    (began.elapsed().as_secs_f64() * 1e6 / f64::from(answers), answers)
}

#[test]
#[ignore = "a measurement"]
fn microseconds_per_answer() {
    let cases = [
        ("30 2 * * *", "UTC", Fold::First),
        ("30 2 * * *", "Europe/Berlin", Fold::First),
        ("30 2 * * *", "Europe/Berlin", Fold::Both),
        ("*/5 * * * *", "Europe/Berlin", Fold::First),
        ("* * * * * *", "Europe/Berlin", Fold::First),
        ("0 9-17 * * mon-fri", "America/New_York", Fold::First),
        ("30 4 1,15 * 5", "Australia/Lord_Howe", Fold::First),
        ("0 0 29 2 *", "Europe/Berlin", Fold::First),
        ("0 0 */28 2 1", "Europe/Berlin", Fold::First),
        ("0 0 30 2 *", "Europe/Berlin", Fold::First),
        ("0 0 */31 2,4,6,9,11 0", "UTC", Fold::First),
    ];
    for (expression, zone, fold) in cases {
        let (micros, answers) = per_answer(expression, Dialect::Crontab, zone, fold);
        println!("{micros:9.3} us  {expression:22} {zone:20} {fold:6} ({answers} answers)");
    }
    // The last is lost in the gap of every year.
    for expression in ["0 0 18 LW * ?", "0 0 12 ? 2 MON#5", "0 30 2 ? 3 1#2", "* * 2 ? 3 1#2"] {
        let (micros, answers) =
            per_answer(expression, Dialect::Quartz, "America/New_York", Fold::First);
        println!("{micros:9.3} us  {expression:22} quartz, New York ({answers} answers)");
    }
}

#[test]
#[ignore = "a measurement"]
fn milliseconds_to_find_the_last_run_and_microseconds_for_the_rest() {
    let zone = Zone::parse("Europe/Berlin").unwrap();
    let cron = |text: &str| {
        Cron::parse(text, Dialect::Crontab, zone.clone(), Gap::After, Fold::First, 0).unwrap()
    };
    let start = Instant::from_millis(START);
    let minutes =
        |count: usize| (0..count).map(|at| Schedule::Cron(cron(&format!("{at} * * * *"))));
    for schedules in [1, 60] {
        let timetable =
            Timetable { schedules: minutes(schedules).collect(), ..Timetable::default() };
        let began = Clock::now();
        assert!(timetable.last_of(start, limits::RUNS_MAX).is_some());
        println!("{:9.1} ms  100,000 runs of {schedules} schedules", ms(began, 1));
    }
    let one = Schedule::Cron(cron("30 2 * * *"));
    let rounds = 10_000;
    let began = Clock::now();
    for _ in 0..rounds {
        std::hint::black_box(cron("*/15 9-17 * * mon-fri"));
    }
    println!("{:9.3} us  parse", ms(began, rounds) * 1e3);
    let began = Clock::now();
    for _ in 0..rounds {
        std::hint::black_box(one.describe());
    }
    println!("{:9.3} us  describe", ms(began, rounds) * 1e3);
    let began = Clock::now();
    for _ in 0..rounds {
        std::hint::black_box(warnings(&one, start));
    }
    println!("{:9.3} us  warnings", ms(began, rounds) * 1e3);
    println!("{:9} bytes of a Cron, without its text", size_of::<Cron>());
}

fn ms(began: Clock, rounds: u32) -> f64 {
    began.elapsed().as_secs_f64() * 1e3 / f64::from(rounds)
}
