//! Tasks of every agent: what this one's share of them is, and that it goes on with it whatever
//! becomes of the shared state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tocktower_core::agent::effect::{ExitReason, LoadRequest};
use tocktower_core::agent::input::Input;
use tocktower_core::ids::{AgentName, PoolName, RangeId, RunId};
use tocktower_core::run::{AttemptEnd, RunState};
use tocktower_core::schedule::{Every, Schedule};
use tocktower_core::task::{Broadcast, CatchUp, CatchUpPolicy, Overlap, Placement, Spec};
use tocktower_core::time::Instant;

use crate::words::{at_most_once, broadcast, every, every_after, failed, named, pinned, retried};
use crate::world::{Fate, Started, World};

const LOST: &str = "its host went away after the ledger had permitted it to start: it may have \
                    run, and nobody starts it again";
const WEB: (&str, &str) = ("role", "web");

fn labels((key, value): (&str, &str)) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

fn everywhere(name: &str, seconds: u64) -> Spec {
    broadcast(every(name, seconds), WEB)
}

fn until_begun(world: &mut World) {
    while world.started("a/task").is_empty() {
        world.pass(1);
    }
}

/// An agent with these labels, and a task of every agent that is selected.
fn world_of(label: (&str, &str), spec: Spec) -> World {
    let mut world = World::labelled(1, 10, labels(label));
    world.create(spec);
    world
}

fn world(spec: Spec) -> World {
    world_of(WEB, spec)
}

impl World {
    fn nothing_comes(&mut self) {
        self.deaf = true;
        self.fate(|_| Fate::Lost);
    }

    fn all_comes(&mut self) {
        self.deaf = false;
        self.fate(|_| Fate::Served);
    }

    fn seconds(&self, name: &str) -> Vec<i64> {
        self.started(name).iter().map(|(second, _)| *second).collect()
    }
}

#[test]
fn an_agent_runs_its_share_under_a_name_of_its_own() {
    let mut world = world(everywhere("a/task", 5));
    world.pass(16_000);
    assert_eq!(world.started("a/task"), [(5, 1), (10, 1), (15, 1)]);
    let incarnation = world.task("a/task").incarnation;
    let name = RunId::scheduled(named("a/task"), incarnation, world.at_second(5));
    let agent = Some(AgentName::parse("a").unwrap());
    assert_eq!(world.starts[0].run, RunId { agent, ..name.clone() });
    assert_ne!(world.starts[0].run, name, "another agent's share is another run");
    assert!(world.starts[0].run.to_string().ends_with(".1.a"), "{}", world.starts[0].run);
    world.each_ended_once(&world.task("a/task"), 1, 16);
    let sent = world.sent.iter().filter(|sent| sent.range == RangeId::BROADCAST);
    assert_eq!(sent.count(), 0, "its ledger is no business of the shared state");
    assert_eq!(world.agent.stats().held, 1, "it is no range that is held");
}

#[test]
fn an_agent_that_is_not_selected_runs_nothing_of_it() {
    let mut world = world_of(("role", "db"), everywhere("a/web", 1));
    world.create(broadcast(every("a/db", 1), ("role", "db")));
    let blue = Placement::EveryAgent(PoolName::parse("blue").unwrap());
    world.create(Spec { placement: blue, ..broadcast(every("a/blue", 1), ("role", "db")) });
    let all = Broadcast::default();
    world.create(Spec { broadcast: all, ..everywhere("a/all", 1) });
    world.pass(3_500);
    assert_eq!(world.seconds("a/db"), [1, 2, 3]);
    assert_eq!(world.seconds("a/all"), [1, 2, 3]);
    assert_eq!(world.seconds("a/web"), [0; 0]);
    assert_eq!(world.seconds("a/blue"), [0; 0]);
    assert!(world.history("a/web").is_empty(), "it is no business of this agent");
}

#[test]
fn it_goes_on_while_the_shared_state_is_away_also_in_a_process_that_begins_then() {
    let mut world = world(everywhere("a/task", 1));
    world.create(at_most_once(everywhere("a/once", 1)));
    world.create(broadcast(every("a/other", 1), ("role", "db")));
    world.pass(10_500);
    world.nothing_comes();
    world.pass(5_000);
    for _ in 0..4 {
        world.restart();
        world.pass(3_710);
    }
    world.pass(10_000);
    for name in ["a/task", "a/once"] {
        let twice = world.each_ended(&world.task(name), 1, 40);
        assert_eq!(twice, [0; 0], "{name}");
        assert_eq!(world.seconds(name), (1..=40).collect::<Vec<_>>(), "{name}");
    }
    world.all_comes();
    world.pass(10_000);
    world.each_ended_once(&world.task("a/once"), 1, 50);
    assert_eq!(world.seconds("a/other"), [0; 0]);
}

