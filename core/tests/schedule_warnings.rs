//! What the preview says about the clock and about schedules that never fire.

#![expect(clippy::unwrap_used, reason = "the cases are literals")]

use std::time::Duration;

use tocktower_core::schedule::{Cron, Dialect, Every, Fold, Gap, Schedule, Zone, warnings};
use tocktower_core::time::Instant;

/// "code: message" for each warning about an expression after the start of 2026.
fn warned(expression: &str, zone: &str, gap: Gap, fold: Fold) -> Vec<String> {
    warned_after("2026-01-01T00:00:00Z", expression, zone, gap, fold)
}

fn warned_after(after: &str, expression: &str, zone: &str, gap: Gap, fold: Fold) -> Vec<String> {
    let zone = Zone::parse(zone).unwrap();
    let cron = Cron::parse(expression, Dialect::Crontab, zone, gap, fold, 0).unwrap();
    let after = after.parse::<jiff::Timestamp>().unwrap();
    let after = Instant::from_millis(after.as_millisecond());
    let found = warnings(&Schedule::Cron(cron), after);
    found.iter().map(|warning| format!("{}: {}", warning.code, warning.message)).collect()
}

#[test]
fn a_time_in_the_gap_and_in_the_fold_is_named_with_what_happens() {
    assert_eq!(
        warned("30 2 * * *", "Europe/Berlin", Gap::After, Fold::First),
        [
            "dst_gap: On 2026-03-29 the clock in Europe/Berlin goes forward from 02:00 to 03:00: \
             02:30 does not exist, it runs at 03:00 instead (gap: after).",
            "dst_fold: On 2026-10-25 the clock in Europe/Berlin goes back from 03:00 to 02:00: \
             02:30 comes twice and runs the first time only (fold: first).",
        ]
    );
    let behind_both = warned("0 1 * * *", "Atlantic/Azores", Gap::Skip, Fold::Both);
    assert_eq!(behind_both, [""; 0], "the clock jumps between 00:00 and 01:00");
}

#[test]
fn southern_zones_and_midnight_are_no_special_case() {
    assert_eq!(
        warned("15 0 * * *", "America/Santiago", Gap::Skip, Fold::Second),
        ["dst_gap: On 2026-09-06 the clock in America/Santiago goes forward from 00:00 to \
          01:00: 00:15 does not exist, nothing runs for it (gap: skip)."]
    );
    assert_eq!(
        warned("30 23 * * *", "America/Santiago", Gap::Skip, Fold::Second),
        ["dst_fold: On 2026-04-04 the clock in America/Santiago goes back from 2026-04-05 00:00 \
          to 23:00: 23:30 comes twice and runs the second time only (fold: second)."]
    );
}

#[test]
fn a_change_of_the_name_of_a_zone_is_no_change_of_its_clock() {
    // Anchorage renamed its time on 1983-11-30, before the next change of the clock.
    let after = "1983-11-15T00:00:00Z";
    let found = warned_after(after, "30 1 * * *", "America/Anchorage", Gap::Skip, Fold::First);
    assert_eq!(
        found,
        ["dst_fold: On 1984-10-28 the clock in America/Anchorage goes back from 02:00 to 01:00: \
          01:30 comes twice and runs the first time only (fold: first)."]
    );
}

#[test]
fn a_spacing_is_warned_about_only_if_the_jump_breaks_it() {
    let warned = |expression, zone| warned(expression, zone, Gap::After, Fold::First).len();
    assert_eq!(warned("*/15 * * * *", "Europe/Berlin"), 0);
    assert_eq!(warned("7 * * * *", "Europe/Berlin"), 0);
    assert_eq!(warned("*/10 * * * *", "Australia/Lord_Howe"), 0, "it jumps by half an hour");
    assert_eq!(warned("15 * * * *", "Australia/Lord_Howe"), 2 - 1, "once lost, never doubled");
    assert_eq!(warned("0 */2 * * *", "Europe/Berlin"), 2);
    assert_eq!(warned("*/15 2 * * *", "Europe/Berlin"), 2);
    assert_eq!(warned("0 12 * * *", "Europe/Berlin"), 0);
    assert_eq!(warned("30 2 * * *", "UTC"), 0);
    assert_eq!(warned("30 2 * * *", "Asia/Kolkata"), 0);
}

#[test]
fn the_date_counts_and_not_only_the_time() {
    let warned = |expression| warned(expression, "Europe/Berlin", Gap::After, Fold::First).len();
    assert_eq!(warned("30 2 * * mon-fri"), 0, "the clock changes on Sundays");
    assert_eq!(warned("30 2 1-28 * *"), 1, "the 29th of March is not among them, but the 25th is");
}

#[test]
fn a_schedule_without_an_instant_is_said_to_be_one() {
    let warned = |expression| warned(expression, "UTC", Gap::After, Fold::First);
    let never = ["never_fires: No date matches this schedule: it never fires."];
    assert_eq!(warned("0 0 30 2 *"), never);
    assert_eq!(
        warned("0 0 0 1 1 * 2020-2026"),
        ["never_fires: There is no instant after 2026-01-01 00:00 UTC."]
    );
    let past = Schedule::At(Instant::from_millis(1_000));
    assert_eq!(warnings(&past, Instant::from_millis(1_000)).len(), 1);
    let every = Every::new(Duration::from_secs(60), Duration::ZERO).unwrap();
    assert_eq!(warnings(&Schedule::Every(every), Instant::MIN), []);
}
