//! From what was done and seen to what is excused, and from the account to what broke. Pure.
//!
//! Promise 4 allows a repeat where the holder died, was cut off, stopped or lost its lease; an
//! orderly end, a drain, a coordinator's death allow none. Who lost a lease is seen from outside:
//! the agent comes back under another session.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::account::{Account, HolderTrouble, Instant, Trouble};
use crate::clock::Moment;
use crate::limits;
use crate::observer::Seen;
use crate::plan::{Act, Target};

/// An act that was done, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    pub act: Act,
    pub target: Target,
    pub hosts: Vec<String>,
    pub from: Moment,
    /// When it was over: a start is when what was started is ready.
    pub until: Moment,
}

/// A promise that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

/// What the deeds excuse.
pub fn trouble(deeds: &[Deed], seen: &Seen, end: Moment) -> Trouble {
    let mut trouble = Trouble::default();
    let mut planned = BTreeSet::new();
    for (number, deed) in deeds.iter().enumerate() {
        let undone = || {
            let undo = deed.act.undone_by();
            let later = deeds[number..]
                .iter()
                .find(|later| Some(later.act) == undo && later.target == deed.target);
            later.map_or(end, |later| later.until)
        };
        match (deed.act, deed.target) {
            (Act::Terminate, Target::Agent(_)) => planned.extend(deed.hosts.clone()),
            (Act::Kill | Act::Lose | Act::Pause | Act::Cut, Target::Agent(_)) => {
                let until = undone() + limits::AFTERMATH;
                let of =
                    |agent: &String| HolderTrouble { agent: agent.clone(), from: deed.from, until };
                trouble.holders.extend(deed.hosts.iter().map(of));
                trouble.history_gone |= deed.act == Act::Lose;
            }
            (Act::Kill | Act::Pause | Act::Cut, Target::Etcd) => {
                trouble.outages.push((deed.from, undone()));
            }
            _ => {}
        }
    }
    let begun = deeds.first().map_or(end, |deed| deed.from);
    let lost = seen.new_sessions().into_iter().filter(|(agent, _)| !planned.contains(agent));
    trouble.holders.extend(lost.map(|(agent, seen)| HolderTrouble {
        agent,
        from: begun,
        until: seen + limits::AFTERMATH,
    }));
    trouble
}

/// The longest takeover, over all deeds that take ranges from agents.
pub fn takeover(deeds: &[Deed], seen: &Seen) -> Option<Duration> {
    let takes = deeds.iter().filter(|deed| {
        let act = matches!(
            deed.act,
            Act::Kill | Act::Terminate | Act::Pause | Act::Cut | Act::Lose | Act::Drain
        );
        act && matches!(deed.target, Target::Agent(_))
    });
    takes.filter_map(|deed| seen.takeover(deed.from, &deed.hosts.iter().cloned().collect())).max()
}

/// How long writes were refused, over all deeds that could stand in their way.
pub fn writes_again(deeds: &[Deed], seen: &Seen) -> Option<Duration> {
    deeds.iter().filter_map(|deed| seen.writes_again(deed.from)).max()
}

/// How many instants were later than a planned move allows, from the first move on; only where
/// ranges moved in order alone: nothing else was done, and no agent lost its lease.
pub fn late_in_moves(deeds: &[Deed], account: &Account, trouble: &Trouble) -> Option<usize> {
    use Act::{Drain, Settle, Start, Terminate, Uncordon};
    let agents = |deed: &Deed| matches!(deed.target, Target::Agent(_) | Target::Fleet);
    let planned = |deed: &Deed| matches!(deed.act, Drain | Uncordon | Terminate | Start | Settle);
    let planned = |deed: &Deed| planned(deed) && agents(deed);
    let moves =
        |deed: &Deed| matches!((deed.act, deed.target), (Drain | Terminate, Target::Agent(_)));
    let (first, last) = (deeds.iter().find(|deed| moves(deed))?, deeds.last()?);
    if !deeds.iter().all(planned) || !trouble.holders.is_empty() {
        return None;
    }
    let span = first.from..=last.until + limits::AFTERMATH;
    let late = account.lateness.iter().rev().take_while(|late| late.late > limits::PLANNED_LATEST);
    Some(late.filter(|late| span.contains(&late.instant.at)).count())
}

/// Every promise that broke, with examples.
pub fn broken(account: &Account) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut hold = |instants: &[Instant], what: &str| {
        if !instants.is_empty() {
            broken.push(Broken(format!("{} {what}: {}", instants.len(), examples(instants))));
        }
    };
    hold(&account.lost, "instants were lost");
    hold(&account.too_late, "instants started more than 10 s after their due");
    hold(&account.early, "instants started before their due");
    hold(&account.repeated_wrongly, "instants were repeated that may not be");
    hold(&account.phantoms, "runs belong to no instant");
    hold(&account.untold, "instants ran and have no settled end in the history");
    for word in account.ended_otherwise.iter().map(|(_, word)| *word).collect::<BTreeSet<_>>() {
        let same = account.ended_otherwise.iter().filter(|(_, other)| *other == word);
        let instants: Vec<Instant> = same.map(|(instant, _)| instant.clone()).collect();
        hold(&instants, &format!("instants ran and are told as {word}"));
    }
    if account.due == 0 {
        broken.push(Broken("nothing was due: the drill proves nothing".to_owned()));
    }
    broken
}

fn examples(instants: &[Instant]) -> String {
    let told = |instant: &Instant| format!("{} at {:.3}", instant.task, instant.at.as_secs_f64());
    let mut examples: Vec<String> = instants.iter().take(limits::EXAMPLES).map(told).collect();
    if instants.len() > limits::EXAMPLES {
        examples.push("…".to_owned());
    }
    examples.join(", ")
}
