//! Whether a name is one that the policies of its task allow: that an instant came to a named end
//! says little where anything could be called skipped or missed.

use tocktower_core::limits;
use tocktower_core::run::{RunRecord, RunState};
use tocktower_core::task::{Overlap, Task, timetable};
use tocktower_core::time::{Instant, Wall};

use super::checker::Checker;
use super::world::World;

impl World {
    /// `host` tells how a run ended that never started.
    pub(super) fn check_name(&mut self, host: usize, record: &RunRecord) {
        let life = self.truth.life_of(&record.id);
        let versions: Vec<&Task> =
            life.iter().flat_map(|life| &life.versions).map(|(_, task)| &**task).collect();
        let undone = life.is_some_and(|life| life.undone.is_some());
        let clock = self.host_now(host).wall;
        if !is_allowed(record, &versions, undone, clock) {
            let text = format!("{} ended as {:?}: {:?}", record.id, record.state, record.reason);
            self.truth.violation(Checker::Loss, self.now, text);
        }
    }
}

/// `versions`: of its task, as far as they are written. `clock`: that of the host which says so.
fn is_allowed(record: &RunRecord, versions: &[&Task], undone: bool, clock: Wall) -> bool {
    // A row of many ends anywhere before what is not of it.
    let last = record.span.map_or(record.due, |span| {
        let before = Instant::from_millis(record.instant.millis() - 1);
        let tables = versions.iter().map(|task| timetable(&task.spec, task.last_instant));
        let of = tables.filter(|table| table.next_after(before) == Some(record.instant));
        // Of which version the row is nobody says: of any that allows it.
        let last = of.filter_map(|table| table.last_between(before, span.until)).min();
        last.unwrap_or(record.instant).wall()
    });
    let late = clock.since(last) >= limits::ON_TIME;
    let any = |which: fn(&Task) -> bool| versions.iter().any(|task| which(task));
    let edited = versions.len() > 1 || undone;
    let reason = record.reason.as_deref().unwrap_or_default();
    match (record.state, reason) {
        (RunState::Missed, "nobody could run it within its catch-up window") => late,
        (RunState::Missed, "it could not start before its start deadline") => {
            any(|task| task.spec.start_deadline.is_some())
        }
        (RunState::Skipped, "catch-up: a later instant stands for it") => late,
        (RunState::Skipped, "paused") => any(|task| task.spec.paused),
        (RunState::Skipped, "edited_late" | "an edit has taken its instant away") => edited,
        (RunState::Skipped, reason) if reason.starts_with("overlap: ") => {
            any(|task| matches!(task.spec.overlap, Overlap::Skip | Overlap::Queue))
        }
        (RunState::Skipped, reason) => reason.starts_with("duplicate_of "),
        (RunState::Missed, _) => false,
        _ => true,
    }
}
