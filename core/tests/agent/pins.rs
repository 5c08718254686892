//! Tasks that are pinned to this agent: they go on whatever becomes of the shared state, and what
//! is known of them is in the agent's own store.

use std::time::Duration;

use tocktower_core::agent::Settled;
use tocktower_core::agent::effect::{ExitReason, LoadRequest, Notice};
use tocktower_core::agent::input::Input;
use tocktower_core::ids::{RangeId, RunId, Session};
use tocktower_core::ledger::{EntryState, Marks};
use tocktower_core::run::RunState;
use tocktower_core::task::{CatchUp, CatchUpPolicy, Overlap, Spec, replace};

use crate::words::{at_most_once, every, every_after, failed, named, pinned, retried};
use crate::world::{Fate, World};

const LOST: &str = "its host went away after the ledger had permitted it to start: it may have \
                    run, and nobody starts it again";
const BEFORE_STORE: &str = "this agent's store is younger than that: it may have run, and nobody \
                            starts it again";

impl World {
    /// Nothing comes from the shared state, and nothing gets there.
    fn cut_off(&mut self) {
        self.deaf = true;
        self.fate(|_| Fate::Lost);
    }

    fn reconnect(&mut self) {
        self.deaf = false;
        self.fate(|_| Fate::Served);
    }

    fn run(&self, name: &str, second: u64) -> RunId {
        let incarnation = self.task(name).incarnation;
        RunId::scheduled(named(name), incarnation, self.at_second(second))
    }

    /// Entries of the ledger that the store has of what is pinned.
    fn listed_pins(&self) -> usize {
        self.store.pins_before(true).map_or(0, |before| before.ledger.open.len())
    }

    #[track_caller]
    fn none_is_late(&self, name: &str, by_us: u64) {
        for start in self.starts_of(name) {
            let late = start.at_us % 1_000_000;
            assert!(late < by_us, "{} started {late} us late", start.run);
        }
    }
}

fn world(spec: Spec) -> World {
    let mut world = World::new(1, 10);
    world.create(spec);
    world
}

#[test]
fn it_runs_on_time_and_needs_no_claim() {
    let mut world = world(pinned(every("a/task", 5)));
    world.pass(21_000);
    assert_eq!(world.started("a/task"), [(5, 1), (10, 1), (15, 1), (20, 1)]);
    world.none_is_late("a/task", 2_000);
    world.each_ended_once(&world.task("a/task"), 1, 21);
    let pins = world.sent.iter().filter(|sent| sent.range == RangeId::PINS);
    assert_eq!(pins.count(), 0, "its ledger is no business of the shared state");
    assert_eq!(world.agent.stats().held, 1, "it is no range that is held");
}

#[test]
fn it_goes_on_while_the_shared_state_is_away() {
    let mut world = world(pinned(every("a/task", 5)));
    world.create(pinned(at_most_once(every("a/once", 5))));
    world.create(every("b/pooled", 5));
    world.pass(12_000);
    world.cut_off();
    world.pass(60_000);
    for name in ["a/task", "a/once"] {
        assert_eq!(world.starts_of(name).len(), 14, "{:?}", world.started(name));
        world.none_is_late(name, 5_000);
        world.each_ended_once(&world.task(name), 1, 71);
    }
    let pooled = world.started("b/pooled");
    assert!(pooled.last().is_some_and(|(second, _)| *second <= 15), "{pooled:?}");
    world.reconnect();
    world.pass(20_000);
    assert_eq!(world.starts_of("a/task").len(), 18);
    world.each_ended_once(&world.task("a/once"), 1, 91);
}

#[test]
fn a_process_that_begins_while_the_shared_state_is_away_goes_on_from_its_store() {
    let mut world = world(pinned(every("a/task", 1)));
    world.create(pinned(at_most_once(every("a/once", 1))));
    world.pass(10_500);
    world.cut_off();
    world.pass(5_000);
    for _ in 0..4 {
        world.restart();
        world.pass(3_710);
    }
    world.pass(10_000);
    for name in ["a/task", "a/once"] {
        let twice = world.each_ended(&world.task(name), 1, 40);
        assert_eq!(twice, [0; 0], "{name}");
        let seconds: Vec<i64> = world.started(name).iter().map(|(second, _)| *second).collect();
        assert_eq!(seconds, (1..=40).collect::<Vec<_>>(), "{name}");
    }
    world.reconnect();
    world.pass(10_000);
    world.each_ended_once(&world.task("a/once"), 1, 50);
}

