//! A run that is open at its holder, and the records that are made of it.

use std::sync::Arc;

use crate::agent::desk::Desk;
use crate::agent::effect::{RunKeyName, Ticket};
use crate::agent::near::Timed;
use crate::agent::ready::Rank;
use crate::ids::{Attempt, Fence, RangeId, Revision, RunId, RunKey};
use crate::run::life::{self, Event, Stage};
use crate::run::{AttemptRecord, RunRecord, RunState};
use crate::task::Task;
use crate::time::{Instant, Wall};

/// The key whose deletion settles a one-shot or a trigger (L7).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OwnKey {
    pub name: RunKeyName,
    /// The newest version that the watch delivered.
    pub revision: Revision,
}

#[derive(Clone, Debug)]
pub(crate) struct OpenRun {
    /// `None`: inherited, and its task not seen yet.
    pub task: Option<Arc<Task>>,
    pub instant: Instant,
    pub due: Instant,
    pub stage: Stage,
    /// The newest attempt that was started; number 0: none yet.
    pub attempt: Attempt,
    pub attempts: Vec<AttemptRecord>,
    /// One-shots and triggers.
    pub key: Option<OwnKey>,
    /// Its key, or that of its task, was seen to be gone.
    pub key_gone: bool,
    pub payload: Option<Arc<str>>,
    /// In a ledger that was sent or inherited, or to be listed when it is over: it leaves by L6
    /// only.
    pub listed: bool,
    pub waited_by_policy: bool,
    /// Made up for after an outage: such starts are spread out.
    pub catch_up: bool,
    /// How its newest attempt ended is known: it failed and was to be tried again.
    pub end_known: bool,
    /// The rank under which it is in the ready queue.
    pub queued_as: Rank,
    /// Instants after its own, up to here, are to be made up for.
    pub catch_up_last: Option<Instant>,
    /// The version whose instants these are, once there is a newer one.
    pub series_of: Option<Arc<Timed>>,
    /// Why nobody wants it any more: what runs ends by itself and is not tried again.
    pub unwanted: Option<&'static str>,
    /// It is with its executor, and an edit has taken its instant away.
    pub replaced: bool,
    /// A ledger of an earlier epoch lists it, and nobody knows what became of it since.
    pub past_epoch: bool,
}

/// The instants of a series that are still to come.
pub(crate) struct Rest {
    pub task: Arc<Task>,
    pub of: Option<Arc<Timed>>,
    pub last: Instant,
}

impl Rest {
    pub fn timed(&self) -> Arc<Timed> {
        self.of.clone().unwrap_or_else(|| Arc::new(Timed::new(self.task.clone())))
    }
}

impl OpenRun {
    pub fn new(task: Arc<Task>, instant: Instant, due: Instant) -> OpenRun {
        OpenRun { task: Some(task), ..OpenRun::without_task(instant, due) }
    }

    /// `task`: `None` until it is seen.
    pub fn inherited(task: Option<Arc<Task>>, instant: Instant, due: Instant) -> OpenRun {
        OpenRun { task, ..OpenRun::without_task(instant, due) }
    }

    fn without_task(instant: Instant, due: Instant) -> OpenRun {
        OpenRun {
            task: None,
            instant,
            due,
            stage: Stage::Queued,
            attempt: Attempt::NONE,
            attempts: Vec::new(),
            key: None,
            key_gone: false,
            payload: None,
            listed: false,
            waited_by_policy: false,
            catch_up: false,
            queued_as: Rank::default(),
            end_known: false,
            catch_up_last: None,
            series_of: None,
            unwanted: None,
            replaced: false,
            past_epoch: false,
        }
    }

    /// Moves it on in its life. What the machine does not allow is this crate's own mistake.
    pub fn step(&mut self, id: &RunId, event: Event) -> bool {
        match life::step(self.stage, event) {
            Ok(stage) => {
                self.stage = stage;
                true
            }
            Err(illegal) => {
                assert!(self.ended(), "{id:?}: {illegal}");
                false
            }
        }
    }

    /// Puts it where it waits for a free place.
    pub fn put_ready(&mut self, desk: &mut Desk, range: RangeId, id: &RunId) {
        let priority = self.task.as_ref().map_or(0, |task| task.spec.priority);
        self.queued_as = Rank::new(priority, self.catch_up);
        desk.ready.put(self.queued_as, self.due, range, id.clone());
    }

