//! What the agent tells others about its runs: to the coordinators that asked, through the links;
//! in figures, each second; and where the output of what runs now can be followed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tocktower_core::agent::Stats;
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{RangeId, RunId, Session};
use tocktower_core::run::{RunRecord, RunState};
use tokio::sync::watch;

use crate::exec::{StartRun, Ticket};
use crate::link::{EndedRuns, LatenessMeter, LinkStats, LinksHandle, LiveRuns};
use crate::metrics::Lateness;
use crate::store::Store;

/// How often the ranges that there is history of are looked up.
const HISTORY_EVERY: Duration = Duration::from_secs(2);

pub(crate) struct Reports {
    pub links: LinksHandle,
    pub live: Arc<LiveRuns>,
    pub lateness: LatenessMeter,
    /// For the metrics, without the starts that their task's own policy put off.
    pub lateness_seconds: Lateness,
    pub link_stats: watch::Sender<LinkStats>,
    /// Ranges with history, as a bitmap.
    pub kept_ranges: watch::Receiver<Vec<u8>>,
    pub ended: EndedRuns,
    running: Mutex<HashMap<RunId, Ticket>>,
}

impl Reports {
    pub fn new(
        links: LinksHandle,
        live: Arc<LiveRuns>,
        lateness: LatenessMeter,
        link_stats: watch::Sender<LinkStats>,
        kept_ranges: watch::Receiver<Vec<u8>>,
    ) -> Reports {
        Reports {
            links,
            live,
            lateness,
            lateness_seconds: Lateness::new(),
            link_stats,
            kept_ranges,
            ended: EndedRuns::default(),
            running: Mutex::default(),
        }
    }

    /// An attempt is handed to the executors.
    pub fn started(&self, start: &StartRun) {
        self.live.started(&start.run, start.attempt, start.ticket);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(start.run.clone(), start.ticket);
    }

    pub fn report(&mut self, record: RunRecord) {
        if record.state != RunState::Running {
            self.over(&record.id);
        } else if record.attempts.len() == 1
            && let Some(late) = record.lateness_micros
        {
            self.lateness.record([late]);
            if !record.waited_by_policy {
                self.lateness_seconds.observe(late);
            }
        }
        self.ended.count(record.state, record.span.map_or(1, |span| span.count));
        self.links.report(record);
    }

    fn over(&self, run: &RunId) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ticket) = running.remove(run) {
            self.live.ended(run, ticket);
        }
    }

    pub fn publish(&self, core: Stats, held: &[RangeId], session: Option<Session>) {
        self.link_stats.send_replace(LinkStats {
            core,
            waiting: core.open.saturating_sub(core.running + core.queued),
            ended: self.ended,
            ranges_held: held.to_vec(),
            history_ranges: self.kept_ranges.borrow().clone(),
            session,
        });
    }
}

/// Keeps the bitmap of the ranges with history up to date, away from the loop: it reads the disk.
pub(crate) fn watch_history(store: Arc<Store>, ranges: RangeCount) -> watch::Receiver<Vec<u8>> {
    let (sender, receiver) = watch::channel(Vec::new());
    tokio::spawn(async move {
        loop {
            let store = Arc::clone(&store);
            let read = tokio::task::spawn_blocking(move || store.history_ranges(ranges)).await;
            match read {
                Ok(Ok(ranges)) => {
                    if sender.send(LinkStats::bitmap(ranges)).is_err() {
                        return;
                    }
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "the ranges with history cannot be read");
                }
                Err(_) => return,
            }
            tokio::time::sleep(HISTORY_EVERY).await;
        }
    });
    receiver
}