#[test]
fn what_ran_when_the_process_died_is_tried_again_or_lost() {
    let mut world = world(pinned(every("a/task", 60)));
    world.create(pinned(at_most_once(every("a/once", 60))));
    world.runs_long("a/task");
    world.runs_long("a/once");
    world.pass(65_000);
    world.cut_off();
    world.restart();
    world.pass(2_000);
    assert_eq!(world.started("a/task"), [(60, 1), (60, 2)]);
    assert_eq!(world.started("a/once"), [(60, 1)]);
    assert_eq!(world.history("a/once"), [format!("60 lost: {LOST}")]);
    let attempts: Vec<_> = world.starts_of("a/task").iter().map(|start| start.attempt).collect();
    assert!(attempts[1].fence > attempts[0].fence, "{attempts:?}");
}

#[test]
fn what_a_power_cut_may_have_taken_with_it_never_starts_twice() {
    let mut world = world(pinned(at_most_once(every("a/once", 5))));
    world.pass(3_000);
    world.store.keep_disk();
    // It is permitted two seconds ahead, and not even written down that it begins.
    world.pass(1_999);
    world.cut_off();
    world.pass(2);
    assert_eq!(world.started("a/once"), [(5, 1)]);
    world.power_cut();
    world.pass(10_000);
    assert_eq!(world.started("a/once"), [(5, 1), (10, 1), (15, 1)]);
    assert_eq!(world.history("a/once")[0], format!("5 lost: {LOST}"));
}

#[test]
fn an_attempt_before_says_nothing_of_the_one_that_a_power_cut_may_have_taken() {
    let mut world = world(pinned(retried(at_most_once(every("a/once", 60)), 3, 2)));
    world.conduct("a/once", 10, &[failed()]);
    world.pass(61_900);
    // The second is permitted, and only the first is known to have begun.
    world.store.keep_disk();
    world.cut_off();
    world.pass(600);
    assert_eq!(world.started("a/once"), [(60, 1), (60, 2)]);
    world.power_cut();
    world.pass(10_000);
    assert_eq!(world.started("a/once"), [(60, 1), (60, 2)]);
    assert_eq!(world.history("a/once").last(), Some(&format!("60 lost: {LOST}")));
}

#[test]
fn news_that_come_before_the_own_records_end_nothing_that_these_tell_of() {
    let mut world = world(pinned(at_most_once(every("a/paused", 5))));
    world.create(pinned(at_most_once(every("a/deleted", 5))));
    world.create(pinned(at_most_once(every("a/later", 6))));
    world.create(pinned(at_most_once(every("a/never", 6))));
    world.pass(5_100);
    // All that the ledger says is that they may start.
    let open = world.store.pins_before(true).expect("a ledger").ledger.open;
    assert_eq!(open.len(), 4, "{open:?}");
    assert!(open.iter().all(|entry| entry.state == EntryState::Permitted), "{open:?}");
    world.restart();
    world.hold_loads = |request| matches!(request, LoadRequest::Own { .. });
    for name in ["a/paused", "a/later"] {
        world.pause(name);
    }
    for name in ["a/deleted", "a/never"] {
        world.delete(name);
    }
    world.pass(500);
    world.hold_loads = |_| false;
    world.release_loads();
    world.pass(3_000);
    for (name, ended) in [("a/paused", "5 succeeded"), ("a/deleted", "5 succeeded")] {
        assert_eq!(world.history(name)[..1], [ended], "{name}");
        assert_eq!(world.history(name).iter().filter(|row| row.starts_with("5 ")).count(), 1);
    }
    assert_eq!(world.history("a/later"), ["6 skipped: paused"], "it had not begun");
    assert_eq!(world.started("a/never"), []);
    assert_eq!(world.ended("a/never", RunState::Lost), 0);
}

#[test]
fn a_process_that_was_killed_starts_what_it_had_permitted_and_not_begun() {
    let mut world = world(pinned(at_most_once(every("a/once", 5))));
    world.pass(4_500);
    world.cut_off();
    world.restart();
    world.pass(2_000);
    assert_eq!(world.started("a/once"), [(5, 1)]);
    assert_eq!(world.history("a/once"), ["5 succeeded"]);
}