#[test]
fn what_ran_when_the_process_died_is_tried_again_or_lost() {
    let mut world = world(everywhere("a/task", 60));
    world.create(at_most_once(everywhere("a/once", 60)));
    world.runs_long("a/task");
    world.runs_long("a/once");
    world.pass(65_000);
    world.nothing_comes();
    world.restart();
    world.pass(2_000);
    assert_eq!(world.started("a/task"), [(60, 1), (60, 2)]);
    assert_eq!(world.started("a/once"), [(60, 1)]);
    assert_eq!(world.history("a/once"), [format!("60 lost: {LOST}")]);
    let runs: Vec<_> = world.starts_of("a/task").iter().map(|start| &start.run).collect();
    assert_eq!(runs[0], runs[1], "it is the same run");
}

#[test]
fn a_host_that_is_new_does_not_run_what_was_due_before_it_came() {
    let window = CatchUp { policy: CatchUpPolicy::All, window: Duration::from_secs(3_600) };
    let mut world = world(Spec { catch_up: window, ..everywhere("a/task", 10) });
    world.create(at_most_once(everywhere("a/once", 10)));
    world.pass(65_000);
    world.lose_store();
    world.pass(20_000);
    for name in ["a/task", "a/once"] {
        assert_eq!(world.seconds(name)[6..], [70, 80], "{name}");
        let kept = world.history(name);
        assert!(kept.iter().all(|row| row.ends_with(" succeeded")), "{name}: {kept:?}");
    }
}

#[test]
fn an_agent_that_was_away_makes_up_by_the_tasks_policy() {
    let by = |policy| CatchUp { policy, window: Duration::from_secs(3_600) };
    let mut world = world(Spec { catch_up: by(CatchUpPolicy::All), ..everywhere("a/all", 30) });
    world.create(Spec { catch_up: by(CatchUpPolicy::Latest), ..everywhere("a/latest", 30) });
    world.pass(40_000);
    world.nothing_comes();
    world.stop(100_000);
    world.restart();
    world.pass(120_000);
    assert_eq!(world.seconds("a/all"), [30, 60, 90, 120, 150]);
    assert_eq!(world.seconds("a/latest"), [30, 120, 150]);
    let kept = world.history("a/latest");
    assert!(kept[1].starts_with("60.."), "{kept:?}");
    assert!(kept[1].ends_with("a later instant stands for it"), "{kept:?}");
}

#[test]
fn what_was_deleted_meanwhile_stops_when_the_agent_is_back() {
    let mut world = world(everywhere("a/task", 1));
    world.create(everywhere("a/stays", 1));
    world.pass(5_500);
    world.nothing_comes();
    world.delete("a/task");
    world.restart();
    world.pass(5_000);
    let before = world.seconds("a/task").len();
    assert!(before >= 9, "it cannot know: {before}");
    world.all_comes();
    world.pass(5_000);
    assert!(world.seconds("a/task").len() <= before + 1);
    assert!(world.seconds("a/stays").len() >= 14);
}

#[test]
fn an_edit_that_leaves_an_agent_out_ends_what_waits_there_and_one_that_selects_it_makes_nothing_up()
{
    let mut world = world(everywhere("a/task", 10));
    world.create(retried(everywhere("a/retried", 10), 5, 60));
    world.create(broadcast(every("a/other", 10), ("role", "db")));
    world.conduct("a/retried", 10, &[failed()]);
    world.pass(25_000);
    let to = |label| move |spec| broadcast(spec, label);
    for name in ["a/task", "a/retried"] {
        world.edit(name, to(("role", "db")));
    }
    world.pass(30_000);
    assert_eq!(world.seconds("a/task"), [10, 20]);
    let kept = world.history("a/retried");
    assert!(kept[0].starts_with("20 skipped: overlap"), "{kept:?}");
    assert_eq!(kept[1], "10 cancelled: its task is not for this agent any more", "{kept:?}");
    world.edit("a/other", to(WEB));
    world.edit("a/task", to(WEB));
    world.pass(30_000);
    assert_eq!(world.seconds("a/task"), [10, 20, 60, 70, 80]);
    assert_eq!(world.seconds("a/other"), [60, 70, 80]);
    assert_eq!(world.ended("a/other", RunState::Missed), 0);
}

