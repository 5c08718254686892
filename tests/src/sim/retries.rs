//! How often and how soon a run that failed is tried again, by who keeps it all the while.

use std::collections::BTreeMap;
use std::time::Duration;

use tocktower_core::ids::{Fence, RunId};
use tocktower_core::task::Retry;

use super::checker::Checker;
use super::late::CLOCK;
use super::truth::Started;
use super::world::World;

/// How far a wait may be shorter by a clock that drifts, beside what a good clock may be set by.
const DRIFT: f64 = 0.99;

impl World {
    /// Under one fence, and by a host to which nothing has happened, a run is tried as often as its
    /// task says and no sooner.
    pub(super) fn check_retries(&mut self, calm: bool) {
        let mut attempts: BTreeMap<(&RunId, Fence), Vec<&Started>> = BTreeMap::new();
        for start in &self.truth.starts {
            if !self.may_repeat(start.host, &start.run, calm) {
                let of = attempts.entry((&start.run, start.attempt.fence)).or_default();
                of.push(start);
            }
        }
        let mut wrong = Vec::new();
        for ((run, _), starts) in attempts {
            let Some(life) = self.truth.life_of(run) else { continue };
            let retries = || life.versions.iter().map(|(_, task)| &task.spec.retry);
            let most = retries().map(|retry| retry.max_attempts).max().unwrap_or(1);
            if starts.len() > usize::try_from(most).expect("few") {
                wrong.push((self.now, format!("{run} was tried {} times", starts.len())));
            }
            let shortest = retries().map(least_wait).min().unwrap_or_default();
            for start in starts {
                let waits = self.truth.waits.get(run).into_iter().flatten();
                let own = waits.filter(|(host, at)| *host == start.host && *at <= start.at);
                let since = own.map(|(_, at)| *at).max();
                let waited = since.map(|since| Duration::from_micros(start.at - since + CLOCK));
                let sets = &self.hosts[start.host].clock_sets;
                let set =
                    since.is_some_and(|since| sets.iter().any(|at| since < *at && *at <= start.at));
                if !set && waited.is_some_and(|waited| waited < shortest.mul_f64(DRIFT)) {
                    wrong.push((start.at, format!("{run} was tried again after {waited:?}")));
                }
            }
        }
        for (at, text) in wrong {
            self.truth.violation(Checker::Overlap, at, text);
        }
    }
}

fn least_wait(retry: &Retry) -> Duration {
    retry.backoff.mul_f64(1.0 - retry.jitter)
}