#[test]
fn a_store_that_is_lost_repeats_within_the_window_and_never_what_may_run_once() {
    let window = CatchUp { policy: CatchUpPolicy::Latest, window: Duration::from_secs(30) };
    let mut world = world(pinned(Spec { catch_up: window, ..every("a/task", 10) }));
    world.create(pinned(at_most_once(every("a/once", 10))));
    world.pass(65_000);
    world.lose_store();
    world.pass(20_000);
    let task = world.started("a/task");
    assert_eq!(task[6..], [(60, 1), (70, 1), (80, 1)], "the newest is made up for");
    let once = world.started("a/once");
    assert_eq!(once.len(), 8, "{once:?}");
    assert_eq!(once[6..], [(70, 1), (80, 1)]);
    assert_eq!(world.history("a/once")[0], format!("10..65 lost: {BEFORE_STORE}"));
    world.each_ended_once(&world.task("a/once"), 1, 85);
}

#[test]
fn what_is_asked_of_a_new_agent_before_its_first_list_has_come_is_run() {
    let mut world = World::new(1, 10);
    world.create(pinned(at_most_once(every("a/once", 3_600))));
    world.deaf = true;
    world.pass(1_000);
    world.trigger("a/once", 1);
    world.pass(500);
    assert!(world.told(|notice| matches!(notice, Notice::Pinned { .. })) == 0);
    world.deaf = false;
    world.pass(3_000);
    assert_eq!(world.starts_of("a/once").len(), 1);
    assert_eq!(world.ended("a/once", RunState::Succeeded), 1);
}

#[test]
fn what_was_permitted_before_a_power_cut_stays_in_doubt_in_the_process_after_the_next() {
    let mut world = world(pinned(at_most_once(every("a/once", 3_600))));
    world.store.keep_disk();
    world.pass(3_000);
    world.runs_long("a/once");
    world.trigger("a/once", 1);
    while world.starts_of("a/once").is_empty() {
        world.pass(1);
    }
    // The next process is gone before the keys were listed, and all it can do is to pass it on.
    world.deaf = true;
    world.power_cut();
    world.pass(5_000);
    world.restart();
    world.pass(500);
    world.deaf = false;
    world.pass(5_000);
    assert_eq!(world.starts_of("a/once").len(), 1);
    assert_eq!(world.ended("a/once", RunState::Lost), 1);
}

#[test]
fn what_was_deleted_meanwhile_stops_when_the_agent_is_back() {
    let mut world = world(pinned(every("a/task", 1)));
    world.create(pinned(every("a/stays", 1)));
    world.pass(5_500);
    world.cut_off();
    world.delete("a/task");
    world.pass(5_000);
    assert_eq!(world.starts_of("a/task").len(), 10, "it cannot know");
    world.reconnect();
    world.pass(5_000);
    assert_eq!(world.starts_of("a/task").len(), 10);
    assert_eq!(world.starts_of("a/stays").len(), 15);
    // In a process that lists it all, too.
    world.cut_off();
    world.delete("a/stays");
    world.restart();
    world.pass(3_000);
    let before = world.starts_of("a/stays").len();
    assert_eq!(before, 18);
    world.reconnect();
    world.pass(5_000);
    assert!(world.starts_of("a/stays").len() <= before + 1);
}

#[test]
fn an_edit_that_comes_late_counts_from_then_on() {
    let mut world = world(pinned(every("a/task", 1)));
    world.pass(5_500);
    world.cut_off();
    world.edit("a/task", |spec| Spec { overlap: Overlap::Allow, ..spec });
    world.edit("a/task", |spec| Spec { schedules: every("a/task", 7).schedules, ..spec });
    world.pass(5_000);
    world.reconnect();
    world.pass(12_000);
    let seconds: Vec<i64> = world.started("a/task").iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 20]);
}

#[test]
fn a_list_that_begins_before_what_is_overdue_was_read_hides_none_of_it() {
    let mut world = world(pinned(every("a/old", 1)));
    world.pass(5_500);
    world.cut_off();
    world.create(pinned(every("a/new", 1)));
    world.pass(4_000);
    // The ledger covers what is due up to now, and knows nothing of the new one.
    world.reconnect();
    world.restart();
    world.hold_loads = |request| matches!(request, LoadRequest::Due { .. });
    world.pass(500);
    let now = world.now();
    world.shared.list(RangeId::PINS, now);
    world.pass(200);
    world.hold_loads = |_| false;
    world.release_loads();
    world.pass(3_000);
    world.each_ended_once(&world.task("a/new"), 6, 12);
}

