//! What became of an instant, as a message.

use tocktower_core::time::Instant;
use tocktower_proto::convert::run_proto;
use tocktower_proto::v1;

use super::values;
use crate::service::{Facts, RangeFacts, ShownInstant, Why, entry_shown};

pub fn message(why: Why) -> v1::WhyResponse {
    let Why { task, at, verdict, explanation, advice, policy, facts } = why;
    let (previous, next) = facts.around();
    v1::WhyResponse {
        namespace: task.namespace.to_string(),
        task: task.name.to_string(),
        at: Some(instant(&at)),
        verdict: verdict.as_str().to_owned(),
        explanation,
        advice: advice.unwrap_or_default(),
        due: facts.due().map(values::timestamp),
        previous: previous.map(instant),
        next: next.map(instant),
        policy: policy.map(|p| v1::WhyPolicy { field: p.field.to_owned(), value: p.value }),
        range: range(&facts, &facts.range),
        run: facts.run.as_ref().map(run_proto),
        ahead: facts.ahead.as_ref().map(run_proto),
        silent_agents: facts.incomplete,
        stale: facts.stale,
    }
}

fn instant(shown: &ShownInstant) -> v1::WhyInstant {
    let instant = Some(values::timestamp(shown.instant.wall()));
    v1::WhyInstant { instant, local: shown.local.clone() }
}

fn range(facts: &Facts, range: &RangeFacts) -> Option<v1::WhyRange> {
    let holder = range.holder.as_ref();
    let fence = holder.map(|holder| holder.fence);
    let through = range.marks.map(|marks| marks.through).filter(|t| *t > Instant::MIN);
    let entry = range.entry.as_ref().map(|entry| {
        let (state, until) = entry_shown(entry);
        let waiting_until = until.map(values::timestamp);
        v1::WhyEntry { state: state.to_owned(), attempt: entry.attempt.number, waiting_until }
    });
    Some(v1::WhyRange {
        pool: range.pool.as_ref()?.to_string(),
        id: range.hex.clone(),
        holder: holder.map(|holder| holder.agent.to_string()).unwrap_or_default(),
        fence: fence.map(|f| v1::Fence { epoch: f.epoch.0, revision: f.revision.0 }),
        connected: holder.is_some_and(|holder| holder.linked),
        quiet: range.quiet.map(values::proto_span),
        ledger_through: through.map(|through| values::timestamp(through.wall())),
        covered: facts.covered(),
        entry,
        ledger_error: range.ledger_error.clone().unwrap_or_default(),
        agents: count(range.agents.present),
        agents_able: count(range.agents.able),
        agents_taking: count(range.agents.taking),
    })
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}
