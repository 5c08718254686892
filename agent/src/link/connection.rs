//! One link that is up: a task that owns both directions until either ends.
//!
//! One loop, one select. What is to be sent is not queued but noted (a probe to answer, statistics
//! due, events due, an answer at hand), and made into a message when the transport has room for
//! it. So a coordinator that does not read holds up only its own events and queries; what it reads
//! at last is fresh; and probes carry the time at which their answer really left.

use std::collections::VecDeque;
use std::sync::Arc;

use tocktower_core::agent::input::Offset;
use tocktower_core::ids::CoordinatorId;
use tocktower_core::time::Wall;
use tocktower_proto::convert::run_proto;
use tocktower_proto::v1;
use tocktower_proto::v1::agent_message::Message as Up;
use tocktower_proto::v1::coordinator_message::Message as Down;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout_at};
use tonic::Streaming;

use super::dial::{LinkEnd, message, stop};
use super::feed::{Subscription, Taken, Wanted};
use super::limits::{
    BATCH_RUNS_MAX, BATCH_WITHIN, LEAVE_WITHIN, REFUSALS_MAX, ROUND_TRIP_MAX, STATS_EVERY,
};
use super::metrics::LinkMetrics;
use super::query::{Asked, Queries};
use super::stats::LatenessReader;
use super::{LinkCommand, Shared};
use crate::waker::now;

