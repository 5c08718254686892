//! What a person should know about a schedule before saving it.
//!
//! 02:30 in Berlin is a fine time on 363 days. On the other two it does not exist or comes twice,
//! and what happens then is a rule that nobody remembers having chosen. So the preview looks at the
//! next change of the clock in each direction and says in words what the schedule will do there,
//! while it can still be edited. A schedule that will never fire is said to be one.
//!
//! A cron expression that keeps its spacing (`*/15 * * * *`) is not warned about as long as the
//! jump of the clock leaves its minutes where they were. `0 */2 * * *` is: its two hours become one
//! or three.

use std::fmt;

use jiff::civil::DateTime;

use super::Schedule;
use super::cron::Cron;
use super::dst::{Change, Fold, Gap};
use crate::time::Instant;

/// Changes of the clock that are looked at: the next in each direction is among the next few, also
/// where Ramadan adds two of them.
const CHANGES_MAX: usize = 4;

/// What a warning is about, for programs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum WarningCode {
    /// A local time of the schedule does not exist at the next change of the clock.
    DstGap,
    /// A local time of the schedule comes twice at the next change of the clock.
    DstFold,
    /// There is no instant any more, or there never was one.
    NeverFires,
}

impl fmt::Display for WarningCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WarningCode::DstGap => "dst_gap",
            WarningCode::DstFold => "dst_fold",
            WarningCode::NeverFires => "never_fires",
        })
    }
}

/// Something to know before saving.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    pub code: WarningCode,
    /// A sentence or two for a person.
    pub message: String,
}

/// The warnings for a schedule whose next instants after `after` are asked for.
pub fn warnings(schedule: &Schedule, after: Instant) -> Vec<Warning> {
    if schedule.next_after(after).is_none() {
        return vec![never_fires(schedule, after)];
    }
    match schedule {
        Schedule::Cron(cron) => at_changes(cron, after),
        Schedule::At(_) | Schedule::Every(_) => Vec::new(),
    }
}

fn never_fires(schedule: &Schedule, after: Instant) -> Warning {
    let message = if schedule.next_after(Instant::MIN).is_none() {
        "No date matches this schedule: it never fires.".to_owned()
    } else {
        let (local, _) = schedule.zone().local(after);
        format!("There is no instant after {} {}.", clock(local), schedule.zone())
    };
    Warning { code: WarningCode::NeverFires, message }
}

/// The next gap and the next fold, if the schedule has a local time in them.
fn at_changes(cron: &Cron, after: Instant) -> Vec<Warning> {
    let mut found: Vec<Warning> = Vec::new();
    let mut directions_seen = [false; 2];
    let mut second = after.millis().div_euclid(1_000);
    for _ in 0..CHANGES_MAX {
        let Some(change) = cron.zone().change_after(second) else {
            break;
        };
        second = change.at;
        let seen = &mut directions_seen[usize::from(change.is_gap())];
        if !std::mem::replace(seen, true) {
            found.extend(at_change(cron, &change));
        }
    }
    found
}

fn at_change(cron: &Cron, change: &Change) -> Option<Warning> {
    if cron.keeps_spacing() && cron.is_unmoved_by(change.shift()) {
        return None;
    }
    let first = cron.local_match(change.local_start()).filter(|at| *at < change.local_end())?;
    let (start, end) = (change.local_start(), change.local_end());
    let zone = cron.zone();
    let (code, message) = if change.is_gap() {
        let jump = format!(
            "On {} the clock in {zone} goes forward from {} to {}",
            start.date(),
            time(start),
            after_jump(start, end)
        );
        let what = match cron.gap() {
            _ if cron.keeps_spacing() => "nothing runs for it".to_owned(),
            Gap::Skip => "nothing runs for it (gap: skip)".to_owned(),
            Gap::After => format!("it runs at {} instead (gap: after)", after_jump(start, end)),
        };
        (WarningCode::DstGap, format!("{jump}: {} does not exist, {what}.", time(first)))
    } else {
        let jump = format!(
            "On {} the clock in {zone} goes back from {} to {}",
            start.date(),
            after_jump(start, end),
            time(start)
        );
        let what = match cron.fold() {
            _ if cron.keeps_spacing() => "and runs both times",
            Fold::First => "and runs the first time only (fold: first)",
            Fold::Second => "and runs the second time only (fold: second)",
            Fold::Both => "and runs both times (fold: both)",
        };
        (WarningCode::DstFold, format!("{jump}: {} comes twice {what}.", time(first)))
    };
    Some(Warning { code, message })
}

/// The time at the other end of a jump, with its date if that is another one.
fn after_jump(start: DateTime, end: DateTime) -> String {
    if start.date() == end.date() { time(end) } else { clock(end) }
}

fn clock(local: DateTime) -> String {
    format!("{} {}", local.date(), time(local))
}

fn time(local: DateTime) -> String {
    if local.second() == 0 {
        format!("{:02}:{:02}", local.hour(), local.minute())
    } else {
        format!("{:02}:{:02}:{:02}", local.hour(), local.minute(), local.second())
    }
}
