//! What became of every instant: the instants that must be, against what the witness saw and what
//! the history tells. Pure, so that each rule of it can be shown to fail.
//!
//! The instants come from arithmetic that shares nothing with the product. The witness counts
//! starts without asking the product: where it was called for an instant, its word is what counts,
//! and a history that tells nothing of such a run is a fault of its own kind (`untold`). Only
//! where there is no witness (a fleet that the user names) is the history believed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Moment;
use crate::limits;

/// A scheduled time of a task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    pub task: String,
    pub at: Moment,
}

/// What must become of an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duty {
    pub delivery: Delivery,
    /// Its runs call the witness.
    pub witnessed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    AtLeastOnce,
    /// No repeat, whatever happens; what was permitted when its host died may be lost.
    AtMostOnce,
}

/// A start that the witness saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub instant: Instant,
    pub at: Moment,
    /// The agent that called, if it is one of the fleet.
    pub agent: Option<String>,
}

/// A run as the history tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub instant: Instant,
    pub end: End,
    /// When the first attempt started, as far as is known.
    pub started: Option<Moment>,
    pub attempts: u32,
    /// Those that made an attempt.
    pub agents: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Succeeded,
    /// Its host went away, and nobody may repeat it.
    Lost,
    /// It was given another end: failed, missed, skipped…
    Other(&'static str),
    /// It has none yet, or one that may still turn into a repeat.
    Open,
}

/// What the drill did to the fleet, as far as it excuses anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trouble {
    /// Holders that died, were silent, cut off or lost their lease: their runs may be repeated.
    pub holders: Vec<HolderTrouble>,
    /// Spans without a majority of etcd: nothing is promised for what is due then until they end.
    pub outages: Vec<(Moment, Moment)>,
    /// A host took its history with it.
    pub history_gone: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderTrouble {
    pub agent: String,
    pub from: Moment,
    pub until: Moment,
}

/// Figures of a drill, and examples of what should not be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    pub due: usize,
    pub on_time: usize,
    pub late: usize,
    /// Every instant that started, the latest last.
    pub lateness: Vec<Late>,
    /// Later than the promise, what no promise covers left aside.
    pub too_late: Vec<Instant>,
    /// Started before their due.
    pub early: Vec<Instant>,
    /// Never started, although they had to be.
    pub lost: Vec<Instant>,
    /// At-most-once, and lost with their host, as they may be.
    pub given_up: Vec<Instant>,
    pub repeated: Vec<Instant>,
    /// Repeated although nothing had happened to their holder, or at-most-once.
    pub repeated_wrongly: Vec<Instant>,
    pub at_most_once: usize,
    pub at_most_once_repeated: usize,
    /// Started, and the history does not tell of them, or has no settled end.
    pub untold: Vec<Instant>,
    /// Started, and the history tells another end than success.
    pub ended_otherwise: Vec<(Instant, &'static str)>,
    /// Started on a host that is gone with its history: untold, or a one-shot whose settled key is
    /// all that its next holder found gone, and which it therefore tells as cancelled.
    pub history_gone: Vec<Instant>,
    /// Starts of instants that are not.
    pub phantoms: Vec<Instant>,
}

/// How late an instant started, and by whom, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Late {
    pub late: Duration,
    pub instant: Instant,
    pub agent: Option<String>,
    /// As the history has it.
    pub told: Option<Duration>,
}

/// All that is known of one instant.
#[derive(Default)]
struct Known<'a> {
    calls: Vec<&'a Call>,
    told: Option<&'a Told>,
    /// The history has it more than once.
    twins: bool,
}

pub fn account(
    duties: &BTreeMap<Instant, Duty>,
    calls: &[Call],
    told: &[Told],
    trouble: &Trouble,
) -> Account {
    let mut known: BTreeMap<&Instant, Known> = BTreeMap::new();
    for call in calls {
        known.entry(&call.instant).or_default().calls.push(call);
    }
    for told in told {
        let known = known.entry(&told.instant).or_default();
        known.twins |= known.told.replace(told).is_some();
    }
    let mut account = Account { due: duties.len(), ..Account::default() };
    let strangers = known.keys().filter(|instant| !duties.contains_key(**instant));
    account.phantoms = strangers.map(|instant| (*instant).clone()).collect();
    for (instant, duty) in duties {
        let known = known.remove(instant).unwrap_or_default();
        account.settle(instant, *duty, &known, trouble);
    }
    account.lateness.sort_unstable();
    account
}

