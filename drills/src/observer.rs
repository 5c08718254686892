//! What the API tells of a fleet while a drill goes on: who holds which range and under which
//! session, and whether writes are taken. Looked at from outside, ten times a second, by two tasks
//! that know nothing of the faults; what they saw is read afterwards, by pure functions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tocktower_client::{Client, Task};
use tokio::task::JoinHandle;

use crate::clock::{Moment, now, system};
use crate::limits::{self, LOOK};
use crate::load::LABEL;

/// The fleet at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sight {
    /// Of each range its holder and the fence, if it has one.
    pub ranges: BTreeMap<String, Option<(String, i64)>>,
    /// The sessions of the agents that have one.
    pub sessions: BTreeMap<String, i64>,
    /// Agents that the coordinator has a link to.
    pub connected: BTreeSet<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What was seen from a moment on, until the next.
    pub sights: Vec<(Moment, Sight)>,
    /// Writes that were answered: when they were asked and when they were answered.
    pub writes: Vec<(Moment, Moment)>,
}

pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    tasks: [JoinHandle<()>; 2],
}

impl Observer {
    /// Looks at a pool, and writes into the namespace of the drill, until it is dropped.
    pub fn start(client: &Client, pool: &str, namespace: &str) -> Observer {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let looks = look_on(client.clone(), pool.to_owned(), seen.clone());
        let writes = write_on(client.clone(), namespace.to_owned(), seen.clone());
        Observer { seen, tasks: [tokio::spawn(looks), tokio::spawn(writes)] }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn look_on(client: Client, pool: String, seen: Arc<Mutex<Seen>>) {
    loop {
        // What cannot be seen now is seen later; a sight out of date tells nothing.
        if let Ok(Some(sight)) = look(&client, &pool).await {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.sights.last().is_none_or(|(_, last)| *last != sight) {
                seen.sights.push((now(), sight));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The fleet as a coordinator knows it; nothing if it says itself that it is out of date.
pub async fn look(client: &Client, pool: &str) -> Result<Option<Sight>, tocktower_client::Error> {
    let ranges = client.ranges(Some(pool)).await?;
    let agents = client.agents(Some(pool)).await?;
    if ranges.stale || agents.stale {
        return Ok(None);
    }
    let held = ranges.value.into_iter().map(|range| {
        let fence = range.fence.map(|fence| fence.revision);
        let holder = fence.filter(|_| !range.holder.is_empty()).map(|fence| (range.holder, fence));
        (range.id, holder)
    });
    let agents = agents.value;
    let session = |agent: &tocktower_client::Agent| {
        agent.session.map(|session| (agent.name.clone(), session.revision))
    };
    Ok(Some(Sight {
        ranges: held.collect(),
        sessions: agents.iter().filter_map(session).collect(),
        connected: agents.iter().filter(|a| a.connected).map(|a| a.name.clone()).collect(),
    }))
}

async fn write_on(client: Client, namespace: String, seen: Arc<Mutex<Seen>>) {
    // Its first instant is after the drill; its end tells later drills that it was left behind.
    let (from, until) = (now() + limits::PROBE, now() + limits::PROBE * 2);
    for count in 0_u64.. {
        let task = Task::new(&namespace, "probe").label(LABEL.0, LABEL.1);
        let task = task.every(limits::PROBE).start_at(system(from)).end_at(system(until));
        let task = task.paused(true).noop();
        let asked = now();
        if client.put(task.description(format!("write {count}")), None).await.is_ok() {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.writes.push((asked, now()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Sight {
    /// Every range is held by one of these agents, each with its share, and all are linked.
    pub fn is_whole(&self, agents: &BTreeSet<String>) -> Result<(), String> {
        let holders: Vec<&String> =
            self.ranges.values().flatten().map(|(holder, _)| holder).collect();
        let count = |agent: &&String| holders.iter().filter(|holder| *holder == agent).count();
        let counts: BTreeMap<&String, usize> =
            agents.iter().map(|agent| (agent, count(&agent))).collect();
        let all = !self.ranges.is_empty() && counts.values().sum::<usize>() == self.ranges.len();
        // The ring's bound on shares is the ring's own affair: half of the average says that
        // nothing is on its way any more.
        let fair = counts.values().all(|count| count * 2 * agents.len() >= self.ranges.len());
        let linked = agents.is_subset(&self.connected);
        if all && fair && linked {
            return Ok(());
        }
        Err(format!(
            "of {} ranges are held {counts:?}, linked {:?}",
            self.ranges.len(),
            self.connected
        ))
    }
}

impl Sight {
    /// Every range is held, by whomever.
    pub fn is_held(&self) -> Result<(), String> {
        let vacant = self.ranges.values().filter(|holder| holder.is_none()).count();
        match (self.ranges.len(), vacant) {
            (0, _) => Err("there are no ranges".to_owned()),
            (_, 0) => Ok(()),
            (all, _) => Err(format!("{vacant} of {all} ranges have no holder")),
        }
    }
}

impl Seen {
    /// How long it took from a moment on until each range that these agents held then had another
    /// claim. Nothing if they held none, or if it did not come to that.
    pub fn takeover(&self, from: Moment, agents: &BTreeSet<String>) -> Option<Duration> {
        let before =
            self.sights.iter().rev().find(|(at, _)| *at <= from).map(|(_, sight)| sight)?;
        let theirs = |holder: &Option<(String, i64)>| {
            holder.as_ref().is_some_and(|(agent, _)| agents.contains(agent))
        };
        let held: Vec<_> = before.ranges.iter().filter(|(_, holder)| theirs(holder)).collect();
        if held.is_empty() {
            return None;
        }
        let moved = |sight: &Sight| {
            held.iter().all(|(range, before)| {
                sight.ranges.get(*range).is_some_and(|holder| holder.is_some() && holder != *before)
            })
        };
        let after = self.sights.iter().find(|(at, sight)| *at > from && moved(sight));
        after.map(|(at, _)| *at - from)
    }

    /// How long it took from a moment on until a write that was asked after it was answered.
    pub fn writes_again(&self, from: Moment) -> Option<Duration> {
        let first = self.writes.iter().find(|(asked, _)| *asked >= from);
        first.map(|(_, answered)| *answered - from)
    }

    /// The longest that a write waited for its answer.
    pub fn longest_write(&self) -> Duration {
        self.writes.iter().map(|(asked, answered)| *answered - *asked).max().unwrap_or_default()
    }

    /// Agents that came back under another session, and when that was seen.
    pub fn new_sessions(&self) -> Vec<(String, Moment)> {
        let mut known = BTreeMap::<&String, i64>::new();
        let mut new = Vec::new();
        for (at, sight) in &self.sights {
            for (agent, session) in &sight.sessions {
                if known.insert(agent, *session).is_some_and(|before| before != *session) {
                    new.push((agent.clone(), *at));
                }
            }
        }
        new
    }
}
