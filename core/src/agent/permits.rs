//! Permission to start (L2). What may start at most once starts only while my newest answered
//! ledger lists that very attempt as permitted, and every ledger sent since does too. Then whoever
//! takes the range over finds every attempt that was ever permitted, and starts none of them; no
//! clock is in the argument.
//!
//! Nobody waits for that in calm: what comes due within two seconds is listed ahead. What is due
//! already (a retry, a trigger, a run that had to wait) asks, and gets a ledger at once; requests
//! that come while such a ledger is under way share the next one.
//!
//! What was listed ahead and is not wanted any more, since its task was edited, paused or deleted,
//! is left out of the next ledger: it has not started, and from then on it may not.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::agent::desk::Desk;
use crate::agent::listing::{entry_bytes, listing_bytes};
use crate::agent::open::OpenRun;
use crate::agent::range::{Phase, Range};
use crate::agent::rules::Rule;
use crate::agent::take::run_id;
use crate::due::wheel::NearEntry;
use crate::ids::{Attempt, Fence, RangeId, RunId, TaskNumber};
use crate::ledger::{Entry, EntryState, Ledger};
use crate::limits;
use crate::run::RunState;
use crate::run::life::{Event, Stage};
use crate::time::{Instant, MILLISECOND};

/// What comes due so soon is listed.
const AHEAD: Duration = Duration::from_secs(2);
/// What comes due so soon and is not listed gets a ledger of its own.
const AT_LEAST: Duration = Duration::from_millis(500);
/// How soon after a ledger another one is written for what is ahead: some of it may have found no
/// room.
const APART: Duration = Duration::from_millis(200);

const LOST: &str = "its host went away after the ledger had permitted it to start: it may have \
                    run, and nobody starts it again";

#[derive(Debug, Default)]
pub(crate) struct Permits {
    /// Entries to come of tasks that may start at most once. Some are stale: `near` knows.
    ahead: BTreeSet<NearEntry>,
    /// Of them, those due up to here are in the newest ledger, as far as they were known.
    listed_to: Option<Instant>,
    /// Attempts that may start.
    given: BTreeSet<(RunId, Attempt)>,
    /// Runs that wait for permission, the oldest due first.
    asking: BTreeSet<(Instant, RunId)>,
    /// Some of them are in no ledger yet.
    wanted: bool,
    /// The ledger that is under way was written for permissions.
    pub under_way: bool,
}

/// When permissions need a ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PermitsDue {
    Now,
    /// The next of those that are written every second will do.
    Soon,
    Later,
}

impl Permits {
    /// An entry will come due.
    pub fn foresee(&mut self, entry: NearEntry) {
        let before = entry.due.minus(MILLISECOND);
        self.listed_to = self.listed_to.map(|to| to.min(before));
        self.ahead.insert(entry);
    }

    /// The window begins anew: entries come again.
    pub fn unforesee(&mut self) {
        self.ahead.clear();
        self.listed_to = None;
    }

    pub fn asks(&mut self, due: Instant, id: &RunId) {
        self.asking.insert((due, id.clone()));
        self.wanted = true;
    }

    pub fn stops_asking(&mut self, due: Instant, id: &RunId) {
        self.asking.remove(&(due, id.clone()));
    }

    pub fn asking(&self) -> usize {
        self.asking.len()
    }

    pub fn oldest_asking(&self) -> Option<Instant> {
        self.asking.first().map(|(due, _)| *due)
    }

    /// The due of the first entry that no ledger lists.
    fn first_unlisted(&self) -> Option<Instant> {
        let due = self.listed_to.map_or(Instant::MIN, |to| to.plus(MILLISECOND));
        let first = NearEntry { due, number: TaskNumber(0), range: RangeId(0), hold: 0 };
        self.ahead.range(first..).next().map(|entry| entry.due)
    }
}

impl Range {
    /// Whether the next attempt of an open run may start, as far as permission goes.
    pub(super) fn permitted(&self, desk: &Desk, id: &RunId) -> bool {
        self.open.get(id).is_some_and(|run| self.permits_start(desk, id, run))
    }

    /// As `permitted`, of a run that is at hand.
    pub(super) fn permits_start(&self, desk: &Desk, id: &RunId, run: &OpenRun) -> bool {
        let Some(fence) = self.fence() else { return false };
        if !run.at_most_once() || !desk.holds(Rule::Permission) {
            return true;
        }
        let next = Attempt { fence, number: run.attempt.number + 1 };
        !run.unknown_end() && self.permits.given.contains(&(id.clone(), next))
    }

