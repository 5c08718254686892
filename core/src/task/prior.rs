//! The schedules that a task had before, as long as instants of them may be undecided.
//!
//! An edit takes effect at a moment: instants up to it belong to the schedule before. Whoever holds
//! the task's range knows that schedule while the edit comes in; nobody does if the range has no
//! holder then, or loses it at once. So the record carries what it replaces, until a ledger covers
//! every run of it. A prior says only which instants exist: what starts, starts with the present
//! action and policies.
//!
//! A holder that hears of the edit late has gone on by the schedule before, beyond the edit. An
//! instant that both schedules have may be due later by the newer one: then the older one alone
//! tells that it has run. So it is carried until a ledger shows that its holder knew of the edit.
//!
//! Not taken: to let the coordinator wait with an edit until a ledger covers all of the old
//! schedule. An edit would then fail exactly when its author is mending something.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::civil::Date;

use super::edit::EditError;
use super::placement::Broadcast;
use super::spec::{Spec, Task};
use super::validate::timetable;
use crate::ids::Revision;
use crate::ledger::Marks;
use crate::limits;
use crate::schedule::Schedule;
use crate::time::{Instant, Wall};

/// What a version's instants were, and which of them may be undecided.
#[derive(Clone, PartialEq, Debug)]
pub struct Prior {
    pub schedules: Vec<Schedule>,
    pub start_at: Option<Wall>,
    pub end_at: Option<Wall>,
    pub exclude: BTreeSet<Date>,
    pub jitter: Duration,
    pub splay: Duration,
    pub last_instant: Option<Instant>,
    pub paused: bool,
    /// Its instants are those after this, which tells it apart from others of the task...
    pub from: Wall,
    /// ...and up to this.
    pub until: Wall,
    /// The revision that put these instants.
    pub revision: Revision,
}

impl Prior {
    fn of(version: &Task, until: Wall) -> Prior {
        let spec = &version.spec;
        Prior {
            schedules: spec.schedules.clone(),
            start_at: spec.start_at,
            end_at: spec.end_at,
            exclude: spec.exclude.clone(),
            jitter: spec.jitter,
            splay: spec.broadcast.splay,
            last_instant: version.last_instant,
            paused: spec.paused,
            from: version.effective_from,
            until,
            revision: version.instants_revision(),
        }
    }

    /// The version as far as it counts: the old one's instants, and the present one for the rest.
    pub fn version(&self, present: &Task) -> Task {
        let spec = Spec {
            schedules: self.schedules.clone(),
            start_at: self.start_at,
            end_at: self.end_at,
            exclude: self.exclude.clone(),
            jitter: self.jitter,
            broadcast: Broadcast { splay: self.splay, ..present.spec.broadcast.clone() },
            paused: self.paused || present.spec.paused,
            ..present.spec.clone()
        };
        Task {
            spec,
            effective_from: self.from,
            // Of a record that does not say so it is none of the present version's own, either.
            instants_by: Some(self.revision).filter(|by| *by != Revision(0)),
            last_instant: self.last_instant,
            prior: Vec::new(),
            ..present.clone()
        }
    }

    /// The longest that a due is behind its instant.
    fn delay_max(&self) -> Duration {
        self.jitter.saturating_add(self.splay)
    }

    /// Whether the marks leave an instant of it undecided.
    fn is_left(&self, present: &Task, marks: Marks) -> bool {
        let covers = present.incarnation <= marks.incarnation;
        // An instant before this is due before what the marks have passed.
        let passed = covers.then(|| marks.through.minus(self.delay_max()));
        let from = self.from.instant().max(passed.unwrap_or(Instant::MIN));
        let version = self.version(present);
        let next = timetable(&version.spec, version.last_instant).next_after(from);
        next.is_some_and(|next| next.wall() <= self.until)
    }
}

/// What a new version of `current` carries of those before. `until`: the new one brings instants
/// from then on.
pub(super) fn carried(
    current: &Task,
    until: Option<Wall>,
    now: Wall,
    marks: Marks,
) -> Result<Vec<Prior>, EditError> {
    let replaced = until.filter(|_| current.spec.one_shot_at().is_none());
    let replaced = replaced.map(|until| Prior::of(current, until));
    let all: Vec<Prior> = current.prior.iter().cloned().chain(replaced).collect();
    // That of the one that is written now nobody knows yet.
    let present = Some(current.instants_revision()).filter(|_| until.is_none());
    let next = all.iter().skip(1).map(|next| Some(next.revision)).chain([present]);
    let known =
        |edit: Option<Revision>| edit.is_some_and(|edit| edit <= marks.incarnation.revision);
    let known: Vec<bool> = next.map(known).collect();
    let mut priors: Vec<(Prior, bool)> = Vec::new();
    for (prior, known) in all.into_iter().zip(known) {
        let left = prior.is_left(current, marks);
        if left || !known {
            priors.push((prior, left));
        }
    }
    while priors.len() > limits::PRIORS_MAX
        && let Some(at) = priors.iter().position(|(_, left)| !left)
    {
        priors.remove(at);
    }
    let mut priors: Vec<Prior> = priors.into_iter().map(|(prior, _)| prior).collect();
    if priors.len() > limits::PRIORS_MAX {
        // What is outside the window would not be made up for any more.
        let window = current.spec.catch_up.window.max(limits::ON_TIME);
        priors.retain(|prior| prior.until.plus(prior.delay_max()).plus(window) >= now);
    }
    match priors.len() > limits::PRIORS_MAX {
        true => Err(EditError::TooSoon),
        false => Ok(priors),
    }
}
