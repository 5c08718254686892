//! Lists of the ranges that are this agent's own. They are told to the core when they are whole,
//! since with a part of one nothing could start, and when it is known that they are of the epoch
//! that this agent is in: what is pinned starts without a session, and a backup that etcd was put
//! back from holds keys of runs that are long over.

use std::collections::BTreeMap;

use tocktower_cluster::follow::{Follower, News};
use tocktower_cluster::port::{Answer, KeyValue, PortError};
use tocktower_core::agent::effect::ExitReason;
use tocktower_core::ids::RangeId;
use tocktower_core::time::Now;

use super::{Driver, DriverEffect, PortCall};

#[derive(Default)]
pub(super) struct Locals {
    /// Lists that are not whole yet.
    coming: BTreeMap<RangeId, (Now, Vec<KeyValue>)>,
    /// Whole lists, and what came after them, until the epoch is known: each with its number.
    unsure: BTreeMap<RangeId, (u64, Vec<News>)>,
    next: u64,
}

/// What becomes of news.
enum Told {
    Now(Vec<News>),
    Later,
    /// A list is whole: later, and the epoch is to be looked up.
    Asks {
        number: u64,
    },
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
                self.unsure.insert(range, (self.next, list.into()));
                Told::Asks { number: self.next }
            }
            news => match self.unsure.get_mut(&range) {
                Some((_, waiting)) => {
                    waiting.push(news);
                    Told::Later
                }
                None => Told::Now(vec![news]),
            },
        }
    }

    /// A list was of this epoch: it, and what came after it. Nothing, if there is a newer one.
    fn sure(&mut self, range: RangeId, number: u64) -> Vec<News> {
        match self.unsure.get(&range) {
            Some((newest, _)) if *newest == number => {
                self.unsure.remove(&range).map_or_else(Vec::new, |(_, news)| news)
            }
            _ => Vec::new(),
        }
    }

    fn is_unsure(&self, range: RangeId, number: u64) -> bool {
        self.unsure.get(&range).is_some_and(|(newest, _)| *newest == number)
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
            Told::Asks { number } => match self.ops.read_record() {
                Some(request) => {
                    let call = PortCall::Epoch { range, number };
                    out.push(DriverEffect::Call { call, request });
                }
                None => {
                    let news = self.locals.sure(range, number);
                    self.all_news(now, range, news);
                }
            },
        }
    }

    pub(super) fn epoch_told(
        &mut self,
        now: Now,
        (range, number): (RangeId, u64),
        answer: &Result<Answer, PortError>,
        out: &mut Vec<DriverEffect>,
    ) {
        match self.ops.is_same_record(answer) {
            Some(true) => {
                let news = self.locals.sure(range, number);
                self.all_news(now, range, news);
            }
            Some(false) => out.push(DriverEffect::Exit { reason: ExitReason::EpochRaised }),
            None if self.locals.is_unsure(range, number) => {
                self.with_follower(now, range, out, Follower::relist);
            }
            None => {}
        }
    }

    fn all_news(&mut self, now: Now, range: RangeId, news: Vec<News>) {
        for news in news {
            self.range_news(now, range, news);
        }
    }
}
