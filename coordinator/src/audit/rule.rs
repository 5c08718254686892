//! What a stall is, without clocks and without waiting.
//!
//! A healthy holder decides what is due at once, and its ledger says so within two seconds: the
//! marks pass every due, whatever became of the run. So a range is *behind* when something of it
//! has been due for a while and the marks have not passed it, and *stalled* when that while is
//! longer than the loss of a host explains. Marks that stand still say nothing by themselves: a
//! range of which nothing is due does not move them.
//!
//! Three causes look different from here and need different hands: nobody holds the range; its
//! holder has stopped to write; its holder writes, and decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tocktower_core::ids::{AgentName, PoolName, RangeId};
use tocktower_core::time::{Instant, Wall};

/// What is behind by less is on its way: ledgers are written once a second.
pub const BEHIND_AFTER: Duration = Duration::from_secs(4);
/// The loss of a host is made good within 5 s. A copy is judged as of up to 2 s ago, once a second:
/// so a stall is told of before the 10 s are over within which every run is to start.
pub const STALLED_AFTER: Duration = Duration::from_secs(6);
/// A holder of something that is due writes once a second.
const WRITES_WITHIN: Duration = Duration::from_secs(5);
/// Ranges that one line of the log names.
const NAMED_MAX: usize = 8;

pub type Key = (PoolName, RangeId);

/// Why a range does not move.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cause {
    Unheld,
    HolderSilent,
    Undecided,
}

impl Cause {
    /// The word for it in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Unheld => "unheld",
            Cause::HolderSilent => "holder_silent",
            Cause::Undecided => "undecided",
        }
    }

    /// What a person should do.
    pub fn advice(self) -> &'static str {
        match self {
            Cause::Unheld => {
                "nobody holds them: start an agent of that pool, or uncordon one; if some are \
                 there, look at their logs"
            }
            Cause::HolderSilent => {
                "their holder has stopped to write: look at its host, and stop the agent if it \
                 hangs, so that another takes over"
            }
            Cause::Undecided => {
                "their holder writes and decides nothing: look at its clock, its disk and its log, \
                 and restart it if nothing else helps"
            }
        }
    }
}

/// Something of a range has been due for a while and is not decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Behind {
    /// The due of the oldest.
    pub due: Instant,
    pub cause: Cause,
    pub holder: Option<AgentName>,
}

impl Behind {
    pub fn age(&self, now: Wall) -> Duration {
        now.since(self.due.wall())
    }

    pub fn stalled(&self, now: Wall) -> bool {
        self.age(now) >= STALLED_AFTER
    }
}

/// Whether a range has to be looked into: its marks stand behind, and something may be due that
/// they have not passed. `soonest` may be too early, never too late.
pub fn doubtful(now: Wall, through: Instant, soonest: Instant) -> bool {
    let edge = now.minus(BEHIND_AFTER).instant();
    through < edge && soonest <= edge
}

/// What is to be said of a range of which `due` is the first that is due after the marks were read.
pub fn behind(
    now: Wall,
    through: Instant,
    due: Option<Instant>,
    holder: Option<AgentName>,
    quiet: Option<Duration>,
) -> Option<Behind> {
    // The marks may have passed it since.
    let due = due.filter(|due| *due > through && doubtful(now, through, *due))?;
    let cause = match (&holder, quiet) {
        (None, _) => Cause::Unheld,
        (Some(_), Some(quiet)) if quiet <= WRITES_WITHIN => Cause::Undecided,
        (Some(_), _) => Cause::HolderSilent,
    };
    Some(Behind { due, cause, holder })
}

/// What is to be told, once for all ranges that share it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    Stalled {
        pool: PoolName,
        cause: Cause,
        holder: Option<AgentName>,
        ranges: usize,
        /// The first of them.
        named: Vec<RangeId>,
        oldest: Duration,
    },
    Moving {
        pool: PoolName,
        ranges: usize,
        named: Vec<RangeId>,
        /// How many of the pool stand still all the same.
        left: usize,
    },
}

/// The ranges that were said to be stalled.
#[derive(Debug, Default)]
pub struct Told(BTreeSet<Key>);

impl Told {
    pub fn has(&self, key: &Key) -> bool {
        self.0.contains(key)
    }

