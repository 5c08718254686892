//! `tock agent drain`: asks, then waits until the host may be stopped, as whoever asks wants to do
//! that next.
//!
//! The agent itself says when that is (`drained`): from outside it cannot be told whether something
//! that it ran is known to those who hold its ranges now. What is still in the way is told whenever
//! it changes, on the standard error, so that a script reads nothing but the answer. Whether it
//! comes to an end or not, the drain goes on until somebody uncordons the agent.

use std::time::Duration;

use anyhow::bail;
use tocktower_client::{Agent, json};
use tokio::time::{Instant, sleep};

use crate::args::fleet::Drain;
use crate::context::Context;
use crate::failure::Outcome;

/// How often the agent is looked at: it tells its figures once a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub async fn drain(args: Drain, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let give_up = Instant::now() + args.timeout;
    let mut agent = context.client()?.drain_agent(&args.agent).await?;
    // It has answered once: what is away for a moment now comes back.
    let client = context.patient_client()?;
    let mut told = String::new();
    while !agent.drained && !args.no_wait {
        if !agent.draining {
            bail!("{} was uncordoned meanwhile: it is not drained", agent.name);
        }
        let left = left(&agent);
        if left != told {
            context.printer.error(&left);
        }
        if Instant::now() >= give_up {
            let (name, after) = (&agent.name, json::format_duration(args.timeout));
            bail!(
                "after {after} {left}; the drain goes on: wait with `tock agent drain {name}`, or \
                 end it with `tock agent uncordon {name}`"
            );
        }
        told = left;
        sleep(LOOK_EVERY).await;
        agent = client.agent(&args.agent).await?.value;
    }
    context.printer.answer(&json::agent(&agent), |printer| printer.line(&came_to(&agent)))?;
    Ok(Outcome::Done)
}

fn came_to(agent: &Agent) -> String {
    let name = &agent.name;
    match (agent.drained, running(agent)) {
        (true, 0) => format!("agent {name} is drained: it may be stopped"),
        (true, pinned) => format!(
            "agent {name} is drained: it may be stopped, in order, as {} of what is pinned to it \
             {} on",
            counted(pinned, "run"),
            if pinned == 1 { "goes" } else { "go" },
        ),
        (false, _) => format!("agent {name} is to be drained"),
    }
}

fn running(agent: &Agent) -> u64 {
    agent.counts.map_or(0, |counts| counts.running)
}

/// What is in the way of stopping it.
fn left(agent: &Agent) -> String {
    let (name, ranges) = (&agent.name, counted(agent.ranges_held.into(), "range"));
    let running = running(agent);
    if agent.session.is_none() {
        return format!("agent {name} has no session: whether anything runs there is not known");
    }
    if agent.last_resort {
        let pool = &agent.pool;
        return format!("agent {name} keeps its {ranges}: no other of pool {pool} takes any");
    }
    if !agent.connected {
        return format!("agent {name} holds {ranges} and has no link to the server that was asked");
    }
    match (agent.ranges_held, running) {
        (0, 0) => format!("agent {name} holds nothing; the ends of its last runs are passed on"),
        (0, running) => format!("agent {name} holds nothing; {}", going_on(running)),
        (_, running) => format!("agent {name} holds {ranges}; {}", going_on(running)),
    }
}

fn going_on(running: u64) -> String {
    format!("{} still going on", counted(running, "run"))
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use tocktower_client::proto as v1;

    use super::*;

    #[test]
    fn what_is_in_the_way_is_told_from_the_worst_on() {
        let counts = |running| Some(v1::RunCounts { running, ..v1::RunCounts::default() });
        let gone = Agent { name: "a".to_owned(), pool: "p".to_owned(), ..Agent::default() };
        let unlinked = Agent { session: Some(v1::Session::default()), ..gone.clone() };
        let last = Agent { ranges_held: 256, last_resort: true, ..unlinked.clone() };
        let linked = Agent { connected: true, ..unlinked.clone() };
        let moving = Agent { ranges_held: 1, counts: counts(2), ..linked.clone() };
        let running = Agent { counts: counts(1), ..linked.clone() };
        let cases = [
            (gone, "agent a has no session: whether anything runs there is not known"),
            (unlinked, "agent a holds 0 ranges and has no link to the server that was asked"),
            (last, "agent a keeps its 256 ranges: no other of pool p takes any"),
            (moving, "agent a holds 1 range; 2 runs still going on"),
            (running, "agent a holds nothing; 1 run still going on"),
            (linked, "agent a holds nothing; the ends of its last runs are passed on"),
        ];
        for (agent, expected) in cases {
            assert_eq!(left(&agent), expected);
        }
    }

    #[test]
    fn what_is_pinned_is_told_of_where_the_rest_is_gone() {
        let counts = |running| Some(v1::RunCounts { running, ..v1::RunCounts::default() });
        let empty = Agent { name: "a".to_owned(), drained: true, ..Agent::default() };
        let pinned = |running| Agent { counts: counts(running), ..empty.clone() };
        let asked = Agent { drained: false, ..empty.clone() };
        let may = "agent a is drained: it may be stopped";
        let cases = [
            (empty.clone(), may.to_owned()),
            (pinned(1), format!("{may}, in order, as 1 run of what is pinned to it goes on")),
            (pinned(2), format!("{may}, in order, as 2 runs of what is pinned to it go on")),
            (asked, "agent a is to be drained".to_owned()),
        ];
        for (agent, expected) in cases {
            assert_eq!(came_to(&agent), expected);
        }
    }
}
