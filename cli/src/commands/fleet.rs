//! `tock agent …`, `tock pool …` and `tock range …`.
//!
//! They show what one coordinator knows at the moment. Tables have what one looks for first; the
//! JSON forms have everything, and so has the view of a single agent, which is printed as YAML for
//! people, too: a table of one row with twenty columns helps nobody.

use tocktower_client::json;

use crate::args::fleet::{AgentCommand, PoolCommand, RangeCommand};
use crate::context::Context;
use crate::failure::Outcome;
use crate::table;

pub async fn agent(command: AgentCommand, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let client = context.client()?;
    let clock = context.clock.clone();
    match command {
        AgentCommand::List(args) => {
            let agents = client.agents(args.pool.as_deref()).await?;
            let items = agents.iter().map(json::agent).collect();
            let shown = json::AgentList { items, next_cursor: None, stale: false };
            context
                .printer
                .answer(&shown, |printer| printer.table(&table::agents(&agents, &clock)))?;
        }
        AgentCommand::Get { agent } => {
            let agent = client.agent(&agent).await?;
            let shown = json::agent(&agent);
            context.printer.answer(&shown, |printer| {
                let text = serde_yaml_ng::to_string(&shown).map_err(std::io::Error::other)?;
                printer.line(text.trim_end())
            })?;
        }
    }
    Ok(Outcome::Done)
}

pub async fn pool(command: PoolCommand, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let PoolCommand::List = command;
    let pools = context.client()?.pools().await?;
    let items = pools.iter().map(json::pool).collect();
    let shown = json::PoolList { items, next_cursor: None, stale: false };
    context.printer.answer(&shown, |printer| printer.table(&table::pools(&pools)))?;
    Ok(Outcome::Done)
}

pub async fn range(command: RangeCommand, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let RangeCommand::List(args) = command;
    let ranges = context.client()?.ranges(args.pool.as_deref()).await?;
    let items = ranges.iter().map(json::range).collect();
    let shown = json::RangeList { items, next_cursor: None, stale: false };
    let clock = context.clock.clone();
    context.printer.answer(&shown, |printer| printer.table(&table::ranges(&ranges, &clock)))?;
    Ok(Outcome::Done)
}