#[test]
fn an_edit_of_labels_and_schedule_counts_from_then_on_where_it_selects() {
    let mut world = world_of(("role", "db"), everywhere("a/task", 10));
    world.pass(25_000);
    let every = Every::new(Duration::from_secs(4), Duration::ZERO).unwrap();
    world.edit("a/task", |spec| {
        let spec = broadcast(spec, ("role", "db"));
        Spec { schedules: vec![Schedule::Every(every)], ..spec }
    });
    world.pass(10_000);
    assert_eq!(world.seconds("a/task"), [28, 32]);
    assert_eq!(world.history("a/task").len(), 2, "{:?}", world.history("a/task"));
}

#[test]
fn labels_that_were_changed_count_in_the_next_process_without_asking_anybody() {
    let mut world = world(everywhere("a/web", 5));
    world.create(broadcast(every("a/db", 5), ("role", "db")));
    world.pass(11_000);
    world.nothing_comes();
    world.labels = labels(("role", "db"));
    world.restart();
    world.pass(10_000);
    assert_eq!(world.seconds("a/web"), [5, 10]);
    assert_eq!(world.seconds("a/db"), [15, 20]);
}

#[test]
fn the_start_is_put_off_by_the_splay_of_this_agent_and_keeps_the_order_of_instants() {
    let spec = everywhere("a/task", 10);
    let splay = Duration::from_secs(30);
    let spec = Spec { broadcast: Broadcast { splay, ..spec.broadcast.clone() }, ..spec };
    let mut world = world(spec);
    world.pass(45_000);
    let starts = world.starts_of("a/task");
    assert!(starts.len() >= 3, "{starts:?}");
    let offset = |start: &&Started| {
        let at = Instant::from_millis(start.due.millis());
        at.millis() - world.at_second(0).millis()
    };
    let offsets: Vec<i64> = starts.iter().map(offset).collect();
    let first = offsets[0] - 10_000;
    assert!((1..10_000).contains(&first), "within the gap to the next instant: {first}");
    for (number, offset) in (1..).zip(&offsets) {
        assert_eq!(offset - first, number * 10_000, "the same offset each time");
    }
    world.each_ended_once(&world.task("a/task"), 1, 30);
}

#[test]
fn an_edit_between_an_instant_and_its_due_loses_nothing() {
    let names: Vec<String> = (0..5).map(|number| format!("a/task{number}")).collect();
    let mut world = World::labelled(1, 10, labels(WEB));
    let splay = Duration::from_secs(300);
    for name in &names {
        let spec = everywhere(name, 600);
        world.create(Spec { broadcast: Broadcast { splay, ..spec.broadcast.clone() }, ..spec });
    }
    world.pass(605_000);
    let before = world.starts.len();
    assert!(before < names.len(), "most are due later: {before}");
    for name in &names {
        world.edit(name, |spec| Spec { description: "as before".to_owned(), ..spec });
    }
    world.pass(310_000);
    for name in &names {
        world.each_ended_once(&world.task(name), 600, 601);
    }
}

#[test]
fn retries_and_overlap_go_on_without_the_shared_state() {
    let mut world = world(retried(everywhere("a/task", 10), 3, 2));
    world.create(Spec { overlap: Overlap::Queue, ..everywhere("a/slow", 5) });
    world.conduct("a/task", 10, &[failed(), failed()]);
    world.conduct("a/slow", 6_000, &[]);
    world.pass(3_000);
    world.nothing_comes();
    world.pass(20_500);
    assert_eq!(world.started("a/task"), [(10, 1), (10, 2), (10, 3), (20, 1)]);
    assert_eq!(world.started("a/slow"), [(5, 1), (10, 1), (15, 1), (20, 1)]);
}

#[test]
fn a_pause_and_its_end_come_with_the_watch() {
    let mut world = world(everywhere("a/task", 1));
    world.pass(3_500);
    world.edit("a/task", |spec| Spec { paused: true, ..spec });
    world.pass(3_000);
    assert_eq!(world.seconds("a/task"), [1, 2, 3]);
    world.edit("a/task", |spec| Spec { paused: false, ..spec });
    world.pass(2_000);
    assert_eq!(world.seconds("a/task"), [1, 2, 3, 7, 8]);
}

#[test]
fn what_a_power_cut_may_have_taken_with_it_never_starts_twice() {
    let mut world = world(at_most_once(everywhere("a/once", 5)));
    world.pass(3_000);
    world.store.keep_disk();
    world.pass(1_999);
    world.nothing_comes();
    world.pass(2);
    assert_eq!(world.started("a/once"), [(5, 1)]);
    world.power_cut();
    world.pass(10_000);
    assert_eq!(world.started("a/once"), [(5, 1), (10, 1), (15, 1)]);
    assert_eq!(world.history("a/once")[0], format!("5 lost: {LOST}"));
}

