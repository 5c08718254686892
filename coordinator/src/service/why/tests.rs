use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tocktower_core::ids::{
    AgentName, Attempt, Epoch, Fence, Incarnation, PoolName, RangeId, Revision, RunId, Session,
    TaskName,
};
use tocktower_core::ledger::{Entry, EntryState, Marks};
use tocktower_core::run::{AttemptEnd, AttemptRecord, RunRecord, RunState, Span};
use tocktower_core::schedule::{Cron, Dialect, Every, Fold, Gap, Schedule, Zone};
use tocktower_core::task::{
    Action, Broadcast, CatchUp, CatchUpPolicy, Delivery, NewVersion, Overlap, Retry, Spec, Task,
    create, pause, replace, resume,
};
use tocktower_core::time::{Instant, Wall};

use super::*;
use crate::timeline::MILLISECOND;

/// 2027-01-15T08:00:00Z, a whole minute.
const NOON: i64 = 1_800_000_000_000;

fn wall(seconds: i64) -> Wall {
    Wall::from_millis(NOON + seconds * 1_000)
}

fn at(seconds: i64) -> Instant {
    wall(seconds).instant()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn minutely() -> Spec {
    Spec {
        name: TaskName::parse("default/a").unwrap(),
        description: String::new(),
        labels: BTreeMap::new(),
        schedules: vec![Schedule::Every(Every::new(seconds(60), Duration::ZERO).unwrap())],
        start_at: None,
        end_at: None,
        max_runs: None,
        jitter: Duration::ZERO,
        exclude: BTreeSet::new(),
        action: Action::Noop,
        placement: PoolName::parse("default").unwrap().into(),
        broadcast: Broadcast::default(),
        delivery: Delivery::AtMostOnce,
        catch_up: CatchUp { policy: CatchUpPolicy::Latest, window: seconds(3_600) },
        overlap: Overlap::Skip,
        retry: Retry { max_attempts: 3, ..Retry::default() },
        timeout: Some(seconds(30)),
        start_deadline: Some(seconds(20)),
        priority: 0,
        paused: false,
    }
}

fn cron(expression: &str, zone: &str, fold: Fold) -> Schedule {
    let zone = Zone::parse(zone).unwrap();
    let cron = Cron::parse(expression, Dialect::Crontab, zone, Gap::After, fold, 0);
    Schedule::Cron(cron.unwrap())
}

const LIFE: Incarnation = Incarnation { epoch: Epoch(1), revision: Revision(7) };

fn written(version: NewVersion) -> Task {
    version.written(LIFE, Revision(9))
}

/// A task that was created ten minutes ago.
fn task(spec: Spec) -> Task {
    written(create(spec, wall(-600), None).unwrap())
}

fn run(seconds: i64, state: RunState) -> RunRecord {
    let agent = AgentName::parse("web-1").unwrap();
    let fence = Fence { epoch: Epoch(1), revision: Revision(20) };
    let attempt = AttemptRecord {
        attempt: Attempt { fence, number: 2 },
        agent: agent.clone(),
        session: Session::default(),
        started_at: Some(wall(seconds).plus(MILLISECOND)),
        finished_at: state.is_end().then(|| wall(seconds + 3)),
        end: state.is_end().then(|| AttemptEnd::Failed { reason: "exit code 1".to_owned() }),
        code: None,
    };
    RunRecord {
        id: RunId::scheduled(TaskName::parse("default/a").unwrap(), LIFE, at(seconds)),
        state,
        reason: None,
        instant: at(seconds),
        due: wall(seconds),
        agent,
        fence,
        attempts: vec![attempt],
        lateness_micros: Some(1_000),
        waited_by_policy: false,
        provisional: false,
        span: None,
        request: None,
    }
}

fn because(state: RunState, reason: &str) -> Option<RunRecord> {
    let reason = Some(reason.to_owned());
    let (attempts, lateness_micros) = (Vec::new(), None);
    Some(RunRecord { attempts, lateness_micros, reason, ..run(-60, state) })
}

fn entry(state: EntryState, number: u32) -> Option<Entry> {
    let (run, fence) = (run(-60, RunState::Running).id, Fence::default());
    Some(Entry { run, due: at(-60), attempt: Attempt { fence, number }, state })
}

/// All is well, and the instant of a minute ago is asked about, of which nothing is known.
fn facts_of(task: Task, moment: Instant) -> Facts {
    let timeline = Timeline::new(&task);
    let shown = |instant| shown(&timeline, instant);
    let subject = Subject::Task {
        moment: timeline.moment(moment),
        previous: timeline.previous(moment).map(shown),
        next: timeline.next(moment).map(shown),
        task: Box::new(task.clone()),
    };
    let agent = AgentName::parse("web-1").unwrap();
    let fence = Fence { epoch: Epoch(1), revision: Revision(20) };
    Facts {
        now: wall(0).plus(MILLISECOND * 500),
        at: moment,
        subject,
        run: None,
        ahead: None,
        range: RangeFacts {
            pool: Some(PoolName::parse("default").unwrap()),
            pinned: None,
            id: RangeId(42),
            hex: "2a".to_owned(),
            holder: Some(Holder { agent, fence, linked: true }),
            quiet: Some(seconds(1)),
            marks: Some(Marks { through: at(-120), incarnation: LIFE }),
            entry: None,
            ledger_error: None,
            agents: PoolAgents { present: 3, able: 3, taking: 3 },
            in_the_way: None,
        },
        incomplete: Vec::new(),
        stale: false,
    }
}

fn facts(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = facts_of(task(minutely()), at(-60));
    change(&mut facts);
    facts
}

fn paused() -> Task {
    written(pause(&task(minutely()), wall(-300), Marks::NONE).unwrap().unwrap())
}

fn once(seconds: i64) -> Spec {
    Spec { schedules: vec![Schedule::At(at(seconds))], ..minutely() }
}

fn covered(facts: &mut Facts) {
    facts.range.marks = Some(Marks { through: at(-30), incarnation: LIFE });
}

#[track_caller]
fn check(wanted: Verdict, says: &[&str], facts: &Facts) -> Why {
    let shown = Shown { instant: facts.at, local: json::format_instant(facts.at) };
    let why = judged(TaskName::parse("default/a").unwrap(), shown, facts.clone());
    let told = format!("{} {}", why.explanation, why.advice.clone().unwrap_or_default());
    assert_eq!(why.verdict, wanted, "{told}");
    for part in says {
        assert!(told.contains(part), "no {part:?} in {told:?}");
    }
    why
}

#[track_caller]
fn policy_of(wanted: &str, why: &Why) {
    let policy = why.policy.as_ref().map(|p| format!("{} {}", p.field, p.value));
    assert_eq!(policy.as_deref(), Some(wanted), "{why:?}");
}

#[test]
fn what_an_agent_tells_of_the_run_is_the_verdict() {
    let of = |state| facts(|f| f.run = Some(run(-60, state)));
    let ran = "(attempt 2, started 1ms after its due, took 2.999s)";
    check(Verdict::Succeeded, &["ran on web-1 and succeeded", ran], &of(RunState::Succeeded));
    let provisional = facts(|f| {
        f.run = Some(RunRecord { provisional: true, ..run(-60, RunState::Succeeded) });
    });
    check(Verdict::Succeeded, &["may be repeated"], &provisional);
    let failed = of(RunState::Failed);
    let failed = check(Verdict::Failed, &["exit code 1", "tock run output default/a@"], &failed);
    policy_of("retry 3 attempts at most", &failed);
    let timed_out = check(Verdict::TimedOut, &["ended by its timeout"], &of(RunState::TimedOut));
    policy_of("timeout 30s", &timed_out);
    let told = facts(|f| f.run = because(RunState::Cancelled, "its task was deleted"));
    check(Verdict::Cancelled, &["cancelled: its task was deleted"], &told);
    let lost = of(RunState::Lost);
    let lost = check(Verdict::Lost, &["may have run", "trigger it by hand"], &lost);
    policy_of("delivery at_most_once", &lost);
    let late = |end: AttemptEnd| {
        let mut told = of(RunState::Lost);
        let run = told.run.as_mut().expect("it has run");
        run.fence.revision = run.fence.revision.next();
        run.attempts.last_mut().expect("it was tried").end = Some(end);
        told
    };
    let done = late(AttemptEnd::Succeeded);
    let done = check(Verdict::Lost, &["Later web-1 told that its attempt 2 succeeded"], &done);
    assert_eq!(done.advice, None, "its work was done");
    let failed = late(AttemptEnd::Failed { reason: "exit code 1".to_owned() });
    check(Verdict::Lost, &["attempt 2 failed", "trigger it by hand"], &failed);
    check(Verdict::Running, &["Attempt 2 has been running on web-1"], &of(RunState::Running));
    let mut retry = of(RunState::WaitingRetry);
    let failed = check(Verdict::WaitingRetry, &["follows soon"], &retry);
    policy_of("retry 3 attempts at most", &failed);
    retry.range.entry = entry(EntryState::Waiting { at: wall(30) }, 2);
    check(Verdict::WaitingRetry, &["The next attempt is at 2027-01-15T08:00:30Z"], &retry);
}

#[test]
fn what_was_not_run_names_the_policy() {
    let skipped = |reason: &str| facts(|f| f.run = because(RunState::Skipped, reason));
    let overlap = skipped("overlap: an earlier run has not ended");
    policy_of("overlap skip", &check(Verdict::Skipped, &["had not ended", "queue"], &overlap));
    let superseded = skipped("catch-up: a later instant stands for it");
    let why = check(Verdict::Skipped, &["a later instant stands for it"], &superseded);
    policy_of("catch_up latest within 1h", &why);
    let why = check(Verdict::Skipped, &["the task was paused"], &skipped("paused"));
    assert_eq!(why.advice, None, "the pause is over");
    check(Verdict::Skipped, &["when it was over"], &skipped("edited_late"));
    let twice = skipped("duplicate_of default/a@5-7");
    check(Verdict::Skipped, &["tock run get default/a@5-7"], &twice);
    check(Verdict::Skipped, &["skipped: a new reason."], &skipped("a new reason"));

    let missed = |reason: &str| facts(|f| f.run = because(RunState::Missed, reason));
    let window = missed("nobody could run it within its catch-up window");
    policy_of("catch_up latest within 1h", &check(Verdict::Missed, &["which hosts"], &window));
    let deadline = missed("it could not start before its start deadline");
    policy_of("start_deadline 20s", &check(Verdict::Missed, &["deadline of 20s"], &deadline));
    // A one-shot that has ended is gone, and its policy with it.
    let words = [
        ("it could not start before its start deadline", "within its start deadline."),
        ("nobody could run it within its catch-up window", "within its catch-up window."),
    ];
    for (reason, words) in words {
        let mut gone = missed(reason);
        gone.subject = Subject::Gone { newest: None };
        assert_eq!(check(Verdict::Missed, &[words], &gone).policy, None);
    }

    let mut row = skipped("paused");
    let span = Some(Span { until: at(0), count: 3 });
    row.run = Some(RunRecord { span, ..row.run.unwrap() });
    let three = "3 instants in a row, from 2027-01-15T07:59:00Z to 2027-01-15T08:00:00Z";
    check(Verdict::Skipped, &[three], &row);
}

#[test]
fn what_waits_says_for_what() {
    let queued = |f: &mut Facts| f.run = Some(run(-60, RunState::Queued));
    let why = check(Verdict::Queued, &["for a free place", "agent get web-1"], &facts(queued));
    assert_eq!(why.policy, None);
    let made_up = facts(|f| {
        f.run = Some(RunRecord { waited_by_policy: true, ..run(-60, RunState::Queued) });
    });
    policy_of("catch_up latest within 1h", &check(Verdict::Queued, &["made up for"], &made_up));
    let mut behind = facts_of(task(Spec { overlap: Overlap::Queue, ..minutely() }), at(-60));
    queued(&mut behind);
    behind.ahead = Some(run(-120, RunState::Running));
    let why = check(Verdict::WaitingBehind, &["the run of 2027-01-15T07:58:00Z"], &behind);
    policy_of("overlap queue", &why);

    let mut held_back = facts_of(paused(), at(-60));
    queued(&mut held_back);
    let why = check(Verdict::Paused, &["what is left of the run", "resume default/a"], &held_back);
    policy_of("paused true", &why);
    held_back.run = Some(run(-60, RunState::Running));
    check(Verdict::Running, &[], &held_back);
}

#[test]
fn the_ledger_knows_what_no_agent_tells() {
    let listed = |state, number| facts(|f| f.range.entry = entry(state, number));
    let session = Session::default();
    let waiting = EntryState::Waiting { at: wall(30) };
    check(Verdict::Running, &["as the ledger"], &listed(EntryState::Started, 1));
    check(Verdict::Running, &["as the ledger"], &listed(EntryState::Held { session }, 1));
    check(Verdict::WaitingRetry, &["in 29s"], &listed(waiting, 1));
    check(Verdict::Queued, &["web-1"], &listed(waiting, 0));
    let series = EntryState::CatchUp { at: wall(0), last: at(-60) };
    check(Verdict::Queued, &["made up for"], &listed(series, 0));
    check(Verdict::HistoryGone, &["has ended"], &listed(EntryState::Ended, 1));
    // It may be running, and may yet start: the marks are past it in either case.
    let mut permitted = listed(EntryState::Permitted, 1);
    covered(&mut permitted);
    check(Verdict::Late, &["has not decided it"], &permitted);
    permitted.incomplete = vec!["web-1".to_owned()];
    check(Verdict::HolderUnreachable, &["whether it runs is not known"], &permitted);
    let mut facts = facts_of(paused(), at(-60));
    facts.range.entry = entry(waiting, 1);
    check(Verdict::Paused, &["what is left of the run"], &facts);

    check(Verdict::HistoryGone, &["stands at 2027-01-15T07:59:30Z"], &self::facts(covered));
    let away = self::facts(|f| {
        covered(f);
        f.incomplete = vec!["web-2".to_owned(), "web-3".to_owned()];
    });
    check(Verdict::HistoryAway, &["did not answer: web-2, web-3", "Ask again"], &away);
    // Marks say nothing of a life that began after them, nor of one-shots.
    let newer = self::facts(|f| {
        let incarnation = Incarnation { revision: Revision(6), ..LIFE };
        f.range.marks = Some(Marks { through: at(0), incarnation });
    });
    assert_eq!(check(Verdict::Late, &[], &newer).facts.covered(), Some(false));
    let mut one_shot = facts_of(task(once(-60)), at(-60));
    covered(&mut one_shot);
    assert_eq!(check(Verdict::Late, &[], &one_shot).facts.covered(), None);
}

#[test]
fn what_stands_in_the_way_of_a_start_is_named() {
    check(Verdict::Late, &["for 1m", "has not decided it", "agent get web-1"], &facts(|_| {}));
    let clock = "its clock is wrong".to_owned();
    let told = facts(|f| f.range.in_the_way = Some(clock.clone()));
    check(Verdict::Late, &["It says what is in its way: its clock is wrong."], &told);
    let just = facts(|f| f.now = wall(-59));
    check(Verdict::Starting, &["for 1s", "web-1 holds its range"], &just);
    let away = facts(|f| f.incomplete = vec!["web-1".to_owned()]);
    check(Verdict::HolderUnreachable, &["does not answer", "Ask another coordinator"], &away);
    let silent = facts(|f| f.range.quiet = Some(seconds(6)));
    check(Verdict::HolderSilent, &["written nothing for 6s", "host of web-1"], &silent);
    let store = facts(|f| {
        f.stale = true;
        f.range.quiet = Some(seconds(60));
    });
    check(Verdict::StoreUnavailable, &["Look at etcd"], &store);

    let unheld = |present, able, taking| {
        facts(|f| {
            f.range.holder = None;
            f.range.agents = PoolAgents { present, able, taking };
        })
    };
    check(Verdict::Unheld, &["no agent of pool default", "Start an agent"], &unheld(0, 0, 0));
    check(Verdict::Unheld, &["all 2 agents", "weigh 0"], &unheld(2, 0, 0));
    check(Verdict::Unheld, &["cordoned or drained", "uncordon"], &unheld(2, 2, 0));
    check(Verdict::Unheld, &["2a (for 1s)", "about to claim it"], &unheld(2, 2, 1));

    let waits = facts_of(paused(), at(-60));
    policy_of("paused true", &check(Verdict::Paused, &["ends as skipped"], &waits));
    let one_shot = task(Spec { paused: true, ..once(-60) });
    let one_shot = facts_of(one_shot, at(-60));
    check(Verdict::Paused, &["its catch-up policy decides when"], &one_shot);
}

#[test]
fn what_is_to_come_and_what_is_no_instant() {
    check(Verdict::Upcoming, &["due in 59s"], &facts_of(task(minutely()), at(60)));
    let mut late = facts_of(task(minutely()), at(60));
    (late.range.holder, late.range.agents) = (None, PoolAgents::default());
    check(Verdict::Upcoming, &["it would be late", "Nobody holds its range 2a"], &late);
    check(Verdict::Paused, &["will be skipped unless"], &facts_of(paused(), at(60)));

    let between = facts_of(task(minutely()), at(-61));
    let around = ["before is 2027-01-15T07:58:00Z, the one after 2027-01-15T07:59:00Z"];
    let why = check(Verdict::NotAnInstant, &around, &between);
    assert_eq!((why.facts.due(), why.advice), (None, None));
    check(Verdict::NotAnInstant, &["one, 2027-01-15T08:01:00Z"], &facts_of(task(once(60)), at(0)));
    let ended = task(Spec { end_at: Some(wall(-120)), ..minutely() });
    check(Verdict::NotAnInstant, &["last one was 2027-01-15T07:58:00Z"], &facts_of(ended, at(-60)));
    let begins = task(Spec { start_at: Some(wall(120)), ..minutely() });
    check(Verdict::NotAnInstant, &["next one is 2027-01-15T08:02:00Z"], &facts_of(begins, at(60)));

    let before = facts_of(task(minutely()), at(-600));
    check(Verdict::BeforeTask, &["created later, at 2027-01-15T07:50:00Z"], &before);
    let mut edited = task(minutely());
    edited.effective_from = wall(-90);
    let edited = facts_of(edited, at(-120));
    check(Verdict::BeforeEdit, &["at 2027-01-15T07:58:30Z", "not known any more"], &edited);
}

#[test]
fn a_task_that_is_gone_or_cannot_be_read() {
    let newest = |request| {
        let run = RunRecord { request, ..run(-120, RunState::Succeeded) };
        facts(|f| {
            f.subject = Subject::Gone { newest: Some(Box::new(run)) };
            f.range.pool = None;
        })
    };
    check(Verdict::TaskGone, &["was deleted", "2027-01-15T07:58:00Z: succeeded"], &newest(None));
    check(Verdict::TaskGone, &["was a one-shot and has ended"], &newest(Some(1)));
    let mut silent = newest(None);
    silent.incomplete = vec!["web-2".to_owned()];
    check(Verdict::TaskGone, &["did not answer: web-2"], &silent);
    let mut ran = newest(None);
    ran.run = Some(run(-60, RunState::Succeeded));
    check(Verdict::Succeeded, &[], &ran);
    let unreadable =
        facts(|f| f.subject = Subject::Unreadable { error: "a new format".to_owned() });
    check(Verdict::TaskUnreadable, &["a new format", "upgrade"], &unreadable);
}

#[test]
fn every_verdict_is_in_the_api_and_in_the_documents() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/why.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut rows: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")).collect();
    rows.sort_unstable();
    let mut words: Vec<&str> = Verdict::ALL.iter().map(|verdict| verdict.as_str()).collect();
    words.sort_unstable();
    let told: Vec<&str> = rows.iter().filter_map(|row| row.split('`').next()).collect();
    assert_eq!(told, words);
    for word in words {
        let read: Result<json::WhyVerdict, _> = serde_json::from_value(word.into());
        assert!(read.is_ok(), "{word} is no word of the API");
    }
}

