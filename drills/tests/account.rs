//! What the account says of a few instants, each story with one thing wrong: a checker that cannot
//! fail is none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tocktower_drills::account::{
    Account, Call, Delivery, Duty, End, HolderTrouble, Instant, Told, Trouble, account,
};
use tocktower_drills::clock::Moment;
use tocktower_drills::judge::broken;

const DUE: f64 = 1_000.0;

fn ms(ms: u64) -> Moment {
    Duration::from_millis(ms)
}

/// Seconds of the story; the first instant is due at 0.
fn at(seconds: f64) -> Moment {
    Duration::from_secs_f64(DUE + seconds)
}

fn instant(task: &str) -> Instant {
    Instant { task: task.to_owned(), at: at(0.0) }
}

/// A few tasks that are due at the same moment.
struct Story {
    duties: BTreeMap<Instant, Duty>,
    calls: Vec<Call>,
    told: Vec<Told>,
    trouble: Trouble,
}

impl Story {
    fn new() -> Story {
        let trouble = Trouble::default();
        Story { duties: BTreeMap::new(), calls: Vec::new(), told: Vec::new(), trouble }
    }

    fn due(mut self, task: &str, delivery: Delivery) -> Story {
        self.duties.insert(instant(task), Duty { delivery, witnessed: true });
        self
    }

    fn called(mut self, task: &str, seconds: f64, agent: &str) -> Story {
        let agent = Some(agent.to_owned());
        self.calls.push(Call { instant: instant(task), at: at(seconds), agent });
        self
    }

    fn told(mut self, task: &str, end: End, attempts: u32, agents: &[&str]) -> Story {
        let agents = agents.iter().map(|agent| (*agent).to_owned()).collect::<BTreeSet<_>>();
        let started = Some(at(0.0));
        self.told.push(Told { instant: instant(task), end, started, attempts, agents });
        self
    }

    /// Due, started once and on time, and told so.
    fn good(self, task: &str) -> Story {
        self.due(task, Delivery::AtLeastOnce).called(task, 0.002, "a").told(
            task,
            End::Succeeded,
            1,
            &["a"],
        )
    }

    fn killed(mut self, agent: &str, from: f64, until: f64) -> Story {
        let agent = agent.to_owned();
        self.trouble.holders.push(HolderTrouble { agent, from: at(from), until: at(until) });
        self
    }

    fn account(&self) -> Account {
        account(&self.duties, &self.calls, &self.told, &self.trouble)
    }

    /// What broke, without the examples.
    fn broken(&self) -> Vec<String> {
        let broken = broken(&self.account()).into_iter();
        broken.map(|broken| broken.0.split(':').next().unwrap_or_default().to_owned()).collect()
    }
}

#[test]
fn what_ran_once_and_on_time_breaks_nothing() {
    let story = Story::new().good("x").good("y");
    let account = story.account();
    assert_eq!((account.due, account.on_time, account.late), (2, 2, 0));
    let latest = account.lateness.last().expect("two have started");
    assert_eq!((latest.late, latest.instant.task.as_str()), (ms(2), "y"));
    assert_eq!((latest.agent.as_deref(), latest.told), (Some("a"), Some(ms(0))));
    assert_eq!(story.broken(), [""; 0]);
}

#[test]
fn a_drill_in_which_nothing_was_due_proves_nothing() {
    assert_eq!(Story::new().broken(), ["nothing was due"]);
}

#[test]
fn an_instant_that_the_witness_never_saw_is_lost_whatever_the_history_says() {
    let story = Story::new().good("x").due("y", Delivery::AtLeastOnce);
    assert_eq!(story.broken(), ["1 instants were lost"]);
    let story = story.told("y", End::Succeeded, 1, &["a"]);
    assert_eq!(story.broken(), ["1 instants were lost"]);
}

#[test]
fn without_a_witness_the_history_is_believed() {
    let mut story = Story::new().due("x", Delivery::AtLeastOnce);
    story.duties.values_mut().for_each(|duty| duty.witnessed = false);
    assert_eq!(story.broken(), ["1 instants were lost"]);
    let story = story.told("x", End::Succeeded, 1, &["a"]);
    assert_eq!(story.broken(), [""; 0]);
    let twice = story.told("x", End::Succeeded, 1, &["b"]);
    assert_eq!(twice.broken(), ["1 instants were repeated that may not be"]);
}

#[test]
fn a_start_is_late_after_a_second_and_breaks_the_promise_after_ten() {
    let late = |seconds| {
        Story::new().due("x", Delivery::AtLeastOnce).called("x", seconds, "a").told(
            "x",
            End::Succeeded,
            1,
            &["a"],
        )
    };
    assert_eq!((late(1.0).account().on_time, late(1.001).account().late), (1, 1));
    assert_eq!(late(10.0).broken(), [""; 0]);
    assert_eq!(late(10.1).broken(), ["1 instants started more than 10 s after their due"]);
    assert_eq!(late(-0.001).broken(), ["1 instants started before their due"]);
    // No promise holds while etcd has no majority; it counts from the end of that on.
    let mut outage = late(24.0);
    outage.trouble.outages.push((at(-1.0), at(15.0)));
    assert_eq!(outage.broken(), [""; 0]);
    outage.trouble.outages[0].1 = at(13.0);
    assert_eq!(outage.broken(), ["1 instants started more than 10 s after their due"]);
    // What was due before it is no excuse's.
    outage.trouble.outages[0] = (at(0.1), at(15.0));
    assert_eq!(outage.broken(), ["1 instants started more than 10 s after their due"]);
}