    /// A run that would start waits until a ledger permits it. One that an earlier holder may have
    /// started never gets there.
    pub(super) fn ask_permission(&mut self, desk: &mut Desk, id: &RunId) {
        let Some(run) = self.open.get(id) else { return };
        if run.unknown_end() {
            self.lose_run(desk, id);
            return;
        }
        let due = run.due;
        if self.step(id, Event::Ask) {
            self.permits.asks(due, id);
        }
    }

    /// It may have started, or may yet, at a holder before: nobody starts it again.
    pub(super) fn lose_run(&mut self, desk: &mut Desk, id: &RunId) {
        self.end_run(desk, id, RunState::Lost, Some(LOST));
    }

    pub(super) fn asking_under_way(&self) -> bool {
        let sent = matches!(self.writer.phase, Phase::Syncing { .. } | Phase::InFlight { .. });
        self.permits.under_way && sent
    }

    pub(super) fn permits_due(&mut self, desk: &mut Desk) -> PermitsDue {
        if self.permits.wanted {
            return PermitsDue::Now;
        }
        let Some(due) = self.permits.first_unlisted() else { return PermitsDue::Later };
        let left = due.wall().since(desk.now.wall);
        let apart = self.writer.ledger_sent.plus(APART);
        if left > AHEAD {
            desk.wake_by(desk.now.mono.plus(left - AHEAD));
            return PermitsDue::Later;
        }
        if left <= AT_LEAST && apart <= desk.now.mono {
            return PermitsDue::Now;
        }
        desk.wake_by(apart.max(desk.now.mono.plus(left.saturating_sub(AT_LEAST))));
        PermitsDue::Soon
    }

    /// Lists what comes due soon, as far as the ledger has room.
    pub(super) fn list_ahead(&mut self, desk: &Desk, fence: Fence, open: &mut Vec<Entry>) {
        self.permits.wanted = false;
        let until = desk.now.wall.plus(AHEAD).instant();
        let behind = self.window.decided_to;
        self.permits.ahead.retain(|entry| entry.due > behind);
        let mut bytes: usize = open.iter().map(entry_bytes).sum();
        let attempt = Attempt { fence, number: 1 };
        self.permits.listed_to = Some(until);
        for entry in self.permits.ahead.iter().take_while(|entry| entry.due <= until) {
            let Some(run) = self.foreseen(desk, entry) else { continue };
            let room = open.len() < limits::LEDGER_ENTRIES_MAX;
            bytes += listing_bytes(&run);
            if !room || bytes > limits::LEDGER_BYTES_MAX {
                self.permits.listed_to = Some(entry.due.minus(MILLISECOND));
                return;
            }
            open.push(Entry { run, due: entry.due, attempt, state: EntryState::Permitted });
        }
    }

    /// The run that an entry stands for, if that is still to come and not open already.
    fn foreseen(&self, desk: &Desk, entry: &NearEntry) -> Option<RunId> {
        let near = desk.near.get(entry.number).filter(|_| entry.hold == self.holding)?;
        let (_, instant) = near.queued.filter(|(due, _)| *due == entry.due)?;
        let run = run_id(&near.timed.task, instant);
        (!near.is_paused() && !self.open.contains_key(&run)).then_some(run)
    }

    /// A ledger is about to be sent: what it does not permit may not start any more.
    pub(super) fn take_permissions_back(&mut self, desk: &Desk, open: &[Entry]) {
        if self.permits.given.is_empty() || !desk.holds(Rule::TakenBack) {
            return;
        }
        let permitted: BTreeSet<(&RunId, Attempt)> = open.iter().filter_map(permission).collect();
        self.permits.given.retain(|(run, attempt)| permitted.contains(&(run, *attempt)));
    }

    /// A ledger of mine is answered: what it permits may start.
    pub(super) fn permit(&mut self, desk: &mut Desk, ledger: &Ledger) {
        self.permits.under_way = false;
        let permitted = ledger.open.iter().filter_map(permission);
        self.permits.given = permitted.map(|(run, attempt)| (run.clone(), attempt)).collect();
        let asking: Vec<(Instant, RunId)> = self.permits.asking.iter().cloned().collect();
        for (due, id) in asking {
            if self.permitted(desk, &id) && self.step(&id, Event::Permit) {
                self.permits.stops_asking(due, &id);
                self.requeue(desk, &id);
            }
        }
    }
}

fn permission(entry: &Entry) -> Option<(&RunId, Attempt)> {
    (entry.state == EntryState::Permitted).then_some((&entry.run, entry.attempt))
}

/// The attempt that an entry speaks of: the one that is permitted, or the newest that was started.
pub(super) fn listed_attempt(run: &OpenRun, state: EntryState, fence: Fence) -> Attempt {
    let starts = matches!(run.stage, Stage::Asking | Stage::Queued | Stage::Opening { .. });
    match state {
        EntryState::Permitted if starts => Attempt { fence, number: run.attempt.number + 1 },
        _ => run.attempt,
    }
}
