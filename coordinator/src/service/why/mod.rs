//! Why did it run, or why did it not? The answer for one instant of one task.
//!
//! Nobody knows all of it. The schedule says whether there is such an instant, history what came of
//! it, the ledger of the range that it is done or open, the catalog who holds the range and how the
//! pool is, the links who can be asked. This file asks them, all at once and each for two seconds
//! at most; `verdict` judges what they say, and `words` tells it. Whoever did not answer is part of
//! the answer, as is a ledger that could not be read: a guess is never told as a fact.
//!
//! The catalog keeps the gist of each ledger only, so the one ledger that is needed is read from
//! the shared state; without it the marks of the gist are gone by.

mod facts;
mod policy;
#[cfg(test)]
mod tests;
mod verdict;
mod words;

use tocktower_cluster::ledgers;
use tocktower_core::ids::{AgentName, Incarnation, PoolName, RangeId, RunId, RunKey, TaskName};
use tocktower_core::ledger::Ledger;
use tocktower_core::ring::Duty;
use tocktower_core::run::{RunRecord, RunState};
use tocktower_core::task::{Overlap, Placement, Task};
use tocktower_core::time::Instant;
use tocktower_proto::json;

pub use facts::{Facts, RangeFacts, Shown, entry_shown};
use facts::{Holder, Pinned, PoolAgents, Subject};
pub use policy::Policy;
pub use verdict::Verdict;

use super::asking::ANSWER_WITHIN;
use super::error::{Fault, TaskError};
use super::fleet::{capacity, members_of};
use super::preview::local;
use super::tasks::Tasks;
use crate::catalog::State;
use crate::clock;
use crate::timeline::{Moment, Timeline};

/// What became of an instant, and why.
#[derive(Clone, PartialEq, Debug)]
pub struct Why {
    pub task: TaskName,
    /// The moment that is asked about, with its time by the zone of its schedule.
    pub at: Shown,
    pub verdict: Verdict,
    /// For people.
    pub explanation: String,
    /// What to do, where something can be done.
    pub advice: Option<String>,
    /// The policy of the task that decided.
    pub policy: Option<Policy>,
    pub facts: Facts,
}

impl Tasks {
    /// `at` left out: the newest instant that should have run by now. `share_of`: which of its
    /// agents is asked about, of a task of every agent.
    pub async fn why(
        &self,
        name: &TaskName,
        at: Option<Instant>,
        share_of: Option<AgentName>,
    ) -> Result<Why, TaskError> {
        self.ready()?;
        let known = match self.catalog.task(name) {
            // It may have been made through another coordinator a moment ago.
            None => self.look_up(name).await?.map(Ok),
            known => known,
        };
        match known {
            Some(Ok(task)) => self.why_of(of_share(task, share_of)?, at).await,
            Some(Err(unreadable)) => {
                let subject = Subject::Unreadable { error: unreadable.error };
                let at = at.unwrap_or_else(|| clock::wall().instant());
                self.why_without(name, Some(unreadable.placement), share_of, at, subject).await
            }
            None => self.why_gone(name, at, share_of).await,
        }
    }

    async fn why_of(&self, task: Task, at: Option<Instant>) -> Result<Why, TaskError> {
        let (now, name) = (clock::wall(), task.spec.name.clone());
        let timeline = Timeline::new(&task);
        let at = at.or_else(|| timeline.newest_due(now)).unwrap_or_else(|| now.instant());
        let placement = task.spec.placement.clone();
        let (told, ledger) = tokio::join!(
            self.runs.at(&name, Some(&placement), task.share_of.as_ref(), at),
            self.ledger(&placement, self.catalog.keys().ranges().range_of(&name)),
        );
        let moment = timeline.moment(at);
        let run = chosen(told.0, at, Some(task.incarnation), moment != Moment::Between);
        let ahead = match &run {
            Some(run) if run.state == RunState::Queued => self.ahead_of(&task, run).await,
            Some(_) | None => None,
        };
        let mut range = self.range(&name, Some(placement));
        range.pinned = range.pinned.or_else(|| self.share(&task));
        let id = RunId::scheduled(name.clone(), task.incarnation, at);
        range.take(ledger, run.as_ref().map_or(&id, |run| &run.id));
        let shown = |instant| shown(&timeline, instant);
        let (previous, next) = (timeline.previous(at).map(shown), timeline.next(at).map(shown));
        let at = shown(at);
        let subject = Subject::Task { task: Box::new(task.clone()), moment, previous, next };
        let (incomplete, stale) = (told.1, self.catalog.stale());
        let facts = Facts { now, at: at.instant, subject, run, ahead, range, incomplete, stale };
        Ok(judged(name, at, facts))
    }

