//! Asking the agents: one question to all who may know, their accounts, and who kept silent.
//!
//! The difference between "nobody knows of it" and "somebody did not answer" is the whole point of
//! this file: the first is an answer, the second is none. An agent that refuses, is late, or has
//! no link to this coordinator while its session lives is *silent*. One whose session has ended is
//! *down*: history that lies with it alone cannot be read, perhaps for ever, so it is named in
//! lists, but what has to be decided is decided without it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use tocktower_core::ids::{AgentName, RangeId};
use tocktower_core::run::RunRecord;
use tocktower_core::task::Placement;
use tocktower_proto::v1;

use super::error::RunError;
use crate::catalog::Catalog;
use crate::feed;
use crate::links::{Answers, LinkError, Links, Part};

/// How long agents have for a question, from when it is asked until the answer is whole.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Runs that one agent may send for one question.
const RUNS_MAX: usize = 10_000;

/// What came of asking several agents.
#[derive(Default)]
pub(super) struct Told {
    /// By those who answered.
    pub accounts: BTreeMap<AgentName, Vec<RunRecord>>,
    pub silent: Vec<String>,
    pub down: Vec<String>,
}

impl Told {
    /// Whether one of them sent as many as it was asked for, so that it may have more.
    pub fn full(&self, limit: usize) -> bool {
        self.accounts.values().any(|accounts| accounts.len() >= limit)
    }

    pub fn all(self) -> impl Iterator<Item = RunRecord> {
        self.accounts.into_values().flatten()
    }

    /// All whose history may be missing from the answer.
    pub fn missing(&self) -> Vec<String> {
        self.silent.iter().chain(&self.down).cloned().collect()
    }
}

/// Whose runs are asked for.
#[derive(Clone, Default)]
pub(super) struct Whose<'a> {
    pub range: Option<RangeId>,
    /// Where their task is known to be: agents elsewhere without a link are not missed.
    pub placement: Option<&'a Placement>,
    /// Agents that run their task now. They say once a second of which ranges they know runs: who
    /// took one since, or runs it by itself, need not have said so yet.
    pub run_by: Vec<AgentName>,
    /// It is this agent's share of a task of every agent: no other knows of it.
    pub only: Option<AgentName>,
}

/// Asks all who may know such runs, at once.
pub(super) async fn ask(
    catalog: &Catalog,
    links: &Links,
    whose: Whose<'_>,
    kind: v1::query::Kind,
    within: Duration,
) -> Told {
    let linked: BTreeSet<AgentName> = links.all().into_iter().map(|info| info.agent).collect();
    let mut asked: BTreeSet<AgentName> = links.knowing(whose.range).into_iter().collect();
    asked.extend(whose.run_by.iter().chain(&whose.only).cloned());
    let only = |agent: &AgentName| whose.only.as_ref().is_none_or(|only| only == agent);
    asked.retain(|agent| linked.contains(agent) && only(agent));
    let questions = asked.into_iter().map(|agent| (agent, kind.clone())).collect();
    let mut told = ask_each(links, questions, within).await;
    let concerned = |agent: &AgentName, pool: &str| match whose.placement {
        _ if !only(agent) => false,
        None => true,
        Some(Placement::Pool(asked) | Placement::EveryAgent(asked)) => asked.as_str() == pool,
        Some(Placement::Agent(asked)) => asked == agent,
    };
    let (silent, down) = catalog.look(|state| {
        let members = state.members.iter();
        let members = members.filter(|(agent, member)| concerned(agent, &member.record.pool));
        let silent = members.map(|(agent, _)| agent).filter(|agent| !linked.contains(*agent));
        let agents = state
            .agents
            .iter()
            .filter(|(agent, kept)| concerned(agent, &kept.record.pool))
            .filter(|(agent, _)| !state.members.contains_key(*agent));
        let down = agents.map(|(agent, _)| agent).filter(|agent| !linked.contains(*agent));
        (names(silent), names(down))
    });
    told.silent.splice(0..0, silent);
    told.down = down;
    told
}

fn names<'a>(agents: impl Iterator<Item = &'a AgentName>) -> Vec<String> {
    agents.map(ToString::to_string).collect()
}

/// Asks each of these agents its own question, all at once.
pub(super) async fn ask_each(
    links: &Links,
    questions: Vec<(AgentName, v1::query::Kind)>,
    within: Duration,
) -> Told {
    let asked = questions.into_iter().map(|(agent, kind)| async move {
        let whole = async { collect(links.ask(&agent, kind).await.ok()?).await };
        let told = tokio::time::timeout(within, whole).await;
        (agent, told.ok().flatten())
    });
    let mut told = Told::default();
    for (agent, accounts) in join_all(asked).await {
        match accounts {
            Some(accounts) => {
                told.accounts.insert(agent, accounts);
            }
            None => told.silent.push(agent.to_string()),
        }
    }
    told
}

/// All runs of one agent's answer; `None`: it was not whole.
async fn collect(mut answers: Answers) -> Option<Vec<RunRecord>> {
    let mut accounts = Vec::new();
    loop {
        match answers.next().await {
            Part::Runs(runs) if accounts.len() + runs.len() <= RUNS_MAX => {
                accounts.extend(feed::readable(runs));
            }
            Part::Done => return Some(accounts),
            // It knows nothing of it, which is an answer.
            Part::Failed(error) if error.code == "not_found" => return Some(accounts),
            Part::Runs(_) | Part::Output(_) | Part::Failed(_) | Part::Lagged | Part::Gone => {
                return None;
            }
        }
    }
}

/// What an agent's refusal means to who asked this agent alone.
pub(super) fn refused(agent: &AgentName, error: v1::Error) -> RunError {
    match error.code.as_str() {
        "not_found" => RunError::NotFound(error.detail),
        "rate_limited" => RunError::Busy(agent.to_string()),
        // Its loop or its store did not answer it in time; the next question may find it better.
        "store_unavailable" => RunError::Silent(vec![agent.to_string()]),
        _ => RunError::Refused { agent: agent.to_string(), detail: error.detail },
    }
}

/// Why a question to this agent did not get on its way.
pub(super) fn not_asked(agent: &AgentName, error: LinkError) -> RunError {
    match error {
        LinkError::NotLinked => RunError::Silent(vec![agent.to_string()]),
        LinkError::Full => RunError::Busy(agent.to_string()),
    }
}