    /// What has changed. Each range is told once when it stalls and once when it moves again.
    pub fn news(&mut self, now: Wall, behind: &BTreeMap<Key, Behind>) -> Vec<News> {
        let mut news = Vec::new();
        let fresh = behind.iter().filter(|(key, one)| one.stalled(now) && !self.0.contains(*key));
        let mut groups: BTreeMap<_, Vec<(&Key, &Behind)>> = BTreeMap::new();
        for (key, one) in fresh {
            let group = (key.0.clone(), one.cause, one.holder.clone());
            groups.entry(group).or_default().push((key, one));
        }
        for ((pool, cause, holder), all) in groups {
            let oldest = all.iter().map(|(_, one)| one.age(now)).max().unwrap_or_default();
            let named = all.iter().take(NAMED_MAX).map(|(key, _)| key.1).collect();
            let ranges = all.len();
            self.0.extend(all.into_iter().map(|(key, _)| key.clone()));
            news.push(News::Stalled { pool, cause, holder, ranges, named, oldest });
        }
        let stands = |key: &Key| behind.get(key).is_some_and(|one| one.stalled(now));
        let mut moved: BTreeMap<PoolName, Vec<RangeId>> = BTreeMap::new();
        for (pool, range) in self.0.iter().filter(|key| !stands(key)) {
            moved.entry(pool.clone()).or_default().push(*range);
        }
        self.0.retain(stands);
        for (pool, all) in moved {
            let (ranges, named) = (all.len(), all.into_iter().take(NAMED_MAX).collect());
            let left = self.0.iter().filter(|(other, _)| *other == pool).count();
            news.push(News::Moving { pool, ranges, named, left });
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Instant {
        Instant::from_millis(1_800_000_000_000 + seconds * 1_000)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn agent(name: &str) -> Option<AgentName> {
        Some(AgentName::parse(name).unwrap())
    }

    fn key(range: u16) -> Key {
        (PoolName::parse("default").unwrap(), RangeId(range))
    }

    #[test]
    fn only_marks_behind_something_that_is_due_are_looked_into() {
        let now = at(100).wall();
        for (through, soonest, wanted) in [
            // Marks that follow.
            (97, 98, false),
            // Nothing of it has been due for a while.
            (0, 97, false),
            (0, 500, false),
            // It is due, and the marks stand before it.
            (90, 95, true),
            // What is known is behind the marks: what comes next has to be found out.
            (90, 50, true),
            (96, 50, false),
        ] {
            let found = doubtful(now, at(through), at(soonest));
            assert_eq!(found, wanted, "{through} {soonest}");
        }
    }

    #[test]
    fn the_cause_is_what_is_seen_of_the_holder() {
        let now = at(100).wall();
        let look = |due: Option<i64>, holder, quiet: u64| {
            behind(now, at(80), due.map(at), holder, Some(seconds(quiet))).map(|one| one.cause)
        };
        assert_eq!(look(Some(90), None, 3), Some(Cause::Unheld));
        assert_eq!(look(Some(90), agent("a"), 3), Some(Cause::Undecided));
        assert_eq!(look(Some(90), agent("a"), 6), Some(Cause::HolderSilent));
        assert_eq!(look(None, None, 60), None, "nothing is due");
        assert_eq!(look(Some(200), None, 60), None, "it is to come");
        assert_eq!(look(Some(97), None, 60), None, "it is on its way");
        assert_eq!(look(Some(80), None, 60), None, "the marks have passed it since");
        assert!(behind(now, at(80), Some(at(90)), agent("a"), None).is_some());
    }

    #[test]
    fn each_stall_is_told_once_and_so_is_its_end() {
        let mut told = Told::default();
        let one = |due: i64, cause, holder| Behind { due: at(due), cause, holder };
        let unheld = |due: i64| one(due, Cause::Unheld, None);
        let mut all: BTreeMap<Key, Behind> = (0..10).map(|range| (key(range), unheld(0))).collect();
        all.insert(key(10), one(1, Cause::Undecided, agent("a")));
        all.insert(key(11), unheld(7));
        assert_eq!(told.news(at(5).wall(), &all), [], "not yet");
        let news = told.news(at(9).wall(), &all);
        let [News::Stalled { ranges, named, oldest, holder, .. }, second] = &news[..] else {
            panic!("{news:?}")
        };
        assert_eq!((*ranges, named.len(), *oldest, holder), (10, NAMED_MAX, seconds(9), &None));
        let News::Stalled { cause, holder, .. } = second else { panic!("{second:?}") };
        assert_eq!((*cause, holder), (Cause::Undecided, &agent("a")));
        assert_eq!(told.news(at(10).wall(), &all), []);
        // A range that joins them is told for itself; some move again.
        all.retain(|key, _| key.1.0 > 3);
        let news = told.news(at(13).wall(), &all);
        let [News::Stalled { ranges: 1, .. }, News::Moving { ranges: 4, left: 8, .. }] = &news[..]
        else {
            panic!("{news:?}")
        };
        // One that has got as far as a due of a moment ago moves as well.
        all.values_mut().for_each(|one| one.due = at(12));
        let news = told.news(at(14).wall(), &all);
        assert!(matches!(news[..], [News::Moving { ranges: 8, left: 0, .. }]), "{news:?}");
        assert_eq!(told.news(at(15).wall(), &BTreeMap::new()), []);
    }
}
