//! What an edit may change, and from when on (ledger.md, "Tasks that change").
//!
//! A run is named by (task, incarnation, instant), and a holder starts each name once, whichever
//! version of the task it came from. So an edit must not make instants come again, hide what was
//! due, or change a one-shot that may be running. Three ideas keep it so:
//! - a version has `effective_from`: instants up to it belong to the version before. It goes on
//!   with each edit of the instants, and stays where it is while one leaves them alone;
//! - a one-shot is frozen from its instant on: only delete it, or resume it if it was paused;
//! - a change of placement is a delete and a create: the version says `moved`, with a new life.
//!
//! `max_runs` counts instants over the whole incarnation. Counting at each start would need shared
//! state, so the last instant allowed is found here, once, when a version is written.

use std::time::Duration;

use super::prior::{Prior, carried};
use super::spec::{Spec, Task};
use super::validate::{FieldError, check, check_future, timetable};
use crate::ids::{Incarnation, Revision};
use crate::ledger::Marks;
use crate::limits::{self, PRIORS_MAX};
use crate::time::{Instant, Wall};

/// The revision of an edit that is not written yet.
const THIS: Option<Revision> = Some(Revision(0));

/// A version of a task that is to be written. Incarnation and revision come from the store.
#[derive(Clone, PartialEq, Debug)]
pub struct NewVersion {
    pub spec: Spec,
    pub created_at: Wall,
    pub updated_at: Wall,
    pub effective_from: Wall,
    pub instants_by: Option<Revision>,
    pub last_instant: Option<Instant>,
    pub request: Option<u128>,
    pub prior: Vec<Prior>,
    /// Its pool changed: delete the old key and create another, a new incarnation.
    pub moved: bool,
}

/// Why an edit was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EditError {
    #[error(
        "the task is a one-shot whose instant, {at:?}, has come (it is now {now:?}): it cannot be \
         changed any more; delete it and create another"
    )]
    AlreadyDue { at: Instant, now: Wall },
    #[error(
        "the task's schedule was changed or resumed {PRIORS_MAX} times, and instants of all these \
         schedules may still be to be decided: try again when an agent of its pool has done that, \
         which takes seconds where there is one; of a task with `placement.agent` or \
         `placement.every_agent` that is not known here, and a schedule counts until its \
         `catch_up.window` has passed"
    )]
    TooSoon,
    #[error("the task is not valid")]
    Invalid(Vec<FieldError>),
}

impl EditError {
    /// The same edit may succeed later.
    pub fn retryable(&self) -> bool {
        matches!(self, EditError::TooSoon)
    }
}

impl NewVersion {
    /// The task that is in the store once this version is.
    pub fn written(self, incarnation: Incarnation, revision: Revision) -> Task {
        Task {
            spec: self.spec,
            incarnation,
            revision,
            created_at: self.created_at,
            updated_at: self.updated_at,
            effective_from: self.effective_from,
            instants_by: self.instants_by,
            last_instant: self.last_instant,
            request: self.request,
            prior: self.prior,
            share_of: None,
        }
    }
}