#[test]
fn what_is_pinned_and_a_share_go_on_beside_each_other() {
    let mut world = world(at_most_once(everywhere("a/share", 1)));
    world.create(pinned(at_most_once(every("a/pinned", 1))));
    world.create(every("a/pooled", 1));
    world.pass(5_500);
    world.nothing_comes();
    for _ in 0..3 {
        world.restart();
        world.pass(3_310);
    }
    world.pass(5_000);
    for name in ["a/share", "a/pinned"] {
        assert_eq!(world.each_ended(&world.task(name), 1, 20), [0; 0], "{name}");
        assert_eq!(world.seconds(name), (1..=20).collect::<Vec<_>>(), "{name}");
    }
    world.all_comes();
    world.pass(10_000);
    assert!(world.seconds("a/pooled").len() > 10);
}

#[test]
fn an_agent_that_leaves_waits_for_its_share_and_starts_nothing_more() {
    let mut world = world(everywhere("a/task", 5));
    world.conduct("a/task", 3_000, &[]);
    world.pass(6_000);
    world.tell(0, Input::Leave { deadline: Duration::from_secs(10) });
    world.pass(1_000);
    assert_eq!(world.exited, None, "it waits for the run");
    world.pass(5_000);
    assert_eq!(world.exited, Some(ExitReason::Left));
    assert_eq!(world.started("a/task"), [(5, 1)]);
    assert_eq!(world.history("a/task"), ["5 succeeded"]);
}

#[test]
fn a_share_that_is_cancelled_by_hand_ends() {
    let mut world = world(everywhere("a/task", 60));
    world.runs_long("a/task");
    world.pass(61_000);
    let run = world.starts[0].run.clone();
    let cancelled = world.agent.open_runs().any(|open| open.id == run);
    assert!(cancelled, "it is told of as open");
    world.tell(0, Input::CancelRun { run });
    world.pass(1_000);
    assert_eq!(world.ended("a/task", RunState::Cancelled), 1);
}

#[test]
fn what_had_begun_when_its_process_died_and_is_no_business_of_the_next_has_an_end() {
    let mut ends = BTreeSet::new();
    // At some moments the newest ledger lists it, at others it does not.
    for phase in 0..10 {
        let mut world = world(broadcast(every_after("a/task", 5, phase * 100), WEB));
        world.runs_long("a/task");
        until_begun(&mut world);
        world.labels = labels(("role", "db"));
        world.restart();
        world.pass(3_000);
        let rows = world.history("a/task");
        assert_eq!(rows.len(), 1, "{rows:?}");
        ends.insert(rows[0].split_once(' ').expect("a row").1.to_owned());
    }
    let lost = "lost: it had begun when its process ended, and its task has no such instant here \
                any more";
    assert!(ends.contains(lost), "{ends:?}");
}

#[test]
fn what_had_begun_has_an_end_though_its_range_is_listed_while_its_task_is_read() {
    let mut lost = 0;
    for phase in 0..10 {
        let mut world = world(broadcast(every_after("a/task", 5, phase * 100), WEB));
        world.runs_long("a/task");
        until_begun(&mut world);
        world.labels = labels(("role", "db"));
        world.hold_loads = |request| matches!(request, LoadRequest::Task { .. });
        world.restart();
        world.pass(3_000);
        lost += usize::from(!world.held_loads.is_empty());
        let now = world.now();
        world.shared.list(RangeId::BROADCAST, now);
        world.pass(1_000);
        world.hold_loads = |_| false;
        world.release_loads();
        world.pass(1_000);
        let rows = world.history("a/task");
        assert_eq!(rows.len(), 1, "{rows:?}");
    }
    assert!(lost > 0, "no task is read");
}

#[test]
fn what_may_run_once_and_is_lost_stays_so_when_an_edit_makes_it_this_agents_business_again() {
    for phase in 0..10 {
        let task = broadcast(every_after("a/task", 5, phase * 100), WEB);
        let mut world = world(at_most_once(task));
        // What its ledgers are written for: at some moments the newest does not cover the task.
        world.create(at_most_once(broadcast(every_after("a/other", 1, 900), WEB)));
        world.runs_long("a/task");
        until_begun(&mut world);
        world.deaf = true;
        world.edit("a/task", |spec| Spec {
            broadcast: Broadcast::default(),
            schedules: every("a/task", 3_600).schedules,
            ..spec
        });
        world.labels = labels(("role", "db"));
        // Nothing is decided before the edit is known.
        world.hold_loads = |request| matches!(request, LoadRequest::Due { .. });
        world.restart();
        world.pass(50);
        world.deaf = false;
        world.pass(50);
        world.hold_loads = |_| false;
        world.release_loads();
        world.pass(1_500);
        assert_eq!(world.started("a/task").len(), 1, "phase {phase}");
        let rows = world.history("a/task");
        assert!(rows.len() == 1 && rows[0].contains("lost"), "{rows:?}");
    }
}