#[test]
fn instants_belong_to_the_version_of_their_time() {
    // Every minute; from -100 s on every 25 s; paused at -90 s and resumed at -10 s.
    let first = task(minutely());
    let faster = Schedule::Every(Every::new(seconds(25), Duration::ZERO).unwrap());
    let spec = Spec { schedules: vec![faster], ..minutely() };
    let second = written(replace(&first, spec, wall(-100), Marks::NONE).unwrap().unwrap());
    let third = written(pause(&second, wall(-90), Marks::NONE).unwrap().unwrap());
    let task = written(resume(&third, wall(-10), Marks::NONE).unwrap().unwrap());
    let timeline = Timeline::new(&task);
    let instant = |seconds: i64, paused| {
        assert_eq!(timeline.moment(at(seconds)), Moment::Instant { due: wall(seconds), paused });
    };
    instant(-120, false);
    // The edit at -100 s: its own moment belongs to the version before, which has no such instant.
    assert_eq!(timeline.moment(at(-100)), Moment::Between);
    assert_eq!(timeline.moment(at(-60)), Moment::Between, "an instant of the first version only");
    instant(-75, true);
    instant(0, false);
    assert_eq!(timeline.moment(at(-600)), Moment::BeforeTask { created: wall(-600) });
    assert_eq!(timeline.previous(at(0)), Some(at(-25)));
    assert_eq!(timeline.previous(at(-75)), Some(at(-120)));
    assert_eq!(timeline.next(at(-120)), Some(at(-75)));
    assert_eq!(timeline.previous(at(-540)), None);
    assert_eq!(timeline.newest_due(wall(10)), Some(at(0)));
    // Once ledgers have covered what was before, the record does not tell of it any more.
    let covered = Task { prior: Vec::new(), ..task.clone() };
    let timeline = Timeline::new(&covered);
    assert_eq!(timeline.moment(at(-75)), Moment::BeforeEdit { edited: wall(-10) });
    assert_eq!(timeline.previous(at(0)), None);
}

