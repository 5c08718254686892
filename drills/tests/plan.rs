//! The catalogue: every drill undoes what it does, in time, and can be told from the others.

use std::collections::BTreeSet;
use std::time::Duration;

use tocktower_drills::account::{Account, HolderTrouble, Instant, Late, Trouble};
use tocktower_drills::judge::{Deed, late_in_moves, takeover, trouble};
use tocktower_drills::limits::{AFTERMATH, LATEST};
use tocktower_drills::load::Load;
use tocktower_drills::observer::{Seen, Sight};
use tocktower_drills::plan::{Act, Drill, Reach, Target, catalogue, find, smoke};

fn all() -> Vec<Drill> {
    catalogue().into_iter().chain([smoke()]).collect()
}

#[test]
fn names_are_unique_and_found() {
    let names: BTreeSet<String> = all().into_iter().map(|drill| drill.name).collect();
    assert_eq!(names.len(), all().len());
    for drill in all() {
        assert_eq!(find(&drill.name), Some(drill));
    }
    assert_eq!(find("earthquake"), None);
}

#[test]
fn every_fault_of_the_test_plan_is_there_for_every_part() {
    let names: Vec<String> = catalogue().into_iter().map(|drill| drill.name).collect();
    for part in ["agent", "coordinator", "etcd-leader", "etcd-follower"] {
        for fault in ["kill", "pause", "cut", "restart"] {
            assert!(names.contains(&format!("{part}-{fault}")), "{part}-{fault}");
        }
    }
    let others = [
        "calm",
        "drain",
        "rolling-upgrade",
        "etcd-down",
        "etcd-slow-disk",
        "host-loss",
        "host-and-leader-loss",
    ];
    for name in others {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}

#[test]
fn steps_come_in_order_and_each_is_undone_before_the_load_ends() {
    for drill in all() {
        assert!(drill.steps.is_sorted_by_key(|step| step.at), "{}", drill.name);
        for (number, step) in drill.steps.iter().enumerate() {
            // What a fault delays must come due, and be seen, while the load goes on.
            let rest = drill.lasts.checked_sub(step.at);
            let enough = Duration::from_secs(5);
            assert!(rest.is_some_and(|rest| rest >= enough), "{}: {step:?}", drill.name);
            let Some(undo) = step.act.undone_by() else { continue };
            let mut later = drill.steps[number..].iter();
            let undone = later.any(|later| later.act == undo && later.target == step.target);
            assert!(undone, "{}: {step:?} stays", drill.name);
        }
    }
}

#[test]
fn a_lease_runs_out_within_every_pause_and_cut() {
    for drill in all() {
        for (number, step) in drill.steps.iter().enumerate() {
            if let Some(undo) =
                step.act.undone_by().filter(|undo| matches!(undo, Act::Resume | Act::Mend))
            {
                let later = drill.steps[number..].iter().find(|later| later.act == undo);
                let held = later.map(|later| later.at - step.at);
                assert!(held > Some(Duration::from_secs(6)), "{}", drill.name);
            }
        }
    }
}

#[test]
fn only_what_the_api_can_do_is_done_to_a_fleet_of_others() {
    let possible: Vec<String> = all()
        .into_iter()
        .filter(|drill| drill.reach() == Reach::Api)
        .map(|drill| drill.name)
        .collect();
    assert_eq!(possible, ["calm", "drain"]);
}

fn deed(act: Act, target: Target, host: &str, from: u64, until: u64) -> Deed {
    let (from, until) = (Duration::from_secs(from), Duration::from_secs(until));
    Deed { act, target, hosts: vec![host.to_owned()], from, until }
}

#[test]
fn a_crash_excuses_its_own_agent_until_it_is_back_and_an_orderly_end_nobody() {
    let agent = Target::Agent(0);
    let seconds = Duration::from_secs;
    let deeds = [deed(Act::Kill, agent, "a", 10, 10), deed(Act::Start, agent, "a", 20, 21)];
    let excused = trouble(&deeds, &Seen::default(), seconds(30));
    let (from, until) = (seconds(10), seconds(21) + AFTERMATH);
    assert_eq!(excused.holders, [HolderTrouble { agent: "a".to_owned(), from, until }]);
    assert!(excused.outages.is_empty() && !excused.history_gone);

    let deeds = [deed(Act::Terminate, agent, "a", 10, 12), deed(Act::Start, agent, "a", 12, 13)];
    let session =
        |number| Sight { sessions: [("a".to_owned(), number)].into(), ..Sight::default() };
    let sights = vec![(seconds(1), session(1)), (seconds(13), session(2))];
    let seen = Seen { sights, ..Seen::default() };
    assert_eq!(trouble(&deeds, &seen, seconds(30)).holders, []);
    // The same change of sessions, and nobody had asked the agent to end: it had lost its lease.
    let deeds = [deed(Act::Kill, Target::Leader, "e", 10, 10)];
    let excused = trouble(&deeds, &seen, seconds(30));
    assert_eq!(excused.holders.len(), 1);
    assert_eq!(excused.holders[0].agent, "a");
    assert!(excused.outages.is_empty(), "two of three are a majority");
}

#[test]
fn all_of_etcd_down_is_an_outage_and_a_lost_host_takes_its_history() {
    let seconds = Duration::from_secs;
    let etcd = Target::Etcd;
    let deeds = [deed(Act::Kill, etcd, "e", 10, 10), deed(Act::Start, etcd, "e", 25, 27)];
    let excused = trouble(&deeds, &Seen::default(), seconds(40));
    assert_eq!(excused.outages, [(seconds(10), seconds(27))]);
    let deeds = [deed(Act::Lose, Target::Agent(0), "a", 10, 10)];
    let excused = trouble(&deeds, &Seen::default(), seconds(40));
    assert!(excused.history_gone && excused.holders[0].until >= seconds(40));
}

#[test]
fn a_takeover_is_over_when_every_range_has_another_claim() {
    let seconds = Duration::from_secs;
    let sight = |one: (&str, i64), two: Option<(&str, i64)>| {
        let owned = |(agent, fence): (&str, i64)| (agent.to_owned(), fence);
        let ranges = [("00".to_owned(), Some(owned(one))), ("01".to_owned(), two.map(owned))];
        Sight { ranges: ranges.into(), ..Sight::default() }
    };
    let sights = vec![
        (seconds(1), sight(("a", 1), Some(("a", 2)))),
        (seconds(13), sight(("b", 5), None)),
        // The agent itself, restarted, under a new claim: that is one, too.
        (seconds(14), sight(("b", 5), Some(("a", 6)))),
    ];
    let seen = Seen { sights, ..Seen::default() };
    let kill = |host| [deed(Act::Kill, Target::Agent(0), host, 10, 10)];
    assert_eq!(takeover(&kill("a"), &seen), Some(seconds(4)));
    assert_eq!(takeover(&kill("c"), &seen), None, "it held nothing");
    let drill = [deed(Act::Kill, Target::Coordinator(0), "a", 10, 10)];
    assert_eq!(takeover(&drill, &seen), None, "a coordinator holds nothing");
}

#[test]
fn the_load_has_as_many_instants_as_were_asked_for() {
    let load = Load {
        id: "drill-x".to_owned(),
        pool: "default".to_owned(),
        runs_per_second: 100,
        lasts: LATEST,
        witness: None,
    };
    let planned = load.plan(1_000_000);
    let due = planned.duties.len();
    assert!((1_000..=1_020).contains(&due), "{due}");
    let (first, last) =
        (planned.duties.keys().map(|i| i.at).min(), planned.duties.keys().map(|i| i.at).max());
    assert!(first >= Some(planned.from) && last <= Some(planned.until), "{first:?} {last:?}");
    // Nothing in it goes on for ever, whoever is left to remove it.
    for task in &planned.tasks {
        assert!(task.is_one_shot() || task.proto().end_at.is_some(), "{}", task.name());
    }
}

/// An account of one instant that started so late, due at this second.
fn late(second: u64, ms: u64) -> Account {
    let instant = Instant { task: "t".to_owned(), at: Duration::from_secs(second) };
    let late = Late { late: Duration::from_millis(ms), instant, agent: None, told: None };
    Account { lateness: vec![late], ..Account::default() }
}

#[test]
fn lateness_is_of_a_move_only_while_ranges_move_in_order_and_nothing_else_is_done() {
    let agent = Target::Agent(0);
    let mut deeds = vec![
        deed(Act::Terminate, agent, "a", 10, 12),
        deed(Act::Start, agent, "a", 12, 13),
        deed(Act::Settle, Target::Fleet, "", 13, 14),
    ];
    let calm = Trouble::default();
    assert_eq!(late_in_moves(&deeds, &late(11, 51), &calm), Some(1));
    assert_eq!(late_in_moves(&deeds, &late(11, 50), &calm), Some(0));
    assert_eq!(late_in_moves(&deeds, &late(9, 51), &calm), Some(0), "before the first");
    assert_eq!(late_in_moves(&deeds, &late(20, 51), &calm), Some(0), "long after the last");
    let (from, until) = (Duration::from_secs(1), Duration::from_secs(2));
    let lease_lost = HolderTrouble { agent: "b".to_owned(), from, until };
    let trouble = Trouble { holders: vec![lease_lost], ..Trouble::default() };
    assert_eq!(late_in_moves(&deeds, &late(11, 51), &trouble), None);
    deeds.push(deed(Act::Kill, agent, "a", 15, 15));
    assert_eq!(late_in_moves(&deeds, &late(11, 51), &calm), None);
    assert_eq!(late_in_moves(&[], &late(11, 51), &calm), None);
}