pub(super) struct Connection {
    shared: Arc<Shared>,
    coordinator: CoordinatorId,
    feed: Subscription,
    lateness: LatenessReader,
    queries: Queries,
    /// The newest probe that is not answered, and when it came. An older one is of no use.
    probe: Option<(v1::ClockProbe, Wall)>,
    stats_due: bool,
    events_due: bool,
    /// When the batch that has begun is to be sent.
    events_at: Option<Instant>,
    answer: Option<v1::QueryAnswer>,
    refusals: VecDeque<v1::QueryAnswer>,
    /// Events and answers take turns.
    answered_last: bool,
    /// Set when the link is to end: until when what waits may still be sent.
    leaving: Option<Instant>,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, coordinator: CoordinatorId) -> Connection {
        Connection {
            feed: shared.feeds.subscribe(),
            lateness: shared.ports.lateness.reader(),
            queries: Queries::new(Arc::clone(&shared)),
            shared,
            coordinator,
            probe: None,
            stats_due: true,
            events_due: false,
            events_at: None,
            answer: None,
            refusals: VecDeque::new(),
            answered_last: false,
            leaving: None,
        }
    }

    pub(super) async fn run(
        mut self,
        up: mpsc::Sender<v1::AgentMessage>,
        mut inbound: Streaming<v1::CoordinatorMessage>,
        mut stopped: watch::Receiver<bool>,
    ) -> LinkEnd {
        let mut tick = interval_at(Instant::now() + STATS_EVERY, STATS_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(until) = self.leaving
                && !self.has_something()
            {
                part(up, inbound, until).await;
                return LinkEnd::Stopped;
            }
            tokio::select! {
                message = inbound.message(), if self.refusals.len() < REFUSALS_MAX => {
                    match message {
                        Ok(Some(message)) => self.down(message),
                        Ok(None) => return LinkEnd::HungUp,
                        Err(status) => return LinkEnd::Broken(status),
                    }
                }
                room = up.reserve(), if self.has_something() => match room {
                    Ok(room) => if let Some(next) = self.next() {
                        room.send(message(next));
                    },
                    Err(_) => return LinkEnd::HungUp,
                },
                answer = self.queries.next(), if self.answer.is_none() => {
                    self.answer = Some(answer);
                }
                () = self.feed.filled(), if !self.events_due => self.filled(),
                () = sleep_until(self.events_at.unwrap_or_else(Instant::now)),
                    if self.events_at.is_some() => self.flush(),
                _ = tick.tick() => self.stats_due = true,
                () = stop(&mut stopped), if self.leaving.is_none() => self.leave(),
                () = sleep_until(self.leaving.unwrap_or_else(Instant::now)),
                    if self.leaving.is_some() => return LinkEnd::Stopped,
            }
        }
    }

    fn has_something(&self) -> bool {
        self.probe.is_some()
            || self.stats_due
            || self.events_due
            || self.answer.is_some()
            || !self.refusals.is_empty()
    }

    /// What is most urgent, now that there is room for it.
    fn next(&mut self) -> Option<Up> {
        if let Some((probe, received)) = self.probe.take() {
            LinkMetrics::one(&self.shared.metrics.clock_answers_sent);
            return Some(Up::ClockAnswer(v1::ClockAnswer {
                probe_id: probe.probe_id,
                sent_us: probe.sent_us,
                received_us: received.micros(),
                answered_us: now().wall.micros(),
            }));
        }
        if self.stats_due {
            self.stats_due = false;
            return Some(Up::Stats(self.stats()));
        }
        let answer_first = !(self.events_due && self.answered_last);
        self.answered_last = false;
        if answer_first && let Some(answer) = self.answer() {
            self.answered_last = true;
            return Some(Up::QueryAnswer(answer));
        }
        self.events()
    }

    fn stats(&self) -> v1::Stats {
        LinkMetrics::one(&self.shared.metrics.stats_sent);
        let lateness = self.lateness.take();
        let stats = self.shared.ports.stats.borrow();
        stats.message(now().wall, lateness)
    }

    fn answer(&mut self) -> Option<v1::QueryAnswer> {
        self.refusals.pop_front().or_else(|| self.answer.take())
    }

    fn events(&mut self) -> Option<Up> {
        let metrics = &self.shared.metrics;
        match self.feed.take() {
            Some(Taken::Missed(missed)) => Some(Up::Lagged(v1::Lagged { missed })),
            Some(Taken::Events(runs)) => {
                self.events_due = self.feed.count() > 0;
                LinkMetrics::one(&metrics.event_batches_sent);
                LinkMetrics::add(&metrics.events_sent, runs.len());
                let runs = runs.iter().map(|run| run_proto(run)).collect();
                Some(Up::RunEvents(v1::RunEvents { runs }))
            }
            None => {
                self.events_due = false;
                None
            }
        }
    }

    fn filled(&mut self) {
        match self.feed.count() {
            0 => {}
            count if count >= BATCH_RUNS_MAX => self.flush(),
            _ => {
                self.events_at.get_or_insert_with(|| Instant::now() + BATCH_WITHIN);
            }
        }
    }

    fn flush(&mut self) {
        self.events_at = None;
        self.events_due = true;
    }

    /// No more statistics, no more answers; the events that wait may go.
    fn leave(&mut self) {
        self.leaving = Some(Instant::now() + LEAVE_WITHIN);
        self.queries.stop_all();
        self.flush();
    }

    fn down(&mut self, message: v1::CoordinatorMessage) {
        match message.message {
            Some(Down::ClockProbe(probe)) => self.probe = Some((probe, now().wall)),
            Some(Down::ClockOffset(offset)) => self.clock_offset(offset),
            Some(Down::Interest(interest)) => self.feed.want(Wanted::of(interest)),
            Some(Down::Query(query)) => self.ask(query.query_id, Asked::of(query.kind)),
            Some(Down::CancelRun(cancel)) => {
                self.ask(cancel.query_id, Asked::Cancel(cancel.run_id));
            }
            Some(Down::StopQuery(stop)) => {
                self.queries.stop(stop.query_id);
                self.answer.take_if(|answer| answer.query_id == stop.query_id);
            }
            Some(Down::Welcome(_)) | None => {
                let coordinator = &self.coordinator;
                tracing::warn!(%coordinator, "a message that this version does not know");
            }
        }
    }

    fn ask(&mut self, id: u64, asked: Asked) {
        if let Err(refusal) = self.queries.begin(id, asked) {
            self.refusals.push_back(refusal);
        }
    }

    /// Should the loop be behind, this one is left out: the next one comes in seconds.
    fn clock_offset(&self, offset: v1::ClockOffset) {
        let round_trip = u64::try_from(offset.round_trip_us).unwrap_or(u64::MAX);
        if u128::from(round_trip) > ROUND_TRIP_MAX.as_micros() {
            let coordinator = &self.coordinator;
            tracing::debug!(%coordinator, round_trip, "a measurement of the clock was too slow");
            return;
        }
        let age = now().wall.micros().saturating_sub(offset.answered_us);
        if u128::from(age.unsigned_abs()) > ROUND_TRIP_MAX.as_micros() {
            let coordinator = &self.coordinator;
            tracing::debug!(%coordinator, age, "a measurement of the clock as it was before");
            return;
        }
        // The wire says how far we are ahead; the core asks how far they are.
        let micros = offset.offset_us.saturating_neg();
        let offset = Offset { micros, others_agree: offset.others_agree };
        let coordinator = self.coordinator.clone();
        let command = LinkCommand::ClockOffset { coordinator, offset };
        let _ = self.shared.ports.commands.try_send(command);
    }
}

/// Ends our side and waits for the other's end: a stream that is dropped takes along what the
/// transport has not sent yet.
async fn part(
    up: mpsc::Sender<v1::AgentMessage>,
    mut inbound: Streaming<v1::CoordinatorMessage>,
    until: Instant,
) {
    drop(up);
    let read_on = async { while let Ok(Some(_)) = inbound.message().await {} };
    // Too late or not, the link is over.
    let _ = timeout_at(until, read_on).await;
}
