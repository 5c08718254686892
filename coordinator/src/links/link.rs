//! One link: a task that owns both directions until either ends.
//!
//! One loop, one select: what the agent says, what askers order, a changed interest, the clock's
//! tick, the stop. Nothing in it waits for the network: what cannot be sent at once because the
//! agent does not read ends the link, and the agent dials again. So a stuck agent costs its own
//! queue and nothing else.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use tocktower_core::ids::AgentName;
use tocktower_core::time::Mono;
use tocktower_proto::v1;
use tocktower_proto::v1::agent_message::Message as Up;
use tocktower_proto::v1::coordinator_message::Message as Down;
use tokio::sync::{mpsc, watch};
use tonic::Streaming;

use super::clocks::Measured;
use super::server::Outbox;
use super::{Asker, LinkInfo, Links, Order, Part};
use crate::clock;
use crate::stop::Stop;

/// How often the agent's clock is measured: one that was set waits for it, and starts nothing.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// Agents send statistics each second; one that is silent for this long is not there.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Statistics of this many seconds make "the last minute".
const LATENESS_PARTS: usize = 60;
/// A histogram of one second is some hundred bytes.
const HISTOGRAM_BYTES_MAX: usize = 64 * 1_024;
/// An agent that refuses queries is told of once in this time.
const REFUSALS_TOLD_EVERY: Duration = Duration::from_secs(30);
/// Watchers hear of an agent's statistics once in this many.
const STATS_TOLD: u64 = 5;

/// Lateness of the starts of the last minute, as the agent sent it.
#[derive(Clone, Debug, Default)]
pub struct Lateness {
    parts: VecDeque<Arc<[u8]>>,
}

impl Lateness {
    fn push(&mut self, part: &[u8]) {
        if self.parts.len() >= LATENESS_PARTS {
            self.parts.pop_front();
        }
        let part = if part.len() <= HISTOGRAM_BYTES_MAX { part } else { &[] };
        self.parts.push_back(Arc::from(part));
    }

    /// The parts as one; those that cannot be read are left out.
    pub fn merged(&self) -> Histogram<u64> {
        let mut all = Histogram::new(3).expect("three digits are allowed");
        let mut reader = Deserializer::new();
        for part in self.parts.iter().filter(|part| !part.is_empty()) {
            let mut bytes: &[u8] = part;
            if let Ok(one) = reader.deserialize::<u64, _>(&mut bytes) {
                // It grows by itself, so adding fails only for what is out of all range.
                let _ = all.add(one);
            }
        }
        all
    }
}

/// Refusals of an agent: the first is logged, and then how many there were, now and then.
#[derive(Default)]
struct Refusals {
    told: Option<Mono>,
    untold: u64,
}

impl Refusals {
    fn one(&mut self, agent: &AgentName, error: &v1::Error) {
        // That it knows nothing is an answer like any other.
        if error.code == "not_found" {
            return;
        }
        self.untold += 1;
        if let Some(count) = self.due(clock::mono()) {
            let (code, detail) = (&error.code, &error.detail);
            tracing::warn!(%agent, code, detail, count, "an agent refuses queries");
        }
    }

    /// How many there were since it was told, if it is to be told again.
    fn due(&mut self, now: Mono) -> Option<u64> {
        let due = self.told.is_none_or(|told| now.since(told) >= REFUSALS_TOLD_EVERY);
        due.then(|| {
            self.told = Some(now);
            std::mem::take(&mut self.untold)
        })
    }
}

struct Link {
    links: Links,
    agent: AgentName,
    info: watch::Sender<LinkInfo>,
    outbox: Outbox,
    /// As many as there are turns.
    queries: HashMap<u64, Asker>,
    refusals: Refusals,
    probes: u64,
    clock: Measured,
    stats_seen: u64,
    heard: Mono,
}