#[test]
fn what_had_begun_and_is_not_due_any_more_as_the_clock_was_set_back_is_not_given_up() {
    for phase in 0..10 {
        let mut world = world(broadcast(every_after("a/task", 5, phase * 100), WEB));
        world.runs_long("a/task");
        until_begun(&mut world);
        world.ahead_ms -= 3_000;
        world.restart();
        world.conduct("a/task", 10, &[]);
        world.pass(8_000);
        let rows = world.history("a/task");
        assert!(rows.iter().all(|row| !row.contains("lost")), "{rows:?}");
    }
}

#[test]
fn what_ran_before_the_clock_was_set_back_and_the_agent_restarted_does_not_run_again() {
    for phase in 0..10 {
        let mut world = world(broadcast(every_after("a/task", 5, phase * 100), WEB));
        until_begun(&mut world);
        world.pass(10);
        world.ahead_ms -= 80_000;
        world.pass(500);
        world.restart();
        world.pass(500);
        world.ahead_ms += 80_000;
        world.pass(12_000);
        let started = world.started("a/task");
        let ran: BTreeSet<i64> = started.iter().map(|(second, _)| *second).collect();
        assert!(ran.len() >= 3 && ran.len() == started.len(), "{started:?}");
    }
}

#[test]
fn what_ended_as_it_was_left_out_does_not_run_when_it_is_selected_anew_and_the_clock_put_right() {
    let mut world = world(Spec { overlap: Overlap::Queue, ..everywhere("a/task", 5) });
    // This has the ledger written at other moments than when the task is due.
    world.create(broadcast(every_after("a/tick", 1, 300), WEB));
    world.runs_long("a/task");
    // The second waits for the first.
    world.pass(10_005);
    world.ahead_ms -= 900;
    for (period, label) in [(7, ("role", "db")), (8, WEB)] {
        world.pass(200);
        let then = world.now().wall.plus(Duration::from_millis(900));
        world.edit_at("a/task", then, |spec| Spec {
            schedules: every("a/task", period).schedules,
            broadcast: Broadcast { labels: labels(label), ..spec.broadcast.clone() },
            ..spec
        });
    }
    world.pass(200);
    world.ahead_ms += 900;
    world.conduct("a/task", 1, &[]);
    world.pass(1_000);
    world.end("a/task", AttemptEnd::Succeeded);
    world.pass(15_000);
    let rows = world.history("a/task");
    let second = rows.iter().filter(|row| row.starts_with("10 ")).count();
    assert_eq!(second, 1, "{rows:?}");
    assert!(!world.seconds("a/task").contains(&10), "{:?}", world.seconds("a/task"));
}

#[test]
fn what_came_due_since_a_new_agent_registered_and_before_its_first_list_is_run() {
    let mut world = world(Spec { overlap: Overlap::Allow, ..everywhere("a/task", 1) });
    world.deaf = true;
    world.pass(2_500);
    assert_eq!(world.started("a/task"), []);
    world.deaf = false;
    world.pass(2_000);
    assert_eq!(world.started("a/task"), [(1, 1), (2, 1), (3, 1), (4, 1)]);
}

/// Puts the start of each agent off, by up to this.
fn splayed(seconds: u64) -> impl FnOnce(Spec) -> Spec {
    let splay = Duration::from_secs(seconds);
    move |spec| Spec { broadcast: Broadcast { splay, ..spec.broadcast.clone() }, ..spec }
}

#[test]
fn what_ran_before_a_pause_and_an_edit_were_known_keeps_its_account() {
    for phase in 0..40 {
        let mut world = world(everywhere("a/task", 4));
        world.pass(4_500);
        world.deaf = true;
        world.pause("a/task");
        world.pass(2_000);
        world.edit("a/task", splayed(3));
        world.pass(1_600 + phase * 100);
        world.deaf = false;
        world.pass(10_000);
        let ran = world.started("a/task").len();
        let rows = world.history("a/task");
        let paused = rows.iter().filter(|row| row.ends_with("skipped: paused"));
        let first = format!("{}", 4 * (ran + 1));
        assert!(paused.clone().next().is_some(), "{phase}: {rows:?}");
        assert!(paused.clone().all(|row| row.starts_with(&first)), "{phase}: {rows:?}");
    }
}
