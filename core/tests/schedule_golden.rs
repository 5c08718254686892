//! The golden tables are the definition of what an expression means: every entry was agreed by at
//! least three implementations (`tests/data/cron_golden.README.md`). All of them must come out.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]
#![expect(clippy::disallowed_methods, reason = "the tables are files")]

use serde_json::Value;
use tocktower_core::schedule::{Cron, Dialect, Fold, Gap, Zone};
use tocktower_core::time::Instant;

fn table(name: &str) -> Vec<Value> {
    let path = format!("{}/../tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str::<Vec<Value>>(&text).unwrap()
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry[key].as_str().unwrap_or_else(|| panic!("{key} is missing in {entry}"))
}

fn millis(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn cron(entry: &Value) -> Cron {
    let dialect = match text(entry, "dialect") {
        "crontab" | "seconds" => Dialect::Crontab,
        "quartz" => Dialect::Quartz,
        other => panic!("unknown dialect {other}"),
    };
    let gap = match entry["gap"].as_str() {
        Some("skip") => Gap::Skip,
        Some("after") | None => Gap::After,
        Some(other) => panic!("unknown gap {other}"),
    };
    let fold = match entry["fold"].as_str() {
        Some("first") | None => Fold::First,
        Some("second") => Fold::Second,
        Some("both") => Fold::Both,
        Some(other) => panic!("unknown fold {other}"),
    };
    let zone = Zone::parse(text(entry, "time_zone")).unwrap();
    Cron::parse(text(entry, "expr"), dialect, zone, gap, fold, 0).unwrap()
}

/// Says what is wrong with an entry; `None` if nothing is.
fn wrong(entry: &Value) -> Option<String> {
    let cron = cron(entry);
    let list = entry["next"].as_array().unwrap();
    let mut at = Instant::from_millis(millis(text(entry, "after")));
    // An instant is never before 1970, so a list that starts in 1969 is asked from its first
    // answer.
    let old = millis(text(entry, "after")) < Instant::MIN.millis();
    for expected in list.iter().map(|value| value.as_str().unwrap()).skip(usize::from(old)) {
        let Some(next) = cron.next_after(at) else {
            return Some(format!(
                "{} after {at:?}: nothing for {expected}\n{entry}",
                text(entry, "id")
            ));
        };
        let offset = cron.zone().local(next).1;
        let offset_expected = match expected.rsplit_once(['+', '-']).unwrap().1.split_once(':') {
            Some((hours, minutes)) => {
                let sign = if expected.as_bytes()[expected.len() - 6] == b'-' { -1 } else { 1 };
                sign * (hours.parse::<i32>().unwrap() * 60 + minutes.parse::<i32>().unwrap()) * 60
            }
            None => panic!("no offset in {expected}"),
        };
        if next.millis() != millis(expected) || offset.seconds() != offset_expected {
            return Some(format!("{}: {next:?} for {expected}\n{entry}", text(entry, "id")));
        }
        at = next;
    }
    let more = cron.next_after(at).filter(|_| list.len() < 10);
    more.map(|more| format!("{}: {more:?} after the last\n{entry}", text(entry, "id")))
}

fn check(name: &str, entries: usize) {
    let table = table(name);
    assert_eq!(table.len(), entries);
    let wrong = table.iter().filter_map(wrong).collect::<Vec<_>>();
    assert!(wrong.is_empty(), "{} of {entries} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_entry_of_the_golden_table_comes_out() {
    check("cron_golden.json", 410);
}

#[test]
fn every_entry_of_the_golden_table_of_clock_changes_comes_out() {
    check("cron_dst_golden.json", 82);
}

/// What the tables do not ask: a question from the middle of a first pass.
#[test]
fn asked_from_the_first_pass_of_a_fold_only_what_counts_is_answered() {
    // The clock in Berlin goes back from 03:00 to 02:00 at 01:00Z.
    let next = |expression, fold, after| {
        let zone = Zone::parse("Europe/Berlin").unwrap();
        let cron = Cron::parse(expression, Dialect::Crontab, zone, Gap::After, fold, 0).unwrap();
        let next = cron.next_after(Instant::from_millis(millis(after))).unwrap();
        cron.zone().local(next).1.to_string() + " " + &cron.zone().local(next).0.to_string()
    };
    let middle = "2026-10-25T00:20:00Z";
    assert_eq!(next("30 2 * * *", Fold::First, middle), "+02 2026-10-25T02:30:00");
    assert_eq!(next("30 2 * * *", Fold::Second, middle), "+01 2026-10-25T02:30:00");
    assert_eq!(next("30 2 * * *", Fold::Both, middle), "+02 2026-10-25T02:30:00");
    assert_eq!(next("10 2 * * *", Fold::First, middle), "+01 2026-10-26T02:10:00");
    assert_eq!(next("10 2 * * *", Fold::Second, middle), "+01 2026-10-25T02:10:00");
    assert_eq!(next("10 2 * * *", Fold::Both, middle), "+01 2026-10-25T02:10:00");
    assert_eq!(next("10 * * * *", Fold::First, middle), "+01 2026-10-25T02:10:00");
}