/// Why a link ended; for the log.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the agent hung up")]
    HungUp,
    #[error("the stream broke: {0}")]
    Broken(tonic::Status),
    #[error("the agent does not read")]
    Stuck,
    #[error("the agent was silent for {SILENCE_MAX:?}")]
    Silent,
    #[error("the agent dialled again")]
    Replaced,
    #[error("the coordinator stops")]
    Stopping,
}

pub(super) async fn run(
    links: Links,
    number: u64,
    info: watch::Sender<LinkInfo>,
    mut orders: mpsc::Receiver<Order>,
    mut inbound: Streaming<v1::AgentMessage>,
    outbox: Outbox,
    mut stop: Stop,
) {
    let (agent, pool) = {
        let info = info.borrow();
        (info.agent.clone(), info.pool.clone())
    };
    tracing::info!(%agent, %pool, "link up");
    links.feed.agent_changed(&agent);
    let mut interest = links.interests.follow();
    interest.mark_changed();
    let mut link = Link {
        links: links.clone(),
        agent: agent.clone(),
        info,
        outbox,
        queries: HashMap::new(),
        refusals: Refusals::default(),
        probes: 0,
        clock: Measured::new(Arc::clone(&links.clocks)),
        stats_seen: 0,
        heard: clock::mono(),
    };
    let mut tick = tokio::time::interval(PROBE_EVERY);
    let end = loop {
        let step = tokio::select! {
            message = inbound.message() => match message {
                Ok(Some(message)) => link.up(message),
                Ok(None) => Err(End::HungUp),
                Err(status) => Err(End::Broken(status)),
            },
            Some(order) = orders.recv() => link.order_after(&mut interest, order),
            Ok(()) = interest.changed() => {
                let wanted = interest.borrow_and_update().clone();
                link.send(Down::Interest(wanted))
            }
            _ = tick.tick() => link.tick(),
            () = stop.stopped() => Err(End::Stopping),
        };
        if let Err(end) = step {
            break end;
        }
    };
    let newest = links.leave(&agent, number);
    tracing::info!(%agent, reason = %end, newest, "link down");
    if newest {
        links.feed.agent_changed(&agent);
    }
}