#[test]
fn a_one_shot_has_one_instant_whenever_it_was_written() {
    // Created after its time, which is allowed.
    let late = written(create(once(-700), wall(-600), None).unwrap());
    let timeline = Timeline::new(&late);
    let due = Moment::Instant { due: wall(-700), paused: false };
    assert_eq!(timeline.moment(at(-700)), due);
    assert_eq!(timeline.moment(at(-650)), Moment::Between);
    assert_eq!(timeline.moment(at(-800)), Moment::Between);
    assert_eq!(timeline.newest_due(wall(0)), Some(at(-700)));
    assert_eq!(Timeline::new(&task(once(60))).newest_due(wall(0)), Some(at(60)), "the next one");
}

#[test]
fn with_jitter_the_newest_that_is_due_may_be_the_one_before() {
    let jittery = task(Spec { jitter: seconds(50), ..minutely() });
    let timeline = Timeline::new(&jittery);
    let Moment::Instant { due, .. } = timeline.moment(at(0)) else { panic!("no instant") };
    assert!(due > wall(0), "the case needs some jitter: {due:?}");
    assert_eq!(timeline.newest_due(due), Some(at(0)));
    assert_eq!(timeline.newest_due(due.minus(MILLISECOND)), Some(at(-60)));
    // Its due is the first after its own instant, and the next one's the first after that.
    assert_eq!(timeline.first_due_after(at(0)), Some(due.instant()));
    let next = timeline.first_due_after(due.instant()).unwrap();
    assert!(next >= at(60) && next < at(120), "{next:?}");
    assert_eq!(Timeline::new(&paused()).first_due_after(at(0)), None);
    assert_eq!(Timeline::new(&task(once(60))).first_due_after(at(0)), Some(at(60)));
    assert_eq!(Timeline::new(&task(once(60))).first_due_after(at(60)), None);
}