#[test]
fn an_edit_while_the_clock_is_far_behind_hides_no_instant_before_it() {
    let all = CatchUp { policy: CatchUpPolicy::All, window: Duration::from_secs(3_600) };
    let task = Spec { overlap: Overlap::Allow, catch_up: all, ..every("a/task", 2) };
    let mut world = world(pinned(task));
    world.pass(12_500);
    world.ahead_ms = -600_000;
    world.pass(6_000);
    let current = world.task("a/task");
    let spec = Spec { schedules: every("a/task", 7).schedules, ..current.spec.clone() };
    let then = world.at_second(18).wall();
    let version = replace(&current, spec, then, Marks::NONE).expect("it fits").expect("another");
    world.write(&current, version);
    world.pass(1_000);
    world.ahead_ms = 0;
    world.pass(8_500);
    let history = world.history("a/task");
    let ended =
        |second: u64| history.iter().filter(|row| row.starts_with(&format!("{second} "))).count();
    assert_eq!([12, 14, 16, 18, 20, 27].map(ended), [1; 6], "{history:?}");
}

#[test]
fn a_start_that_was_written_down_and_not_made_is_none_for_the_next_process() {
    let mut world = world(pinned(at_most_once(every("a/once", 5))));
    world.pass(4_999);
    world.hang_disk = true;
    world.pass(2);
    world.tell(0, Input::Leave { deadline: Duration::from_secs(10) });
    world.pass(2);
    world.free_disk();
    world.pass(1_000);
    assert_eq!(world.exited.take(), Some(ExitReason::Left));
    assert_eq!(world.started("a/once"), []);
    world.restart();
    world.measure_clock();
    world.pass(2_000);
    assert_eq!(world.history("a/once"), ["5 succeeded"]);
    assert_eq!(world.started("a/once"), [(5, 1)]);
}

#[test]
fn a_run_that_was_asked_for_is_one_also_across_a_restart() {
    let mut world = world(pinned(at_most_once(every("a/once", 3_600))));
    world.create(pinned(every("a/task", 3_600)));
    world.pass(3_000);
    world.trigger("a/once", 7);
    world.trigger("a/task", 8);
    world.runs_long("a/once");
    world.pass(2_000);
    assert_eq!((world.started("a/once"), world.started("a/task")), (vec![(7, 1)], vec![(8, 1)]));
    // Its key cannot be deleted, nor be seen by the next process.
    world.cut_off();
    world.restart();
    world.pass(5_000);
    let kept = world.store.pins_before(true).expect("a ledger").ledger.open;
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(kept[0].state, EntryState::Permitted);
    world.reconnect();
    world.pass(5_000);
    assert_eq!(world.started("a/once"), [(7, 1)]);
    assert_eq!(world.history("a/once"), [format!("trigger 7 lost: {LOST}")]);
    assert_eq!(world.ended("a/task", RunState::Succeeded), 1);
    world.pass(15_000);
    assert_eq!(world.shared.keys[&RangeId::PINS].tasks.len(), 2);
}

#[test]
fn a_one_shot_is_settled_when_its_key_can_be_deleted() {
    let mut world = World::new(1, 10);
    world.create(pinned(world.once("a/once", 10)));
    world.pass(5_000);
    world.cut_off();
    world.pass(10_000);
    assert_eq!(world.started("a/once"), [(10, 1)]);
    world.restart();
    world.pass(5_000);
    world.reconnect();
    world.pass(10_000);
    assert_eq!(world.started("a/once"), [(10, 1)]);
    assert_eq!(world.history("a/once"), ["10 succeeded"]);
    assert!(world.shared.keys[&RangeId::PINS].tasks.is_empty());
}

#[test]
fn retries_and_overlap_go_on_without_the_shared_state() {
    let mut world = world(pinned(retried(every("a/task", 10), 3, 2)));
    world.create(pinned(Spec { overlap: Overlap::Queue, ..every("a/slow", 5) }));
    world.conduct("a/task", 10, &[failed(), failed()]);
    world.conduct("a/slow", 6_000, &[]);
    world.pass(3_000);
    world.cut_off();
    world.pass(20_500);
    assert_eq!(world.started("a/task"), [(10, 1), (10, 2), (10, 3), (20, 1)]);
    assert_eq!(world.started("a/slow"), [(5, 1), (10, 1), (15, 1), (20, 1)]);
}

#[test]
fn an_agent_that_leaves_waits_for_what_runs_and_permits_nothing_more() {
    let mut world = world(pinned(at_most_once(every("a/once", 5))));
    world.conduct("a/once", 3_000, &[]);
    world.pass(6_000);
    world.tell(0, Input::Leave { deadline: Duration::from_secs(10) });
    world.pass(1_000);
    assert_eq!(world.exited, None, "it waits for the run");
    world.pass(5_000);
    assert_eq!(world.exited, Some(ExitReason::Left));
    let kept = world.store.pins_before(true).expect("a ledger").ledger;
    assert!(kept.open.iter().all(|entry| entry.state == EntryState::Ended), "{kept:?}");
    assert_eq!(world.history("a/once"), ["5 succeeded"]);
    assert_eq!(world.run("a/once", 5), world.starts[0].run);
}