impl Link {
    fn send(&self, message: Down) -> Result<(), End> {
        let message = v1::CoordinatorMessage { message: Some(message) };
        self.outbox.try_send(Ok(message)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => End::Stuck,
            mpsc::error::TrySendError::Closed(_) => End::HungUp,
        })
    }

    fn up(&mut self, message: v1::AgentMessage) -> Result<(), End> {
        self.heard = clock::mono();
        match message.message {
            Some(Up::ClockAnswer(answer)) => self.clock(answer),
            Some(Up::Stats(stats)) => {
                self.stats(stats);
                Ok(())
            }
            Some(Up::RunEvents(events)) => {
                self.links.feed.runs_changed(events.runs);
                Ok(())
            }
            Some(Up::QueryAnswer(answer)) => self.answer(answer),
            Some(Up::Lagged(lagged)) => {
                self.links.feed.left_out(&self.agent, lagged.missed);
                Ok(())
            }
            Some(Up::Hello(_)) | None => {
                tracing::warn!(agent = %self.agent, "a message that this version does not know");
                Ok(())
            }
        }
    }

    /// A question may be the snapshot of somebody who has just begun to follow. The agent hears of
    /// that first, so that it tells what becomes of what it shows.
    fn order_after(
        &mut self,
        interest: &mut watch::Receiver<v1::Interest>,
        order: Order,
    ) -> Result<(), End> {
        if interest.has_changed().unwrap_or(false) {
            let wanted = interest.borrow_and_update().clone();
            self.send(Down::Interest(wanted))?;
        }
        self.order(order)
    }

    fn order(&mut self, order: Order) -> Result<(), End> {
        match order {
            Order::Ask { id, kind, asker } => {
                self.queries.insert(id, asker);
                self.send(Down::Query(v1::Query { query_id: id, kind: Some(kind) }))
            }
            Order::Cancel { id, run_id, asker } => {
                self.queries.insert(id, asker);
                self.send(Down::CancelRun(v1::CancelRun { run_id, query_id: id }))
            }
            Order::Stop { id } => self.stop_query(id),
            Order::Replaced => Err(End::Replaced),
        }
    }

    fn stop_query(&mut self, id: u64) -> Result<(), End> {
        match self.queries.remove(&id) {
            Some(_) => self.send(Down::StopQuery(v1::StopQuery { query_id: id })),
            None => Ok(()),
        }
    }

    fn answer(&mut self, answer: v1::QueryAnswer) -> Result<(), End> {
        let id = answer.query_id;
        let Some(Asker { answers: asker, .. }) = self.queries.get(&id) else { return Ok(()) };
        let part = match answer.kind {
            Some(v1::query_answer::Kind::Runs(runs)) => Some(Part::Runs(runs.runs)),
            Some(v1::query_answer::Kind::Output(chunk)) => Some(Part::Output(chunk)),
            Some(v1::query_answer::Kind::Error(error)) => {
                self.refusals.one(&self.agent, &error);
                Some(Part::Failed(error))
            }
            None => None,
        };
        // Two places are kept, for the end and for the word that something was left out.
        if asker.is_closed() || asker.capacity() <= 2 {
            let _ = asker.try_send(Part::Lagged);
            return self.stop_query(id);
        }
        if let Some(part) = part {
            let _ = asker.try_send(part);
        }
        if answer.done {
            let _ = asker.try_send(Part::Done);
            self.queries.remove(&id);
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), End> {
        if clock::mono().since(self.heard) > SILENCE_MAX {
            return Err(End::Silent);
        }
        let gone: Vec<u64> = self
            .queries
            .iter()
            .filter(|(_, asker)| asker.answers.is_closed())
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.stop_query(id)?;
        }
        self.probes += 1;
        let sent_us = clock::wall().micros();
        self.send(Down::ClockProbe(v1::ClockProbe { probe_id: self.probes, sent_us }))
    }

    /// The four times of NTP. The answer to an older probe says nothing that a newer will not.
    fn clock(&mut self, answer: v1::ClockAnswer) -> Result<(), End> {
        if answer.probe_id != self.probes {
            return Ok(());
        }
        let back_us = clock::wall().micros();
        let there = answer.received_us.saturating_sub(answer.sent_us);
        let here = answer.answered_us.saturating_sub(back_us);
        let offset_us = there.saturating_add(here) / 2;
        let round_trip_us = there.saturating_sub(here);
        self.info.send_modify(|info| info.offset_us = Some((offset_us, round_trip_us)));
        let (answered_us, others_agree) = (answer.answered_us, self.clock.take(offset_us));
        let told = v1::ClockOffset { offset_us, round_trip_us, answered_us, others_agree };
        self.send(Down::ClockOffset(told))
    }

    fn stats(&mut self, stats: v1::Stats) {
        let now = clock::mono();
        self.info.send_modify(|info| {
            Arc::make_mut(&mut info.lateness).push(&stats.lateness_hdr);
            info.pressed_since = match stats.write_pressure {
                true => info.pressed_since.or(Some(now)),
                false => None,
            };
            info.stats = Some(Arc::new(v1::Stats { lateness_hdr: Vec::new(), ..stats }));
        });
        self.stats_seen += 1;
        if self.stats_seen % STATS_TOLD == 1 {
            self.links.feed.agent_changed(&self.agent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_refusals_in_half_a_minute_are_two_lines() {
        let mut refusals = Refusals::default();
        let start = Mono::default();
        let told = (0..1_000).filter_map(|n| {
            refusals.untold += 1;
            refusals.due(start.plus(Duration::from_millis(n * 31)))
        });
        assert_eq!(told.collect::<Vec<u64>>(), [1, 968]);
    }
}