impl Account {
    fn settle(&mut self, instant: &Instant, duty: Duty, known: &Known, trouble: &Trouble) {
        let started = match duty.witnessed {
            true => known.first_call(),
            false => known.told.and_then(Told::start),
        };
        self.at_most_once += usize::from(duty.delivery == Delivery::AtMostOnce);
        let may = duty.delivery == Delivery::AtMostOnce && trouble.near(instant.at);
        if may && known.told.is_some_and(|told| told.end == End::Lost) {
            // It may have started. Where its host was cut off its call comes when the link is
            // mended, and tells nothing of when that was.
            self.given_up.push(instant.clone());
            self.repeats(instant, duty, known, trouble);
            return;
        }
        let Some((started, agent)) = started else {
            self.lost.push(instant.clone());
            return;
        };
        let told = known.told.and_then(|told| told.started);
        self.start(instant, started, trouble);
        self.lateness.push(Late {
            late: started.saturating_sub(instant.at),
            instant: instant.clone(),
            agent: agent.map(str::to_owned),
            told: told.map(|started| started.saturating_sub(instant.at)),
        });
        self.repeats(instant, duty, known, trouble);
        let gone = trouble.history_gone;
        match known.told.map(|told| told.end) {
            Some(End::Succeeded) => {}
            Some(End::Lost) if duty.delivery == Delivery::AtMostOnce => {}
            Some(End::Other("cancelled")) | None if gone => self.history_gone.push(instant.clone()),
            Some(End::Lost) => self.ended_otherwise.push((instant.clone(), "lost")),
            Some(End::Other(word)) => self.ended_otherwise.push((instant.clone(), word)),
            Some(End::Open) | None => self.untold.push(instant.clone()),
        }
    }

    fn start(&mut self, instant: &Instant, started: Moment, trouble: &Trouble) {
        if started < instant.at {
            self.early.push(instant.clone());
        }
        match started <= instant.at + limits::ON_TIME {
            true => self.on_time += 1,
            false => self.late += 1,
        }
        if started > trouble.promised_from(instant.at) + limits::LATEST {
            self.too_late.push(instant.clone());
        }
    }

    fn repeats(&mut self, instant: &Instant, duty: Duty, known: &Known, trouble: &Trouble) {
        let attempts = known.told.map_or(0, |told| told.attempts);
        let more = known.calls.len() > 1 || attempts > 1 || known.twins;
        if !more {
            return;
        }
        // An attempt that the history tells of and the witness did not see has not started twice.
        let started_twice = known.calls.len() > 1 || !duty.witnessed;
        let at_most_once = duty.delivery == Delivery::AtMostOnce;
        self.at_most_once_repeated += usize::from(at_most_once && started_twice);
        self.repeated.push(instant.clone());
        let excused = known.starts(instant).any(|(agent, at)| {
            trouble.holders.iter().any(|trouble| {
                let theirs = agent.is_none_or(|agent| trouble.agent == agent);
                let from = trouble.from.saturating_sub(limits::UNSETTLED);
                theirs && (from..=trouble.until).contains(&at)
            })
        });
        if at_most_once || known.twins || !excused {
            self.repeated_wrongly.push(instant.clone());
        }
    }
}

impl Told {
    /// When it started first, and by whom if only one did.
    fn start(&self) -> Option<(Moment, Option<&str>)> {
        let alone = self.agents.first().filter(|_| self.agents.len() == 1);
        self.started.map(|started| (started, alone.map(String::as_str)))
    }
}

impl Known<'_> {
    fn first_call(&self) -> Option<(Moment, Option<&str>)> {
        let first = self.calls.iter().min_by_key(|call| call.at);
        first.map(|call| (call.at, call.agent.as_deref()))
    }

    /// Who started it and when, as the witness saw and as the history tells. Nobody by name made
    /// an attempt that is counted and whose maker took its record along.
    fn starts(&self, instant: &Instant) -> impl Iterator<Item = (Option<&str>, Moment)> {
        let calls = self.calls.iter().filter(|call| call.agent.is_some());
        let calls = calls.map(|call| (call.agent.as_deref(), call.at));
        let at = self.told.and_then(|told| told.started).unwrap_or(instant.at);
        let agents = self.told.into_iter().flat_map(|told| &told.agents);
        let told = agents.map(move |agent| (Some(agent.as_str()), at));
        let attempts = self.told.map_or(0, |told| told.attempts as usize);
        let unnamed = self.calls.len() < attempts
            && self.told.is_some_and(|told| told.agents.len() < attempts);
        calls.chain(told).chain(unnamed.then_some((None, instant.at)))
    }
}

impl Trouble {
    /// From when on the promise counts for what is due then.
    fn promised_from(&self, due: Moment) -> Moment {
        let within = self.outages.iter().filter(|(from, until)| (*from..=*until).contains(&due));
        within.map(|(_, until)| *until).fold(due, Moment::max)
    }

    /// Something had happened to some holder when this was due.
    fn near(&self, due: Moment) -> bool {
        self.holders.iter().any(|trouble| {
            let from = trouble.from.saturating_sub(limits::UNSETTLED);
            (from..=trouble.until + limits::LATEST).contains(&due)
        })
    }
}