#[test]
fn a_repeat_is_excused_only_where_its_holder_had_trouble_just_then() {
    let twice = || {
        Story::new()
            .due("x", Delivery::AtLeastOnce)
            .called("x", 0.0, "a")
            .called("x", 4.0, "b")
            .told("x", End::Succeeded, 2, &["b"])
    };
    let wrong = ["1 instants were repeated that may not be"];
    assert_eq!(twice().broken(), wrong);
    assert_eq!(twice().killed("a", 0.5, 1.5).broken(), [""; 0]);
    // It had ended unsettled.
    assert_eq!(twice().killed("a", 2.9, 3.9).broken(), [""; 0]);
    assert_eq!(twice().killed("a", 3.1, 4.1).broken(), wrong, "that was settled long before");
    assert_eq!(twice().killed("a", -9.0, -8.0).broken(), wrong, "that was over");
    assert_eq!(twice().killed("c", 0.5, 1.5).broken(), wrong, "somebody else's trouble");
}

#[test]
fn an_attempt_of_which_only_the_number_is_left_was_made_by_whoever_is_gone() {
    let second = || {
        Story::new().due("x", Delivery::AtLeastOnce).called("x", 4.0, "b").told(
            "x",
            End::Succeeded,
            2,
            &["b"],
        )
    };
    assert_eq!(second().killed("a", 0.5, 1.5).broken(), [""; 0]);
    assert_eq!(second().broken(), ["1 instants were repeated that may not be"]);
}

#[test]
fn at_most_once_is_never_repeated_and_may_be_lost_with_its_host() {
    let amo = || Story::new().due("x", Delivery::AtMostOnce);
    let twice = amo().called("x", 0.0, "a").called("x", 4.0, "b");
    let twice = twice.told("x", End::Succeeded, 2, &["b"]).killed("a", 0.5, 1.5);
    assert_eq!(twice.broken(), ["1 instants were repeated that may not be"]);
    assert_eq!(twice.account().at_most_once_repeated, 1);

    let lost = amo().told("x", End::Lost, 1, &["a"]);
    assert_eq!(lost.broken(), ["1 instants were lost"], "nothing had happened to anybody");
    let lost = lost.killed("a", 0.5, 1.5);
    assert_eq!((lost.broken(), lost.account().given_up.len()), (vec![], 1));
    let silent = amo().killed("a", 0.5, 1.5);
    assert_eq!(silent.broken(), ["1 instants were lost"], "it has to be told as lost");

    // Its host was cut off: what it had sent arrives when the link is mended.
    let cut = amo().called("x", 13.3, "a").told("x", End::Lost, 1, &["a"]).killed("a", -0.5, 14.0);
    assert_eq!((cut.broken(), cut.account().given_up.len()), (vec![], 1));
    let twice = cut.called("x", 14.0, "b");
    assert_eq!(twice.broken(), ["1 instants were repeated that may not be"]);

    // It started, its host died before it could say how it ended.
    let started = amo().called("x", 0.0, "a").told("x", End::Lost, 1, &["a"]);
    assert_eq!(started.killed("a", 0.5, 1.5).broken(), [""; 0]);
}

#[test]
fn what_ran_must_be_told_unless_its_host_took_the_history_along() {
    let mut untold = Story::new().due("x", Delivery::AtLeastOnce).called("x", 0.0, "a");
    let wrong = ["1 instants ran and have no settled end in the history"];
    assert_eq!(untold.broken(), wrong);
    untold.trouble.history_gone = true;
    assert_eq!(untold.broken(), [""; 0]);
    let open = Story::new().due("x", Delivery::AtLeastOnce).called("x", 0.0, "a");
    assert_eq!(open.told("x", End::Open, 1, &["a"]).broken(), wrong);
    // Its next holder finds the key of a settled one-shot gone, and no word of its end.
    let cancelled = || {
        let story = Story::new().due("x", Delivery::AtLeastOnce).called("x", 0.0, "a");
        story.told("x", End::Other("cancelled"), 1, &["b"])
    };
    assert_eq!(cancelled().broken(), ["1 instants ran and are told as cancelled"]);
    let mut gone = cancelled();
    gone.trouble.history_gone = true;
    assert_eq!((gone.broken(), gone.account().history_gone.len()), (vec![], 1));
    let failed = Story::new().due("x", Delivery::AtLeastOnce).called("x", 0.0, "a");
    let failed = failed.told("x", End::Other("failed"), 1, &["a"]);
    assert_eq!(failed.broken(), ["1 instants ran and are told as failed"]);
}

#[test]
fn a_run_of_no_instant_is_a_phantom() {
    let story = Story::new().good("x").called("z", 0.0, "a");
    assert_eq!(story.broken(), ["1 runs belong to no instant"]);
}