/// The first version of a new task, or everything that is wrong with it.
pub fn create(spec: Spec, now: Wall, request: Option<u128>) -> Result<NewVersion, Vec<FieldError>> {
    let mut errors = check(&spec);
    if errors.is_empty() {
        errors.extend(check_future(&spec, now, None));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(first_version(spec, now, request))
}

/// `spec` in the place of `current`. `None`: it says the same, and nothing is to be written.
/// `marks`: the newest ledger that is known of its range, or [`Marks::NONE`].
pub fn replace(
    current: &Task,
    spec: Spec,
    now: Wall,
    marks: Marks,
) -> Result<Option<NewVersion>, EditError> {
    assert_eq!(current.spec.name, spec.name, "an edit is of one task");
    if (Spec { paused: spec.paused, ..current.spec.clone() }) == spec {
        return match spec.paused {
            true => pause(current, now, marks),
            false => resume(current, now, marks),
        };
    }
    refuse_if_due(current, now)?;
    let mut errors = check(&spec);
    if current.spec.delivery != spec.delivery {
        let message = "an edit cannot change it: delete the task and create another".to_owned();
        errors.push(FieldError { path: "delivery".to_owned(), message });
    }
    if !errors.is_empty() {
        return Err(EditError::Invalid(errors));
    }
    if current.spec.placement != spec.placement {
        future_of_edit(&spec, now, None)?;
        return Ok(Some(NewVersion { moved: true, ..first_version(spec, now, None) }));
    }
    let same_instants = same_instants(&current.spec, &spec);
    let wakes = current.spec.paused && !spec.paused;
    let effective_from = match same_instants && !wakes {
        true => current.effective_from,
        false => effective_after(current, now),
    };
    let last_instant = match same_instants {
        true => current.last_instant,
        false => last_after_edit(current, &spec, effective_from),
    };
    if !same_instants {
        future_of_edit(&spec, now, last_instant)?;
    }
    let until = (!same_instants || wakes).then_some(effective_from);
    let prior = carried(current, until, now, marks)?;
    let next = next_version(current, spec, now);
    let instants_by = next.instants_by.filter(|_| until.is_none()).or(THIS);
    Ok(Some(NewVersion { effective_from, instants_by, last_instant, prior, ..next }))
}

/// The task, paused: what has not started never starts. `None`: it is paused already.
pub fn pause(current: &Task, now: Wall, marks: Marks) -> Result<Option<NewVersion>, EditError> {
    if current.spec.paused {
        return Ok(None);
    }
    refuse_if_due(current, now)?;
    let spec = Spec { paused: true, ..current.spec.clone() };
    let prior = carried(current, None, now, marks)?;
    Ok(Some(NewVersion { prior, ..next_version(current, spec, now) }))
}

/// The task, running again. `None`: it was not paused.
///
/// A recurring task goes on with the instants from now on: those of the pause stay skipped. A
/// one-shot whose instant came meanwhile is left to its catch-up policy.
pub fn resume(current: &Task, now: Wall, marks: Marks) -> Result<Option<NewVersion>, EditError> {
    if !current.spec.paused {
        return Ok(None);
    }
    let spec = Spec { paused: false, ..current.spec.clone() };
    let effective_from = effective_after(current, now);
    let prior = carried(current, Some(effective_from), now, marks)?;
    let next = next_version(current, spec, now);
    Ok(Some(NewVersion { effective_from, instants_by: THIS, prior, ..next }))
}

/// From when on the instants of an edit count: later than those before, also where coordinators'
/// clocks disagree or edits come at once. Versions with other instants are told apart by it.
fn effective_after(current: &Task, now: Wall) -> Wall {
    now.max(current.effective_from.plus(Duration::from_micros(1)))
}

fn refuse_if_due(current: &Task, now: Wall) -> Result<(), EditError> {
    match current.spec.one_shot_at() {
        Some(at) if at.wall() <= now => Err(EditError::AlreadyDue { at, now }),
        _ => Ok(()),
    }
}

/// As [`check_future`], but an edit may not move a one-shot into the past at all.
fn future_of_edit(spec: &Spec, now: Wall, last: Option<Instant>) -> Result<(), EditError> {
    let error = match spec.one_shot_at() {
        Some(at) if at.wall() <= now => Some(FieldError::new(
            "schedules[0].at",
            format!(
                "{at:?} is over, it is now {now:?}; an edit may only move `at` into the future"
            ),
        )),
        _ => check_future(spec, now, last),
    };
    match error {
        Some(error) => Err(EditError::Invalid(vec![error])),
        None => Ok(()),
    }
}

fn first_version(spec: Spec, now: Wall, request: Option<u128>) -> NewVersion {
    let last_instant = match (spec.one_shot_at(), spec.max_runs) {
        (None, Some(max_runs)) => timetable(&spec, None).last_of(now.instant(), max_runs),
        _ => None,
    };
    NewVersion {
        spec,
        created_at: now,
        updated_at: now,
        effective_from: now,
        instants_by: None,
        last_instant,
        request,
        prior: Vec::new(),
        moved: false,
    }
}

fn next_version(current: &Task, spec: Spec, now: Wall) -> NewVersion {
    NewVersion {
        spec,
        created_at: current.created_at,
        updated_at: now.max(current.updated_at),
        effective_from: current.effective_from,
        instants_by: Some(current.instants_revision()),
        last_instant: current.last_instant,
        request: current.request,
        prior: Vec::new(),
        moved: false,
    }
}

/// Whether the instants and their dues stay what they are.
fn same_instants(old: &Spec, new: &Spec) -> bool {
    old.schedules == new.schedules
        && old.start_at == new.start_at
        && old.end_at == new.end_at
        && old.max_runs == new.max_runs
        && old.exclude == new.exclude
        && old.jitter == new.jitter
        && old.broadcast.splay == new.broadcast.splay
}

/// The last instant that `max_runs` allows after an edit: what the incarnation has used up to
/// `from` counts.
fn last_after_edit(current: &Task, spec: &Spec, from: Wall) -> Option<Instant> {
    let max_runs = match (spec.one_shot_at(), spec.max_runs) {
        (None, Some(max_runs)) => max_runs,
        _ => return None,
    };
    let left = max_runs.saturating_sub(used(current, from, max_runs));
    match left {
        // Nothing may come any more: an end at the border itself.
        0 => Some(from.instant()),
        left => timetable(spec, None).last_of(from.instant(), left),
    }
}

/// Instants that the incarnation had up to `from`, at most `cap`.
///
/// A task with `max_runs` knows how many are left of it, whatever versions it went through; without
/// it the present schedule is taken as the one since the beginning.
fn used(current: &Task, from: Wall, cap: u64) -> u64 {
    if current.spec.one_shot_at().is_some() {
        return 0;
    }
    let table = timetable(&current.spec, current.last_instant);
    match (current.spec.max_runs, current.last_instant) {
        (Some(max_runs), Some(last)) => {
            let max_runs = max_runs.min(limits::RUNS_MAX);
            max_runs.saturating_sub(table.count_between(from.instant(), last, max_runs)).min(cap)
        }
        _ => {
            let cap = cap.min(limits::RUNS_MAX);
            table.count_between(current.created_at.instant(), from.instant(), cap)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use crate::ids::{Epoch, Incarnation, PoolName, Revision, TaskName};
    use crate::ledger::Marks;
    use crate::schedule::{Every, Schedule};
    use crate::task::{
        Action, CatchUp, CatchUpPolicy, Command, Delivery, EditError, Http, NewVersion, Overlap,
        Program, Retry, Spec, Task, check, create, pause, replace, resume,
    };
    use crate::time::{Instant, Wall};

    const NOW: Wall = Wall::MIN;

    fn second(second: i64) -> Wall {
        NOW.plus(Duration::from_secs(u64::try_from(1_000_000 + second).unwrap()))
    }

    fn recurring(every_s: u64) -> Spec {
        let every = Every::new(Duration::from_secs(every_s), Duration::ZERO).unwrap();
        Spec {
            name: TaskName::parse("default/a").unwrap(),
            description: String::new(),
            labels: BTreeMap::new(),
            schedules: vec![Schedule::Every(every)],
            start_at: None,
            end_at: None,
            max_runs: None,
            jitter: Duration::ZERO,
            exclude: BTreeSet::new(),
            action: Action::Noop,
            placement: PoolName::parse("default").unwrap().into(),
            broadcast: crate::task::Broadcast::default(),
            catch_up: CatchUp { policy: CatchUpPolicy::All, window: Duration::from_secs(3_600) },
            overlap: Overlap::Skip,
            retry: Retry::default(),
            timeout: None,
            start_deadline: None,
            delivery: Delivery::default(),
            priority: 0,
            paused: false,
        }
    }

    fn once(at: Wall) -> Spec {
        Spec { schedules: vec![Schedule::At(at.instant())], ..recurring(10) }
    }

    fn stored(version: NewVersion) -> Task {
        let incarnation = Incarnation { epoch: Epoch(1), revision: Revision(5) };
        version.written(incarnation, Revision(7))
    }

    fn task(spec: Spec, now: Wall) -> Task {
        stored(create(spec, now, Some(1)).unwrap())
    }

    fn paths(spec: &Spec) -> Vec<String> {
        check(spec).into_iter().map(|error| error.path).collect()
    }

    #[test]
    fn every_broken_rule_is_reported_with_its_path() {
        let command = Command {
            program: Program::Argv(vec![String::new(), "a\0".into()]),
            env: BTreeMap::from([
                ("A=B".into(), "x".into()),
                ("TOCKTOWER_RUN_ID".into(), "".into()),
            ]),
            cwd: Some("here".into()),
            user: Some(String::new()),
            stdin: None,
            success_codes: vec![0, 256],
        };
        let spec = Spec {
            labels: BTreeMap::from([("-a".into(), "b".into())]),
            schedules: vec![Schedule::At(Instant::MAX), Schedule::At(Instant::MAX)],
            start_at: Some(second(5)),
            end_at: Some(second(5)),
            max_runs: Some(0),
            retry: Retry { max_attempts: 0, factor: f64::NAN, jitter: 2.0, ..Retry::default() },
            timeout: Some(Duration::ZERO),
            action: Action::Command(command),
            ..recurring(10)
        };
        assert_eq!(
            paths(&spec),
            [
                "labels.-a",
                "schedules[0].at",
                "schedules[1].at",
                "end_at",
                "max_runs",
                "timeout",
                "retry.max_attempts",
                "retry.factor",
                "retry.jitter",
                "action.command.argv",
                "action.command.argv[1]",
                "action.command.env.A=B",
                "action.command.env.TOCKTOWER_RUN_ID",
                "action.command.cwd",
                "action.command.user",
                "action.command.success_codes[1]",
            ]
        );
        assert!(paths(&recurring(10)).is_empty());
        assert_eq!(paths(&Spec { schedules: Vec::new(), ..recurring(10) }), ["schedules"]);
    }

    #[test]
    fn a_call_needs_a_url_and_headers_that_can_be_sent() {
        let http = |url: &str, header: (&str, &str)| Spec {
            action: Action::Http(Http {
                method: "POST".into(),
                url: url.into(),
                headers: BTreeMap::from([(header.0.into(), header.1.into())]),
                body: None,
                success_status: vec![(200, 299)],
            }),
            ..recurring(10)
        };
        for url in ["http://a", "https://a.b:8080/c?d=e#f", "HTTPS://a/", "http://[::1]/x"] {
            assert!(paths(&http(url, ("X-A", "b"))).is_empty(), "{url}");
        }
        for url in
            ["", "a", "ftp://a", "http://", "http:///x", "http://:80", "http://a b", "http://ä"]
        {
            assert_eq!(paths(&http(url, ("X-A", "b"))), ["action.http.url"], "{url}");
        }
        for header in [("", "b"), ("X A", "b"), ("X-A", "b\r\nC: d"), ("Tocktower-Task", "b")] {
            let found = paths(&http("http://a", header));
            assert_eq!(found, [format!("action.http.headers.{}", header.0)], "{header:?}");
        }
    }

    #[test]
    fn a_new_task_needs_something_left_to_run() {
        let now = second(10_000);
        let path = |spec: Spec| match create(spec, now, None) {
            Ok(_) => None,
            Err(errors) => Some(errors.first().unwrap().path.clone()),
        };
        let ended = Spec { end_at: Some(second(5_000)), ..recurring(10) };
        assert_eq!(path(ended).as_deref(), Some("schedules"));
        // A reminder that an outage held up is still taken, within its window and no further.
        assert_eq!(path(once(second(10_000 - 3_600))), None);
        assert_eq!(path(once(second(10_000 - 3_601))).as_deref(), Some("schedules[0].at"));
        let never = CatchUp { policy: CatchUpPolicy::None, window: Duration::from_secs(3_600) };
        let strict = |at| Spec { catch_up: never, ..once(at) };
        assert_eq!(path(strict(second(9_995))), None);
        assert_eq!(path(strict(second(9_980))).as_deref(), Some("schedules[0].at"));
        let ruled_out = Spec { start_at: Some(second(30_000)), ..once(second(20_000)) };
        assert_eq!(path(ruled_out).as_deref(), Some("schedules[0].at"));
    }

    #[test]
    fn max_runs_becomes_the_last_instant() {
        let created = create(Spec { max_runs: Some(3), ..recurring(10) }, second(0), None).unwrap();
        assert_eq!(created.last_instant, Some(second(30).instant()));
        let endless = create(recurring(10), second(0), None).unwrap();
        assert_eq!(endless.last_instant, None);
    }

    #[test]
    fn max_runs_counts_over_edits() {
        let created = task(Spec { max_runs: Some(10), ..recurring(10) }, second(0));
        // Four instants have passed: six are left, at the new pace.
        let edit = Spec { max_runs: Some(10), ..recurring(100) };
        let edited = replace(&created, edit, second(45), Marks::NONE).unwrap().unwrap();
        assert_eq!(edited.last_instant, Some(second(600).instant()));
        // Lowering it below what has run leaves nothing, which is refused.
        let less = Spec { max_runs: Some(4), ..recurring(10) };
        assert!(matches!(
            replace(&created, less, second(45), Marks::NONE),
            Err(EditError::Invalid(_))
        ));
        // A task that had no bound has used what it had since it was made.
        let unbound = task(recurring(10), second(0));
        let bound = Spec { max_runs: Some(6), ..recurring(10) };
        let edited = replace(&unbound, bound, second(45), Marks::NONE).unwrap().unwrap();
        assert_eq!(edited.last_instant, Some(second(60).instant()));
    }

    #[test]
    fn an_edit_takes_effect_when_it_is_made_and_never_before_the_one_it_replaces() {
        let first = task(recurring(10), second(100));
        let edited = replace(&first, recurring(20), second(200), Marks::NONE).unwrap().unwrap();
        assert_eq!(edited.effective_from, second(200));
        // A coordinator whose clock is behind.
        let again =
            replace(&stored(edited), recurring(30), second(150), Marks::NONE).unwrap().unwrap();
        assert_eq!(again.effective_from, second(200).plus(Duration::from_micros(1)));
        assert_eq!(again.created_at, second(100));
        assert_eq!(again.updated_at, second(200));
    }

    #[test]
    fn an_edit_that_leaves_the_instants_alone_hides_none() {
        let first = task(recurring(10), second(100));
        let renamed = Spec { description: "b".into(), ..recurring(10) };
        let edited = replace(&first, renamed, second(200), Marks::NONE).unwrap().unwrap();
        assert_eq!(edited.effective_from, second(100));
        assert_eq!(edited.updated_at, second(200));
    }

    #[test]
    fn the_same_again_writes_nothing() {
        let first = task(recurring(10), second(100));
        assert_eq!(replace(&first, recurring(10), second(200), Marks::NONE), Ok(None));
        let due = task(once(second(150)), second(100));
        assert_eq!(replace(&due, once(second(150)), second(200), Marks::NONE), Ok(None));
    }

    #[test]
    fn a_one_shot_is_frozen_from_its_instant_on() {
        let first = task(once(second(150)), second(100));
        let later = |now| replace(&first, once(second(300)), now, Marks::NONE);
        assert!(later(second(149)).is_ok());
        assert!(matches!(later(second(150)), Err(EditError::AlreadyDue { .. })));
        assert!(matches!(
            pause(&first, second(150), Marks::NONE),
            Err(EditError::AlreadyDue { .. })
        ));
        let described = Spec { description: "b".into(), ..once(second(150)) };
        assert!(matches!(
            replace(&first, described, second(151), Marks::NONE),
            Err(EditError::AlreadyDue { .. })
        ));
    }

    #[test]
    fn no_edit_moves_a_one_shot_into_the_past_or_changes_how_a_task_is_delivered() {
        let first = task(once(second(150)), second(100));
        let delivered = Spec { delivery: Delivery::AtMostOnce, ..once(second(150)) };
        for (spec, path) in [(once(second(90)), "schedules[0].at"), (delivered, "delivery")] {
            let error = replace(&first, spec, second(120), Marks::NONE).unwrap_err();
            let EditError::Invalid(errors) = error else { panic!("{error}") };
            assert_eq!(errors.first().unwrap().path, path);
        }
    }

    #[test]
    fn a_paused_one_shot_may_be_resumed_after_its_instant() {
        let first = task(once(second(150)), second(100));
        let paused = stored(pause(&first, second(120), Marks::NONE).unwrap().unwrap());
        assert!(paused.spec.paused);
        assert_eq!(pause(&paused, second(130), Marks::NONE), Ok(None));
        let resumed = resume(&paused, second(200), Marks::NONE).unwrap().unwrap();
        assert!(!resumed.spec.paused);
        // Also by a PUT that changes nothing else.
        assert!(replace(&paused, once(second(150)), second(200), Marks::NONE).unwrap().is_some());
    }

    #[test]
    fn a_resumed_task_goes_on_from_now() {
        let first = task(recurring(10), second(100));
        let paused = stored(pause(&first, second(120), Marks::NONE).unwrap().unwrap());
        assert_eq!(paused.effective_from, second(100));
        let resumed = resume(&paused, second(500), Marks::NONE).unwrap().unwrap();
        assert_eq!(resumed.effective_from, second(500));
        assert_eq!(resume(&first, second(500), Marks::NONE), Ok(None));
    }

    #[test]
    fn another_pool_is_another_life() {
        let first = task(Spec { max_runs: Some(5), ..recurring(10) }, second(100));
        let placement = PoolName::parse("edge").unwrap().into();
        let moved = Spec { placement, max_runs: Some(5), ..recurring(10) };
        let edited = replace(&first, moved, second(140), Marks::NONE).unwrap().unwrap();
        assert!(edited.moved);
        assert_eq!(edited.created_at, second(140));
        assert_eq!(edited.last_instant, Some(second(190).instant()));
        assert_eq!(edited.request, None);
    }
    #[test]
    fn an_edit_carries_what_it_replaces_until_a_ledger_covers_it() {
        let first = task(recurring(10), second(100));
        let edited = replace(&first, recurring(20), second(200), Marks::NONE).unwrap().unwrap();
        let spans = |version: &NewVersion| -> Vec<(Wall, Wall)> {
            version.prior.iter().map(|prior| (prior.from, prior.until)).collect()
        };
        assert_eq!(spans(&edited), [(second(100), second(200))]);
        assert_eq!(edited.prior[0].schedules, recurring(10).schedules);
        let edited = stored(edited);
        let knowing = Incarnation { revision: edited.revision, ..edited.incarnation };
        let marks = |through| Marks { through: second(through).instant(), incarnation: knowing };
        // An edit of anything else goes on carrying it, as far as it is not covered.
        let described = Spec { description: "other words".to_owned(), ..edited.spec.clone() };
        let again =
            |marks| replace(&edited, described.clone(), second(205), marks).unwrap().unwrap();
        assert_eq!(spans(&again(marks(199))), [(second(100), second(200))]);
        assert_eq!(spans(&again(marks(200))), []);
        let older = Marks { incarnation: Incarnation::default(), ..marks(200) };
        assert_eq!(spans(&again(older)).len(), 1, "the marks say nothing of this task");
        // One that does not know of the edit may come from who has gone on by the one before.
        let ignorant = Marks { incarnation: edited.incarnation, ..marks(300) };
        assert_eq!(spans(&again(ignorant)), [(second(100), second(200))]);
        // A stretch without an instant is carried as long as nobody knows that it is over.
        let next = replace(&edited, recurring(30), second(205), marks(200)).unwrap().unwrap();
        assert_eq!(spans(&next), [(second(200), second(205))]);
        let next = stored(next);
        let described = Spec { description: "other words".to_owned(), ..next.spec.clone() };
        let last = replace(&next, described, second(206), marks(206)).unwrap().unwrap();
        assert_eq!(spans(&last), []);
    }

    #[test]
    fn a_version_tells_which_revision_brought_its_instants() {
        let put = |version: NewVersion, revision| {
            let incarnation = Incarnation { epoch: Epoch(1), revision: Revision(5) };
            version.written(incarnation, Revision(revision))
        };
        let described = |task: &Task, words: &str| {
            let spec = Spec { description: words.to_owned(), ..task.spec.clone() };
            replace(task, spec, second(310), Marks::NONE).unwrap().unwrap()
        };
        let first = put(create(recurring(10), second(100), None).unwrap(), 5);
        assert_eq!(first.instants_revision(), Revision(5));
        let first = put(described(&first, "a"), 6);
        assert_eq!(first.instants_revision(), Revision(5));
        let edited = replace(&first, recurring(20), second(311), Marks::NONE).unwrap().unwrap();
        assert_eq!(edited.prior[0].revision, Revision(5));
        let edited = put(edited, 7);
        assert_eq!(edited.instants_revision(), Revision(7));
        let edited = put(described(&put(described(&edited, "b"), 8), "c"), 9);
        assert_eq!(edited.instants_revision(), Revision(7));
        let paused = put(pause(&edited, second(312), Marks::NONE).unwrap().unwrap(), 10);
        assert_eq!(paused.instants_revision(), Revision(7));
        let resumed = resume(&paused, second(313), Marks::NONE).unwrap().unwrap();
        assert_eq!(resumed.prior.last().unwrap().revision, Revision(7));
        assert_eq!(put(resumed, 11).instants_revision(), Revision(11));
        // A record of an older release does not say so.
        let old = Task { instants_by: None, updated_at: second(320), ..edited };
        assert_eq!(old.instants_revision(), Revision(5));
    }

    #[test]
    fn a_resume_carries_the_pause() {
        let first = task(recurring(10), second(100));
        let paused = stored(pause(&first, second(120), Marks::NONE).unwrap().unwrap());
        assert_eq!(paused.prior, []);
        let resumed = resume(&paused, second(200), Marks::NONE).unwrap().unwrap();
        let [prior] = &resumed.prior[..] else { panic!("{:?}", resumed.prior) };
        assert!(prior.paused);
        assert!(!prior.version(&stored(resumed.clone())).spec.schedules.is_empty());
    }

    #[test]
    fn a_ninth_edit_of_what_is_undecided_has_to_wait() {
        let mut current = task(recurring(1), second(100));
        for edit in 1..=8 {
            let spec = recurring(1 + edit % 2);
            let now = second(100 + 2 * i64::try_from(edit).unwrap());
            current = stored(replace(&current, spec, now, Marks::NONE).unwrap().unwrap());
        }
        assert_eq!(current.prior.len(), 8);
        let ninth = |now, marks| replace(&current, recurring(5), second(now), marks);
        let error = ninth(118, Marks::NONE).unwrap_err();
        assert!(error.retryable(), "{error}");
        let knowing = Incarnation { revision: current.revision, ..current.incarnation };
        let marks = Marks { through: second(106).instant(), incarnation: knowing };
        assert_eq!(ninth(118, marks).unwrap().unwrap().prior.len(), 6);
        // What is older than the catch-up window would not run any more.
        assert_eq!(ninth(108 + 3_600, Marks::NONE).unwrap().unwrap().prior.len(), 6);
        // Anything else can still be changed.
        let described = Spec { description: "other words".to_owned(), ..current.spec.clone() };
        assert!(replace(&current, described, second(118), Marks::NONE).is_ok());
    }
}