#[test]
fn a_local_time_that_comes_twice_is_two_instants_told_apart_by_their_offsets() {
    // Two schedules; 2026-10-25 in Berlin has 02:30 twice.
    let both = cron("30 2 * * *", "Europe/Berlin", Fold::Both);
    let noon = cron("0 12 * * *", "UTC", Fold::First);
    let spec = Spec { schedules: vec![both, noon], ..minutely() };
    let moment = |text: &str| json::parse_instant(text).unwrap();
    let created = moment("2026-10-01T00:00:00Z").wall();
    let task = written(create(spec, created, None).unwrap());
    let timeline = Timeline::new(&task);
    let (summer, winter) = (moment("2026-10-25T00:30:00Z"), moment("2026-10-25T01:30:00Z"));
    assert_eq!(timeline.next(summer), Some(winter));
    assert_eq!(timeline.previous(winter), Some(summer));
    assert_eq!(shown(&timeline, summer).local, "2026-10-25T02:30:00+02:00");
    assert_eq!(shown(&timeline, winter).local, "2026-10-25T02:30:00+01:00");
    assert_eq!(timeline.next(winter), Some(moment("2026-10-25T12:00:00Z")));
    assert_eq!(timeline.moment(moment("2026-10-25T02:30:00Z")), Moment::Between);
    // The ends of time are no trouble.
    assert_eq!(timeline.next(Instant::MAX), None);
    assert_eq!(timeline.previous(Instant::MIN), None);
    assert!(matches!(timeline.moment(Instant::MIN), Moment::BeforeTask { .. }));
    assert_eq!(timeline.moment(Instant::MAX), Moment::Between);
}

#[test]
fn of_several_runs_of_a_moment_the_one_that_is_meant_is_chosen() {
    let now = run(-60, RunState::Succeeded);
    let mut before = now.clone();
    before.id.incarnation.revision = Revision(3);
    let mut by_hand = now.clone();
    by_hand.id = RunId::manual(now.id.task.clone(), 5);
    let span = Some(Span { until: at(0), count: 5 });
    let row = RunRecord { span, ..run(-240, RunState::Skipped) };
    let all = || vec![by_hand.clone(), before.clone(), now.clone(), row.clone()];
    let pick = |runs, life, rows| chosen(runs, at(-60), life, rows).map(|run| run.id);
    assert_eq!(pick(all(), Some(LIFE), true), Some(now.id.clone()));
    assert_eq!(pick(vec![by_hand.clone(), before.clone()], Some(LIFE), true), Some(before.id));
    assert_eq!(pick(vec![by_hand.clone()], Some(LIFE), true), Some(by_hand.id));
    assert_eq!(pick(vec![row.clone()], Some(LIFE), true), Some(row.id.clone()));
    assert_eq!(pick(vec![row], Some(LIFE), false), None);
}
