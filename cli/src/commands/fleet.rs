//! `tock agent …`, `tock pool …` and `tock range …`.
//!
//! Those that look show what one coordinator knows at the moment. Tables have what one looks for
//! first; the JSON forms have everything, and so has the view of a single agent, which is printed
//! as YAML for people, too: a table of one row with twenty columns helps nobody.

use serde_json::json;
use tocktower_client::{Agent, Read, json};

use super::drain::drain;
use super::warn_if_stale;
use crate::args::fleet::{AgentCommand, PoolCommand, RangeCommand};
use crate::context::Context;
use crate::failure::Outcome;
use crate::table;

pub async fn agent(command: AgentCommand, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let client = context.client()?;
    let clock = context.clock.clone();
    match command {
        AgentCommand::List(args) => {
            let Read { value: agents, stale } = client.agents(args.pool.as_deref()).await?;
            warn_if_stale(context.printer, stale);
            let items = agents.iter().map(json::agent).collect();
            let shown = json::AgentList { items, next_cursor: None, stale };
            context
                .printer
                .answer(&shown, |printer| printer.table(&table::agents(&agents, &clock)))?;
        }
        AgentCommand::Get { agent } => {
            let Read { value: agent, stale } = client.agent(&agent).await?;
            warn_if_stale(context.printer, stale);
            let shown = json::agent(&agent);
            context.printer.answer(&shown, |printer| {
                let text = serde_yaml_ng::to_string(&shown).map_err(std::io::Error::other)?;
                printer.line(text.trim_end())
            })?;
        }
        AgentCommand::Drain(args) => return drain(args, context).await,
        AgentCommand::Cordon { agent } => {
            let agent = client.cordon_agent(&agent).await?;
            asked(&agent, "takes no more ranges", context)?;
        }
        AgentCommand::Uncordon { agent } => {
            let agent = client.uncordon_agent(&agent).await?;
            asked(&agent, "takes ranges again", context)?;
        }
        AgentCommand::Weight(args) => {
            let agent = client.set_agent_weight(&args.agent, args.weight).await?;
            let weight = agent.weight_asked.map(|weight| format!("is to weigh {weight}"));
            let weight = weight.unwrap_or_else(|| "is to weigh as it is configured".to_owned());
            asked(&agent, &weight, context)?;
        }
        AgentCommand::Forget { agent } => {
            client.forget_agent(&agent).await?;
            let shown = json!({ "agent": agent, "forgotten": true });
            context
                .printer
                .answer(&shown, |printer| printer.line(&format!("agent {agent} forgotten")))?;
        }
    }
    Ok(Outcome::Done)
}

/// The agent for scripts; for people a line that says what becomes of it.
fn asked(agent: &Agent, what: &str, context: &mut Context<'_>) -> anyhow::Result<()> {
    let line = format!("agent {} {what}", agent.name);
    context.printer.answer(&json::agent(agent), |printer| printer.line(&line))
}

pub async fn pool(command: PoolCommand, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let PoolCommand::List = command;
    let Read { value: pools, stale } = context.client()?.pools().await?;
    warn_if_stale(context.printer, stale);
    let items = pools.iter().map(json::pool).collect();
    let shown = json::PoolList { items, next_cursor: None, stale };
    context.printer.answer(&shown, |printer| printer.table(&table::pools(&pools)))?;
    Ok(Outcome::Done)
}

pub async fn range(command: RangeCommand, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let RangeCommand::List(args) = command;
    let Read { value: ranges, stale } = context.client()?.ranges(args.pool.as_deref()).await?;
    warn_if_stale(context.printer, stale);
    let items = ranges.iter().map(json::range).collect();
    let shown = json::RangeList { items, next_cursor: None, stale };
    let clock = context.clock.clone();
    context.printer.answer(&shown, |printer| printer.table(&table::ranges(&ranges, &clock)))?;
    Ok(Outcome::Done)
}
