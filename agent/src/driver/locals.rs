//! Lists of the ranges that are this agent's own. They are told to the core when they are whole,
//! since with a part of one nothing could start, and when it is known that they are of the epoch
//! that this agent is in: what is pinned starts without a session, and a backup that etcd was put
//! back from holds keys of runs that are long over.

use std::collections::BTreeMap;
use std::time::Duration;

use tocktower_cluster::follow::News;
use tocktower_cluster::port::{Answer, KeyValue, PortError};
use tocktower_core::agent::effect::ExitReason;
use tocktower_core::ids::{RangeId, Revision};
use tocktower_core::time::{Mono, Now};

use super::{Driver, DriverEffect, PortCall};

/// How soon the record is asked for again that was not told.
const RETRY: Duration = Duration::from_millis(250);

#[derive(Default)]
pub(super) struct Locals {
    /// Lists that are not whole yet.
    coming: BTreeMap<RangeId, (Now, Vec<KeyValue>)>,
    /// Whole lists, and what came after them, until the epoch is known.
    unsure: BTreeMap<RangeId, Unsure>,
    next: u64,
}

struct Unsure {
    /// Tells this list from those before it.
    number: u64,
    news: Vec<News>,
    /// The highest revision that was seen when the record was asked for.
    seen: Revision,
    /// The record was not told, and is asked for again then.
    again_at: Option<Mono>,
}

/// What becomes of news.
enum Told {
    Now(Vec<News>),
    Later,
    /// A list is whole: later, and the record is to be asked for.
    Asks,
}

impl Locals {
    fn take(&mut self, range: RangeId, news: News) -> Told {
        match news {
            News::ListBegan { sent } => {
                self.unsure.remove(&range);
                self.coming.insert(range, (sent, Vec::new()));
                Told::Later
            }
            News::Listed(items) => {
                if let Some((_, listed)) = self.coming.get_mut(&range) {
                    listed.extend(items);
                }
                Told::Later
            }
            News::ListEnded { revision } => {
                let Some((sent, items)) = self.coming.remove(&range) else { return Told::Later };
                self.next += 1;
                let list =
                    [News::ListBegan { sent }, News::Listed(items), News::ListEnded { revision }];
                let (number, news) = (self.next, list.into());
                let unsure = Unsure { number, news, seen: revision, again_at: None };
                self.unsure.insert(range, unsure);
                Told::Asks
            }
            news => match self.unsure.get_mut(&range) {
                Some(unsure) => {
                    unsure.news.push(news);
                    Told::Later
                }
                None => Told::Now(vec![news]),
            },
        }
    }

    /// The list of this number, if there is none after it.
    fn unsure(&mut self, range: RangeId, number: u64) -> Option<&mut Unsure> {
        self.unsure.get_mut(&range).filter(|unsure| unsure.number == number)
    }

    /// A list is of this epoch: it, and what came after it.
    fn sure(&mut self, range: RangeId) -> Vec<News> {
        self.unsure.remove(&range).map_or_else(Vec::new, |unsure| unsure.news)
    }

    fn due(&self, now: Mono) -> Vec<RangeId> {
        let due = |unsure: &Unsure| unsure.again_at.is_some_and(|at| at <= now);
        self.unsure.iter().filter(|(_, unsure)| due(unsure)).map(|(range, _)| *range).collect()
    }

    pub fn wake_at(&self) -> Option<Mono> {
        self.unsure.values().filter_map(|unsure| unsure.again_at).min()
    }
}

impl Driver {
    /// As of a range, but that a list waits until it is whole and of this epoch.
    pub(super) fn local_news(
        &mut self,
        now: Now,
        range: RangeId,
        news: News,
        out: &mut Vec<DriverEffect>,
    ) {
        match self.locals.take(range, news) {
            Told::Later => {}
            Told::Now(news) => self.all_news(now, range, news),
            Told::Asks => self.ask_for_record(now, range, out),
        }
    }

    fn ask_for_record(&mut self, now: Now, range: RangeId, out: &mut Vec<DriverEffect>) {
        let Some(request) = self.ops.read_record() else {
            let news = self.locals.sure(range);
            return self.all_news(now, range, news);
        };
        if let Some(unsure) = self.locals.unsure.get_mut(&range) {
            (unsure.seen, unsure.again_at) = (self.seen, None);
            let call = PortCall::Record { range, number: unsure.number };
            out.push(DriverEffect::Call { call, request });
        }
    }

    pub(super) fn record_told(
        &mut self,
        now: Now,
        (range, number): (RangeId, u64),
        answer: &Result<Answer, PortError>,
        out: &mut Vec<DriverEffect>,
    ) {
        let Some(unsure) = self.locals.unsure(range, number) else { return };
        let (Ok(Answer::Txn { revision, .. }), Some(same)) =
            (answer, self.ops.is_same_record(answer))
        else {
            // What comes later is after the list just as well.
            unsure.again_at = Some(now.mono.plus(RETRY));
            if let Err(error) = answer {
                let error = format!("the cluster's record after it: {error}");
                out.push(DriverEffect::Trouble { what: "list", error });
            }
            return;
        };
        let seen = unsure.seen;
        self.look_back(*revision, seen, out);
        if same {
            let news = self.locals.sure(range);
            self.all_news(now, range, news);
        } else {
            out.push(DriverEffect::Exit { reason: ExitReason::EpochRaised });
        }
    }

    pub(super) fn ask_for_records_again(&mut self, now: Now, out: &mut Vec<DriverEffect>) {
        for range in self.locals.due(now.mono) {
            self.ask_for_record(now, range, out);
        }
    }

    fn all_news(&mut self, now: Now, range: RangeId, news: Vec<News>) {
        for news in news {
            self.range_news(now, range, news);
        }
    }
}
