//! When something will run: the next instants of a task, or of schedules that belong to none yet.
//!
//! With them comes a reading in plain language and what a person should know before saving, since
//! most wrong schedules are valid ones. Instants are shown in the local time of the schedule that
//! they come from, with its offset: a list that only shows UTC hides the very change of the clock
//! that its reader wants to see.

use tocktower_core::ids::{Name, Namespace, TaskName};
use tocktower_core::limits;
use tocktower_core::schedule::{Schedule, Timetable, Zone, warnings};
use tocktower_core::task::timetable;
use tocktower_core::time::Instant;
use tocktower_proto::convert::schedules_from_json;
use tocktower_proto::json;

use super::error::TaskError;
use super::look::Read;
use super::tasks::{Tasks, Warning};
use crate::clock;

pub const COUNT_DEFAULT: u32 = 10;
pub const COUNT_MAX: u32 = 1_000;
/// The name that `H` spreads by when none is given.
const NAME_DEFAULT: &str = "preview";

/// The next instants, each with the local time of the schedule that it comes from.
#[derive(Clone, PartialEq, Debug)]
pub struct Upcoming {
    pub instants: Vec<(Instant, String)>,
    pub description: String,
    pub warnings: Vec<Warning>,
}

impl Tasks {
    pub async fn upcoming(
        &self,
        name: &TaskName,
        count: u32,
        after: Option<Instant>,
    ) -> Result<Read<Upcoming>, TaskError> {
        self.ready()?;
        let stale = self.catalog.stale();
        let (task, _) = self.newest(name).await?;
        let from = after.unwrap_or_else(|| clock::wall().instant());
        let from = from.max(task.effective_from.instant());
        let table = timetable(&task.spec, task.last_instant);
        Ok(Read { value: upcoming(&table, from, count)?, stale })
    }

    /// The same for schedules alone.
    pub fn preview(
        &self,
        schedules: &[json::Schedule],
        namespace: Option<&str>,
        name: Option<&str>,
        count: u32,
        after: Option<Instant>,
    ) -> Result<Upcoming, TaskError> {
        if schedules.is_empty() || schedules.len() > limits::SCHEDULES_MAX {
            let message = format!(
                "{} schedules; allowed are 1 to {}",
                schedules.len(),
                limits::SCHEDULES_MAX
            );
            return Err(TaskError::bad("schedules", message));
        }
        let name = TaskName {
            namespace: Namespace::parse(namespace.unwrap_or("default"))
                .map_err(|error| TaskError::name("namespace", &error))?,
            name: Name::parse(name.unwrap_or(NAME_DEFAULT))
                .map_err(|error| TaskError::name("name", &error))?,
        };
        let schedules = schedules_from_json(schedules, &name).map_err(TaskError::BadRequest)?;
        let table = Timetable { schedules, ..Timetable::default() };
        upcoming(&table, after.unwrap_or_else(|| clock::wall().instant()), count)
    }
}

fn upcoming(table: &Timetable, after: Instant, count: u32) -> Result<Upcoming, TaskError> {
    if !(1..=COUNT_MAX).contains(&count) {
        return Err(TaskError::bad("count", format!("{count}; allowed is 1 to {COUNT_MAX}")));
    }
    let count = usize::try_from(count).expect("at most a thousand");
    let instants = table.instants_after(after).take(count);
    let instants = instants.map(|instant| (instant, local(&table.schedules, instant))).collect();
    let description: Vec<String> = table.schedules.iter().map(Schedule::describe).collect();
    let mut found = Vec::new();
    for warning in table.schedules.iter().flat_map(|schedule| warnings(schedule, after)) {
        let (code, message) = (warning.code.to_string(), warning.message);
        let warning = Warning { code, message };
        if !found.contains(&warning) {
            found.push(warning);
        }
    }
    Ok(Upcoming { instants, description: description.join("; "), warnings: found })
}

/// RFC 3339 with the offset of the zone of the first schedule that has the instant.
pub(super) fn local(schedules: &[Schedule], instant: Instant) -> String {
    let before = Instant::from_millis(instant.millis() - 1);
    let has = |schedule: &&Schedule| schedule.next_after(before) == Some(instant);
    let zone = schedules.iter().find(has).map_or(Zone::UTC, |schedule| schedule.zone().clone());
    let (local, offset) = zone.local(instant);
    let seconds = offset.seconds();
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.unsigned_abs() / 60;
    match seconds {
        0 => format!("{local}Z"),
        _ => format!("{local}{sign}{:02}:{:02}", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tocktower_core::schedule::{Cron, Dialect, Fold, Gap};

    #[test]
    fn instants_carry_the_offset_of_their_zone() {
        let zone = Zone::parse("Europe/Berlin").unwrap();
        let cron =
            Cron::parse("30 2 * * *", Dialect::default(), zone, Gap::default(), Fold::default(), 0);
        let schedules = vec![Schedule::Cron(cron.unwrap())];
        let table = Timetable { schedules, ..Timetable::default() };
        let after = Instant::from_millis(1_795_000_000_000);
        let upcoming = upcoming(&table, after, 2).unwrap();
        let texts: Vec<&str> = upcoming.instants.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["2026-11-19T02:30:00+01:00", "2026-11-20T02:30:00+01:00"]);
        assert_eq!(upcoming.description, "At 02:30 every day, Europe/Berlin");
    }

    #[test]
    fn a_count_out_of_range_is_refused_by_name() {
        let table = Timetable::default();
        assert!(matches!(upcoming(&table, Instant::MIN, 0), Err(TaskError::BadRequest(_))));
    }
}