    /// From when on the instants count of the version whose series it is: what tells versions
    /// apart that have different instants.
    pub fn series_from(&self) -> Option<Wall> {
        let task = self.series_of.as_ref().map(|timed| &timed.task).or(self.task.as_ref());
        task.map(|task| task.effective_from)
    }

    /// The instants of its series after its own, which are somebody else's from now on.
    pub fn take_rest(&mut self) -> Option<Rest> {
        // One that was inherited, and whose task is not known yet, keeps its series.
        let task = self.task.clone()?;
        let (last, of) = (self.catch_up_last.take()?, self.series_of.take());
        Some(Rest { task, of, last })
    }

    /// Its task is paused: what has not started never starts. Who asks for a run gets it.
    pub fn is_paused(&self, id: &RunId) -> bool {
        let paused = self.task.as_ref().is_some_and(|task| task.spec.paused);
        paused && matches!(id.run, RunKey::Instant(_))
    }

    pub fn at_most_once(&self) -> bool {
        self.task.as_ref().is_some_and(|task| task.spec.at_most_once())
    }

    /// Some attempt of it was started, or is over.
    pub fn has_started(&self) -> bool {
        let over = matches!(self.stage, Stage::Ended { .. } | Stage::Held { .. });
        self.attempt.number > 0 || self.stage == Stage::Doubtful || over || self.ticket().is_some()
    }

    /// An earlier holder had started it, and nobody knows what became of that.
    pub fn unknown_end(&self) -> bool {
        self.attempt.number > 0 && self.attempts.is_empty() && !self.end_known
    }

    pub fn ended(&self) -> bool {
        matches!(self.stage, Stage::Ended { .. })
    }

    /// Has a key of its own. An inherited run is passed on as it is until its task was seen: its
    /// key may still be there.
    pub fn waits_for_key(&self) -> bool {
        self.key.is_some() || self.task.is_none() && !self.key_gone
    }

    /// Holds its task's place: counts for overlap.
    pub fn active(&self) -> bool {
        !matches!(self.stage, Stage::Ended { .. } | Stage::Behind)
    }

    /// Made up for after an outage, and never tried yet.
    pub fn unstarted_catch_up(&self) -> bool {
        self.catch_up && self.attempt.number == 0
    }

    pub fn ticket(&self) -> Option<Ticket> {
        match self.stage {
            Stage::Running { ticket } => Some(ticket),
            _ => None,
        }
    }

    pub fn lateness_micros(&self) -> Option<i64> {
        let first = self.attempts.iter().find_map(|attempt| attempt.started_at)?;
        let first_ever = self.attempts.first().is_some_and(|a| a.attempt.number == 1);
        first_ever.then(|| first.micros_since(self.due.wall()))
    }

    pub fn record(&self, desk: &Desk, id: &RunId, fence: Fence, state: RunState) -> RunRecord {
        RunRecord {
            id: id.clone(),
            state,
            reason: None,
            instant: self.instant,
            due: self.due.wall(),
            agent: desk.config.agent.clone(),
            fence,
            attempts: self.attempts.clone(),
            lateness_micros: self.lateness_micros(),
            waited_by_policy: self.waited_by_policy,
            provisional: true,
            span: None,
            request: self.request(id),
        }
    }

    /// By what its create is known: of a one-shot, not of a trigger of one.
    fn request(&self, id: &RunId) -> Option<u128> {
        let own = self.key.is_some() && matches!(id.run, RunKey::Instant(_));
        self.task.as_ref().filter(|_| own).and_then(|task| task.request)
    }

    pub fn open_state(&self) -> RunState {
        match self.stage {
            Stage::Running { .. } | Stage::Held { .. } => RunState::Running,
            Stage::Waiting { .. } if self.attempt.number > 0 => RunState::WaitingRetry,
            _ => RunState::Queued,
        }
    }

    pub fn deadline_passed(&self, now: Wall) -> bool {
        let deadline = self.task.as_ref().and_then(|task| task.spec.start_deadline);
        self.attempt.number == 0
            && deadline.is_some_and(|deadline| now > self.due.wall().plus(deadline))
    }
}
