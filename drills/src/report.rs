//! What a drill tells: figures for people and for scripts, and what broke.

use std::time::Duration;

use serde::Serialize;

use crate::account::{Account, Late};
use crate::clock::{Moment, text};
use crate::judge::{Deed, broken, late_in_moves, takeover, trouble, writes_again};
use crate::limits::EXAMPLES;
use crate::observer::Seen;

/// One drill. Times in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub drill: String,
    pub about: String,
    /// `local`, or the address of the fleet that was named.
    pub fleet: String,
    /// When the load began.
    pub begun: String,
    pub lasted_ms: u64,
    pub runs_per_second: u32,
    /// Whether starts were seen by a witness, or are told by the history alone.
    pub witnessed: bool,
    /// Instants that had to be.
    pub due: usize,
    /// Started within a second of their due.
    pub on_time: usize,
    /// Started later than that.
    pub late: usize,
    pub lateness_ms: Lateness,
    /// Started later than 50 ms after their due, from the first planned move until 5 s after the
    /// last step; only where nothing else happened to the fleet's agents.
    pub late_in_moves: Option<usize>,
    /// Never started, although they had to be.
    pub lost: usize,
    /// At-most-once runs that were lost with their host, as they may be.
    pub given_up: usize,
    /// Started more than once.
    pub repeated: usize,
    /// Of these, what promise 4 does not allow.
    pub repeated_wrongly: usize,
    /// Instants of at-most-once tasks, and how many of them were repeated.
    pub at_most_once: usize,
    pub at_most_once_repeated: usize,
    /// Ran, and their history went with a host: they are not told, or told as cancelled by the
    /// next holder, who found nothing but that they were settled.
    pub history_gone: usize,
    /// From a fault until each range that its agent held had a new claim; the longest.
    pub takeover_ms: Option<u64>,
    /// From a fault until a write that was asked after it was answered; the longest.
    pub writes_again_ms: Option<u64>,
    /// The longest that a write waited for its answer.
    pub longest_write_ms: u64,
    pub steps: Vec<Done>,
    /// Promises that did not hold, with examples; none: the drill has passed.
    pub broken: Vec<String>,
    pub passed: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Lateness {
    pub p50: f64,
    pub p99: f64,
    pub worst: f64,
    /// The latest instants, the worst first.
    pub latest: Vec<Latest>,
}

/// An instant that was later than most.
#[derive(Debug, Clone, Serialize)]
pub struct Latest {
    pub task: String,
    /// When it was due, from the beginning of the load on: steps are told so, too.
    pub due_at_ms: u64,
    pub late_ms: f64,
    /// The same as the history has it: of a run that was started once, what lies between was lost
    /// on the way to the target.
    pub told_late_ms: Option<f64>,
    /// Who started it, as far as is known.
    pub agent: Option<String>,
}

/// A step as it was done.
#[derive(Debug, Clone, Serialize)]
pub struct Done {
    /// From the beginning of the load on.
    pub at_ms: u64,
    pub took_ms: u64,
    pub act: &'static str,
    pub hosts: Vec<String>,
}

/// What a report is made of, beside the account.
pub struct Facts<'a> {
    pub drill: &'a crate::plan::Drill,
    pub fleet: String,
    pub runs_per_second: u32,
    pub witnessed: bool,
    pub from: Moment,
    pub until: Moment,
    pub deeds: &'a [Deed],
    pub seen: &'a Seen,
}

pub fn report(account: &Account, facts: &Facts) -> Report {
    let mut broken: Vec<String> = broken(account).into_iter().map(|broken| broken.0).collect();
    if let Some(late) = facts.deeds.iter().find(|deed| deed.until > facts.until) {
        let what = late.act.word();
        broken.push(format!("the load was over before `{what}` was: the drill proves too little"));
    }
    let ms = whole_ms;
    let step = |deed: &Deed| Done {
        at_ms: ms(deed.from.saturating_sub(facts.from)),
        took_ms: ms(deed.until.saturating_sub(deed.from)),
        act: deed.act.word(),
        hosts: deed.hosts.clone(),
    };
    Report {
        drill: facts.drill.name.clone(),
        about: facts.drill.about.clone(),
        fleet: facts.fleet.clone(),
        begun: text(facts.from),
        lasted_ms: ms(facts.until.saturating_sub(facts.from)),
        runs_per_second: facts.runs_per_second,
        witnessed: facts.witnessed,
        due: account.due,
        on_time: account.on_time,
        late: account.late,
        lateness_ms: lateness(account, facts.from),
        late_in_moves: late_in_moves(
            facts.deeds,
            account,
            &trouble(facts.deeds, facts.seen, facts.until),
        ),
        lost: account.lost.len(),
        given_up: account.given_up.len(),
        repeated: account.repeated.len(),
        repeated_wrongly: account.repeated_wrongly.len(),
        at_most_once: account.at_most_once,
        at_most_once_repeated: account.at_most_once_repeated,
        history_gone: account.history_gone.len(),
        takeover_ms: takeover(facts.deeds, facts.seen).map(ms),
        writes_again_ms: writes_again(facts.deeds, facts.seen).map(ms),
        longest_write_ms: ms(facts.seen.longest_write()),
        steps: facts.deeds.iter().map(step).collect(),
        passed: broken.is_empty(),
        broken,
    }
}

fn lateness(account: &Account, from: Moment) -> Lateness {
    let sorted = &account.lateness;
    let rounded = |span: Duration| (span.as_secs_f64() * 1_000_000.0).round() / 1_000.0;
    let ms = |late: &Late| rounded(late.late);
    let at = |share: usize| {
        let index = (sorted.len() * share / 100).min(sorted.len().saturating_sub(1));
        sorted.get(index).map_or(0.0, ms)
    };
    let latest = sorted.iter().rev().take(EXAMPLES).map(|late| Latest {
        task: late.instant.task.clone(),
        due_at_ms: whole_ms(late.instant.at.saturating_sub(from)),
        late_ms: ms(late),
        told_late_ms: late.told.map(rounded),
        agent: late.agent.clone(),
    });
    Lateness {
        p50: at(50),
        p99: at(99),
        worst: sorted.last().map_or(0.0, ms),
        latest: latest.collect(),
    }
}

fn whole_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