#[test]
fn with_a_clock_that_is_wrong_for_good_it_goes_on_and_its_marks_too() {
    let mut world = world(pinned(at_most_once(every("a/task", 1))));
    world.create(every("a/pooled", 1));
    let session = Session { revision: world.shared.next(), ..Session::default() };
    world.shared.join("b", session, 1);
    world.pass(5_500);
    for _ in 0..4 {
        for by in ["c1", "c2"] {
            world.clock_measured(by, -60_000);
        }
        world.pass(20_000);
    }
    assert_eq!(world.started("a/task").last(), Some(&(85, 1)), "it is the only clock there is");
    assert!(world.listed_pins() < 10, "{} are listed", world.listed_pins());
    let given_up = world.told(|notice| matches!(notice, Notice::GaveUp));
    assert!(given_up <= 1, "what is pinned stays: {given_up} times");
}

#[test]
fn of_what_ran_before_a_late_edit_was_known_the_run_is_the_account_that_counts() {
    let mut world = world(pinned(every("a/task", 3)));
    world.pass(4_000);
    world.deaf = true;
    world.pause("a/task");
    world.pass(200);
    world.resume("a/task");
    world.pass(8_000);
    world.deaf = false;
    world.pass(2_000);
    let ran: Vec<i64> = world.started("a/task").iter().map(|(at, _)| *at).collect();
    assert_eq!(ran, [3, 6, 9, 12]);
    for id in world.store.history.iter().map(|row| &row.id) {
        let accounts = world.store.history.iter().filter(|row| row.id == *id);
        let counts = accounts.max_by_key(|row| row.fence).expect("at least this one");
        assert_eq!(counts.state, RunState::Succeeded, "{:?}", world.history("a/task"));
    }
}

#[test]
fn what_was_missed_in_an_outage_is_due_by_then_and_soon_settled() {
    let catch_up = CatchUp { policy: CatchUpPolicy::None, window: Duration::from_secs(3_600) };
    let jitter = Duration::from_secs(3);
    // The last of them is long ago when it comes back, and nothing else is to be said of it.
    let spec = Spec { jitter, max_runs: Some(4), catch_up, ..every("a/task", 10) };
    let mut world = world(pinned(spec));
    world.pass(14_000);
    world.stop(46_000);
    world.pass(48_000);
    let missed = world.store.history.iter().find(|row| row.state == RunState::Missed).cloned();
    let missed = missed.expect("outside its window");
    assert!(missed.due <= world.now().wall, "{missed:?}");
    world.pass(2_000);
    assert_eq!(world.agent.settled(&missed), Settled::Here);
}

#[test]
fn what_ran_before_an_edit_put_it_off_is_settled_when_its_new_due_has_passed() {
    let mut world = world(pinned(Spec { max_runs: Some(1), ..every("a/task", 5) }));
    world.pass(4_800);
    world.deaf = true;
    world.edit("a/task", |spec| Spec { jitter: Duration::from_secs(40), ..spec });
    world.pass(1_000);
    world.deaf = false;
    world.pass(1_000);
    let ran = world.store.history.iter().find(|row| row.state == RunState::Succeeded).cloned();
    let ran = ran.expect("by the schedule before");
    assert_eq!(world.agent.settled(&ran), Settled::NotYet);
    world.pass(42_000);
    assert_eq!(world.agent.settled(&ran), Settled::Here);
}

#[test]
fn what_runs_while_a_list_brings_the_edit_that_puts_it_off_does_not_run_again() {
    // While this one runs, ledgers are written at whole seconds.
    let mut world = world(pinned(every("a/other", 1)));
    world.create(pinned(Spec { max_runs: Some(2), ..every_after("a/task", 5, 300) }));
    world.conduct("a/task", 3_000, &[]);
    world.pass(5_100);
    world.deaf = true;
    world.edit("a/task", |spec| Spec { jitter: Duration::from_secs(40), ..spec });
    // It has begun, and no ledger lists it yet.
    world.pass(300);
    world.shared.news.clear();
    let now = world.now();
    world.shared.list(RangeId::PINS, now);
    world.deaf = false;
    world.pass(50_000);
    assert_eq!(world.starts_of("a/task").len(), 2);
}