    /// Of a task whose schedule is not known.
    async fn why_without(
        &self,
        name: &TaskName,
        placement: Option<Placement>,
        share_of: Option<AgentName>,
        at: Instant,
        subject: Subject,
    ) -> Result<Why, TaskError> {
        let asked = self.runs.at(name, placement.as_ref(), share_of.as_ref(), at);
        let (runs, incomplete) = asked.await;
        let facts = Facts {
            now: clock::wall(),
            at,
            subject,
            run: chosen(runs, at, None, true),
            ahead: None,
            range: self.range(name, placement),
            incomplete,
            stale: self.catalog.stale(),
        };
        let at = Shown { instant: at, local: json::format_instant(at) };
        Ok(judged(name.clone(), at, facts))
    }

    /// Of a name that no task has. One that nobody has ever heard of is not found.
    async fn why_gone(
        &self,
        name: &TaskName,
        at: Option<Instant>,
        share_of: Option<AgentName>,
    ) -> Result<Why, TaskError> {
        let newest = self.runs.last_of(name, ANSWER_WITHIN).await;
        let Some(run) = newest.run else {
            return match newest.silent.is_empty() {
                true => Err(TaskError::NotFound(name.clone())),
                false => Err(TaskError::Silent(newest.silent)),
            };
        };
        let at = at.unwrap_or(run.instant);
        let subject = Subject::Gone { newest: Some(Box::new(run)) };
        self.why_without(name, None, share_of, at, subject).await
    }

    /// The run that a queued one has to wait for, if the task's policy lets only one go on.
    async fn ahead_of(&self, task: &Task, run: &RunRecord) -> Option<RunRecord> {
        if task.spec.overlap == Overlap::Allow {
            return None;
        }
        let others = self.runs.under_way(&task.spec.name).await;
        others.into_iter().find(|other| other.id != run.id && other.id.agent == run.id.agent)
    }

    /// The ledger of a range, or why it cannot be read. That of what is pinned is with its agent.
    async fn ledger(
        &self,
        placement: &Placement,
        range: RangeId,
    ) -> Result<Option<Ledger>, String> {
        let Some(pool) = placement.pool() else { return Ok(None) };
        let read = self.send(ledgers::get(self.catalog.keys(), pool, range));
        let answer = match tokio::time::timeout(ANSWER_WITHIN, read).await {
            Ok(answer) => answer.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("no answer within {ANSWER_WITHIN:?}")),
        };
        ledgers::read_get(&answer).map_err(|error| TaskError::Answer(error).detail())
    }

    /// What the catalog has of the range of a task.
    fn range(&self, name: &TaskName, placement: Option<Placement>) -> RangeFacts {
        let ranges = self.catalog.keys().ranges();
        let (id, width) = (ranges.range_of(name), ranges.hex_width());
        let facts = RangeFacts {
            id,
            hex: format!("{:0width$x}", id.0),
            holder: None,
            quiet: None,
            marks: None,
            entry: None,
            ledger_error: None,
            agents: PoolAgents::default(),
            in_the_way: None,
            pool: placement.as_ref().and_then(|placement| placement.pool().cloned()),
            pinned: placement.as_ref().and_then(Placement::agent).map(|agent| Pinned {
                agent: agent.clone(),
                known: self.catalog.look(|state| {
                    state.members.contains_key(agent) || state.agents.contains_key(agent)
                }),
                linked: self.links.has(agent),
                selected: None,
            }),
        };
        let Some(pool) = facts.pool.clone() else { return facts };
        let agents = self.catalog.look(|state| agents_of(state, &pool));
        let key = (pool, id);
        let (claim, gist, heard) = self.catalog.look(|state| {
            let heard = state.heard.get(&key).copied();
            (state.claims.get(&key).cloned(), state.ledgers.get(&key).copied(), heard)
        });
        let holder = claim.map(|claim| Holder {
            linked: self.links.has(&claim.agent),
            agent: claim.agent,
            fence: claim.fence,
        });
        let quiet = heard.map(|heard| clock::mono().since(heard));
        let in_the_way = holder.as_ref().and_then(|holder| self.links.in_the_way(&holder.agent));
        let marks = gist.map(|gist| gist.marks);
        RangeFacts { holder, quiet, marks, agents, in_the_way, ..facts }
    }

    /// The agent whose share of a task of every agent is asked about.
    fn share(&self, task: &Task) -> Option<Pinned> {
        let (pool, agent) = (task.spec.placement.every_agent()?, task.share_of.clone()?);
        let selected = self.catalog.look(|state| {
            let member = state.members.get(&agent).map(|member| &member.record);
            let kept = state.agents.get(&agent).map(|kept| &kept.record);
            let member = member.map(|record| (&record.pool, &record.labels));
            let (of, labels) = member.or(kept.map(|record| (&record.pool, &record.labels)))?;
            Some(of == pool.as_str() && task.spec.broadcast.selects(labels))
        });
        let (known, linked) = (selected.is_some(), self.links.has(&agent));
        Some(Pinned { agent, known, linked, selected: Some(selected == Some(true)) })
    }
}

