//! Agents that have gone for good. What outlives a session names an agent in every list of runs as
//! one that may know more; without an end to it, a host that was retired would make all lists
//! incomplete for ever. So an absence is noted, once, and an agent that is absent for too long is
//! forgotten. Whoever is impatient forgets it by hand (`service::fleet`).
//!
//! `rule` decides; this file does it. Every coordinator looks after all agents, and whoever comes
//! first wins the compare, so that nobody has to be elected. All agents watch what is written here:
//! it is two writes for each absence of more than a minute, and those that fall due together share
//! a transaction, a bounded number of them for each look.
//!
//! Not taken: a record under a lease that ends by itself after that time. It would be bound to the
//! configuration of the agent that is gone, would be prolonged by every change of etcd's leader,
//! and would not say since when (ADR 0011).

mod rule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tocktower_cluster::absence::{self, CHANGES_MAX, Change, To};
use tocktower_cluster::port::{Port, PortError, Request};
use tocktower_core::ids::AgentName;
use tocktower_proto::store::AgentRecord;
use tokio::time::{sleep, timeout};

pub use rule::ForgetRules;

use self::rule::{Absences, Decision};
use crate::catalog::{Catalog, Kept};
use crate::clock;
use crate::links::Links;
use crate::stop::Stop;

/// A write that takes longer is given up; the next look shows what has come of it.
const CALL_WITHIN: Duration = Duration::from_secs(5);

/// The task that looks after absent agents.
pub struct Forgetter {
    catalog: Catalog,
    links: Links,
    port: Arc<dyn Port>,
    rules: ForgetRules,
    absences: Absences,
}

impl Forgetter {
    pub fn new(
        catalog: Catalog,
        links: Links,
        port: Arc<dyn Port>,
        rules: ForgetRules,
    ) -> Forgetter {
        Forgetter { catalog, links, port, rules, absences: Absences::default() }
    }

    /// Runs until it is stopped.
    pub async fn look_after(mut self, mut stop: Stop) {
        tokio::select! {
            () = self.looks() => {}
            () = stop.stopped() => {}
        }
    }

    async fn looks(&mut self) {
        loop {
            sleep(self.rules.look).await;
            // An old copy does not tell who has come back.
            if self.catalog.fresh() {
                let (decisions, changes) = self.decided();
                self.carry_out(&decisions, &changes).await;
            }
        }
    }

    /// As many decisions as fit one transaction, and the change that each of them is.
    fn decided(&mut self) -> (Vec<Decision>, Vec<Change>) {
        let absent = self.absent();
        let (now, agreed) = (clock::now(), self.links.agree_on_the_time());
        let decisions = self.absences.look(&self.rules, now, agreed, &absent, CHANGES_MAX);
        let change = |(agent, decision): (AgentName, Decision)| {
            let Kept { record, revision: seen } = absent.get(&agent)?.clone();
            let to = match decision {
                Decision::Note { since } => {
                    let absent_since_us = Some(since.micros());
                    To::Noted(AgentRecord { absent_since_us, ..record })
                }
                Decision::Forget { .. } => To::Forgotten,
            };
            Some((decision, Change { agent, seen, to }))
        };
        decisions.into_iter().filter_map(change).unzip()
    }

    /// Records of agents that have neither a session nor a link here.
    fn absent(&self) -> BTreeMap<AgentName, Kept> {
        let mut absent: BTreeMap<AgentName, Kept> = self.catalog.look(|state| {
            let away = |agent: &AgentName| !state.members.contains_key(agent);
            let agents = state.agents.iter().filter(|(agent, _)| away(agent));
            agents.map(|(agent, kept)| (agent.clone(), kept.clone())).collect()
        });
        absent.retain(|agent, _| !self.links.has(agent));
        absent
    }

    async fn carry_out(&self, decisions: &[Decision], changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let txn = absence::change(self.catalog.keys(), changes);
        let answer = timeout(CALL_WITHIN, self.port.call(Request::Txn(txn))).await;
        let late = || PortError::Unknown(format!("no answer within {CALL_WITHIN:?}"));
        let made = match answer.unwrap_or_else(|_| Err(late())) {
            Ok(answer) => absence::read_change(changes, &answer),
            // The keeper says so when the store is in trouble.
            Err(error) => return tracing::debug!(%error, "absent agents are left for later"),
        };
        match made {
            Ok(made) => {
                let each = decisions.iter().zip(changes).zip(made);
                each.filter(|(_, made)| *made).for_each(|((decision, change), _)| {
                    tell(&change.agent, *decision);
                });
            }
            Err(error) => tracing::warn!(%error, "what became of absent agents cannot be told"),
        }
    }
}

fn tell(agent: &AgentName, decision: Decision) {
    match decision {
        Decision::Note { since } => tracing::debug!(%agent, ?since, "an absence is noted"),
        Decision::Forget { since } => {
            tracing::info!(%agent, absent_since = ?since, "the agent is forgotten");
        }
    }
}