/// The task as the agent has it that is asked about, if it is one of every agent.
fn of_share(task: Task, share_of: Option<AgentName>) -> Result<Task, TaskError> {
    match (task.spec.placement.every_agent(), share_of) {
        (Some(_), Some(agent)) => Ok(Task { share_of: Some(agent), ..task }),
        (None, None) => Ok(task),
        (Some(pool), None) => Err(TaskError::bad(
            "agent",
            format!(
                "the task runs on every agent of pool {pool} that it selects: name one of them"
            ),
        )),
        (None, Some(_)) => Err(TaskError::bad(
            "agent",
            format!(
                "belongs to tasks of every agent; the placement of this one is {}",
                task.spec.placement
            ),
        )),
    }
}

impl RangeFacts {
    /// Takes in what the ledger itself says.
    fn take(&mut self, ledger: Result<Option<Ledger>, String>, run: &RunId) {
        match ledger {
            Ok(Some(ledger)) => {
                self.marks = Some(ledger.marks);
                self.entry = ledger.open.into_iter().find(|entry| entry.speaks_of(run));
            }
            Ok(None) => self.marks = None,
            Err(error) => self.ledger_error = Some(error),
        }
    }
}

/// A time as the schedule shows it that has it, else in UTC.
fn shown(timeline: &Timeline<'_>, instant: Instant) -> Shown {
    let schedules = timeline.table_of(instant).map_or(&[][..], |table| &table.schedules);
    Shown { instant, local: local(schedules, instant) }
}

fn judged(task: TaskName, at: Shown, facts: Facts) -> Why {
    let verdict = verdict::verdict(&facts);
    let policy = policy::policy(&facts, verdict);
    let told = words::words(&facts, verdict, policy.as_ref(), &task.to_string());
    let words::Told { explanation, advice } = told;
    Why { task, at, verdict, explanation, advice, policy, facts }
}

fn agents_of(state: &State, pool: &PoolName) -> PoolAgents {
    members_of(state, pool).fold(PoolAgents::default(), |agents, (_, member)| {
        let capacity = capacity(member);
        let able = capacity.weight > 0;
        PoolAgents {
            present: agents.present + 1,
            able: agents.able + usize::from(able),
            taking: agents.taking + usize::from(able && capacity.duty == Duty::Full),
        }
    })
}

/// Of all that is known of a moment, the run that it is about: the scheduled one of the present
/// task if there is one, then that of an earlier life of its name, then one that was asked for by
/// hand. A row of several instants counts (`rows`) where the moment may be one of them.
fn chosen(
    runs: Vec<RunRecord>,
    at: Instant,
    incarnation: Option<Incarnation>,
    rows: bool,
) -> Option<RunRecord> {
    let rank = |run: &RunRecord| {
        let scheduled = matches!(run.id.run, RunKey::Instant(_));
        (scheduled, Some(run.id.incarnation) == incarnation, run.instant == at, run.id.incarnation)
    };
    let reaches = |run: &RunRecord| {
        let until = run.span.map_or(run.instant, |span| span.until);
        run.instant == at || rows && (run.instant..=until).contains(&at)
    };
    runs.into_iter().filter(reaches).max_by_key(rank)
}
